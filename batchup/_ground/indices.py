"""Sample indices: arrays, ranges of consecutive samples, and trees of both for composed sources.

A *leaf* is a 1-D integer array, or a `range` for consecutive samples: a `range` takes no
memory, and sources read it as a slice. The *index tree* of a composite is a tuple of its
members' trees, that of a choice a `ChoiceBatch`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import SampleIndexError
from .arguments import BatchSize, is_integer, member_sizes

IndexArray = NDArray[np.intp]
Leaf = range | IndexArray
IndexTree = Any


class ChoiceBatch(NamedTuple):
    """The indices of a batch that is drawn from one of several sources.

    Attributes
    ----------
    sample_indices : index tree
        The indices of the samples within the source.
    ds_index : int
        The number of the source.
    """

    sample_indices: Any
    ds_index: int


class SizedParts(tuple[Any, ...]):
    """The index tree of a composite whose members have batch sizes of their own.

    Its parts are not cut to one length when they are read.
    """

    __slots__ = ()


def map_leaves(fn: Callable[[Any], Any], tree: IndexTree) -> IndexTree:
    """Apply a function to every leaf of an index tree."""
    if isinstance(tree, ChoiceBatch):
        return ChoiceBatch(map_leaves(fn, tree.sample_indices), tree.ds_index)
    if isinstance(tree, tuple):
        return _like(tree, [map_leaves(fn, part) for part in tree])
    return fn(tree)


def map_sized(fn: Callable[[Any, int], Any], tree: IndexTree, sizes: BatchSize) -> IndexTree:
    """Apply `fn(leaf, batch_size)` to every leaf of an index tree, with the batch size of the leaf's member."""
    if isinstance(tree, ChoiceBatch):
        size = sizes[tree.ds_index] if isinstance(sizes, tuple) else sizes
        return ChoiceBatch(map_sized(fn, tree.sample_indices, size), tree.ds_index)
    if isinstance(tree, tuple):
        return _like(tree, list(map(map_sized, repeat(fn), tree, member_sizes(sizes, len(tree)))))
    return fn(tree, sizes)  # type: ignore[arg-type]


def _like(tree: tuple[Any, ...], parts: Sequence[Any]) -> tuple[Any, ...]:
    """Make a tuple of parts, of the same type as the tree that they come from."""
    return SizedParts(parts) if isinstance(tree, SizedParts) else tuple(parts)


def first_leaf(tree: IndexTree) -> Leaf:
    """Return the leftmost leaf of an index tree."""
    while isinstance(tree, tuple):
        tree = tree[0]
    leaf: Leaf = tree
    return leaf


def leaf_lengths(tree: IndexTree) -> set[int]:
    """Return the different lengths of the leaves of an index tree."""
    lengths: set[int] = set()
    map_leaves(lambda leaf: lengths.add(len(leaf)), tree)
    return lengths


def as_array(leaf: Leaf) -> IndexArray:
    """Return the indices of a leaf as an array: a new one for a `range`, and else the leaf itself."""
    if isinstance(leaf, range):
        return np.arange(leaf.start, leaf.stop, leaf.step, dtype=np.intp)
    return leaf


def own_array(leaf: Leaf) -> IndexArray:
    """Return the indices of a leaf as an array that the caller may write into."""
    return as_array(leaf) if isinstance(leaf, range) else leaf.copy()


def from_start(indices: Leaf, length: int) -> IndexArray:
    """Return indices as a new array, in which those that count from the end are counted from the start.

    >>> from_start(np.array([1, -1]), 5)
    array([1, 4])
    """
    if isinstance(indices, range):
        return as_array(indices)
    return np.where(indices < 0, indices + length, indices)


def as_tree(indices: Any) -> IndexTree:
    """Turn indices that a user gave into an index tree, without checking them."""
    if isinstance(indices, ChoiceBatch):
        return ChoiceBatch(as_tree(indices.sample_indices), indices.ds_index)
    if isinstance(indices, slice):
        return np.array([-1 if part is None else part for part in (indices.start, indices.stop, indices.step)])
    if isinstance(indices, (list, tuple)) and not all(is_integer(index) for index in indices):
        parts = [as_tree(part) for part in indices]
        return SizedParts(parts) if isinstance(indices, SizedParts) else tuple(parts)
    return np.asarray(indices)


def digest(tree: IndexTree) -> str:
    """Return 16 hexadecimal digits that tell index trees apart.

    >>> digest(range(3)) == digest(np.arange(3)) != digest(range(4))
    True
    """
    hashed = hashlib.blake2b(digest_size=8)
    map_leaves(lambda leaf: hashed.update(np.asarray(as_array(leaf), '<i8').tobytes() + b'|'), tree)
    return hashed.hexdigest()


def check_indices(name: str, indices: Any) -> IndexArray:
    """Return sample indices given by a user as a 1-D array of integers.

    Raises
    ------
    TypeError
        If they are a boolean mask or no integers.
    ValueError
        If they do not form one dimension.
    """
    array = np.asarray(indices)
    if array.dtype == np.bool_:
        raise TypeError(f'{name} must be integers, got a boolean mask; write np.flatnonzero(mask) to select by a mask')
    if array.size == 0 and array.ndim == 1:
        return np.empty(0, dtype=np.intp)
    if array.dtype.kind not in 'iu':
        raise TypeError(f'{name} must be integers, got {type(indices).__name__} with dtype {array.dtype}')
    if array.ndim != 1:
        raise ValueError(f'{name} must have one dimension, got shape {array.shape}')
    if array.dtype.kind == 'u' and array.max() > np.iinfo(np.intp).max:
        raise SampleIndexError(f'{name}: index {array.max()} is out of range for any data')
    return array.astype(np.intp)


def bounds(indices: IndexArray) -> tuple[int, ...]:
    """Return the highest and the lowest of some indices, or `()` if there are none."""
    return (int(indices.max()), int(indices.min())) if indices.size else ()


def check_range(name: str, bounds: tuple[int, ...], length: int) -> None:
    """Raise `SampleIndexError` unless indices with these bounds are valid for `length` samples, as in NumPy."""
    for value in bounds:
        if not -length <= value < length:
            raise SampleIndexError(f'{name}: index {value} is out of range for {length} samples')


def check_batch_indices(name: str, indices: Any, length: int) -> IndexArray:
    """Return the indices of one batch as an array, checked against the number of samples."""
    if isinstance(indices, slice):
        return as_array(range(*indices.indices(length)))
    array = check_indices(name, indices)
    check_range(name, bounds(array), length)
    return array


def check_places(indices: Any, length: int) -> IndexArray:
    """Check places among `length` samples, and return them as a new array, with -1 as `length - 1`."""
    array = check_batch_indices('indices', indices, length)
    return from_start(array, length)
