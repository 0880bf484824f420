"""Reading array-likes by arrays of indices, each kind as it wants to be read.

Other libraries are recognised once the user has imported them; batchup imports none.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Set
from typing import Any

import numpy as np
import six

from .gather import Memory
from .indices import Leaf, as_array, own_array
from .ownership import owned

# Types that have a length and items, but no rows that an array of indices could choose.
_NO_ARRAYS = (*six.string_types, bytes, bytearray, list, tuple, range, Mapping, Set)


def check_array_like(number: int, data: Any) -> None:
    """Raise `TypeError` unless data has rows that can be chosen by an array of indices."""
    if not (hasattr(data, '__len__') and hasattr(data, '__getitem__')) or isinstance(data, _NO_ARRAYS):
        raise TypeError(
            f'data[{number}] must be an array-like with __len__ and __getitem__ that takes index arrays, '
            f'got {type(data).__name__}; lists and numbers become one by np.asarray'
        )
    if getattr(data, 'shape', None) == ():
        raise TypeError(f'data[{number}] is an array with no dimensions: it has no samples')


class ArrayLikeRows:
    """The samples of an array-like that is no plain NumPy array, each batch read at once.

    pandas objects are read by position (`iloc`). An h5py data set, which takes increasing
    indices only, is read in its own order, and the rows are put in order afterwards.
    """

    def __init__(self, array: Any) -> None:
        self.array = array
        self._h5py = _is_h5py(array)
        self._rows = array.iloc if hasattr(array, 'iloc') else array

    def read(self, indices: Leaf) -> Any:
        """Read the rows that indices choose, with one `__getitem__` with an index array."""
        if not self._h5py:
            return owned([self._rows[own_array(indices)]])
        positive = np.where(as_array(indices) < 0, as_array(indices) + len(self.array), as_array(indices))
        positions, places = np.unique(positive, return_inverse=True)
        return self._rows[positions][places]

    def batches(
        self, indices: Leaf, n_batches: int, memory: Memory | None = None, apart: bool = False
    ) -> Iterator[Any]:
        """Read several batches of equal size one by one; the array-like gives the memory for them."""
        return (self.read(part) for part in as_array(indices).reshape(n_batches, -1))


def _is_h5py(data: Any) -> bool:
    h5py = sys.modules.get('h5py')
    return h5py is not None and isinstance(data, h5py.Dataset)
