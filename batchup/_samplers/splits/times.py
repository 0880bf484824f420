"""Splits by time."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..._ground.arguments import is_integer
from ..._ground.indices import IndexArray
from .common import check_no_data
from .sizes import is_fraction, part_sizes


def time_split(
    times: ArrayLike, sizes: Sequence[float | None], *others: NoReturn, gap: Any = 0
) -> tuple[IndexArray, ...]:
    """Split samples into parts one after the other in time.

    Samples of equal time are always in the same part: a boundary among them moves to the
    nearest change of time, the earlier one of two.

    Parameters
    ----------
    times : 1-D array-like of n numbers, datetime64 or timedelta64
        The time of each sample, in any order.
    sizes : sequence of float, int or None
        As for `split`, from the earliest part to the latest one, before samples are left
        out for `gap`. Samples in no part are the latest ones.
    gap : number, timedelta64 or datetime.timedelta
        The time that must lie between the last sample of a part and the first one of the
        next; samples at the end of the earlier part are left out for it.

    Returns
    -------
    tuple of 1-D arrays, intp
        The indices of the samples of each part in time order; those of equal time in order.

    Raises
    ------
    ValueError
        If there are fewer times than parts, nothing is left of a part, or a time is NaN or NaT.
    TypeError
        If times are of another kind, or `gap` does not fit them.

    >>> time_split([10, 20, 30, 40, 50, 60], (0.5, 0.5))
    (array([0, 1, 2]), array([3, 4, 5]))

    A boundary between equal times moves.

    >>> time_split([10, 20, 30, 30, 40, 50, 60], (3, 4))
    (array([0, 1]), array([2, 3, 4, 5, 6]))

    A month lies between the parts.

    >>> days = np.array(['2024-01-10', '2024-02-20', '2024-03-01', '2024-04-01'], 'datetime64[D]')
    >>> time_split(days, (0.75, 0.25), gap=np.timedelta64(31, 'D'))
    (array([0, 1, 2]), array([3]))
    >>> time_split(days, (0.75, 0.25), gap=np.timedelta64(32, 'D'))
    (array([0, 1]), array([3]))
    """
    check_no_data('time_split(times, (0.8, 0.2))', others)
    moments = _check_times(times)
    gap = _check_gap(gap, moments)
    counts = part_sizes(len(moments), sizes)
    order = np.argsort(moments, kind='stable')
    moments = moments[order]
    stops = _move_boundaries(moments, np.cumsum(counts[:-1]).tolist())
    parts = []
    for part, (start, stop) in enumerate(zip([0, *stops], stops)):
        kept = stop if stop == stops[-1] else start + _count_before(moments[start:stop], moments[stop], gap)
        if kept == start:
            raise ValueError(f'nothing is left of part {part}: all its samples are less than gap={gap} before the next')
        parts.append(order[start:kept])
    return tuple(parts)


def _check_times(times: ArrayLike) -> NDArray[Any]:
    array = np.asarray(times)
    if array.ndim != 1:
        raise ValueError(f'times must have one dimension, a time for each sample, got shape {array.shape}')
    if array.dtype.kind not in 'iufmM':
        raise TypeError(
            f'times must be numbers, datetime64 or timedelta64, got dtype {array.dtype}; '
            "for dates and times of other kinds write np.array(times, 'datetime64[us]')"
        )
    missing = np.flatnonzero(array != array)  # noqa: PLR0124  NaN and NaT differ from themselves
    if missing.size:
        raise ValueError(f'times must not hold {array[missing[0]]}, got it for sample {missing[0]}')
    return array.astype(f'{array.dtype.kind}8') if array.dtype.kind in 'iuf' else array


def _check_gap(gap: Any, times: NDArray[Any]) -> Any:
    """Return the gap in a form that can be compared with differences of the times."""
    is_difference = isinstance(gap, (np.timedelta64, datetime.timedelta))
    if times.dtype.kind in 'iuf' and not is_difference and (is_integer(gap) or is_fraction(gap)):
        given: Any = int(gap) if is_integer(gap) else float(gap)
    elif times.dtype.kind in 'mM' and is_difference:
        given = np.timedelta64(gap)
    elif times.dtype.kind in 'mM' and is_integer(gap) and gap == 0:
        unit: Any = np.datetime_data(times.dtype)[0]
        given = np.timedelta64(0, unit)
    else:
        kind = 'a number' if times.dtype.kind in 'iuf' else 'a timedelta64 or datetime.timedelta'
        raise TypeError(f'gap must be {kind} for times of dtype {times.dtype}, got {gap!r}')
    if not given >= given * 0:
        raise ValueError(f'gap must be 0 or more, got {gap}')
    return given


def _move_boundaries(moments: NDArray[Any], stops: list[int]) -> list[int]:
    """Move the end of each part to the nearest change of time; no two parts end at the same one."""
    changes = np.append(np.flatnonzero(moments[1:] != moments[:-1]) + 1, len(moments))
    if len(changes) < len(stops):
        raise ValueError(
            f'times holds too few different values, {len(changes)}, for {len(stops)} parts, which need one each'
        )
    moved, first = [], 0
    for part, stop in enumerate(stops):
        last = len(changes) - len(stops) + part
        place = min(max(int(np.searchsorted(changes, stop)), first), last)
        if place > first and changes[place] - stop >= stop - changes[place - 1]:
            place -= 1
        moved.append(int(changes[place]))
        first = place + 1
    return moved


def _count_before(earlier: NDArray[Any], moment: Any, gap: Any) -> int:
    """Count the times that lie at least a gap before a moment."""
    distances = moment - earlier
    if distances.dtype.kind == 'i':
        # The distance between integers that are far apart does not fit into a signed one.
        distances = distances.view(np.uint64)
    return int(np.count_nonzero(distances >= gap))
