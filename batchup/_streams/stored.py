"""Arrays in storage that take the rows of results: data sets of h5py, arrays of zarr."""

from __future__ import annotations

import abc
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._ground.indices import Leaf
from .._ground.messages import add_note
from .gatherer import Chunked, Gatherer
from .targets import Target

# Storage without chunks is written in parts of so many bytes.
PART_BYTES = 2**20


class StoredTarget(Target, Chunked):
    """An array in storage. Rows are gathered, so that chunks are written as a whole.

    Parameters
    ----------
    name : str
        What it is called in errors.
    array : array-like
        It has `shape`, `dtype`, `array[start:stop]`, and `resize`.
    chunk_rows : int
        The number of rows of a chunk.
    most : int or math.inf
        The number of rows to which the array may grow.
    """

    def __init__(self, name: str, array: Any, chunk_rows: int, most: float) -> None:
        self.name = name
        self.array = array
        self.row_shape = tuple(array.shape[1:])
        self.dtype = array.dtype
        self.strings = self._holds_strings()
        if self.dtype.hasobject and not self.strings:
            raise TypeError(f'{name} is for values of dtype {self.dtype}: of objects, only strings can be written')
        self.chunk_rows = chunk_rows
        self._most = most
        self.n_rows = array.shape[0] if most == array.shape[0] else math.inf
        self._gatherer = Gatherer(self, self.row_shape, self.dtype)

    @abc.abstractmethod
    def _holds_strings(self) -> bool:
        """Say whether the array is for strings of any length."""

    @abc.abstractmethod
    def _resize(self, n_rows: int) -> None:
        """Give the array more rows."""

    @property
    def form(self) -> str:
        return f'of shape {self.array.shape}'

    def check_rows(self, n_rows: float) -> None:
        if n_rows == math.inf:
            return
        if not self.array.shape[0] <= n_rows <= max(self._most, self.array.shape[0]):
            raise ValueError(f'{self.name} must have a row for each of {n_rows} samples, got shape {self.array.shape}')
        self.n_rows = n_rows

    def check_last(self, last: int) -> None:
        if last >= self._most:
            raise ValueError(f'the results have a row {last}, but {self.name} has {self.array.shape[0]} rows')

    def put(self, rows: Leaf, values: NDArray[Any]) -> None:
        self._gatherer.add(rows, values)

    def complete(self) -> None:
        self._gatherer.flush()

    def result(self) -> Any:
        return self.array

    def abandon(self) -> None:
        self.complete()

    def read(self, start: int, stop: int) -> NDArray[Any]:
        self._grow(stop)
        with self._noted('reading', start, stop):
            return np.array(self.array[start:stop], self.dtype)

    def write(self, start: int, values: NDArray[Any]) -> None:
        self._grow(start + len(values))
        with self._noted('writing', start, start + len(values)):
            self.array[start : start + len(values)] = values

    def _grow(self, n_rows: int) -> None:
        if n_rows > self.array.shape[0]:
            self._resize(max(n_rows, int(self.n_rows) if self.n_rows != math.inf else 0))

    @contextmanager
    def _noted(self, doing: str, start: int, stop: int) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            add_note(error, f'while {doing} rows {start} to {stop - 1} of {self.name}')
            raise


class H5Target(StoredTarget):
    """A data set of h5py. It grows as far as its `maxshape` allows."""

    def __init__(self, name: str, array: Any) -> None:
        if not array:
            raise ValueError(f'{name} is a data set of a closed h5py file')
        name = f'{name} (data set {array.name!r} of {array.file.filename})'
        if not array.shape:
            raise TypeError(f'{name} must have an axis for the samples, got shape {array.shape}')
        if array.file.mode == 'r':
            raise ValueError(f'{name} is read-only; open the file with mode "r+"')
        most = math.inf if array.maxshape[0] is None else array.maxshape[0]
        super().__init__(name, array, array.chunks[0] if array.chunks else _rows_of(array), most)

    def _holds_strings(self) -> bool:
        return sys.modules['h5py'].check_string_dtype(self.dtype) is not None and self.dtype.kind == 'O'

    def _resize(self, n_rows: int) -> None:
        self.array.resize(n_rows, axis=0)

    def put(self, rows: Leaf, values: NDArray[Any]) -> None:
        self._check_open()
        super().put(rows, values)

    def complete(self) -> None:
        self._check_open()
        super().complete()
        self.array.flush()

    def _check_open(self) -> None:
        if not self.array:
            raise ValueError(f'the file of {self.name} was closed before all rows were written')


class ZarrTarget(StoredTarget):
    """An array of zarr. It grows if it has no rows at first: zarr does not say how far an array may grow."""

    def __init__(self, name: str, array: Any) -> None:
        name = f'{name} (zarr array {getattr(array, "store_path", array.store)})'
        if not array.shape:
            raise TypeError(f'{name} must have an axis for the samples, got shape {array.shape}')
        if array.read_only:
            raise ValueError(f'{name} is read-only; open it with mode "r+"')
        chunk = int((getattr(array, 'shards', None) or array.chunks)[0])
        super().__init__(name, array, max(1, chunk), array.shape[0] or math.inf)

    def _holds_strings(self) -> bool:
        return self.dtype.kind in 'OT'

    def _resize(self, n_rows: int) -> None:
        self.array.resize((n_rows, *self.array.shape[1:]))

    def check_ranks(self, count: int) -> None:
        if count > 1 and self.chunk_rows > 1:
            raise ValueError(
                f'{self.name} has chunks of {self.chunk_rows} rows, in which {count} ranks would overwrite the rows of '
                'each other. Return parts, and merge(parts, out=array); or make chunks of one row'
            )


def stored_target(name: str, array: Any) -> StoredTarget | None:
    """Return the target for an array in storage; `None` if it is none of a known kind."""
    if _is(array, 'h5py', 'Dataset'):
        return H5Target(name, array)
    if _is(array, 'zarr', 'Array'):
        return ZarrTarget(name, array)
    return None


def _is(array: Any, module: str, kind: str) -> bool:
    """Say whether an array is of a kind of another library, which is not imported for it."""
    return module in sys.modules and isinstance(array, getattr(sys.modules[module], kind, ()))


def _rows_of(array: Any) -> int:
    """Return how many rows take `PART_BYTES`; at least one."""
    row_bytes = int(array.dtype.itemsize) * int(np.prod(array.shape[1:], dtype=object))
    return max(1, PART_BYTES // max(1, row_bytes))
