"""Sources that make NumPy arrays of what other libraries hold in memory."""

import numpy as np
import pytest

from batchup.data_source import ArrayDataSource, ConcatDataSource

from ..cases import assert_same_batches

VALUES = np.arange(20).reshape(10, 2)


def tables(library):
    """Make a table, and a column, of a library, with the array that each of them becomes."""
    if library == 'pandas':
        pandas = pytest.importorskip('pandas')
        frame = pandas.DataFrame({'a': VALUES[:, 0], 'b': VALUES[:, 1] / 2}, index=np.arange(10)[::-1])
        return [(frame, VALUES / [1, 2]), (frame['a'], VALUES[:, 0])]
    arrow = pytest.importorskip('pyarrow')
    table = arrow.table({'a': VALUES[:, 0], 'b': VALUES[:, 1] / 2})
    parts = [table, table.to_batches()[0], arrow.concat_tables([table[:3], table[3:]])]
    return [
        *((part, VALUES / [1, 2]) for part in parts),
        (table['a'], VALUES[:, 0]),
        (arrow.array([0, 9]), VALUES[:2, 0] * [0, 4.5]),
    ]


@pytest.mark.parametrize('library', ['pandas', 'pyarrow'])
def test_tables_and_columns_become_arrays(library):
    for table, values in tables(library):
        source = ArrayDataSource([table], to_numpy=True)
        assert type(source.data[0]) is np.ndarray
        assert_same_batches(
            source.batch_iterator(4, 3), ArrayDataSource([values.astype(source.data[0].dtype)]).batch_iterator(4, 3)
        )
        np.testing.assert_array_equal(source.data[0], values)


def test_a_tensor_becomes_an_array_over_its_memory():
    torch = pytest.importorskip('torch')
    tensor = torch.arange(5)
    (array,) = ArrayDataSource([tensor], to_numpy=True).data
    tensor[0] = 7
    assert array.tolist() == [7, 1, 2, 3, 4]


def test_arrays_of_xarray_become_arrays():
    xarray = pytest.importorskip('xarray')
    (array,) = ArrayDataSource([xarray.DataArray(np.arange(5))], to_numpy=True).data
    assert type(array) is np.ndarray


def test_other_arrays_stay_as_they_are():
    data = [np.arange(3), np.ma.arange(3)]
    assert all(one is other for one, other in zip(ArrayDataSource(data, to_numpy=True).data, data, strict=True))


def test_rows_of_a_table_lie_side_by_side():
    pandas = pytest.importorskip('pandas')
    (array,) = ArrayDataSource([pandas.DataFrame({'a': [1, 2], 'b': [3, 4]})], to_numpy=True).data
    assert array.flags.c_contiguous


def test_a_table_that_is_put_in_later_is_converted():
    pandas = pytest.importorskip('pandas')
    source = ArrayDataSource([pandas.Series([1, 2])], to_numpy=True)
    source.data[0] = pandas.Series([3, 4])
    assert next(source.batch_iterator(2))[0].tolist() == [3, 4]
    assert type(source.data[0]) is np.ndarray


def test_concatenated_with_arrays():
    pandas = pytest.importorskip('pandas')
    members = [ArrayDataSource([pandas.Series([1, 2])], to_numpy=True), ArrayDataSource([np.array([3])])]
    assert next(ConcatDataSource(members).batch_iterator(3))[0].tolist() == [1, 2, 3]


@pytest.mark.parametrize('wrong', [1, None, 'yes'])
def test_to_numpy_must_be_a_bool(wrong):
    with pytest.raises(TypeError, match='to_numpy must be'):
        ArrayDataSource([np.arange(3)], to_numpy=wrong)


def test_a_sparse_matrix_does_not_become_dense():
    sparse = pytest.importorskip('scipy.sparse')
    with pytest.raises(TypeError, match=r'does not make data\[0\] dense.*x\.toarray\(\)'):
        ArrayDataSource([sparse.eye(3, format='csr')], to_numpy=True)


def test_tensors_that_numpy_cannot_read_are_refused():
    torch = pytest.importorskip('torch')
    for tensor in (torch.zeros(3, requires_grad=True), torch.zeros(3, dtype=torch.bfloat16)):
        with pytest.raises(TypeError, match=r'tensor data\[0\].*detach\(\)\.cpu\(\)\.numpy\(\)'):
            ArrayDataSource([tensor], to_numpy=True)
