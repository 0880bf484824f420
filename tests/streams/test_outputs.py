"""Results go into given arrays, each row to its place."""

import re
import weakref

import numpy as np
import pytest

from batchup.data_source import ArrayDataSource, IteratorDataSource, batch_map_concat, merge
from batchup.errors import ReplayError
from batchup.sampling import WeightedSampler

from ..cases import SHUFFLES, numbers
from ..harness.pools import on
from ..harness.ranks import (
    SHUFFLE_KINDS,
    SOURCE,
    N,
    X,
    assert_same_results,
    double,
    first_array,
    take_part,
    take_parts,
    zeros,
)


@pytest.mark.parametrize('shuffle', SHUFFLE_KINDS)
def test_rows_are_written_where_they_belong(shuffle):
    out = zeros()
    results = SOURCE.batch_map_concat(double, 4, out=out, **SHUFFLE_KINDS[shuffle]())
    assert results[0] is out[0]
    assert_same_results(out, (X * 2, np.arange(N)))


def test_one_array_is_written_into():
    out = np.zeros(N)
    (result,) = SOURCE.batch_map_concat(lambda x, y: y, 4, out=out, shuffle=1)
    assert result is out
    assert out.tolist() == list(range(N))


def test_every_rank_writes_its_rows_and_no_others():
    out = zeros()
    for rank in range(3):
        before = out[1].copy()
        SOURCE.batch_map_concat(double, 4, out=out, shuffle=1, shard=(rank, 3))
        written = take_part(SOURCE, rank, 3, shuffle=1).indices
        np.testing.assert_array_equal(np.flatnonzero(before != out[1]), np.sort(written))
    assert_same_results(out, (X * 2, np.arange(N)))


def test_a_memory_map_is_written_into(tmp_path):
    for rank in range(2):
        out = np.memmap(tmp_path / 'out', np.float32, 'r+' if rank else 'w+', shape=(N, 3))
        SOURCE.batch_map_concat(lambda x, y: x * 2, 4, out=out, shuffle=42, shard=(rank, 2))
        out.flush()
    np.testing.assert_array_equal(np.fromfile(tmp_path / 'out', np.float32).reshape(N, 3), X * 2)


def test_parts_are_merged_into_a_memory_map(tmp_path):
    out = np.lib.format.open_memmap(tmp_path / 'out.npy', 'w+', np.float32, (N, 3))
    (result,) = merge(take_parts(SOURCE, 3, func=lambda x, y: x, shuffle=1), out=out)
    assert result is out
    np.testing.assert_array_equal(out, X)


def test_a_resumed_stream_writes_what_is_left():
    out = zeros()
    saved = SOURCE.batch_iterator(4, 42)
    batch_map_concat(double, saved, n_batches=3, out=out)
    resumed = SOURCE.batch_iterator(4, 42)
    resumed.load_state_dict(saved.state_dict())
    batch_map_concat(double, resumed, out=out)
    assert_same_results(out, (X * 2, np.arange(N)))


@pytest.mark.parametrize('sampler', [WeightedSampler(np.ones(N), n_samples=N), None])
def test_rows_without_a_place_of_their_own_are_written_as_they_come(sampler):
    source = ArrayDataSource([np.arange(N)], **({'sampler': sampler} if sampler else {'indices': [3, 3, *range(21)]}))
    out, stream = np.zeros(N), source.batch_iterator(4, 42)
    stream.skip(2)
    batch_map_concat(first_array, stream, out=out)
    (expected,) = source.batch_map_concat(first_array, 4, shuffle=42)
    np.testing.assert_array_equal(out, [0] * 8 + expected[8:].tolist())


def test_a_resumed_stream_of_a_generator_cannot_tell_which_rows_are_before_it():
    source = ArrayDataSource([np.arange(N)], sampler=WeightedSampler(np.ones(N)))
    stream = source.batch_iterator(4, np.random.RandomState(1))
    stream.skip(2)
    with pytest.raises(ReplayError, match='use a seed'):
        batch_map_concat(first_array, stream, n_batches=3, out=np.zeros(N))


@pytest.mark.parametrize('batches', [iter([(X[:5],), (X[5:],)]), [(X[:5],), (X[5:],)]])
def test_batches_of_an_iterator_are_written_one_after_the_other(batches):
    out = np.zeros((N + 2, 3))
    batch_map_concat(lambda x: x, batches, out=out)
    np.testing.assert_array_equal(out, [*X, [0] * 3, [0] * 3])


def test_batches_of_a_source_without_plan_are_written_one_after_the_other():
    out = np.zeros(N)
    IteratorDataSource(iter([(np.arange(9),), (np.arange(14),)])).batch_map_concat(first_array, 4, out=out)
    assert out.tolist() == [*range(9), *range(14)]


def test_exactly_n_batches_are_pulled():
    batches = iter([(np.full(2, k),) for k in range(5)])
    out = np.zeros(6)
    batch_map_concat(first_array, batches, n_batches=3, out=out)
    assert (out.tolist(), next(batches)[0].tolist()) == ([0, 0, 1, 1, 2, 2], [3, 3])


def test_endless_data_is_written_into_what_holds_it():
    out = np.zeros(20)
    numbers(7, repeats=-1).batch_map_concat(first_array, 5, n_batches=4, out=out)
    assert out.tolist() == [k % 7 for k in range(20)]


def test_nothing_is_kept():
    alive = []

    def remember(x, y):
        assert all(reference() is None for reference in alive)
        result = x * 2
        alive.append(weakref.ref(result))
        return result

    SOURCE.batch_map_concat(remember, 2, out=zeros()[0], shuffle=1)
    assert len(alive) == 12
    assert all(reference() is None for reference in alive)


@pytest.mark.parametrize(
    ('out', 'error', 'message'),
    [
        (list(X), ValueError, r'out\[0\] must have a row for each of 23 samples, got shape \(3,\)'),
        (X.tobytes(), TypeError, 'out must be an array, or a tuple or list of arrays, got bytes'),
        (np.array(3), TypeError, 'out must be an array'),
        ((X.copy(), None), TypeError, r'out\[1\] must be an array, or .* got NoneType'),
        ((), ValueError, 'got none'),
        (np.broadcast_to(np.zeros(3), (N, 3)), ValueError, 'out is read-only; open a memory map with mode'),
        (np.zeros((N - 1, 3)), ValueError, r'out must have a row for each of 23 samples, got shape \(22, 3\)'),
        (np.zeros((N + 1, 3)), ValueError, r'out must have a row for each of 23 samples, got shape \(24, 3\)'),
    ],
)
def test_arrays_that_cannot_be_written_into(out, error, message):
    with pytest.raises(error, match=message):
        SOURCE.batch_map_concat(lambda x, y: pytest.fail('called'), 4, out=out)


@pytest.mark.parametrize(
    ('out', 'error', 'message'),
    [
        (np.zeros((N, 3), int), TypeError, 'has results of dtype float32 for out of dtype int'),
        (np.zeros((N, 4)), ValueError, r'has rows of shape \(3,\) for out of shape \(23, 4\)'),
        (np.zeros(N), ValueError, r'has rows of shape \(3,\) for out of shape \(23,\)'),
        ([np.zeros((N, 3)), np.zeros(N)], ValueError, 'has 1 arrays of results, but out is for 2'),
    ],
)
@pytest.mark.parametrize('merged', [False, True])
def test_results_that_do_not_fit_are_not_written(out, error, message, merged):
    def write():
        if merged:
            return merge(take_parts(SOURCE, 2, func=lambda x, y: x + 1), out=out)
        return SOURCE.batch_map_concat(lambda x, y: x + 1, 4, out=out)

    with pytest.raises(error, match=message):
        write()
    assert not np.any(out[0])


# Values that an array of another dtype cannot hold, and values that it can.
LOST = [
    (np.array([5, 200]), 'i1', '200'),
    (np.array([5, -1]), 'u8', '-1'),
    (np.array([5, 2**63], 'u8'), 'i8', '9223372036854775808'),
    (np.array([5, 2**24 + 1]), 'f4', '16777217'),
    (np.array([5, 2**53 + 1]), 'f8', '9007199254740993'),
    (np.array([5, 1e300]), 'f4', '1e+300'),
    (np.array([5, 1 + 1e300j]), 'c8', '(1+1e+300j)'),
    (np.array(['ab', 'abc']), 'U2', 'abc'),
    (np.array([b'ab', b'abc']), 'S2', "b'abc'"),
    (np.array(['2020-01-01', '2020-01-01T12'], 'M8[h]'), 'M8[D]', '2020-01-01T12'),
    (np.array(['NaT', 100_000_000_000], 'M8[s]'), 'M8[ns]', '5138-11-16T09:46:40'),
]
KEPT = [
    (np.array([5, -128]), 'i1'),
    (np.array([0, 255]), 'u1'),
    (np.array([0, 2**53]), 'f8'),
    (np.array([np.nan, np.inf, 1e38, 0.1]), 'f4'),
    (np.array([True, False]), 'i1'),
    (np.array(['ab', 'c'], 'U9'), 'U2'),
    (np.array(['NaT', '2020-01-01'], 'M8[s]'), 'M8[D]'),
    (np.array([1, -2], '>i4'), '<i4'),
    (np.array([1, -2]), 'O'),
]


@pytest.mark.parametrize(('values', 'dtype', 'shown'), LOST)
def test_values_that_an_array_cannot_hold_are_not_written(values, dtype, shown):
    first, out = np.zeros(4), np.zeros(4, dtype)
    batches = [(values[:1].repeat(2),), (values,)]
    message = f'what func returned has the value {shown}, which out[1] of dtype {out.dtype} cannot hold'
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        batch_map_concat(lambda x: (np.ones(2), x), batches, out=(first, out))
    assert error.value.__notes__ == ['in batch 1']
    assert first.tolist() == [1, 1, 0, 0]
    np.testing.assert_array_equal(out[:2], values[:1].astype(dtype).repeat(2))


@pytest.mark.parametrize(('values', 'dtype'), KEPT)
def test_values_that_an_array_can_hold_are_written(values, dtype):
    out = np.zeros(len(values), dtype)
    batch_map_concat(first_array, [(values,)], out=out)
    np.testing.assert_array_equal(out, values.astype(dtype))


@pytest.mark.parametrize(
    ('values', 'dtype'),
    [([3.0], int), ([np.nan], 'i1'), (['3'], int), ([2], bool), ([1j], float), ([None], float), ([20], 'U2')],
)
def test_values_of_another_kind_are_not_written(values, dtype):
    with pytest.raises(TypeError, match=r'has results of dtype .* for out of dtype') as error:
        batch_map_concat(first_array, [(np.array(values),)], out=np.zeros(1, dtype))
    assert error.value.__notes__ == ['in batch 0']


def test_masked_values_need_a_mask():
    values, out = np.ma.masked_array([1, 2], [False, True]), np.ma.zeros(2, int)
    with pytest.raises(TypeError, match='has masked values, but out has no mask; fill them first'):
        batch_map_concat(first_array, [(values,)], out=np.zeros(2, int))
    batch_map_concat(first_array, [(values,)], out=out)
    assert out.tolist() == [1, None]


def test_masks_are_merged():
    parts = take_parts(SOURCE, 3, func=lambda x, y: np.ma.masked_array(y, y % 3 == 0), shuffle=1)
    assert merge(parts)[0].tolist() == [None if k % 3 == 0 else k for k in range(N)]


def test_a_rank_whose_values_do_not_fit_is_named():
    parts = take_parts(SOURCE, 2, func=lambda x, y: y * 10, batch_size=N)
    with pytest.raises(ValueError, match='the part of rank 1 has the value 130, which out of dtype int8 cannot hold'):
        merge(parts, out=np.zeros(N, np.int8))


def test_more_rows_than_an_array_has():
    with pytest.raises(ValueError, match='the results have a row 10, but out has 9 rows'):
        batch_map_concat(first_array, [(np.arange(6),), (np.arange(5),)], out=np.zeros(9))


def test_parts_are_checked_before_any_is_written():
    out = np.zeros((N, 3))
    parts = [take_part(SOURCE, 0, 2, func=lambda x, y: x), take_part(SOURCE, 1, 2, func=lambda x, y: x * 1j)]
    with pytest.raises(TypeError, match='the part of rank 1 has results of dtype complex'):
        merge(parts, out=out)
    assert not out.any()


def test_none_is_not_written():
    with pytest.raises(TypeError, match='func must return arrays to write into out, got None'):
        SOURCE.batch_map_concat(lambda x, y: None, 4, out=zeros())


def test_either_a_part_or_an_array():
    with pytest.raises(ValueError, match='part=True leaves nothing to return'):
        batch_map_concat(double, SOURCE.batch_iterator(4), out=zeros(), part=True)


@on(['threads', 'fork'])
@pytest.mark.parametrize('shuffle', SHUFFLES)
def test_batches_of_pools_are_written_where_they_belong(pool, shuffle):
    source = ArrayDataSource([X, np.arange(N)], repeats=3)
    out = np.zeros((3 * N, 3)), np.zeros(3 * N)
    parallel = pool.parallel_data_source(source)
    parallel.batch_map_concat(double, 2, out=out, **SHUFFLES[shuffle]())
    np.testing.assert_array_equal(out[1], np.tile(np.arange(N), 3))
    np.testing.assert_array_equal(out[0], np.tile(X, (3, 1)) * 2)


@on(['threads', 'fork'])
@pytest.mark.parametrize('shuffle', SHUFFLES)
def test_a_resumed_stream_of_a_pool_writes_what_is_left(pool, shuffle):
    out, parallel = zeros(), pool.parallel_data_source(SOURCE)
    saved = parallel.batch_iterator(4, **SHUFFLES[shuffle]())
    batch_map_concat(double, saved, n_batches=3, out=out)
    resumed = parallel.batch_iterator(4, **SHUFFLES[shuffle]())
    resumed.load_state_dict(saved.state_dict())
    batch_map_concat(double, resumed, out=out)
    assert_same_results(out, (X * 2, np.arange(N)))
