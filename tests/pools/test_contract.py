"""What every pool promises: the batches, states and errors of the serial stream, made in the background."""

import copy
import itertools
import pickle
import threading
import time

import numpy as np
import pytest

from batchup.data_source import ArrayDataSource, ChoiceDataSource, CompositeDataSource
from batchup.errors import StateMismatchError
from batchup.work_pool import WorkerThreadPool

from ..cases import (
    ARRANGED,
    BATCH_SIZE,
    DRAWN_SHUFFLES,
    ENDLESS,
    FIXED_SIZE,
    PURE_SHUFFLES,
    RANDOM_ACCESS,
    SHUFFLES,
    UNORDERED,
    PlainSampler,
    arrays,
    assert_same_batch,
    assert_same_batches,
    jitter,
    keep,
    named,
    numbers,
)
from ..harness.pools import BACKENDS, CLUSTERS, EVERY, EVERY_LOCAL, SLOW, THREADS, on, open_pool
from ..harness.waiting import wait_until
from ..harness.work import Log, Logged, by_worker, nap, this_worker

FINITE = {**RANDOM_ACCESS, **ARRANGED}
EITHER = {**FINITE, **ENDLESS}

finite = pytest.mark.parametrize('name', named(FINITE))
either = pytest.mark.parametrize('name', named(EITHER))

# States are made by the caller: by default with pools of two kinds.
MOST = [name for name in BACKENDS if name not in ('threads', 'fork')]

# These take long to start.
SLOW_STARTS = ['forkserver', 'spawn', 'process_executor']


def arguments(name, shuffle, kwargs):
    """Return the arguments of a stream; weighted sources have no order."""
    unordered = shuffle == 'in_order' and name in UNORDERED
    return {**SHUFFLES[shuffle](), **({'shuffle': 7} if unordered else {}), **kwargs}


def serial_stream(name, shuffle, batch_size=BATCH_SIZE, **kwargs):
    return EITHER[name]().batch_iterator(batch_size, **arguments(name, shuffle, kwargs))


def streams(pool, name, shuffle, batch_size=BATCH_SIZE, **kwargs):
    """Open a serial stream, and one of a pool that makes few batches ahead, over sources of a name."""
    parallel = pool.parallel_data_source(EITHER[name](), 4)
    pooled = parallel.batch_iterator(batch_size, **arguments(name, shuffle, kwargs))
    return serial_stream(name, shuffle, batch_size, **kwargs), pooled


# The same batches.


@on(EVERY_LOCAL, slow=SLOW)
@finite
def test_batches_equal_the_serial_ones(pool, name):
    source, batch_sizes = FINITE[name](), (BATCH_SIZE,) if name in FIXED_SIZE else (BATCH_SIZE, 1, 100)
    parallel = pool.parallel_data_source(source)
    first, *others = SHUFFLES.values()
    # The first batch of a size may be the caller's.
    for batch_size, make in itertools.product(batch_sizes, [first, first, *others]):
        expected = source.batch_iterator(batch_size, **make())
        assert_same_batches(parallel.batch_iterator(batch_size, **make()), expected)


@on(CLUSTERS)
@finite
def test_batches_of_clusters_equal_the_serial_ones(pool, name):
    for shuffle in SHUFFLES:
        serial, pooled = streams(pool, name, shuffle)
        assert_same_batches(pooled, serial)


@on(BACKENDS)
def test_batches_are_made_by_the_workers(pool):
    parallel = pool.parallel_data_source(numbers(60).map(by_worker))
    list(parallel.batch_iterator(20))
    makers = {tuple(maker) for _, maker in parallel.batch_iterator(3)}
    makers |= {tuple(maker) for _, maker in parallel.batch_iterator(20)}
    # The first batch of a size may be the caller's, never more.
    later = {tuple(maker) for _, maker in parallel.batch_iterator(3)}
    assert this_worker() not in later
    assert len(makers | later) >= 2


@on(EVERY, slow=SLOW)
@finite
def test_options_mean_what_they_mean_to_serial_streams(pool, name):
    for kwargs in ({'shard': (0, 3)}, {'shard': (2, 3)}, {'drop_last': True}):
        assert_same_batches(*streams(pool, name, 'seed', **kwargs))


@pytest.mark.slow
@on(EVERY, slow=[*SLOW, *THREADS])
@pytest.mark.parametrize('name', named(ENDLESS))
def test_endless_batches_equal_the_serial_ones(pool, name):
    for shuffle in SHUFFLES:
        serial, pooled = streams(pool, name, shuffle)
        assert_same_batches(itertools.islice(pooled, 15), itertools.islice(serial, 15))


@on(EVERY)
def test_an_empty_source_has_no_batches(pool):
    assert list(pool.parallel_data_source(ArrayDataSource(arrays(0))).batch_iterator(3, shuffle=1)) == []


@on(EVERY)
def test_random_functions_draw_the_same_numbers(pool):
    source = numbers(40).map(jitter, rng=True)
    parallel = pool.parallel_data_source(source)
    for seed, epoch in itertools.product((3, None), (0, 1)):
        expected = source.batch_iterator(3, shuffle=seed, epoch=epoch)
        assert_same_batches(parallel.batch_iterator(3, shuffle=seed, epoch=epoch), expected)


@on([f'{kind} of {count}' for kind in BACKENDS for count in (1, 2, 5)], slow=SLOW_STARTS)
def test_random_functions_draw_the_same_numbers_in_any_number_of_workers(pool):
    source = numbers(60).map(nap).map(jitter, rng=True)
    parallel = pool.parallel_data_source(source)
    expected = list(source.batch_iterator(4, shuffle=5, epoch=2))
    for position in (0, 7):
        saved, resumed = (parallel.batch_iterator(4, shuffle=5, epoch=2) for _ in range(2))
        assert_same_batches(itertools.islice(saved, position), expected[:position])
        resumed.load_state_dict(saved.state_dict())
        assert_same_batches(resumed, expected[position:])


@on(EVERY, slow=SLOW)
@pytest.mark.parametrize('buffer_size', [1, 2, 20])
def test_any_buffer_size_gives_the_same_batches(pool, buffer_size):
    source = ArrayDataSource(arrays(50), include_indices=True)
    parallel = pool.parallel_data_source(source, batch_buffer_size=buffer_size)
    for make in SHUFFLES.values():
        expected = list(source.batch_iterator(4, **make()))
        for _ in range(2):
            assert_same_batches(parallel.batch_iterator(4, **make()), expected)


@on(EVERY, slow=SLOW)
def test_thousands_of_tiny_batches_equal_the_serial_ones(pool):
    source = ArrayDataSource(arrays(1001))
    for buffer_size in (1, 20, 500):
        parallel = pool.parallel_data_source(source, buffer_size)
        assert_same_batches(parallel.batch_iterator(1, shuffle=3), source.batch_iterator(1, shuffle=3))


@on(EVERY, slow=SLOW)
def test_epochs_with_one_generator_equal_the_serial_ones(pool):
    source = ArrayDataSource(arrays(50))
    parallel = pool.parallel_data_source(source)
    for make in DRAWN_SHUFFLES.values():
        ours, theirs = (make()['shuffle'] for _ in range(2))
        for _ in range(4):
            assert_same_batches(parallel.batch_iterator(7, shuffle=ours), source.batch_iterator(7, shuffle=theirs))


# Length, state, position.


@on(EVERY, slow=MOST)
@either
def test_states_and_statistics_equal_the_serial_ones_at_every_position(pool, name):
    for shuffle in SHUFFLES:
        serial, pooled = streams(pool, name, shuffle)
        for _ in range(8):
            assert pooled.state_dict() == serial.state_dict()
            assert pooled.statistics() == serial.statistics()
            assert (next(pooled, None) is None) == (next(serial, None) is None)


def rests(name, shuffle):
    """Give, for some positions of a serial stream, the position and the batches from there on."""
    batches = list(itertools.islice(serial_stream(name, shuffle), 6))
    n = len(batches)
    return [(position, batches[position:]) for position in sorted({0, n // 4, n // 2, n})]


@on(EVERY_LOCAL, slow=[*MOST, 'threads'])
@either
def test_a_serial_state_loads_into_a_pooled_stream(pool, name):
    for shuffle in SHUFFLES:
        for position, rest in rests(name, shuffle):
            serial, pooled = streams(pool, name, shuffle)
            list(itertools.islice(serial, position))
            pooled.load_state_dict(serial.state_dict())
            assert pooled.position == position
            assert_same_batches(itertools.islice(pooled, len(rest)), rest)


@on(EVERY_LOCAL, slow=[*MOST, 'fork'])
@either
def test_a_pooled_state_loads_into_a_serial_stream(pool, name):
    for shuffle in SHUFFLES:
        for position, rest in rests(name, shuffle):
            serial, pooled = streams(pool, name, shuffle)
            list(itertools.islice(pooled, position))
            serial.load_state_dict(pooled.state_dict())
            assert serial.position == position
            assert_same_batches(itertools.islice(serial, len(rest)), rest)


@on(EVERY)
def test_a_state_that_does_not_fit_is_refused(pool):
    parallel = pool.parallel_data_source(numbers(20))
    state = parallel.batch_iterator(4, shuffle=1).state_dict()
    with pytest.raises(StateMismatchError, match='shuffle of the state'):
        parallel.batch_iterator(4, shuffle=2).load_state_dict(state)


@pytest.mark.slow
@pytest.mark.filterwarnings('ignore:this stream has ended')
@on(EVERY_LOCAL, slow=[*MOST, 'threads'])
@either
def test_skipping_equals_iterating(pool, name):
    for shuffle, (first, skipped) in itertools.product(SHUFFLES, [(0, 3), (2, 0), (1, 4)]):
        serial, pooled = streams(pool, name, shuffle)
        for stream in (serial, pooled):
            list(itertools.islice(stream, first))
            stream.skip(skipped)
        assert pooled.statistics() == serial.statistics()
        assert_same_batches(itertools.islice(pooled, 5), itertools.islice(serial, 5))


# Working ahead.


@on(BACKENDS)
@pytest.mark.parametrize('buffer_size', [1, 4])
def test_batches_are_made_before_the_first_is_asked_for(pool, buffer_size, tmp_path):
    log = Log(tmp_path / 'made')
    source = numbers(60).map(nap).map(Logged(log))
    stream = pool.parallel_data_source(source, batch_buffer_size=buffer_size).batch_iterator(3)
    wait_until(lambda: len(log.lines()) >= buffer_size)
    assert len(log.lines()) == buffer_size
    assert stream.position == 0


@on(EVERY)
@pytest.mark.parametrize('buffer_size', [1, 4])
def test_the_workers_are_never_further_ahead_than_the_buffer(pool, buffer_size, tmp_path):
    log = Log(tmp_path / 'made')
    source = numbers(36).map(nap).map(Logged(log))
    stream = pool.parallel_data_source(source, batch_buffer_size=buffer_size).batch_iterator(3)
    for _ in stream:
        time.sleep(0.01)
        assert len(log.lines()) <= stream.position + buffer_size


@pytest.mark.slow
@on(EVERY)
def test_the_workers_are_never_further_ahead_with_tiny_batches(pool, tmp_path):
    log = Log(tmp_path / 'made')
    parallel = pool.parallel_data_source(numbers(200).map(Logged(log)), batch_buffer_size=40)
    list(parallel.batch_iterator(1))  # tells the pool that they are tiny
    stream = parallel.batch_iterator(1)
    for _ in itertools.islice(stream, 100):
        time.sleep(0.001)
        assert len(log.lines()) - 200 <= stream.position + 40


@on(EVERY)
def test_a_generator_is_drawn_from_when_batch_iterator_is_called(pool):
    parallel = pool.parallel_data_source(numbers(20))
    for make in DRAWN_SHUFFLES.values():
        ours, theirs = (make()['shuffle'] for _ in range(2))
        stream = parallel.batch_iterator(4, shuffle=ours)
        theirs.permutation(20)
        assert ours.random() == theirs.random()
        assert stream.position == 0


class CountingSampler(PlainSampler):
    """A sampler that counts the batches whose indices were drawn."""

    drawn = 0

    def shuffled_indices_batch_iterator(self, batch_size, shuffle_rng):
        for indices in super().shuffled_indices_batch_iterator(batch_size, shuffle_rng):
            self.drawn += 1
            yield indices


@on(EVERY)
def test_indices_are_drawn_only_as_far_as_batches_may_wait(pool):
    sampler = CountingSampler(1000)
    source = ArrayDataSource([np.arange(1000)], sampler=sampler)
    stream = pool.parallel_data_source(source, batch_buffer_size=8).batch_iterator(1, np.random.RandomState(3))
    assert sampler.drawn <= 8
    for _ in itertools.islice(stream, 100):
        assert sampler.drawn <= stream.position + 8


@on(EVERY)
def test_two_streams_draw_from_one_generator_in_the_order_of_their_making(pool):
    source, ours, theirs = numbers(20), np.random.RandomState(4), np.random.RandomState(4)
    parallel = pool.parallel_data_source(source)
    first, second = (parallel.batch_iterator(4, shuffle=ours) for _ in range(2))
    got = list(second), list(first)
    expected = [list(source.batch_iterator(4, shuffle=theirs)) for _ in range(2)]
    assert_same_batches(got[1], expected[0])
    assert_same_batches(got[0], expected[1])


# Several streams.


@on(EVERY)
def test_streams_of_one_pool_may_be_interleaved(pool):
    sources = [numbers(40), ArrayDataSource(arrays(30)), numbers(40, 100).map(nap)]
    pooled = [pool.parallel_data_source(source, 4).batch_iterator(3, shuffle=1) for source in sources]
    rounds = list(itertools.zip_longest(*pooled))
    for source, batches in zip(sources, zip(*rounds)):
        assert_same_batches([b for b in batches if b is not None], source.batch_iterator(3, shuffle=1))


@on(EVERY)
def test_streams_of_one_source_may_be_interleaved(pool):
    source = numbers(40)
    parallel = pool.parallel_data_source(source, 4)
    pooled = [parallel.batch_iterator(3, shuffle=seed) for seed in range(3)]
    for seed, batches in enumerate(zip(*zip(*pooled))):
        assert_same_batches(batches, source.batch_iterator(3, shuffle=seed))


@on(EVERY)
def test_threads_may_use_one_pool_at_a_time(pool):
    source, received = ArrayDataSource(arrays(300)), {}
    parallel = pool.parallel_data_source(source)

    def take(seed):
        received[seed] = list(parallel.batch_iterator(7, shuffle=seed)) + list(parallel.batch_iterator(7, shuffle=seed))

    threads = [threading.Thread(target=take, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed in range(3):
        assert_same_batches(received[seed], 2 * list(source.batch_iterator(7, shuffle=seed)))


@on(EVERY)
def test_two_pools_may_use_one_source(pool):
    source = ArrayDataSource(arrays(40))
    with open_pool('threads') as other:
        pooled = [each.parallel_data_source(source).batch_iterator(3, shuffle=2) for each in (pool, other)]
        expected = list(source.batch_iterator(3, shuffle=2))
        for batches in zip(*zip(*pooled)):
            assert_same_batches(batches, expected)


@on(EVERY)
def test_a_stream_left_in_the_middle_does_not_disturb_the_next(pool):
    source = ArrayDataSource(arrays(400))
    parallel = pool.parallel_data_source(source, 6)
    for seed in range(12):
        stream = parallel.batch_iterator(5, shuffle=seed)
        expected = list(itertools.islice(source.batch_iterator(5, shuffle=seed), seed))
        assert_same_batches(itertools.islice(stream, seed), expected)


@on(EVERY)
def test_a_closed_stream_ends(pool):
    with pool.parallel_data_source(numbers(40)).batch_iterator(3) as stream:
        next(stream)
    stream.close()
    assert next(stream, None) is None


# In the place of a source.


@on(EVERY)
def test_it_counts_the_samples_of_its_source(pool):
    for source in (numbers(40), numbers(4, repeats=-1)):
        assert pool.parallel_data_source(source).num_samples() == source.num_samples()


@on(EVERY)
def test_results_of_batches_are_concatenated(pool):
    (result,) = pool.parallel_data_source(numbers(50)).batch_map_concat(lambda x: x * 2, 7)
    np.testing.assert_array_equal(result, np.arange(50) * 2)


@on(EVERY)
def test_results_of_batches_are_averaged(pool):
    (result,) = pool.parallel_data_source(numbers(50)).batch_map_mean(np.sum, 7, shuffle=3)
    assert result == 24.5


@on(EVERY)
def test_a_function_may_be_mapped_on_top(pool):
    source = ArrayDataSource(arrays(30))
    for make in SHUFFLES.values():
        pooled = pool.parallel_data_source(source).map(keep).batch_iterator(4, **make())
        assert_same_batches(pooled, source.map(keep).batch_iterator(4, **make()))


@on(EVERY, slow=SLOW)
def test_random_functions_mapped_on_top_draw_the_same_numbers(pool):
    source = ArrayDataSource(arrays(30))
    pooled = pool.parallel_data_source(source).map(jitter, rng=True).map(jitter, rng=True)
    for make in SHUFFLES.values():
        expected = source.map(jitter, rng=True).map(jitter, rng=True).batch_iterator(4, **make())
        assert_same_batches(pooled.batch_iterator(4, **make()), expected)


@on(EVERY, slow=SLOW)
def test_parallel_sources_may_be_members_of_a_composite(pool):
    sources = [ArrayDataSource(arrays(30)), ArrayDataSource(arrays(20))]
    pooled = CompositeDataSource([pool.parallel_data_source(source) for source in sources])
    for make in SHUFFLES.values():
        expected = CompositeDataSource(sources).batch_iterator(4, **make())
        assert_same_batches(pooled.batch_iterator(4, **make()), expected)


@on(EVERY, slow=SLOW)
def test_parallel_sources_may_be_members_of_a_choice(pool):
    sources = [ArrayDataSource(arrays(30)), ArrayDataSource(arrays(20))]
    pooled = ChoiceDataSource([pool.parallel_data_source(source) for source in sources])
    for make in PURE_SHUFFLES.values():
        expected = ChoiceDataSource(sources).batch_iterator(4, **make())
        assert_same_batches(pooled.batch_iterator(4, **make()), expected)


@on(EVERY, slow=SLOW)
@pytest.mark.parametrize('name', ['array', 'composite', 'choice', 'map_rng'])
def test_a_parallel_source_may_be_read_beside_a_serial_one(pool, name):
    source, other = RANDOM_ACCESS[name](), numbers(30)
    pooled = CompositeDataSource([pool.parallel_data_source(source), other])
    assert_same_batches(pooled.batch_iterator(4), CompositeDataSource([source, other]).batch_iterator(4))


# Trees of sources over that of a pool, and what it reads.
AROUND_POOLS = {
    'alone': lambda source: source,
    'map': lambda source: source.map(jitter, rng=True).map(jitter, rng=True),
    'composite': lambda source: CompositeDataSource([source, numbers(13), source], stop=0).map(jitter, rng=True),
    'choice': lambda source: ChoiceDataSource([source.map(jitter, rng=True), source], weights=[2, 1], stop='all'),
}


@pytest.mark.parametrize('name', AROUND_POOLS)
def test_a_batch_by_its_number_is_made_by_the_caller(name):
    source = ArrayDataSource(arrays(30)).map(jitter, rng=True)
    with WorkerThreadPool(1) as opened:
        pooled = AROUND_POOLS[name](opened.parallel_data_source(source))
    for make in PURE_SHUFFLES.values():
        expected = list(AROUND_POOLS[name](source).batch_iterator(4, **make()))
        assert_same_batches([pooled.batch(k, 4, **make()) for k in range(len(expected))], expected)


def refuse_42(numbers, *others):
    if 42 in numbers:
        raise OSError('disk gone', (numbers, *others))
    return (numbers, *others)


@pytest.mark.parametrize('name', AROUND_POOLS)
def test_an_error_is_replayed_by_the_caller(threads, name):
    source = ArrayDataSource(arrays(30)).map(refuse_42)
    pooled, expected = AROUND_POOLS[name](threads.parallel_data_source(source)), AROUND_POOLS[name](source)
    for make in PURE_SHUFFLES.values():
        errors = []
        for one in (pooled, expected):
            with pytest.raises(OSError, match='disk gone') as caught:
                list(one.batch_iterator(4, **make()))
            errors.append(caught.value)
        with pytest.raises(OSError, match='disk gone') as caught:
            pooled.replay(errors[0])
        assert caught.value.__notes__ == errors[1].__notes__
        assert_same_batch(caught.value.args[1], errors[1].args[1])


@pytest.mark.parametrize('name', ['composite', 'choice'])
def test_a_state_of_several_streams_of_pools_is_refused(threads, name):
    pooled = AROUND_POOLS[name](threads.parallel_data_source(numbers(30)))
    with pooled.batch_iterator(4, shuffle=5) as stream, pytest.raises(TypeError, match=r'source\.batch\(0, ...\)'):
        pooled.replay(stream.state_dict())


@pytest.mark.parametrize('name', ['alone', 'map'])
def test_a_state_is_replayed_by_the_caller(threads, name):
    pooled = AROUND_POOLS[name](threads.parallel_data_source(ArrayDataSource(arrays(30)).map(jitter, rng=True)))
    for make in SHUFFLES.values():
        stream = pooled.batch_iterator(4, **make())
        stream.skip(3)
        shuffle = make().get('shuffle')
        assert_same_batch(pooled.replay(stream.state_dict(), shuffle=shuffle), next(stream))


@pytest.mark.parametrize('copied', [copy.deepcopy, pickle.dumps])
def test_a_copy_of_what_has_workers_is_refused(copied):
    with WorkerThreadPool(1) as opened:
        parallel = opened.parallel_data_source(ArrayDataSource([np.arange(9)]))
        for thing in [opened, parallel, parallel.batch_iterator(3), opened.work_stream([(abs, (1,))])]:
            with pytest.raises(TypeError, match='cannot be copied or pickled'):
                copied(thing)
