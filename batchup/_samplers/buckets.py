"""A sampler that puts samples of similar length into the same batch."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from .._ground.arguments import check_positive, check_repeats
from .._ground.indices import IndexArray
from .._ground.randomness import Path, Shuffle
from .._ground.words import counted, times
from .._plans.ordered import total_samples
from .._plans.plan import Plan
from .arranged import ArrangedPlan
from .base import PlannedSampler


class BucketSampler(PlannedSampler):
    """All samples once in every repetition, in batches of similar length.

    Samples are sorted by length, the longest first, and cut into buckets of several batches
    each. Shuffled, samples of equal length change places, those of a bucket are mixed, and
    the batches come in random order. How many batches there are, and how large each is,
    depends on the lengths only. No batch goes across the end of a repetition, which has one
    short batch at most; `drop_last` leaves it out.

    With `max_elements`, a batch is no larger than that many elements once it is padded: its
    number of samples times the length of its longest one. All batches of a
    bucket have the size that fits its longest sample.

    It takes about 50 bytes a sample, and as long for a repetition as sorting samples twice.

    Parameters
    ----------
    lengths : 1-D array-like of n integers
        The length of every sample, 0 or more.
    max_elements : int, optional
        The budget of a batch. `batch_size` is still the most samples that it holds.
    batches_per_bucket : int
        Larger: batches are more random. Smaller: less padding.
    repeats : int
        How often to go through all samples; -1 for endless.

    Raises
    ------
    TypeError
        If lengths are no integers.
    ValueError
        If a length is negative, or larger than `max_elements`.

    >>> sampler = BucketSampler([3, 9, 2, 8, 4], max_elements=16, batches_per_bucket=1)
    >>> for indices in sampler.in_order_indices_batch_iterator(3):
    ...     print(indices)
    [1]
    [3 4]
    [0 2]
    """

    def __init__(
        self, lengths: ArrayLike, *, max_elements: int | None = None, batches_per_bucket: int = 4, repeats: int = 1
    ) -> None:
        self.lengths = check_lengths(lengths)
        self.max_elements = None if max_elements is None else check_positive('max_elements', max_elements)
        self.batches_per_bucket = check_positive('batches_per_bucket', batches_per_bucket)
        self.repeats = check_repeats(repeats)
        self._descending = np.sort(self.lengths)[::-1]
        if self.max_elements is not None and self._descending.size and self._descending[0] > self.max_elements:
            longest = int(self.lengths.argmax())
            raise ValueError(
                f'sample {longest} has length {self.lengths[longest]}, more than max_elements={max_elements}; '
                'leave it out, or allow more'
            )

    def _words(self) -> str:
        lengths = f', lengths {self._descending[-1]} to {self._descending[0]}' if self._descending.size else ''
        budget = '' if self.max_elements is None else f', max_elements={self.max_elements}'
        return counted(len(self.lengths), 'sample') + lengths + budget + times(self.repeats)

    def num_indices_generated(self) -> int | float:
        return total_samples(len(self.lengths), self.repeats)

    def _check_length(self, length: int) -> None:
        if len(self.lengths) != length:
            raise ValueError(f'the sampler has the lengths of {len(self.lengths)} samples, the data has {length}')

    def _make_plan(self, batch_size: int, shuffle: Shuffle, drop_last: bool, path: Path) -> Plan:
        n, buckets = len(self.lengths), self._cut(batch_size)
        bucket_of = np.repeat(np.arange(len(buckets)), [bucket.stop - bucket.start for bucket in buckets])
        starts = np.array([start for bucket in buckets for start in range(*bucket)] + [n], np.intp)
        if drop_last and buckets and starts[-1] - starts[-2] < buckets[-1].size:
            starts = starts[:-1]

        def arrange(samples: IndexArray, mixed: IndexArray) -> IndexArray:
            by_length = samples[np.argsort(-self.lengths[samples], kind='stable')]
            return by_length[mixed[np.argsort(bucket_of[mixed], kind='stable')]]

        budget = '' if self.max_elements is None else f' within {self.max_elements} elements'
        name = f'{n} samples in {len(buckets)} buckets{budget} x {self.repeats}'
        return ArrangedPlan(name, arrange, (n, n), starts, self.repeats, shuffle, path)

    def _cut(self, batch_size: int) -> list[_Bucket]:
        """Cut the samples, sorted by length, into buckets."""
        buckets, n, start = [], len(self._descending), 0
        while start < n:
            fit = math.inf if self.max_elements is None else self.max_elements // max(1, int(self._descending[start]))
            size = int(min(batch_size, fit))
            stop = start + size * self.batches_per_bucket
            # If fewer samples than a batch would be left, they join this bucket: on their own, they would
            # be the short batch in every repetition.
            stop = n if n - stop < size else stop
            buckets.append(_Bucket(start, stop, size))
            start = stop
        return buckets


class _Bucket(NamedTuple):
    """Where a bucket starts and stops among samples sorted by length, and the size of its batches."""

    start: int
    stop: int
    size: int


def check_lengths(lengths: ArrayLike) -> IndexArray:
    """Return the lengths of samples as a new array."""
    array = np.asarray(lengths)
    if array.ndim != 1:
        raise ValueError(f'lengths must have one dimension, a length for each sample, got shape {array.shape}')
    if array.size and array.dtype.kind not in 'iu':
        raise TypeError(f'lengths must be integers, got dtype {array.dtype}')
    largest = np.iinfo(np.intp).max
    wrong = np.flatnonzero((array < 0) | (array > largest))
    if wrong.size:
        raise ValueError(f'lengths must be from 0 to {largest}, got {array[wrong[0]]} for sample {wrong[0]}')
    return array.astype(np.intp)
