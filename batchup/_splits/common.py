"""What all splits need: checked arguments, a generator, and pieces of an order."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from ..arguments import check_integer, check_non_negative
from ..indices import IndexArray
from ..rng import Purpose, SequentialRng, Shuffle, keyed_generator


def generator(shuffle: Any) -> SequentialRng | None:
    """Return the generator that `shuffle` stands for; `None` for in order."""
    given = Shuffle.coerce(shuffle)
    return given.rng if given.seed is None else keyed_generator(given.seed, Purpose.SPLIT)


def check_samples(n: Any) -> int:
    """Return a number of samples as an `int`; say what to write in place of data."""
    if hasattr(n, '__len__') and not isinstance(n, (str, bytes)):
        raise TypeError(f'n must be the number of samples, got {type(n).__name__}; write len(x) for data x')
    return check_non_negative('n', n)


def check_folds(n_splits: Any) -> int:
    """Return a number of folds as an `int` of 2 or more."""
    number = check_integer('n_splits', n_splits)
    if number < 2:
        raise ValueError(f'n_splits must be at least 2, got {number}')
    return number


def cut(order: IndexArray, sizes: Iterable[int]) -> list[IndexArray]:
    """Cut pieces of the given sizes from the front of an order."""
    stops = np.cumsum(list(sizes), dtype=np.intp)
    return np.split(order, stops)[: len(stops)]
