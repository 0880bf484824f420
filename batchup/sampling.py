"""Samplers and shuffles: which samples make up an epoch, and in which order.

A sampler makes batches of sample indices, and a `batchup.plan.Plan` of them. Users write
their own as a subclass of `AbstractSampler` with plain generators. What shuffles cost, and how well they mix, is in
`batchup.shuffles`.
"""

from __future__ import annotations

from ._samplers.base import AbstractSampler
from ._samplers.buckets import BucketSampler
from ._samplers.groups import GroupSampler
from ._samplers.quotas import PKSampler, QuotaSampler
from ._samplers.standard import StandardSampler, SubsetSampler
from ._samplers.weighted import WeightedSampler, WeightedSubsetSampler
from .arguments import check_batch_size, check_non_negative
from .shuffles import BlockShuffle, ComputedShuffle, FullShuffle

__all__ = [
    'AbstractSampler',
    'BlockShuffle',
    'BucketSampler',
    'ComputedShuffle',
    'FullShuffle',
    'GroupSampler',
    'PKSampler',
    'QuotaSampler',
    'StandardSampler',
    'SubsetSampler',
    'WeightedSampler',
    'WeightedSubsetSampler',
    'num_batches',
]


def num_batches(n: int, batch_size: int) -> int:
    """Return the number of batches that `n` samples make, the last one possibly short.

    >>> num_batches(11, 5)
    3
    """
    return -(-check_non_negative('n', n) // check_batch_size(batch_size))
