"""What a user gives for results: rows are written there as they come."""

from __future__ import annotations

import os
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._ground.indices import Leaf
from .._ground.messages import add_note
from .._ground.sparse import dense
from .npy_files import NpyFile
from .stored import stored_target
from .targets import ArrayTarget, Target


class Outputs:
    """What a user has given for results; with `with`, no part of a file is left after an error.

    Parameters
    ----------
    out : array, path, h5py data set or zarr array, or tuple or list of them
        One for each array of the results.

    Raises
    ------
    TypeError
        If something else is given.
    ValueError, OSError
        If it cannot be written into.
    """

    def __init__(self, out: Any) -> None:
        given = tuple(out) if isinstance(out, (tuple, list)) else (out,)
        if not given:
            raise ValueError('out must be an array, or one for each array of the results, got none')
        self._targets = [_target(array, _name(number, given)) for number, array in enumerate(given)]
        paths = [target.path for target in self._targets if isinstance(target, NpyFile)]
        if len(set(paths)) < len(paths):
            raise ValueError(f'out has the same path twice: {", ".join(map(str, paths))}')

    def __enter__(self) -> Outputs:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._abandon(error)

    @property
    def take_any_rows(self) -> bool:
        """Whether all are files to be made, which have as many rows as come."""
        return all(target.new for target in self._targets)

    @property
    def need_form(self) -> bool:
        """Whether some are files to be made."""
        return any(target.new for target in self._targets)

    def check_rows(self, n_rows: float) -> None:
        """Raise `ValueError` unless there can be so many rows; `math.inf` stands for any number."""
        for target in self._targets:
            target.check_rows(n_rows)

    def check_ranks(self, count: int) -> None:
        """Raise `ValueError` if so many ranks cannot write their rows at the same time."""
        for target in self._targets:
            target.check_ranks(count)

    def take_form(self, values: Sequence[Any], n_rows: int | None, origin: str) -> None:
        """Have new files take the shape and dtype of rows from values; later calls change nothing.

        Parameters
        ----------
        values : sequence of arrays
            One for each array of the results.
        n_rows : int or None
            The number of rows that files will have, if it is known.
        origin : str
            Where the values come from, for errors.
        """
        self._check_count(values, origin)
        for value, target in zip(values, self._targets):
            target.take_form(np.asanyarray(value), n_rows)

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
        self._check_count(values, origin)
        return [_fitted(np.asanyarray(dense(value)), target, origin) for value, target in zip(values, self._targets)]

    def write(self, rows: Leaf, values: Sequence[Any]) -> None:
        """Write values, as `fitted` returned them, into some rows of the arrays."""
        if not len(rows):
            return
        last = int(rows[-1] if isinstance(rows, range) else rows.max())
        for target in self._targets:
            target.check_last(last)
        for value, target in zip(values, self._targets):
            target.put(rows, dense(value))

    def finish(self) -> tuple[Any, ...]:
        """Write all that is left to be written, and return what the user gets for each array of the results."""
        for target in self._targets:
            target.complete()
        return tuple(target.result() for target in self._targets)

    def _abandon(self, error: BaseException) -> None:
        for target in self._targets:
            try:
                target.abandon()
            except Exception as other:
                add_note(error, f'{target.name} lacks rows of earlier batches: {other}')

    def _check_count(self, values: Sequence[Any], origin: str) -> None:
        if len(values) != len(self._targets):
            raise ValueError(f'{origin} has {len(values)} arrays of results, but out is for {len(self._targets)}')


def _target(array: Any, name: str) -> Target:
    """Return what writes into something that a user has given."""
    if isinstance(array, (str, os.PathLike)):
        return NpyFile(name, array)
    if isinstance(array, np.ndarray) and array.ndim:
        return ArrayTarget(name, array)
    target = stored_target(name, array)
    if target is None:
        raise TypeError(
            f'{name} must be an array, or a tuple or list of arrays, got {type(array).__name__}; '
            'a path that ends in .npy, a data set of h5py and an array of zarr will do as well'
        )
    return target


def _fitted(values: NDArray[Any], target: Target, origin: str) -> NDArray[Any]:
    """Convert values to the dtype of an array, or raise an error."""
    if values.shape[1:] != target.row_shape:
        raise ValueError(f'{origin} has rows of shape {values.shape[1:]} for {target.name} {target.form}')
    if np.ma.is_masked(values) and not target.masked:
        raise TypeError(
            f'{origin} has masked values, but {target.name} has no mask; fill them first, with filled(value)'
        )
    if target.strings:
        return _strings(values, target, origin)
    if values.dtype == target.dtype:
        return values
    if not _same_kind(values.dtype, target.dtype):
        raise TypeError(f'{origin} has results of dtype {values.dtype} for {target.name} of dtype {target.dtype}')
    with np.errstate(all='ignore'):  # lost values are found below
        converted = values.astype(target.dtype)
        lost = _lost(values, converted)
    if lost.any():
        value = values[lost][0]
        advice = '; the first batch has set it, so convert results in the function' if target.new else ''
        raise ValueError(
            f'{origin} has the value {value}, which {target.name} of dtype {target.dtype} cannot hold{advice}'
        )
    return converted


def _strings(values: NDArray[Any], target: Target, origin: str) -> NDArray[Any]:
    """Return values if they are strings of any dtype; `TypeError` if not."""
    if values.dtype.kind not in 'UST' and not (
        values.dtype.kind == 'O' and all(isinstance(value, (str, bytes)) for value in values.flat)
    ):
        raise TypeError(f'{origin} has results of dtype {values.dtype} for {target.name}, which is for strings')
    return values


def _same_kind(dtype: np.dtype[Any], other: np.dtype[Any]) -> bool:
    """Say whether values of one dtype may be converted to the other; some values may still not fit."""
    kinds = {dtype.kind, other.kind}
    if kinds <= set('iu'):
        return True
    return np.can_cast(dtype, other, 'same_kind') and (other.kind not in 'SUT' or kinds <= set('SUT'))


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
