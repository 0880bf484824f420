"""Places for rows that wait for their batches: single ones, and pages for whole chunks."""

from __future__ import annotations

import numpy as np

from .._ground.indices import IndexArray


class Slots:
    """Which places for rows are free. Those that were given back last are used first: they may be in the cache.

    A chunk of which most rows are kept gets a page, into which it is decoded as it is: that
    saves a copy. Half of the pages stay free for single rows, which find room when pages would
    be full of rows that nobody needs any more.

    Parameters
    ----------
    count : int
        How many slots there are.
    page_rows : int
        How many of them make a page.

    Attributes
    ----------
    free : int
        How many rows find room, one by one.
    """

    def __init__(self, count: int, page_rows: int) -> None:
        self.free = count
        self._page_rows = page_rows
        self._n_pages = count // page_rows
        self._pages = list(range(self._n_pages))[::-1]
        # How many rows are used of each page that has a whole chunk.
        self._used = np.zeros(self._n_pages + 1, np.intp)
        # The single slots that are free: those at the end, which make no page, and later those of pages.
        self._single = np.empty(count, np.intp)
        self._n_single = count - self._n_pages * page_rows
        self._single[: self._n_single] = np.arange(self._n_pages * page_rows, count)

    def take(self, count: int) -> IndexArray:
        """Take so many slots, of those that are `free`."""
        while self._n_single < count:
            start = self._pages.pop() * self._page_rows
            self._put(np.arange(start, start + self._page_rows))
        self._n_single -= count
        self.free -= count
        return self._single[self._n_single : self._n_single + count].copy()

    def take_page(self, used: int) -> int | None:
        """Take a page for a whole chunk, of which `used` rows will be given back; return its first slot.

        `None` if too few pages are left.
        """
        if 2 * len(self._pages) <= self._n_pages:
            return None
        page = self._pages.pop()
        self._used[page] = used
        self.free -= self._page_rows
        return page * self._page_rows

    def give_back(self, slots: IndexArray) -> None:
        """Give slots back."""
        pages = slots // self._page_rows
        whole = self._used[pages] > 0
        self.free += len(slots) - int(np.count_nonzero(whole))
        self._put(slots[~whole])
        given = np.bincount(pages[whole], minlength=len(self._used))
        self._used -= given
        empty = np.flatnonzero((self._used == 0) & (given > 0)).tolist()
        self._pages += empty
        self.free += len(empty) * self._page_rows

    def _put(self, slots: IndexArray) -> None:
        self._single[self._n_single : self._n_single + len(slots)] = slots
        self._n_single += len(slots)
