"""Workers that are threads."""

from __future__ import annotations

import math
import os
import sys
import threading
import traceback
import weakref
from contextlib import suppress
from functools import partial
from pickle import PickleBuffer
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._ground.messages import warn_user
from .._sources.rows import RECYCLED_BYTES
from ..errors import WorkerPoolError, WorkerTimeoutError
from .channel import Channel, Flag, start_thread, wait_in_slices
from .failures import Failure
from .jobs import Job, Result, SharedConstant
from .pool import WorkerPool

# How long threads may take to end, in seconds. What runs in a thread cannot be ended.
GRACE_SECONDS = 5.0


# How large batches that are plain copies of memory must be for threads to make them. Smaller: they
# take the caller less time to make than to wait for. One thread makes none faster than the caller.
LEAST_BYTES = 2**16
LEAST_BYTES_OF_ONE = 2**20

# How many pieces of memory wait to be used again. Larger: more memory that may lie idle.
IDLE_PIECES = 8


class _Task:
    """A job, and what becomes of it. One of those who want it gets it.

    Attributes
    ----------
    thread : int, optional
        The thread that runs it.
    done : Flag
        Whether there is a result.
    """

    __slots__ = ('_open', 'done', 'job', 'recycler', 'result', 'thread')

    def __init__(self, job: Job, recycler: _Recycler) -> None:
        self.job = job
        self.recycler = recycler
        self.thread: int | None = None
        self._open = threading.Lock()
        self.done = Flag()

    def claim(self) -> bool:
        """Say whether the job is now the caller's, and nobody else's."""
        return self._open.acquire(blocking=False)

    def finish(self, result: Result) -> None:
        self.result = result
        self.done.raise_()


class _Recycler:
    """Memory for the results of one stream, each piece used again once nothing refers to it.

    The last piece used comes first: it may be in the processor's cache.
    """

    def __init__(self) -> None:
        self._idle: list[NDArray[np.uint8]] = []
        # What watches arrays that are in use, until they are gone.
        self._watched: dict[weakref.ref[PickleBuffer], NDArray[np.uint8]] = {}

    def allocate(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any] | None:
        """Return an array, if it is large enough for that to be of use."""
        nbytes = math.prod(shape) * dtype.itemsize
        if nbytes < RECYCLED_BYTES:
            return None
        piece = self._take(nbytes)
        buffer: Any = piece
        memory = PickleBuffer(buffer)
        self._watched[weakref.ref(memory, self._put)] = piece
        return np.ndarray(shape, dtype, memory)  # type: ignore[arg-type]

    def _take(self, nbytes: int) -> NDArray[np.uint8]:
        try:
            piece = self._idle.pop()
        except IndexError:
            return np.empty(nbytes, np.uint8)
        return piece if nbytes <= len(piece) <= 2 * nbytes else np.empty(nbytes, np.uint8)

    def _put(self, gone: weakref.ref[PickleBuffer]) -> None:
        piece = self._watched.pop(gone)
        if len(self._idle) < IDLE_PIECES:
            self._idle.append(piece)


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

    # Threads are handed tasks quickly.
    _task_seconds = 8e-4

    def __init__(self, processes: int = 1, *, timeout: float | None = None) -> None:
        super().__init__(processes, timeout)
        crew = self._crew = _Crew(self.processes)
        # First what ends them: an interrupt may come at any time.
        self._close_with(crew.end)
        crew.start()

    def _least_bytes(self) -> int:
        return LEAST_BYTES if self.processes > 1 else LEAST_BYTES_OF_ONE

    def _share(self, value: object) -> SharedConstant:
        return SharedConstant(value)

    def _open_channel(self, slots: int) -> Channel[_Task]:
        return _ThreadChannel(self, self._crew)


class _ThreadChannel(Channel[_Task]):
    def __init__(self, pool: WorkerPool, crew: _Crew) -> None:
        self._pool = pool
        self._crew = crew
        self._recycler = _Recycler()

    def submit(self, job: Job) -> _Task:
        task = _Task(job, self._recycler)
        self._crew.queue.put(task)
        return task

    def receive(self, pending: _Task) -> Result:
        if not pending.done.up and not wait_in_slices(partial(self._is_over, pending), self._pool.timeout, self):
            raise WorkerTimeoutError(f'no result within {self._pool.timeout} seconds (timeout); {_where(pending)}')
        return pending.result if pending.done.up else _refusal()

    def _is_over(self, task: _Task, seconds: float) -> bool:
        # What no thread had begun with when the pool was closed, none will.
        return task.done.up or (self._crew.closed and task.thread is None) or task.done.wait(seconds)

    def withdraw(self, pending: _Task) -> bool:
        return pending.claim()


class _Crew:
    """Threads that run tasks. They do not refer to their pool, so that it may be forgotten."""

    def __init__(self, count: int) -> None:
        self.queue: SimpleQueue[_Task | None] = SimpleQueue()
        self.closed = False
        self._count = count
        self._pid = os.getpid()
        # Of each thread, whether it has ended.
        self._ends: dict[threading.Thread, Flag] = {}

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
                task.finish(task.job.run(task.recycler.allocate))
            del task  # not kept while waiting for the next
        ended.raise_()

    def end(self) -> None:
        """Have threads end after what they run; tasks that wait fail. May be called again."""
        self.closed = True
        if os.getpid() != self._pid:
            return  # a process that was forked from the user's has no such threads
        with suppress(Empty):
            while True:
                task = self.queue.get_nowait()
                if task is not None and task.claim():
                    task.finish(_refusal())
        for _ in range(self._count):
            self.queue.put(None)
        left = [thread.name for thread in list(self._ends) if not self._has_ended(thread)]
        if left:
            warn_user(f'threads of a closed pool are still at work, and cannot be ended: {", ".join(left)}')

    def _has_ended(self, thread: threading.Thread) -> bool:
        """Wait for a thread, once and not for long; return whether it has ended, or is this one, which will."""
        ended = thread is threading.current_thread() or wait_in_slices(self._ends[thread].wait, GRACE_SECONDS)
        del self._ends[thread]
        return ended


def _refusal() -> Result:
    return Result([], Failure(WorkerPoolError('the pool is closed')))


def _where(task: _Task) -> str:
    """Say where the thread of a task is."""
    frame = sys._current_frames().get(task.thread) if task.thread is not None else None
    if frame is None:
        return 'no thread was free to run it'
    return f'the worker thread was at:\n{"".join(traceback.format_stack(frame))}'
