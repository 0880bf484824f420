"""Choosers: which of several members each batch comes from, and when the choice ends."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property

import numpy as np

from .._ground.arguments import check_positive
from .._ground.indices import IndexArray
from .._ground.randomness import Path, Purpose, Shuffle
from ..errors import EndOfPlanError
from .choices import Choices, ordinals_of
from .orders import FixedOrder, Orders, permutations


def check_stop(stop: int | str) -> int | str:
    """Check when a choice ends: `'first'`, `'all'`, or a number of batches."""
    if not isinstance(stop, str):
        return check_positive("stop must be 'first', 'all' or a number of batches: it", stop)
    if stop not in ('first', 'all'):
        raise ValueError(f"stop must be 'first', 'all' or a number of batches, got {stop!r}")
    return stop


class Mixture:
    """Takes members from endless `Choices`, up to an end that a rule sets.

    `mixture[k]` is the member of batch k, and the number of the batch within the member.

    Parameters
    ----------
    choices : Choices
        Which member each batch comes from.
    lengths : sequence of int, math.inf or None
        The number of batches of each member; `None` if unknown.
    stop : 'first', 'all' or int
        'first' ends at the first batch that its member is too short to give; 'all' ends when
        every member has given as many batches as its length; a number is that of the batches.

    Attributes
    ----------
    counted : bool
        Whether batches are counted to find the end. If not, the mixture ends with the first member
        that ends.
    """

    def __init__(self, choices: Choices, lengths: Sequence[int | float | None], stop: int | str = 'first') -> None:
        self.name = choices.name if stop == 'first' else f'{choices.name} until {stop}'
        self.pure = choices.pure
        self.counted = stop != 'first'
        self._choices = choices
        self._lengths = {member: lengths[member] for member in choices.members}
        self._stop = stop
        # How many batches each member has left, after the first `_reached` batches.
        self._left = {member: length or 0 for member, length in self._lengths.items()}
        self._reached = 0

    @cached_property
    def length(self) -> int | float | None:
        """The number of batches; `None` if it is not known before they are drawn."""
        if not isinstance(self._stop, str):
            return self._stop
        finite = {member: int(length) for member, length in self._lengths.items() if length not in (None, math.inf)}
        if None in self._lengths.values():
            return None
        if self._stop == 'first':
            return self._choices.first_end(finite) if finite else math.inf
        return self._choices.last_end(finite) if len(finite) == len(self._lengths) else math.inf

    def empty(self, members: Sequence[bool | None]) -> bool | None:
        """Say whether there is no batch; `None` if that depends on the draws.

        `members` holds the same answer for each member.
        """
        if self._stop != 'first':
            return self.length == 0
        firsts = {members[member] for member in self._choices.firsts}
        return firsts.pop() if len(firsts) == 1 else None

    def __getitem__(self, number: int) -> tuple[int, int]:
        if self._stop == 'all' and not self.pure:
            self._count(number)
        return self._choices[number]

    def _count(self, number: int) -> None:
        """Raise `EndOfPlanError` if all members have given their batches before batch `number`."""
        while self._reached <= number:
            if max(self._left.values()) <= 0:
                raise EndOfPlanError(f'there is no batch {number} in a choice of {self._reached} batches')
            self._left[self._choices[self._reached][0]] -= 1
            self._reached += 1

    def check_end(self, member: int, number: int) -> None:
        """Do nothing: a mixture ends, too, if a member has no more for batch `number`."""


class Spread:
    """Every batch of every member, spread evenly, or in random order.

    Batch j of a member with n batches comes at the fraction j / n of the epoch. Batches of the
    same fraction come in the order of their members. Takes 16 bytes a batch.

    >>> spread = Spread([8, 4, 2, 1], Shuffle(), ())
    >>> [spread[k][0] for k in range(spread.length)]
    [0, 1, 2, 3, 0, 0, 1, 0, 0, 1, 2, 0, 0, 1, 0]
    """

    name = 'spread'
    counted = True

    def __init__(self, lengths: Sequence[int], shuffle: Shuffle, path: Path) -> None:
        members = np.repeat(np.arange(len(lengths)), lengths)
        self.pure = shuffle.pure
        if shuffle.in_order:
            fractions = np.concatenate([np.arange(length) / max(length, 1) for length in lengths])
            self._orders: Orders = FixedOrder(members[np.argsort(fractions, kind='stable')])
        else:
            self._orders = permutations(members, shuffle, Purpose.CHOICE, path)
        self.length = len(members)

    def empty(self, members: Sequence[bool | None]) -> bool | None:
        """Say whether there is no batch, as `Mixture.empty` does."""
        return False if False in members else None if None in members else True

    def __getitem__(self, number: int) -> tuple[int, int]:
        return int(self._members[number]), int(self._ordinals[number])

    def check_end(self, member: int, number: int) -> None:
        """Raise an error: a member has no more for batch `number`, though its length says that it has."""
        raise ValueError(
            f'member {member} of a stratified choice ended before batch {number}: '
            'it has fewer samples than its num_samples() says'
        )

    @cached_property
    def _members(self) -> IndexArray:
        return np.asarray(self._orders[0])

    @cached_property
    def _ordinals(self) -> IndexArray:
        return ordinals_of(self._members)


Chooser = Mixture | Spread
