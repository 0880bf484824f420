"""Plans that start again whenever they have ended, round after round."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable

from .._ground.indices import IndexTree
from .._ground.randomness import Path
from ..errors import EndOfPlanError
from .ordered import OrderPlan
from .orders import passed
from .plan import Plan

# Stands in a path before the number of a round. No member has this number.
ROUND = 2**32 - 1


def round_path(path: Path, number: int) -> Path:
    """Return the path for the keyed draws of round `number` of a member that starts again."""
    return (*path, ROUND, number) if number else path


def repeat_plan(first: Plan, make_round: Callable[[int], Plan]) -> Plan:
    """Return a plan that starts again whenever a member's plan has ended.

    A plan over orders goes on with its next repetition, as with `repeats=-1`: batches are filled
    across the end. For other plans, each round is a plan of its own.
    """
    if first.length == math.inf:
        return first
    return first.endless() if isinstance(first, OrderPlan) else RepeatedPlan(first, make_round)


class RepeatedPlan(Plan):
    """Rounds of a plan, one after the other, without end.

    To jump to a batch, the batches of all rounds before are counted, once. With a sequential
    generator, each round is made when it is first needed.

    Parameters
    ----------
    first : Plan
        The plan of the first round, round 0.
    make_round : callable
        `make_round(number)` makes the plan of a round.
    """

    def __init__(self, first: Plan, make_round: Callable[[int], Plan]) -> None:
        self._make_round = make_round
        self._description = f'repeated {first.describe()}'
        self._plan = first
        # The first batch of every round, as far as they are known.
        self._starts = [0]
        self._round = 0
        # Without batches in round 0, there are none at all.
        self.length = 0 if first.length == 0 else math.inf
        self._empty = first.empty
        self.pure = first.pure
        self.shuffle = first.shuffle

    @property
    def empty(self) -> bool | None:
        """Whether a round has no batch, so that the plan cannot start again; `None` if that depends on the draws."""
        return self._empty

    def describe(self) -> str:
        return self._description

    def _indices(self, number: int, limit: int) -> tuple[IndexTree, int]:
        if number < self._starts[self._round] and not self.pure:
            raise passed(f'batch {number}')
        self._open(bisect_right(self._starts, number) - 1)
        while True:
            try:
                return self._plan.indices(number - self._starts[self._round], limit)
            except EndOfPlanError:
                self._start_again(number)

    def _start_again(self, number: int) -> None:
        """Go to the next round, since this one has no batch `number`."""
        if self._round + 1 == len(self._starts):
            start = self._starts[-1]
            length = self._count_batches(number - start)
            if not length:
                raise ValueError(f'a data source without batches cannot start again: {self._description}')
            self._starts.append(start + length)
        self._open(self._round + 1)

    def _count_batches(self, gone_through: int) -> int:
        """Count the batches of a round that has ended."""
        plan = self._plan
        if plan.exact and plan.length is not None:
            return int(plan.length)
        return sum(1 for _ in plan) if plan.pure else gone_through

    def _open(self, number: int) -> None:
        if number != self._round:
            self._plan, self._round = self._make_round(number), number
