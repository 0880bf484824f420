"""Places: where the samples of batches stand among the samples of all repetitions."""

from __future__ import annotations

import abc
import math
from functools import cached_property

import numpy as np

from .._ground.indices import IndexArray, Leaf, as_array


class Places(abc.ABC):
    """Where the samples of batches stand among the samples of all repetitions, one after the other.

    Within a repetition, a sample has the same place as in the source, as in
    `samples_by_indices`, in whatever order the batches come.

    Attributes
    ----------
    in_order : bool
        Whether the batches come in order.
    """

    in_order: bool = False

    @property
    @abc.abstractmethod
    def total(self) -> int | float | None:
        """The number of places; `None` if samples have no place of their own."""

    @abc.abstractmethod
    def of_batch(self, number: int, indices: Leaf) -> Leaf:
        """Return the places of the samples of a batch, unless `total` says that they have none."""


class OrderPlaces(Places):
    """The places of samples in a plan whose batches are filled across the ends of repetitions.

    Shuffled samples have no place of their own if one of them comes twice in a repetition.

    Parameters
    ----------
    samples : range or array of indices
        The samples of a repetition, in order.
    batch_size : int
        The number of samples in a batch.
    total : int or math.inf
        The number of samples of all repetitions.
    in_order : bool
        Whether the batches come in order.

    >>> OrderPlaces(np.array([7, 3, 5]), 2, 6, in_order=False).of_batch(1, np.array([5, 3]))
    array([2, 4])
    """

    def __init__(self, samples: Leaf, batch_size: int, total: float, in_order: bool) -> None:
        self._samples = samples
        self._batch_size = batch_size
        self._total = total
        self.in_order = in_order

    @property
    def total(self) -> int | float | None:
        return self._total if self.in_order or self._distinct else None

    def of_batch(self, number: int, indices: Leaf) -> Leaf:
        start = number * self._batch_size
        if self.in_order:
            return range(start, start + len(indices))
        places = as_array(indices)
        if not isinstance(self._samples, range):
            places = self._sorter[np.searchsorted(self._sorted, places)]
        length = max(1, len(self._samples))
        repetitions, offset = divmod(start, length)
        return places + (repetitions + (offset + np.arange(len(places), dtype=np.intp)) // length) * length

    @cached_property
    def _sorter(self) -> IndexArray:
        return np.argsort(as_array(self._samples), kind='stable')

    @cached_property
    def _sorted(self) -> IndexArray:
        return as_array(self._samples)[self._sorter]

    @cached_property
    def _distinct(self) -> bool:
        return isinstance(self._samples, range) or not bool((self._sorted[1:] == self._sorted[:-1]).any())


class ArrangedPlaces(Places):
    """The places of samples in a plan that makes the batches of a whole repetition at once.

    Parameters
    ----------
    length : int
        The number of samples, each of which is in a repetition once at most.
    n_batches : int
        The number of batches of a repetition.
    repeats : int
        The number of repetitions; -1 for endless.
    """

    def __init__(self, length: int, n_batches: int, repeats: int) -> None:
        self._length = length
        self._n_batches = n_batches
        self._repeats = repeats

    @property
    def total(self) -> int | float:
        return math.inf if self._repeats == -1 and self._length > 0 else self._length * abs(self._repeats)

    def of_batch(self, number: int, indices: Leaf) -> IndexArray:
        return as_array(indices) + number // self._n_batches * self._length
