"""Array-likes that write rows into memory that they are given, by a method `take`."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._ground.batch import ANYWHERE, Destination
from .._ground.indices import IndexArray, Leaf, from_start
from .rows import Rows


def takes_into_memory(data: Any) -> bool:
    """Say whether an array-like has a shape, a dtype, and ``take(indices, axis=0, out=array)``.

    The signature decides. Arrays of other libraries have a `take` too, but not for memory of NumPy.
    """
    if hasattr(data, '__array_namespace__') or hasattr(data, '__array_function__'):
        return False
    if not isinstance(getattr(data, 'shape', None), tuple) or not isinstance(getattr(data, 'dtype', None), np.dtype):
        return False
    try:
        return {'axis', 'out'} <= set(inspect.signature(data.take).parameters)
    except (AttributeError, TypeError, ValueError):
        return False


class FilledRows:
    """The samples of an array-like that writes them into memory: recycled, or that of a pool.

    Parameters
    ----------
    array : array-like
        What is read, by one call of `take` for each batch.
    """

    def __init__(self, array: Any) -> None:
        self.array = array
        self._rows = Rows(np.broadcast_to(np.empty((), array.dtype), array.shape))

    def __reduce__(self) -> tuple[Any, ...]:
        return FilledRows, (self.array,)

    def read(self, indices: Leaf) -> NDArray[Any]:
        """Read the rows that indices choose."""
        (batch,) = self.batches(indices, 1, ANYWHERE)
        return batch

    def batches(self, indices: Leaf, n_batches: int, to: Destination) -> Iterator[NDArray[Any]]:
        """Read several batches of equal size one by one; where memory is given, they lie there side by side."""
        parts = from_start(indices, len(self.array)).reshape(n_batches, -1)
        if to.memory is None:
            return (self._fill(self._rows.empty(len(part)), part) for part in parts)
        outputs = self._rows.empty(len(indices), to.memory)
        return map(self._fill, outputs.reshape(*parts.shape, *outputs.shape[1:]), parts)

    def _fill(self, output: NDArray[Any], indices: IndexArray) -> NDArray[Any]:
        self.array.take(indices, axis=0, out=output)
        return output
