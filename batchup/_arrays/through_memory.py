"""Arrays of other libraries that lie in memory which NumPy can read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from numpy.typing import NDArray

from .._ground.batch import Destination
from .._ground.indices import Leaf
from .rows import Rows


class MemoryRows:
    """The samples of an array of another library, which NumPy gathers; batches are of the kind of the array.

    Parameters
    ----------
    array : array-like
        What is read.
    memory : array of shape (n, ...)
        The same elements in the same memory, in a dtype that NumPy has.
    give_kind : callable
        Makes an array of the other library over rows, to which nothing else refers.
    """

    def __init__(self, array: Any, memory: NDArray[Any], give_kind: Callable[[NDArray[Any]], Any]) -> None:
        self.array = array
        self.rows = Rows(memory)
        self._give_kind = give_kind

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.array,)

    def read(self, indices: Leaf) -> Any:
        """Copy the rows that indices choose."""
        return self._give_kind(self.rows.read(indices))

    def batches(self, indices: Leaf, n_batches: int, to: Destination) -> Iterator[Any]:
        """Read several batches of equal size, into the memory that is given, if any."""
        return map(self._give_kind, self.rows.batches(indices, n_batches, to))
