"""Samplers and shuffles: which samples make up an epoch, and in which order.

A sampler makes batches of sample indices, and a `batchup.data_source.Plan` of them. Users write
their own as a subclass of `AbstractSampler` with plain generators.
"""

from __future__ import annotations

from ._ground.arguments import check_batch_size, check_non_negative
from ._samplers.base import AbstractSampler
from ._samplers.buckets import BucketSampler
from ._samplers.groups import GroupSampler
from ._samplers.order import Order
from ._samplers.quotas import PKSampler, QuotaSampler
from ._samplers.shuffles import BlockShuffle, ComputedShuffle, FullShuffle
from ._samplers.standard import StandardSampler, SubsetSampler
from ._samplers.weighted import WeightedSampler, WeightedSubsetSampler

__all__ = [
    'AbstractSampler',
    'BlockShuffle',
    'BucketSampler',
    'ComputedShuffle',
    'FullShuffle',
    'GroupSampler',
    'Order',
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
