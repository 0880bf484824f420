"""Samplers that fix how many samples of each class there are in a batch."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from .._ground.arguments import check_non_negative, check_positive, check_repeats
from .._ground.indices import IndexArray, IndexTree, as_array
from .._ground.labels import Labels, number_labels
from .._ground.randomness import Path, Purpose, Shuffle, draw_permutations
from .._ground.words import counted, listing
from .._plans.joint import JointPlan
from .._plans.ordered import OrderPlan
from .._plans.orders import KeyedOrders, Orders, distinct_permutations, permutations
from .._plans.plan import Plan
from .base import PlannedSampler

# The places of samples in their batches are drawn at once for all batches within this many
# samples. Larger: fewer keys (20 microseconds each). Smaller: less to draw after a jump.
PLACES_PER_KEY = 4096


class ClassSampler(PlannedSampler):
    """Base class of the samplers that fix the size of their batches.

    Attributes
    ----------
    batch_size : int
        The number of samples of every batch.
    n_batches : int or math.inf
        The number of batches of an epoch.
    """

    batch_size: int
    n_batches: int | float
    _length: int
    # The samples of each class that is used, by the number of the class.
    _members: dict[int, IndexArray]

    def _words(self) -> str:
        batches = 'endless' if self.n_batches == math.inf else counted(self.n_batches, 'batch', 'batches')
        return f'{counted(self._length, "sample")}, {batches} of {self._made_of()}'

    def _made_of(self) -> str:
        """Say what is in a batch."""
        raise NotImplementedError

    def num_indices_generated(self) -> int | float:
        return self.n_batches * self.batch_size

    def _check_length(self, length: int) -> None:
        if self._length != length:
            raise ValueError(f'the sampler has the classes of {self._length} samples, the data has {length}')

    def _check_batch_size(self, batch_size: int, made_of: str) -> None:
        if batch_size != self.batch_size:
            raise ValueError(
                f'batch_size is {batch_size}, but {made_of} make batches of {self.batch_size}; '
                f'pass batch_size={self.batch_size}'
            )

    def _class_plans(self, counts: Mapping[int, int], shuffle: Shuffle, path: Path) -> dict[int, Plan]:
        """Make the plan of each class: without end, and no sample twice in one of its batches."""
        plans: dict[int, Plan] = {}
        for number, members in self._members.items():
            count = counts[number]
            orders = distinct_permutations(members, count, shuffle, Purpose.ORDER, (*path, number))
            name = f'{count} of {len(members)}'
            plans[number] = OrderPlan(name, orders, len(members), -1, count, shuffle, False)
        return plans


class QuotaSampler(ClassSampler):
    """Batches with a fixed number of samples of each class.

    Each class goes through all its samples before any is used again, in a new permutation
    every time. No sample is in a batch twice. Shuffled, the samples of a batch are mixed; in
    order, they are sorted by class.

    An epoch ends with the first batch by which every class has been gone through once, or
    `repeats` times; small classes have been used more often by then. All batches are full, and
    `batch_size` must be the sum of the quotas.

    Parameters
    ----------
    y : 1-D array-like of n labels
        The class of every sample: integers, strings, or other values that can be sorted.
    quotas : dict or pandas Series by class, or sequence of int
        The number of samples in a batch for each class. Every class in `y` must have one; 0
        leaves a class out. A sequence is for classes 0, 1, 2, ... if the labels are numbers,
        and else for the sorted labels.
    n_batches : int, optional
        The number of batches of an epoch, in place of `repeats`.
    repeats : int
        How often every class is gone through at least; -1 for endless.

    Attributes
    ----------
    quotas : dict
        The quotas that are not 0.
    batch_size : int
        Their sum.
    n_batches : int or math.inf
        The number of batches of an epoch.

    Raises
    ------
    ValueError
        If a class has no quota, or fewer samples than its quota.

    >>> sampler = QuotaSampler(['cat', 'dog', 'dog', 'cat', 'dog', 'dog', 'dog'], {'cat': 1, 'dog': 2})
    >>> for indices in sampler.in_order_indices_batch_iterator(3):
    ...     print(indices)
    [0 1 2]
    [3 4 5]
    [0 6 1]
    """

    def __init__(
        self,
        y: ArrayLike,
        quotas: Mapping[Any, int] | Sequence[int],
        *,
        n_batches: int | None = None,
        repeats: int = 1,
    ) -> None:
        labels = number_labels('y', y)
        self.quotas = check_quotas(labels, quotas)
        check_class_sizes(self.quotas, labels)
        members = labels.members()
        self._length = len(labels.codes)
        self._counts = {k: self.quotas[label] for k, label in enumerate(labels.values) if label in self.quotas}
        self._members = {number: members[number] for number in self._counts}
        self.batch_size = sum(self.quotas.values())
        self.n_batches = epoch_length(n_batches, repeats, self._count_batches)

    def _made_of(self) -> str:
        return f'{{{listing(f"{label!r}: {quota}" for label, quota in self.quotas.items())}}}'

    def _make_plan(self, batch_size: int, shuffle: Shuffle, drop_last: bool, path: Path) -> Plan:
        self._check_batch_size(batch_size, 'the quotas')
        plans = self._class_plans(self._counts, shuffle, path)
        counts = [self._counts[number] for number in plans]
        return QuotaPlan(list(plans.values()), counts, self.n_batches, shuffle, path)

    def _count_batches(self, repeats: int) -> int:
        return max(-(-repeats * len(members) // self._counts[number]) for number, members in self._members.items())


class QuotaPlan(JointPlan):
    """Batches that are put together from one batch of every member."""

    def __init__(
        self, members: Sequence[Plan], counts: Sequence[int], length: float, shuffle: Shuffle, path: Path
    ) -> None:
        super().__init__(members, shuffle)
        self.length = length if math.isinf(length) else int(length)
        self._counts = counts
        size = sum(counts)
        self._block = max(1, PLACES_PER_KEY // size) if shuffle.pure else 1
        self._places: Orders
        if shuffle.seed is None:
            self._places = permutations(range(size), shuffle, Purpose.CHOICE, path)
        else:
            count = self._block
            self._places = KeyedOrders(lambda rng: draw_permutations(rng, count, size), shuffle, Purpose.CHOICE, path)

    def describe(self) -> str:
        return f'{self.length} batches of {self._describe_members("quotas")}'

    def _join(self, number: int, limit: int) -> tuple[IndexTree, int]:
        block, first = divmod(number, self._block)
        limit = min(limit, self._block - first)
        parts: list[IndexArray] = []
        for member, count in zip(self._members, self._counts):
            indices, limit = member.indices(number, limit)
            parts.append(as_array(indices).reshape(-1, count))
        batches = np.concatenate([part[:limit] for part in parts], axis=1)
        if not self.shuffle.in_order:
            places = as_array(self._places[block]).reshape(self._block, -1)[first : first + limit]
            batches = np.take_along_axis(batches, places, axis=1)
        return batches.reshape(-1), limit


class PKSampler(ClassSampler):
    """Batches of P classes with K samples each, for losses that compare samples.

    These are the batches of Hermans, Beyer and Leibe, "In Defense of the Triplet Loss for
    Person Re-Identification" (2017, arXiv:1703.07737), but without replacement: all classes
    come before any comes again, and each goes through all its samples before any is used
    again. No class and no sample is in a batch twice. The K samples of a class are side by
    side, so that an array `x` of a batch is `x.reshape(p, k, ...)`.

    An epoch ends with the first batch by which every sample has been used once, or `repeats`
    times: if the largest class has m samples, all classes have come `ceil(repeats * m / k)`
    times by then. All batches are full, and `batch_size` must be `p * k`.

    Parameters
    ----------
    y : 1-D array-like of n labels
        The class of every sample: integers, strings, or other values that can be sorted.
    p : int
        The number of classes in a batch.
    k : int
        The number of samples of each.
    n_batches : int, optional
        The number of batches of an epoch, in place of `repeats`.
    repeats : int
        How often every sample is used at least; -1 for endless.
    small_classes : 'error' or 'skip'
        What to do about classes with fewer than `k` samples; `'skip'` never uses them.

    Attributes
    ----------
    batch_size : int
        The number of samples of every batch, `p * k`.
    n_batches : int or math.inf
        The number of batches of an epoch.

    Raises
    ------
    ValueError
        If a class is too small, or there are fewer than `p` classes.

    >>> sampler = PKSampler([0, 0, 1, 1, 2, 2, 2], p=2, k=2)
    >>> for indices in sampler.in_order_indices_batch_iterator(4):
    ...     print(indices)
    [0 1 2 3]
    [4 5 0 1]
    [2 3 6 4]
    """

    def __init__(
        self,
        y: ArrayLike,
        p: int,
        k: int,
        *,
        n_batches: int | None = None,
        repeats: int = 1,
        small_classes: Literal['error', 'skip'] = 'error',
    ) -> None:
        labels = number_labels('y', y)
        self.p, self.k = check_positive('p', p), check_positive('k', k)
        if small_classes not in ('error', 'skip'):
            raise ValueError(f"small_classes must be 'error' or 'skip', got {small_classes!r}")
        if small_classes == 'error':
            check_class_sizes(dict.fromkeys(labels.values, self.k), labels)
        self._length = len(labels.codes)
        self._members = {number: part for number, part in enumerate(labels.members()) if len(part) >= self.k}
        if len(self._members) < self.p:
            raise ValueError(f'p is {self.p}, but y has only {len(self._members)} classes with k={self.k} samples')
        self.batch_size = self.p * self.k
        self.n_batches = epoch_length(n_batches, repeats, self._count_batches)

    def _made_of(self) -> str:
        return f'p={self.p} classes with k={self.k}'

    def _make_plan(self, batch_size: int, shuffle: Shuffle, drop_last: bool, path: Path) -> Plan:
        self._check_batch_size(batch_size, f'p={self.p} classes of k={self.k} samples')
        plans = self._class_plans(dict.fromkeys(self._members, self.k), shuffle, path)
        rounds = distinct_permutations(range(len(plans)), self.p, shuffle, Purpose.CHOICE, path)
        return PKPlan(list(plans.values()), rounds, self.p, self.n_batches, shuffle)

    def _count_batches(self, repeats: int) -> int:
        visits = max(-(-repeats * len(members) // self.k) for members in self._members.values())
        return -(-visits * len(self._members) // self.p)


class PKPlan(JointPlan):
    """Batches that are put together from one batch of each of `p` members, all members in turn."""

    def __init__(self, members: Sequence[Plan], rounds: Orders, p: int, length: float, shuffle: Shuffle) -> None:
        super().__init__(members, shuffle)
        self.length = length if math.isinf(length) else int(length)
        self._rounds = rounds
        self._p = p

    def describe(self) -> str:
        return f'{self.length} batches of {self._p} from {self._describe_members("classes")}'

    def _join(self, number: int, limit: int) -> tuple[IndexTree, int]:
        # In every round each member comes once: what it gives in round r is its batch r.
        turns = (divmod(turn, len(self._members)) for turn in range(number * self._p, (number + 1) * self._p))
        parts = [self._members[self._rounds[turn][place]].indices(turn, 1)[0] for turn, place in turns]
        return np.concatenate(parts), 1


def check_quotas(labels: Labels, quotas: Any) -> dict[Any, int]:
    """Return the quotas that are not 0 as a dict, or raise an error unless every label has one."""
    given = name_quotas(labels, quotas).items()
    counts = {label: check_non_negative(f'the quota of class {label!r}', count) for label, count in given}
    for label in labels.values:
        if label not in counts:
            raise ValueError(
                f'class {label!r} in y has no quota; give it one, or 0 to leave it out; '
                f'got quotas for {reprlib.repr(list(counts))}'
            )
    if not any(counts.values()):
        raise ValueError('the quotas sum to 0: at least one class must have samples in a batch')
    return {label: count for label, count in counts.items() if count}


def name_quotas(labels: Labels, quotas: Any) -> dict[Any, Any]:
    """Return quotas by label, without checking their values."""
    if hasattr(quotas, 'items'):
        return dict(quotas.items())
    if not isinstance(quotas, (list, tuple, np.ndarray)):
        raise TypeError(f'quotas must be a dict or a sequence of counts, got {type(quotas).__name__}')
    if labels.numeric:
        return dict(enumerate(quotas))
    if len(quotas) != len(labels.values):
        raise ValueError(
            f'quotas must hold a count for each of the {len(labels.values)} classes in y, got {len(quotas)}; '
            f'name them: {{{labels.values[0]!r}: ..., ...}}'
        )
    return dict(zip(labels.values, quotas))


def check_class_sizes(quotas: Mapping[Any, int], labels: Labels) -> None:
    """Raise `ValueError` unless every class has as many samples as a batch takes of it."""
    sizes = dict(zip(labels.values, labels.counts))
    for label, quota in quotas.items():
        if sizes.get(label, 0) < quota:
            raise ValueError(
                f'class {label!r} has {sizes.get(label, 0)} samples in y, but a batch takes {quota} of it; '
                'no sample is in a batch twice'
            )


def epoch_length(n_batches: Any, repeats: Any, count: Callable[[int], int]) -> int | float:
    """Return the number of batches of an epoch: as given, or counted for a number of repetitions."""
    repeats = check_repeats(repeats)
    if n_batches is None:
        return math.inf if repeats == -1 else count(repeats)
    if repeats != 1:
        raise ValueError(f'give either n_batches or repeats={repeats}: both say how long an epoch is')
    return check_non_negative('n_batches', n_batches)
