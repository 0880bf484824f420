"""Samples of variable length: held side by side in one array, and padded batch by batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from ._ground.arguments import check_non_negative, check_positive, is_integer
from ._ground.indices import IndexArray, check_batch_indices, check_indices, check_range

__all__ = ['RaggedArray', 'pad_batch']


class RaggedArray:
    """Arrays of different lengths as one array-like, that sources read by index.

    Indexed by an array of indices or a slice, it gives a new `RaggedArray`; by an integer, the
    array of that sample, as a view. `pad_batch` pads a batch of it.

    Parameters
    ----------
    values : array of shape (total, ...)
        The arrays of all samples, one after the other; a memory-mapped one stays on disk.
    offsets : 1-D array-like of n + 1 integers
        Where each of n samples starts in `values`, and where the last one stops.

    Raises
    ------
    TypeError
        If offsets are no integers.
    ValueError
        If they decrease, or do not go from 0 to the length of `values`.

    >>> words = RaggedArray.from_list([[3, 1], [4], [1, 5, 9]])
    >>> words[2], words.lengths
    (array([1, 5, 9]), array([2, 1, 3]))
    >>> words[np.array([2, 0])]
    RaggedArray of 2 samples, 5 values of int64
    """

    def __init__(self, values: ArrayLike, offsets: ArrayLike) -> None:
        self.values = values if isinstance(values, np.ndarray) else np.asarray(values)
        self.offsets = check_indices('offsets', offsets)
        if self.values.ndim == 0:
            raise ValueError('values must have at least one dimension, got none')
        ends = self.offsets[[0, -1]].tolist() if self.offsets.size else []
        if ends != [0, len(self.values)]:
            raise ValueError(f'offsets must go from 0 to {len(self.values)}, the length of values, got ends {ends}')
        wrong = np.flatnonzero(self.lengths < 0)
        if wrong.size:
            raise ValueError(f'offsets must not decrease, but offset {wrong[0] + 1} is less than the one before')

    @classmethod
    def from_list(cls, arrays: Sequence[Any] | NDArray[Any], dtype: DTypeLike | None = None) -> RaggedArray:
        """Put arrays of shape (length, ...) one after the other, in a copy.

        Without `dtype`, it is that of the arrays; those of length 0 do not count, if there
        are others. It is float64 if there are none at all.

        Raises
        ------
        ValueError
            If an array has no dimensions, or the shapes differ in more than the length.
        """
        parts = _check_parts(arrays)
        values = np.concatenate(_filled(parts))
        lengths = np.array([len(part) for part in parts], np.intp)
        return cls(values if dtype is None else values.astype(dtype, copy=False), _offsets(lengths))

    @property
    def lengths(self) -> IndexArray:
        """The lengths of the samples, as a new array of shape (n,)."""
        return np.diff(self.offsets)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the values."""
        return self.values.dtype

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: Any) -> Any:
        if is_integer(index):
            check_range('index', (int(index),), len(self))
            place = int(index) % len(self)
            return self.values[self.offsets[place] : self.offsets[place + 1]]
        chosen = check_batch_indices('indices', index, len(self)) % max(1, len(self))
        starts, stops = self.offsets[chosen], self.offsets[chosen + 1]
        # Slices are copied faster than elements are gathered one by one.
        values = np.concatenate(self._runs(starts, stops) or [self.values[:0]])
        return RaggedArray(values, _offsets(stops - starts))

    def __iter__(self) -> Iterator[NDArray[Any]]:
        return iter(self._runs(self.offsets[:-1], self.offsets[1:]))

    def _runs(self, starts: IndexArray, stops: IndexArray) -> list[NDArray[Any]]:
        return [self.values[start:stop] for start, stop in zip(starts.tolist(), stops.tolist())]

    def __repr__(self) -> str:
        return f'RaggedArray of {len(self)} samples, {len(self.values)} values of {self.dtype}'


def pad_batch(
    arrays: RaggedArray | Sequence[Any] | NDArray[Any],
    fill: Any = 0,
    *,
    length: int | None = None,
    multiple_of: int = 1,
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Pad arrays of different lengths to a common one.

    Parameters
    ----------
    arrays : RaggedArray, or sequence of m arrays of shape (length, ...)
        The arrays of a batch; an array of objects will do, too.
    fill : scalar
        What stands in the places that are padded.
    length : int, optional
        The common length; by default that of the longest array.
    multiple_of : int
        Without `length`, the common length is rounded up to a multiple of this, so that compilers
        see fewer different shapes.

    Returns
    -------
    padded : array of shape (m, common length, ...)
        A new array of the arrays' own dtype.
    mask : array of shape (m, common length), bool
        Where `padded` holds values of the arrays.

    Raises
    ------
    ValueError
        If an array is longer than `length`, or the dtype cannot hold `fill`.

    >>> padded, mask = pad_batch([[3, 1], [4], [1, 5, 9]], multiple_of=4)
    >>> padded
    array([[3, 1, 0, 0],
           [4, 0, 0, 0],
           [1, 5, 9, 0]])
    >>> mask.sum(axis=1)
    array([2, 1, 3])

    Mapped over a source, it makes batches of arrays.

    >>> from batchup.data_source import ArrayDataSource
    >>> words = RaggedArray.from_list([[3, 1], [4], [1, 5, 9]])
    >>> def pad(words, y):
    ...     return (*pad_batch(words), y)
    >>> source = ArrayDataSource([words, np.arange(3)]).map(pad)
    >>> [padded.shape for padded, mask, y in source.batch_iterator(2)]
    [(2, 2), (1, 3)]
    """
    parts = list(arrays) if isinstance(arrays, RaggedArray) else _check_parts(arrays)
    kept = [arrays.values] if isinstance(arrays, RaggedArray) else _filled(parts)
    lengths = np.array([len(part) for part in parts], np.intp)
    mask = np.arange(_common_length(lengths, length, multiple_of)) < lengths[:, np.newaxis]
    dtype = np.result_type(*dict.fromkeys(part.dtype for part in kept))
    padded = np.full((*mask.shape, *kept[0].shape[1:]), _check_fill(fill, dtype), dtype)
    for row, part in zip(padded, parts):
        row[: len(part)] = part
    return padded, mask


def _check_parts(arrays: Sequence[Any] | NDArray[Any]) -> list[NDArray[Any]]:
    """Return a user's arrays, checked to have shapes (length, ...) that differ in the length only."""
    parts = [np.asarray(array) for array in arrays]
    like = None
    for number, part in enumerate(parts):
        if part.ndim == 0:
            raise ValueError(f'array {number} must have at least one dimension, got {arrays[number]!r}')
        if len(part):
            like = number if like is None else like
            if part.shape[1:] != parts[like].shape[1:]:
                raise ValueError(
                    'arrays may differ in their first dimension only, '
                    f'got shapes {parts[like].shape} for array {like} and {part.shape} for array {number}'
                )
    return parts


def _filled(parts: list[NDArray[Any]]) -> list[NDArray[Any]]:
    """Return the arrays that decide the dtype and the shape: those with a length above 0, if there are any."""
    return [part for part in parts if len(part)] or parts[:1] or [np.empty(0)]


def _offsets(lengths: IndexArray) -> IndexArray:
    return np.concatenate([[0], lengths.cumsum()]).astype(np.intp)


def _common_length(lengths: IndexArray, length: int | None, multiple_of: int) -> int:
    """Return the length that arrays are padded to."""
    step, longest = check_positive('multiple_of', multiple_of), int(lengths.max(initial=0))
    if length is None:
        return -(-longest // step) * step
    if step != 1:
        raise ValueError(f'give either length or multiple_of={step}: both say how long the padded arrays are')
    common = check_non_negative('length', length)
    if longest > common:
        raise ValueError(f'array {lengths.argmax()} has length {longest}, more than length={common}')
    return common


def _check_fill(fill: Any, dtype: np.dtype[Any]) -> Any:
    """Return `fill`, or raise `ValueError` if integers of the dtype cannot hold it."""
    if dtype.kind in 'iu':
        try:
            with np.errstate(invalid='ignore'):
                held = np.asarray(fill).astype(dtype)
            same = held.ndim == 0 and held.item() == fill
        except (OverflowError, TypeError, ValueError):
            same = False
        if not same:
            raise ValueError(f'fill={fill!r} cannot be held by the dtype of the arrays, {dtype}')
    return fill
