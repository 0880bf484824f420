"""Results over several ranks, and into given arrays, are those of one call in order."""

import copy
import pickle
import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchup.batch import leaves
from batchup.data_source import (
    ArrayDataSource,
    IteratorDataSource,
    RandomAccessDataSource,
    batch_map_concat,
    batch_map_mean,
    merge,
)
from batchup.errors import ReplayError
from batchup.sampling import BucketSampler, ComputedShuffle, GroupSampler, WeightedSampler

from .cases import DRAWN, ENDLESS, RANDOM_ACCESS, SHUFFLES, PlainSource, numbers
from .pools import on, pool  # noqa: F401

N = 23
X = np.random.RandomState(0).rand(N, 3).astype(np.float32)
SOURCE = ArrayDataSource([X, np.arange(N)])

# Sources whose samples have a place of their own, however they are shuffled. The arrays of one
# of the sources differ in length.
PLACED = ['array', 'array_exact', 'array_indices', 'repeated', 'repeated_subset', 'sampler', 'plain_random_access']
PLACED += ['map', 'map_rng', 'empty']
OTHERS = [name for name in RANDOM_ACCESS if name not in [*PLACED, 'map_of_composite']]
SHUFFLE_KINDS = {**SHUFFLES, 'computed': lambda: {'shuffle': ComputedShuffle(7)}}


def double(x, y):
    return x * 2, y


def first_array(*batch):
    return batch[0]


def first_column(*batch):
    leaf = next(leaves(batch))
    return leaf if leaf.ndim == 1 else leaf[:, 0]


def take_part(source, rank, count, func=double, batch_size=4, **kwargs):
    return source.batch_map_concat(func, batch_size, shard=(rank, count), **kwargs)


def take_parts(source, count, make_kwargs=dict, **kwargs):
    return [take_part(source, rank, count, **kwargs, **make_kwargs()) for rank in range(count)]


def take_sums(count, source=SOURCE, **kwargs):
    return [source.batch_map_mean(lambda x, y: x.sum(axis=0), 4, shard=(k, count), **kwargs) for k in range(count)]


def assert_same_results(results, expected):
    """Assert that results are equal to the last bit."""
    assert type(results) is tuple
    assert len(results) == len(expected)
    for result, other in zip(results, expected):
        assert (result.dtype, result.shape) == (other.dtype, other.shape)
        assert result.tobytes() == other.tobytes()


def zeros():
    return np.zeros((N, 3), np.float32), np.full(N, -1)


# Parts


@given(
    st.integers(0, 40),
    st.integers(1, 50),
    st.integers(1, 9),
    st.sampled_from(list(SHUFFLE_KINDS.values())),
    st.integers(1, 3),
)
def test_merged_parts_are_the_results_in_order(n, batch_size, count, shuffle, repeats):
    source = ArrayDataSource([X[np.arange(n) % N], np.arange(n)], repeats=repeats)
    parts = take_parts(source, count, shuffle, batch_size=batch_size)
    assert_same_results(merge(parts), source.batch_map_concat(double, batch_size))


@given(st.permutations(range(-6, 6)), st.integers(1, 8), st.integers(1, 9), st.sampled_from(list(SHUFFLES.values())))
def test_merged_parts_of_a_subset_are_in_its_order(indices, batch_size, count, shuffle):
    source = ArrayDataSource([np.arange(12)], indices=indices[:7], repeats=2)
    parts = take_parts(source, count, shuffle, func=first_array, batch_size=batch_size)
    np.testing.assert_array_equal(merge(parts)[0], np.arange(12)[indices[:7] * 2])


@pytest.mark.parametrize('shuffle', SHUFFLES)
@pytest.mark.parametrize('name', PLACED)
def test_samples_with_a_place_of_their_own_are_merged_in_order(name, shuffle):
    source = RANDOM_ACCESS[name]()
    parts = take_parts(source, 3, SHUFFLES[shuffle], func=first_column)
    assert_same_results(merge(parts), source.batch_map_concat(first_column, 4))


@pytest.mark.parametrize('shuffle', SHUFFLES)
@pytest.mark.parametrize('name', OTHERS)
def test_other_samples_are_merged_in_the_order_of_the_epoch(name, shuffle):
    source = RANDOM_ACCESS[name]()
    parts = take_parts(source, 3, SHUFFLES[shuffle], func=first_column)
    assert_same_results(merge(parts), source.batch_map_concat(first_column, 4, **SHUFFLES[shuffle]()))


@pytest.mark.parametrize('name', DRAWN)
def test_samples_without_a_place_of_their_own_are_merged_as_they_were_drawn(name):
    source = DRAWN[name]()
    parts = take_parts(source, 3, func=first_array, shuffle=5)
    assert_same_results(merge(parts), source.batch_map_concat(first_array, 4, shuffle=5))


@pytest.mark.parametrize('name', [name for name in ENDLESS if name != 'endless'])
def test_endless_sources_are_merged_as_they_were_drawn(name):
    source = ENDLESS[name]()
    parts = take_parts(source, 3, func=first_array, shuffle=5, n_batches=7)
    assert_same_results(merge(parts), source.batch_map_concat(first_array, 4, shuffle=5, n_batches=7))


@pytest.mark.parametrize('sampler', [BucketSampler(np.arange(N) % 5, repeats=2), GroupSampler(np.arange(N) % 7)])
@pytest.mark.parametrize('shuffle', [None, 3])
def test_arranged_batches_are_merged_in_data_order(sampler, shuffle):
    source = ArrayDataSource([np.arange(N)], sampler=sampler)
    (merged,) = merge(take_parts(source, 3, func=first_array, shuffle=shuffle))
    np.testing.assert_array_equal(merged, np.tile(np.arange(N), len(merged) // N))


def test_indices_say_where_rows_belong():
    part = take_part(SOURCE, 1, 3, shuffle=42)
    np.testing.assert_array_equal(part[1], part.indices)
    np.testing.assert_array_equal(part[0], X[part.indices] * 2)


def test_indices_of_a_subset_are_positions_in_it():
    source = ArrayDataSource([X, np.arange(N)], indices=[20, 4, -1, 7, 9])
    part = take_part(source, 0, 2, shuffle=42)
    np.testing.assert_array_equal(source.samples_by_indices(part.indices)[1], part[1])


def test_a_part_unpacks_like_a_tuple():
    doubled, labels = take_part(SOURCE, 0, 1)
    np.testing.assert_array_equal(doubled, X * 2)
    np.testing.assert_array_equal(labels, np.arange(N))


def test_some_batches_are_merged_with_no_gaps():
    parts = take_parts(SOURCE, 3, shuffle=42, n_batches=2)
    rows = np.sort(np.concatenate([request.indices for request in SOURCE.plan(4, 42)][:2]))
    assert_same_results(merge(parts), (X[rows] * 2, rows))


def test_the_order_of_parts_does_not_matter():
    parts = take_parts(SOURCE, 4, shuffle=1)
    assert_same_results(merge(iter(parts[::-1])), merge(parts))


def test_ranks_without_samples_have_no_say():
    def odd_when_empty(x, y):
        return (x, y) if len(y) else np.zeros((0, 9), complex)

    source = ArrayDataSource([X[:2], np.arange(2)])
    parts = take_parts(source, 5, func=odd_when_empty)
    assert sorted(len(part.indices) for part in parts) == [0, 0, 0, 1, 1]
    assert_same_results(merge(parts), (X[:2], np.arange(2)))


def test_batches_without_samples_change_no_dtype():
    parts = take_parts(ArrayDataSource([np.arange(9)]), 2, func=lambda x: np.array([int(v) for v in x]), batch_size=8)
    assert parts[0][0].dtype == int


def test_every_rank_calls_the_function_for_every_batch():
    sizes = []
    take_part(SOURCE, 3, 9, func=lambda x, y: sizes.append(len(y)))
    assert sizes == [len(batch[1]) for batch in SOURCE.batch_iterator(4, shard=(3, 9))]


def test_dtypes_are_joined_as_in_one_call():
    def as_text(y):
        return np.array([str(10 ** int(value)) for value in y], dtype='U')

    source = ArrayDataSource([np.arange(7)])
    merged = merge(take_parts(source, 3, func=as_text, batch_size=3))
    assert_same_results(merged, source.batch_map_concat(as_text, 3))


def test_no_samples():
    parts = take_parts(ArrayDataSource([X[:0], np.arange(0)]), 3)
    assert merge(parts) == ()
    assert merge(parts, out=np.zeros((0, 3)))[0].shape == (0, 3)


def test_nothing_but_none():
    assert take_part(SOURCE, 0, 2, func=lambda x, y: None) is None
    assert merge([None, None]) is None


@pytest.mark.parametrize('travel', [lambda part: pickle.loads(pickle.dumps(part)), copy.copy, copy.deepcopy])
def test_parts_travel(travel):
    parts = [travel(part) for part in take_parts(SOURCE, 3, shuffle=1)]
    assert_same_results(merge(parts), (X * 2, np.arange(N)))


def test_a_huge_source_is_merged():
    class Huge(RandomAccessDataSource):
        def samples_by_indices_nomapping(self, indices):
            return (indices,)

    parts = take_parts(Huge(2**62), 3, func=first_array, shuffle=ComputedShuffle(3), n_batches=5)
    (merged,) = merge(parts)
    order = np.concatenate([Huge(2**62).plan(4, ComputedShuffle(3))[k].indices for k in range(5)])
    np.testing.assert_array_equal(merged, np.sort(order))


def test_the_function_makes_parts_of_streams():
    streams = [SOURCE.batch_iterator(4, 42, shard=(k, 2)) for k in range(2)]
    parts = [batch_map_concat(double, stream, n_batches=3, part=True) for stream in streams]
    rest = [batch_map_concat(double, stream, part=True) for stream in streams]
    assert [stream.position for stream in streams] == [6, 6]
    both = np.concatenate([merge(parts)[1], merge(rest)[1]])
    assert sorted(both.tolist()) == list(range(N))


def test_a_progress_bar_may_read_ahead():
    parts = take_parts(SOURCE, 2, lambda: {'shuffle': np.random.RandomState(3)}, progress_iter_func=read_ahead)
    assert_same_results(merge(parts), (X * 2, np.arange(N)))


def read_ahead(batches, total, leave):
    return iter(list(batches))


# What does not fit together


def test_no_parts():
    with pytest.raises(ValueError, match='there are no parts to merge'):
        merge([])


@pytest.mark.parametrize('take', [take_sums, lambda count: take_parts(SOURCE, count)])
def test_missing_ranks_are_named(take):
    with pytest.raises(ValueError, match='the part of rank 0, 2, 3 of 4 ranks is missing'):
        merge(take(4)[1:2])


@pytest.mark.parametrize('take', [take_sums, lambda count: take_parts(SOURCE, count)])
def test_ranks_that_come_twice_are_named(take):
    parts = take(3)
    with pytest.raises(ValueError, match='there are several parts of rank 1'):
        merge([*parts, parts[1]])


def test_ranks_of_different_counts():
    with pytest.raises(ValueError, match='of runs with 2 and with 3 ranks'):
        merge([take_part(SOURCE, 0, 2), take_part(SOURCE, 1, 3)])


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        ({'batch_size': 5}, 'batch_size of rank 0: 4\n  batch_size of rank 1: 5'),
        ({'shuffle': 2}, 'shuffle of rank 0: seed 1\n  shuffle of rank 1: seed 2'),
        ({'shuffle': 1, 'epoch': 2}, 'epoch of rank 0: 0\n  epoch of rank 1: 2'),
        ({'shuffle': 1, 'n_batches': 3}, 'batches of rank 0: 0 to 5\n  batches of rank 1: 0 to 2'),
    ],
)
def test_parts_of_different_runs(kwargs, message):
    with pytest.raises(ValueError, match=message):
        merge([take_part(SOURCE, 0, 2, shuffle=1), take_part(SOURCE, 1, 2, **kwargs)])


def test_generators_in_different_states():
    parts = [take_part(SOURCE, k, 2, shuffle=np.random.RandomState(k)) for k in range(2)]
    with pytest.raises(ValueError, match=r'indices of rank 0: \w{16}\n  indices of rank 1: \w{16}\nGive all ranks'):
        merge(parts)


def test_parts_of_different_sources():
    with pytest.raises(ValueError, match='23 samples x 1\n  plan of rank 1: 5 chosen samples'):
        merge([take_part(SOURCE, 0, 2), take_part(SOURCE.subset(np.arange(5)), 1, 2)])


@pytest.mark.parametrize(
    ('func', 'shapes'), [(lambda x, y: x, r'\[\(3,\)\]'), (lambda x, y: (x[:, :2], y), r'\[\(2,\), \(\)\]')]
)
def test_arrays_of_different_numbers_and_shapes(func, shapes):
    with pytest.raises(TypeError, match=rf'of rank 1 has rows of shapes {shapes}, that of rank 0 \[\(3,\), \(\)\]'):
        merge([take_part(SOURCE, 0, 2), take_part(SOURCE, 1, 2, func=func)])


def test_none_beside_arrays():
    with pytest.raises(TypeError, match='func returned arrays in rank 0, but None in another one'):
        merge([take_part(SOURCE, 0, 2), None])


@pytest.mark.parametrize('wrong', [(X,), X, 3])
def test_what_is_no_part(wrong):
    with pytest.raises(TypeError, match=f'part 1 is a {type(wrong).__name__}'):
        merge([take_part(SOURCE, 0, 2), wrong])


def test_parts_and_sums_together():
    with pytest.raises(TypeError, match='part 1 is a Part'):
        merge([*take_sums(1), take_part(SOURCE, 1, 2)])


@pytest.mark.parametrize('where', [{'shard': (1, 3)}, {'out': np.zeros(N)}])
def test_a_function_must_return_a_row_for_each_sample(where):
    with pytest.raises(ValueError, match='func must return a row for each sample, got 1 rows for a batch of'):
        SOURCE.batch_map_concat(lambda x, y: y[:1], 6, **where)


def test_rows_that_are_there_twice():
    part = take_part(SOURCE, 0, 1)
    twice = type(part)(part, part.indices // 2, part.run)
    with pytest.raises(ValueError, match='the row of index 0 is in the parts twice'):
        merge([twice])


def test_rows_that_are_missing():
    part = take_part(SOURCE, 0, 1)
    short = type(part)([array[:-1] for array in part], part.indices[:-1], part.run)
    with pytest.raises(ValueError, match='the parts have 22 rows together, but the run has 23 samples'):
        merge([short])


def test_sources_without_a_plan_give_plain_results():
    class Sharded(PlainSource):
        def batch_iterator(self, batch_size, shard=None, **kwargs):
            return super().batch_iterator(batch_size)

    results = Sharded(10).batch_map_concat(first_array, 4, shard=(0, 2))
    assert_same_results(results, (np.arange(10),))


@pytest.mark.parametrize('gather', [batch_map_concat, batch_map_mean])
def test_plain_iterators_make_no_parts(gather):
    with pytest.raises(TypeError, match='needs the stream of a source with random access, got list'):
        gather(first_array, [(X,)], part=True)


# Means


@given(st.integers(1, 60), st.integers(1, 70), st.integers(1, 9), st.sampled_from(list(SHUFFLES.values())))
def test_merged_sums_are_the_means(n, batch_size, count, shuffle):
    source = ArrayDataSource([np.arange(n) ** 2])
    parts = [source.batch_map_mean(np.sum, batch_size, shard=(k, count), **shuffle()) for k in range(count)]
    assert merge(parts) == source.batch_map_mean(np.sum, batch_size)
    assert sum(part.count for part in parts) == n


def test_one_rank_has_the_mean_of_all_to_the_last_bit():
    (sums,) = take_sums(1)
    (expected,) = SOURCE.batch_map_mean(lambda x, y: x.sum(axis=0), 4)
    assert merge([sums])[0].tobytes() == sums.mean()[0].tobytes() == expected.tobytes()


def test_the_order_of_sums_does_not_matter():
    source = ArrayDataSource([np.array([1e16, 1.0, -1e16])])
    sums = [source.batch_map_mean(np.sum, 3, shard=(k, 3)) for k in range(3)]
    assert merge(sums) == merge([sums[0], sums[2], sums[1]]) == merge(sums[::-1])


def test_values_of_samples_are_summed():
    parts = [SOURCE.batch_map_mean(lambda x, y: x, 4, sum_axis=0, shard=(k, 3)) for k in range(3)]
    np.testing.assert_allclose(merge(parts)[0], X.mean(axis=0), rtol=1e-6)


def test_ranks_without_samples_add_nothing():
    def fails_when_empty(x):
        return x.sum() if len(x) else np.nan

    parts = [numbers(9).batch_map_mean(fails_when_empty, 4, shard=(k, 5)) for k in range(5)]
    assert sorted(part.count for part in parts) == [0, 2, 2, 2, 3]
    assert merge(parts) == (4.0,)


def test_no_samples_have_no_mean():
    parts = [numbers(0).batch_map_mean(np.sum, 4, shard=(k, 2)) for k in range(2)]
    assert [(part.totals, part.count) for part in parts] == [((), 0)] * 2
    for mean in (parts[0].mean, lambda: merge(parts)):
        with pytest.raises(ValueError, match='no samples to average over'):
            mean()


def test_sums_travel():
    sums = [pickle.loads(pickle.dumps(part)) for part in take_sums(3)]
    np.testing.assert_array_equal(merge(sums)[0], merge(take_sums(3))[0])


def test_sums_of_different_shapes():
    other = SOURCE.batch_map_mean(lambda x, y: y.sum(), 4, shard=(1, 2))
    with pytest.raises(TypeError, match=r'rank 1 has sums of shapes \[\(\)\], rank 0 of \[\(3,\)\]'):
        merge([take_sums(2)[0], other])


def test_sums_go_into_no_array():
    with pytest.raises(TypeError, match='out= is for the rows of batch_map_concat'):
        merge(take_sums(2), out=np.zeros(3))


# Into given arrays


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


# Through pools


@on(['threads', 'fork', 'process_executor'])
@pytest.mark.parametrize('shuffle', SHUFFLES)
def test_parts_of_pools_are_merged(pool, shuffle):  # noqa: F811
    parallel = pool.parallel_data_source(SOURCE, batch_buffer_size=7)
    parts = take_parts(parallel, 3, SHUFFLES[shuffle], batch_size=1)
    assert_same_results(merge(parts), (X * 2, np.arange(N)))


@on(['threads', 'fork'])
@pytest.mark.parametrize('shuffle', SHUFFLES)
def test_batches_of_pools_are_written_where_they_belong(pool, shuffle):  # noqa: F811
    source = ArrayDataSource([X, np.arange(N)], repeats=3)
    out = np.zeros((3 * N, 3)), np.zeros(3 * N)
    parallel = pool.parallel_data_source(source)
    parallel.batch_map_concat(double, 2, out=out, **SHUFFLES[shuffle]())
    np.testing.assert_array_equal(out[1], np.tile(np.arange(N), 3))
    np.testing.assert_array_equal(out[0], np.tile(X, (3, 1)) * 2)


@on(['threads', 'fork'])
@pytest.mark.parametrize('shuffle', SHUFFLES)
def test_a_resumed_stream_of_a_pool_writes_what_is_left(pool, shuffle):  # noqa: F811
    out, parallel = zeros(), pool.parallel_data_source(SOURCE)
    saved = parallel.batch_iterator(4, **SHUFFLES[shuffle]())
    batch_map_concat(double, saved, n_batches=3, out=out)
    resumed = parallel.batch_iterator(4, **SHUFFLES[shuffle]())
    resumed.load_state_dict(saved.state_dict())
    batch_map_concat(double, resumed, out=out)
    assert_same_results(out, (X * 2, np.arange(N)))


@on(['threads', 'fork'])
@settings(max_examples=20)
@given(data=st.data())
def test_parts_and_sums_of_pools_have_any_size(pool, data):  # noqa: F811
    n, batch_size, count = (data.draw(st.integers(low, high)) for low, high in ((1, 60), (1, 70), (1, 9)))
    kwargs = data.draw(st.sampled_from(list(SHUFFLE_KINDS.values())))
    parallel = pool.parallel_data_source(numbers(n))
    assert_same_results(merge(take_parts(parallel, count, kwargs, func=first_array)), (np.arange(n),))
    sums = [parallel.batch_map_mean(np.sum, batch_size, shard=(k, count), **kwargs()) for k in range(count)]
    assert merge(sums) == ((n - 1) / 2,)
