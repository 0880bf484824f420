"""What all splits need: checked arguments, a generator, and pieces of an order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ..._ground.arguments import check_integer
from ..._ground.indices import IndexArray
from ..._ground.randomness import Purpose, SequentialRng, Shuffle, keyed_generator


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
        Arguments that must not be arrays.
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


def cut(order: IndexArray, sizes: Iterable[int]) -> list[IndexArray]:
    """Cut pieces of the given sizes from the front of an order."""
    stops = np.cumsum(list(sizes), dtype=np.intp)
    return np.split(order, stops)[: len(stops)]
