"""The common part of readers that read batch by batch, into memory of the array's library."""

from __future__ import annotations

import abc
from collections.abc import Iterator
from typing import Any

from .._ground.batch import Destination
from .._ground.indices import Leaf, as_array


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
