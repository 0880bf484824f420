"""Whether arrays of several sources can be put together: they must be alike in number, kind, dtype and shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from .joining import columns_of, kind_of, known_kind, text_kind


class Form(NamedTuple):
    """What is known of an array once it is let go; `check_alike` takes it in place of the array.

    Attributes
    ----------
    kind : str
        As from `kind_of`.
    dtype : object
        As from `columns_of`.
    shape : tuple of int, or None
        Its shape, if it has one.
    """

    kind: str
    dtype: Any
    shape: tuple[int, ...] | None

    @classmethod
    def of(cls, array: Any) -> Form:
        """Return the form of an array."""
        return cls(kind_of(array), columns_of(array), getattr(array, 'shape', None))


def check_known(members: Sequence[Sequence[Any] | None]) -> None:
    """Raise an error unless the arrays of all members can be put together, as far as they are known."""
    known = [(number, arrays) for number, arrays in enumerate(members) if arrays is not None]
    for other in known:
        _check_count(known[0], other)
    for place in range(len(known[0][1]) if known else 0):
        column = [(number, arrays[place]) for number, arrays in known]
        kinds = [(number, [kind]) for number, array in column if (kind := known_kind(array)) is not None]
        typed = [(number, array) for number, array in column if columns_of(array) is not None]
        for number, one_kind in kinds:
            check_kinds(kinds[0], (number, one_kind), place)
        for number, array in typed:
            _check_arrays(place, typed[0], (number, array))


def check_kinds(one: tuple[int, Sequence[str]], other: tuple[int, Sequence[str]], first: int = 0) -> None:
    """Raise an error unless arrays of two members, from number `first` on, are of the same kinds."""
    _check_count(one, other)
    for number, (kind, other_kind) in enumerate(zip(one[1], other[1]), first):
        if kind != other_kind:
            raise TypeError(
                f'array {number} is a {kind} in data source {one[0]}, but a {other_kind} in data source {other[0]}; '
                'convert one of them'
            )


def check_alike(one: tuple[int, Sequence[Any]], other: tuple[int, Sequence[Any]], texts: bool = False) -> None:
    """Raise an error unless the arrays of two members, given with their numbers, can be put together.

    With `texts`, strings may differ in length.
    """
    _check_count(one, other)
    for number, (array, other_array) in enumerate(zip(one[1], other[1])):
        if not (texts and text_kind(array) == text_kind(other_array) is not None):
            _check_arrays(number, (one[0], array), (other[0], other_array))


def _check_count(one: tuple[int, Sequence[Any]], other: tuple[int, Sequence[Any]]) -> None:
    """Raise `ValueError` unless two members give equally many arrays."""
    (k, arrays), (m, others) = one, other
    if len(arrays) != len(others):
        raise ValueError(f'data source {k} gives {len(arrays)} arrays, but data source {m} gives {len(others)}')


def _check_arrays(number: int, one: tuple[int, Any], other: tuple[int, Any]) -> None:
    """Raise an error unless an array of one member can be put together with that of another one."""
    (k, array), (m, other_array) = one, other
    dtype, other_dtype = columns_of(array), columns_of(other_array)
    if dtype != other_dtype:
        raise TypeError(
            f'array {number} is {dtype} in data source {k}, but {other_dtype} in data source {m}; '
            'convert one of them, for instance with array.astype(dtype)'
        )
    shape, other_shape = (getattr(part, 'shape', None) for part in (array, other_array))
    if shape and other_shape and shape[1:] != other_shape[1:]:
        raise ValueError(
            f'samples of array {number} have shape {tuple(shape[1:])} in data source {k}, '
            f'but {tuple(other_shape[1:])} in data source {m}'
        )
