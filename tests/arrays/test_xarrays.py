"""Arrays of xarray: batches keep their labels."""

import numpy as np
import pytest

from batchup.data_source import ArrayDataSource, ConcatDataSource

xarray = pytest.importorskip('xarray')


def labelled(n):
    coords = {'row': np.arange(n)[::-1], 'double': ('row', np.arange(n) * 2), 'width': ('column', [0.5, 1.5])}
    return xarray.DataArray(np.arange(2 * n).reshape(n, 2), dims=('row', 'column'), coords=coords, name='x')


@pytest.mark.parametrize(
    'make', [lambda: ArrayDataSource([labelled(8)]), lambda: ConcatDataSource([ArrayDataSource([labelled(8)])] * 2)]
)
def test_labels_stay_with_their_rows(make):
    for (batch,) in make().batch_iterator(3, 3):
        xarray.testing.assert_identical(batch, labelled(8).isel(row=batch['double'].values // 2))


def test_coordinates_of_a_batch_are_its_own():
    array = labelled(4)
    for (batch,) in ArrayDataSource([array]).batch_iterator(4):
        batch['width'].values[:] = 7
    xarray.testing.assert_identical(array, labelled(4))


def test_arrays_in_a_file_are_read(tmp_path):
    pytest.importorskip('scipy')
    labelled(4).to_netcdf(tmp_path / 'x.nc', engine='scipy')
    with xarray.open_dataarray(tmp_path / 'x.nc', engine='scipy') as array:
        (batch,) = ArrayDataSource([array]).samples_by_indices([2, 0])
    (tmp_path / 'x.nc').unlink()
    xarray.testing.assert_identical(batch, labelled(4).isel(row=[2, 0]))
