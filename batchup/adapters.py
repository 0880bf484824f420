"""Reading array-likes by arrays of indices, each kind as it wants to be read.

Other libraries are recognised once the user has imported them; batchup imports none.
"""

from __future__ import annotations

import array
import mmap
import sys
from collections import deque
from collections.abc import Iterator, Mapping, Set
from typing import Any

import numpy as np
import six

from .gather import Memory
from .indices import Leaf, as_array, own_array
from .ownership import owned

# Types that have a length and items, but no rows that an array of indices could choose.
_BUFFERS = (array.array, memoryview)
_BYTES = (bytes, bytearray, mmap.mmap)
_NO_ARRAYS = (*six.string_types, *_BYTES, *_BUFFERS, list, tuple, range, deque, Mapping, Set)


def check_array_like(number: int, data: Any) -> None:
    """Raise `TypeError` unless data has rows that can be chosen by an array of indices."""
    if not (hasattr(data, '__len__') and hasattr(data, '__getitem__')) or isinstance(data, _NO_ARRAYS):
        raise TypeError(
            f'data[{number}] must be an array-like with __len__ and __getitem__ that takes index arrays, '
            f'got {type(data).__name__}; {_advice(data)}'
        )
    if _is_h5py(data):
        _check_open(number, data)
    if getattr(data, 'shape', None) == ():
        raise TypeError(f'data[{number}] is an array with no dimensions: it has no samples')


def _advice(data: Any) -> str:
    """Say how to make an array of something that is none."""
    if isinstance(data, _BUFFERS):
        return 'np.asarray(x) makes one of it, and copies nothing'
    if isinstance(data, _BYTES):
        return 'np.frombuffer(x, np.uint8) makes one of it, and copies nothing'
    if hasattr(data, '__next__'):
        return 'an iterator over batches is for IteratorDataSource(x)'
    return 'lists and numbers become one by np.asarray'


class ArrayLikeRows:
    """The samples of an array-like that is no plain NumPy array, each batch read at once.

    pandas objects are read by position (`iloc`). An h5py data set, which takes increasing
    indices only, is read in its own order, and the rows are put in order afterwards.

    Parameters
    ----------
    array : array-like
        What is read.
    number : int
        Its number among the data of a source, for errors.
    """

    def __init__(self, array: Any, number: int) -> None:
        self.array = array
        self._number = number
        self._h5py = _is_h5py(array)
        self._rows = array.iloc if hasattr(array, 'iloc') else array

    def read(self, indices: Leaf) -> Any:
        """Read the rows that indices choose, with one `__getitem__` with an index array."""
        if not self._h5py:
            return owned([self._rows[own_array(indices)]])
        _check_open(self._number, self.array)
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


def _check_open(number: int, data: Any) -> None:
    """Raise `ValueError` if the file of an h5py data set is closed: its own errors do not say so."""
    if not data:
        raise ValueError(
            f'data[{number}] is a data set of an h5py file that is closed; keep the file open while batches are read'
        )
