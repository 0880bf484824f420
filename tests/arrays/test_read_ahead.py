"""Storage is read ahead: every chunk once for all of its rows that are needed soon."""

import gc
import itertools
import weakref
from collections import Counter

import numpy as np
import pytest

from batchup._arrays.read_ahead import ReadAhead
from batchup._arrays.storage_rows import ACCOUNT_BYTES
from batchup.data_source import ArrayDataSource, ChoiceDataSource, CompositeDataSource, ConcatDataSource
from batchup.sampling import BlockShuffle, WeightedSampler
from batchup.work_pool import WorkerThreadPool

from ..harness.waiting import until
from .chunked import Chunked, numbers

N = 5000
ROW = 64 + ACCOUNT_BYTES  # what a row takes, in bytes


def check_equal(batches, expected):
    for batch, other in itertools.zip_longest(batches, expected):
        np.testing.assert_array_equal(batch, other)
        assert batch.dtype == other.dtype


def batches_of(source, *args, **kwargs):
    return [array for (array,) in source.batch_iterator(*args, **kwargs)]


SAMPLERS = {
    'standard': {},
    'repeated': {'repeats': 3},
    'subset': {'indices': np.random.RandomState(1).permutation(N)[:1234] - N},
    'weighted': {'sampler': WeightedSampler(np.arange(N) % 7)},
}
ORDERS = {
    'standard': [None, 42, BlockShuffle(1, 100, window=4)],
    'repeated': [None, 42],
    'subset': [None, 42],
    'weighted': [42],
}


@pytest.mark.parametrize('read_ahead', [0, 1, 200 * ROW, 2**28])
@pytest.mark.parametrize('sampler', SAMPLERS)
def test_batches_are_those_of_an_array_in_memory(sampler, read_ahead):
    stored = numbers(N, 100)
    source = ArrayDataSource([stored], **SAMPLERS[sampler], read_ahead=read_ahead)
    expected = ArrayDataSource([stored.array], **SAMPLERS[sampler])
    for order, size in itertools.product(ORDERS[sampler], [7, 300, 2 * N]):
        batches, others = (
            (array for (array,) in itertools.islice(each.batch_iterator(size, order), 20_000 // size))
            for each in (source, expected)
        )
        check_equal(batches, others)


def test_a_sequential_generator_is_not_drawn_from_early():
    stored = numbers(N, 100)
    for sampler in SAMPLERS.values():
        rngs = np.random.RandomState(1), np.random.RandomState(1)
        streams = [
            ArrayDataSource([data], **sampler).batch_iterator(64, rng)
            for data, rng in zip((stored, stored.array), rngs)
        ]
        for _ in range(15):
            check_equal(*(next(stream) for stream in streams))
            assert rngs[0].randint(2**31) == rngs[1].randint(2**31)


@pytest.mark.parametrize('order', [None, BlockShuffle(1, 100, window=8), 42, np.random.RandomState(1)])
def test_a_chunk_is_read_once_if_its_rows_find_room(order):
    stored = numbers(N, 100)
    room = N if isinstance(order, (int, np.random.RandomState)) else N // 2
    batches_of(ArrayDataSource([stored], read_ahead=room * ROW), 50, order)
    assert Counter(stored.reads) == dict.fromkeys(range(N // 100), 1)


@pytest.mark.parametrize('workers', [0, 2])
def test_what_a_sequential_generator_has_drawn_is_read_ahead(workers):
    stored = numbers(N, 100)
    source = ArrayDataSource([stored])
    with WorkerThreadPool(max(workers, 1)) as pool:
        list((pool.parallel_data_source(source) if workers else source).batch_iterator(5, np.random.RandomState(1)))
    assert Counter(stored.reads) == dict.fromkeys(range(N // 100), 1)


def test_a_full_shuffle_reads_storage_less_often_than_room_goes_into_it():
    stored = numbers(10 * N, 100)
    source = ArrayDataSource([stored], read_ahead=10 * N // 8 * ROW)
    assert len(batches_of(source, 64, 42)) == 782
    assert len(stored.reads) < 7 * 500


def test_the_first_batch_reads_nothing_for_others():
    stored = numbers(N, 100)
    (batch,) = next(ArrayDataSource([stored]).batch_iterator(8, 42))
    assert Counter(stored.reads) == dict.fromkeys(np.unique(batch[:, 0] // 16 // 100).tolist(), 1)


def test_arrays_with_chunks_of_their_own():
    one, other, labels = numbers(N, 100), numbers(N, 333, width=2), np.arange(N)
    source = ArrayDataSource([one, labels, other])
    for x, y, z in source.batch_iterator(50, 3):
        np.testing.assert_array_equal(x, one.array[y])
        np.testing.assert_array_equal(z, other.array[y])
    assert (len(one.reads), len(other.reads)) == (50, 16)


def test_members_of_a_composite_read_ahead_each_for_itself():
    stored = [numbers(N, 100), numbers(2 * N, 250)]
    source = CompositeDataSource([ArrayDataSource([data]) for data in stored]).map(lambda x, y: (x, y))
    expected = CompositeDataSource([ArrayDataSource([data.array]) for data in stored])
    for batch, other in zip(source.batch_iterator(40, 7), expected.batch_iterator(40, 7)):
        np.testing.assert_array_equal(batch, other)
    assert [max(Counter(data.reads).values()) for data in stored] == [1, 1]


def test_a_state_restores_every_position():
    stored = numbers(N, 100)
    source = ArrayDataSource([stored], read_ahead=500 * ROW)
    expected = batches_of(ArrayDataSource([stored.array]), 128, 42)
    stream, other = source.batch_iterator(128, 42), source.batch_iterator(128, 42)
    for position in range(len(expected)):
        other.load_state_dict(stream.state_dict())
        np.testing.assert_array_equal(next(other)[0], expected[position])
        np.testing.assert_array_equal(next(stream)[0], expected[position])


@pytest.mark.parametrize('order', [None, 42, BlockShuffle(1, 100, window=8)])
def test_threads_share_what_they_read(order):
    stored = numbers(N, 100)
    source = ArrayDataSource([stored])
    expected = batches_of(ArrayDataSource([stored.array]), 50, order)
    with WorkerThreadPool(3) as pool:
        check_equal(batches_of(pool.parallel_data_source(source), 50, order), expected)
    assert Counter(stored.reads) == dict.fromkeys(range(N // 100), 1)


@pytest.mark.parametrize('workers', [0, 2])
@pytest.mark.parametrize('order', [None, 42])
def test_a_chunk_that_cannot_be_read_is_an_error_at_the_first_batch_that_needs_it(order, workers):
    stored = numbers(N, 100)
    stored.broken = {31}
    expected = batches_of(ArrayDataSource([stored.array]), 3, order)
    first = next(k for k, batch in enumerate(expected) if (batch[:, 0] // 1600 == 31).any())
    with WorkerThreadPool(max(workers, 1)) as pool:
        source = ArrayDataSource([stored])
        stream = (pool.parallel_data_source(source) if workers else source).batch_iterator(3, order)
        check_equal([next(stream)[0] for _ in range(first)], expected[:first])
        for _ in range(2):  # the stream stands there
            with pytest.raises(OSError, match='chunk 31 is broken') as caught:
                next(stream)
            assert any('in rows 3100 to 3199 of a Chunked' in note for note in caught.value.__notes__)
            assert stream.position == first
        stored.broken.clear()
        check_equal((array for (array,) in stream), expected[first:])


def test_what_is_read_ahead_is_let_go_with_the_stream():
    stored = numbers(N, 100)
    stream = ArrayDataSource([stored]).batch_iterator(64, 42)
    next(stream)
    gc.disable()
    try:
        readers = [weakref.ref(each) for each in gc.get_objects() if isinstance(each, ReadAhead)]
        (kept,) = [each for each in readers if each()._storage.array is stored]
        del stream
        assert until(lambda: kept() is None)
    finally:
        gc.enable()


@pytest.mark.parametrize('workers', [0, 2])
@pytest.mark.parametrize('end', ['close', 'exhaust'])
def test_what_is_read_ahead_is_let_go_at_the_end_of_a_stream(end, workers):
    stored = numbers(N, 100)
    with WorkerThreadPool(max(workers, 1)) as pool:
        source = ArrayDataSource([stored])
        stream = (pool.parallel_data_source(source) if workers else source).batch_iterator(64, 42)
        next(stream)
        kept = [weakref.ref(each) for each in gc.get_objects() if isinstance(each, ReadAhead)]
        kept = [each for each in kept if each()._storage.array is stored]
        if end == 'close':
            stream.close()
        else:
            assert sum(len(batch) for (batch,) in stream) == N - 64
        assert len(kept) == 1
        assert until(lambda: kept[0]() is None)


def test_an_array_that_has_got_another_shape_is_an_error():
    stored = numbers(N, 100)
    stream = ArrayDataSource([stored]).batch_iterator(64)
    next(stream)
    stored.shape = (N + 1, 16)
    with pytest.raises(ValueError, match='now has shape'):
        list(stream)


def test_a_chunk_of_concatenated_sources_is_read_once_too():
    stored = [numbers(N, 100), numbers(700, 64), numbers(N, 130)]
    chosen = np.random.RandomState(1).permutation(700)[:600]
    members = [ArrayDataSource([stored[0]]), ArrayDataSource([stored[1]], chosen), ArrayDataSource([stored[2].array])]
    source = ConcatDataSource(members)
    joined = np.concatenate([stored[0].array, stored[1].array[chosen], stored[2].array])
    for order in (None, 42):
        stored[0].reads.clear()
        check_equal(batches_of(source, 64, order), batches_of(ArrayDataSource([joined]), 64, order))
        assert Counter(stored[0].reads) == dict.fromkeys(range(N // 100), 1)
    stored[1].broken = {3}
    with pytest.raises(OSError, match='chunk 3 is broken') as caught:
        list(source.batch_iterator(64))
    assert any('rows 192 to 255 of a Chunked of shape (700, 16), data source 1' in n for n in caught.value.__notes__)


@pytest.mark.parametrize('options', [{}, {'weights': [1, 3], 'stop': 150}, {'stratified': True}])
def test_members_of_a_choice_read_ahead_each_for_itself(options):
    stored = [numbers(N, 100), numbers(2 * N, 250)]
    source = ChoiceDataSource([ArrayDataSource([data]) for data in stored], **options)
    expected = ChoiceDataSource([ArrayDataSource([data.array]) for data in stored], **options)
    check_equal(batches_of(source, 40, 7), batches_of(expected, 40, 7))
    assert [max(Counter(data.reads).values()) for data in stored] == [1, 1]


def test_negative_indices_of_a_member_count_from_its_end():
    stored = [numbers(700, 64), numbers(N, 100)]
    chosen = np.random.RandomState(1).randint(-700, 700, 900)
    source = ConcatDataSource([ArrayDataSource([stored[0]], chosen), ArrayDataSource([stored[1]])])
    joined = np.concatenate([stored[0].array[chosen], stored[1].array])
    for order in (None, 42):
        check_equal(batches_of(source, 64, order), batches_of(ArrayDataSource([joined]), 64, order))


def test_a_rank_whose_parts_are_empty_looks_ahead_no_further_than_others():
    stream = ArrayDataSource([numbers(N, 100)], repeats=-1).batch_iterator(1, shard=(0, 2))
    assert [len(batch) for (batch,) in itertools.islice(stream, 300)] == [0] * 300


def test_a_rare_member_of_a_choice_looks_ahead_no_further_than_others():
    members = [ArrayDataSource([numbers(N, 100)], repeats=-1) for _ in range(2)]
    stream = ChoiceDataSource(members, weights=[1, 1e-9]).batch_iterator(2)
    batches = [array[:, 0].tolist() for (array,) in itertools.islice(stream, 3)]
    assert batches == [[0, 16], [0, 16], [32, 48]]


class Unsteady(Chunked):
    """An array of which a chunk cannot be read the first time that this is tried."""

    def __getitem__(self, rows):
        try:
            return super().__getitem__(rows)
        except OSError:
            self.broken = set()
            raise


def test_a_chunk_that_can_be_read_again_is_read_ahead_again():
    stored = Unsteady(numbers(N, 100).array, 100)
    stored.broken = {31}
    check_equal(batches_of(ArrayDataSource([stored]), 50, 42), batches_of(ArrayDataSource([stored.array]), 50, 42))
    assert len(stored.reads) < 200


def test_another_array_in_data_is_read_from_the_next_window_on():
    one, other = numbers(N, 100), Chunked(-numbers(N, 100).array, 50)
    source = ArrayDataSource([one])
    stream = source.batch_iterator(10, 42)
    next(stream)
    source.data[0] = other
    check_equal((array for (array,) in itertools.islice(stream, 255, None)), batches_of(source, 10, 42)[256:])


def test_another_array_in_the_data_of_a_member_must_be_like_those_of_others():
    members = [ArrayDataSource([numbers(N, 100)]), ArrayDataSource([numbers(700, 64).array])]
    source = ConcatDataSource(members)
    members[1].data[0] = np.zeros((700, 16))
    with pytest.raises(TypeError, match='array 0 is int32 in data source 0, but float64 in data source 1'):
        next(source.batch_iterator(64, 42))
