"""Making one batch: by its number, the one at which an error came, or the next one of a saved state."""

import builtins
import itertools
import pickle
import traceback
import tracemalloc
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest

from batchup.data_source import ArrayDataSource, CompositeDataSource, IteratorDataSource
from batchup.errors import EndOfPlanError, StateMismatchError
from batchup.sampling import BlockShuffle, ComputedShuffle, FullShuffle

from ..cases import (
    ARRANGED,
    BATCH_SIZE,
    DRAWN,
    ENDLESS,
    OBJECT_SHUFFLES,
    PURE_SHUFFLES,
    RANDOM_ACCESS,
    SHUFFLES,
    STREAMED,
    UNORDERED,
    PlainSampler,
    assert_same_batch,
    assert_same_batches,
    numbers,
)

# All but the one that has no batch.
PLANNED = {name: make for name, make in {**RANDOM_ACCESS, **ARRANGED, **ENDLESS, **DRAWN}.items() if name != 'empty'}


def shuffles_of(name, shuffles):
    """Return the shuffles, as arguments, that a source can be gone through with."""
    return [make for kind, make in shuffles.items() if not (name in UNORDERED and kind == 'in_order')]


# By its number.


@pytest.mark.parametrize('name', PLANNED)
def test_a_batch_by_its_number_is_that_of_a_stream(name):
    source = PLANNED[name]()
    for shuffle in shuffles_of(name, {**PURE_SHUFFLES, **OBJECT_SHUFFLES}):
        expected = list(itertools.islice(source.batch_iterator(BATCH_SIZE, **shuffle()), 12))
        made = [source.batch(k, BATCH_SIZE, **shuffle()) for k in range(len(expected))]
        assert_same_batches(made, expected)


def test_batches_may_be_asked_for_in_any_order():
    source = numbers(50).map(lambda x, rng: (x, rng.random(len(x))), rng=True)
    expected = list(source.batch_iterator(4, shuffle=3, epoch=2))
    for k in np.random.RandomState(0).permutation(np.arange(-13, 13)).tolist():
        assert_same_batch(source.batch(k, 4, shuffle=3, epoch=2), expected[k])


def test_a_batch_takes_all_arguments_of_a_stream():
    source = numbers(50).map(lambda *batch, rng: (*batch, rng.random(len(batch[0]))), rng=True)
    for shard in [(0, 3), (2, 3)]:
        asked = {'shuffle': 3, 'drop_last': True, 'shard': shard, 'uneven': 'pad'}
        expected = list(source.batch_iterator(7, **asked))
        assert_same_batches([source.batch(k, 7, **asked) for k in range(7)], expected)
    both = CompositeDataSource([source, source])
    assert_same_batch(both.batch(1, (2, 3), shuffle=5), list(both.batch_iterator((2, 3), shuffle=5))[1])


def test_only_the_batch_that_is_asked_for_is_made():
    seen = []
    numbers(50).map(lambda x: (seen.append(x[0]) or x,)).batch(3, 4)
    assert seen == [12]


@pytest.mark.parametrize('k', [13, -14, 10**12])
def test_a_number_out_of_range_is_an_index_error_with_the_number_of_batches(k):
    with pytest.raises(EndOfPlanError, match=f'no batch {k} in a plan of 13 batches'):
        numbers(50).batch(k, 4, shuffle=3)


def test_the_last_batch_of_endless_ones_is_an_error():
    with pytest.raises(TypeError, match='infinite'):
        ENDLESS['endless']().batch(-1, 4)


def test_arguments_are_checked_as_those_of_a_stream():
    for error, arguments in [
        (TypeError, {'k': 1.5}),
        (TypeError, {'k': True}),
        (ValueError, {'batch_size': 0}),
        (TypeError, {'batch_size': (2, 2)}),
        (ValueError, {'epoch': -1}),
        (TypeError, {'drop_last': 1}),
        (ValueError, {'shard': (3, 3)}),
        (TypeError, {'shufle': 3}),
    ]:
        with pytest.raises(error, match=next(iter(arguments)).split('_')[0]):
            numbers(9).batch(**{'k': 0, 'batch_size': 2, **arguments})


@pytest.mark.parametrize('shuffle', [True, np.random.RandomState(3), np.random.default_rng(3)])
def test_a_sequential_generator_is_refused(shuffle):
    with pytest.raises(TypeError, match=r'use a seed, as shuffle=42, or .* replay\(state, shuffle=generator\)'):
        numbers(9).batch(0, 2, shuffle=shuffle)


@pytest.mark.parametrize('name', STREAMED)
def test_a_source_without_a_plan_has_no_batch_by_number(name):
    for method in (lambda source: source.batch(0, 2), lambda source: source.replay({'position': 3})):
        with pytest.raises(TypeError, match=r'needs to know which samples are in which batch, but \w+ has no random'):
            method(STREAMED[name]())


def test_a_source_with_an_iterator_of_its_own_has_no_batch_by_number():
    class Doubled(ArrayDataSource):
        def batch_iterator(self, *args, **kwargs):
            return (batch * 2 for batch in super().batch_iterator(*args, **kwargs))

    with pytest.raises(TypeError, match='Doubled has a batch_iterator of your own'):
        Doubled([np.arange(9)]).batch(0, 2)


# What is kept from one call to the next.


def peak_bytes(function):
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_the_order_is_drawn_once():
    source, kept = numbers(10**6).map(lambda x: (x,)), ArrayDataSource([np.zeros(10**6)])
    for one in (source, kept, CompositeDataSource([source, kept])):
        assert peak_bytes(lambda one=one: one.batch(5, 4, shuffle=3)) > 8 * 10**6
        for k in (6, -1, 5):
            assert peak_bytes(lambda one=one, k=k: one.batch(k, 4, shuffle=3)) < 10**5
        assert peak_bytes(lambda one=one: one.batch(5, 4, shuffle=4)) > 8 * 10**6


def test_a_computed_order_is_never_drawn():
    source = numbers(10**6)
    assert peak_bytes(lambda: source.batch(-1, 4, shuffle=ComputedShuffle(3))) < 10**5


def test_an_order_is_not_kept_for_another_sampler():
    source = numbers(20)
    source.batch(0, 4, shuffle=3)
    source.sampler = PlainSampler(5)
    assert_same_batch(source.batch(1, 4, shuffle=3), list(source.batch_iterator(4, shuffle=3))[1])
    source.sampler.n = 3
    with pytest.raises(EndOfPlanError):
        source.batch(1, 4, shuffle=3)
    both = CompositeDataSource([source, numbers(20)])
    both.batch(0, 4, shuffle=3)
    source.sampler = PlainSampler(17)
    assert_same_batches([both.batch(k, 4, shuffle=3) for k in range(5)], both.batch_iterator(4, shuffle=3))


def test_what_is_kept_is_not_pickled():
    source = numbers(10**5)
    before = pickle.dumps(source)
    source.batch(0, 4, shuffle=3)
    copied = pickle.dumps(source)
    assert len(copied) < len(before) + 200
    assert_same_batch(pickle.loads(copied).batch(1, 4), source.batch(1, 4))


def test_threads_may_ask_for_batches_at_once():
    source = numbers(20, sampler=PlainSampler(20))
    expected = {seed: list(source.batch_iterator(2, shuffle=seed)) for seed in range(3)}
    asked = [(seed, k) for k in range(10) for seed in range(3)] * 5
    with ThreadPoolExecutor(4) as threads:
        made = list(threads.map(lambda pair: source.batch(pair[1], 2, shuffle=pair[0]), asked))
    assert_same_batches(made, [expected[seed][k] for seed, k in asked])


# From an error.


class Refuses:
    """A function to map, which raises an error at batch `number` of those that it sees."""

    def __init__(self, number):
        self.number = number

    def __call__(self, *batch):
        self.number -= 1
        if self.number < 0:
            raise OSError('disk gone', batch)
        return batch


def error_of(stream):
    with pytest.raises(OSError, match='disk gone') as caught:
        list(stream)
    return caught.value


@pytest.mark.parametrize('name', PLANNED)
def test_an_error_makes_its_batch_again(name):
    for shuffle in shuffles_of(name, {**SHUFFLES, **OBJECT_SHUFFLES}):
        source = PLANNED[name]()
        error = error_of(source.map(Refuses(1), same_length=False).batch_iterator(BATCH_SIZE, **shuffle()))
        assert_same_batch(source.replay(pickle.loads(pickle.dumps(error))), error.args[1])


def test_a_debugger_stands_in_the_function_of_the_user():
    def fails_at_7(x, rng):
        drawn = rng.random()
        if 7 in x:
            raise OSError('disk gone', drawn)
        return (x,)

    source = numbers(20).map(fails_at_7, rng=True)
    error = error_of(source.batch_iterator(3, shuffle=42, epoch=2))
    with pytest.raises(OSError, match='disk gone') as caught:
        source.replay(error)
    frame, _ = list(traceback.walk_tb(caught.value.__traceback__))[-1]
    assert (frame.f_code.co_name, 7 in frame.f_locals['x']) == ('fails_at_7', True)
    assert caught.value.args == error.args
    assert caught.value.__notes__ == error.__notes__
    assert_same_batch(numbers(20).replay(caught.value), (frame.f_locals['x'],))


def test_an_error_that_has_led_to_another_makes_its_batch_again():
    error = error_of(numbers(20).map(Refuses(2)).batch_iterator(3))
    try:
        try:
            raise KeyError('config') from error
        except KeyError:
            raise RuntimeError('training failed')  # noqa: B904 - its context is what matters
    except RuntimeError as raised:
        assert_same_batch(numbers(20).replay(raised), error.args[1])


def test_an_error_in_a_group_makes_its_batch_again():
    kind = getattr(builtins, 'ExceptionGroup', None)
    if kind is None:
        pytest.skip('Python 3.10 has no groups')
    error = error_of(numbers(20).map(Refuses(2)).batch_iterator(3))
    assert_same_batch(numbers(20).replay(kind('several', [KeyError('config'), error])), error.args[1])


def fail_at_7(x):
    if 7 in x:
        raise OSError('disk gone', (x,))
    return (x,)


def train():
    list(numbers(20).map(fail_at_7).batch_iterator(3, shuffle=5))


def test_an_error_from_another_process_makes_its_batch_again():
    with ProcessPoolExecutor(1, get_context('spawn')) as processes:
        error = processes.submit(train).exception()
    assert_same_batch(numbers(20).replay(error), error.args[1])


def test_the_shard_of_a_rank_is_made_again():
    source = numbers(50)
    stream = source.map(Refuses(2)).batch_iterator(7, shuffle=3, shard=(2, 3), uneven='pad')
    error = error_of(stream)
    (batch, real) = source.replay(error)
    assert_same_batch((batch,), error.args[1])
    assert real.tolist() == [True, True, True]


def test_an_error_of_a_function_of_results_makes_its_batch_again():
    source = numbers(20)
    with pytest.raises(OSError, match='disk gone') as caught:
        source.batch_map_mean(Refuses(2), 3, shuffle=np.random.RandomState(5))
    assert_same_batch(source.replay(caught.value), caught.value.args[1])


def test_an_error_of_a_batch_by_its_number_makes_that_again():
    source = numbers(20).map(fail_at_7)
    with pytest.raises(OSError, match='disk gone') as caught:
        source.batch(2, 3)
    assert caught.value.__notes__ == ['in batch 2 of epoch 0, with indices range(6, 9)']
    assert_same_batch(numbers(20).replay(caught.value), caught.value.args[1])


class BreaksOff(PlainSampler):
    """A user's sampler that fails at batch 3."""

    def shuffled_indices_batch_iterator(self, batch_size, shuffle_rng):
        yield from itertools.islice(super().shuffled_indices_batch_iterator(batch_size, shuffle_rng), 3)
        raise OSError('disk gone')


def test_a_sampler_that_fails_fails_again():
    source = numbers(20, sampler=BreaksOff(20))
    error = error_of(source.batch_iterator(3, shuffle=5, epoch=4))
    assert error.__notes__ == ['in batch 3 of epoch 4']
    with pytest.raises(OSError, match='disk gone') as caught:
        source.replay(error)
    assert traceback.extract_tb(caught.value.__traceback__)[-1].name == 'shuffled_indices_batch_iterator'
    with pytest.raises(OSError, match='disk gone') as caught:
        source.batch(3, 3, shuffle=5, epoch=4)
    assert caught.value.__notes__ == error.__notes__
    with pytest.raises(OSError, match='disk gone'):
        source.replay(caught.value)


def test_indices_that_a_sequential_generator_has_not_drawn_are_not_known():
    source = numbers(20, sampler=BreaksOff(20))
    with pytest.raises(TypeError, match='indices of batch 3 were not drawn'):
        source.replay(error_of(source.batch_iterator(3, shuffle=np.random.RandomState(5))))


def test_an_error_keeps_no_order_alive():
    source = numbers(10**6)
    error = error_of(source.map(Refuses(2)).batch_iterator(3, shuffle=5))
    assert len(pickle.dumps(error)) < 10**4
    assert error._batchup_batch.request.indices.base is None


def test_an_error_of_another_source_is_refused():
    error = error_of(numbers(20).map(Refuses(2)).batch_iterator(3))
    for other in (numbers(19), numbers(20, indices=range(15)), CompositeDataSource([numbers(20), numbers(20)])):
        with pytest.raises(StateMismatchError, match=r'of another source:\n.*20 samples x 1\n.*(19|15|trimmed)'):
            other.replay(error)


def test_what_did_not_come_from_a_stream_is_refused():
    for wrong, match in [
        (OSError('disk gone'), 'this OSError did not come from a stream'),
        (5, 'replay takes an exception .* or a state .* got 5'),
        (None, 'got None'),
    ]:
        with pytest.raises(TypeError, match=match):
            numbers(20).replay(wrong)


def test_an_error_of_a_stream_without_indices_is_refused():
    def batches():
        yield (np.arange(3),)
        raise OSError('disk gone')

    error = error_of(IteratorDataSource(batches()).batch_iterator(3))
    with pytest.raises(TypeError, match=r'of batch 1, .* no indices are known'):
        numbers(20).replay(error)


# From a state.


@pytest.mark.parametrize('name', PLANNED)
def test_a_state_makes_the_next_batch(name):
    for kind, shuffle in {**SHUFFLES, **OBJECT_SHUFFLES}.items():
        if name in UNORDERED and kind == 'in_order':
            continue
        source = PLANNED[name]()
        stream = source.batch_iterator(BATCH_SIZE, **shuffle())
        stream.skip(1)
        state = stream.state_dict()
        given = shuffle() if kind in ('random_state', 'generator') else {}
        batch = next(stream, None)
        if batch is None:
            with pytest.raises(EndOfPlanError):
                source.replay(state, **given)
        else:
            assert_same_batch(source.replay(state, **given), batch)


@pytest.mark.parametrize('shuffle', [FullShuffle(3), ComputedShuffle(3), BlockShuffle(3, 5, window=2), BlockShuffle(3)])
def test_a_state_knows_the_shuffles_of_the_package(shuffle):
    stream = numbers(99).batch_iterator(4, shuffle=shuffle)
    stream.skip(5)
    assert_same_batch(numbers(99).replay(stream.state_dict()), next(stream))


def test_a_state_of_nested_batch_sizes_makes_the_next_batch():
    source = CompositeDataSource([numbers(20), CompositeDataSource([numbers(20), numbers(20)])])
    stream = source.batch_iterator((2, (3, 4)), shuffle=5)
    stream.skip(2)
    assert_same_batch(source.replay(stream.state_dict()), next(stream))


def test_a_state_takes_the_shard_of_its_stream():
    stream = numbers(20).batch_iterator(6, shuffle=5, shard=(1, 3))
    stream.skip(1)
    assert_same_batch(numbers(20).replay(stream.state_dict(), shard=(1, 3)), next(stream))


def test_a_state_of_a_sequential_generator_needs_one():
    state = numbers(20).batch_iterator(3, shuffle=np.random.RandomState(3)).state_dict()
    with pytest.raises(TypeError, match=r'shuffled by: RandomState. .* replay\(state, shuffle=...\)'):
        numbers(20).replay(state)


def test_a_state_that_does_not_fit_is_refused():
    stream = numbers(20).batch_iterator(3, shuffle=np.random.RandomState(3))
    stream.skip(2)
    state = stream.state_dict()
    for wrong, shuffle in [
        (state, np.random.RandomState(4)),
        (state, 3),
        ({**state, 'plan': 'other'}, np.random.RandomState(3)),
        ({**state, 'batch_size': None}, np.random.RandomState(3)),
        ({**state, 'epoch': 'x'}, np.random.RandomState(3)),
        ({'position': 3}, None),
    ]:
        with pytest.raises(StateMismatchError):
            numbers(20).replay(wrong, shuffle=shuffle)
    assert_same_batch(numbers(20).replay(state, shuffle=np.random.RandomState(3)), next(stream))


def test_an_error_takes_no_shuffle():
    error = error_of(numbers(20).map(Refuses(2)).batch_iterator(3))
    with pytest.raises(TypeError, match='for saved states only'):
        numbers(20).replay(error, shuffle=3)
