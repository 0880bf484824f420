"""Sparse matrices in groups of HDF5 and Zarr, as AnnData writes them.

A group holds the arrays `data`, `indices` and `indptr` of a CSR matrix, and has its shape among its
attributes. Consecutive rows lie side by side in `data` and `indices`, and are read in blocks.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._ground.indices import IndexArray
from .._ground.messages import add_note
from .h5 import H5Storage
from .h5_files import data_sets, list_names
from .storage import Storage
from .zarrs import ZarrStorage, is_zarr

# A block of rows has about so many bytes. Larger: more rows are kept than are needed. Smaller: more calls.
BLOCK_BYTES = 2**19

# A block has at least so many chunks of the file, as those at its ends are decoded for two blocks. Larger:
# fewer blocks fit into memory. Smaller: more is decoded twice.
BLOCK_CHUNKS = 4

# The largest block, in bytes, whatever the chunks of the file are, and in rows, if they are almost empty.
MOST_BYTES, MOST_ROWS = 2**24, 2**16

_PARTS = ('data', 'indices', 'indptr')


def is_group(value: Any) -> bool:
    """Say whether something is a group of h5py or of zarr."""
    h5py, zarr = sys.modules.get('h5py'), sys.modules.get('zarr')
    return (h5py is not None and isinstance(value, h5py.Group)) or (zarr is not None and isinstance(value, zarr.Group))


def is_csr_group(value: Any) -> bool:
    """Say whether something is a group that holds a CSR matrix."""
    return is_group(value) and is_open(value) and _format_of(value) == 'csr'


def is_open(group: Any) -> bool:
    """Say whether a group can be read: its file is not closed."""
    return 'h5py' not in sys.modules or not isinstance(group, sys.modules['h5py'].Group) or bool(group)


def check_group(number: int, data: Any) -> None:
    """Raise an error for a group that is closed, or holds a matrix whose rows cannot be read well."""
    if not is_group(data):
        return
    if not is_open(data):
        raise ValueError(
            f'data[{number}] is a group of an h5py file that is closed; keep the file open while batches are read'
        )
    if _format_of(data) == 'csc':
        raise TypeError(
            f'data[{number}] is a group with a sparse matrix in CSC format, which is stored by columns: its rows '
            'cannot be read without reading all of it; convert it once, with x.tocsr(), and write it again'
        )
    if _format_of(data) is None:
        library = type(data).__module__.partition('.')[0]
        raise TypeError(
            f'data[{number}] is the group {data.name!r} of {library}, and neither an array nor a CSR matrix, which '
            f"has 'data', 'indices', 'indptr' and the attribute 'shape'; give an array, as x[name]: it has "
            + _names(data)
        )


def _names(group: Any) -> str:
    """Name the arrays in a group."""
    return data_sets(group) if hasattr(group, 'visititems') else list_names([name for name, _ in group.arrays()])


def _format_of(group: Any) -> str | None:
    """Return `'csr'` or `'csc'` for a group that holds such a matrix."""
    shape = group.attrs.get('shape')
    if shape is None or len(shape) != 2 or not all(name in group for name in _PARTS):
        return None
    encoding = group.attrs.get('encoding-type')
    if encoding is not None:
        return {'csr_matrix': 'csr', 'csc_matrix': 'csc'}.get(encoding)
    n_ends = group['indptr'].shape[0] - 1
    return next((form for form, size in zip(('csr', 'csc'), shape) if size == n_ends), None)


def sparse_matrix(data: NDArray[Any], indices: NDArray[Any], indptr: NDArray[Any], columns: int) -> Any:
    """Return a CSR matrix over arrays of which parts may be unused, as SciPy itself would not make it."""
    matrix = _import_scipy().csr_matrix((len(indptr) - 1, columns), dtype=data.dtype)
    matrix.data, matrix.indices, matrix.indptr = data, indices, indptr
    return matrix


def _import_scipy() -> Any:
    try:
        return importlib.import_module('scipy.sparse')
    except ImportError as error:
        raise ImportError('batches of a sparse matrix in a file are matrices of SciPy: pip install scipy') from error


class SparseStorage:
    """A CSR matrix in a group; it is read in blocks of rows.

    Parameters
    ----------
    group : h5py.Group or zarr.Group
        What `is_csr_group` accepts.

    Attributes
    ----------
    shape : tuple of int
        The numbers of rows and columns.
    dtype, index_dtype : numpy.dtype
        The dtypes of values, and of the numbers of their columns, as they are read.
    value_bytes : int
        How many bytes a value takes, with the number of its column.
    lengths : array of shape (n,)
        How many values each row has.
    chunk_rows : int
        How many rows a block has; the last one may have fewer.
    most_values : int
        How many values the largest block has: at least 1.
    """

    def __init__(self, group: Any) -> None:
        self.group = group
        self.shape = int(group.attrs['shape'][0]), int(group.attrs['shape'][1])
        self._data, self._indices = (_storage_of(group[name]) for name in ('data', 'indices'))
        self._ends: IndexArray = np.asarray(group['indptr'][...]).astype(np.intp)
        if self._ends.shape != (self.shape[0] + 1,):
            raise ValueError(
                f'{self.name()} has {self.shape[0]} rows, but indptr has shape {self._ends.shape}, '
                f'not {(self.shape[0] + 1,)}: it is damaged'
            )
        self.dtype = self._data.dtype.newbyteorder('=')
        small = np.can_cast(self._indices.dtype, np.int32)
        self.index_dtype: np.dtype[Any] = np.dtype(np.int32 if small else np.int64)
        sparse_matrix(np.empty(0, self.dtype), np.empty(0, self.index_dtype), np.zeros(1), 1)  # it may have no such
        self.value_bytes = self.dtype.itemsize + self.index_dtype.itemsize
        self._n_values = min(self._data.shape[0], self._indices.shape[0])
        # Of a matrix that is damaged, too: it is read as far as it is not.
        ends = np.clip(self._ends, 0, self._n_values)
        self.lengths = np.maximum(np.diff(ends), 0)
        self.chunk_rows = self._choose_chunk_rows()
        self.n_blocks = -(-self.shape[0] // self.chunk_rows)
        starts = np.arange(0, self.shape[0], self.chunk_rows)
        self.most_values = int(np.add.reduceat(self.lengths, starts).max(initial=1)) if len(starts) else 1

    def _choose_chunk_rows(self) -> int:
        chunks = [getattr(part.array, 'chunks', None) or (0,) for part in (self._data, self._indices)]
        wanted = max(BLOCK_BYTES // self.value_bytes, BLOCK_CHUNKS * max(chunk[0] for chunk in chunks))
        in_row = max(self._n_values / max(1, self.shape[0]), 1e-9)
        rows = min(wanted, MOST_BYTES // self.value_bytes) / in_row
        return max(1, int(min(rows, MOST_ROWS, self.shape[0])))

    @property
    def row_bytes(self) -> int:
        """The number of bytes of a row, on average."""
        return max(1, self._n_values * self.value_bytes // max(1, self.shape[0]))

    def name(self) -> str:
        """Name the matrix for errors."""
        return f'the sparse matrix of {self._data.name()}'

    def check(self) -> None:
        """Raise `ValueError` if the file is closed, or has another number of values than at first."""
        self._data.check()
        self._indices.check()

    def memory(self, n_values: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return uninitialised memory for so many values, and for the numbers of their columns."""
        return np.empty(n_values, self.dtype), np.empty(n_values, self.index_dtype)

    def read(self, block: int, data: NDArray[Any], indices: NDArray[Any]) -> IndexArray:
        """Read the rows of a block into memory that has room for them.

        Returns
        -------
        array of shape (rows + 1,)
            Where in that memory each row begins, and where the last one ends.
        """
        start, stop = block * self.chunk_rows, min((block + 1) * self.chunk_rows, self.shape[0])
        try:
            return self._read(start, stop, data, indices)
        except Exception as error:
            add_note(error, f'in rows {start} to {stop - 1} of {self.name()}')
            raise

    def _read(self, start: int, stop: int, data: NDArray[Any], indices: NDArray[Any]) -> IndexArray:
        ends = self._ends[start : stop + 1]
        if ends[0] < 0 or ends[-1] > self._n_values or (ends[1:] < ends[:-1]).any():
            raise ValueError(
                f'{self.name()} is damaged: its indptr decreases, or has numbers beyond {self._n_values} values'
            )
        count = int(ends[-1] - ends[0])
        _read_values(self._data, int(ends[0]), data[:count])
        _read_values(self._indices, int(ends[0]), indices[:count])
        # Negative ones are very large as unsigned numbers.
        if indices[:count].view(f'u{self.index_dtype.itemsize}').max(initial=0) >= max(1, self.shape[1]):
            raise ValueError(f'{self.name()} is damaged: its indices name columns that are none of {self.shape[1]}')
        places: IndexArray = ends - ends[0]
        return places


def _storage_of(array: Any) -> Storage:
    return ZarrStorage(array) if is_zarr(array) else H5Storage(array)


def _read_values(storage: Storage, start: int, output: NDArray[Any]) -> None:
    """Read consecutive values, converted to the dtype of the output."""
    if not len(output):
        return
    values = output if storage.dtype == output.dtype else np.empty(len(output), storage.dtype)
    storage.read(start, start + len(output), values)
    if values is not output:
        output[...] = values
