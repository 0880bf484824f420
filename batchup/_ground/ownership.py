"""Makes sure that a batch from a user's code shares its memory with nothing else.

Users may keep batches, and write into them. Arrays that something else refers to are copied;
reference counts tell which ones these are, so that new arrays are not copied.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterable
from pickle import PickleBuffer
from sys import getrefcount
from typing import Any

import numpy as np
from numpy import ndarray
from numpy.typing import NDArray


def owned(box: list[Any]) -> Any:
    """Take a value out of a list, and copy those of its arrays that something else refers to.

    An array is copied if it is read-only, or if something other than the value refers to it or
    to its memory: a table, a function that keeps it, a file, another array of the value. Arrays
    are looked for in tuples, named tuples, lists and dicts; anything else stays as it is.

    Parameters
    ----------
    box : list
        Holds the value. Nothing else may refer to it: a variable counts as something else.
    """
    if type(box[0]) is not tuple:
        _own(box, (0,))
        return box.pop()
    # Faster for tuples, as most values are.
    parts = list(box.pop())
    _own(parts, range(len(parts)))
    return tuple(parts)


def _own(parts: Any, keys: Iterable[Any]) -> None:
    """Copy those items of a list or a dict that something else refers to."""
    # No variable may refer to an item: it would be counted.
    for key in keys:
        kind = type(parts[key])
        if kind is ndarray:
            if getrefcount(parts[key]) > ALONE or not _is_alone(parts[key]):
                parts[key] = parts[key].copy('A')
        elif issubclass(kind, ndarray):
            if getrefcount(parts[key]) > ALONE or not _has_own_mask(parts[key]) or not _is_alone(parts[key]):
                parts[key] = _copied(parts[key])
        elif kind is tuple or (issubclass(kind, tuple) and hasattr(kind, '_make')):
            inner: Any = list(parts[key])
            # Free the tuple, if nothing else refers to it.
            parts[key] = None
            _own(inner, range(len(inner)))
            parts[key] = tuple(inner) if kind is tuple else kind._make(inner)
        elif issubclass(kind, (list, dict)):
            inner = copy.copy(parts[key])
            parts[key] = None
            _own(inner, list(inner) if issubclass(kind, dict) else range(len(inner)))
            parts[key] = inner


def _references(parts: Any, key: Any) -> int:
    return getrefcount(parts[key])


# The count for an item that only its list refers to. Builds of Python without the global lock
# do not count references exactly: there, everything is copied.
ALONE = 0 if 'free-threading' in sys.version else _references([object()], 0)


# Which bit of `flags.num` says that an array can be written into.
WRITEABLE = 0x400


def _is_alone(array: NDArray[Any]) -> bool:
    """Say whether an array can be written into, and nothing else refers to its memory."""
    # The bit is that of `flags.writeable`, which would warn about arrays from `broadcast_arrays`.
    if not array.flags.num & WRITEABLE or (0 in array.strides and _repeats(array)):
        return False
    # A view refers to the array that it is part of, and that one to another, down to their memory.
    while isinstance(array.base, ndarray):
        if getrefcount(array.base) > ALONE:
            return False
        array = array.base
    # A `PickleBuffer` is memory that batchup gives to one array at a time. What else refers to memory
    # of other owners, such as mapped files, is not known.
    return array.flags.owndata or isinstance(array.base, PickleBuffer)


def _repeats(array: NDArray[Any]) -> bool:
    """Say whether elements of an array share memory with each other, as after a broadcast."""
    return any(length > 1 and not stride for length, stride in zip(array.shape, array.strides))


def _has_own_mask(array: Any) -> bool:
    """Say whether nothing else refers to the mask of an array, if it has one."""
    if np.ma.getmask(array) is np.ma.nomask:
        return True
    return getrefcount(array._mask) <= ALONE and _is_alone(array._mask)


def _copied(array: NDArray[Any]) -> NDArray[Any]:
    """Copy an array of a subclass; a memory-mapped one becomes a plain array."""
    return np.array(array) if isinstance(array, np.memmap) else array.copy('A')
