"""Checks of arguments that several parts of the package take."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np
import six


def check_integer(name: str, value: Any) -> int:
    """Return an integer argument as an `int`; NumPy integers are integers, booleans are not.

    >>> check_integer('epoch', np.int64(3))
    3
    >>> check_integer('epoch', True)
    Traceback (most recent call last):
        ...
    TypeError: epoch must be an integer, got True (bool)
    """
    if not is_integer(value):
        raise TypeError(f'{name} must be an integer, got {value!r} ({type(value).__name__})')
    return operator.index(value)


def is_integer(value: Any) -> bool:
    """Say whether a value is an integer: Python's or NumPy's, but no boolean."""
    return isinstance(value, (*six.integer_types, np.integer)) and not isinstance(value, bool)


def check_non_negative(name: str, value: Any) -> int:
    """Return an integer of 0 or more as an `int`."""
    number = check_integer(name, value)
    if number < 0:
        raise ValueError(f'{name} must be 0 or more, got {number}')
    return number


def check_batch_size(batch_size: Any) -> int:
    """Return a batch size as an `int` of 1 or more."""
    return check_positive('batch_size', batch_size)


def check_positive(name: str, value: Any) -> int:
    """Return an integer of 1 or more as an `int`."""
    number = check_integer(name, value)
    if number < 1:
        raise ValueError(f'{name} must be at least 1, got {number}')
    return number


def check_repeats(repeats: Any) -> int:
    """Return a number of repetitions: 1 or more, or -1 for endless."""
    number = check_integer('repeats', repeats)
    if number < 1 and number != -1:
        raise ValueError(f'repeats must be 1 or more, or -1 for endless repetition, got {number}')
    return number


def check_count(name: str, value: Any) -> int | float | None:
    """Return a number of samples: 0 or more, `np.inf` for endless, or `None` for unknown."""
    if value is None or (isinstance(value, float) and value == math.inf):
        return value
    if not is_integer(value):
        raise TypeError(f'{name} must be an integer, np.inf (endless) or None (unknown), got {value!r}')
    return check_non_negative(name, value)


def overridden(instance: Any, method: str) -> bool:
    """Say whether a method of one of the package's classes was replaced by a user.

    Short cuts past a public method are for the package's own methods only: what users
    override is always called.
    """
    if method in vars(instance):
        return True
    owner = next(kind for kind in type(instance).__mro__ if method in vars(kind))
    return owner.__module__.partition('.')[0] != __name__.partition('.')[0]


def function_name(fn: Any) -> str:
    """Return the name of a function, for messages."""
    return getattr(fn, '__qualname__', type(fn).__name__)
