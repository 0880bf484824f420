"""The feed of a stream over a plan: the plan, and a mapper that carries its requests to batches."""

from __future__ import annotations

import abc
import hashlib
import weakref
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import chain
from operator import attrgetter
from typing import Any, Protocol

from .._ground.arguments import is_integer
from .._ground.batch import Batch, Destination
from .._ground.indices import digest
from .._ground.messages import state_mismatch
from .._plans.ahead import Ahead
from .._plans.plan import WINDOW_BATCHES, Plan, Request
from .._plans.shards import Shard
from ..errors import EndOfPlanError, ReplayError, StateMismatchError
from .failed import FailedBatch
from .makings import Makings
from .stream import Feed
from .turns import ProcessLock

# So many windows are at hand at most, of those that are ahead of the user. Larger: more memory, if windows are
# of single batches, as those of a choice. Smaller: less is known of the batches to come.
MOST_WINDOWS = 2**12

# How long to wait for workers that make batches ahead, before batches are made again to take the time, in seconds.
REST_SECONDS = 0.3

# A description longer than this is shortened in states, which must stay small.
DESCRIPTION_CHARACTERS = 1000


class Requests(Protocol):
    """What gives a mapper its requests: a feed, or a part of one."""

    def requests(self, position: int) -> Iterator[Request]:
        """Go through the windows from `position` on; each is asked for when the user has all batches before it."""

    def request(self, position: int, limit: int = WINDOW_BATCHES) -> Request:
        """Return the request for the batches from `position` on, up to `limit`, as far as one window goes."""

    def forget_before(self, position: int) -> None:
        """Forget the windows that end before the user's last batch; the user has come to `position`."""


class Mapper(abc.ABC):
    """Carries the requests of a feed to batches, in order.

    Attributes
    ----------
    quick : bool
        Whether batches are just copies of memory, which are made in little time.
    makings : Makings
        How batches were made.
    """

    quick: bool = False
    makings: Makings

    @abc.abstractmethod
    def batches(self, feed: Requests, position: int) -> Iterator[Batch]:
        """Go through the batches from `position` on; batches that were begun before are dropped."""

    @abc.abstractmethod
    def remake(self, request: Request) -> Iterable[Batch]:
        """Make the batches of a request in the thread that goes through them, and note nothing."""

    def rest(self, seconds: float) -> None:  # noqa: B027 - the caller is never busy elsewhere
        """Wait until workers have nothing to do, for so many seconds at most."""

    def interrupt(self) -> None:  # noqa: B027 - the caller never waits
        """Make a thread that waits for a batch stop soon, with the error `StreamClosed`."""

    def close(self) -> None:  # noqa: B027 - the caller begins nothing ahead
        """Drop the batches that were begun."""


class InlineMapper(Mapper):
    """Makes every batch in the caller's thread, when it is asked for.

    Parameters
    ----------
    fetch : callable
        `fetch(request, to=destination)` gives the batches of a request, in order.
    quick : bool
        As for every `Mapper`.
    timed : bool
        Whether to note how long the stages take.
    stored : bool
        As for `Makings`.
    """

    def __init__(self, fetch: Callable[..., Iterable[Batch]], quick: bool, timed: bool, stored: bool) -> None:
        self._fetch = fetch
        self.quick = quick
        self.makings = Makings(stored=stored)
        self._to = Destination(stages=self.makings.stages if timed else None)

    def batches(self, feed: Requests, position: int) -> Iterator[Batch]:
        # Only C runs between a window and the user: Python would take most of the time of a small batch.
        return chain.from_iterable(map(partial(self._fetch, to=self._to), feed.requests(position)))

    def remake(self, request: Request) -> Iterable[Batch]:
        return self._fetch(request)


class PlannedFeed(Feed):
    """A plan, and the mapper that carries its requests to batches.

    Parameters
    ----------
    plan : Plan
        Says which samples are in which batch.
    mapper : Mapper
        Makes the batches. It does not refer to the feed: what refers to each other is freed late.
    facts : dict
        What must be equal for a state to fit, besides the plan.
    shard : Shard
        The part of every batch to fetch.
    at_once : int
        How many batches are best read at once. From a sequential generator, which cannot be asked for batches
        ahead, so many are asked for at a time: those that it has drawn come.
    """

    steady = True

    def __init__(self, plan: Plan, mapper: Mapper, facts: Mapping[str, Any], shard: Shard, at_once: int = 1) -> None:
        self.plan = plan
        self.mapper = mapper
        self.shard = shard
        self.exact = plan.exact
        self.sequential = not plan.pure
        self.quick = mapper.quick
        self.makings = mapper.makings
        self._facts = facts
        self._at_once = at_once
        # The latest windows: a sequential generator cannot make them again.
        self._windows: deque[Request] = deque()
        # The number of the batch after the last one of these.
        self._end = 0
        self._lock = ProcessLock()
        self._drawing = False
        self._ahead: Ahead | None = None
        # How often batches were begun with.
        self._passes = 0

    @property
    def length(self) -> int | float | None:  # type: ignore[override]
        """The length of the plan, which may have to count."""
        return self.plan.length

    @property
    def length_at_hand(self) -> int | float | None:
        return self.plan.length_at_hand

    @property
    def empty(self) -> bool | None:
        return self.plan.empty

    def prepare(self) -> None:
        """Draw the indices of the first batch."""
        self._window(0)

    def batches(self, position: int) -> Iterator[Batch]:
        self.forget_before(position)
        self._passes += 1
        self._ahead = Ahead(position, partial(_window_ahead, weakref.ref(self), self._passes))
        return self.mapper.batches(self, position)

    def interrupt(self) -> None:
        self.mapper.interrupt()

    def close(self) -> None:
        self.mapper.close()
        self._ahead = None

    def requests(self, position: int) -> Iterator[Request]:
        """Go through the windows from `position` on; each is asked for when the user has all batches before it."""
        while True:
            self.forget_before(position)
            try:
                request = self.request(position)
            except EndOfPlanError:
                return
            yield request
            position = request.end

    def request(self, position: int, limit: int = WINDOW_BATCHES) -> Request:
        """Return the request for the batches from `position` on, up to `limit`, as far as one window goes."""
        try:
            window = self._window(position, limit).up_to(limit)
        except EndOfPlanError:
            # Requests under way have it: with them, the memory goes that sources read ahead into.
            self._ahead = None
            raise
        return self.shard.part_of(window)._replace(ahead=self._ahead)

    def window_ahead(self, number: int, passes: int) -> Request | None:
        """Return the window from batch `number` on, ahead of the user.

        `None` if a sequential generator would have to draw it, if it was forgotten, or if as many are
        at hand as may be.
        """
        if self._passes != passes:
            return None  # the stream has gone elsewhere
        window = self._at_hand(number)
        if window is None and not self.sequential and number >= self._end and len(self._windows) < MOST_WINDOWS:
            window = self._window(number)
        return None if window is None else self.shard.part_of(window.since(number))

    def forget_before(self, position: int) -> None:
        """Forget the windows that end before the user's last batch; the user has come to `position`."""
        windows = self._windows
        while windows and windows[0].end < position - 1:
            windows.popleft()

    def remakes(self, position: int, most: int) -> Sequence[Callable[[], None]]:
        self.mapper.rest(REST_SECONDS)
        made = []
        for number in range(position - 1, max(-1, position - 1 - most), -1):
            window = self._at_hand(number)
            if window is None:
                break
            made.append(partial(_make_again, self.mapper, self.shard.part_of(window.batch(number))))
        return made

    def _window(self, position: int, limit: int = WINDOW_BATCHES) -> Request:
        """Return the window from `position` on: the rest of one at hand, or a new one of up to `limit` batches."""
        window = self._at_hand(position)
        if window is not None:
            return window.since(position)
        with self._lock:
            window = self._at_hand(position)
            if window is not None:  # another thread was faster
                return window.since(position)
            self._drawing = True
            try:
                window = self.plan.window(position, max(limit, self._at_once) if self.sequential else limit)
            finally:
                self._drawing = False
            if position < self._end:
                # The stream has gone back, which it cannot do with a sequential generator.
                self._windows = deque()
            self._windows.append(window)
            self._end = window.end
        return window

    def _at_hand(self, number: int) -> Request | None:
        """Return the window at hand that covers batch `number`, if there is one."""
        if number >= self._end:
            return None
        windows = tuple(self._windows)  # in order
        k = bisect_right(windows, number, key=attrgetter('number')) - 1
        return windows[k] if k >= 0 and number < windows[k].end else None

    def whole_batch(self, number: int) -> Request:
        """Return the request for a batch as it is before ranks share it.

        With a sequential generator, only the latest batch, or the next one, may be asked for.
        """
        return self._window(number).batch(number)

    def request_of(self, number: int) -> Request:
        return self.shard.part_of(self.whole_batch(number))

    def skip(self, position: int, count: int) -> int:
        if not self.sequential and self.exact and self.length is not None:
            return int(min(count, self.length - position))
        # Indices have to be drawn, a window at a time.
        self.forget_before(position)
        try:
            return min(count, self._window(position).n_batches)
        except EndOfPlanError:
            return 0

    def facts(self) -> dict[str, Any]:
        return {'plan': described(self.plan), **self._facts}

    def state(self, position: int, back: int) -> dict[str, Any]:
        """Return the digest of the indices of the last batch; at the start, of the next one.

        The last batch is at hand; with a sequential generator, no other may be asked for.
        """
        number = max(position - 1, 0)
        at_hand = self._at_hand(number) is not None
        if self.length == 0 or (self.sequential and (position == 0 or not at_hand)):
            return {}
        if not at_hand and self._drawing:
            return {}  # this may be a signal handler, which must not wait for the lock
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
        """Raise `StateMismatchError` unless the plan gives the same indices as when the state was saved."""
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
        request = self._request_at_hand(position)
        return (
            f'in batch {position} of epoch {self.plan.shuffle.epoch}' if request is None else f'in {request.describe()}'
        )

    def failed(self, position: int) -> FailedBatch:
        return FailedBatch.of(self.plan, self.facts(), self.shard, position, self._request_at_hand(position))

    def _request_at_hand(self, number: int) -> Request | None:
        """Return the request for a batch, if its indices are at hand."""
        window = self._at_hand(number)
        return None if window is None else self.shard.part_of(window.batch(number))


def _window_ahead(feed: weakref.ref[PlannedFeed], passes: int, number: int) -> Request | None:
    """Return a window of a feed, for a source that reads ahead and must not keep the feed; `None` if there is none."""
    here = feed()
    with suppress(Exception):  # at the end, or in a user's sampler, where it comes again
        return None if here is None else here.window_ahead(number, passes)
    return None


def described(plan: Plan) -> str:
    """Return the description of a plan as states have it."""
    return shorten(plan.describe(), DESCRIPTION_CHARACTERS)


def _make_again(mapper: Mapper, request: Request) -> None:
    """Make the batches of a request, and drop them."""
    for _ in mapper.remake(request):
        pass


def shorten(description: str, limit: int) -> str:
    """Keep a description within a limit: a longer one ends with its hash instead."""
    if len(description) <= limit:
        return description
    return f'{description[: limit - 17]} {hashlib.blake2b(description.encode(), digest_size=8).hexdigest()}'
