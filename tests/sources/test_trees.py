"""Trees of sources without a plan: errors in the middle, refused states, and how much is read."""

import itertools
import json

import numpy as np
import pytest

from batchup.data_source import (
    ArrayDataSource,
    CallableDataSource,
    ChoiceDataSource,
    CompositeDataSource,
    IteratorDataSource,
)
from batchup.errors import StateMismatchError

from ..cases import (
    SHUFFLE_ARGUMENTS,
    FailsOnce,
    PlainSource,
    assert_same_batches,
    jitter,
    keep,
    numbers,
    take_until_error,
)

pytestmark = pytest.mark.filterwarnings('ignore:to resume at batch')


class Counting:
    """An iterator over numbered batches that fails once, at its own batch `fails_at`."""

    def __init__(self, fails_at=None, start=0):
        self.number = start
        self.fails_at = fails_at

    def __iter__(self):
        return self

    def __next__(self):
        if self.number == self.fails_at:
            self.fails_at = None
            raise OSError('disk gone')
        if self.number >= 108 or self.number == 8:
            raise StopIteration
        self.number += 1
        return (np.array([self.number - 1]),)


class Resumable(Counting):
    """The same, with states of its own."""

    def state_dict(self):
        return {'number': self.number}

    def load_state_dict(self, state):
        self.number = state['number']


def counting(kind=Counting, **kwargs):
    return CallableDataSource(lambda batch_size, **_: kind(**kwargs))


TREES = {
    'map of map': lambda fn: counting().map(keep).map(fn),
    'map of composite': lambda fn: CompositeDataSource([counting(), numbers(8)]).map(fn),
    'map of choice': lambda fn: ChoiceDataSource([counting(), counting(start=100)]).map(fn),
    'composite of map': lambda fn: CompositeDataSource([counting().map(keep), counting().map(keep).map(fn)]),
    'choice of map': lambda fn: ChoiceDataSource([counting(), numbers(8).map(fn)]),
    'deep': lambda fn: CompositeDataSource(
        [numbers(3, repeats=9), ChoiceDataSource([counting(Resumable), numbers(9)]).map(keep).map(fn)]
    ),
}


@pytest.mark.parametrize('name', TREES)
@pytest.mark.parametrize('shuffle', SHUFFLE_ARGUMENTS)
def test_a_state_saved_after_an_error_is_before_the_batch_that_failed(name, shuffle):
    def open_stream(fn):
        return TREES[name](fn).batch_iterator(1, shuffle=SHUFFLE_ARGUMENTS[shuffle]())

    stream = open_stream(FailsOnce(at=4))
    received = take_until_error(stream)
    state = json.loads(json.dumps(stream.state_dict()))
    assert_same_batches([*received, *stream], open_stream(keep))
    resumed = open_stream(keep)
    resumed.load_state_dict(state)
    assert_same_batches([*received, *resumed], open_stream(keep))


SKIPPING = {
    'iterator': lambda source: source,
    'map': lambda source: source.map(keep),
    'composite': lambda source: CompositeDataSource([numbers(8), source]),
    'choice': lambda source: ChoiceDataSource([numbers(8), source]),
}


@pytest.mark.parametrize('name', SKIPPING)
def test_an_error_while_skipping_keeps_the_place(name):
    expected = list(SKIPPING[name](counting()).batch_iterator(1))
    stream = SKIPPING[name](counting(fails_at=3)).batch_iterator(1)
    with pytest.raises(OSError, match='disk gone') as caught:
        stream.skip(len(expected))
    assert caught.value.__notes__[-1].startswith(f'in batch {stream.position}')
    position = stream.position
    assert stream.skip(1) == 1
    assert_same_batches(stream, expected[position + 1 :])


def test_a_batch_that_was_skipped_in_part_is_not_made_up():
    stream = SKIPPING['composite'](counting(fails_at=3)).batch_iterator(1)
    with pytest.raises(OSError, match='disk gone'):
        stream.skip(8)
    with pytest.raises(RuntimeError, match='skipped in part'):
        next(stream)


def test_a_stream_that_was_skipped_past_its_end_has_ended():
    stream = CompositeDataSource([numbers(8), PlainSource(5)]).batch_iterator(1)
    assert stream.skip(8) == 5
    assert next(stream, None) is None


@pytest.mark.parametrize('shuffle', SHUFFLE_ARGUMENTS)
def test_a_refused_state_moves_nothing(shuffle):
    source = CompositeDataSource([numbers(6), counting()])
    other = CompositeDataSource([numbers(6), PlainSource(6)])
    stream = source.batch_iterator(1, shuffle=SHUFFLE_ARGUMENTS[shuffle]())
    next(stream)
    fresh = other.batch_iterator(1, shuffle=SHUFFLE_ARGUMENTS[shuffle]())
    with pytest.raises(StateMismatchError, match='plan of the state'):
        fresh.load_state_dict(stream.state_dict())
    assert_same_batches(fresh, other.batch_iterator(1, shuffle=SHUFFLE_ARGUMENTS[shuffle]()))


def test_a_stream_that_failed_to_move_is_closed():
    stream = CompositeDataSource([numbers(6), counting()]).batch_iterator(1)
    stream.skip(5)
    shorter = CompositeDataSource([numbers(6), counting(start=5)]).batch_iterator(1)
    with pytest.raises(StateMismatchError, match='ends before it'):
        shorter.load_state_dict(stream.state_dict())
    assert next(shorter, None) is None


@pytest.mark.parametrize('position', range(8))
def test_turns_drawn_from_a_shared_generator_are_restored(position):
    def open_stream():
        turns = ChoiceDataSource([counting(Resumable), counting(Resumable, start=100)])
        return CompositeDataSource([numbers(3, repeats=10), turns]).batch_iterator(1, shuffle=np.random.RandomState(0))

    expected = list(open_stream())
    saved = open_stream()
    list(itertools.islice(saved, position))
    resumed = open_stream()
    resumed.load_state_dict(saved.state_dict())
    assert_same_batches(resumed, expected[position:])


@pytest.mark.parametrize(
    ('one', 'other'),
    [
        (
            ChoiceDataSource([counting(), counting()]),
            ChoiceDataSource([PlainSource(8), PlainSource(8)], stratified=True),
        ),
        (PlainSource(8).map(keep), PlainSource(9).map(keep)),
        (CallableDataSource(Counting, 8), CallableDataSource(Counting, 9)),
    ],
)
def test_states_of_other_sources_are_refused(one, other):
    with pytest.raises(StateMismatchError, match='of the state'):
        other.batch_iterator(1).load_state_dict(one.batch_iterator(1).state_dict())


def test_a_state_of_other_keywords_is_refused():
    state = counting().batch_iterator(1, mode='train').state_dict()
    with pytest.raises(StateMismatchError, match=r"keywords of the state:  \{'mode': 'train'\}"):
        counting().batch_iterator(1, mode='test').load_state_dict(state)


def test_states_of_trees_stay_small():
    members = [counting(), *(numbers(1000 + k) for k in range(30))]
    stream = CompositeDataSource(members).batch_iterator(64, shuffle=42, epoch=7)
    next(stream)
    assert len(json.dumps(stream.state_dict())) < 4096


def test_a_composite_reads_and_draws_no_more_than_its_end_needs():
    iterator, rng, reference = Counting(), np.random.RandomState(1), np.random.RandomState(1)
    source = CompositeDataSource([IteratorDataSource(iterator), numbers(3, repeats=-1), numbers(3)])
    assert len(list(source.batch_iterator(1, shuffle=rng))) == 3
    reference.permutation(3)
    reference.permutation(3)
    assert rng.rand() == reference.rand()
    assert next(iterator)[0] == 3


def test_closing_a_tree_closes_its_members():
    class Closing(Counting):
        closed = False

        def close(self):
            Closing.closed = True

    with CompositeDataSource([counting(Closing).map(keep), numbers(3)]).batch_iterator(1):
        pass
    assert Closing.closed


def test_a_generator_that_others_hold_is_not_closed():
    shared = (batch for batch in Counting())
    source = CallableDataSource(lambda batch_size: shared)
    source.batch_map_concat(keep, 1, n_batches=2)
    assert next(shared)[0] == 2


@pytest.mark.parametrize('kwargs', [{'shuffle': 1}, {'shuffle': 1, 'epoch': 1}, {'epoch': 2}])
def test_turns_of_sources_without_a_plan_follow_seed_and_epoch(kwargs):
    def turns(**kwargs):
        members = [counting(start=100 * k) if k else counting() for k in range(2)]
        members += [CallableDataSource(lambda bs, **_: iter([(np.array([k]),) for k in range(50, 90)]))]
        return [int(batch[0][0]) // 50 for batch in ChoiceDataSource(members).batch_iterator(1, **kwargs)]

    assert turns(**kwargs) == turns(**kwargs)
    assert ('shuffle' not in kwargs) == (turns(**kwargs) == turns(**{**kwargs, 'epoch': 5}))


@pytest.mark.parametrize('indices', [[[0, 1], [2, 3, 4]], ([0], np.array([1, 2]))])
def test_random_functions_read_any_indices(indices):
    source = CompositeDataSource([numbers(5), numbers(7)], trim=False).map(jitter, rng=True)
    assert_same_batches([source.samples_by_indices_nomapping(indices)], [source.samples_by_indices(indices)])


def test_random_functions_read_slices():
    assert numbers(5).map(jitter, rng=True).samples_by_indices_nomapping(slice(0, 2))[0].tolist() == [0, 1]


@pytest.mark.parametrize('ds_index', [-1, 2])
def test_a_choice_batch_of_no_member(ds_index):
    from batchup.data_source import ChoiceBatch

    with pytest.raises(IndexError, match=f'ds_index must be below 2, got {ds_index}'):
        ChoiceDataSource([numbers(5), numbers(5)]).samples_by_indices_nomapping(ChoiceBatch([1], ds_index))


class Recorder:
    """An array-like that counts what it is asked for."""

    asked = 0

    def __len__(self):
        return 100

    def __getitem__(self, index):
        self.asked += 1
        return np.asarray(index)


@pytest.mark.parametrize('shuffle', SHUFFLE_ARGUMENTS)
def test_skipping_and_loading_read_no_data(shuffle):
    recorder = Recorder()
    source = ArrayDataSource([recorder]).map(keep)
    saved = source.batch_iterator(10, shuffle=SHUFFLE_ARGUMENTS[shuffle]())
    saved.skip(5)
    resumed = source.batch_iterator(10, shuffle=SHUFFLE_ARGUMENTS[shuffle]())
    resumed.load_state_dict(saved.state_dict())
    assert recorder.asked == 0
    next(resumed)
    assert recorder.asked == 1


def test_a_digest_covers_all_members():
    def open_stream(last):
        members = [numbers(5), CompositeDataSource([numbers(5, indices=[0, 1, last])])]
        return CompositeDataSource(members).batch_iterator(3)

    with pytest.raises(StateMismatchError, match='indices of the state'):
        open_stream(last=3).load_state_dict(open_stream(last=2).state_dict())


def test_all_repetitions_and_all_chunks_of_draws_differ():
    from batchup.sampling import StandardSampler, WeightedSampler

    orders = {tuple(request.indices) for request in StandardSampler(30, repeats=50).plan(30, shuffle=1)}
    draws = WeightedSampler(np.ones(30)).plan(4096, shuffle=1)
    assert len(orders) == 50
    assert len({tuple(draws[k].indices) for k in range(10)}) == 10


def test_weighted_iterators_draw_in_the_order_of_use():
    from batchup.sampling import WeightedSampler

    rng, reference = np.random.RandomState(1), np.random.RandomState(1)
    sampler = WeightedSampler([1, 2, 3])
    streams = [numbers(3, sampler=sampler).batch_iterator(5, shuffle=rng) for _ in range(2)]
    for turn in (0, 0, 1, 0, 1, 1):
        np.testing.assert_array_equal(next(streams[turn])[0], reference.choice(3, 5, p=sampler.weights))


def test_a_weighted_source_has_no_order():
    from batchup.sampling import WeightedSampler

    with pytest.raises(NotImplementedError, match='pass shuffle='):
        numbers(3, sampler=WeightedSampler([1, 2, 3])).batch_iterator(5)
