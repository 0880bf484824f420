"""Array-likes: what may be among the data of a source, and how any of them is read.

Other libraries are recognised once the user has imported them; batchup imports none.
"""

from __future__ import annotations

import array
import mmap
import os
from collections import deque
from collections.abc import Iterator, Mapping, Set
from typing import Any

import numpy as np
import six

from .._ground.allocation import Recycler
from .._ground.batch import Destination, Memory
from .._ground.indices import Leaf, as_array, own_array
from .._ground.ownership import owned
from .._ground.sparse import is_sparse
from .by_batch import BatchRows
from .h5 import is_closed
from .sparse import check_sparse
from .sparse_groups import check_group, is_csr_group
from .tensors import check_tensor
from .zarrs import is_zarr

# Types that have a length and items, but no rows that an array of indices could choose.
_BUFFERS = (array.array, memoryview)
_BYTES = (bytes, bytearray, mmap.mmap)
_SEQUENCES = (list, tuple, range, deque)
_PATHS = (*six.string_types, os.PathLike)
_NO_ARRAYS = (*_PATHS, *_BYTES, *_BUFFERS, *_SEQUENCES, Mapping, Set, type)

# How to make an array of each of them.
_ADVICE: tuple[tuple[Any, str], ...] = (
    (_BUFFERS, 'np.asarray(x) makes one of it, and copies nothing'),
    (_BYTES, 'np.frombuffer(x, np.uint8) makes one of it, and copies nothing'),
    (_SEQUENCES, 'np.asarray(x) makes one of it'),
    (Mapping, 'put each array that is in it into the list: [x[name] for name in x]'),
    (Set, 'it has no order; np.asarray(sorted(x)) makes one of it'),
    (type, 'it is a class: make an array of it first'),
)

# What makes an array of a file, by the end of its name.
_OPENED = {
    '.npy': "np.load(x, mmap_mode='r')",
    '.npz': "np.load(x)['name']",
    '.h5': "batchup.arrays.H5Array(x, 'name')",
    '.hdf5': "batchup.arrays.H5Array(x, 'name')",
    '.h5ad': "h5py.File(x, 'r')['X']",
    '.parquet': 'batchup.arrays.ParquetArray(x, columns)',
    '.zarr': "zarr.open(x, mode='r')['name']",
    '.nc': "xarray.open_dataset(x)['name']",
}

# Classes of pyarrow that read files, and are no arrays.
_PARQUET = ('ParquetFile', 'ParquetDataset', 'FileSystemDataset')


def check_array_like(number: int, data: Any) -> None:
    """Raise `TypeError` unless data has rows that can be chosen by an array of indices."""
    check_sparse(number, data)
    check_tensor(number, data)
    check_group(number, data)
    if is_csr_group(data):
        return
    has_length = hasattr(data, '__len__') or is_zarr(data)
    if not (has_length and hasattr(data, '__getitem__')) or isinstance(data, _NO_ARRAYS):
        raise TypeError(
            f'data[{number}] must be an array-like with __len__ and __getitem__ that takes index arrays, '
            f'got {type(data).__name__}; {_advice(data)}'
        )
    if is_closed(data):
        raise ValueError(
            f'data[{number}] is a data set of an h5py file that is closed; keep the file open while batches are read'
        )
    if getattr(data, 'shape', 0) in ((), None):  # `None`: an empty data set of h5py
        raise TypeError(f'data[{number}] is an array with no dimensions: it has no samples')


def length_of(data: Any) -> int:
    """Return the number of rows of an array-like; sparse matrices and arrays of zarr have no length of their own."""
    if is_csr_group(data):
        return int(data.attrs['shape'][0])
    n_rows: int = data.shape[0] if is_sparse(data) or is_zarr(data) else len(data)
    return n_rows


def path_advice(data: Any) -> str | None:
    """Say how to make an array of the file that a path names; `None` for anything but a path."""
    if not isinstance(data, _PATHS):
        return None
    ending = os.path.splitext(os.fsdecode(data).rstrip(os.sep))[1].lower()
    return f'if it is a path, open the file first: {_OPENED.get(ending, _OPENED[".npy"])}'


def _advice(data: Any) -> str:
    """Say how to make an array of something that is none."""
    if type(data).__module__.startswith('pyarrow.') and type(data).__name__ in _PARQUET:
        return 'batchup.arrays.ParquetArray(path, columns) reads Parquet files'
    if isinstance(data, _SEQUENCES) and _differ_in_length(data):
        return 'its items differ in length: batchup.padding.RaggedArray.from_list(x) makes an array-like of it'
    if hasattr(data, '__next__'):
        return 'an iterator over batches is for IteratorDataSource(x)'
    known = next((advice for types, advice in _ADVICE if isinstance(data, types)), None)
    return path_advice(data) or known or 'it must have a row for each sample'


def _differ_in_length(items: Any) -> bool:
    return len({len(item) for item in items if isinstance(item, (*_SEQUENCES, np.ndarray))}) > 1


class ArrayLikeRows(BatchRows):
    """The samples of an array-like of any kind."""

    def __init__(self, array: Any, number: int) -> None:
        super().__init__(array, number)
        # Tables of other libraries than pandas have it too.
        self._rows = array.iloc if hasattr(array, 'iloc') else array
        self._recycler = Recycler()

    def read(self, indices: Leaf, memory: Memory | None = None) -> Any:
        """Read the rows that indices choose, by one call of `__getitem__` with an index array."""
        with self._recycler.allocating(memory):
            return owned([self._rows[own_array(indices)]])

    def batches(self, indices: Leaf, n_batches: int, to: Destination) -> Iterator[Any]:
        """Read several batches of equal size one by one; the array-like may make them in memory that is given."""
        return (self.read(part, to.memory) for part in as_array(indices).reshape(n_batches, -1))
