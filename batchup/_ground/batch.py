"""Batches: tuples of arrays with equal length, which may also be within tuples, lists and dicts."""

from __future__ import annotations

import copy
from collections import UserDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .arguments import BatchSize, function_name

Batch = tuple[Any, ...]

# Gives an array of a shape and dtype to write into, or `None` where there is no room for it.
Memory = Callable[[tuple[int, ...], np.dtype[Any]], NDArray[Any] | None]

# The most frequent kinds of values that are no arrays.
PLAIN = (str, bytes, int, float)


class Destination(NamedTuple):
    """Where a source reads batches to.

    Attributes
    ----------
    memory : callable, optional
        Gives memory to read arrays into, for several batches at once where that is possible.
        Without it, a source takes memory as it needs it, for a few batches at a time.
    apart : bool
        Whether batches, but for small ones, are read into memory of their own, which they share
        with no other: a function may return them as they are.
    """

    memory: Memory | None = None
    apart: bool = False


# As a source likes best.
ANYWHERE = Destination()


@dataclass(frozen=True)
class Columns:
    """Several flat batches of equal size, to be gone through: each has its own part of the arrays.

    Attributes
    ----------
    arrays : tuple
        Arrays of shape (number of batches, batch size, ...), or iterators over the batches' parts.
    """

    arrays: tuple[Any, ...]

    def __iter__(self) -> Iterator[Batch]:
        # Not zip, which holds on to a tuple that it has given, and so to the memory of a batch.
        return map(side_by_side, *self.arrays)

    def __len__(self) -> int:
        return len(self.arrays[0])


def side_by_side(*arrays: Any) -> Batch:
    """Make a batch of arrays."""
    return arrays


def parts_of(tree: Any) -> Iterable[Any] | None:
    """Return what a batch, or a part of it, is made of: `None` for what is in one piece.

    Tuples, lists and mappings are made of parts. A list of plain values, such as strings and
    numbers, is in one piece: it is taken as a value for each sample.
    """
    if isinstance(tree, np.ndarray):
        return None
    if isinstance(tree, tuple):
        return tree
    if isinstance(tree, list):
        return None if tree and all(map(_is_plain, tree)) else tree
    return tree.values() if isinstance(tree, Mapping) else None


def _is_plain(item: Any) -> bool:
    """Say whether an item of a list is a value of one sample: neither an array, nor made of parts."""
    return isinstance(item, PLAIN) or (parts_of(item) is None and row_count(item) is None)


def row_count(leaf: Any) -> int | None:
    """Return how many samples an array has; `None` if it is no array, and belongs to the whole batch.

    Strings, numbers, arrays without dimensions, and what cannot be chosen from are no arrays.
    """
    shape = getattr(leaf, 'shape', None)
    if isinstance(shape, tuple):  # some sparse matrices have no length
        return shape[0] if shape else None
    kind = type(leaf)
    chosen_from = hasattr(kind, '__len__') and hasattr(kind, '__getitem__') and not isinstance(leaf, (str, bytes))
    return len(leaf) if chosen_from else None


def leaves(batch: Any) -> Iterator[Any]:
    """Go through the arrays of a batch, and through what stands beside them, from left to right.

    >>> list(leaves(([1], {'a': [2], 'b': ([3], 'abc')})))
    [[1], [2], [3], 'abc']
    """
    parts = parts_of(batch)
    if parts is None:
        yield batch
    else:
        for part in parts:
            yield from leaves(part)


def map_arrays(fn: Callable[[Any], Any], batch: Any) -> Any:
    """Apply a function to every array of a batch, and put the results together as the batch is.

    >>> map_arrays(len, ([1, 2], {'a': [3, 4], 'b': 'abc'}))
    (2, {'a': 2, 'b': 'abc'})
    """
    if parts_of(batch) is None:
        return batch if row_count(batch) is None else fn(batch)
    if isinstance(batch, Mapping):
        # A copy keeps the kind of a dict, and what else it knows.
        mapped = copy.copy(batch) if isinstance(batch, (dict, UserDict)) else dict(batch)
        for name, part in batch.items():
            mapped[name] = map_arrays(fn, part)
        return mapped
    parts = [map_arrays(fn, part) for part in batch]
    if isinstance(batch, list):
        return parts
    return batch._make(parts) if hasattr(batch, '_make') else tuple(parts)


def row_counts(batch: Iterable[Any]) -> list[int]:
    """Return the lengths of all arrays of a batch, from left to right.

    >>> row_counts(([1, 2], {'a': [3, 4], 'b': 'abc'}, [[5], np.zeros((7, 3))]))
    [2, 2, 1, 7]
    """
    counts: list[int] = []
    for part in batch:
        if isinstance(part, np.ndarray):  # as most parts are
            if part.ndim:
                counts.append(len(part))
        elif (within := parts_of(part)) is not None:
            counts += row_counts(within)
        elif (count := row_count(part)) is not None:
            counts.append(count)
    return counts


def join(parts: Batch) -> Batch:
    """Put the batches of several members side by side in one tuple; what is within them stays as it is.

    >>> join((([1], [2]), ([3], ([4], [5]))))
    ([1], [2], [3], ([4], [5]))
    """
    return tuple(chain.from_iterable(parts))


def trim(batch: Any) -> Any:
    """Cut every array of a batch to the length of the shortest.

    >>> trim(([1, 2, 3], ([4, 5],)))
    ([1, 2], ([4, 5],))
    """
    counts = row_counts(batch)
    return head(batch, min(counts)) if _differ(counts) else batch


def trim_parts(parts: Batch, sizes: Sequence[BatchSize]) -> Batch:
    """Cut the batches of several members in proportion to their batch sizes.

    A member whose own members have batch sizes is left as it is.

    >>> trim_parts((([1, 2],), ([3, 4, 5, 6, 7, 8],)), (4, 8))
    (([1, 2],), ([3, 4, 5, 6],))
    """
    counts = [row_counts(part) for part in parts]
    if all(own.count(size) == len(own) for own, size in zip(counts, sizes) if isinstance(size, int)):
        return parts
    sized = [(min(own, default=size), size) for own, size in zip(counts, sizes) if isinstance(size, int)]
    lengths = [proportion(size, sized) if isinstance(size, int) else None for size in sizes]
    return tuple(
        part if length is None or max(own, default=0) <= length else head(part, length)
        for part, own, length in zip(parts, counts, lengths)
    )


def proportion(size: int, sized: Sequence[tuple[int, int]]) -> int:
    """Return how much of a batch of a size is left, in proportion to the emptiest of several.

    Rounded up, so that something is left of each.

    Parameters
    ----------
    size : int
        The size to cut.
    sized : sequence of (length, size)
        How many samples there are in each batch, and how many there are in a whole one.
    """
    emptiest_length, emptiest_size = sized[0]
    for length, whole in sized:
        if length * emptiest_size < emptiest_length * whole:
            emptiest_length, emptiest_size = length, whole
    return -(-size * emptiest_length // emptiest_size)


def head(batch: Any, length: int) -> Any:
    """Cut every array of a batch to its first `length` samples."""
    return map_arrays(lambda array: getattr(array, 'iloc', array)[:length], batch)


def batch_length(batch: Any) -> int:
    """Return the number of samples of a batch: the length of its first array."""
    for count in row_counts(batch):
        return count
    raise ValueError('a batch without arrays has no number of samples')


def check_lengths(made: Batch, given: Batch, fn: Callable[..., Any]) -> None:
    """Raise `ValueError` unless the arrays that a mapped function has made belong together row by row.

    All have one length, or only such lengths as the arrays that the function was given: the
    parts of a batch may differ by themselves, if members have batch sizes of their own.
    """
    if _plainly_equal(made):
        return
    counts = row_counts(made)
    if _differ(counts) and not set(counts) <= set(row_counts(given)):
        raise ValueError(
            f'the mapped function {function_name(fn)} returned arrays of lengths {_listing(counts)} for arrays of '
            f'lengths {_listing(row_counts(given))}, so that rows no longer belong together; choose the same rows of '
            'every array, or if this is meant, write map(fn, same_length=False)'
        )


def _plainly_equal(batch: Batch) -> bool:
    """Say whether a batch is seen at once to have arrays of one length, as most batches do."""
    length = None
    for part in batch:
        if type(part) is not np.ndarray or not part.ndim:
            return False
        if length is None:
            length = len(part)
        elif len(part) != length:
            return False
    return True


def _differ(counts: list[int]) -> bool:
    return counts[1:] != counts[:-1]


def _listing(counts: Sequence[int]) -> str:
    return ', '.join(map(str, counts[:8])) + (', ...' if len(counts) > 8 else '')


def check_batch(batch: Any, origin: str) -> Batch:
    """Return what a user's code gave as a batch; lists become tuples.

    Raises
    ------
    TypeError
        If it is neither a tuple nor a list; the message names its `origin`.
    """
    if isinstance(batch, tuple):
        return batch
    if isinstance(batch, list):
        return tuple(batch)
    raise TypeError(
        f'{origin} must return a tuple of arrays, got {type(batch).__name__}; for a single array write `return (x,)`'
    )
