"""Arrays of xarray, in memory, in files, or made by dask."""

from __future__ import annotations

import sys
from typing import Any

from .._ground.indices import IndexArray, Leaf, own_array
from .by_batch import BatchRows


def is_xarray(data: Any) -> bool:
    """Say whether something is a `DataArray` or a `Variable` of xarray."""
    xarray = sys.modules.get('xarray')
    return xarray is not None and isinstance(data, (xarray.DataArray, xarray.Variable))


class XarrayRows(BatchRows):
    """Positions along the first dimension of an array of xarray; labels do not matter.

    Batches are in memory, also those of arrays that lie in a file or that dask makes.
    """

    def __init__(self, array: Any, number: int) -> None:
        super().__init__(array, number)
        self._shares = _has_common_coordinates(array)
        # What dask makes is made at once, as parts of it may have work in common.
        self._by_dask = any(variable.chunks is not None for variable in _variables(array))

    def read(self, indices: Leaf) -> Any:
        """Read rows, with the coordinates that belong to them."""
        rows = choose(self.array, own_array(indices))
        if self._by_dask:
            rows.load()
        else:
            # `load` of the whole takes as long as to choose rows that are in memory.
            for variable in _variables(rows):
                variable.load()
        return rows.copy(deep=True) if self._shares else rows


def _variables(array: Any) -> list[Any]:
    """Return what holds the values of an array, and those of its coordinates."""
    coordinates = getattr(array, 'coords', None)
    return [array] if coordinates is None else [array.variable, *coordinates.variables.values()]


def _has_common_coordinates(array: Any) -> bool:
    """Say whether there are coordinates in which all samples share, and that could be written into."""
    own = array.dims[0]
    coordinates = getattr(array, 'coords', {})
    return any(own not in coordinates[name].dims and name not in array.dims for name in coordinates)


def choose(array: Any, places: IndexArray) -> Any:
    """Choose positions along the first dimension."""
    return array.isel({array.dims[0]: places})


def join_xarrays(parts: Any) -> Any:
    """Put arrays one after the other along the first dimension."""
    xarray = sys.modules['xarray']
    dimension = parts[0].dims[0]
    if isinstance(parts[0], xarray.Variable):
        return type(parts[0]).concat(parts, dimension)
    # Labels of other dimensions must be equal; of coordinates without the first dimension, those of the first count.
    return xarray.concat(parts, dimension, coords='minimal', compat='override', join='exact')
