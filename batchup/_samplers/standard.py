"""Samplers that go through samples, all of them or chosen ones."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike

from .._ground.arguments import check_non_negative, check_repeats
from .._ground.indices import bounds, check_indices, check_places, check_range
from .._ground.randomness import Path, Shuffle
from .._ground.words import counted, times
from .._plans.ordered import OrderPlan, total_samples
from .._plans.orders import sample_orders
from .._plans.places import OrderPlaces
from .._plans.plan import Plan
from ..errors import SampleIndexError
from .base import PlannedSampler


class StandardSampler(PlannedSampler):
    """All samples of a data set, in order or shuffled, one or more times.

    Shuffled, every repetition is a new permutation; it takes 8 bytes a sample, and about
    30 nanoseconds a sample to draw. A `ComputedShuffle` or a `BlockShuffle` takes less.

    Parameters
    ----------
    length : int
        The number of samples.
    repeats : int
        How often to go through them; -1 for endless.

    >>> list(StandardSampler(5, repeats=2).in_order_indices_batch_iterator(4))
    [array([0, 1, 2, 3]), array([4, 0, 1, 2]), array([3, 4])]
    """

    def __init__(self, length: int, repeats: int = 1) -> None:
        self.length = check_non_negative('length', length)
        self.repeats = check_repeats(repeats)

    def _words(self) -> str:
        return counted(self.length, 'sample') + times(self.repeats)

    def num_indices_generated(self) -> int | float:
        return total_samples(self.length, self.repeats)

    def subset(self, indices: ArrayLike) -> SubsetSampler:
        return SubsetSampler(check_places(indices, self.length), self.repeats)

    def _make_plan(self, batch_size: int, shuffle: Shuffle, drop_last: bool, path: Path) -> Plan:
        samples = range(self.length)
        orders = sample_orders(samples, shuffle, path)
        name = f'{self.length} samples x {self.repeats}{shuffle.blocks}'
        places = OrderPlaces(samples, batch_size, self.num_indices_generated(), shuffle.in_order)
        return OrderPlan(name, orders, self.length, self.repeats, batch_size, shuffle, drop_last, places=places)

    def _check_length(self, length: int) -> None:
        if self.length > length:
            raise SampleIndexError(f'the sampler is for {self.length} samples, the data has {length}')


class SubsetSampler(PlannedSampler):
    """Chosen samples of a data set, in order or shuffled, one or more times.

    Parameters
    ----------
    indices : 1-D array-like of integers
        The indices of the samples; duplicates are used as often as they appear, negative
        ones count from the end.
    repeats : int
        How often to go through them; -1 for endless.

    Raises
    ------
    TypeError
        If the indices are a boolean mask, or no integers.
    """

    def __init__(self, indices: ArrayLike, repeats: int = 1) -> None:
        self.indices = check_indices('indices', indices)
        self._bounds = bounds(self.indices)
        self.repeats = check_repeats(repeats)

    def _words(self) -> str:
        return counted(len(self.indices), 'chosen sample') + times(self.repeats)

    def num_indices_generated(self) -> int | float:
        return total_samples(len(self.indices), self.repeats)

    def map_indices(self, indices: Any) -> Any:
        return self.indices[indices]

    def subset(self, indices: ArrayLike) -> SubsetSampler:
        return SubsetSampler(self.indices[check_places(indices, len(self.indices))], self.repeats)

    def _make_plan(self, batch_size: int, shuffle: Shuffle, drop_last: bool, path: Path) -> Plan:
        orders = sample_orders(self.indices, shuffle, path)
        length = len(self.indices)
        name = f'{length} chosen samples x {self.repeats}{shuffle.blocks}'
        places = OrderPlaces(self.indices, batch_size, self.num_indices_generated(), shuffle.in_order)
        return OrderPlan(name, orders, length, self.repeats, batch_size, shuffle, drop_last, places=places)

    def _check_length(self, length: int) -> None:
        check_range('indices', self._bounds, length)
