"""The common part of readers that read batch by batch, into memory of the array's library."""

from __future__ import annotations

import abc
from collections.abc import Iterator
from typing import Any

import numpy as np

from .._ground.batch import Destination
from .._ground.indices import IndexArray, Leaf, as_array


class BatchRows(abc.ABC):
    """The samples of an array-like that is no plain NumPy array; each batch is read by one call.

    Parameters
    ----------
    array : array-like
        What is read.
    number : int
        Its number among the data of a source, for errors.
    """

    def __init__(self, array: Any, number: int) -> None:
        self.array = array
        self._number = number

    @abc.abstractmethod
    def read(self, indices: Leaf) -> Any:
        """Read the rows that indices from -n to n - 1 choose, into memory that nothing else refers to."""

    def batches(self, indices: Leaf, n_batches: int, to: Destination) -> Iterator[Any]:
        """Read several batches of equal size one by one; the array-like gives the memory for them."""
        return (self.read(part) for part in as_array(indices).reshape(n_batches, -1))


def from_start(indices: Leaf, length: int) -> IndexArray:
    """Return indices as a new array, in which those that count from the end are counted from the start.

    >>> from_start(np.array([1, -1]), 5)
    array([1, 4])
    """
    if isinstance(indices, range):
        return as_array(indices)
    return np.where(indices < 0, indices + length, indices)
