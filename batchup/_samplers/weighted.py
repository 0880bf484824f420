"""Samplers that draw samples by weight."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._ground.arguments import check_flag, check_non_negative
from .._ground.indices import IndexArray, bounds, check_indices, check_places, check_range
from .._ground.labels import Labels, number_labels
from .._ground.randomness import Path, Purpose, SequentialRng, Shuffle
from .._ground.words import counted
from .._plans.ordered import OrderPlan
from .._plans.orders import DrawnOrders, KeyedOrders, Orders
from .._plans.plan import Plan
from .._plans.replayed import ReplayPlan
from .._plans.weights import WeightTable, normalise_weights
from .base import PlannedSampler

# Weighted draws by a seed are made this many at a time, each time with a new key. Larger:
# fewer keys (20 microseconds each). Smaller: less to draw again after a jump.
DRAWS_PER_KEY = 4096


class _DrawingSampler(PlannedSampler):
    """Draws by weight: the common part of the weighted samplers."""

    def __init__(self, table: WeightTable, n_samples: int | None, replace: bool) -> None:
        self.n_samples = None if n_samples is None else check_non_negative('n_samples', n_samples)
        self.replace = check_flag('replace', replace)
        self._use(table)

    def _use(self, table: WeightTable) -> None:
        """Draw by other weights from now on; plans made before keep theirs."""
        if not self.replace and self.n_samples is not None and self.n_samples > table.positive.size:
            raise ValueError(
                f'n_samples is {self.n_samples}, but only {table.positive.size} samples have a positive weight; '
                'draw fewer, or with replace=True'
            )
        self._table = table

    def _words(self) -> str:
        draws = self.num_indices_generated()
        kind = 'draw' if self.replace else 'distinct draw'
        return (
            f'{counted(len(self._table.weights), "weight")}, {"endless" if draws == math.inf else counted(draws, kind)}'
        )

    def num_indices_generated(self) -> int | float:
        if self.n_samples is not None:
            return self.n_samples
        return math.inf if self.replace else self._table.positive.size

    def in_order_indices_batch_iterator(self, batch_size: int) -> Iterator[IndexArray]:
        raise NotImplementedError(f'{type(self).__name__} draws at random: it has no in-order iteration; pass shuffle=')

    def _make_plan(self, batch_size: int, shuffle: Shuffle, drop_last: bool, path: Path) -> Plan:
        if shuffle.in_order:
            self.in_order_indices_batch_iterator(batch_size)
        table, samples = self._table, self.num_indices_generated()
        name = f'{samples} {"draws" if self.replace else "distinct draws"} by weights {table.digest}'
        if not self.replace:
            orders = _distinct_draws(table, int(samples), shuffle, path)
            return OrderPlan(name, orders, int(samples), 1, batch_size, shuffle, drop_last)
        if shuffle.rng is not None:
            return _replayed_draws(name, table, samples, shuffle, batch_size, drop_last)
        keyed = KeyedOrders(lambda rng: table.draw(rng, DRAWS_PER_KEY), shuffle, Purpose.ORDER, path)
        return OrderPlan(name, keyed, DRAWS_PER_KEY, -1, batch_size, shuffle, drop_last, samples)


def _distinct_draws(table: WeightTable, count: int, shuffle: Shuffle, path: Path) -> Orders:
    """Return draws without replacement as an order of samples."""

    def make(rng: SequentialRng) -> IndexArray:
        return table.draw_distinct(rng, count)

    if shuffle.rng is not None:
        return DrawnOrders(make, shuffle.rng)
    return KeyedOrders(make, shuffle, Purpose.ORDER, path)


def _replayed_draws(
    name: str, table: WeightTable, samples: float, shuffle: Shuffle, batch_size: int, drop_last: bool
) -> Plan:
    """Return the plan of draws with replacement by a sequential generator, batch by batch."""
    rng = shuffle.rng
    assert rng is not None

    def draws(_: Shuffle) -> Iterator[IndexArray]:
        left = samples
        while left > 0:
            yield table.draw(rng, int(min(left, batch_size)))
            left -= batch_size

    return ReplayPlan(name, draws, samples, batch_size, shuffle, drop_last, lambda _, indices: indices, exact=True)


class WeightedSampler(_DrawingSampler):
    """Draws of samples by weight, with or without replacement.

    Parameters
    ----------
    weights : 1-D array-like of n numbers
        The weight of every sample; they need not sum to 1.
    n_samples : int, optional
        The number of draws that make up an epoch. By default, draws with replacement are
        endless, and draws without replacement go on to the last sample of positive weight.
    replace : bool
        Whether a sample that was drawn may be drawn again in the same epoch. If not, samples
        are drawn one after the other, each by its weight among those that are left.

    Raises
    ------
    TypeError
        If `n_samples` is no integer, or `replace` no boolean.
    ValueError
        If weights are negative, NaN or infinite, or sum to 0; if `n_samples` is negative, or,
        without replacement, more than there are positive weights.

    Notes
    -----
    With replacement, the draws of a `RandomState` or a `Generator` equal
    `rng.choice(n, size=batch_size, p=weights)`. Without, they follow the same distribution as
    `rng.choice(n, size=n_samples, replace=False, p=weights)`, but are not the same draws.

    A seed costs O(1) for a draw with replacement. Without replacement, an epoch costs about
    0.15 seconds for a million positive weights, before its first batch.

    >>> sampler = WeightedSampler([5, 0, 3, 2], replace=False)
    >>> sampler.num_indices_generated()
    3
    >>> sorted(sampler.plan(3, shuffle=42)[0].indices.tolist())
    [0, 2, 3]
    >>> sampler.weights = [1, 0, 0, 0]
    >>> sampler.plan(3, shuffle=42)[0].indices
    array([0])
    """

    def __init__(self, weights: ArrayLike, *, n_samples: int | None = None, replace: bool = True) -> None:
        super().__init__(WeightTable(normalise_weights('weights', weights)), n_samples, replace)

    @property
    def weights(self) -> NDArray[np.float64]:
        """The normalised weights, a read-only array of shape (n,), float64.

        As many new weights may be assigned. Iterators made from then on draw by the new ones,
        open iterators keep the old ones, and states saved before do not fit any more.
        """
        return self._table.weights

    @weights.setter
    def weights(self, weights: ArrayLike) -> None:
        normalised = normalise_weights('weights', weights)
        if len(normalised) != len(self.weights):
            raise ValueError(f'weights must stay as many as they were, got {len(normalised)} for {len(self.weights)}')
        self._use(WeightTable(normalised))

    def subset(self, indices: ArrayLike) -> WeightedSubsetSampler:
        chosen = check_places(indices, len(self.weights))
        return WeightedSubsetSampler(self.weights[chosen], chosen, n_samples=self.n_samples, replace=self.replace)

    def _check_length(self, length: int) -> None:
        if len(self.weights) != length:
            raise ValueError(f'the sampler has {len(self.weights)} weights, the data has {length} samples')

    @staticmethod
    def class_balancing_sample_weights(y: ArrayLike, n_classes: int | None = None) -> NDArray[np.float64]:
        """Return weights by which all classes that are present are drawn equally often.

        The weight of a sample of class c is `1 / (count[c] * number of classes present)`.

        Parameters
        ----------
        y : 1-D array-like of n labels
            The class of every sample: integers, strings, or other values that can be sorted.
        n_classes : int, optional
            The number of classes, if labels are to be checked against it: numbers must be from
            0 to `n_classes - 1`, and there may be up to `n_classes` different labels of other
            kinds.

        Returns
        -------
        array of shape (n,), float64
            The weights; they sum to 1.

        Raises
        ------
        TypeError, ValueError
            If the labels cannot be sorted, do not form one dimension, one is missing, or they
            do not fit `n_classes`.

        >>> WeightedSampler.class_balancing_sample_weights([0, 0, 0, 2])
        array([0.16666667, 0.16666667, 0.16666667, 0.5       ])
        """
        labels = number_labels('y', y)
        check_n_classes(labels, n_classes)
        weights: NDArray[np.float64] = 1.0 / (labels.counts[labels.codes] * len(labels.values))
        return weights

    @classmethod
    def class_balancing_sampler(
        cls, y: ArrayLike, n_classes: int | None = None, *, n_samples: int | None = None, replace: bool = True
    ) -> WeightedSampler:
        """Make a sampler that draws all classes equally often.

        Without replacement, a class is drawn less often the fewer of its samples are left.
        """
        return cls(cls.class_balancing_sample_weights(y, n_classes), n_samples=n_samples, replace=replace)


class WeightedSubsetSampler(_DrawingSampler):
    """Draws of chosen samples by weight, with or without replacement.

    With replacement, the draws of a `RandomState` or a `Generator` equal
    `rng.choice(indices, size=batch_size, p=sub_weights)`; all else is as for `WeightedSampler`.

    Parameters
    ----------
    sub_weights : 1-D array-like of n numbers
        The weight of every chosen sample; they need not sum to 1.
    indices : 1-D array-like of n integers
        The indices of the chosen samples. Draws without replacement take each of them once
        at most: an index that appears several times may be drawn as often.
    n_samples, replace
        As for `WeightedSampler`.

    Raises
    ------
    TypeError, ValueError
        As for `WeightedSampler`; also if indices are a boolean mask or no integers, or are not
        as many as weights.
    """

    def __init__(
        self, sub_weights: ArrayLike, indices: ArrayLike, *, n_samples: int | None = None, replace: bool = True
    ) -> None:
        self.indices = check_indices('indices', indices)
        self._bounds = bounds(self.indices)
        super().__init__(self._make_table(sub_weights), n_samples, replace)

    def _make_table(self, sub_weights: ArrayLike) -> WeightTable:
        normalised = normalise_weights('sub_weights', sub_weights)
        if len(normalised) != len(self.indices):
            raise ValueError(
                f'sub_weights and indices must be equally many, got {len(normalised)} and {len(self.indices)}'
            )
        return WeightTable(normalised, self.indices)

    @property
    def sub_weights(self) -> NDArray[np.float64]:
        """The normalised weights; others may be assigned, as to `WeightedSampler.weights`."""
        return self._table.weights

    @sub_weights.setter
    def sub_weights(self, sub_weights: ArrayLike) -> None:
        self._use(self._make_table(sub_weights))

    def map_indices(self, indices: Any) -> Any:
        return self.indices[indices]

    def subset(self, indices: ArrayLike) -> WeightedSubsetSampler:
        chosen = check_places(indices, len(self.indices))
        sub_weights, indices = self.sub_weights[chosen], self.indices[chosen]
        return WeightedSubsetSampler(sub_weights, indices, n_samples=self.n_samples, replace=self.replace)

    def _check_length(self, length: int) -> None:
        check_range('indices', self._bounds, length)

    @classmethod
    def class_balancing_sampler(
        cls,
        y: ArrayLike,
        indices: ArrayLike,
        n_classes: int | None = None,
        *,
        n_samples: int | None = None,
        replace: bool = True,
    ) -> WeightedSubsetSampler:
        """Make a sampler that draws all classes among the chosen samples equally often.

        Parameters
        ----------
        y : 1-D array-like of labels
            The class of every sample of the data, not only of the chosen ones.
        indices : 1-D array-like of integers
            The indices of the chosen samples.
        n_classes : int, optional
            As for `WeightedSampler.class_balancing_sample_weights`.
        n_samples, replace
            As for `WeightedSampler`.
        """
        labels, chosen = number_labels('y', y), check_indices('indices', indices)
        check_n_classes(labels, n_classes)
        check_range('indices', bounds(chosen), len(labels.codes))
        weights = WeightedSampler.class_balancing_sample_weights(labels.codes[chosen])
        return cls(weights, chosen, n_samples=n_samples, replace=replace)


def check_n_classes(labels: Labels, n_classes: int | None) -> None:
    """Raise `ValueError` if labels are too many, or too large, for a number of classes."""
    if n_classes is None:
        return
    number = check_non_negative('n_classes', n_classes)
    if not labels.numeric and len(labels.values) > number:
        raise ValueError(f'n_classes is {number}, but y holds {len(labels.values)} different labels')
    if labels.numeric and labels.values:
        wrong = labels.values[-1] if labels.values[-1] >= number else labels.values[0]
        if not 0 <= wrong < number:
            raise ValueError(f'n_classes is {number}, but y holds the label {wrong}; labels are from 0 to {number - 1}')
