"""The feed of a plan: batches that are fetched as the plan requests them."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

from .._ground.arguments import is_integer
from .._ground.batch import Batch
from .._ground.indices import digest
from .._ground.messages import state_mismatch
from .._plans.plan import WINDOW_BATCHES, Plan, Request
from .._plans.shards import Shard
from ..errors import EndOfPlanError, ReplayError, StateMismatchError
from .stream import Feed
from .turns import ProcessLock

# A description longer than this is shortened in states, which must stay small.
DESCRIPTION_CHARACTERS = 1000

Fetch = Callable[[Request], Iterable[Batch]]


class PlannedFeed(Feed):
    """A plan, and a function that fetches what it requests.

    Parameters
    ----------
    plan : Plan
        Says which samples are in which batch.
    fetch : callable
        Gives the batches of a request, in order.
    facts : dict
        What must be equal for a state to fit, besides the plan.
    shard : Shard
        The part of every batch to fetch.
    """

    steady = True

    def __init__(
        self, plan: Plan, fetch: Fetch, facts: Mapping[str, Any], shard: Shard, *, quick: bool = False
    ) -> None:
        self.plan = plan
        self.exact = plan.exact
        self.sequential = not plan.pure
        self._fetch = fetch
        self._facts = facts
        self.shard = shard
        self.quick = quick
        # The latest windows: a sequential generator cannot make them again. Two, as the one with
        # the last batch that the user has is needed while the next one is at work.
        self._windows: deque[Request] = deque(maxlen=2)
        self._lock = ProcessLock()
        self._drawing = False

    @property
    def length(self) -> int | float | None:  # type: ignore[override]
        """That of the plan, which may have to count."""
        return self.plan.length

    @property
    def empty(self) -> bool | None:
        return self.plan.empty

    def prepare(self) -> None:
        """Draw the indices of the first batch."""
        self._request(0)

    def batches(self, position: int) -> Iterator[Batch]:
        # All C between a window and the user: most of the time of a small batch is Python's.
        return chain.from_iterable(map(self._fetch, self._requests(position)))

    def _requests(self, position: int) -> Iterator[Request]:
        """Go through the windows from `position` on."""
        while True:
            try:
                request = self._request(position)
            except EndOfPlanError:
                return
            yield self.shard.part_of(request)
            position = request.end

    def _request(self, position: int, limit: int = WINDOW_BATCHES) -> Request:
        """Return the window of batches from `position` on: of up to `limit`, if it is a new one."""
        window = self._window(position)
        if window is None:
            with self._lock:
                self._drawing = True
                try:
                    window = self.plan.window(position, limit)
                finally:
                    self._drawing = False
                self._windows.append(window)
            return window
        return window.since(position)

    def _window(self, number: int) -> Request | None:
        """Return the window at hand that covers batch `number`, if there is one."""
        for window in reversed(tuple(self._windows)):  # they are in order
            if window.number <= number:
                return window if number < window.end else None
        return None

    def whole_batch(self, number: int) -> Request:
        """Return the request for a batch as it is before ranks share it.

        Of a sequential generator, only the latest batch, or the next one, may be asked for.
        """
        return self._request(number).batch(number)

    def request_of(self, number: int) -> Request:
        return self.shard.part_of(self.whole_batch(number))

    def skip(self, position: int, count: int) -> int:
        if self.sequential or not self.exact or self.length is None:
            return self._draw_over(position, count)
        return int(min(count, self.length - position))

    def _draw_over(self, position: int, count: int) -> int:
        """Draw the indices of the batches that are skipped, as far as there are any."""
        number = position
        while number < position + count:
            try:
                request = self._request(number)
            except EndOfPlanError:
                return number - position
            number = request.end
        return count

    def facts(self) -> dict[str, Any]:
        return {'plan': shorten(self.plan.describe(), DESCRIPTION_CHARACTERS), **self._facts}

    def state(self, position: int, back: int) -> dict[str, Any]:
        """Add the digest of the indices of a batch: the last one, or the next one at the start.

        The last one is at hand. Of a sequential generator, nothing else may be asked for.
        """
        number = max(position - 1, 0)
        at_hand = self._window(number) is not None
        if self.length == 0 or (self.sequential and (position == 0 or not at_hand)):
            return {}
        if not at_hand and self._drawing:
            return {}  # a signal handler may have come between: it must not wait
        try:
            indices = self.whole_batch(number).indices
        except EndOfPlanError:  # there are no batches at all, which a user's sampler need not tell
            return {}
        return {'digest_of': number, 'digest': digest(indices)}

    def check(self, here: int, position: int, state: Mapping[str, Any]) -> None:
        number, found = state.get('digest_of'), state.get('digest')
        if number is not None and not (
            is_integer(number) and isinstance(found, str) and number in (position, position - 1)
        ):
            raise StateMismatchError(
                f'the state is damaged: at position {position}, it has the digest {found!r} of batch {number!r}'
            )
        if self.sequential:
            super().check(here, position, state)
        else:
            self._check_digest(position, state)

    def restore(self, here: int, position: int, state: Mapping[str, Any]) -> None:
        if self.sequential:
            super().restore(here, position, state)
            self._check_digest(position, state)

    def _check_digest(self, position: int, state: Mapping[str, Any]) -> None:
        """Raise `StateMismatchError` unless the plan gives the indices that the state has seen."""
        number = state.get('digest_of')
        if number is None:
            return
        try:
            indices = self.whole_batch(number).indices
        except (EndOfPlanError, ReplayError) as error:
            raise StateMismatchError(f'the state is at position {position}, but {error}') from error
        if digest(indices) != state.get('digest'):
            raise state_mismatch({'indices': state.get('digest')}, {'indices': digest(indices)})

    def describe_batch(self, position: int) -> str:
        window = self._window(position)
        if window is None:
            return super().describe_batch(position)
        indices = self.shard.part_of(window.batch(position)).indices
        return f'in batch {position} of epoch {window.epoch}, with indices {indices!r}'


def shorten(description: str, limit: int) -> str:
    """Keep a description within a limit: a longer one ends with its hash instead."""
    if len(description) <= limit:
        return description
    return f'{description[: limit - 17]} {hashlib.blake2b(description.encode(), digest_size=8).hexdigest()}'
