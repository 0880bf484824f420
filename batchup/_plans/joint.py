"""Plans over several members: all side by side, or one of them for each batch."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from functools import cached_property

from .._ground.arguments import BatchSize
from .._ground.batch import proportion
from .._ground.indices import ChoiceBatch, IndexTree, Leaf, SizedParts, as_array, leaf_lengths, map_leaves, map_sized
from .._ground.randomness import Shuffle
from ..errors import EndOfPlanError
from .choosers import Chooser
from .plan import Plan, part_of_window


class JointPlan(Plan):
    """A plan over several members, which may draw from the same sequential generator.

    If they do, the plan goes batch by batch, so that every member draws in its turn.
    """

    def __init__(self, members: Sequence[Plan], shuffle: Shuffle) -> None:
        self._members = members
        self._reached = 0
        self.shuffle = shuffle
        self.pure = shuffle.pure
        self.exact = all(member.exact for member in members)

    def _indices(self, number: int, limit: int) -> tuple[IndexTree, int]:
        while not self.pure and self._reached < number:
            self.indices(self._reached, number - self._reached)
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

    With `trim`, the parts of a batch are cut to the shortest, or in proportion to their sizes.

    Parameters
    ----------
    members : sequence of Plan
        The plans of the members.
    sizes : int or tuple
        The batch size, or those of the members.
    """

    def __init__(self, members: Sequence[Plan], shuffle: Shuffle, trim: bool, sizes: BatchSize) -> None:
        super().__init__(members, shuffle)
        self._trim = trim
        self._sizes = sizes

    @cached_property
    def length(self) -> int | float | None:  # type: ignore[override]
        """The number of batches of the shortest member; members may have to count theirs."""
        return smallest([member.length for member in self._members])

    @property
    def length_at_hand(self) -> int | float | None:
        return smallest([member.length_at_hand for member in self._members])

    @property
    def empty(self) -> bool | None:
        return any_empty([member.empty for member in self._members])

    def describe(self) -> str:
        return self._describe_members('trimmed' if self._trim else 'untrimmed')

    def _join(self, number: int, limit: int) -> tuple[IndexTree, int]:
        parts: list[tuple[IndexTree, int]] = []
        for member in self._members:
            indices, limit = member.indices(number, limit)
            parts.append((indices, limit))
        joined = tuple(part_of_window(indices, count, 0, limit) for indices, count in parts)
        if isinstance(self._sizes, tuple):
            joined = SizedParts(joined)
        return (trim_batches(joined, limit, self._sizes) if self._trim else joined), limit


def smallest(lengths: Sequence[int | float | None]) -> int | float | None:
    """Return the smallest of some lengths, `None` if one of them is unknown."""
    known = [length for length in lengths if length is not None]
    return min(known) if len(known) == len(lengths) else None


def any_empty(members: Sequence[bool | None]) -> bool | None:
    """Say whether at least one of several members has no batch; `None` if that depends on the draws."""
    return True if True in members else None if None in members else False


def trim_batches(indices: IndexTree, count: int, sizes: BatchSize) -> IndexTree:
    """Cut the parts of each of `count` batches of indices to the length of the shortest.

    Where members have batch sizes of their own, the parts are cut in proportion to them.
    """
    if not isinstance(sizes, tuple):
        lengths = leaf_lengths(indices)
        shortest = min(lengths) // count
        return indices if len(lengths) == 1 else map_leaves(lambda leaf: _cut(leaf, count, shortest), indices)
    sized: list[tuple[int, int]] = []
    map_sized(lambda leaf, size: sized.append((len(leaf) // count, size)), indices, sizes)
    return map_sized(lambda leaf, size: _cut(leaf, count, proportion(size, sized)), indices, sizes)


def _cut(leaf: Leaf, count: int, length: int) -> Leaf:
    """Cut each of `count` batches of indices to its first `length` at most."""
    if length * count >= len(leaf):
        return leaf
    return leaf[:length] if count == 1 else as_array(leaf).reshape(count, -1)[:, :length].reshape(-1)


class ChoicePlan(JointPlan):
    """Each batch from one member, chosen by a `Mixture` or a `Spread`."""

    def __init__(self, members: Sequence[Plan], shuffle: Shuffle, chooser: Chooser) -> None:
        super().__init__(members, shuffle)
        self._chooser = chooser
        self.exact = self.exact or chooser.counted

    @property
    def length(self) -> int | float | None:  # type: ignore[override]
        """The number of batches; to count them, members may have to be drawn."""
        return self._chooser.length

    @property
    def length_at_hand(self) -> int | float | None:
        length: int | float | None = vars(self._chooser).get('length')
        return length

    @property
    def empty(self) -> bool | None:
        return self._chooser.empty([member.empty for member in self._members])

    def describe(self) -> str:
        return self._describe_members(self._chooser.name)

    def _join(self, number: int, limit: int) -> tuple[IndexTree, int]:
        member, ordinal = self._chooser[number]
        try:
            indices, count = self._members[member].indices(ordinal, 1)
        except EndOfPlanError:
            self._chooser.check_end(member, number)
            raise
        return ChoiceBatch(indices, member), count
