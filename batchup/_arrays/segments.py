"""The rows of the batches to come, and where those are kept that were read ahead."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator

import numpy as np

from .._ground.indices import IndexArray
from .._plans.plan import Request
from .storage import Storage

# Marks of rows: not read yet, and given to the user.
UNREAD, GIVEN = -1, -2


def _chunk_order(chunks: IndexArray) -> IndexArray:
    """Return the order that sorts rows by chunk, and else leaves them as they are; small numbers are sorted faster."""
    small = chunks.max(initial=0) < 2**16
    return np.argsort(chunks.astype(np.uint16) if small else chunks, kind='stable')


def by_chunks(chunks: IndexArray) -> Iterator[tuple[int, IndexArray]]:
    """Go through chunks in storage order, with the places of their rows."""
    order = _chunk_order(chunks)
    ends = [*np.flatnonzero(np.diff(chunks[order])) + 1, len(order)] if len(order) else []
    start = 0
    for end in ends:
        yield int(chunks[order[start]]), order[start:end]
        start = end


class Segment:
    """The rows of consecutive batches, in the order of the batches.

    Attributes
    ----------
    first : int
        How many rows come before those of this segment.
    number, end : int
        The number of the first batch, and of the one after the last.
    rows, chunks : arrays of shape (n,)
        The indices of the rows, and the numbers of their chunks.
    slots : array of shape (n,)
        Where each row is kept; or `UNREAD`, or `GIVEN`.
    left : int
        How many rows have not been given to the user.
    """

    def __init__(self, first: int, windows: list[Request], storage: Storage) -> None:
        self.first = first
        self.number, self.end = windows[0].number, windows[-1].end
        self._numbers = [window.number for window in windows]
        self._sizes = [len(window.indices) // window.n_batches for window in windows]
        self._starts = [0, *np.cumsum([len(window.indices) for window in windows]).tolist()]
        self.rows = np.concatenate([storage.rows(window.indices) for window in windows])
        self.chunks = storage.chunks(self.rows)
        self.left = len(self.rows)
        self.slots = np.full(self.left, UNREAD)
        self._order = _chunk_order(self.chunks)
        self._sorted = self.chunks[self._order]

    def part(self, number: int, n_batches: int) -> slice:
        """Return the places of the rows of some batches; they have one size."""
        k = bisect_right(self._numbers, number) - 1
        start = self._starts[k] + (number - self._numbers[k]) * self._sizes[k]
        return slice(start, start + n_batches * self._sizes[k])

    def take(self, part: slice) -> IndexArray:
        """Return the slots of rows that are now given to the user."""
        slots = self.slots[part].copy()
        self.slots[part] = GIVEN
        self.left -= len(slots)
        return slots

    def unread(self, chunk: int) -> IndexArray:
        """Return the places of the rows of a chunk that are not read yet, in order."""
        start, stop = self._sorted.searchsorted([chunk, chunk + 1])
        places = self._order[start:stop]
        unread: IndexArray = places[self.slots[places] == UNREAD]
        return unread
