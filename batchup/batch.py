"""Batches: tuples, possibly nested, of arrays with equal length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from .arguments import BatchSize

Batch = tuple[Any, ...]


class Columns(NamedTuple):
    """Several flat batches of equal size: arrays of shape (number of batches, batch size, ...)."""

    arrays: tuple[Any, ...]

    def batches(self) -> Iterator[Batch]:
        """Go through the batches: each has its own part of the arrays."""
        # Not zip, which holds on to a tuple that it has given, and so to the memory of a batch.
        return map(side_by_side, *self.arrays)


def side_by_side(*arrays: Any) -> Batch:
    """Make a batch of arrays."""
    return arrays


def leaves(batch: Any) -> Iterator[Any]:
    """Go through the arrays of a batch, from left to right.

    >>> list(leaves(([1], ([2], ([3],)))))
    [[1], [2], [3]]
    """
    if isinstance(batch, tuple):
        for part in batch:
            yield from leaves(part)
    else:
        yield batch


def flatten(batch: Batch) -> Batch:
    """Put the arrays of a nested batch side by side in one flat tuple."""
    return tuple(leaves(batch))


def trim(batch: Any) -> Any:
    """Cut every array of a batch to the length of the shortest.

    >>> trim(([1, 2, 3], ([4, 5],)))
    ([1, 2], ([4, 5],))
    """
    lengths = {len(leaf) for leaf in leaves(batch)}
    return head(batch, min(lengths)) if len(lengths) > 1 else batch


def trim_parts(parts: Batch, sizes: Sequence[BatchSize]) -> Batch:
    """Cut the batches of several members in proportion to their batch sizes.

    A member whose own members have batch sizes is left as it is.

    >>> trim_parts(([1, 2], [3, 4, 5, 6, 7, 8]), (4, 8))
    ([1, 2], [3, 4, 5, 6])
    """
    sized = [
        (min(map(len, leaves(part)), default=size), size) for part, size in zip(parts, sizes) if isinstance(size, int)
    ]
    return tuple(
        head(part, proportion(size, sized)) if isinstance(size, int) else part for part, size in zip(parts, sizes)
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
    if isinstance(batch, tuple):
        return tuple(head(part, length) for part in batch)
    return batch[:length]


def batch_length(batch: Any) -> int:
    """Return the number of samples of a batch: the length of its first array."""
    for leaf in leaves(tuple(batch)):
        return len(leaf)
    raise ValueError('a batch without arrays has no number of samples')


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
