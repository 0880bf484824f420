"""Sources whose batches workers make, ahead of the user and in order."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Iterator
from typing import Any

from .._sources.base import AbstractDataSource
from ..arguments import check_integer
from ..batch import Batch
from ..errors import EndOfPlanError
from ..options import Options
from ..plan import Plan, Request, shard_of
from ..stream import PlannedFeed, Stream
from .channel import Backend, Channel
from .failures import Failure
from .jobs import Fetch, Result, SharedConstant


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
        self._idle: dict[int, list[Channel[Any]]] = {}

    def num_samples(self, **kwargs: Any) -> int | float | None:
        """Return the number of samples of the source."""
        return self.source.num_samples(**kwargs)

    def batch_iterator(
        self,
        batch_size: int,
        shuffle: Any = None,
        *,
        epoch: int = 0,
        drop_last: bool = False,
        shard: tuple[int, int] | None = None,
    ) -> Stream:
        """Return a stream over the batches of an epoch, and have the workers begin with them.

        Parameters are those of `RandomAccessDataSource.batch_iterator`. A `RandomState` or a
        `Generator` is drawn from at once, and ahead of the batches.
        """
        options = Options.check(batch_size, shuffle, epoch, drop_last, shard)
        self.pool._check_open()
        idle = self._idle.setdefault(options.batch_size, [])
        channel = idle.pop() if idle else self.pool._open_channel(self._buffer_size)
        feed = PooledFeed(self.source._make_plan(options, ()), options, self, channel)
        weakref.finalize(feed, idle.append, channel).atexit = False
        return Stream(feed)


class _Ticket:
    """A job that was handed over, or the error that came up when its indices were drawn."""

    def __init__(self, job: Fetch, pending: Any, error: Exception | None = None) -> None:
        self.job = job
        self.pending = pending
        self.error = error
        self.n_batches = job.n_batches


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
    """

    def __init__(self, plan: Plan, options: Options, parallel: ParallelDataSource, channel: Channel[Any]) -> None:
        super().__init__(plan, lambda request: iter(()), options.facts(), options.shard)
        self._windows = deque()
        self._pool = parallel.pool
        self._constant = parallel._constant
        self._channel = channel
        self._buffer_size = parallel._buffer_size
        self._tickets: deque[_Ticket] = deque()
        self._jobs: Iterator[tuple[Request, ...]] = iter(())
        self._batch_seconds: float | None = None

    def batches(self, position: int) -> Iterator[Batch]:
        self._withdraw_all()
        self._forget_before(position)
        self._jobs = self._groups(position)
        self._fill()
        return self._deliver(position)

    def close(self) -> None:
        self._withdraw_all()
        self._jobs = iter(())

    def _deliver(self, position: int) -> Iterator[Batch]:
        """Give batches as they arrive, in order, and hand over others for them."""
        while self._tickets:
            result = self._receive(self._tickets.popleft())
            self._fill()
            batches, failure = result.value[::-1], result.failure
            del result
            position += len(batches)
            while batches:
                # Nothing here holds on to a batch that the user has let go of.
                yield batches.pop()
            if failure is not None:
                failure.throw()
            self._forget_before(position)

    def _receive(self, ticket: _Ticket) -> Result:
        if ticket.error is not None:
            return Result([], Failure(ticket.error))
        self._pool._warn()
        # A batch that no worker has begun with comes soonest if the caller does it.
        if self._channel.withdraw(ticket.pending):
            result = ticket.job.run()
        else:
            result = self._channel.receive(ticket.pending)
        self._pool._warn()
        if result.value:
            self._batch_seconds = result.seconds / len(result.value)
        return result

    def _fill(self) -> None:
        """Hand over jobs until as many batches are under way as may wait."""
        while sum(ticket.n_batches for ticket in self._tickets) < self._buffer_size:
            try:
                job = Fetch(self._constant, next(self._jobs))
            except StopIteration:
                return
            except Exception as error:  # of a user's sampler: it arrives at the batch that it belongs to
                self._jobs = iter(())
                self._tickets.append(_Ticket(Fetch(self._constant, ()), None, error))
                return
            self._tickets.append(_Ticket(job, self._channel.submit(job)))

    def _groups(self, position: int) -> Iterator[tuple[Request, ...]]:
        """Go through the requests from `position` on, those for one job at a time."""
        while True:
            requests: list[Request] = []
            left = self._group_size()
            try:
                while left > 0:
                    request = self._request(position, left)
                    requests.append(shard_of(request, *self._shard))
                    position, left = request.end, left - request.n_batches
            except EndOfPlanError:
                if requests:
                    yield tuple(requests)
                return
            except Exception:
                if not requests:
                    raise
            yield tuple(requests)

    def _group_size(self) -> int:
        """Return how many batches the next job should fetch."""
        if self._batch_seconds is None:
            return 1
        by_time = self._pool._task_seconds / max(self._batch_seconds, 1e-9)
        by_turns = self._buffer_size // (2 * self._pool.processes)
        return max(1, int(min(by_time, by_turns, self._channel.most_batches())))

    def _withdraw_all(self) -> None:
        while self._tickets:
            ticket = self._tickets.popleft()
            if ticket.error is None:
                self._channel.withdraw(ticket.pending)

    def _forget_before(self, position: int) -> None:
        """Let go of windows that end before the last batch that the user has received."""
        while self._windows and self._windows[0].end < position - 1:
            self._windows.popleft()
