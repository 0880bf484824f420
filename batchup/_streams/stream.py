"""Streams: the iterators that users hold, and the only part that has a position.

A stream is a cursor over a *feed*. The feed of a random-access source is a plan with a mapper,
in `planned`; feeds without a plan are in `iterators` and `members`. How several threads share
a stream is in `turns`.
"""

from __future__ import annotations

import abc
import enum
import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from types import TracebackType
from typing import Any, NoReturn, TypeVar

from .._ground.arguments import check_non_negative, is_integer
from .._ground.batch import Batch
from .._ground.messages import check_facts, warn_user
from .._ground.words import order, place
from .._plans.plan import Request, known_length
from ..errors import StateMismatchError
from .failed import FailedBatch, mark
from .makings import Makings
from .probe import find_facts
from .statistics import StreamStatistics, gather
from .turns import (
    Count,
    ProcessLock,
    StreamClosed,
    Turns,
    are_over,
    are_taken,
    await_turn,
    describe,
    is_from_turns,
    is_refused,
    runs_here,
    stop_turns,
    take_quick_turns,
    take_turns,
    try_to_stop,
)
from .verdict import Verdict, judge

STATE_VERSION = 1

Result = TypeVar('Result')


class Phase(enum.Enum):
    """Where a stream stands in its life."""

    FRESH = 'at the first batch'
    RUNNING = 'past the first batch'
    CLOSED = 'the stream gives no more batches'


class Feed(abc.ABC):
    """Where the batches of a stream come from.

    Attributes
    ----------
    length : int, math.inf or None
        The number of batches; infinite for an endless feed, `None` if it is not known.
    exact : bool
        Whether `length` is certain, and not just what a user's code says of itself.
    sequential : bool
        Whether batches draw from a generator that other feeds may draw from as well.
    quick : bool
        Whether batches are just copies of memory, which are made in little time.
    steady : bool
        Whether `state` may be called at any time, also while a batch is made.
    makings : Makings
        How workers have made the batches; empty without workers.
    """

    length: int | float | None = None
    exact: bool = False
    sequential: bool = False
    quick: bool = False
    steady: bool = False
    makings: Makings = Makings()
    # What to do when all batches have been given.
    again: str = 'go through source.loader(...), where each pass is the next epoch, or call batch_iterator(...) again'

    @property
    def length_at_hand(self) -> int | float | None:
        """The length, unless batches have to be drawn or counted to know it; `None` then."""
        return self.length

    @property
    def empty(self) -> bool | None:
        """Whether there is no batch; `None` if that depends on what is drawn."""
        return self.length == 0

    @abc.abstractmethod
    def batches(self, position: int) -> Iterator[Batch]:
        """Go through the batches from `position` on, which is where the feed stands."""

    @abc.abstractmethod
    def skip(self, position: int, count: int) -> int:
        """Skip up to `count` batches from `position` on.

        Returns
        -------
        int
            How many were skipped: at least 1, unless none are left.
        """

    @abc.abstractmethod
    def facts(self) -> dict[str, Any]:
        """Return what must be equal for a state to fit."""

    def state(self, position: int, back: int) -> dict[str, Any]:
        """Return what else a state at `position` needs; the feed stands `back` batches after it."""
        return {}

    def check(self, here: int, position: int, state: Mapping[str, Any]) -> None:
        """Raise `StateMismatchError` if the state does not fit, as far as can be seen before anything moves."""
        if position < here:
            raise StateMismatchError(f'this stream is at position {here} and cannot go back to {position}')

    def restore(self, here: int, position: int, state: Mapping[str, Any]) -> None:
        """Go from position `here` to the `position` of a saved state that was checked."""
        while here < position:
            skipped = self.skip(here, position - here)
            if not skipped:
                raise StateMismatchError(f'the state is at position {position}, but the stream ends before it')
            here += skipped

    def announce(self, here: int, position: int) -> None:  # noqa: B027 - most feeds read nothing
        """Warn if data has to be read again to go from `here` to `position`."""

    def describe_batch(self, position: int) -> str:
        """Name the batch that is made at `position`, for a note on an error."""
        return f'in batch {position}'

    def failed(self, position: int) -> FailedBatch:
        """Return what is known of the batch that has failed at `position`; nothing is drawn for that."""
        return FailedBatch(position)

    def request_of(self, number: int) -> Request | None:
        """Return the request of batch `number`, the latest one; `None` without a plan."""
        return None

    def stages(self, making: float) -> dict[str, float]:
        """Return how many of the seconds of making batches each stage took."""
        return self.makings.stage_seconds(making)

    def remakes(self, position: int, most: int) -> Sequence[Callable[[], None]]:
        """Return functions that make some of the latest batches before a position again; none without a plan."""
        return ()

    def interrupt(self) -> None:  # noqa: B027 - most feeds never wait
        """Make a thread that waits for a batch stop soon, with the error `StreamClosed`."""

    def close(self) -> None:  # noqa: B027 - most feeds hold nothing
        """Let go of what the feed holds."""


class Stream(Iterator[Batch]):
    """An iterator over batches that knows its position, and can go on from a saved one.

    `len(stream)` is the number of batches in all, where it is finite and known. A `with`
    block closes the stream at its end. Any thread may call any method: each batch goes to one
    caller, and others wait for their turn.

    >>> from batchup.data_source import ArrayDataSource
    >>> import numpy as np
    >>> stream = ArrayDataSource([np.arange(7)]).batch_iterator(3)
    >>> len(stream), stream.skip(1), next(stream)
    (3, 1, (array([3, 4, 5]),))
    """

    __slots__ = ('__weakref__', '_count', '_lock', '_made_by', '_skipped', '_turns', 'feed')

    def __init__(self, feed: Feed) -> None:
        self.feed = feed
        self._count = Count()
        self._skipped = 0
        self._made_by = threading.get_ident()
        # Held by a thread that moves the stream other than by `next`, or starts new turns.
        self._lock = ProcessLock()
        self._turns = self._from(feed.batches(0))

    def _from(self, batches: Iterator[Batch]) -> Turns:
        take = take_quick_turns if self.feed.quick else take_turns
        return take(self._count, batches, partial(mark, self.feed))

    def __repr__(self) -> str:
        closed = ', closed' if self._count.closed else ''
        return f'<Stream: {place(self._count.position, self.feed.length_at_hand)}{order(self.feed.facts())}{closed}>'

    def __iter__(self) -> Stream:
        # Threads that share a stream may come when it has ended: only the one that made it is warned.
        if (self._count.ended or self._count.closed) and threading.get_ident() == self._made_by:
            warn_user(
                f'this stream {"is closed" if self._count.closed else "has ended"}: it gives no more; {self.feed.again}'
            )
        return self

    def __next__(self) -> Batch:
        while True:
            position = self._count.position
            try:
                return next(self._turns)
            except StopIteration:
                if self._count.ended or self._count.closed:
                    raise
            except BaseException as error:
                if not is_refused(error):
                    self._failed(error, position)
                    raise
            self._give_way()

    def _give_way(self) -> None:
        """Let another thread finish that makes a batch or moves the stream, or start new turns if it has failed."""
        turns = self._turns
        if are_taken(turns):
            await_turn(turns)
            return
        with self._lock:
            self._start_again()
        self._let_go_if_closed()

    def _failed(self, error: BaseException, position: int) -> None:
        """Go back to the batch that the user did not get because of an error: the next call makes it again."""
        with self._lock:
            if not is_from_turns(error) and self._count.position == position + 1 and try_to_stop(self._turns):
                # An interrupt came after the batch was counted, and before the user had it.
                self._count.position = position
            self._start_again()
        self._let_go_if_closed()
        if isinstance(error, StreamClosed) and self._count.closed:
            raise StopIteration from None

    def _start_again(self) -> None:
        """Start new turns at the position, if the old ones are over."""
        if are_over(self._turns):
            # `feed.batches` is called when the next batch is asked for: it has workers begin at once.
            self._turns = self._from(chain.from_iterable(map(self.feed.batches, (self._count.position,))))
            if self._count.closed:
                try_to_stop(self._turns)

    def __len__(self) -> int:
        return known_length(self.length)

    @property
    def length(self) -> int | float | None:
        """The number of batches in all; `math.inf` if endless, `None` if unknown."""
        return self.feed.length

    @property
    def empty(self) -> bool | None:
        """Whether there is no batch, under any shuffle of this kind; `None` if it depends on what is drawn."""
        return self.feed.empty

    @property
    def position(self) -> int:
        """The number of batches that the user has received or skipped."""
        return self._count.position

    @property
    def ended(self) -> bool:
        """Whether all batches have been given, and the end was seen."""
        return self._count.ended

    @property
    def phase(self) -> Phase:
        """Where the stream stands in its life."""
        if self._count.closed:
            return Phase.CLOSED
        return Phase.RUNNING if self._count.position else Phase.FRESH

    def skip(self, n: int) -> int:
        """Go over the next `n` batches without reading their data, where possible.

        Returns
        -------
        int
            The number of batches skipped: fewer than `n` at the end of the stream.
        """
        return self._alone(partial(self._skip, check_non_negative('n', n)))

    def _skip(self, count: int) -> int:
        start = self._count.position
        end = start + count
        try:
            while self._count.position < end:
                skipped = self.feed.skip(self._count.position, end - self._count.position)
                if not skipped:
                    break
                self._count_skipped(skipped)
        except Exception as error:
            describe(error, partial(mark, self.feed), self._count.position)
            raise
        self._turns = self._from(self.feed.batches(self._count.position))
        return self._count.position - start

    def _alone(self, work: Callable[[], Result]) -> Result:
        """Call a function while no other thread makes a batch, or moves the stream."""
        try:
            with self._lock:
                self._check_open()
                stop_turns(self._turns)
                try:
                    return work()
                finally:
                    self._start_again()
        finally:
            self._let_go_if_closed()

    def _count_skipped(self, count: int) -> None:
        self._skipped += count
        self._count.position += count
        self._count.ended = False

    def state_dict(self) -> dict[str, Any]:
        """Return the position and what is needed to check it, as a small dict for JSON.

        Without a plan, this waits for a thread that makes a batch. The code that makes the
        batch, or a signal handler meanwhile, may call it too, and gets the state before that batch.
        """
        if self.feed.steady or self._count.closed or runs_here(self._turns):
            return self.state_at(self._count.position)
        return self._alone(lambda: self.state_at(self._count.position))

    def state_at(self, position: int) -> dict[str, Any]:
        """Return the state of the stream at `position`, which may be a batch or so before where it stands."""
        facts = {'version': STATE_VERSION, **self.feed.facts()}
        return {**facts, 'position': position, **self.feed.state(position, self._count.position - position)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go to the position of a saved state.

        Streams by a seed, or in order, do so at once. Where a `RandomState` or a `Generator`
        is used, it must be in the state that it had when the saved stream was made; indices
        are drawn again, data is not read.

        Raises
        ------
        StateMismatchError
            If the state does not fit this stream; the message shows both.
        """
        self._alone(partial(self._load, state))

    def _load(self, state: Mapping[str, Any]) -> None:
        self.check_state(state)
        self.restore_state(state)

    def restore_state(self, state: Mapping[str, Any]) -> None:
        """Go to the position of a state that was checked."""
        stop_turns(self._turns)
        position = self._count.position
        try:
            self.feed.restore(position, state['position'], state)
        except BaseException:
            # Some members may have moved, and others not: batches from here would be wrong.
            self.close()
            raise
        self._count_skipped(state['position'] - position)
        self._turns = self._from(self.feed.batches(state['position']))

    def check_state(self, state: Mapping[str, Any]) -> None:
        """Raise an error if a state does not fit this stream; move nothing."""
        if not isinstance(state, Mapping):
            raise TypeError(f'state must be a dict made by state_dict(), got {type(state).__name__}')
        check_facts(state, {'version': STATE_VERSION, **self.feed.facts()})
        position: Any = state.get('position')
        longest = self.length if self.feed.exact and self.length is not None else math.inf
        if not is_integer(position) or not 0 <= position <= longest:
            raise StateMismatchError(f'the state is at position {position!r} in a stream of {self.length} batches')
        self.feed.check(self._count.position, position, state)

    def statistics(self) -> StreamStatistics:
        """Return what the stream has done so far, and how long that took."""
        batches = self._count.position - self._skipped
        return gather(self.phase, batches, self._count, self.feed, self._made_by)

    def verdict(self) -> Verdict:
        """Say what the loop over this stream waits for, and which workers are best for it.

        Call it in the loop, or after it. Where there is a plan, a few of the latest batches are made again, by one
        thread and by two at the same time, which call mapped functions. That takes about half a second.
        """
        return judge(find_facts(self.statistics(), self._count.clock, self.feed))

    def close(self) -> None:
        """End the stream: it gives no more batches, and lets go of what it holds.

        May be called at any time, also while another thread waits for a batch: that one gets
        none, as at the end of the stream.
        """
        if not self._count.closed:
            self._count.closed = True
            self.feed.interrupt()
            self._let_go_if_closed()

    def _let_go_if_closed(self) -> None:
        """Let go of what a closed stream holds, unless another thread uses the stream: that one does so at its end."""
        if self._count.closed and self._lock.acquire(blocking=False):
            try:
                if try_to_stop(self._turns):
                    self.feed.close()
            finally:
                self._lock.release()

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(
            'a stream cannot be copied or pickled, as it reads on from where it stands: keep its state_dict(), make '
            'another stream with the same arguments of batch_iterator(), and call load_state_dict(state) of that one'
        )

    def _check_open(self) -> None:
        if self._count.closed:
            raise ValueError('the stream is closed; make a new one with batch_iterator()')

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
