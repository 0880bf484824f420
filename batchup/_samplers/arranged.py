"""Plans over batches that are made for a whole repetition at once, and may differ in size."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from .._ground.indices import IndexArray, IndexTree, as_array
from .._ground.randomness import Path, Purpose, Shuffle
from .._plans.ordered import total_samples
from .._plans.orders import Orders, permutations
from .._plans.places import ArrangedPlaces
from .._plans.plan import Plan

# Takes a permutation of each of several lengths; returns the samples of all batches, batch by batch.
Arrange = Callable[..., IndexArray]


class ArrangedPlan(Plan):
    """Go through batches whose number and sizes are the same in every repetition.

    Which samples they hold, and in which order they come, is new in every repetition. No
    batch goes across the end of one. The arrangement of the latest repetition is kept.

    Parameters
    ----------
    name : str
        What the plan goes through.
    arrange : callable
        Given a permutation of each of the `lengths`, returns the indices of the samples of
        all batches, one batch after the other.
    lengths : sequence of int
        What to permute: first, the samples.
    starts : array of m + 1 integers
        Where each of m batches starts among these indices, and where the last one stops.
    repeats : int
        The number of repetitions; -1 for endless.
    """

    def __init__(
        self,
        name: str,
        arrange: Arrange,
        lengths: Sequence[int],
        starts: IndexArray,
        repeats: int,
        shuffle: Shuffle,
        path: Path,
    ) -> None:
        self._name = name
        self._arrange = arrange
        self._starts = starts[:-1]
        self._sizes = np.diff(starts)
        self._permuted: list[Orders] = [
            permutations(range(length), shuffle, Purpose.ORDER, (*path, place)) for place, length in enumerate(lengths)
        ]
        self._turns = permutations(range(len(self._sizes)), shuffle, Purpose.CHOICE, path)
        self._latest: tuple[int, IndexArray, IndexArray] | None = None
        self.places = ArrangedPlaces(lengths[0], len(self._sizes), repeats)
        self.length = total_samples(len(self._sizes), repeats)
        self.shuffle = shuffle
        self.pure = shuffle.pure

    def describe(self) -> str:
        return self._name

    def _indices(self, number: int, limit: int) -> tuple[IndexTree, int]:
        repetition, place = divmod(number, len(self._sizes))
        samples, turns = self._arrangement(repetition)
        batches = turns[place : place + limit]
        size = self._sizes[batches[0]]
        others = np.flatnonzero(self._sizes[batches] != size)
        batches = batches[: others[0]] if others.size else batches
        places = self._starts[batches][:, np.newaxis] + np.arange(size)
        return samples[places.reshape(-1)], len(batches)

    def _arrangement(self, repetition: int) -> tuple[IndexArray, IndexArray]:
        """Return the samples of all batches of a repetition, and the order of the batches."""
        if self._latest is None or self._latest[0] != repetition:
            reached = -1 if self._latest is None else self._latest[0]
            # A sequential generator is drawn from repetition by repetition.
            first = repetition if self.pure else min(reached + 1, repetition)
            for drawn in range(first, repetition + 1):
                parts = [as_array(orders[drawn]) for orders in self._permuted]
                turns = as_array(self._turns[drawn])
            self._latest = repetition, self._arrange(*parts), turns
        return self._latest[1:]
