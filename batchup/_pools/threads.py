"""Workers that are threads."""

from __future__ import annotations

import os
import sys
import threading
import traceback
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import NoReturn

from .._ground.arguments import check_keywords
from .._ground.messages import warn_user
from ..errors import WorkerPoolError
from .channel import Channel, QueuedTask
from .failures import Failure
from .jobs import Job, Result, SharedConstant
from .names import this_thread
from .pool import WorkerPool
from .waiting import Flag, start_thread, wait_in_slices
from .watchdog import WARN_SECONDS

# How long threads may take to end, in seconds. What runs in a thread cannot be ended.
GRACE_SECONDS = 5.0


# Threads make batches that are plain copies of memory from this size on, the caller smaller ones. Larger:
# threads help less often. Smaller: the caller waits for a batch longer than it takes to make it. A single
# thread is no faster than the caller, so it has a size of its own.
LEAST_BYTES = 2**16
LEAST_BYTES_OF_ONE = 2**20


class _ThreadTask(QueuedTask):
    """A task of a crew of threads.

    Attributes
    ----------
    thread : int, optional
        The thread that has taken it from the queue.
    """

    outcome: Result

    def __init__(self, job: Job, channel: _ThreadChannel) -> None:
        super().__init__(job, channel)
        self.crew = channel.crew
        self.thread: int | None = None

    def _is_over(self, seconds: float) -> bool:
        # Once the pool is closed, no thread begins with a task.
        return self.done.up or (self.crew.closed and self.thread is None) or self.done.wait(seconds)

    def _arrived(self) -> Result:
        return self.outcome if self.done.up else _refusal()

    def _give_up(self) -> str:
        stack = self.crew.stacks().get(self.thread)
        return 'no thread was free to run it' if stack is None else stack

    def stacks(self) -> str:
        return '\n'.join(self.crew.stacks().values())


class WorkerThreadPool(WorkerPool):
    """Workers that are threads of this process.

    They share its memory: nothing is copied, and every source will do. They work at the same
    time as far as the work releases Python's global lock, as large NumPy operations,
    decompression and reading files do.

    Parameters
    ----------
    processes : int
        The number of threads.
    timeout : float, optional
        How long a result may take, in seconds, once the user waits for it. A thread that
        hangs cannot be ended.
    warn_after : float or None
        How long a stream waits for a batch, in seconds, before it warns, once, and says where the
        workers are; `None` for no warning.

    >>> import numpy as np
    >>> from batchup.data_source import ArrayDataSource
    >>> source = ArrayDataSource([np.arange(5)])
    >>> with WorkerThreadPool(2) as pool:
    ...     for (x,) in pool.parallel_data_source(source).batch_iterator(2, shuffle=42):
    ...         print(x)
    [3 0]
    [2 4]
    [1]
    """

    _kind = 'threads'
    # Threads are handed jobs quickly.
    _task_seconds = 8e-4

    def __init__(
        self,
        processes: int = 1,
        *,
        timeout: float | None = None,
        warn_after: float | None = WARN_SECONDS,
        **unknown: NoReturn,
    ) -> None:
        check_keywords(type(self).__name__, unknown, ('processes', 'timeout', 'warn_after'))
        super().__init__(processes, timeout, warn_after)
        crew = self._crew = _Crew(self.processes)
        # Before they start, what ends them is set: an interrupt may come at any time.
        self._close_with(crew.end)
        crew.start()

    def _least_bytes(self) -> int:
        return LEAST_BYTES if self.processes > 1 else LEAST_BYTES_OF_ONE

    def _share(self, value: object) -> SharedConstant:
        return SharedConstant(value)

    def _open_channel(self, slots: int) -> Channel:
        return _ThreadChannel(self._crew)


class _ThreadChannel(Channel):
    apart = False

    def __init__(self, crew: _Crew) -> None:
        self.crew = crew

    def submit(self, job: Job) -> _ThreadTask:
        task = _ThreadTask(job, self)
        self.crew.queue.put(task)
        return task


class _Crew:
    """Threads that run tasks. They do not refer to their pool, so that it may be forgotten."""

    def __init__(self, count: int) -> None:
        self.queue: SimpleQueue[_ThreadTask | None] = SimpleQueue()
        self.closed = False
        self._count = count
        self._pid = os.getpid()
        # Of each thread, whether it has ended.
        self._ends: dict[threading.Thread, Flag] = {}
        # What each thread runs, if it has something to do.
        self._jobs: dict[threading.Thread, Job] = {}

    def start(self) -> None:
        for number in range(self._count):
            ended = Flag()
            thread = start_thread(partial(self._work, ended), f'batchup-worker-{number}')
            self._ends[thread] = ended

    def _work(self, ended: Flag) -> None:
        """Run tasks until the pool ends."""
        while (task := self.queue.get()) is not None:
            task.thread = threading.get_ident()
            if task.claim():
                task.settle(self._run(task.job))
            del task  # not kept while waiting for the next
        ended.raise_()

    def _run(self, job: Job) -> Result:
        """Run a job, and have it known meanwhile."""
        thread = threading.current_thread()
        self._jobs[thread] = job
        try:
            return job.run().by(this_thread)
        finally:
            del self._jobs[thread]

    def stacks(self) -> dict[int | None, str]:
        """Say, for each thread, by its number, what it is doing, and where."""
        # No variable holds the frames: among them is this one, which would refer to itself.
        own = {thread.ident for thread in list(self._ends)}
        found = {k: traceback.format_stack(frame) for k, frame in sys._current_frames().items() if k in own}
        return {thread.ident: self._text(thread, found.get(thread.ident or 0)) for thread in list(self._ends)}

    def _text(self, thread: threading.Thread, stack: list[str] | None) -> str:
        job = self._jobs.get(thread)
        if job is None or stack is None:
            return f'worker thread {thread.name} had nothing to do'
        return f'worker thread {thread.name}, at {job.describe()}, was at:\n{"".join(stack)}'

    def end(self) -> None:
        """Let threads finish what they run, and end; tasks that wait fail. May be called again."""
        self.closed = True
        if os.getpid() != self._pid:
            return  # a process that was forked from the user's has no such threads
        with suppress(Empty):
            while True:
                task = self.queue.get_nowait()
                if task is not None and task.claim():
                    task.settle(_refusal())
        for _ in range(self._count):
            self.queue.put(None)
        left = [f'{thread.name}{self._at(thread)}' for thread in list(self._ends) if not self._has_ended(thread)]
        if left:
            warn_user(f'threads of a closed pool are still at work, and cannot be ended: {", ".join(left)}')

    def _at(self, thread: threading.Thread) -> str:
        job = self._jobs.get(thread)
        return '' if job is None else f' at {job.describe()}'

    def _has_ended(self, thread: threading.Thread) -> bool:
        """Wait a few seconds for a thread; return whether it has ended. The calling one counts as ended."""
        current = thread is threading.current_thread()
        ended = current or wait_in_slices(self._ends[thread].wait, GRACE_SECONDS)
        if ended and not current:
            # What libraries keep for each thread goes now. The interpreter must not end before: a file of
            # pyarrow, closed by a thread meanwhile, takes the process with it.
            thread.join(GRACE_SECONDS)
        del self._ends[thread]
        return ended


def _refusal() -> Result:
    return Result([], Failure(WorkerPoolError('the pool is closed')))
