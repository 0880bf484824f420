"""Arrays in storage, as they are read: in chunks of rows, which are decoded as a whole."""

from __future__ import annotations

import abc
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._ground.indices import IndexArray, Leaf, from_start
from .._ground.messages import add_note


class Storage(abc.ABC):
    """An array in storage, of which consecutive rows can be read; one small subclass for each kind.

    It is read by several threads at a time. It pickles if what it reads can be opened again.

    Attributes
    ----------
    array : object
        What the user has given.
    shape : tuple of int
        The number of rows, and the shape of a row.
    dtype : numpy.dtype
        The dtype of the arrays that are read.
    chunk_rows : int
        The number of rows of a chunk. All chunks have so many, but for the last one, which may
        have fewer, unless `chunks` and `bounds` say otherwise. Where storage has no chunks, as
        many rows as are well read at once.
    whole_chunks : bool
        Whether to read a part of a chunk takes as long as to read all of it.
    """

    array: Any
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunk_rows: int
    whole_chunks: bool = True

    @abc.abstractmethod
    def read(self, start: int, stop: int, output: NDArray[Any]) -> None:
        """Read the rows from `start` to `stop`.

        Parameters
        ----------
        start, stop : int
            ``0 <= start < stop <= shape[0]``.
        output : array of shape (stop - start, ...)
            C-contiguous, of the dtype of this one: where the rows go.
        """

    @abc.abstractmethod
    def name(self) -> str:
        """Name the array for errors: the data set and its file, as far as they are known."""

    def describe(self, start: int, stop: int) -> str:
        """Say which rows are read, for errors."""
        return f'rows {start} to {stop - 1} of {self.name()}'

    def rows(self, indices: Leaf) -> IndexArray:
        """Return the rows that sample indices choose, none of them negative."""
        return from_start(indices, self.shape[0])

    def chunks(self, rows: IndexArray) -> IndexArray:
        """Return the numbers of the chunks that rows are in."""
        return rows // self.chunk_rows

    def bounds(self, chunk: int) -> tuple[int, int]:
        """Return the first row of a chunk, and the one after its last."""
        start = chunk * self.chunk_rows
        return start, min(start + self.chunk_rows, self.shape[0])

    def check(self) -> None:  # noqa: B027 - most kinds cannot be closed
        """Raise `ValueError` if the array can no longer be read, or has another length than at first."""


def rows_of_bytes(nbytes: float, dtype: np.dtype[Any], row_shape: tuple[int, ...]) -> int:
    """Return how many rows take up to so many bytes: at least 1."""
    row_bytes = dtype.itemsize * int(np.prod(row_shape, dtype=object))
    return max(1, int(nbytes // max(1, row_bytes)))


def row_bytes_of(storage: Storage) -> int:
    """Return the number of bytes of a row."""
    return math.prod(storage.shape[1:]) * storage.dtype.itemsize


def read_rows(storage: Storage, start: int, stop: int, output: NDArray[Any]) -> None:
    """Read consecutive rows; an error gets a note that says which."""
    try:
        storage.read(start, stop, output)
    except Exception as error:
        add_note(error, f'in {storage.describe(start, stop)}')
        raise


def empty_rows(storage: Storage, count: int) -> NDArray[Any]:
    """Return an uninitialised array for so many rows."""
    return np.empty((count, *storage.shape[1:]), storage.dtype)


def read_chunk(storage: Storage, chunk: int, output: NDArray[Any]) -> NDArray[Any]:
    """Decode a chunk into an array that has room for it; return its rows."""
    start, stop = storage.bounds(chunk)
    read_rows(storage, start, stop, output[: stop - start])
    return output[: stop - start]
