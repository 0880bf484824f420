"""The mapper of a pool: requests go to the workers as jobs, and come back as batches, in order."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING

from .._ground.batch import Batch
from .._ground.randomness import Path
from .._plans.plan import Request
from .._sources.reading import read_batches
from .._streams.makings import Makings
from .._streams.planned import Mapper, Requests
from ..errors import EndOfPlanError
from .channel import TURNS, Channel, DoneTask, Task, UnderWay, Use
from .jobs import Fetch, Result, count_of, take_batches
from .memory import NoRoomError, warn_once
from .users_code import runs_users_code
from .watchdog import Watchdog

if TYPE_CHECKING:
    from .parallel import ParallelDataSource
    from .pool import WorkerPool

# How many bytes of small batches may wait, if they are copies of memory. Larger: they leave the
# processor's caches. Smaller: jobs that take workers less time to run than to receive.
COPIED_BYTES = 2**23

# How long a job may take, in seconds, by which threads read ahead in storage. Larger: threads wait longer for rows
# of each other's chunks, and for the last job. Smaller: more work for each batch.
READ_SECONDS = 1e-2

# This part of the batches that there is memory for, for reading ahead, may wait for the user.
WAITING_PART = 16


class Makers:
    """Decides who makes a batch: a worker, ahead of the user, except for these, which the caller makes.

    1. All batches of a stream, if they are small copies of memory: to receive them from workers would take longer.
    2. The first batch, where its size tells how much memory the others need.
    3. Those that the user asks for before there is a worker: nobody waits for workers to start, or to map their memory.
    4. Those that a worker has no room for.

    Users' code runs in workers, also for (2) and (3): one that crashes, hangs, or takes all memory is replaced,
    which the user's process is not.

    Parameters
    ----------
    pool : WorkerPool
        The pool.
    channel : Channel
        The way to its workers.
    users_code : bool
        Whether code of the user's runs when a batch is made.
    """

    def __init__(self, pool: WorkerPool, channel: Channel, users_code: bool) -> None:
        self._pool = pool
        self._channel = channel
        self._users_code = users_code
        self._watchdog = Watchdog(pool.warn_after)

    @staticmethod
    def only_caller(pool: WorkerPool, copied_bytes: float) -> bool:
        """Say whether the caller makes all batches, of so many bytes each (1)."""
        return copied_bytes < pool._least_bytes()

    def submit(self, job: Fetch) -> Task:
        """Hand over a job, or run it (2)."""
        self._pool._check_open()
        if self._channel.measured or self._users_code:
            return self._channel.submit(job)
        result = job.run_here()
        self._channel.measure(job, result)
        return DoneTask(result)

    def result(self, task: Task) -> Result:
        """Wait for what comes of a job, or run it (3, 4)."""
        self._pool._check_process()
        if task.job is not None and self._channel.starting:
            if not self._users_code and task.withdraw():
                return task.job.run_here()
            # What a batch may take is counted from here on.
            task.await_workers()
        try:
            self._watchdog.task = task
            result = task.result(self._pool.timeout, self._watchdog)
        finally:
            self._watchdog.task = None
            self._pool._warn()
        if task.job is not None and result.failure is not None and isinstance(result.failure.error, NoRoomError):
            where = f'in {result.failure.worker}, at {task.job.describe()}'
            warn_once('worker', f'your own process makes batches: {where}, {result.failure.error}')
            return task.job.run_here()
        if isinstance(task.job, Fetch) and not self._channel.measured and count_of(result.value):
            self._channel.measure(task.job, result)
        return result


class WorkersMapper(Mapper):
    """Has workers make batches ahead of the user.

    Parameters
    ----------
    parallel : ParallelDataSource
        The source and the pool.
    idle : list of channels
        Where the way to the workers is taken from, and goes when the stream has ended.
    path : tuple of int
        The path of the source in the tree of sources.
    copied : float
        How many bytes are copied to make a batch; infinite if it takes more than that, or if the user can see
        how far ahead batches are made, by a generator that they draw from.
    at_once : int
        How many batches are best read at once.
    """

    def __init__(
        self,
        parallel: ParallelDataSource,
        idle: list[Channel],
        path: Path,
        copied: float,
        at_once: int,
    ) -> None:
        self._idle = idle
        self._pool = parallel.pool
        self._users_code = runs_users_code(parallel.source)
        self._source = parallel._constant
        self._path = path
        self._most = parallel._buffer_size
        self._take_channel()
        self.makings = Makings(self._pool._kind, self._pool.processes, parallel.source._is_stored())
        at_a_time = TURNS * self._pool.processes
        # Half of the batches that are read at once are under way; as many may wait for the user. Workers that share
        # memory read ahead together: with them, jobs are as large as saves their own cost.
        most = at_once // 2 if self._channel.apart else min(at_once, self._most)
        self._least = self._channel.least_batches = max(1, most // at_a_time)
        self._job_seconds = READ_SECONDS if at_once > 1 else self._pool._task_seconds
        # Small copies take little memory. What is read at once is memory that the user has granted.
        self._most_grouped = max(
            self._most, int(COPIED_BYTES / max(1, copied)), at_a_time * self._least, at_once // WAITING_PART
        )
        self._under_way = UnderWay()
        # The number of the batch after the last one that is under way.
        self._end = 0
        self._group_size = 1

    def __del__(self) -> None:
        # No name of this module: as the interpreter ends, they may have gone before.
        try:  # noqa: SIM105
            self._release_channel()
        except AttributeError:  # an interrupt came while it was made
            pass

    def _take_channel(self) -> None:
        """Take a channel for this stream alone, with the memory of streams before it, if there is one."""
        try:
            self._channel = self._idle.pop()
        except IndexError:
            self._channel = self._pool._open_channel(self._most)
        # Of this stream alone: another one may have the channel when this one is closed.
        self._use = self._channel.use = Use()
        self._makers = Makers(self._pool, self._channel, self._users_code)
        self._has_channel = True

    def _release_channel(self) -> None:
        """Let another stream have the channel, and its memory, though somebody may still refer to this one."""
        if self._has_channel:
            self._has_channel = False
            self._idle.append(self._channel)

    def batches(self, feed: Requests, position: int) -> Iterator[Batch]:
        self._pool._check_process()
        self.close()
        if not self._has_channel:
            self._take_channel()
            self._channel.least_batches = self._least
        self._channel.begin()
        self._end = position
        # The mapper does not refer to iterators that refer to it: an abandoned one is freed at once.
        groups = self._groups(feed, position)
        self._fill(groups, position)
        return chain.from_iterable(self._deliver(feed, position, groups))

    def remake(self, request: Request) -> Iterable[Batch]:
        return read_batches(self._source.value, request, self._path)

    def rest(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end and any(task.is_done() is False for task in tuple(self._under_way)):
            time.sleep(seconds / 50)

    def interrupt(self) -> None:
        self._use.over = True

    def close(self) -> None:
        self._under_way.withdraw()

    def _deliver(
        self, feed: Requests, position: int, groups: Iterator[tuple[Request, ...]]
    ) -> Iterator[Iterator[Batch]]:
        """Give groups of batches as they arrive, in order, and hand over new jobs in their place."""
        while self._under_way:
            asked = time.monotonic()
            self.makings.note_buffer(task.is_done() for task in self._under_way)
            result = self._makers.result(self._under_way.popleft())
            self._note_time(result)
            self.makings.note(result.work, count_of(result.value), asked)
            # The user has asked for one batch of the group; the others still count as waiting.
            self._fill(groups, position + 1)
            position += count_of(result.value)
            batches, failure = take_batches(result.value), result.failure
            del result  # nothing here holds on to batches that the user has let go of
            yield map(self._own, batches)
            del batches
            if failure is not None:
                # Nothing more is done until the user asks for this batch again.
                self.close()
                try:
                    failure.throw()
                finally:
                    # An error and a frame that refer to each other are freed late.
                    del failure
            feed.forget_before(position)
            self._fill(groups, position)
        self._release_channel()

    def _own(self, batch: Batch) -> Batch:
        """Return a batch; raise an error if this process was forked while the batch waited with others of its group."""
        self._pool._check_process()
        return batch

    def _note_time(self, result: Result) -> None:
        count = count_of(result.value)
        if count:
            # Waiting for each other, workers seem slower than they are: the shortest time counts.
            slowed = 1.01 * (self._channel.batch_seconds or math.inf)
            self._channel.batch_seconds = min(result.seconds / count, slowed)

    def _fill(self, groups: Iterator[tuple[Request, ...]], position: int) -> None:
        """Hand over jobs, one for each group, until as many batches are under way as are allowed.

        The batches from `position` on are under way.
        """
        most = self._plan_groups()
        while self._end + self._group_size - position <= min(most, self._group_size * self._channel.most_jobs()):
            try:
                group = next(groups)
                self._under_way.append(self._makers.submit(Fetch(self._source, group, self._path)))
            except StopIteration:
                return
            except Exception as error:  # of a user's sampler, or a closed pool: it arrives at its batch
                self._under_way.append(DoneTask.failed(error))
                return
            self._end = group[-1].end

    def _plan_groups(self) -> int:
        """Decide how many batches the next jobs fetch; return how many may be under way."""
        self._group_size = size = self._best_group_size()
        # Few of those that take no time, so that they stay in the caches.
        return self._most if size == 1 else min(self._most_grouped, TURNS * self._pool.processes * size)

    def _best_group_size(self) -> int:
        if self._channel.batch_seconds is None:
            return 1
        by_time = self._job_seconds / max(self._channel.batch_seconds, 1e-9)
        by_turns = self._most_grouped // (TURNS * self._pool.processes)
        most = max(1, int(min(by_time, by_turns, self._channel.most_batches())))
        # A power of two: as the measured times vary, groups still fit into the memory of earlier ones.
        return max(1 << (most.bit_length() - 1), self._channel.least_batches)

    def _groups(self, feed: Requests, position: int) -> Iterator[tuple[Request, ...]]:
        """Go through the requests from `position` on, those for one job at a time."""
        while True:
            group: list[Request] = []
            left = self._group_size
            try:
                while left > 0:
                    request = feed.request(position, left)
                    group.append(request)
                    position, left = request.end, left - request.n_batches
            except EndOfPlanError:
                if not group:
                    return
            except Exception:  # it comes again with the next group
                if not group:
                    raise
            yield tuple(group)
