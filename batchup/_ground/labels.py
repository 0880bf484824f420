"""Labels that users give, one for each sample: classes, groups and strata, all read by the same rules."""

from __future__ import annotations

import numbers
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .indices import IndexArray


class Labels(NamedTuple):
    """The labels of samples, as numbers.

    Attributes
    ----------
    values : list
        The different labels in increasing order, as users write them.
    codes : array of shape (n,), intp
        The number of every sample's label: its index in `values`.
    counts : array of shape (number of values,), intp
        How many samples have each label.
    """

    values: list[Any]
    codes: IndexArray
    counts: IndexArray

    @property
    def numeric(self) -> bool:
        """Whether all labels are numbers, or booleans."""
        return all(isinstance(value, numbers.Real) for value in self.values)

    def by_appearance(self) -> IndexArray:
        """Return the numbers of the labels in the order in which they first appear."""
        return np.argsort(np.unique(self.codes, return_index=True)[1])

    def members(self) -> list[IndexArray]:
        """Return the indices of the samples of each label, in order."""
        stops = self.counts.cumsum()
        order = np.argsort(self.codes, kind='stable')
        return [order[start:stop] for start, stop in zip([0, *stops], stops)]


def number_labels(name: str, labels: ArrayLike, n: int | None = None) -> Labels:
    """Number the labels of samples: integers, strings, booleans, or other values that can be sorted.

    Lists, arrays, pandas objects and tensors are read in the order of their samples.

    Parameters
    ----------
    name : str
        What the argument is called.
    labels : 1-D array-like
        The label of every sample.
    n : int, optional
        How many labels there must be.

    Raises
    ------
    TypeError
        If the labels cannot be sorted, as with integers among strings.
    ValueError
        If they do not form one dimension, there are not `n` of them, or one is missing: None, NaN,
        NaT, or masked.

    >>> labels = number_labels('y', ['dog', 'cat', 'dog'])
    >>> labels.values, labels.codes, labels.counts
    (['cat', 'dog'], array([1, 0, 1]), array([1, 2]))
    """
    array = _as_array(name, labels)
    if n is not None and len(array) != n:
        raise ValueError(f'{name} must hold a label for each of the {n} samples, got {len(array)}')
    values, codes = _number_objects(name, array) if array.dtype == object else _number_array(name, array)
    return Labels(values, codes, np.bincount(codes, minlength=len(values)))


def _as_array(name: str, labels: Any) -> NDArray[Any]:
    """Return labels as an array of one dimension; the items of a list stay the objects that they are."""
    # NumPy would turn 1 and None into strings if there are strings, and large integers into floats.
    array = np.asarray(labels) if hasattr(labels, '__array__') else np.array(labels, dtype=object)
    if array.ndim != 1:
        got = f'shape {array.shape}' if array.ndim else type(labels).__name__
        if array.ndim == 2:
            one_column = array.shape[-1] == 1
            got += f'; write np.ravel({name})' if one_column else f'; for one-hot rows, write np.argmax({name}, axis=1)'
        raise ValueError(f'{name} must have one dimension, a label for each sample, got {got}')
    if isinstance(labels, np.ma.MaskedArray) and labels.mask.any():
        raise _missing(name, 'a masked value', int(labels.mask.argmax()))
    return array


def _number_array(name: str, array: NDArray[Any]) -> tuple[list[Any], IndexArray]:
    """Return the different labels of an array of one type, and the number of every sample's label."""
    missing = np.flatnonzero(array != array)  # noqa: PLR0124  NaN and NaT differ from themselves
    if missing.size:
        raise _missing(name, array[missing[0]], missing[0])
    if array.dtype.kind in 'iu' and array.size:
        low, high = int(array.min()), int(array.max())
        if high - low < array.size and high <= np.iinfo(np.intp).max:
            # Integers that lie close together are counted, which is ten times faster than to sort them.
            offsets = array.astype(np.intp) - low
            present = np.bincount(offsets) > 0
            return (np.flatnonzero(present) + low).tolist(), (present.cumsum() - 1)[offsets]
    values, codes = np.unique(array, return_inverse=True)
    # tolist() would turn times in nanoseconds into integers.
    return list(values) if array.dtype.kind in 'mM' else values.tolist(), codes.astype(np.intp, copy=False)


def _number_objects(name: str, array: NDArray[Any]) -> tuple[list[Any], IndexArray]:
    """Return the different labels of an array of objects, and the number of every sample's label."""
    labels = array.tolist()
    try:
        plain = {label: _as_plain(label) for label in dict.fromkeys(labels)}
        for label, value in plain.items():
            if _is_missing(value):
                raise _missing(name, value, next(k for k, other in enumerate(labels) if other is label))
        values = sorted(set(plain.values()))
    except TypeError as error:
        raise TypeError(f'{name} must hold labels of one kind, which can be sorted: {error}') from error
    number_of = {value: number for number, value in enumerate(values)}
    codes = {label: number_of[value] for label, value in plain.items()}
    return values, np.fromiter(map(codes.__getitem__, labels), np.intp, len(labels))


def _as_plain(label: Any) -> Any:
    """Return a scalar of NumPy, or a tensor without dimensions, as Python's own value."""
    return label if isinstance(label, (np.datetime64, np.timedelta64)) or not hasattr(label, 'item') else label.item()


def _is_missing(value: Any) -> bool:
    """Say whether a value is None, NaN, NaT, or pandas's NA, whose comparison with itself has no truth value."""
    try:
        return value is None or bool(value != value)  # noqa: PLR0124
    except TypeError:
        return True


def _missing(name: str, value: Any, number: int) -> ValueError:
    return ValueError(f'{name} must not hold {value}, got it for sample {number}; every sample needs a label')
