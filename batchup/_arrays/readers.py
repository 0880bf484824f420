"""The reader of an array: a small class for each kind of array."""

from __future__ import annotations

from typing import Any

from .array_likes import ArrayLikeRows
from .rows import Rows, is_plain

Reader = Rows | ArrayLikeRows


def make_reader(number: int, array: Any) -> Reader:
    """Return the reader for an array, which is `data[number]` of a source."""
    return Rows(array) if is_plain(array) else ArrayLikeRows(array, number)
