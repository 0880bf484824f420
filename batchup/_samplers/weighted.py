"""Samplers that draw samples by weight."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..arguments import check_integer
from ..indices import IndexArray, bounds, check_indices, check_positions, check_range
from ..orders import KeyedOrders
from ..plan import OrderPlan, Plan, ReplayPlan
from ..rng import Path, Purpose, SequentialRng, Shuffle
from .base import PlannedSampler

# Weighted draws by a seed are made this many at a time, each time with a new key. Larger:
# fewer keys (20 microseconds each). Smaller: less to draw again after a jump.
DRAWS_PER_KEY = 4096


class _DrawingSampler(PlannedSampler):
    """Endless draws with replacement by weight: the common part of the weighted samplers.

    A batch costs one binary search a sample in the cumulative weights.
    """

    _cumulative: NDArray[np.float64]
    # What is drawn from; all samples, if `None`.
    _drawn_from: IndexArray | None = None

    def _set_weights(self, name: str, weights: ArrayLike) -> NDArray[np.float64]:
        normalised = normalise_weights(name, weights)
        # What RandomState.choice computes anew for every batch.
        self._cumulative = normalised.cumsum()
        self._cumulative /= self._cumulative[-1]
        return normalised

    def num_indices_generated(self) -> float:
        return math.inf

    def in_order_indices_batch_iterator(self, batch_size: int) -> Iterator[IndexArray]:
        raise NotImplementedError(f'{type(self).__name__} draws at random: it has no in-order iteration; pass shuffle=')

    def make_plan(self, batch_size: int, shuffle: Shuffle, drop_last: bool, path: Path) -> Plan:
        if shuffle.in_order:
            self.in_order_indices_batch_iterator(batch_size)
        name = f'draws from {len(self._cumulative)} weights'
        rng = shuffle.rng
        if rng is None:
            orders = KeyedOrders(lambda keyed: self._draw(keyed, DRAWS_PER_KEY), shuffle, Purpose.ORDER, path)
            return OrderPlan(name, orders, DRAWS_PER_KEY, -1, batch_size, shuffle, drop_last)
        return ReplayPlan(
            name, lambda: self._draws(rng, batch_size), math.inf, batch_size, shuffle, drop_last, lambda _, drawn: drawn
        )

    def _draws(self, rng: SequentialRng, batch_size: int) -> Iterator[IndexArray]:
        while True:
            yield self._draw(rng, batch_size)

    def _draw(self, rng: SequentialRng, count: int) -> IndexArray:
        """Draw as `rng.choice(n, size=count, p=weights)` does, bit for bit."""
        drawn: IndexArray = self._cumulative.searchsorted(rng.random(count), side='right')
        return drawn if self._drawn_from is None else self._drawn_from[drawn]


class WeightedSampler(_DrawingSampler):
    """Endless draws with replacement, each sample by its weight.

    With a `RandomState`, the draws equal `rng.choice(n, size=batch_size, p=weights)`.

    Parameters
    ----------
    weights : 1-D array-like of n numbers
        The weight of every sample; kept normalised in `weights`.

    Raises
    ------
    ValueError
        If weights are negative, NaN or infinite, or sum to 0.
    """

    def __init__(self, weights: ArrayLike) -> None:
        self.weights = self._set_weights('weights', weights)

    def subset(self, indices: ArrayLike) -> WeightedSubsetSampler:
        chosen = check_positions(indices, len(self.weights))
        return WeightedSubsetSampler(self.weights[chosen], chosen)

    def check_length(self, length: int) -> None:
        if len(self.weights) != length:
            raise ValueError(f'the sampler has {len(self.weights)} weights, the data has {length} samples')

    @staticmethod
    def class_balancing_sample_weights(y: ArrayLike, n_classes: int | None = None) -> NDArray[np.float64]:
        """Return weights by which all classes that are present are drawn equally often.

        The weight of a sample of class c is `1 / (count[c] * number of classes present)`.

        Parameters
        ----------
        y : 1-D array-like of n integers
            The class of every sample, 0 or more.
        n_classes : int, optional
            The number of classes, if labels are to be checked against it.

        Returns
        -------
        array of shape (n,), float64
            The weights; they sum to 1.

        >>> WeightedSampler.class_balancing_sample_weights([0, 0, 0, 2])
        array([0.16666667, 0.16666667, 0.16666667, 0.5       ])
        """
        labels = check_labels(y, n_classes)
        counts = np.bincount(labels)
        weights: NDArray[np.float64] = 1.0 / (counts[labels] * np.count_nonzero(counts))
        return weights

    @classmethod
    def class_balancing_sampler(cls, y: ArrayLike, n_classes: int | None = None) -> WeightedSampler:
        """Make a sampler that draws all classes equally often."""
        return cls(cls.class_balancing_sample_weights(y, n_classes))


class WeightedSubsetSampler(_DrawingSampler):
    """Endless draws with replacement from chosen samples, each by its weight.

    With a `RandomState`, the draws equal `rng.choice(indices, size=batch_size, p=sub_weights)`.

    Parameters
    ----------
    sub_weights : 1-D array-like of n numbers
        The weight of every chosen sample; kept normalised in `sub_weights`.
    indices : 1-D array-like of n integers
        The indices of the chosen samples.

    Raises
    ------
    ValueError
        If weights are negative, NaN or infinite, sum to 0, or are not as many as indices.
    """

    def __init__(self, sub_weights: ArrayLike, indices: ArrayLike) -> None:
        self.indices = self._drawn_from = check_indices('indices', indices)
        self._bounds = bounds(self.indices)
        self.sub_weights = self._set_weights('sub_weights', sub_weights)
        if len(self.sub_weights) != len(self.indices):
            raise ValueError(
                f'sub_weights and indices must be equally many, got {len(self.sub_weights)} and {len(self.indices)}'
            )

    def map_indices(self, indices: Any) -> Any:
        return self.indices[indices]

    def subset(self, indices: ArrayLike) -> WeightedSubsetSampler:
        chosen = check_positions(indices, len(self.indices))
        return WeightedSubsetSampler(self.sub_weights[chosen], self.indices[chosen])

    def check_length(self, length: int) -> None:
        check_range('indices', self._bounds, length)

    @classmethod
    def class_balancing_sampler(
        cls, y: ArrayLike, indices: ArrayLike, n_classes: int | None = None
    ) -> WeightedSubsetSampler:
        """Make a sampler that draws all classes among the chosen samples equally often.

        Parameters
        ----------
        y : 1-D array-like of integers
            The class of every sample of the data, 0 or more.
        indices : 1-D array-like of integers
            The indices of the chosen samples.
        n_classes : int, optional
            The number of classes, if labels are to be checked against it.
        """
        labels, chosen = check_labels(y, n_classes), check_indices('indices', indices)
        check_range('indices', bounds(chosen), len(labels))
        return cls(WeightedSampler.class_balancing_sample_weights(labels[chosen], n_classes), chosen)


def normalise_weights(name: str, weights: ArrayLike) -> NDArray[np.float64]:
    """Return weights as float64 that sum to 1."""
    array = np.asarray(weights, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f'{name} must have one dimension, got shape {array.shape}')
    wrong = np.flatnonzero(~np.isfinite(array) | (array < 0))
    if wrong.size:
        raise ValueError(f'{name} must be finite and 0 or more, got {array[wrong[0]]} for sample {wrong[0]}')
    if not array.size:
        raise ValueError(f'{name} must hold at least one number, got none')
    largest = array.max()
    if largest == 0:
        raise ValueError(f'{name} sum to 0: at least one of the {array.size} must be positive')
    if not 1e-100 < largest < 1e100:  # the sum could leave the range of float64
        array = array / largest
    normalised: NDArray[np.float64] = array / array.sum()
    return normalised


def check_labels(y: ArrayLike, n_classes: int | None) -> IndexArray:
    """Return class labels as a 1-D array of integers of 0 or more, and below `n_classes`."""
    labels = np.asarray(y)
    if labels.ndim != 1:
        raise ValueError(f'y must have one dimension, a class label for each sample, got shape {labels.shape}')
    if labels.dtype.kind not in 'iub' and labels.size:
        raise TypeError(f'y must hold integer class labels, got dtype {labels.dtype}')
    if labels.size and labels.min() < 0:
        raise ValueError(f'class labels in y must be 0 or more, got {labels.min()}')
    if n_classes is not None and labels.size and labels.max() >= check_integer('n_classes', n_classes):
        raise ValueError(f'n_classes is {n_classes}, but y holds the label {labels.max()}')
    return labels.astype(np.intp)
