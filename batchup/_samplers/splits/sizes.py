"""Sizes of parts: from fractions and counts, as users give them, to numbers of samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import six

from ..._ground.arguments import is_integer

# How far above 1 rounding may bring a sum of fractions, as in 5/6 + 1/6. Less than one
# sample of any data.
ROUNDING = Fraction(1, 2**40)


def part_sizes(n: int, sizes: Any) -> list[int]:
    """Turn the sizes of parts into numbers of samples, exactly, by the largest remainders.

    Parameters
    ----------
    n : int
        The number of samples.
    sizes : sequence of float, int or None
        Fractions, counts, and at most one `None` for what the others leave.

    Returns
    -------
    list of int
        The size of every part, and last the number of samples that no part gets.

    >>> part_sizes(7, [0.5, 0.5])
    [4, 3, 0]
    >>> part_sizes(10, [0.2, 3, None])
    [2, 3, 5, 0]
    """
    given = _check_sizes(sizes)
    quotas = _quotas(n, given)
    counts = [math.floor(quota) for quota in quotas]
    remainders = sorted(range(len(quotas)), key=lambda part: counts[part] - quotas[part])
    for part in remainders[: n - sum(counts)]:
        counts[part] += 1
    for part, size in enumerate(given):
        if not counts[part]:
            raise ValueError(f'part {part} would be empty: its size is {size!r} of {n} samples, with sizes {given}')
    return counts


def _check_sizes(sizes: Any) -> list[int | float | None]:
    if isinstance(sizes, six.string_types) or not isinstance(sizes, (Sequence, np.ndarray)):
        raise TypeError(f'sizes must be a sequence such as (0.8, 0.2), got {sizes!r}')
    given = [_check_size(part, size) for part, size in enumerate(sizes)]
    if not given:
        raise ValueError('sizes must hold a size for each part, got none')
    if given.count(None) > 1:
        raise ValueError(f'only one size may be None, for the rest, got sizes {given}')
    return given


def _check_size(part: int, size: Any) -> int | float | None:
    if size is None:
        return None
    if not is_integer(size) and not is_fraction(size):
        raise TypeError(f'size of part {part} must be a fraction, an integer or None, got {size!r}')
    if not size > 0:
        raise ValueError(f'size of part {part} must be positive, got {size}')
    if is_fraction(size) and size > 1:
        raise ValueError(f'size of part {part} is a fraction above 1, {size}; write an integer for a number of samples')
    # By its digits: a float32 of 0.1 means 0.1.
    return int(size) if is_integer(size) else float(str(size))


def _quotas(n: int, given: list[int | float | None]) -> list[Fraction]:
    """Return the exact share of every part, and last the share in no part; they sum to `n`."""
    fractions = Fraction(sum(Fraction(size) for size in given if isinstance(size, float)))
    if fractions > 1 + ROUNDING:
        raise ValueError(f'the fractions in sizes sum to {float(fractions):g}, above 1: {given}')
    counted = sum(size for size in given if isinstance(size, int))
    total = counted + fractions * n
    if total > n + ROUNDING * n:
        raise ValueError(f'sizes {given} come to {float(total):.10g} samples, but there are only {n}')
    whole = (n - counted) / fractions if total > n else n
    shares = [Fraction(size or 0) * (whole if isinstance(size, float) else 1) for size in given]
    rest = Fraction(n - sum(shares))
    if None in given:
        shares[given.index(None)], rest = rest, Fraction(0)
    return [*shares, rest]


def train_test_sizes(n: int, test_size: Any, train_size: Any) -> tuple[int, int]:
    """Return the sizes of a training and a test part, rounded as scikit-learn does.

    >>> train_test_sizes(10, 0.25, None)
    (7, 3)
    """
    test_size = 0.25 if test_size is None and train_size is None else test_size
    if is_fraction(test_size) and is_fraction(train_size) and test_size + train_size > 1:
        raise ValueError(
            f'train_size={train_size} and test_size={test_size} sum to {train_size + test_size:g}, above 1'
        )
    n_test = _count('test_size', test_size, n, math.ceil)
    n_train = _count('train_size', train_size, n, math.floor)
    if n_test is not None and n_train is not None and n_test + n_train > n:
        raise ValueError(
            f'train_size={train_size} and test_size={test_size} come to {n_train + n_test} samples, '
            f'but there are only {n}'
        )
    if n_train is None:
        assert n_test is not None
        n_train = n - n_test
    n_test = n - n_train if n_test is None else n_test
    for name, count in (('training', n_train), ('test', n_test)):
        if count < 1:
            raise ValueError(
                f'the {name} part would be empty, with {n} samples, test_size={test_size} and train_size={train_size}'
            )
    return n_train, n_test


def _count(name: str, size: Any, n: int, rounded: Any) -> int | None:
    if size is None:
        return None
    if is_fraction(size):
        if not 0 < size < 1:
            raise ValueError(f'{name} must be a fraction between 0 and 1 or a number of samples, got {size}')
        return int(rounded(size * n))
    if not is_integer(size):
        raise TypeError(f'{name} must be a fraction, an integer or None, got {size!r}')
    if not 0 < size < n:
        raise ValueError(f'{name} must be above 0 and below the number of samples, {n}, got {size}')
    return int(size)


def is_fraction(value: Any) -> bool:
    """Say whether a size is a fraction: any floating-point number, Python's or NumPy's."""
    return isinstance(value, (float, np.floating))
