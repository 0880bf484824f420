"""Class and group labels that users give, one for each sample."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..indices import IndexArray

# Integers, booleans and strings. Floating point labels are a mistake more often than not.
LABEL_KINDS = 'iubUS'


def number_labels(name: str, labels: ArrayLike) -> tuple[list[Any], IndexArray]:
    """Return the different labels in increasing order, and the number of that of every sample.

    Raises
    ------
    TypeError
        If they are neither integers, booleans nor strings.
    ValueError
        If they do not form one dimension.

    >>> number_labels('y', ['dog', 'cat', 'dog'])
    (['cat', 'dog'], array([1, 0, 1]))
    """
    array = np.asarray(labels)
    if array.ndim != 1:
        raise ValueError(f'{name} must have one dimension, a label for each sample, got shape {array.shape}')
    if array.size and array.dtype.kind not in LABEL_KINDS:
        raise TypeError(f'{name} must hold labels that are integers, booleans or strings, got dtype {array.dtype}')
    present, numbers = np.unique(array, return_inverse=True)
    return present.tolist(), numbers.astype(np.intp)


def samples_by_number(numbers: IndexArray, count: int) -> list[IndexArray]:
    """Return the indices of the samples that have each of the numbers below `count`.

    >>> samples_by_number(np.array([1, 0, 1]), 2)
    [array([1]), array([0, 2])]
    """
    stops = np.bincount(numbers, minlength=count).cumsum()
    order = np.argsort(numbers, kind='stable')
    return [order[start:stop] for start, stop in zip([0, *stops], stops)]
