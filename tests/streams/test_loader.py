"""Loaders: passes one after the other and side by side, epochs, states, and their end."""

import copy
import itertools
import json
import math
import pickle
import threading

import numpy as np
import pytest

from batchup._streams.stream import Phase
from batchup.data_source import (
    AbstractDataSource,
    ArrayDataSource,
    CallableDataSource,
    ChoiceDataSource,
    CompositeDataSource,
    IteratorDataSource,
    Loader,
)
from batchup.errors import StateMismatchError, WorkerPoolError
from batchup.sampling import WeightedSampler
from batchup.work_pool import WorkerThreadPool

from ..cases import ARRANGED, RANDOM_ACCESS, PlainSampler, PlainSource, assert_same_batches, call_batches, jitter
from ..harness.waiting import wait_until

DATA = np.arange(20)
SOURCE = ArrayDataSource([DATA]).map(jitter, rng=True)


def epochs(*numbers, shuffle=42, **kwargs):
    """Return all batches of some epochs of the source."""
    return [batch for e in numbers for batch in SOURCE.batch_iterator(3, shuffle, epoch=e, **kwargs)]


# Passes and epochs.


@pytest.mark.parametrize('name', [*RANDOM_ACCESS, *ARRANGED])
def test_each_pass_is_the_next_epoch(name):
    source = {**RANDOM_ACCESS, **ARRANGED}[name]()
    loader = source.loader(4, 42, drop_last=True, shard=(1, 2))
    for epoch in range(3):
        stream = source.batch_iterator(4, shuffle=42, epoch=epoch, drop_last=True, shard=(1, 2))
        assert len(loader) == len(stream)
        assert_same_batches(loader, stream)


def test_the_first_epoch_may_be_given():
    loader = SOURCE.loader(3, 42, epoch=7)
    assert loader.epoch == 7
    assert_same_batches([*loader, *loader], epochs(7, 8))


@pytest.mark.parametrize('make', [np.random.RandomState, np.random.default_rng])
def test_each_pass_draws_on_from_a_generator_and_counts(make):
    loader, rng = SOURCE.loader(3, make(5)), make(5)
    assert len(loader) == 7
    assert_same_batches([*loader, *loader], [*epochs(0, shuffle=rng), *epochs(1, shuffle=rng)])
    assert loader.epoch == 2


def test_a_pass_that_was_left_is_over_when_the_next_one_begins():
    loader = SOURCE.loader(3, 42)
    for _ in loader:
        break
    assert (loader.epoch, loader.position) == (0, 1)
    assert_same_batches(loader, epochs(1))


def test_the_epoch_is_that_of_the_pass_until_its_end():
    loader = SOURCE.loader(3, 42)
    seen = [(loader.epoch, loader.position) for _ in range(2) for _ in loader]
    assert seen == [(e, k) for e in range(2) for k in range(1, 8)]
    assert (loader.epoch, loader.position) == (2, 0)


def test_passes_side_by_side_are_epochs_of_their_own():
    loader = SOURCE.loader(3, 42)
    left, right = zip(*zip(loader, loader))
    assert_same_batches([*left, *right, *loader], epochs(0, 1, 2))


def test_passes_within_a_pass():
    loader = SOURCE.loader(3, 42)
    inner = [batch for _ in itertools.islice(loader, 2) for batch in loader]
    assert_same_batches(inner, epochs(1, 2))


def test_threads_get_a_pass_each():
    loader, passes = ArrayDataSource([DATA]).loader(3, 42), []
    threads = [threading.Thread(target=lambda: passes.append(list(loader))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = [list(ArrayDataSource([DATA]).batch_iterator(3, 42, epoch=e)) for e in range(8)]
    assert sorted(map(repr, passes)) == sorted(map(repr, expected))


def test_after_an_error_the_pass_goes_on_where_it_was():
    seen = []

    def fail_once(x):
        seen.append(x)
        if len(seen) == 3:
            raise OSError('disk gone')
        return (x,)

    loader = ArrayDataSource([DATA]).map(fail_once).loader(3)
    batches = iter(loader)
    with pytest.raises(OSError, match='disk gone'):
        list(batches)
    assert loader.position == 2
    assert next(batches)[0].tolist() == [6, 7, 8]


def test_an_endless_pass_never_ends_and_has_no_length():
    loader = ArrayDataSource([DATA], repeats=-1).loader(8, 42)
    assert sum(1 for _ in itertools.islice(loader, 100)) == 100
    assert (loader.length, loader.epoch) == (math.inf, 0)
    with pytest.raises(TypeError, match='number of batches is infinite'):
        len(loader)


def test_to_ask_for_the_length_draws_nothing():
    sampler = PlainSampler(20)
    loader = ArrayDataSource([DATA], sampler=sampler).loader(3, rng := np.random.RandomState(5))
    assert len(loader) == 7
    assert rng.randint(2**31) == np.random.RandomState(5).randint(2**31)


# `set_epoch`.


def test_set_epoch_chooses_the_next_pass_and_those_after_it():
    loader = SOURCE.loader(3, 42)
    loader.set_epoch(np.int64(5))
    assert loader.epoch == 5
    assert_same_batches([*loader, *loader], epochs(5, 6))


def test_set_epoch_leaves_the_pass_that_goes_on_as_it_is():
    loader = SOURCE.loader(3, 42)
    batches = iter(loader)
    first = next(batches)
    loader.set_epoch(0)
    assert (loader.epoch, loader.position, loader.state_dict()['position']) == (0, 0, 0)
    assert_same_batches([first, *batches, *loader], epochs(0, 0))


def test_set_epoch_to_that_of_a_loaded_state_keeps_its_position():
    loader = loaded(SOURCE.loader(3, 42), epoch=3, position=5)
    loader.set_epoch(3)
    assert_same_batches(loader, epochs(3)[5:])
    loader = loaded(loader, epoch=3, position=5)
    loader.set_epoch(4)
    assert_same_batches(loader, epochs(4))


# States.


def loaded(loader, epoch, position):
    """Load the state of another loader, which has come to a position in an epoch."""
    saved = SOURCE.loader(3, 42, epoch=epoch)
    iter(saved).skip(position)
    loader.load_state_dict(json.loads(json.dumps(saved.state_dict())))
    return loader


@pytest.mark.parametrize('position', range(8))
def test_from_every_position_the_next_pass_goes_on_and_then_come_whole_ones(position):
    loader = loaded(SOURCE.loader(3, 42), 3, position)
    assert (loader.epoch, loader.position, loader.state_dict()['position']) == (3, position, position)
    assert_same_batches([*loader, *loader], epochs(3, 4)[position:])


def test_after_the_last_batch_the_state_is_that_of_the_pass_until_the_loop_has_ended():
    loader = SOURCE.loader(3, 42)
    *_, state = [loader.state_dict() for _ in loader]
    assert (state['epoch'], state['position']) == (0, 7)
    assert (loader.state_dict()['epoch'], loader.state_dict()['position']) == (1, 0)


def test_a_state_from_between_two_passes():
    saved, loader = SOURCE.loader(3, 42, epoch=2), SOURCE.loader(3, 42)
    for _ in saved:
        pass
    loader.load_state_dict(json.loads(json.dumps(saved.state_dict())))
    assert loader.epoch == 3
    assert_same_batches(loader, epochs(3))


def test_a_state_goes_back_in_the_same_loader():
    loader = SOURCE.loader(3, 42)
    for _ in itertools.islice(loader, 2):
        state = loader.state_dict()
    for _ in loader:
        pass
    loader.load_state_dict(state)
    assert_same_batches(loader, epochs(0)[2:])


def test_the_state_of_a_stream_is_that_of_a_pass():
    stream, loader = SOURCE.batch_iterator(3, 42, epoch=4), SOURCE.loader(3, 42)
    stream.skip(2)
    loader.load_state_dict(stream.state_dict())
    assert loader.state_dict() == stream.state_dict()
    assert_same_batches(loader, stream)


def test_a_generator_in_the_state_from_the_beginning_of_the_pass_resumes_it():
    rng = np.random.RandomState(5)
    loader = SOURCE.loader(3, rng)
    list(loader)
    at_start = rng.get_state()
    batches = iter(loader)
    next(batches)
    again = np.random.RandomState()
    again.set_state(at_start)
    resumed = SOURCE.loader(3, again)
    resumed.load_state_dict(loader.state_dict())
    assert_same_batches(resumed, batches)


def test_a_state_is_small():
    parts = [ArrayDataSource([DATA]).map(jitter, rng=True) for _ in range(50)]
    loader = CompositeDataSource(parts).loader(3, 42)
    between = loader.state_dict()
    next(iter(loader))
    assert max(len(json.dumps(state)) for state in (between, loader.state_dict())) < 4096


OTHERS = {
    'batch_size': lambda: SOURCE.loader(4, 42),
    'shuffle': lambda: SOURCE.loader(3, 43),
    'keywords': lambda: SOURCE.loader(3, 42, drop_last=True),
    'plan': lambda: ArrayDataSource([DATA[1:]]).map(jitter, rng=True).loader(3, 42),
}


@pytest.mark.parametrize('fact', OTHERS)
def test_a_state_that_does_not_fit_is_refused_and_changes_nothing(fact):
    other, loader = OTHERS[fact](), SOURCE.loader(3, 42, epoch=1)
    states = [] if fact == 'plan' else [other.state_dict()]
    iter(other).skip(2)
    for state in [*states, other.state_dict()]:
        with pytest.raises(StateMismatchError, match='drop_last|keywords' if fact == 'keywords' else fact):
            loader.load_state_dict(state)
    assert_same_batches(loader, epochs(1))


@pytest.mark.parametrize('change', [{'epoch': -1}, {'epoch': True}, {'epoch': None}, {'position': 3}, {'version': 0}])
def test_a_damaged_state_is_refused(change):
    loader = SOURCE.loader(3, 42)
    with pytest.raises(StateMismatchError, match=next(iter(change))):
        loader.load_state_dict({**loader.state_dict(), **change})
    with pytest.raises(TypeError, match='state must be a dict made by state_dict'):
        loader.load_state_dict([])


# The end.


def test_a_with_block_ends_the_passes_that_go_on_and_keeps_the_state():
    with SOURCE.loader(3, 42) as loader:
        first, second = iter(loader), iter(loader)
        next(second)
    assert (first.phase, second.phase) == (Phase.CLOSED, Phase.CLOSED)
    loader.close()
    assert_same_batches(restored(loader), epochs(1)[1:])
    for use in (iter, lambda loader: loader.set_epoch(0), lambda loader: loader.load_state_dict(loader.state_dict())):
        with pytest.raises(ValueError, match=r'loader is closed; make a new one with loader\(\)'):
            use(loader)


def restored(loader):
    other = SOURCE.loader(3, 42)
    other.load_state_dict(loader.state_dict())
    return other


@pytest.mark.parametrize('copied', [copy.copy, copy.deepcopy, lambda loader: pickle.loads(pickle.dumps(loader))])
def test_a_copy_goes_on_with_the_next_pass(copied):
    loader = SOURCE.loader(3, 42)
    for _ in loader:
        break
    assert_same_batches(copied(loader), epochs(1))
    loader.load_state_dict(loader.state_dict())
    assert_same_batches(copied(loader), epochs(0)[1:])


# Pools.


def test_workers_begin_with_the_pass():
    made = []

    def note(x):
        made.append(x)
        return (x,)

    with WorkerThreadPool(2) as pool:
        parallel = pool.parallel_data_source(ArrayDataSource([DATA]).map(note))
        with parallel.loader(3, 42) as loader:
            assert len(loader) == 7
            assert made == []
            for epoch in range(2):
                batches = iter(loader)
                wait_until(lambda: made)
                assert_same_batches(batches, ArrayDataSource([DATA]).batch_iterator(3, 42, epoch=epoch))


def test_states_with_and_without_a_pool_are_the_same():
    with WorkerThreadPool(2) as pool:
        loader = pool.parallel_data_source(SOURCE).loader(3, 42)
        between = loader.state_dict()
        for _ in itertools.islice(loader, 3):
            pass
        assert between == SOURCE.loader(3, 42).state_dict()
        assert loader.state_dict() == loaded(SOURCE.loader(3, 42), 0, 3).state_dict()


def test_a_loader_of_a_closed_pool():
    with WorkerThreadPool(1) as pool:
        parallel = pool.parallel_data_source(SOURCE)
        loader = parallel.loader(3)
    for use in (lambda: parallel.loader(3), lambda: iter(loader)):
        with pytest.raises(WorkerPoolError, match='the pool is closed'):
            use()
    with pytest.raises(TypeError, match='neither can what refers to it'):
        pickle.dumps(loader)


# Sources without a plan.


def test_a_function_is_given_what_differs_from_the_defaults_and_the_epoch_if_it_takes_it():
    seen = []

    def make(batch_size, **kwargs):
        seen.append((batch_size, kwargs))
        return call_batches(batch_size)

    loader = CallableDataSource(make, 11).loader(4, 42, mode='x')
    assert (seen, len(loader)) == ([], 3)
    assert sum(1 for _ in range(2) for _ in loader) == 6
    assert seen == [(4, {'shuffle': 42, 'mode': 'x', 'epoch': epoch}) for epoch in range(2)]


def test_a_function_that_does_not_take_the_epoch_is_called_without():
    def make(batch_size, shuffle=None):
        return call_batches(batch_size, shuffle=shuffle)

    source = CallableDataSource(make, lambda shuffle=None: 11)
    for shuffle in (None, np.random.RandomState(5)):
        loader = source.loader(4, shuffle)
        first, second = list(loader), list(loader)
        assert len(first) == len(second) == len(loader) == 3
        assert (repr(first) == repr(second)) is (shuffle is None)


class Fixed(AbstractDataSource):
    """A user's source that shuffles every epoch alike."""

    def num_samples(self):
        return 11

    def batch_iterator(self, batch_size, shuffle=None):
        return call_batches(batch_size, shuffle=shuffle)


FIXED = {
    'source': Fixed,
    'function': lambda: CallableDataSource(lambda batch_size, shuffle=None: call_batches(batch_size, shuffle=shuffle)),
    'member': lambda: CompositeDataSource([ArrayDataSource([DATA]), Fixed()]).map(jitter),
}


@pytest.mark.parametrize('name', FIXED)
def test_a_seed_that_would_shuffle_every_pass_alike_is_refused(name):
    with pytest.raises(TypeError, match=r'does not take epoch=, so that each pass .* shuffle=42: let it take epoch=0'):
        FIXED[name]().loader(4, 42)
    assert len(list(Fixed().loader(4))) == len(Fixed().loader(4)) == Fixed().num_batches(4) == 3


def test_an_iterator_can_be_gone_through_once():
    loader = IteratorDataSource(iter(call_batches(4)), 11).loader(4)
    assert len(list(loader)) == 3
    with pytest.warns(UserWarning, match='has ended before, and cannot be gone through twice; make a Callable'):
        assert list(loader) == []


@pytest.mark.filterwarnings('ignore:to resume at batch')
def test_batches_of_a_function_are_read_again_to_resume():
    source = CallableDataSource(call_batches, 11)
    loader, resumed = source.loader(4, 42, epoch=2), source.loader(4, 42)
    batches = iter(loader)
    next(batches)
    resumed.load_state_dict(json.loads(json.dumps(loader.state_dict())))
    assert resumed.epoch == 2
    assert_same_batches(resumed, batches)


# Numbers of batches.

MANY = {**RANDOM_ACCESS, **ARRANGED}
UNPLANNED = {
    'shortest': (lambda: CompositeDataSource([PlainSource(11), ArrayDataSource([DATA])]), 3),
    'longest': (lambda: CompositeDataSource([PlainSource(11), ArrayDataSource([DATA])], stop='longest').map(jitter), 5),
    'first': (lambda: CompositeDataSource([PlainSource(11), ArrayDataSource([DATA])], stop=0), 3),
    'spread': (lambda: ChoiceDataSource([PlainSource(11), ArrayDataSource([DATA])], stratified=True), 8),
    'all': (lambda: ChoiceDataSource([PlainSource(11), ArrayDataSource([DATA])], stop='all'), 10),
    'unknown': (lambda: CompositeDataSource([PlainSource(11), IteratorDataSource(iter([]))]), None),
    'endless': (lambda: CompositeDataSource([IteratorDataSource(iter([]), np.inf)]), math.inf),
    'weighted': (lambda: ArrayDataSource([DATA], sampler=WeightedSampler(np.ones(20), n_samples=17)), 5),
}


@pytest.mark.parametrize('name', UNPLANNED)
def test_the_number_of_batches_is_that_of_the_stream(name):
    make, expected = UNPLANNED[name]
    assert make().num_batches(4) == expected
    shuffle = 42 if name == 'weighted' else None
    assert make().batch_iterator(4, shuffle=shuffle).length == make().loader(4, shuffle).length == expected


@pytest.mark.parametrize('name', MANY)
def test_the_number_of_batches_is_that_of_samples_in_order(name):
    source = MANY[name]()
    for drop_last in (False, True):
        assert source.num_batches(4, drop_last) == source.batch_iterator(4, drop_last=drop_last).length


def test_nothing_is_read_to_count_batches():
    def fail(*batch):
        raise AssertionError('was read')

    source = ArrayDataSource([DATA]).map(fail)
    assert (source.num_batches(8), source.num_batches(8, drop_last=True)) == (3, 2)
    assert CompositeDataSource([source, source]).num_batches((5, 3)) == 4


# Wrong arguments, all at the call.


@pytest.mark.parametrize(
    ('arguments', 'error', 'message'),
    [
        ({'batch_size': 0}, ValueError, 'batch_size must be at least 1'),
        ({'batch_size': (3, 4)}, TypeError, 'batch_size must be an integer for a data source without members'),
        ({'epoch': -1}, ValueError, 'epoch must be 0 or more, got -1'),
        ({'epoch': 1.0}, TypeError, 'epoch must be an integer'),
        ({'shuffle': 'yes'}, TypeError, 'shuffle must be None, a bool, an integer seed'),
        ({'drop_last': 1}, TypeError, 'drop_last must be True or False, got 1'),
        ({'shard': (2, 2)}, ValueError, 'shard'),
        ({'uneven': 'some'}, ValueError, 'uneven'),
        ({'shuffle': True, 'shard': (0, 2)}, ValueError, 'shuffle=True draws from NumPy'),
        ({'suffle': 42}, TypeError, r"ArrayDataSource.loader\(\) got .* 'suffle'; did you mean shuffle"),
    ],
)
def test_wrong_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        ArrayDataSource([DATA]).loader(**{'batch_size': 3, **arguments})


def test_what_needs_a_shuffle_says_so():
    source = ArrayDataSource([DATA], sampler=WeightedSampler(np.ones(20)))
    with pytest.raises(NotImplementedError, match='pass shuffle='):
        source.loader(3)
    assert isinstance(source.loader(3, 42), Loader)
