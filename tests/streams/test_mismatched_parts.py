"""Parts of ranks that do not fit together, and what is no part."""

import numpy as np
import pytest

from batchup.data_source import batch_map_concat, batch_map_mean, merge

from ..cases import PlainSource
from ..harness.ranks import SOURCE, N, X, assert_same_results, first_array, take_part, take_parts, take_sums


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


def test_none_beside_sums():
    with pytest.raises(TypeError, match='func returned sums in rank 0, but None in another one'):
        merge([take_sums(2)[0], None])


def test_values_of_different_kinds():
    with pytest.raises(TypeError, match=r'but array 1 has dtype int\d+ for rank 0 and <U\d+ for rank 1'):
        merge([take_part(SOURCE, 0, 2), take_part(SOURCE, 1, 2, func=lambda x, y: (x, y.astype(str)))])


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
