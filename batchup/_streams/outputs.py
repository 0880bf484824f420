"""The arrays that a user gives for results: rows are written into them as they come."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._ground.indices import Leaf
from .._ground.sparse import dense


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

    def fitted(self, values: Sequence[Any], origin: str) -> list[NDArray[Any]]:
        """Convert values to the dtypes of the arrays; `origin` says where they come from, for errors.

        Raises
        ------
        ValueError
            If the number of arrays or the shape of a row differs, or an array cannot hold a
            value exactly. Only floating point numbers may lose digits.
        TypeError
            If an array is for another kind of values.
        """
        if len(values) != len(self.arrays):
            raise ValueError(f'{origin} has {len(values)} arrays of results, but out is for {len(self.arrays)}')
        return [
            _fitted(np.asanyarray(dense(value)), array, origin, _name(number, self.arrays))
            for number, (value, array) in enumerate(zip(values, self.arrays))
        ]

    def write(self, rows: Leaf, values: Sequence[Any]) -> None:
        """Write values, as `fitted` returned them, into some rows of the arrays."""
        if not len(rows):
            return
        last = rows[-1] if isinstance(rows, range) else rows.max()
        for number, array in enumerate(self.arrays):
            if last >= len(array):
                name = _name(number, self.arrays)
                raise ValueError(f'the results have a row {last}, but {name} has {len(array)} rows')
        for value, array in zip(values, self.arrays):
            array[slice(rows.start, rows.stop) if isinstance(rows, range) else rows] = dense(value)


def _fitted(values: NDArray[Any], array: NDArray[Any], origin: str, name: str) -> NDArray[Any]:
    """Convert values to the dtype of an array, or raise an error."""
    if values.shape[1:] != array.shape[1:]:
        raise ValueError(f'{origin} has rows of shape {values.shape[1:]} for {name} of shape {array.shape}')
    if np.ma.is_masked(values) and not isinstance(array, np.ma.MaskedArray):
        raise TypeError(f'{origin} has masked values, but {name} has no mask; fill them first, with filled(value)')
    if values.dtype == array.dtype:
        return values
    if not _same_kind(values.dtype, array.dtype):
        raise TypeError(f'{origin} has results of dtype {values.dtype} for {name} of dtype {array.dtype}')
    with np.errstate(all='ignore'):  # lost values are found below
        converted = values.astype(array.dtype)
        lost = _lost(values, converted)
    if lost.any():
        value = values[lost][0]
        raise ValueError(f'{origin} has the value {value}, which {name} of dtype {array.dtype} cannot hold')
    return converted


def _same_kind(dtype: np.dtype[Any], other: np.dtype[Any]) -> bool:
    """Say whether values of one dtype may be converted to the other; some values may still not fit."""
    kinds = {dtype.kind, other.kind}
    if kinds <= set('iu'):
        return True
    return np.can_cast(dtype, other, 'same_kind') and (other.kind not in 'SU' or kinds <= set('SU'))


def _lost(values: NDArray[Any], converted: NDArray[Any]) -> NDArray[np.bool_]:
    """Return a mask of the values that conversion has changed. Rounding of floating point numbers does not count."""
    lost: NDArray[np.bool_]
    if values.dtype.kind in 'fc' and converted.dtype.kind in 'fc':
        lost = np.isfinite(values) & ~np.isfinite(converted)
    else:
        # Missing times differ from themselves.
        lost = (converted.astype(values.dtype) != values) & (values == values)  # noqa: PLR0124
        if {values.dtype.kind, converted.dtype.kind} == {'i', 'u'}:
            lost |= (values < 0) | (converted < 0)  # wrapped around, these would come back as they were
    return lost


def _name(number: int, arrays: Sequence[Any]) -> str:
    return 'out' if len(arrays) == 1 else f'out[{number}]'
