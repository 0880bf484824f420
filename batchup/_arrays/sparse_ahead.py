"""Batches of sparse rows from storage: every block of rows is decoded once for what is needed of it soon.

Rows differ in length, so they have no slots of their own, as those of `read_ahead` have. Blocks
are kept as a whole, from the first batch that needs them to the last one. Where there is no room for
as many as are needed at a time, as for a full shuffle of much data, the rows of many batches are
packed one after the other: each block is decoded once for all of these batches.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._ground.indices import IndexArray, Leaf
from .._plans.plan import Request
from .segments import by_chunks
from .sparse_groups import SparseBlocks, sparse_matrix
from .storage_rows import ACCOUNT_BYTES


class _Coming:
    """Consecutive batches to come, and when they need which block.

    Attributes
    ----------
    numbers : array of shape (n,)
        The numbers of the batches.
    ends : array of shape (n + 1,)
        Where the rows of each batch begin, and where the last ones end.
    rows : array
        The rows of all of them.
    given : bool array of shape (n,)
        Which of them were asked for.
    """

    def __init__(self, storage: SparseBlocks, requests: list[Request]) -> None:
        self._storage = storage
        self.numbers = np.concatenate([np.arange(each.number, each.end) for each in requests])
        sizes = [np.full(each.n_batches, len(each.indices) // each.n_batches) for each in requests]
        self.ends = np.concatenate([[0], np.cumsum(np.concatenate(sizes))])
        self.rows = np.concatenate([storage.rows(each.indices) for each in requests])
        self.given = np.zeros(len(self.numbers), bool)
        blocks, batches = self.rows // storage.chunk_rows, np.repeat(np.arange(len(self.numbers)), np.diff(self.ends))
        # The places of the first and the last of these batches that need each block. Of several, the last is assigned.
        self.first, self.last = np.full((2, storage.n_blocks), -1)
        self.first[blocks[::-1]] = batches[::-1]
        self.last[blocks] = batches

    def place(self, number: int) -> int | None:
        """Return the place of a batch among these; `None` if it is none of them."""
        place = int(self.numbers.searchsorted(number))
        return place if place < len(self.numbers) and self.numbers[place] == number else None

    def rows_of(self, place: int) -> IndexArray:
        return self.rows[self.ends[place] : self.ends[place + 1]]

    def most_blocks(self, kept: IndexArray) -> int:
        """Return how many blocks are in use at the same time, at most; some are kept from the beginning."""
        first = self.first.copy()
        first[kept] = 0
        used = self.last >= 0
        begin, end = (np.bincount(x, minlength=len(self.numbers) + 1) for x in (first[used], self.last[used] + 1))
        return int(np.cumsum(begin - end).max(initial=0))

    def fitting(self, n_values: int) -> int:
        """Return the number of the first of these batches that together have up to so many values."""
        ends = np.concatenate([[0], np.cumsum(self._storage.lengths[self.rows])])[self.ends[1:]]
        return int(ends.searchsorted(n_values, 'right'))

    @property
    def unasked(self) -> int:
        """The number of the first batch that was not asked for; the one after the last if there is none."""
        place = int(self.given.argmin())
        return int(self.numbers[-1]) + 1 if self.given[place] else int(self.numbers[place])


class _Blocks:
    """Blocks of rows, in slots of equal size in memory."""

    def __init__(self, storage: SparseBlocks, data: NDArray[Any], indices: NDArray[Any], n_slots: int) -> None:
        self._storage = storage
        self._memory = data, indices
        self._free = list(range(n_slots))[::-1]  # the last one is used first: its memory may be in the cache
        # The slot of each block; -1 for those that are not kept.
        self._slots = np.full(storage.n_blocks, -1)
        # Each slot has one number more than rows, so that one after another they are as of one matrix.
        self._slot_rows = storage.chunk_rows + 1
        self._indptr = np.zeros(n_slots * self._slot_rows, storage.index_dtype)
        self._matrix = sparse_matrix(data, indices, self._indptr, storage.shape[1])

    def drop(self, last: IndexArray, place: int) -> None:
        """Let go of the blocks that no batch from a place on needs."""
        dropped = np.flatnonzero((self._slots >= 0) & (last < place))
        self._free += self._slots[dropped].tolist()
        self._slots[dropped] = -1

    def load(self, blocks: IndexArray) -> bool:
        """Decode blocks; return whether there was room for them."""
        if len(blocks) > len(self._free):
            return False
        for block in blocks.tolist():
            slot = self._free[-1]
            start = slot * self._storage.most_values
            memory = (part[start : start + self._storage.most_values] for part in self._memory)
            ends = self._storage.read(block, *memory)
            first = slot * self._slot_rows
            self._indptr[first : first + len(ends)] = ends + start
            self._slots[block] = self._free.pop()
        return True

    @property
    def blocks(self) -> IndexArray:
        """The blocks that are kept."""
        return np.flatnonzero(self._slots >= 0)

    def missing(self, rows: IndexArray) -> IndexArray:
        """Return the blocks of rows that are not kept, in order."""
        blocks = rows // self._storage.chunk_rows
        return np.unique(blocks[self._slots[blocks] < 0])

    def take(self, rows: IndexArray) -> Any:
        """Return rows of blocks that are kept, as a CSR matrix."""
        blocks, within = np.divmod(rows, self._storage.chunk_rows)
        return self._matrix[self._slots[blocks] * self._slot_rows + within]


class _Packed:
    """Rows in any order, read at once: each block is decoded once, and they are kept as they are read."""

    def __init__(self, storage: SparseBlocks, rows: IndexArray, data: NDArray[Any], indices: NDArray[Any]) -> None:
        memory = storage.memory(storage.most_values)
        self._places = np.empty(len(rows), np.intp)
        indptr = np.zeros(len(rows) + 1, storage.index_dtype)
        done, start = 0, 0
        for block, places in by_chunks(rows // storage.chunk_rows):
            ends = storage.read(block, *memory).astype(storage.index_dtype)
            taken = sparse_matrix(*memory, ends, storage.shape[1])[rows[places] - block * storage.chunk_rows]
            stop = start + len(taken.data)
            data[start:stop], indices[start:stop] = taken.data, taken.indices
            indptr[done : done + len(places) + 1] = taken.indptr + start
            self._places[places] = np.arange(done, done + len(places))
            done, start = done + len(places), stop
        self._matrix = sparse_matrix(data, indices, indptr, storage.shape[1])

    def take(self, part: slice) -> Any:
        """Return a part of the rows, as a CSR matrix."""
        return self._matrix[self._places[part]]


class SparseAhead:
    """The rows of a sparse matrix in storage that the batches of a stream need, read ahead of them.

    Several threads may ask for batches, about in order; one at a time reads.

    Parameters
    ----------
    storage : SparseBlocks
        What is read.
    nbytes : int
        How much of it may be kept.
    begin : int
        The number of the first batch.
    window : callable
        Gives the batches to come, as that of `Ahead` does.
    first_alone : bool
        Whether the first batch does not wait until many others are read with it.
    """

    def __init__(
        self,
        storage: SparseBlocks,
        nbytes: int,
        begin: int,
        window: Callable[[int], Request | None],
        first_alone: bool = True,
    ) -> None:
        self._storage = storage
        self._window = window
        self._alone = begin if first_alone else None
        self._next = begin
        most = min(nbytes // storage.value_bytes, np.iinfo(storage.index_dtype).max)
        self._n_slots = min(most // storage.most_values, storage.n_blocks)
        n_values = min(most, storage.n_blocks * storage.most_values)
        self._horizon = n_values * storage.value_bytes // storage.row_bytes
        self._memory = storage.memory(n_values)
        self._requests: deque[Request] = deque()
        self._coming: _Coming | None = None
        # From which number on other batches are looked at; until then, threads may ask in another order.
        self._until = begin
        # Where they were looked at last.
        self._looked = begin
        self._kept: _Blocks | _Packed | None = None
        # Batches of rows that were packed before, which other threads still ask for.
        self._late: dict[int, Any] = {}
        self._lock = threading.Lock()

    def read(self, number: int) -> Any:
        """Return the rows of a batch as a CSR matrix; `None` if they are to be read alone."""
        with self._lock:
            if number in self._late:
                return self._late.pop(number)
            try:
                return self._read(number)
            except Exception:  # it comes again at the batch that it concerns
                return None

    def _read(self, number: int) -> Any:
        if number >= self._until:
            self._look_ahead(number)
        coming, kept = self._coming, self._kept
        place = None if coming is None else coming.place(number)
        if coming is None or place is None:
            return None
        coming.given[place] = True
        if isinstance(kept, _Packed):
            return kept.take(slice(*coming.ends[place : place + 2]))
        if kept is None or not self._load(kept, coming, place):
            return None
        return kept.take(coming.rows_of(place))

    def _load(self, kept: _Blocks, coming: _Coming, place: int) -> bool:
        """Decode what is missing for a batch; return whether there was room for it."""
        missing = kept.missing(coming.rows_of(place))
        if len(missing) and self._n_slots < self._storage.n_blocks:
            kept.drop(coming.last, min(place, int(coming.given.argmin())))
        return kept.load(missing)

    def _look_ahead(self, number: int) -> None:
        """Look at the batches from a number on, and those before it that other threads still ask for."""
        coming = self._coming_from(self._first_unasked(number))
        if coming is not None and coming.place(number) is None:  # it is far from those that were not asked for
            coming = self._coming_from(number)
        self._coming, self._looked = coming, number
        if coming is None:
            self._kept = None
            return
        self._until = int(coming.numbers[-1]) + 1
        blocks = self._kept if isinstance(self._kept, _Blocks) else None
        if coming.most_blocks(np.empty(0, np.intp) if blocks is None else blocks.blocks) <= self._n_slots:
            self._kept = blocks or _Blocks(self._storage, *self._memory, self._n_slots)
            # Before the end, it is not known what is needed after it.
            self._until = max(number + 1, int(coming.numbers[len(coming.numbers) // 2]))
        else:
            self._kept = None
            self._pack(coming, number)

    def _first_unasked(self, number: int) -> int:
        """Return the number of the first batch that other threads may still ask for; at most this one."""
        before = self._coming
        if before is None:
            return min(number, self._looked)
        if isinstance(self._kept, _Packed):
            self._keep_late(before, self._kept)
            return min(number, self._until)
        return min(number, before.unasked)

    def _pack(self, coming: _Coming, number: int) -> None:
        """Pack the rows of as many batches as there is room for."""
        place = coming.place(number)
        count = 0 if place is None or number == self._alone else coming.fitting(len(self._memory[0]))
        if place is None or count <= place:
            self._until = number + 1
            return
        self._until = int(coming.numbers[count - 1]) + 1
        self._kept = _Packed(self._storage, coming.rows[: coming.ends[count]], *self._memory)

    def _keep_late(self, coming: _Coming, packed: _Packed) -> None:
        """Make the batches of packed rows that were not asked for yet: their memory will be used again."""
        places = np.flatnonzero(~coming.given & (coming.numbers < self._until)).tolist()
        self._late = {int(coming.numbers[k]): packed.take(slice(*coming.ends[k : k + 2])) for k in places}

    def _coming_from(self, number: int) -> _Coming | None:
        """Return the batches to come from a number on, with about as many rows as there is room for."""
        while self._requests and self._requests[0].end <= number:
            self._requests.popleft()
        found: list[Request] = []
        rows, n_seen = 0, 0
        while rows < max(1, self._horizon):
            if n_seen == len(self._requests) and not self._draw():
                break
            request = self._requests[n_seen].since(max(number, self._requests[n_seen].number))
            size = max(1, len(request.indices) // request.n_batches)
            found.append(request.up_to(max(1, (self._horizon - rows) // size)))
            rows += len(request.indices)
            n_seen += 1
        return _Coming(self._storage, found) if found else None

    def _draw(self) -> bool:
        """Get one more request; return whether there is one."""
        window = self._window(self._next)
        if window is None:
            return False
        self._requests.append(window)
        self._next = window.end
        return True


class SparseStorageRows:
    """The rows of a sparse matrix in a group of HDF5 or Zarr, as CSR matrices of SciPy.

    Parameters
    ----------
    storage : SparseBlocks
        The matrix.
    """

    def __init__(self, storage: SparseBlocks) -> None:
        self.storage = storage
        self.array = storage.group
        self.chunk_rows = storage.chunk_rows

    def __reduce__(self) -> tuple[Any, ...]:
        return SparseStorageRows, (self.storage,)

    def read(self, indices: Leaf) -> Any:
        """Read the rows that indices from -n to n - 1 choose, each block of them once."""
        self.storage.check()
        rows = self.storage.rows(indices)
        memory = self.storage.memory(int(self.storage.lengths[rows].sum()))
        return _Packed(self.storage, rows, *memory).take(slice(None))

    def room(self, nbytes: int) -> int:
        """Return how many rows may be read ahead in so many bytes."""
        return min(nbytes // (self.storage.row_bytes + ACCOUNT_BYTES), self.storage.shape[0])

    def batches(self, request: Request, nbytes: int) -> Iterator[Any]:
        """Read the batches of a request.

        Parameters
        ----------
        request : Request
            Its indices are those of this matrix.
        nbytes : int
            How much of it may be read ahead.
        """
        ahead, reader = request.ahead, None
        if ahead is not None:
            make = partial(SparseAhead, self.storage, nbytes, ahead.start, ahead.window)
            reader = ahead.keep(self, make)
        elif request.n_batches > 1:  # the request is all that is known
            reader = SparseAhead(self.storage, nbytes, request.number, partial(_rest, request), first_alone=False)
        for single in request.split():
            self.storage.check()
            batch = None if reader is None else reader.read(single.number)
            yield self.read(single.indices) if batch is None else batch
            del batch


def _rest(request: Request, number: int) -> Request | None:
    return request.since(number) if number < request.end else None
