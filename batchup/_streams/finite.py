"""Looking for NaN and infinity in what a function returns for batches."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from .._ground.batch import row_counts
from .._ground.sparse import is_sparse
from ..errors import NonFiniteError
from .results import Gathered
from .stream import Stream


class FiniteOnly(Gathered):
    """Hands on the results of batches, and refuses those that are not finite.

    Parameters
    ----------
    gathered : Gathered
        Takes the results.
    batches : iterable of batches
        Where the batches come from: a stream can say how to make one of them again.
    """

    def __init__(self, gathered: Gathered, batches: Iterable[Any]) -> None:
        super().__init__(gathered.trail)
        self._gathered = gathered
        self._batches = batches

    def add(self, number: int, batch: Any, result: Any) -> None:
        # What a function returns for a rank without samples of this batch does not count.
        if self.trail is None or any(row_counts(batch)):
            listed = isinstance(result, (tuple, list))
            for place, values in enumerate(result if listed else (result,)):
                found = first_non_finite(values)
                if found is not None:
                    where = f'array {place}' if listed else 'the array'
                    raise NonFiniteError(f'for batch {number}, {where} that func returned {found}{self._again(number)}')
        self._gathered.add(number, batch, result)

    def finish(self) -> Any:
        return self._gathered.finish()

    def _again(self, number: int) -> str:
        """Say how to make a batch again, if it has a plan."""
        if not isinstance(self._batches, Stream):
            return ''
        failed = self._batches.feed.failed(number)
        calls = ' or '.join(filter(None, ['source.replay(error)', failed.call()]))
        return '' if failed.facts is None else f'; {calls} makes the batch again'


def first_non_finite(values: Any) -> str | None:
    """Say what the first value is that is not finite, and where; `None` if all are.

    >>> first_non_finite(np.array([[1, 2], [3, np.inf]]))
    'has inf at [1, 1] (1 of 4 values are not finite)'
    """
    if values is None:
        return None
    if is_sparse(values):
        stored = values.tocoo()
        wrong = _wrong(np.asarray(stored.data))
        places = np.argwhere(wrong)
        # Sparse rows are stored in any order.
        rows = sorted((int(stored.row[k]), int(stored.col[k]), int(k)) for k in places[:, 0])
        return _found(list(rows[0][:2]), stored.data[rows[0][2]], len(rows), len(wrong)) if rows else None
    array = np.ma.asarray(values) if np.ma.isMaskedArray(values) else np.asarray(values)
    wrong = _wrong(array)
    if not wrong.any():
        return None
    place = np.argwhere(wrong)[0].tolist()
    return _found(place, array[tuple(place)], int(wrong.sum()), wrong.size)


def _wrong(array: Any) -> Any:
    """Return which values are not finite, of floats and complex numbers; those that are masked count as finite."""
    if array.dtype.kind not in 'fc':
        return np.zeros(array.shape, bool)
    return np.ma.filled(~np.isfinite(array), False)


def _found(place: list[int], value: Any, count: int, size: int) -> str:
    return f'is {value}' if not place else f'has {value} at {place} ({count} of {size} values are not finite)'
