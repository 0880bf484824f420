"""Feeds over the streams of members that have no plan: put together, mapped, or started again."""

from __future__ import annotations

import abc
import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from .._ground.arguments import is_integer
from .._ground.batch import Batch
from .._ground.ownership import owned
from .._plans.choosers import Chooser
from .._plans.joint import any_empty, smallest
from .._plans.plan import Request
from ..errors import EndOfPlanError, StateMismatchError
from .makings import with_reading
from .stream import STATE_VERSION, Feed, Stream

# A function of the number of a batch, and the batch.
BatchFunction = Callable[[int, Batch], Batch]


class RepeatedFeed(Feed):
    """Goes through a new stream in every round, without end.

    Parameters
    ----------
    first : Stream
        The stream of the first round, round 0.
    open_round : callable
        `open_round(number)` opens the stream of a round, when its first batch is needed.
    """

    length = math.inf
    exact = True

    def __init__(self, first: Stream, open_round: Callable[[int], Stream]) -> None:
        self._stream = first
        self._open_round = open_round
        self._round = 0
        # The round of a state that was checked, and its stream.
        self._checked = (0, first)
        self._facts = first.feed.facts()
        self._empty = first.feed.empty
        self.sequential = first.feed.sequential

    @property
    def empty(self) -> bool | None:
        """Whether a round has no batch; `None` if a round may have none. Then it cannot start again."""
        return self._empty

    def batches(self, position: int) -> Iterator[Batch]:
        while True:
            batch = next(self._stream, None)
            if batch is None:
                self._start_again()
            else:
                yield batch

    def skip(self, position: int, count: int) -> int:
        skipped = self._stream.skip(count)
        while count and not skipped:
            self._start_again()
            skipped = self._stream.skip(count)
        return skipped

    def _start_again(self) -> None:
        if not self._stream.position:
            raise ValueError(f'a data source without batches cannot start again: {self._facts["plan"]}')
        self._go_to(self._round + 1, self._open_round(self._round + 1))

    def _go_to(self, number: int, stream: Stream) -> None:
        if stream is not self._stream:
            self._stream.close()
        self._round, self._stream = number, stream

    def facts(self) -> dict[str, Any]:
        return {**self._facts, 'plan': f'repeated {self._facts["plan"]}'}

    def state(self, position: int, back: int) -> dict[str, Any]:
        state = self._stream.state_at(self._stream.position - back)
        own = self._round_facts()
        return {'round': self._round, 'in_round': {key: value for key, value in state.items() if own.get(key) != value}}

    def _round_facts(self) -> dict[str, Any]:
        """Return facts that the states of most rounds share; states leave these out, to be short."""
        return {'version': STATE_VERSION, **self._facts}

    def check(self, here: int, position: int, state: Mapping[str, Any]) -> None:
        if self.sequential:
            super().check(here, position, state)
        number: Any = state.get('round')
        if not is_integer(number) or number < 0 or not isinstance(state.get('in_round'), Mapping):
            raise StateMismatchError('the state has no round of a data source that starts again')
        if not self.sequential:
            stream = self._stream if number == self._round else self._open_round(number)
            stream.check_state({**self._round_facts(), **state['in_round']})
            self._checked = number, stream

    def restore(self, here: int, position: int, state: Mapping[str, Any]) -> None:
        if self.sequential:
            # Its rounds draw from a generator that others may draw from as well.
            self.announce(here, position)
            super().restore(here, position, state)
            return
        number, stream = self._checked
        self._go_to(number, stream)
        stream.restore_state({**self._round_facts(), **state['in_round']})

    def announce(self, here: int, position: int) -> None:
        self._stream.feed.announce(here, position)

    def describe_batch(self, position: int) -> str:
        return f'{super().describe_batch(position)}, in round {self._round}'

    def interrupt(self) -> None:
        self._stream.feed.interrupt()

    def close(self) -> None:
        self._stream.close()


class MemberFeed(Feed):
    """Batches that are made of the batches of several members.

    Subclasses say which members give a part of a batch, and how the parts become the batch.
    """

    def __init__(self, members: Sequence[Stream], facts: Mapping[str, Any]) -> None:
        self._members = members
        self._facts = facts
        self.exact = all(member.feed.exact for member in members)
        self.sequential = any(member.feed.sequential for member in members)
        # The parts of the batch that is being made. They are kept if there is an error, for the next
        # try. `None` stands for a part that was skipped.
        self._parts: list[Any] = []

    @abc.abstractmethod
    def _givers(self, number: int) -> Sequence[int]:
        """Return the members that give the parts of batch `number`; none if there is no such batch."""

    def _check_end(self, member: int, number: int) -> None:
        """Called when a member has ended in place of batch `number`: raise an error if it may not."""

    @abc.abstractmethod
    def _make(self, number: int, parts: list[Batch]) -> Batch:
        """Make batch `number` of its parts, and empty the list once it is made."""

    @property
    def empty(self) -> bool | None:
        return any_empty([member.feed.empty for member in self._members])

    def batches(self, position: int) -> Iterator[Batch]:
        parts = self._parts
        for number in itertools.count(position):
            givers = self._givers(number)
            for giver in givers[len(parts) :]:
                part = next(self._members[giver], None)
                if part is None:
                    self._check_end(giver, number)
                    return
                parts.append(part)
                del part
            if not givers:
                return
            if None in parts:
                raise RuntimeError('this batch was skipped in part, before an error; skip(1) goes over the rest of it')
            yield self._make(number, parts)

    def skip(self, position: int, count: int) -> int:
        return int(count > 0 and self._skip_one(position, self._members))

    def _skip_one(self, number: int, members: Sequence[Stream]) -> bool:
        """Skip the parts of batch `number` in their members; return whether there was such a batch."""
        givers = self._givers(number)
        for giver in givers[len(self._parts) :]:
            if not members[giver].skip(1):
                self._check_end(giver, number)
                return False
            self._parts.append(None)
        self._parts.clear()
        return bool(givers)

    def facts(self) -> dict[str, Any]:
        return {'plan': type(self).__name__, 'members': len(self._members), **self._facts}

    def state(self, position: int, back: int) -> dict[str, Any]:
        own = self._member_facts()
        steps = self._steps_back(position, position + back)
        states = [member.state_at(member.position - steps[k]) for k, member in enumerate(self._members)]
        return {'states': [{key: value for key, value in state.items() if own.get(key) != value} for state in states]}

    def _member_facts(self) -> dict[str, Any]:
        """Return facts that the states of most members share; states leave these out, to be short."""
        return {'version': STATE_VERSION, 'drop_last': False, **self._facts}

    def _steps_back(self, position: int, here: int) -> Counter[int]:
        """Count, for each member, the batches that it has given since `position`; the feed now stands at `here`."""
        steps = Counter(giver for number in range(position, here) for giver in self._givers(number))
        if self._parts:
            steps.update(self._givers(here)[: len(self._parts)])
        return steps

    def check(self, here: int, position: int, state: Mapping[str, Any]) -> None:
        if self.sequential:
            super().check(here, position, state)
        states = state.get('states')
        if not isinstance(states, list) or len(states) != len(self._members):
            raise StateMismatchError(f'the state has no list of {len(self._members)} states of members')
        for number, (member, member_state) in enumerate(zip(self._members, states)):
            if not isinstance(member_state, Mapping):
                raise StateMismatchError(f'the state of member {number} must be a dict, got {member_state!r}')
            member.check_state({**self._member_facts(), **member_state})

    def restore(self, here: int, position: int, state: Mapping[str, Any]) -> None:
        self._parts.clear()
        if self.sequential:
            self._walk(here, position)
        for member, member_state in zip(self._members, state['states']):
            member.restore_state({**self._member_facts(), **member_state})

    def _walk(self, here: int, position: int) -> None:
        """Skip batches from `here` to `position` in sequential members, which draw in the order of the batches."""
        # The other members load their states: they stay where they are.
        self.announce(here, position)
        walking = [member if member.feed.sequential else _Standing() for member in self._members]
        for number in range(here, position):
            self._skip_one(number, walking)  # type: ignore[arg-type]

    def announce(self, here: int, position: int) -> None:
        for member in self._members:
            if member.feed.sequential:
                member.feed.announce(here, position)

    def stages(self, making: float) -> dict[str, float]:
        found = {}
        for number, member in enumerate(self._members):
            statistics = member.statistics()
            found[f'member {number}'] = statistics.waiting_seconds
            functions = {name: seconds for name, seconds in statistics.stages.items() if name != 'read'}
            found.update({f'member {number}: {name}': seconds for name, seconds in functions.items()})
        return with_reading(making, found)

    def interrupt(self) -> None:
        for member in self._members:
            member.feed.interrupt()

    def close(self) -> None:
        for member in self._members:
            member.close()


class _Standing:
    """Stands for a member that is not skipped, since it loads its state."""

    def skip(self, n: int) -> int:
        return n


class CompositeFeed(MemberFeed):
    """A batch of every member, side by side, until the first member ends."""

    def __init__(self, members: Sequence[Stream], join: Callable[[Batch], Batch], facts: Mapping[str, Any]) -> None:
        super().__init__(members, facts)
        self._join = join
        self._all = range(len(members))
        self.length = smallest([member.length for member in members])
        certain = [member.length for member in members if member.feed.exact and member.length is not None]
        self._end = min(certain, default=math.inf)

    def _givers(self, number: int) -> Sequence[int]:
        return self._all if number < self._end else ()

    def _make(self, number: int, parts: list[Batch]) -> Batch:
        batch = self._join(tuple(parts))
        parts.clear()
        return batch


class ChoiceFeed(MemberFeed):
    """Each batch from one member."""

    def __init__(self, members: Sequence[Stream], chooser: Chooser, facts: Mapping[str, Any]) -> None:
        super().__init__(members, {**facts, 'choice': chooser.name})
        self._chooser = chooser
        self.length = chooser.length
        self.sequential = self.sequential or not chooser.pure
        self._end = self.length if self.length is not None and (self.exact or chooser.counted) else math.inf

    @property
    def empty(self) -> bool | None:
        return self._chooser.empty([member.feed.empty for member in self._members])

    def _givers(self, number: int) -> Sequence[int]:
        try:
            return self._chooser[number][:1] if number < self._end else ()
        except EndOfPlanError:
            return ()

    def _check_end(self, member: int, number: int) -> None:
        self._chooser.check_end(member, number)

    def _make(self, number: int, parts: list[Batch]) -> Batch:
        return parts.pop()


class MappedFeed(MemberFeed):
    """The batches of a stream, with a function applied to each; it has a name."""

    def __init__(self, member: Stream, fn: BatchFunction, facts: Mapping[str, Any], name: str) -> None:
        super().__init__([member], facts)
        self._fn = fn
        self._name = name
        self.length = member.length

    def _givers(self, number: int) -> Sequence[int]:
        return (0,)

    def _make(self, number: int, parts: list[Batch]) -> Batch:
        box = [self._fn(number, parts[0])]
        parts.clear()  # the function may have returned an array of these: now nothing else refers to it
        batch: Batch = owned(box)
        return batch

    def request_of(self, number: int) -> Request | None:
        return self._members[0].feed.request_of(number)

    def stages(self, making: float) -> dict[str, float]:
        statistics, name = self._members[0].statistics(), f'map({self._name})'
        below = dict(statistics.stages)
        below[name] = below.get(name, 0.0) + max(0.0, making - statistics.waiting_seconds)
        return with_reading(making, below)
