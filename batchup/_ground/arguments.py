"""Checks of arguments that several parts of the package take."""

from __future__ import annotations

import difflib
import inspect
import math
import operator
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, Final

import numpy as np
import six

from .elsewhere import ELSEWHERE

# The number of samples in a batch, or a tuple with one for each member of a composed source. Tuples may be nested.
BatchSize = int | tuple[Any, ...]


class _NotGiven:
    """Stands for an argument that was not given."""

    def __repr__(self) -> str:
        return '(not given)'


NOT_GIVEN: Final = _NotGiven()


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


def check_flag(name: str, value: Any, hint: str = '') -> bool:
    """Return a boolean argument as a `bool`; NumPy booleans are booleans, numbers are not.

    >>> check_flag('drop_last', np.True_)
    True
    >>> check_flag('drop_last', 1)
    Traceback (most recent call last):
        ...
    TypeError: drop_last must be True or False, got 1
    """
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f'{name} must be True or False, got {value!r}{hint}')
    return bool(value)


def check_keywords(function: str, given: Iterable[str], known: Sequence[str]) -> None:
    """Raise `TypeError` for a keyword that a function does not take; say what is meant, or where it is.

    >>> check_keywords('f', ['shufle'], ['batch_size', 'shuffle'])
    Traceback (most recent call last):
        ...
    TypeError: f() got an unexpected keyword argument 'shufle'; did you mean shuffle?
    >>> check_keywords('f', ['transform'], ['batch_size', 'shuffle'])
    Traceback (most recent call last):
        ...
    TypeError: f() got an unexpected keyword argument 'transform'; source.map(fn) applies a function to every batch
    """
    for name in given:
        if name not in known:
            raise TypeError(f'{function}() got an unexpected keyword argument {name!r}; {_hint(name, known)}')


def _hint(name: str, known: Sequence[str]) -> str:
    """Say what is meant by a keyword that is not known."""
    if name in ELSEWHERE:
        return ELSEWHERE[name]
    near = difflib.get_close_matches(name, known, 1)
    if near:
        return f'did you mean {near[0]}?'
    far = difflib.get_close_matches(name, ELSEWHERE, 1)
    return ELSEWHERE[far[0]] if far else f'it takes {", ".join(known[:-1])} and {known[-1]}'


def takes_keyword(fn: Callable[..., Any], name: str) -> bool:
    """Say whether a function takes a keyword, as far as its signature tells.

    >>> takes_keyword(lambda epoch: 0, 'epoch'), takes_keyword(lambda **others: 0, 'epoch'), takes_keyword(len, 'epoch')
    (True, True, False)
    """
    try:
        parameters = inspect.signature(fn).parameters
    except (TypeError, ValueError):  # some functions in C have none
        return False
    given = parameters.get(name)
    by_name = given is not None and given.kind in (given.POSITIONAL_OR_KEYWORD, given.KEYWORD_ONLY)
    return by_name or any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())


def check_non_negative(name: str, value: Any) -> int:
    """Return an integer of 0 or more as an `int`."""
    number = check_integer(name, value)
    if number < 0:
        raise ValueError(f'{name} must be 0 or more, got {number}')
    return number


def check_batch_size(batch_size: Any) -> int:
    """Return a batch size as an `int` of 1 or more."""
    return check_positive('batch_size', batch_size)


def check_batch_sizes(batch_size: Any) -> BatchSize:
    """Return a checked batch size: an `int`, or a tuple with a size for each member, which may be a tuple again."""
    if not isinstance(batch_size, (tuple, list)):
        return check_batch_size(batch_size)
    if not batch_size:
        raise ValueError('batch_size must be an integer, or hold one for each data source, got none')
    return tuple(check_batch_sizes(part) for part in batch_size)


def single_size(batch_size: BatchSize, name: str) -> int:
    """Return the batch size for a source without members; raise `TypeError` if it is a tuple."""
    if isinstance(batch_size, tuple):
        raise TypeError(
            f'batch_size must be an integer for a data source without members ({name}), got {batch_size}; '
            'only sources made of several sources take a size for each'
        )
    return batch_size


def first_size(batch_size: BatchSize) -> int:
    """Return the first of nested batch sizes, from left to right."""
    while isinstance(batch_size, tuple):
        batch_size = batch_size[0]
    return batch_size


def member_sizes(batch_size: BatchSize, count: int) -> Sequence[BatchSize]:
    """Return the batch sizes of `count` members.

    >>> member_sizes(32, 2), member_sizes((32, (64, 96)), 2)
    ((32, 32), (32, (64, 96)))
    """
    if not isinstance(batch_size, tuple):
        return (batch_size,) * count
    if len(batch_size) != count:
        raise ValueError(f'batch_size must hold a size for each of {count} data sources, got {batch_size}')
    return batch_size


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


def check_told(owner: Any, method: str, value: Any) -> int | float | None:
    """Check the number of samples that a method of a user's class has returned; errors name the method."""
    return check_count(f'{type(owner).__name__}.{method}() must return a number of samples: it', value)


def overridden(instance: Any, method: str) -> bool:
    """Say whether a user has overridden a method of one of the package's classes.

    The package may take a short cut past its own public methods. Methods that users override
    are always called.
    """
    return method in vars(instance) or _overrides(type(instance), method)  # type: ignore[arg-type]


@lru_cache(maxsize=1024)
def _overrides(kind: type[object], method: str) -> bool:
    """Say whether a method of a class comes from outside the package; cached for each class."""
    owner = next(base for base in kind.__mro__ if method in vars(base))
    return owner.__module__.partition('.')[0] != __name__.partition('.')[0]


def function_name(fn: Any) -> str:
    """Return the name of a function, for messages."""
    return getattr(fn, '__qualname__', type(fn).__name__)
