"""What all splits need: a generator, and labels as numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..arguments import check_integer
from ..indices import IndexArray
from ..rng import Purpose, SequentialRng, Shuffle, keyed_generator


def generator(shuffle: Any) -> SequentialRng | None:
    """Return the generator that `shuffle` stands for; `None` for in order."""
    given = Shuffle.coerce(shuffle)
    return given.rng if given.seed is None else keyed_generator(given.seed, Purpose.SPLIT)


def check_no_data(example: str, others: Sequence[Any], *numbers: Any) -> None:
    """Raise `TypeError` if a split was given data; `example` is what to write.

    Parameters
    ----------
    example : str
        A call of the function.
    others : sequence
        What was given beyond the arguments that the function takes.
    numbers : object
        Arguments that are no arrays.
    """
    if others or any(hasattr(value, '__len__') and not isinstance(value, (str, bytes)) for value in numbers):
        name = example.partition('(')[0]
        raise TypeError(f'{name}() takes no data, and returns indices: write {example}, and read the data by them')


def check_folds(n_splits: Any) -> int:
    """Return a number of folds as an `int` of 2 or more."""
    number = check_integer('n_splits', n_splits)
    if number < 2:
        raise ValueError(f'n_splits must be at least 2, got {number}')
    return number


class Labels(NamedTuple):
    """The labels of samples, as numbers.

    Attributes
    ----------
    values : array of shape (c,)
        The different labels, sorted.
    codes : array of shape (n,), intp
        The place of every sample's label in `values`.
    counts : array of shape (c,), intp
        How many samples have each label.
    """

    values: NDArray[Any]
    codes: IndexArray
    counts: IndexArray

    def name(self, number: int) -> str:
        """Return a label as users write it."""
        return repr(self.values[number : number + 1].tolist()[0])

    def by_appearance(self) -> IndexArray:
        """Return the numbers of the labels in the order in which they first appear."""
        return np.argsort(np.unique(self.codes, return_index=True)[1])

    def members(self) -> list[IndexArray]:
        """Return the samples of each label, in order."""
        return cut(np.argsort(self.codes, kind='stable'), self.counts)


def check_labels(name: str, labels: ArrayLike, n: int | None = None) -> Labels:
    """Number the labels of samples: integers, strings, booleans, or other values that sort.

    Raises
    ------
    TypeError
        If the labels cannot be sorted.
    ValueError
        If they do not form one dimension, are not `n`, or one is NaN.
    """
    array = np.asarray(labels)
    if array.ndim != 1:
        raise ValueError(f'{name} must have one dimension, a label for each sample, got shape {array.shape}')
    if n is not None and len(array) != n:
        raise ValueError(f'{name} must hold a label for each of the {n} samples, got {len(array)}')
    missing = np.flatnonzero(array != array)  # noqa: PLR0124  NaN and NaT differ from themselves
    if missing.size:
        raise ValueError(f'{name} must not hold {array[missing[0]]}, got it for sample {missing[0]}')
    try:
        values, codes, counts = np.unique(array, return_inverse=True, return_counts=True)
    except TypeError as error:
        raise TypeError(f'{name} must hold labels of one kind, which can be sorted: {error}') from error
    return Labels(values, codes, counts)


def cut(order: IndexArray, sizes: Iterable[int]) -> list[IndexArray]:
    """Cut pieces of the given sizes from the front of an order."""
    stops = np.cumsum(list(sizes), dtype=np.intp)
    return np.split(order, stops)[: len(stops)]
