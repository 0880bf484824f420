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
from .stages import Stages

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
        Whether each batch, unless it is small, is read into memory that it shares with no other
        batch. A mapped function may then return its arrays without a copy.
    stages : Stages, optional
        Where it is noted how long mapped functions, and members of composites, take.
    """

    memory: Memory | None = None
    apart: bool = False
    stages: Stages | None = None


# The source takes memory of its own choice.
ANYWHERE = Destination()


@dataclass(frozen=True)
class Columns:
    """Several batches of equal size, without nested parts, in common arrays; iteration gives batch after batch.

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
    """Return arrays as a batch."""
    return arrays


def parts_of(tree: Any) -> Iterable[Any] | None:
    """Return the parts of a batch, or of a part of it; `None` if it has no parts.

    Tuples, lists and mappings have parts. A list of plain values, such as strings and numbers,
    has none: it is taken as a value for each sample.
    """
    if isinstance(tree, np.ndarray):
        return None
    if isinstance(tree, tuple):
        return tree
    if isinstance(tree, list):
        return None if tree and all(map(_is_plain, tree)) else tree
    return tree.values() if isinstance(tree, Mapping) else None


def _is_plain(item: Any) -> bool:
    """Say whether an item of a list is a value of one sample: it is no array, and has no parts."""
    return isinstance(item, PLAIN) or (parts_of(item) is None and row_count(item) is None)


def row_count(leaf: Any) -> int | None:
    """Return how many samples an array has; `None` if it is no array, but a value for the whole batch.

    Anything with a shape, or with `__len__` and `__getitem__`, is an array, but for strings,
    bytes, and arrays without dimensions.
    """
    shape = getattr(leaf, 'shape', None)
    if isinstance(shape, tuple):  # some sparse matrices have no length
        return shape[0] if shape else None
    kind = type(leaf)
    chosen_from = hasattr(kind, '__len__') and hasattr(kind, '__getitem__') and not isinstance(leaf, (str, bytes))
    return len(leaf) if chosen_from else None


def leaves(batch: Any) -> Iterator[Any]:
    """Go through the arrays of a batch, and through the other values in it, from left to right.

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
    """Apply a function to every array of a batch; the result has the structure of the batch.

    >>> map_arrays(len, ([1, 2], {'a': [3, 4], 'b': 'abc'}))
    (2, {'a': 2, 'b': 'abc'})
    """
    if parts_of(batch) is None:
        return batch if row_count(batch) is None else fn(batch)
    if isinstance(batch, Mapping):
        # A copy keeps the type of a dict, and its attributes.
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
    """Put the batches of several members side by side in one tuple; nested parts stay nested.

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

    A member that has a batch size for each of its own members is left as it is.

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
    """Return how many samples to keep of a full batch, so that it is as full as the emptiest of several.

    Rounded up: at least one sample is kept, unless a batch is empty.

    Parameters
    ----------
    size : int
        The number of samples in the full batch.
    sized : sequence of (length, size)
        How many samples each of several batches has, and how many it has when it is full.
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
    """Raise `ValueError` unless the arrays that a mapped function returned have fitting lengths.

    Either all have one length, or each has the length of an array that the function was given:
    where members have batch sizes of their own, the parts of a batch differ in length.
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
    """Say whether all parts of a batch are NumPy arrays of one length, as in most batches: a fast check."""
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
