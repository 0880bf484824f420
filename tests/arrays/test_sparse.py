"""Rows of sparse matrices, and results that are sparse."""

import numpy as np
import pytest

from batchup.data_source import ArrayDataSource, merge

sparse = pytest.importorskip('scipy.sparse')

DENSE = np.where(np.arange(50).reshape(10, 5) % 3, 0, np.arange(50).reshape(10, 5))


@pytest.fixture
def source():
    return ArrayDataSource([sparse.csr_array(DENSE), np.arange(10)])


def same(rows):
    return rows


@pytest.mark.parametrize('form', ['coo', 'lil', 'dok', 'dia', 'bsr'])
def test_other_formats_are_refused(form):
    with pytest.raises(TypeError, match=rf'data\[0\] is a sparse matrix in {form.upper()} format.*x\.tocsr\(\)'):
        ArrayDataSource([sparse.csr_array(DENSE).asformat(form)])


def test_lengths_must_be_equal():
    with pytest.raises(ValueError, match=r'got 10 for data\[0\] and 4 for data\[1\]'):
        ArrayDataSource([sparse.csr_array(DENSE), np.arange(4)])


def test_rows_have_memory_of_their_own():
    matrix = sparse.csr_matrix(DENSE)
    for (rows,) in ArrayDataSource([matrix]).batch_iterator(10):
        rows.data[:] = -1
    np.testing.assert_array_equal(matrix.toarray(), DENSE)


def test_a_mapped_function_gives_sparse_rows(source):
    doubled = source.map(lambda rows, numbers: (rows * 2, numbers))
    (rows, numbers) = next(doubled.batch_iterator(4, 3))
    np.testing.assert_array_equal(rows.toarray(), DENSE[numbers] * 2)


def test_sparse_results_are_stacked(source):
    for fn in (same, sparse.csc_matrix, sparse.coo_matrix):
        (rows,) = source.batch_map_concat(lambda rows, numbers, fn=fn: fn(rows), 4)
        assert rows.format == 'csr'
        np.testing.assert_array_equal(rows.toarray(), DENSE)


def test_results_that_are_sparse_for_some_batches_only(source):
    with pytest.raises(TypeError, match='array 0 is sparse for batch 0, and not so for batch 1'):
        source.batch_map_concat(lambda rows, numbers: rows if 0 in numbers else rows.toarray(), 4)


def test_sparse_results_are_written_into_an_array(source):
    out = np.empty(DENSE.shape, DENSE.dtype)
    source.batch_map_concat(lambda rows, numbers: rows, 4, shuffle=3, out=out)
    np.testing.assert_array_equal(out, DENSE)


@pytest.mark.parametrize('kwargs', [{}, {'out': np.empty(DENSE.shape, DENSE.dtype)}])
def test_sparse_parts_are_merged(source, kwargs):
    parts = [source.batch_map_concat(lambda rows, numbers: rows, 4, shuffle=3, shard=(k, 2)) for k in range(2)]
    (rows,) = merge(parts, **kwargs)
    np.testing.assert_array_equal(rows if kwargs else rows.toarray(), DENSE)


def test_means_of_sparse_rows(source):
    (mean,) = source.batch_map_mean(lambda rows, numbers: rows, 4, sum_axis=0)
    np.testing.assert_allclose(mean, DENSE.mean(axis=0))
    (mean,) = source.batch_map_mean(lambda rows, numbers: rows.sum(axis=0), 4)
    np.testing.assert_allclose(mean, DENSE.mean(axis=0))


def test_padding_of_sparse_results(source):
    kwargs = {'shard': (1, 3), 'uneven': 'pad'}
    part = source.batch_map_concat(lambda rows, numbers, real: rows, 4, **kwargs)
    np.testing.assert_array_equal(part[0].toarray(), DENSE[part.indices])
    sums = source.batch_map_mean(lambda rows, numbers, real: rows, 4, sum_axis=0, **kwargs)
    np.testing.assert_array_equal(sums.totals[0], DENSE[part.indices].sum(axis=0))
