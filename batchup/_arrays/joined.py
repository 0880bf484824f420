"""Several arrays, one after the other, as one array in storage."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._ground.indices import IndexArray, Leaf, from_start
from .rows import Rows
from .segments import by_chunks
from .sparse_ahead import SparseStorageRows
from .sparse_groups import JoinedSparse, SparseBlocks, SparseStorage
from .storage import Storage, rows_of_bytes
from .storage_rows import StorageRows

# Arrays in memory, between others in storage, are read in chunks of so many bytes. Larger: more
# memory. Smaller: more calls.
CHUNK_BYTES = 2**20


# The readers of arrays that can be read as one.
Stored = Rows | StorageRows | SparseStorageRows


class MemoryStorage(Storage):
    """A plain array in memory, or in a mapped file."""

    def __init__(self, rows: Rows) -> None:
        self.array = rows.array
        self.shape = self.array.shape
        self.dtype = self.array.dtype
        self.chunk_rows = rows_of_bytes(CHUNK_BYTES, self.dtype, self.shape[1:])
        self._rows = rows

    def read(self, start: int, stop: int, output: NDArray[Any]) -> None:
        self._rows.read_into(output, range(start, stop))

    def name(self) -> str:
        return f'an array of shape {self.shape}'


class JoinedStorage(Storage):
    """Arrays one after the other. A chunk is a chunk of one of them.

    Parameters
    ----------
    members : sequence of Storage
        The arrays: their rows have one shape and one dtype.
    rows : callable
        Returns, for sample indices, the numbers of the samples' arrays, and their rows in these; negative
        ones count from the end.
    """

    def __init__(self, members: Sequence[Storage], rows: Callable[[Leaf], tuple[IndexArray, IndexArray]]) -> None:
        self.array = None
        self._members = members
        self._rows = rows
        self._starts = np.cumsum([0, *(member.shape[0] for member in members)])
        self._first_chunks = np.cumsum([0, *map(_count_chunks, members)])
        self.shape = (int(self._starts[-1]), *members[0].shape[1:])
        self.dtype = members[0].dtype
        self.chunk_rows = max(member.chunk_rows for member in members)

    def rows(self, indices: Leaf) -> IndexArray:
        members, rows = self._rows(indices)
        # Negative rows count from the end of their array.
        joined: IndexArray = self._starts[members + (rows < 0)] + rows
        return joined

    def chunks(self, rows: IndexArray) -> IndexArray:
        members = self._starts.searchsorted(rows, 'right') - 1
        chunks = np.empty(len(rows), np.intp)
        for member, places in by_chunks(members):
            own = self._members[member].chunks(rows[places] - self._starts[member])
            chunks[places] = self._first_chunks[member] + own
        return chunks

    def bounds(self, chunk: int) -> tuple[int, int]:
        member = int(self._first_chunks.searchsorted(chunk, 'right')) - 1
        start, stop = self._members[member].bounds(chunk - int(self._first_chunks[member]))
        return int(self._starts[member]) + start, int(self._starts[member]) + stop

    def read(self, start: int, stop: int, output: NDArray[Any]) -> None:
        member, first = self._member_at(start)
        self._members[member].read(start - first, stop - first, output)

    def describe(self, start: int, stop: int) -> str:
        member, first = self._member_at(start)
        return f'{self._members[member].describe(start - first, stop - first)}, data source {member}'

    def _member_at(self, row: int) -> tuple[int, int]:
        """Return the number of the array that has a row, and the first row of it."""
        member = int(self._starts.searchsorted(row, 'right')) - 1
        return member, int(self._starts[member])

    def name(self) -> str:
        return ', '.join(member.name() for member in self._members)

    def check(self) -> None:
        for member in self._members:
            member.check()


def _count_chunks(storage: Storage) -> int:
    """Return how many chunks there are: one more than the number of the last one."""
    last = storage.shape[0] - 1
    return int(storage.chunks(np.array([last]))[0]) + 1 if last >= 0 else 0


def storage_of(reader: Stored) -> Storage | SparseBlocks:
    """Return the storage that a reader reads, or an array in memory as storage."""
    return MemoryStorage(reader) if isinstance(reader, Rows) else reader.storage


def join_columns(
    readers: Sequence[Sequence[Stored]], starts: IndexArray, subsets: Mapping[int, IndexArray]
) -> list[StorageRows | SparseStorageRows]:
    """Return a reader for each array, through all members.

    Parameters
    ----------
    readers : sequence of sequences
        For each member, the readers of its arrays.
    starts : array of shape (number of members + 1,)
        Where the samples of each member begin, and where the last ones end.
    subsets : dict
        For the numbers of members that use some of their samples only: which these are.
    """
    # It does not refer to the source: what refers to each other is freed late.
    locate = partial(_locate, starts, subsets)
    return [_join(list(map(storage_of, column)), locate) for column in zip(*readers)]


def _join(
    members: list[Any], locate: Callable[[Leaf], tuple[IndexArray, IndexArray]]
) -> StorageRows | SparseStorageRows:
    if isinstance(members[0], SparseStorage):
        return SparseStorageRows(JoinedSparse(members, locate))
    return StorageRows(JoinedStorage(members, locate))


def _locate(starts: IndexArray, subsets: Mapping[int, IndexArray], indices: Leaf) -> tuple[IndexArray, IndexArray]:
    """Return the numbers of the members that samples belong to, and the indices into the members' data."""
    positive = from_start(indices, int(starts[-1]))
    members = starts.searchsorted(positive, side='right') - 1
    rows = positive - starts[members]
    for k, chosen in subsets.items():
        own = members == k
        rows[own] = chosen[rows[own]]
    return members, rows
