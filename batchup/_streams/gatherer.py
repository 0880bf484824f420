"""Rows on their way into storage: they wait until whole chunks of them can be written."""

from __future__ import annotations

import abc
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._ground.indices import IndexArray, Leaf, as_array

# The memory in which rows wait, in bytes. Larger: shuffled rows are written in fewer rounds, each of which may
# write every chunk. To sort them takes as much again.
WAITING_BYTES = 2**27

# At least so many bytes of rows wait before any is written, so that small chunks are written several at a time.
WRITTEN_BYTES = 2**22


class Chunked(abc.ABC):
    """Rows in storage, of which consecutive ones can be read and written.

    Attributes
    ----------
    chunk_rows : int
        The number of rows of a chunk, which is written as a whole.
    n_rows : int or math.inf
        The number of rows; `math.inf` if it is not known yet.
    """

    chunk_rows: int
    n_rows: float = math.inf

    @abc.abstractmethod
    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return the rows from `start` to `stop` as a new array; those never written may hold anything."""

    @abc.abstractmethod
    def write(self, start: int, values: NDArray[Any]) -> None:
        """Write rows, the first of them at `start`."""


class Gatherer:
    """Gathers rows, in any order, and writes each chunk when all of its rows are there.

    So chunks are written once, and in order, if their rows come close to each other. Rows wait
    in memory for the others of their chunk. When there are too many, they are all written, and
    for each of their chunks, the rows that it has already are read, and written again.

    Parameters
    ----------
    storage : Chunked
        Where the rows go.
    row_shape : tuple of int
        The shape of a row.
    dtype : numpy.dtype
        The dtype of the rows.
    """

    def __init__(self, storage: Chunked, row_shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self._storage = storage
        row_bytes = max(1, dtype.itemsize * int(np.prod(row_shape, dtype=object)))
        self._most = max(2 * storage.chunk_rows, WAITING_BYTES // row_bytes)
        self._least = min(self._most, max(storage.chunk_rows, WRITTEN_BYTES // row_bytes))
        self._due = self._least
        self._count = 0
        self._rows = np.empty((0, *row_shape), dtype)
        self._places: IndexArray = np.empty(0, np.intp)

    def add(self, rows: Leaf, values: NDArray[Any]) -> None:
        """Take the values of some rows; they are copied."""
        stop = self._count + len(rows)
        if stop > len(self._rows):
            self._make_room(max(stop, min(2 * len(self._rows), self._most)))
        self._rows[self._count : stop] = values
        self._places[self._count : stop] = as_array(rows)
        self._count = stop
        if stop >= self._due:
            self._write_whole_chunks()
            if self._count > self._most // 2:
                self.flush()
            self._due = min(self._most, max(self._least, 2 * self._count))

    def flush(self) -> None:
        """Write all rows that wait."""
        self._write_whole_chunks()
        places, rows = self._sorted(np.arange(self._count))
        for start, stop in _stretches(places // self._storage.chunk_rows):
            self._write_in_chunk(places[start:stop], rows[start:stop])
        self._count = 0

    def _make_room(self, size: int) -> None:
        rows, places = self._rows[: self._count], self._places[: self._count]
        self._rows = np.empty((size, *rows.shape[1:]), rows.dtype)
        self._places = np.empty(size, np.intp)
        self._rows[: self._count], self._places[: self._count] = rows, places

    def _sorted(self, waiting: IndexArray) -> tuple[IndexArray, NDArray[Any]]:
        """Return the places and the values of some of the rows that wait, in the order of their places."""
        places = self._places[waiting]
        if (places[1:] > places[:-1]).all():
            first, count = int(waiting[0]) if len(waiting) else 0, len(waiting)
            if count == 0 or waiting[-1] - first + 1 == count:
                return places, self._rows[first : first + count]
        order = np.argsort(places, kind='stable')
        return places[order], np.take(self._rows, waiting[order], axis=0)

    def _write_whole_chunks(self) -> None:
        """Write the chunks of which all rows are there; the other rows go on waiting."""
        whole = self._in_whole_chunks()
        if not whole.any():
            return
        places, rows = self._sorted(np.flatnonzero(whole))
        for start, stop in _stretches(places - np.arange(len(places))):
            self._storage.write(int(places[start]), rows[start:stop])
        left = np.flatnonzero(~whole)
        self._places[: len(left)] = self._places[left]
        self._rows[: len(left)] = self._rows[left]
        self._count = len(left)

    def _in_whole_chunks(self) -> NDArray[np.bool_]:
        """Return for each row that waits whether all rows of its chunk do."""
        chunk_rows = self._storage.chunk_rows
        chunks = self._places[: self._count] // chunk_rows
        first = chunks.min(initial=np.iinfo(np.intp).max)
        counts = np.bincount(chunks - first)
        starts = (first + np.arange(len(counts))) * chunk_rows
        whole: NDArray[np.bool_] = (counts == np.minimum(chunk_rows, self._storage.n_rows - starts))[chunks - first]
        return whole

    def _write_in_chunk(self, places: IndexArray, rows: NDArray[Any]) -> None:
        """Write rows of one chunk. Unless they follow each other, the chunk is read and written as a whole."""
        first, last, chunk_rows = int(places[0]), int(places[-1]), self._storage.chunk_rows
        if last - first + 1 != len(places):
            start = first - first % chunk_rows
            # Rows after the last one are none of these, and need not be there.
            stop = last + 1 if self._storage.n_rows == math.inf else int(min(self._storage.n_rows, start + chunk_rows))
            chunk = self._storage.read(start, stop)
            chunk[places - start] = rows
            first, rows = start, chunk
        self._storage.write(first, rows)


def _stretches(values: IndexArray) -> NDArray[np.intp]:
    """Return the start and the stop of every stretch of equal values, of shape (n, 2).

    >>> _stretches(np.array([3, 3, 7])).tolist()
    [[0, 2], [2, 3]]
    """
    ends = np.flatnonzero(values[1:] != values[:-1]) + 1
    edges = np.concatenate([[0], ends, [len(values)]]) if len(values) else np.zeros(1, np.intp)
    return np.stack([edges[:-1], edges[1:]], axis=1).astype(np.intp)
