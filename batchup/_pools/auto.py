"""A pool that measures the user's loop, and takes the workers that are best for it, or none."""

from __future__ import annotations

import math
import multiprocessing
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from itertools import chain
from typing import Any

from .._ground.arguments import BatchSize
from .._ground.batch import Batch, Destination
from .._ground.messages import warn_user
from .._ground.randomness import Path
from .._plans.options import Options
from .._plans.plan import WINDOW_BATCHES, Plan, Request
from .._sources.base import AbstractDataSource
from .._sources.reading import read_batches
from .._streams.makings import Makings, Watch, here
from .._streams.planned import InlineMapper, Mapper, PlannedFeed, Requests
from .._streams.turns import ProcessLock
from ..errors import EndOfPlanError, WorkerPoolError
from .calibration import INLINE, PROCESSES, THREADS, Calibration, Way, cores
from .channel import Channel
from .jobs import SharedConstant
from .parallel import ParallelDataSource
from .pool import WorkerPool
from .processes.handles import MISSING_GUARD
from .processes.pool import WorkerProcessPool
from .threads import WorkerThreadPool
from .watchdog import WARN_SECONDS

# The number of workers on a machine with many processor cores, by default. Larger: more memory. Smaller: batches
# that take long to make come more slowly.
MOST_WORKERS = 16


class WorkerAutoPool(WorkerPool):
    """A pool that finds out which workers are best for a loop: threads, processes, or none.

    It tries them while the user's loop runs: the first batches are made by the caller, the next ones
    by threads, if these can make the loop faster, and then by processes, if threads were not as fast as
    workers can be. What is measured is the loop as a whole, with what it does with the batches. Then all
    batches are made in the best way, in later epochs, too. For another `batch_size`, or by another call
    of `parallel_data_source`, it is tried again.

    Batches are the same, whoever makes them. Worker processes are started when they are first tried.
    If a source cannot be sent to them, they are left out.

    Parameters
    ----------
    processes : int, optional
        The number of threads, or of processes; by default, that of the processor cores which this
        process may use, but 16 at most.
    start_method : 'fork', 'forkserver' or 'spawn', optional
        How processes are started, as for `WorkerProcessPool`.
    timeout : float, optional
        How long a result may take, in seconds, once the user waits for it. What the caller makes has no limit.
    warn_after : float, optional
        After how long a wait for a batch a warning says what the workers do, in seconds; `None`: never.

    >>> import numpy as np
    >>> from batchup.data_source import ArrayDataSource
    >>> with WorkerAutoPool() as pool:
    ...     parallel = pool.parallel_data_source(ArrayDataSource([np.arange(5)]))
    ...     for (x,) in parallel.batch_iterator(2, shuffle=42):
    ...         print(x)
    [3 0]
    [2 4]
    [1]
    """

    # Of its work streams.
    _kind = THREADS

    def __init__(
        self,
        processes: int | None = None,
        *,
        start_method: str | None = None,
        timeout: float | None = None,
        warn_after: float | None = WARN_SECONDS,
    ) -> None:
        if getattr(multiprocessing.current_process(), '_inheriting', False):
            # A worker that imports a script without a guard: it ends before it runs more of the script.
            os._exit(MISSING_GUARD)
        known = multiprocessing.get_all_start_methods()
        if start_method is not None and start_method not in known:
            raise ValueError(f'start_method must be one of {", ".join(known)}, got {start_method!r}')
        super().__init__(min(cores(), MOST_WORKERS) if processes is None else processes, timeout, warn_after)
        self._start_method = start_method
        self._threads = WorkerThreadPool(self.processes, timeout=timeout, warn_after=warn_after)
        self._lock = ProcessLock()
        # Of which the second are processes, if they were needed.
        self._pools: list[WorkerPool] = [self._threads]
        self._close_with(partial(_close_all, self._pools))

    def parallel_data_source(self, ds: AbstractDataSource, batch_buffer_size: int = 20) -> AutoDataSource:
        """Return a source with the batches of `ds`, made in the way that is found to be best.

        Parameters are those of `WorkerPool.parallel_data_source`.
        """
        self._check_open()
        return AutoDataSource(ds, self, batch_buffer_size)

    def _share(self, value: Any) -> SharedConstant:
        return self._threads._share(value)

    def _open_channel(self, slots: int) -> Channel:
        return self._threads._open_channel(slots)

    def _least_bytes(self) -> int:
        return self._threads._least_bytes()

    def _open_processes(self) -> WorkerProcessPool:
        """Return the worker processes, and start them if they were not."""
        with self._lock:
            self._check_open()
            if len(self._pools) == 1:
                self._pools.append(
                    WorkerProcessPool(
                        self.processes,
                        start_method=self._start_method,
                        timeout=self.timeout,
                        warn_after=self.warn_after,
                    )
                )
        pool = self._pools[1]
        assert isinstance(pool, WorkerProcessPool)
        return pool


def _close_all(pools: list[WorkerPool]) -> None:
    for pool in pools:
        pool.close()


class AutoDataSource(ParallelDataSource):
    """The batches of a source, made in the way that is best for the loop that takes them.

    Made by `WorkerAutoPool.parallel_data_source(ds)`.
    """

    pool: WorkerAutoPool

    def __init__(self, ds: AbstractDataSource, pool: WorkerAutoPool, batch_buffer_size: int = 20) -> None:
        super().__init__(ds, pool, batch_buffer_size)
        self._lock = ProcessLock()
        self._parallel: dict[Way, ParallelDataSource] = {
            THREADS: ParallelDataSource(ds, pool._threads, batch_buffer_size)
        }
        self._calibrations: dict[BatchSize, Calibration] = {}
        # Why processes are not used.
        self._left_out = ''

    @property
    def decided(self) -> dict[BatchSize, str]:
        """The way found to be best for each batch size, 'inline' (no workers), 'threads' or 'processes'.

        A batch size for which that is not known yet is missing.
        """
        return {size: found.decided for size, found in self._calibrations.items() if found.decided is not None}

    @property
    def left_out(self) -> str:
        """Why processes cannot be used; an empty text if they can, or were not needed."""
        return self._left_out

    def _feed_of_workers(self, plan: Plan, options: Options, path: Path) -> PlannedFeed:
        calibration = self._calibration(options.batch_size)
        if calibration.decided == INLINE:
            return self._feed_of_caller(plan, options, path)
        if calibration.decided is not None:
            return self._parallel[calibration.decided]._feed_of_workers(plan, options, path)
        mappers: dict[Way, Callable[[], Mapper]] = {
            way: partial(self._mapper_of, way, plan, options, path) for way in calibration.ways
        }
        mapper = AutoMapper(calibration, mappers, self._processes_ready, self.pool.processes)
        mapper.makings.stored = self.source._is_stored()
        at_once = self.source._batches_at_once(options.batch_size)
        return PlannedFeed(plan, mapper, options.facts(), options.shard, at_once)

    def _calibration(self, batch_size: BatchSize) -> Calibration:
        # Copies of memory are made by threads at least as fast as by processes.
        copies = self.source._copied_bytes(batch_size) < math.inf
        ways: list[Way] = [INLINE, THREADS] if copies else [INLINE, THREADS, PROCESSES]
        return self._calibrations.setdefault(batch_size, Calibration(ways, min(self.pool.processes, self._buffer_size)))

    def _mapper_of(self, way: Way, plan: Plan, options: Options, path: Path) -> Mapper:
        """Return a mapper that makes batches in one way."""
        if way == INLINE:
            return _NotedInlineMapper(partial(read_batches, self.source, path=path))
        return self._parallel[way]._mapper(plan, options, path)

    def _processes_ready(self) -> bool | None:
        """Have worker processes start; say whether they are there. `None` if they cannot be used."""
        if self._left_out:
            return None
        self.pool._check_open()
        try:
            with self._lock:
                pool = self.pool._open_processes()
                if PROCESSES not in self._parallel:
                    self._parallel[PROCESSES] = ParallelDataSource(self.source, pool, self._buffer_size)
        except WorkerPoolError as error:
            self._leave_out(error, warn=True)
            return None
        except Exception as error:  # it does not pickle, there is no memory, or there are no such pools here
            self._leave_out(error, warn=False)
            return None
        pool._warn()
        supervisor = pool._supervisor
        if not supervisor.starting and supervisor.is_down:
            self._leave_out(supervisor.end_error(), warn=True)
            return None
        return not supervisor.starting

    def _leave_out(self, error: Exception, warn: bool) -> None:
        """Note why processes cannot be used, and warn of it if the program is at fault."""
        self._left_out = str(error)
        if warn:
            warn_user(f'worker processes are not used: {error}')


class AutoMapper(Mapper):
    """Makes batches in one way after the other, each for some batches, and then all in the best way.

    Parameters
    ----------
    calibration : Calibration
        Measures the ways, and says which one comes next.
    mappers : dict of callables
        Make a mapper, for each way.
    processes_ready : callable
        Has worker processes start, and says whether they are there; `None` if they cannot be used.
    workers : int
        The number of threads, or of processes.
    """

    def __init__(
        self,
        calibration: Calibration,
        mappers: dict[Way, Callable[[], Mapper]],
        processes_ready: Callable[[], bool | None],
        workers: int,
    ) -> None:
        self.makings = Makings()
        self._workers = workers
        self._calibration = calibration
        self._mappers = mappers
        self._processes_ready = processes_ready
        self._inner: Mapper | None = None

    def batches(self, feed: Requests, position: int) -> Iterator[Batch]:
        self.close()
        with suppress(Exception):  # which arrives at the batch
            # A generator that the user draws from is drawn from at once, as with all pools.
            feed.request(position, 1)
        return chain.from_iterable(self._stretches(feed, position))

    def remake(self, request: Request) -> Iterable[Batch]:
        return self._mappers[INLINE]().remake(request)

    def interrupt(self) -> None:
        if self._inner is not None:
            self._inner.interrupt()

    def close(self) -> None:
        if self._inner is not None:
            self._inner.close()

    def _stretches(self, feed: Requests, position: int) -> Iterator[Iterator[Batch]]:
        """Give the batches of one trial after the other, and then all others."""
        calibration = self._calibration
        while True:
            way = calibration.next_way()
            if calibration.decided is not None:
                yield self._begin(way, feed, position)
                return
            ready = self._processes_ready() if way == PROCESSES else True
            if ready is None:
                calibration.leave_out(way)
                continue
            stretch = Stretch(feed, position)
            if not ready:
                # While the processes start, no time is lost.
                others = self._begin(calibration.best_so_far(), stretch, position)
                yield _until(others, stretch, lambda: self._processes_ready() is not False)
            elif not calibration.is_warm(way):
                first = self._begin(way, stretch, position)
                yield _until(first, stretch, partial(self._warm_up, way))
            else:
                meter = calibration.meter(way)
                measured = meter.measure(self._begin(way, stretch, position))
                yield _until(measured, stretch, lambda: meter.enough)  # noqa: B023 - it is called in this turn
            if stretch.over:
                return
            position = stretch.position

    def _warm_up(self, way: Way) -> bool:
        """Note a batch that workers have made; return whether they are warm."""
        caller = here()
        makers = [one for one in self.makings.makers if one != caller and (one[0] == caller[0]) == (way == THREADS)]
        self._calibration.warm_up(way, makers)
        return self._calibration.is_warm(way)

    def _begin(self, way: Way, feed: Requests, position: int) -> Iterator[Batch]:
        self._inner = None  # its memory is used again
        inner = self._inner = self._mappers[way]()
        # What was done in all ways is noted in one place; a verdict is on the latest one.
        inner.makings, self.makings.kind = self.makings, None if way == INLINE else way
        self.makings.count = 0 if way == INLINE else self._workers
        return inner.batches(feed, position)


class _NotedInlineMapper(InlineMapper):
    """Makes batches in the caller's thread, and notes how, as is done for workers."""

    def __init__(self, fetch: Callable[..., Iterable[Batch]]) -> None:
        super().__init__(fetch, quick=False, timed=True, stored=False)

    def batches(self, feed: Requests, position: int) -> Iterator[Batch]:
        self._to = Destination(stages=self.makings.stages)
        return self._noted(super().batches(feed, position))

    def _noted(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        while True:
            watch, asked = Watch(), time.monotonic()
            try:
                batch = next(batches)
            except StopIteration:
                return
            self.makings.note(watch.work(), 1, asked)
            yield batch
            del batch  # not kept while the next one is made


class Stretch:
    """The requests of a feed up to a batch that is set later.

    Parameters
    ----------
    feed : Requests
        Gives the requests.
    position : int
        The number of the first batch.

    Attributes
    ----------
    position : int
        The number of the batch after the last one that was asked for.
    over : bool
        Whether all batches that there are have been asked for.
    """

    def __init__(self, feed: Requests, position: int) -> None:
        self._feed = feed
        self._end = math.inf
        self.position = position
        self.over = False

    def stop(self) -> None:
        """Give no more requests: what was asked for so far is all."""
        self._end = self.position

    def requests(self, position: int) -> Iterator[Request]:
        """Go through the windows from `position` on: at first small ones, so that it can end soon."""
        limit = 1
        while True:
            self.forget_before(position)
            try:
                request = self.request(position, limit)
            except EndOfPlanError:
                return
            yield request
            position, limit = request.end, min(2 * limit, WINDOW_BATCHES)

    def request(self, position: int, limit: int = WINDOW_BATCHES) -> Request:
        """Return the request for the batches from `position` on, as the feed does."""
        if position >= self._end:
            raise EndOfPlanError('the stretch has ended')
        try:
            request = self._feed.request(position, limit)
        except EndOfPlanError:
            self.over = True
            raise
        self.position = max(self.position, request.end)
        return request

    def forget_before(self, position: int) -> None:
        """Forget windows, as the feed does."""
        self._feed.forget_before(position)


def _until(batches: Iterator[Batch], stretch: Stretch, is_over: Callable[[], bool]) -> Iterator[Batch]:
    """Go through batches; once it is over, ask for no more, and go through those that are under way."""
    for batch in batches:
        if is_over():
            stretch.stop()
        yield batch
        del batch  # not kept while the next one is made
