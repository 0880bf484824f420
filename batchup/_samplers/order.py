"""Orders that need not be stored: which sample is at which place, computed piece by piece."""

from __future__ import annotations

import abc
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .._ground.arguments import check_integer
from .._ground.indices import IndexArray, as_array, bounds, check_indices, check_range
from .._ground.randomness import draw_permutation
from .feistel import ROUNDS, Feistel

# Up to this many samples, a computed order is stored after all, in half a megabyte. Smaller:
# more orders are computed, over fewer numbers, which is slower and mixes less well.
STORED_SAMPLES = 65_536

# How many indices are computed at once. Larger: they do not fit into the cache. Smaller: more calls.
PIECE_SAMPLES = 8192


class Order(abc.ABC):
    """The order in which samples come: which sample is at which place.

    `order[k]` is the index of the sample at place k, `order[start:stop]` those at consecutive
    places, and `order(places)` those at any. Places from -1 down count from the end.

    >>> from batchup.sampling import ComputedShuffle
    >>> order = ComputedShuffle(42).order(7)
    >>> order[:4], order([4, -1]), order[4]
    (array([3, 0, 5, 4]), array([2, 1]), 2)
    """

    def __init__(self, length: int) -> None:
        self._length = length
        # The latest piece, which the next batch needs, too.
        self._piece: tuple[int, IndexArray] = 0, np.empty(0, np.intp)

    @abc.abstractmethod
    def _make_piece(self, place: int) -> tuple[int, IndexArray]:
        """Make the piece of the order that covers a place; return where it starts, and the piece."""

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, run: Any) -> Any:
        if isinstance(run, slice):
            places = range(*run.indices(self._length))
            return self._run(places) if places.step == 1 else self(as_array(places))
        place = check_integer('a place', run)
        check_range('order', (place,), self._length)
        return int(self([place])[0])

    def _run(self, places: range) -> IndexArray:
        """Return the indices at consecutive places, as a new array."""
        start, stop = places.start, places.stop
        indices = np.empty(max(stop - start, 0), np.intp)
        while start < stop:
            first, piece = self._piece_at(start)
            part = piece[start - first : stop - first]
            indices[start - places.start :][: len(part)] = part
            start += len(part)
        return indices

    def _piece_at(self, place: int) -> tuple[int, IndexArray]:
        first, piece = self._piece
        if not first <= place < first + len(piece):
            first, piece = self._piece = self._make_piece(place)
        return first, piece

    def __call__(self, places: ArrayLike) -> IndexArray:
        """Return the indices of the samples at some places.

        Parameters
        ----------
        places : 1-D array-like of k integers
            Places in any order, possibly repeated.

        Returns
        -------
        array of shape (k,), intp
            The indices of the samples.

        Raises
        ------
        TypeError, ValueError
            If the places are no integers, or not in one dimension.
        SampleIndexError
            If a place is out of range.
        """
        array = check_indices('places', places)
        check_range('places', bounds(array), self._length)
        negative = array < 0
        array[negative] += self._length - 1  # 2**63 itself is too large for an array
        array[negative] += 1
        return self._at(array)

    def _at(self, places: IndexArray) -> IndexArray:
        """Return the indices at places of 0 or more, made piece by piece."""
        by_place = np.argsort(places, kind='stable')
        indices, done = np.empty_like(places), 0
        while done < len(places):
            first, piece = self._piece_at(int(places[by_place[done]]))
            end = np.searchsorted(places, first + len(piece) - 1, 'right', by_place)
            here = by_place[done:end]
            indices[here] = piece[places[here] - first]
            done += len(here)
        return indices


class StoredOrder(Order):
    """An order that is kept as a whole."""

    def __init__(self, order: IndexArray) -> None:
        super().__init__(len(order))
        self._piece = 0, order

    def _make_piece(self, place: int) -> tuple[int, IndexArray]:
        return self._piece


class ComputedOrder(Order):
    """An order that is computed by a `Feistel` network with random keys."""

    def __init__(self, length: int, bits: np.random.PCG64) -> None:
        super().__init__(length)
        self._permutation = Feistel(length, bits.random_raw(ROUNDS))

    def _make_piece(self, place: int) -> tuple[int, IndexArray]:
        first = place - place % PIECE_SAMPLES
        return first, self._permutation(first + np.arange(min(PIECE_SAMPLES, self._length - first), dtype=np.intp))

    def _at(self, places: IndexArray) -> IndexArray:
        indices = np.empty_like(places)
        for first in range(0, len(places), PIECE_SAMPLES):
            part = slice(first, first + PIECE_SAMPLES)
            indices[part] = self._permutation(places[part])
        return indices


def stored(length: int, bits: np.random.PCG64) -> Order:
    """Make a random permutation of the numbers below `length`."""
    return StoredOrder(draw_permutation(np.random.RandomState(bits), length))


def permutation(length: int, bits: np.random.PCG64) -> Order:
    """Make a permutation of the numbers below `length` that takes half a megabyte at most."""
    return stored(length, bits) if length <= STORED_SAMPLES else ComputedOrder(length, bits)
