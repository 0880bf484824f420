"""Shards: the parts of every batch that belong to the ranks of a data-parallel run."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._ground.arguments import check_integer
from .._ground.indices import Leaf, as_array, first_leaf, leaf_lengths, map_leaves
from .plan import Request

# What to do with the samples of a batch that the ranks cannot share evenly.
UNEVEN = ('share', 'drop', 'pad')


@dataclass(frozen=True)
class Shard:
    """One of several ranks, each of which takes its part of every batch.

    Attributes
    ----------
    rank, count : int
        The number of the rank, from 0, and the number of ranks.
    uneven : str
        What to do with the samples of a batch that the ranks cannot share evenly: 'share'
        them, so that some ranks have one more than others; 'drop' them; or 'pad' the parts
        of the other ranks with samples of the same batch.
    """

    rank: int = 0
    count: int = 1
    uneven: str = 'share'

    @classmethod
    def check(cls, shard: Any, uneven: Any = 'share') -> Shard:
        """Interpret the arguments `shard` and `uneven` as users give them."""
        if uneven not in UNEVEN:
            raise ValueError(f'uneven must be one of {", ".join(map(repr, UNEVEN))}, got {uneven!r}')
        if shard is None:
            return cls(uneven=uneven)
        if isinstance(shard, str) and shard == 'env':
            shard = _of_environment('RANK'), _of_environment('WORLD_SIZE')
        if not isinstance(shard, (tuple, list)) or len(shard) != 2:
            raise TypeError(f"shard must be a pair (rank, count), 'env' or None, got {shard!r}")
        rank, count = (check_integer(f'{part} of the shard', value) for part, value in zip(('rank', 'count'), shard))
        if not 0 <= rank < count:
            raise ValueError(f'shard must be (rank, count) with 0 <= rank < count, got ({rank}, {count})')
        return cls(rank, count, uneven)

    def part_of(self, request: Request) -> Request:
        """Return the part of a request that belongs to the rank.

        The ranks take consecutive parts of each batch: side by side, these are the batch, except
        for samples that are dropped or added as padding.
        """
        if self.count == 1 and self.uneven != 'pad':
            return request
        padding = None
        if self.uneven == 'pad':
            lengths = leaf_lengths(request.indices)
            if len(lengths) > 1:
                raise ValueError(
                    "uneven='pad' needs batches whose parts are equally long: one array marks the padding of all"
                )
            padding = self._bounds(lengths.pop() // request.n_batches)[2]

        def cut(leaf: Leaf) -> Leaf:
            size = len(leaf) // request.n_batches
            start, stop, padding = self._bounds(size)
            if request.n_batches == 1 and not padding:
                return leaf[start:stop]
            batches = as_array(leaf).reshape(request.n_batches, size)
            part = batches[:, start:stop]
            if padding:
                # Repeat the last sample of the rank, or the first of the batch if the rank has none.
                last = max(stop - 1, 0)
                part = np.concatenate([part, batches[:, last : last + 1]], axis=1)
            return part.reshape(-1)

        indices = request.indices if self.count == 1 else map_leaves(cut, request.indices)
        return request._replace(indices=indices, rank=self.rank, padding=padding)

    def kept(self, size: int) -> int:
        """Return how many samples of a batch of this size are left for all ranks together."""
        return size - size % self.count if self.uneven == 'drop' else size

    def _bounds(self, size: int) -> tuple[int, int, int]:
        """Return where the part of a batch begins and ends, and how many samples pad it."""
        if self.uneven == 'drop':
            share = size // self.count
            return share * self.rank, share * (self.rank + 1), 0
        start, stop = size * self.rank // self.count, size * (self.rank + 1) // self.count
        return start, stop, -(-size // self.count) - (stop - start) if self.uneven == 'pad' else 0


def _of_environment(name: str) -> int:
    value = os.environ.get(name)
    if value is None or not value.strip().isdigit():
        got = 'it is not set' if value is None else f'got {value!r}'
        raise ValueError(
            f"shard='env' needs a number in the environment variable {name}, as torchrun and others set it; {got}"
        )
    return int(value)


def real_rows(request: Request) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return which rows of a batch of a request are samples, and not padding."""
    assert request.padding is not None
    size = len(first_leaf(request.indices)) // request.n_batches
    return np.arange(size) < size - request.padding
