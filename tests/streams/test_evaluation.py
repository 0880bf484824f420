"""Results over several ranks are those of one call in order."""

import copy
import pickle

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batchup._ground.batch import leaves
from batchup.data_source import ArrayDataSource, RandomAccessDataSource, batch_map_concat, merge
from batchup.sampling import BucketSampler, ComputedShuffle, GroupSampler

from ..cases import DRAWN, ENDLESS, RANDOM_ACCESS, SHUFFLES, numbers
from ..harness.pools import on
from ..harness.ranks import (
    SHUFFLE_KINDS,
    SOURCE,
    N,
    X,
    assert_same_results,
    double,
    first_array,
    first_column,
    take_part,
    take_parts,
    take_sums,
)

# Sources whose samples have a place of their own, however they are shuffled. The arrays of one
# of the sources differ in length.
PLACED = ['array', 'array_exact', 'array_indices', 'repeated', 'repeated_subset', 'sampler', 'plain_random_access']
PLACED += ['map', 'map_rng', 'empty', 'concat', 'concat_plain']
PLACED_ENDLESS = ['endless', 'endless_groups', 'endless_buckets']
OTHERS = [name for name in RANDOM_ACCESS if name not in [*PLACED, 'map_of_composite']]


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


@pytest.mark.parametrize('name', PLACED)
def test_samples_with_a_place_of_their_own_are_merged_in_order(name):
    source = RANDOM_ACCESS[name]()
    for make in SHUFFLES.values():
        parts = take_parts(source, 3, make, func=first_column)
        assert_same_results(merge(parts), source.batch_map_concat(first_column, 4))


@pytest.mark.parametrize('name', OTHERS)
def test_other_samples_are_merged_in_the_order_of_the_epoch(name):
    source = RANDOM_ACCESS[name]()
    for make in SHUFFLES.values():
        parts = take_parts(source, 3, make, func=first_column)
        assert_same_results(merge(parts), source.batch_map_concat(first_column, 4, **make()))


@pytest.mark.parametrize('name', DRAWN)
def test_samples_without_a_place_of_their_own_are_merged_as_they_were_drawn(name):
    source = DRAWN[name]()
    parts = take_parts(source, 3, func=first_array, shuffle=5)
    assert_same_results(merge(parts), source.batch_map_concat(first_array, 4, shuffle=5))


@pytest.mark.parametrize('name', [name for name in ENDLESS if name not in PLACED_ENDLESS])
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


# Functions that change the number of rows, sample by sample.
CHANGED = [lambda x: (np.repeat(x, 2),), lambda x: (x[x % 3 > 0],), lambda x: ({'x': x[x > 95]},), lambda x: (x[:0],)]


@pytest.mark.parametrize('change', CHANGED[:3])
@pytest.mark.parametrize('count', [1, 2, 7])
def test_means_of_ranks_count_the_rows_that_the_function_was_given(change, count):
    source = numbers(100).map(change)
    sums = [source.batch_map_mean(sum_first, 6, shard=(k, count), shuffle=3) for k in range(count)]
    assert sum(part.count for part in sums) == sum(len(next(leaves(batch))) for batch in source.batch_iterator(6))
    assert merge(sums) == source.batch_map_mean(sum_first, 6)


def sum_first(*batch):
    return next(leaves(batch)).sum()


def test_ranks_that_leave_out_all_samples_have_no_mean():
    source = numbers(10).map(CHANGED[3])
    with pytest.raises(ValueError, match='no samples to average over'):
        merge([source.batch_map_mean(np.sum, 6, shard=(k, 2)) for k in range(2)])


@pytest.mark.parametrize('count', [1, 2, 3])
def test_means_of_padded_ranks_count_samples(count):
    source = numbers(13).map(lambda x: ({'x': x},))
    sums = [
        source.batch_map_mean(lambda part, real: part['x'][real].sum(), 4, shard=(k, count), uneven='pad')
        for k in range(count)
    ]
    assert (merge(sums), sum(part.count for part in sums)) == ((6.0,), 13)


def test_functions_of_ranks_may_return_none():
    everywhere = [SOURCE.batch_map_mean(lambda x, y: None, 4, shard=(k, 9)) for k in range(9)]
    assert None in everywhere
    assert merge(everywhere) is None


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


# Through pools


@on(['threads', 'fork'])
def test_functions_over_pools_may_return_none(pool):
    parallel = pool.parallel_data_source(SOURCE)
    assert parallel.batch_map_mean(lambda x, y: None, 4) is None
    assert merge([parallel.batch_map_mean(lambda x, y: None, 4, shard=(k, 2)) for k in range(2)]) is None


@on(['threads', 'fork'])
def test_errors_over_pools_name_their_batch(pool):
    stream = pool.parallel_data_source(SOURCE).batch_iterator(4, shuffle=3)
    with pytest.raises(KeyError) as error:
        batch_map_concat(lambda x, y: {1: y, 2: y}[stream.position], stream)
    assert error.value.__notes__ == [f'in batch 2 of epoch 0, with indices {SOURCE.plan(4, 3)[2].indices!r}']


@on(['threads', 'fork', 'process_executor'])
def test_parts_of_pools_are_merged(pool):
    parallel = pool.parallel_data_source(SOURCE, batch_buffer_size=7)
    for make in SHUFFLES.values():
        assert_same_results(merge(take_parts(parallel, 3, make, batch_size=1)), (X * 2, np.arange(N)))


@on(['threads', 'fork'])
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_parts_and_sums_of_pools_have_any_size(pool, data):
    n, batch_size, count = (data.draw(st.integers(low, high)) for low, high in ((1, 60), (1, 70), (1, 9)))
    kwargs = data.draw(st.sampled_from(list(SHUFFLE_KINDS.values())))
    parallel = pool.parallel_data_source(numbers(n))
    assert_same_results(merge(take_parts(parallel, count, kwargs, func=first_array)), (np.arange(n),))
    sums = [parallel.batch_map_mean(np.sum, batch_size, shard=(k, count), **kwargs()) for k in range(count)]
    assert merge(sums) == ((n - 1) / 2,)


# Batches that cannot be shared evenly.


def image_values(x, *_):
    return (x * 2,)


@pytest.mark.parametrize('count', [1, 2, 3, 5])
def test_rows_that_pad_do_not_count(count):
    source = numbers(13)
    parts = [source.batch_map_concat(image_values, 4, shuffle=3, shard=(k, count), uneven='pad') for k in range(count)]
    np.testing.assert_array_equal(merge(parts)[0], 2 * np.arange(13))


@pytest.mark.parametrize('count', [1, 2, 3, 5])
def test_samples_that_are_dropped_are_missing(count):
    source = numbers(13)
    parts = [source.batch_map_concat(image_values, 4, shard=(k, count), uneven='drop') for k in range(count)]
    kept = [k for k in range(13) if k % 4 < min(4, 13 - k // 4 * 4) // count * count]
    np.testing.assert_array_equal(merge(parts)[0], 2 * np.array(kept))


@pytest.mark.parametrize('sum_axis', [0, (0, 1)])
def test_values_of_rows_that_pad_are_not_summed(sum_axis):
    source = ArrayDataSource([np.arange(26.0).reshape(13, 2)])
    sums = [source.batch_map_mean(lambda x, _: x, 4, sum_axis=sum_axis, shard=(k, 3), uneven='pad') for k in range(3)]
    (mean,) = merge(sums)
    np.testing.assert_allclose(mean, np.arange(26.0).reshape(13, 2).sum(axis=sum_axis) / 13)
