"""A sampler that keeps samples of the same group apart."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from .._ground.arguments import check_repeats
from .._ground.indices import IndexArray
from .._ground.labels import number_labels
from .._ground.randomness import Path, Shuffle
from .._ground.words import counted, times
from .._plans.ordered import total_samples
from .._plans.plan import Plan
from .arranged import ArrangedPlan
from .base import PlannedSampler


class GroupSampler(PlannedSampler):
    """All samples once in every repetition, at most one of each group in a batch.

    There are as few batches as possible: enough for all samples, and at least as many as the
    largest group has samples. Their sizes differ by one at most, so that they are smaller
    than `batch_size` where one group is very large. No batch goes across the end of a
    repetition. With `drop_last`, there are as many batches of exactly `batch_size` samples as
    can be made; which samples are left out is new in every repetition.

    In order, samples are sorted by group and dealt to the batches in turn. Shuffled, samples,
    groups and batches come in random order, and so do the batches that samples are dealt to.
    It takes about 60 bytes a sample, and as long for a repetition as sorting samples three
    times.

    Parameters
    ----------
    groups : 1-D array-like of n labels
        The group of every sample: integers, strings, or other values that can be sorted.
    repeats : int
        How often to go through all samples; -1 for endless.

    Raises
    ------
    TypeError, ValueError
        If the groups cannot be sorted, do not form one dimension, or one is missing.

    >>> for indices in GroupSampler(['a', 'a', 'b', 'b', 'c']).in_order_indices_batch_iterator(2):
    ...     print(indices)
    [0 3]
    [1 4]
    [2]
    """

    def __init__(self, groups: ArrayLike, *, repeats: int = 1) -> None:
        _, self._numbers, self._sizes = number_labels('groups', groups)
        self.repeats = check_repeats(repeats)

    def _words(self) -> str:
        return f'{counted(len(self._numbers), "sample")} in {counted(len(self._sizes), "group")}{times(self.repeats)}'

    def num_indices_generated(self) -> int | float:
        return total_samples(len(self._numbers), self.repeats)

    def _check_length(self, length: int) -> None:
        if len(self._numbers) != length:
            raise ValueError(f'the sampler has the groups of {len(self._numbers)} samples, the data has {length}')

    def _make_plan(self, batch_size: int, shuffle: Shuffle, drop_last: bool, path: Path) -> Plan:
        n, n_groups = len(self._numbers), len(self._sizes)
        count = full_batches(self._sizes, batch_size) if drop_last else self._fewest_batches(batch_size)
        used = min(n, count * batch_size)
        rows = -(-used // max(1, count))
        whole, rest = divmod(used, max(1, count))
        batches = np.arange(count + 1, dtype=np.intp)
        starts = batches * whole + np.minimum(batches, rest)

        def arrange(samples: IndexArray, ranks: IndexArray, cells: IndexArray) -> IndexArray:
            samples, rank = (part[:used] for part in self._sorted_by_group(samples, ranks, count))
            return samples[np.argsort(deal(rank, cells.reshape(rows, count)), kind='stable')]

        name = f'{n} samples of {n_groups} groups x {self.repeats}'
        return ArrangedPlan(name, arrange, (n, n_groups, rows * count), starts, self.repeats, shuffle, path)

    def _fewest_batches(self, batch_size: int) -> int:
        return max(-(-len(self._numbers) // batch_size), int(self._sizes.max(initial=0)))

    def _sorted_by_group(self, samples: IndexArray, ranks: IndexArray, most: int) -> tuple[IndexArray, IndexArray]:
        """Sort samples by the rank of their group, and keep at most `most` of each group.

        Returns
        -------
        tuple
            The samples that are kept, and the ranks of their groups.
        """
        rank = ranks[self._numbers[samples]]
        order = np.argsort(rank, kind='stable')
        rank = rank[order]
        kept = np.arange(len(rank)) - np.searchsorted(rank, rank) < most
        return samples[order[kept]], rank[kept]


def deal(groups: IndexArray, keys: IndexArray) -> IndexArray:
    """Deal samples to batches in rounds: one to each batch a round, and never two of a group to a batch.

    Parameters
    ----------
    groups : array of shape (n,)
        The groups of the samples, in increasing order; none has more samples than there are
        batches.
    keys : array of shape (number of rounds, number of batches)
        What the batches are sorted by in each round.

    Returns
    -------
    array of shape (n,)
        The batch of every sample. The last round, which may end early, is in order.

    >>> deal(np.array([0, 1, 1, 2, 2]), np.array([[2, 0, 1], [1, 2, 0]]))
    array([2, 0, 1, 0, 1])
    """
    batches = np.argsort(keys, axis=1)
    count = keys.shape[1]
    for number, place in enumerate(range(count, len(groups), count), 1):
        first, stop = np.searchsorted(groups, groups[place]), np.searchsorted(groups, groups[place], 'right')
        if first < place:
            # Batches that have one of this group already come after those that have not.
            start = batches[number, : stop - first]
            used = np.isin(start, batches[number - 1, first - place :])
            batches[number, : stop - first] = np.concatenate([start[~used], start[used]])
    if len(batches):
        batches = np.argsort(batches[-1])[batches]
    return batches.reshape(-1)[: len(groups)]


def full_batches(sizes: IndexArray, batch_size: int) -> int:
    """Return how many batches can be filled with at most one sample of each group.

    To fill m batches, a group gives at most m samples.

    >>> full_batches(np.array([5, 2, 2]), 2)
    4
    """
    low, high = 0, int(sizes.sum()) // batch_size
    while low < high:
        middle = (low + high + 1) // 2
        if int(np.minimum(sizes, middle).sum()) >= middle * batch_size:
            low = middle
        else:
            high = middle - 1
    return low
