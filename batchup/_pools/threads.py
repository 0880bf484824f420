"""Workers that are threads."""

from __future__ import annotations

import sys
import threading
import traceback
from concurrent.futures import Future
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue

from ..errors import WorkerPoolError, warn_user
from .base import WorkerPool
from .channel import Channel, wait_for
from .jobs import Job, Result, SharedConstant

# How long threads may take to end, in seconds. What runs in a thread cannot be ended.
GRACE_SECONDS = 5.0


@dataclass(eq=False)
class _Task:
    """A job, its result, and the thread that runs it."""

    job: Job
    future: Future[Result] = field(default_factory=Future)
    thread: int | None = None


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

    def __init__(self, processes: int = 1, *, timeout: float | None = None) -> None:
        super().__init__(processes, timeout)
        self._queue: SimpleQueue[_Task | None] = SimpleQueue()
        # Threads that do not end would keep the interpreter from ending, unless they are daemons.
        threads = [
            threading.Thread(target=_work, args=(self._queue,), name=f'batchup-worker-{number}', daemon=True)
            for number in range(self.processes)
        ]
        for thread in threads:
            thread.start()
        self._close_with(lambda queue=self._queue: _end(queue, threads))  # type: ignore[misc]

    def _share(self, value: object) -> SharedConstant:
        return SharedConstant(value)

    def _open_channel(self, slots: int) -> Channel[_Task]:
        return _ThreadChannel(self, self._queue)


class _ThreadChannel(Channel[_Task]):
    def __init__(self, pool: WorkerPool, queue: SimpleQueue[_Task | None]) -> None:
        self._pool = pool
        self._queue = queue

    def submit(self, job: Job) -> _Task:
        task = _Task(job)
        self._pool._check_open()
        self._queue.put(task)
        return task

    def receive(self, pending: _Task) -> Result:
        return wait_for(pending.future, self._pool.timeout, lambda: _where(pending))  # type: ignore[no-any-return]

    def withdraw(self, pending: _Task) -> bool:
        return pending.future.cancel()


def _work(queue: SimpleQueue[_Task | None]) -> None:
    """Run tasks until the pool ends."""
    while True:
        task = queue.get()
        if task is None:
            return
        if task.future.set_running_or_notify_cancel():
            task.thread = threading.get_ident()
            task.future.set_result(task.job.run())
        del task  # not kept while waiting for the next


def _end(queue: SimpleQueue[_Task | None], threads: list[threading.Thread]) -> None:
    """Have threads end after what they run; tasks that wait fail."""
    try:
        while True:
            task = queue.get_nowait()
            if task is not None and task.future.set_running_or_notify_cancel():
                task.future.set_exception(WorkerPoolError('the pool is closed'))
    except Empty:
        pass
    for _ in threads:
        queue.put(None)
    for thread in threads:
        if thread is not threading.current_thread():
            thread.join(GRACE_SECONDS)
    left = [thread.name for thread in threads if thread.is_alive()]
    if left:
        warn_user(f'threads of a closed pool are still at work, and cannot be ended: {", ".join(left)}')


def _where(task: _Task) -> str:
    """Say where the thread of a task is."""
    frame = sys._current_frames().get(task.thread) if task.thread is not None else None
    if frame is None:
        return 'no thread was free to run it'
    return f'the worker thread was at:\n{"".join(traceback.format_stack(frame))}'
