"""Arrays of the user's, which results are written into row by row."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .indices import Leaf


class Outputs:
    """The arrays that a user has given for results.

    Parameters
    ----------
    out : array, or tuple or list of arrays
        One for each array of the results, in memory or memory-mapped.
    n_rows : int, optional
        The number of rows that the results have; by default, any that fit.

    Raises
    ------
    TypeError
        If they are no NumPy arrays.
    ValueError
        If an array cannot be written into, or has another number of rows.
    """

    def __init__(self, out: Any, n_rows: float | None = None) -> None:
        self.arrays = tuple(out) if isinstance(out, (tuple, list)) else (out,)
        if not self.arrays:
            raise ValueError('out must be an array, or one for each array of the results, got none')
        for number, array in enumerate(self.arrays):
            name = _name(number, self.arrays)
            if not isinstance(array, np.ndarray) or not array.ndim:
                raise TypeError(f'{name} must be an array, or a tuple or list of arrays, got {type(array).__name__}')
            if not array.flags.writeable:
                raise ValueError(f'{name} is read-only; open a memory map with mode "r+" or "w+"')
            if n_rows is not None and n_rows != math.inf and len(array) != n_rows:
                raise ValueError(f'{name} must have a row for each of {n_rows} samples, got shape {array.shape}')

    def check(self, values: Sequence[Any], origin: str) -> None:
        """Raise an error if values do not fit; `origin` is where they come from."""
        if len(values) != len(self.arrays):
            raise ValueError(f'{origin} has {len(values)} arrays of results, but out is for {len(self.arrays)}')
        for number, (value, array) in enumerate(zip(map(np.asarray, values), self.arrays)):
            name = _name(number, self.arrays)
            if value.shape[1:] != array.shape[1:]:
                raise ValueError(f'{origin} has rows of shape {value.shape[1:]} for {name} of shape {array.shape}')
            if not np.can_cast(value.dtype, array.dtype, 'same_kind'):
                raise TypeError(f'{origin} has results of dtype {value.dtype} for {name} of dtype {array.dtype}')

    def write(self, rows: Leaf, values: Sequence[Any]) -> None:
        """Write values that were checked into some rows of the arrays."""
        if not len(rows):
            return
        last = rows[-1] if isinstance(rows, range) else rows.max()
        for number, array in enumerate(self.arrays):
            if last >= len(array):
                name = _name(number, self.arrays)
                raise ValueError(f'the results have a row {last}, but {name} has {len(array)} rows')
        for value, array in zip(values, self.arrays):
            array[slice(rows.start, rows.stop) if isinstance(rows, range) else rows] = np.asarray(value)


def _name(number: int, arrays: Sequence[Any]) -> str:
    return 'out' if len(arrays) == 1 else f'out[{number}]'
