"""Sparse matrices in groups of HDF5 and Zarr, as AnnData writes them.

A group holds the arrays `data`, `indices` and `indptr` of a CSR matrix, and has its shape among its
attributes. Consecutive rows lie side by side in `data` and `indices`, and are read in blocks.
"""

from __future__ import annotations

import abc
import importlib
import pickle
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._ground.indices import IndexArray, Leaf, from_start
from .._ground.messages import add_note
from .h5 import H5Storage
from .h5_files import data_sets, dump_by_name, list_names
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


class SparseBlocks(abc.ABC):
    """Sparse rows in storage; they are read in blocks.

    Attributes
    ----------
    group : h5py.Group or zarr.Group, or None
        What the user has given, if that is one group.
    shape : tuple of int
        The numbers of rows and columns.
    dtype, index_dtype : numpy.dtype
        The dtypes of values, and of the numbers of their columns, as they are read.
    value_bytes : int
        How many bytes a value takes, with the number of its column.
    n_values : int
        How many values there are.
    lengths : array
        How many values each row has, by the numbers that `rows` returns.
    chunk_rows : int
        How many rows a block has; a block may have fewer if no other follows it in its group.
    n_blocks : int
        How many blocks there are.
    most_values : int
        How many values the largest block has: at least 1.
    """

    group: Any
    shape: tuple[int, int]
    dtype: np.dtype[Any]
    index_dtype: np.dtype[Any]
    value_bytes: int
    n_values: int
    lengths: IndexArray
    chunk_rows: int
    n_blocks: int
    most_values: int

    @abc.abstractmethod
    def rows(self, indices: Leaf) -> IndexArray:
        """Return the rows that sample indices choose, none of them negative. Row r is in block `r // chunk_rows`."""

    @abc.abstractmethod
    def check(self) -> None:
        """Raise `ValueError` if a file is closed, or has another number of values than at first."""

    @abc.abstractmethod
    def read(self, block: int, data: NDArray[Any], indices: NDArray[Any]) -> IndexArray:
        """Read the rows of a block into memory that has room for them.

        Returns
        -------
        array of shape (rows + 1,)
            Where in that memory each row begins, and where the last one ends.
        """

    @property
    def row_bytes(self) -> int:
        """The number of bytes of a row, on average."""
        return max(1, self.n_values * self.value_bytes // max(1, self.shape[0]))

    def memory(self, n_values: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return uninitialised memory for so many values, and for the numbers of their columns."""
        return np.empty(n_values, self.dtype), np.empty(n_values, self.index_dtype)


class SparseStorage(SparseBlocks):
    """A CSR matrix in a group.

    Parameters
    ----------
    group : h5py.Group or zarr.Group
        What `is_csr_group` accepts.
    chunk_rows : int, optional
        How many rows a block is to have; by default, so many that it is well read at once.
    """

    def __init__(self, group: Any, chunk_rows: int | None = None) -> None:
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
        self.n_values = min(self._data.shape[0], self._indices.shape[0])
        # Of a matrix that is damaged, too: it is read as far as it is not.
        ends = np.clip(self._ends, 0, self.n_values)
        self.lengths = np.maximum(np.diff(ends), 0)
        self.chunk_rows = self._choose_chunk_rows() if chunk_rows is None else chunk_rows
        self.n_blocks = -(-self.shape[0] // self.chunk_rows)
        starts = np.arange(0, self.shape[0], self.chunk_rows)
        self.most_values = int(np.add.reduceat(self.lengths, starts).max(initial=1)) if len(starts) else 1

    def _choose_chunk_rows(self) -> int:
        chunks = [getattr(part.array, 'chunks', None) or (0,) for part in (self._data, self._indices)]
        wanted = max(BLOCK_BYTES // self.value_bytes, BLOCK_CHUNKS * max(chunk[0] for chunk in chunks))
        in_row = max(self.n_values / max(1, self.shape[0]), 1e-9)
        rows = min(wanted, MOST_BYTES // self.value_bytes) / in_row
        return max(1, int(min(rows, MOST_ROWS, self.shape[0])))

    def __reduce__(self) -> tuple[Any, ...]:
        return _load_storage, (dump_by_name(self.group), self.chunk_rows)

    def rows(self, indices: Leaf) -> IndexArray:
        return from_start(indices, self.shape[0])

    def name(self) -> str:
        """Name the matrix for errors."""
        return f'the sparse matrix of {self._data.name()}'

    def check(self) -> None:
        if not is_open(self.group):
            raise ValueError(f'{self.name()}: the h5py file is closed; keep the file open while batches are read')
        self._data.check()
        self._indices.check()

    def read(self, block: int, data: NDArray[Any], indices: NDArray[Any]) -> IndexArray:
        start, stop = block * self.chunk_rows, min((block + 1) * self.chunk_rows, self.shape[0])
        try:
            return self._read(start, stop, data, indices)
        except Exception as error:
            add_note(error, f'in rows {start} to {stop - 1} of {self.name()}')
            raise

    def _read(self, start: int, stop: int, data: NDArray[Any], indices: NDArray[Any]) -> IndexArray:
        ends = self._ends[start : stop + 1]
        if ends[0] < 0 or ends[-1] > self.n_values or (ends[1:] < ends[:-1]).any():
            raise ValueError(
                f'{self.name()} is damaged: its indptr decreases, or has numbers beyond {self.n_values} values'
            )
        count = int(ends[-1] - ends[0])
        _read_values(self._data, int(ends[0]), data[:count])
        _read_values(self._indices, int(ends[0]), indices[:count])
        # Negative ones are very large as unsigned numbers.
        if indices[:count].view(f'u{indices.itemsize}').max(initial=0) >= max(1, self.shape[1]):
            raise ValueError(f'{self.name()} is damaged: its indices name columns that are none of {self.shape[1]}')
        places: IndexArray = ends - ends[0]
        return places


def _load_storage(pickled: bytes, chunk_rows: int) -> SparseStorage:
    return SparseStorage(pickle.loads(pickled), chunk_rows)


class JoinedSparse(SparseBlocks):
    """CSR matrices in groups, one after the other.

    All are read in blocks of one size, and none has rows of two matrices: each matrix begins with a block of
    its own. So rows are numbered as if the last block of each matrix were full.

    Parameters
    ----------
    members : sequence of SparseStorage
        The matrices: their values have one dtype, and they have equally many columns.
    rows : callable
        Returns, for sample indices, the numbers of the samples' matrices, and their rows in these; negative
        ones count from the end.
    """

    group = None

    def __init__(self, members: Sequence[SparseStorage], rows: Callable[[Leaf], tuple[IndexArray, IndexArray]]) -> None:
        sizes = np.array([member.shape[0] for member in members])
        self.shape = int(sizes.sum()), members[0].shape[1]
        total = sum(member.chunk_rows * member.shape[0] for member in members)
        self.chunk_rows = max(1, total // max(1, self.shape[0]))
        self._members = [SparseStorage(member.group, self.chunk_rows) for member in members]
        self._rows = rows
        self._sizes = sizes
        self._first_blocks: IndexArray = np.cumsum([0, *(member.n_blocks for member in self._members)])
        self.n_blocks = int(self._first_blocks[-1])
        self.dtype = members[0].dtype
        self.index_dtype = np.result_type(*(member.index_dtype for member in members))
        self.value_bytes = self.dtype.itemsize + self.index_dtype.itemsize
        self.n_values = sum(member.n_values for member in members)
        self.lengths = np.zeros(self.n_blocks * self.chunk_rows, np.intp)
        for first, member in zip(self._first_blocks * self.chunk_rows, self._members):
            self.lengths[first : first + len(member.lengths)] = member.lengths
        self.most_values = max(member.most_values for member in self._members)

    def rows(self, indices: Leaf) -> IndexArray:
        members, rows = self._rows(indices)
        found: IndexArray = self._first_blocks[members] * self.chunk_rows + rows + self._sizes[members] * (rows < 0)
        return found

    def check(self) -> None:
        for member in self._members:
            member.check()

    def read(self, block: int, data: NDArray[Any], indices: NDArray[Any]) -> IndexArray:
        member = int(self._first_blocks.searchsorted(block, 'right')) - 1
        return self._members[member].read(block - int(self._first_blocks[member]), data, indices)


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
