"""Sources whose batches workers make, ahead of the user and in order."""

from __future__ import annotations

import math
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import chain
from typing import Any, NamedTuple, NoReturn

from .._ground.arguments import BatchSize, check_integer, check_keywords
from .._ground.batch import Batch
from .._ground.randomness import Path
from .._plans.options import KEYWORDS, Asked, Options
from .._plans.plan import Plan, Request
from .._sources.base import AbstractDataSource
from .._sources.reading import planned_feed
from .._streams.planned import PlannedFeed
from .._streams.stream import Stream
from ..errors import EndOfPlanError
from .channel import Backend, Channel
from .failures import Failure
from .jobs import Fetch, Result, count_of, take_batches

# How many groups of small batches are under way for each worker: one that it makes, one that it
# makes next. Larger: more memory, which leaves the processor's caches.
TURNS = 2


# How many bytes of small batches may wait, if they are copies of memory. Larger: they leave the
# processor's caches. Smaller: less work for workers at a time, which takes them less than to get it.
COPIED_BYTES = 2**23


class ParallelDataSource(AbstractDataSource):
    """The batches of a source, made by the workers of a pool.

    They are the same, in the same order, as those of the source itself, and so are the states
    of its streams. Made by `pool.parallel_data_source(ds)`.
    """

    def __init__(self, ds: AbstractDataSource, pool: Backend, batch_buffer_size: int = 20) -> None:
        if not isinstance(ds, AbstractDataSource):
            raise TypeError(
                f'ds must be a data source, got {type(ds).__name__}; coerce_data_source makes one from arrays'
            )
        if not ds.is_random_access:
            raise TypeError(
                f'ds must be random access: workers read batches by their indices, which {type(ds).__name__} cannot'
            )
        self._buffer_size = check_integer('batch_buffer_size', batch_buffer_size)
        if self._buffer_size < 1:
            raise ValueError(f'batch_buffer_size must be at least 1, got {batch_buffer_size}')
        self.source = ds
        self.pool = pool
        self._constant = pool._share(ds)
        # Channels of streams that have ended, with the memory that they have. For batches of
        # another size, others are made.
        self._idle: dict[BatchSize, list[Channel[Any]]] = {}

    def num_samples(self, **kwargs: Any) -> int | float | None:
        """Return the number of samples of the source."""
        check_keywords(f'{type(self).__name__}.num_samples', kwargs, KEYWORDS[1:])
        return self.source.num_samples(**kwargs)

    def batch_iterator(
        self,
        batch_size: BatchSize,
        shuffle: Any = None,
        *,
        epoch: int = 0,
        drop_last: bool = False,
        shard: tuple[int, int] | str | None = None,
        uneven: str = 'share',
        **unknown: NoReturn,
    ) -> Stream:
        """Return a stream over the batches of an epoch, and have the workers begin with them.

        Parameters are those of `RandomAccessDataSource.batch_iterator`. A `RandomState` or a
        `Generator` is drawn from at once, and ahead of the batches.
        """
        check_keywords(f'{type(self).__name__}.batch_iterator', unknown, KEYWORDS)
        options = Options.check(batch_size, shuffle, epoch, drop_last, shard, uneven)
        return self._open_plan(self.source._make_plan, options, ())

    def _random_functions(self) -> int:
        return self.source._random_functions()

    def _open(self, asked: Asked, path: Path) -> Stream:
        return self._open_plan(self.source._make_plan, asked.options(f'{type(self).__name__}.batch_iterator'), path)

    def _follows_plan(self) -> bool:
        return True

    def _open_endless(self, asked: Asked, path: Path) -> Stream:
        options = asked.options(f'{type(self).__name__}.batch_iterator')
        return self._open_plan(self.source._make_endless_plan, options, path)

    def _open_plan(self, make_plan: Callable[[Options, Path], Plan], options: Options, path: Path) -> Stream:
        """Open a stream over a plan, and have the workers begin with its batches."""
        self.pool._check_open()
        if self.source._copied_bytes(options.batch_size) < self.pool._least_bytes():
            return Stream(self._feed_of_caller(make_plan(options, path), options, path))
        idle = self._idle.setdefault(options.batch_size, [])
        try:
            channel = idle.pop()
        except IndexError:
            channel = self.pool._open_channel(self._buffer_size)
        channel.abandoned = False
        feed = PooledFeed(make_plan(options, path), options, self, channel, path)
        weakref.finalize(feed, _release, channel, feed.tickets, idle).atexit = False
        return Stream(feed)

    def _feed_of_caller(self, plan: Plan, options: Options, path: Path) -> PlannedFeed:
        """Return a feed whose batches no worker makes."""
        self.pool._warn()
        feed = planned_feed(self.source, plan, options, path)
        if feed.sequential:
            with suppress(Exception):  # which arrives at the first batch
                feed.prepare()
        return feed


class _Ticket(NamedTuple):
    """A job that was handed over; one that could not be has nothing pending."""

    job: Fetch
    pending: Any


def _release(channel: Channel[Any], tickets: deque[_Ticket], idle: list[Channel[Any]]) -> None:
    """See to it that nothing is done for a stream that has gone, and that its channel serves another one."""
    _withdraw(channel, tickets)
    idle.append(channel)


def _withdraw(channel: Channel[Any], tickets: deque[_Ticket]) -> None:
    """Take back all jobs that no worker was given."""
    while tickets:
        ticket = tickets.popleft()
        if ticket.pending is not None:
            channel.withdraw(ticket.pending)


class PooledFeed(PlannedFeed):
    """A plan, whose requests go to the workers of a pool ahead of the user.

    Parameters
    ----------
    plan : Plan
        Says which samples are in which batch.
    options : Options
        What the user asked for.
    parallel : ParallelDataSource
        The source and the pool.
    channel : Channel
        The way to the workers.
    path : tuple of int
        The place of the source in the tree.

    Attributes
    ----------
    tickets : deque
        What was handed over, in order.
    """

    def __init__(
        self, plan: Plan, options: Options, parallel: ParallelDataSource, channel: Channel[Any], path: Path
    ) -> None:
        super().__init__(plan, lambda request: iter(()), options.facts(), options.shard)
        self._windows = deque()
        self._pool = parallel.pool
        self._constant = parallel._constant
        self._channel = channel
        self._path = path
        # Copies of memory cost little memory, as long as they are small, and nobody sees when they are made.
        copied = math.inf if self.sequential else parallel.source._copied_bytes(options.batch_size)
        self._buffer_size = parallel._buffer_size
        self._grouped_size = max(parallel._buffer_size, int(COPIED_BYTES / max(1, copied)))
        self.tickets: deque[_Ticket] = deque()
        self._error: Exception | None = None
        self._under_way = 0
        self._group_size = 1

    def batches(self, position: int) -> Iterator[Batch]:
        self._pool._check_process()
        self.close()
        if self.sequential:
            self._forget_before(position)
        else:
            self._windows.clear()
        # The feed does not refer to iterators that refer to it: an abandoned one is freed at once.
        groups = self._groups(position)
        self._fill(groups)
        return chain.from_iterable(self._deliver(position, groups))

    def interrupt(self) -> None:
        self._channel.abandoned = True

    def close(self) -> None:
        _withdraw(self._channel, self.tickets)
        self._under_way = 0

    def _deliver(self, position: int, groups: Iterator[tuple[Request, ...]]) -> Iterator[Iterator[Batch]]:
        """Give groups of batches as they arrive, in order, and hand over others for them."""
        while self.tickets:
            ticket = self.tickets.popleft()
            result = self._receive(ticket)
            self._under_way -= 1
            self._fill(groups)
            position += count_of(result.value)
            batches, failure = take_batches(result.value), result.failure
            del result  # nothing here holds on to batches that the user has let go of
            yield map(self._own, batches)
            del batches
            # Those after the first were waiting until now.
            self._under_way -= ticket.job.n_batches - 1
            self._fill(groups)
            if failure is not None:
                # Nothing more is done until the user asks for this batch again.
                self.close()
                failure.throw()
            self._forget_before(position)

    def _own(self, batch: Batch) -> Batch:
        """Return a batch, unless this process was forked when the others of its group were at hand."""
        self._pool._check_process()
        return batch

    def _receive(self, ticket: _Ticket) -> Result:
        self._pool._check_process()
        if ticket.pending is None:
            assert self._error is not None
            return Result([], Failure(self._error))
        # The first batches never wait for a worker to start.
        if self._channel.starting and self._channel.withdraw(ticket.pending):
            result = ticket.job.run_here()
        else:
            try:
                result = self._channel.receive(ticket.pending)
            finally:
                self._pool._warn()
        count = count_of(result.value)
        if count:
            # Waiting for each other, workers seem slower than they are: the shortest time counts.
            slowed = 1.01 * (self._channel.batch_seconds or math.inf)
            self._channel.batch_seconds = min(result.seconds / count, slowed)
        return result

    def _fill(self, groups: Iterator[tuple[Request, ...]]) -> None:
        """Hand over jobs, of a whole group each, until as many batches are under way as may wait."""
        most = self._plan_groups()
        while self._under_way + self._group_size <= min(most, self._group_size * self._channel.most_jobs()):
            try:
                job = Fetch(self._constant, next(groups), self._path)
                self.tickets.append(_Ticket(job, self._channel.submit(job)))
            except StopIteration:
                return
            except Exception as error:  # of a user's sampler, or a closed pool: it arrives at its batch
                # Kept here, and not in a ticket: it refers to what waits for the tickets to be released.
                self._error = error
                self.tickets.append(_Ticket(Fetch(self._constant, ()), None))
                return
            self._under_way += job.n_batches

    def _plan_groups(self) -> int:
        """Decide how many batches the next jobs fetch; return how many may be under way."""
        self._group_size = size = self._best_group_size()
        # Few where they take no time, to stay in the caches.
        return self._buffer_size if size == 1 else min(self._grouped_size, TURNS * self._pool.processes * size)

    def _groups(self, position: int) -> Iterator[tuple[Request, ...]]:
        """Go through the requests from `position` on, those for one job at a time."""
        while True:
            requests: list[Request] = []
            left = self._group_size
            try:
                while left > 0:
                    request = self._request(position, left).up_to(left)
                    requests.append(self.shard.part_of(request))
                    position, left = request.end, left - request.n_batches
            except EndOfPlanError:
                if requests:
                    yield tuple(requests)
                return
            except Exception:
                if not requests:
                    raise
            yield tuple(requests)

    def _best_group_size(self) -> int:
        if self._channel.batch_seconds is None:
            return 1
        by_time = self._pool._task_seconds / max(self._channel.batch_seconds, 1e-9)
        by_turns = self._grouped_size // (TURNS * self._pool.processes)
        most = max(1, int(min(by_time, by_turns, self._channel.most_batches())))
        # A power of two: as the measured times vary, groups still fit into the memory of earlier ones.
        return 1 << (most.bit_length() - 1)

    def _forget_before(self, position: int) -> None:
        """Let go of windows that end before the last batch that the user has received."""
        while self._windows and self._windows[0].end < position - 1:
            self._windows.popleft()
