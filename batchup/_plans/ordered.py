"""The plan of a sampler that goes through orders of its samples."""

from __future__ import annotations

import math

import numpy as np

from .._ground.indices import IndexTree, Leaf, as_array
from .._ground.randomness import Shuffle
from .orders import ComputedOrders, Orders
from .places import Places
from .plan import Plan, count_batches

# How many indices of a computed order a window holds, unless a batch has more. Larger: more
# memory, and more time before the first batch. Smaller: more windows, so more time for each batch.
COMPUTED_AT_ONCE = 65_536
# A batch of more repetitions than this is taken for a mistake. Larger: such a batch can take minutes,
# 20 microseconds for each repetition. Smaller: large batches of tiny data are refused.
MOST_REPETITIONS = 2**20


class OrderPlan(Plan):
    """Go through orders of equal length, one repetition after the other.

    A batch is filled across the end of a repetition, as often as needed.

    Parameters
    ----------
    orders : FixedOrder, KeyedOrders, DrawnOrders or ComputedOrders
        The order of each repetition.
    length : int
        The number of samples of a repetition.
    repeats : int
        The number of repetitions; -1 for endless.
    samples : int or math.inf, optional
        The number of samples after which the plan ends, if that is before the last repetition ends.
    places : Places, optional
        The places of the samples of batches among all samples.
    """

    def __init__(
        self,
        name: str,
        orders: Orders | ComputedOrders,
        length: int,
        repeats: int,
        batch_size: int,
        shuffle: Shuffle,
        drop_last: bool,
        samples: float = math.inf,
        places: Places | None = None,
    ) -> None:
        self._name = name
        self._orders = orders
        self.places = places
        self._order_length = length
        self._samples = min(samples, total_samples(length, repeats))
        rounds = -(-min(batch_size, self._samples) // max(1, length))
        if rounds > MOST_REPETITIONS:
            raise ValueError(
                f'batch_size is {batch_size}, so that one batch would repeat the {length} samples {int(rounds)} times; '
                f'choose a smaller one: a batch has at most {MOST_REPETITIONS * length} of these samples'
            )
        self._batch_size = batch_size
        self._most = max(1, COMPUTED_AT_ONCE // batch_size) if isinstance(orders, ComputedOrders) else math.inf
        self.length = count_batches(self._samples, batch_size, drop_last)
        self.shuffle = shuffle
        self.pure = shuffle.pure

    def describe(self) -> str:
        return self._name

    def _indices(self, number: int, limit: int) -> tuple[IndexTree, int]:
        repetition, offset = divmod(number * self._batch_size, self._order_length)
        left = self._samples - number * self._batch_size
        whole = int(min(min(self._order_length - offset, left) // self._batch_size, limit, self._most))
        if whole:
            return self._orders[repetition][offset : offset + whole * self._batch_size], whole
        return self._across(repetition, offset, min(self._batch_size, left)), 1

    def endless(self) -> OrderPlan:
        """Return the plan that goes on with more repetitions, as `repeats=-1` does."""
        name, samples = f'repeated {self._name}', self._order_length
        size = self._batch_size
        return OrderPlan(name, self._orders, samples, -1, size, self.shuffle, False)

    def _across(self, repetition: int, offset: int, wanted: float) -> Leaf:
        """Put together the indices of one batch, from as many repetitions as it needs."""
        parts: list[Leaf] = []
        while wanted > 0:
            stop = min(self._order_length, offset + int(wanted))
            parts.append(self._orders[repetition][offset:stop])
            wanted -= stop - offset
            repetition, offset = repetition + 1, 0
        return parts[0] if len(parts) == 1 else np.concatenate([as_array(part) for part in parts])


def total_samples(length: int, repeats: int) -> int | float:
    """Return the number of samples of all repetitions; 0 samples stay 0, even if `repeats` is -1."""
    return math.inf if repeats == -1 and length > 0 else length * abs(repeats)
