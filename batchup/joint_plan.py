"""Plans over several members: all side by side, or one of them for each batch."""

from __future__ import annotations

import abc
import math
from collections.abc import Sequence
from functools import cached_property

import numpy as np

from .errors import EndOfPlanError
from .indices import ChoiceBatch, IndexArray, IndexTree, Leaf, as_array, leaf_lengths, map_leaves
from .orders import FixedOrder, Orders, permutations
from .plan import Plan, part_of_window
from .rng import Path, Purpose, Shuffle


class JointPlan(Plan):
    """A plan over several members, which may draw from the same sequential generator.

    If they do, the plan walks batch by batch, so that every member draws in its turn.
    """

    def __init__(self, members: Sequence[Plan], shuffle: Shuffle) -> None:
        self._members = members
        self._reached = 0
        self.shuffle = shuffle
        self.pure = shuffle.pure
        self.exact = all(member.exact for member in members)

    def indices(self, number: int, limit: int) -> tuple[IndexTree, int]:
        self.check_number(number)
        while not self.pure and self._reached < number:
            _, count = self._join(self._reached, number - self._reached)
            self._reached += count
        indices, count = self._join(number, limit)
        self._reached = max(self._reached, number + count)
        return indices, count

    @abc.abstractmethod
    def _join(self, number: int, limit: int) -> tuple[IndexTree, int]:
        """Make the indices of up to `limit` batches from those of the members."""

    def _describe_members(self, kind: str) -> str:
        return f'{kind}[{", ".join(member.describe() for member in self._members)}]'


class CompositePlan(JointPlan):
    """A batch of every member, side by side, until the first member ends.

    With `trim`, the parts of a batch are cut to the shortest.
    """

    def __init__(self, members: Sequence[Plan], shuffle: Shuffle, trim: bool) -> None:
        super().__init__(members, shuffle)
        self._trim = trim
        self.length = smallest([member.length for member in members])

    def describe(self) -> str:
        return self._describe_members('trimmed' if self._trim else 'untrimmed')

    def _join(self, number: int, limit: int) -> tuple[IndexTree, int]:
        parts: list[tuple[IndexTree, int]] = []
        for member in self._members:
            indices, limit = member.indices(number, limit)
            parts.append((indices, limit))
        joined = tuple(part_of_window(indices, count, 0, limit) for indices, count in parts)
        return (trim_batches(joined, limit) if self._trim else joined), limit


def smallest(lengths: Sequence[int | float | None]) -> int | float | None:
    """Return the smallest of some lengths, `None` if one of them is unknown."""
    known = [length for length in lengths if length is not None]
    return min(known) if len(known) == len(lengths) else None


def trim_batches(indices: IndexTree, count: int) -> IndexTree:
    """Cut the parts of each of `count` batches of indices to the length of the shortest."""
    lengths = leaf_lengths(indices)
    if len(lengths) == 1:
        return indices
    shortest = min(lengths) // count

    def cut(leaf: Leaf) -> Leaf:
        if count == 1:
            return leaf[:shortest]
        return as_array(leaf).reshape(count, -1)[:, :shortest].reshape(-1)

    return map_leaves(cut, indices)


class ChoicePlan(JointPlan):
    """Each batch from one member, chosen by a `Turns` or a `Spread`."""

    def __init__(self, members: Sequence[Plan], shuffle: Shuffle, chooser: Chooser) -> None:
        super().__init__(members, shuffle)
        self._chooser = chooser
        self.length = chooser.length
        self.exact = self.exact or chooser.counted

    def describe(self) -> str:
        return self._describe_members(type(self._chooser).__name__.lower())

    def _join(self, number: int, limit: int) -> tuple[IndexTree, int]:
        member, ordinal = self._chooser[number]
        try:
            indices, count = self._members[member].indices(ordinal, 1)
        except EndOfPlanError:
            self._chooser.check_end(member, number)
            raise
        return ChoiceBatch(indices, member), count


class Turns:
    """Members in turn, in order or in a new random order each round, until one has ended.

    `turns[k]` is the member of batch k, and the number of the batch within the member.

    >>> turns = Turns([8, 4, 2, 1], Shuffle(), ())
    >>> [turns[k][0] for k in range(turns.length)]
    [0, 1, 2, 3, 0, 1, 2]
    """

    # Whether all batches were counted, so that the choice ends with the last of them.
    counted = False

    def __init__(self, lengths: Sequence[int | float | None], shuffle: Shuffle, path: Path) -> None:
        self._lengths = lengths
        self.pure = shuffle.pure
        self._rounds = permutations(range(len(lengths)), shuffle, Purpose.CHOICE, path)
        self.length = self._count_batches(shuffle)

    def __getitem__(self, number: int) -> tuple[int, int]:
        turn, place = divmod(number, len(self._lengths))
        return int(self._rounds[turn][place]), turn

    def check_end(self, member: int, number: int) -> None:
        """Accept that a member has ended in place of batch `number`: so do the turns."""

    def _count_batches(self, shuffle: Shuffle) -> int | float | None:
        """Count the batches; unknown if the generator of the last round is yet to be drawn from."""
        rounds = smallest(self._lengths)
        if rounds is None or rounds == math.inf:
            return rounds
        ended = [member for member, length in enumerate(self._lengths) if length == rounds]
        whole_rounds = int(rounds) * len(self._lengths)
        if len(ended) == len(self._lengths):
            return whole_rounds
        if not shuffle.pure:
            return None
        last_round = np.asarray(self._rounds[int(rounds)])
        return whole_rounds + int(np.flatnonzero(np.isin(last_round, ended))[0])


class Spread:
    """Every batch of every member, spread evenly, or in random order.

    Batch j of a member with n batches stands at the fraction j / n of the epoch; where
    several stand at the same place, members are in order. Takes 16 bytes a batch.

    >>> spread = Spread([8, 4, 2, 1], Shuffle(), ())
    >>> [spread[k][0] for k in range(spread.length)]
    [0, 1, 2, 3, 0, 0, 1, 0, 0, 1, 2, 0, 0, 1, 0]
    """

    counted = True

    def __init__(self, lengths: Sequence[int], shuffle: Shuffle, path: Path) -> None:
        members = np.repeat(np.arange(len(lengths)), lengths)
        self._lengths = lengths
        self.pure = shuffle.pure
        if shuffle.in_order:
            fractions = np.concatenate([np.arange(length) / max(length, 1) for length in lengths])
            self._orders: Orders = FixedOrder(members[np.argsort(fractions, kind='stable')])
        else:
            self._orders = permutations(members, shuffle, Purpose.CHOICE, path)
        self.length = len(members)

    def __getitem__(self, number: int) -> tuple[int, int]:
        return int(self._members[number]), int(self._ordinals[number])

    def check_end(self, member: int, number: int) -> None:
        """Raise an error: a member has ended in place of batch `number`, with fewer batches than it said."""
        raise ValueError(
            f'member {member} of a stratified choice ended before batch {number}: '
            'it has fewer samples than its num_samples() says'
        )

    @cached_property
    def _members(self) -> IndexArray:
        return np.asarray(self._orders[0])

    @cached_property
    def _ordinals(self) -> IndexArray:
        """The number of every batch within its member."""
        ordinals = np.empty(self.length, dtype=np.intp)
        ordinals[np.argsort(self._members, kind='stable')] = np.concatenate([np.arange(n) for n in self._lengths])
        return ordinals


Chooser = Turns | Spread
