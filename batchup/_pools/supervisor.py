"""Worker processes: started, given jobs, watched, replaced, ended."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from multiprocessing import Pipe
from multiprocessing.connection import wait
from typing import Any

from ..errors import WorkerLostError, WorkerPoolError
from .handles import GUARD_ADVICE, MISSING_GUARD, WorkerHandle, start_worker
from .jobs import Job, SharedConstant
from .memory import Segment, Slot
from .shipping import Shipment
from .tasks import Task, pack_task

# How many jobs a worker has at a time: one that runs, and one so that it need not wait. Larger:
# jobs wait for a slow worker while another is idle.
DEPTH = 2

# Jobs of more bytes are sent to idle workers only, which read at once: a pipe holds at least this much.
SMALL_BYTES = 2**15

# How long workers may take to end by themselves, in seconds, before they are ended.
GRACE_SECONDS = 1.0


class Supervisor:
    """A number of worker processes, and a thread that watches them.

    Parameters
    ----------
    count : int
        The number of workers.
    context : multiprocessing context
        How they are started.
    threads : int or None
        The number of threads that numerical libraries may use in each; `None` for no limit.
    max_restarts : int
        How many workers one job may lose, and how many may end before they are ready.
    """

    def __init__(self, count: int, context: Any, threads: int | None, max_restarts: int) -> None:
        self.count = count
        self._context = context
        self._threads = threads
        self._pid = os.getpid()
        self._max_restarts = max_restarts
        self._lock = threading.RLock()
        self._workers: list[WorkerHandle] = []
        self._pending: deque[Task] = deque()
        self._forgotten: deque[int] = deque()
        self._failed_starts = 0
        self._was_ready = False
        self._closed = False
        self._broken: Callable[[], WorkerPoolError] | None = None
        self._told = False
        # What the user is to be warned of: messages wait for the user's own thread.
        self.warnings: deque[str] = deque()
        self._alarm, self._bell = Pipe(duplex=False)
        if context.get_start_method() == 'fork':
            # Before there is a thread: locks that others hold are never released in a forked process.
            self._start_missing()
        self._thread = threading.Thread(target=self._watch, name='batchup-pool', daemon=True)
        self._thread.start()

    # What the user's threads call.

    def submit(self, job: Job, shipped: Callable[[SharedConstant], Shipment], slot: Slot | None) -> Task:
        """Hand over a job, whose result will be in the slot as far as it fits."""
        task = pack_task(job, shipped, slot)
        with self._lock:
            if self._closed or self._broken is not None:
                task.future.set_exception(self._end_error())
            else:
                self._pending.append(task)
                self._dispatch()
        return task

    @staticmethod
    def withdraw(task: Task) -> bool:
        """Take a job back that no worker has been given; return whether that was so.

        Takes no lock that others wait for: it may run anywhere.
        """
        if not task.claim():
            return False
        task.slot = None  # for another one
        return True

    @property
    def starting(self) -> bool:
        """Whether no worker has been ready yet. Later, jobs may have ended the workers."""
        return not (self._was_ready or self._closed or self._broken)

    def give_up(self, task: Task) -> str:
        """Stop a job that takes too long; return what its worker was doing."""
        with self._lock:
            worker = next((worker for worker in self._workers if task in worker.tasks), None)
            if worker is None:
                self.withdraw(task)
                return 'no worker was ready to run it'
            stacks = worker.stack_dump()
            if worker.tasks[0] is task:
                worker.tasks.popleft()
                worker.killed = True
                worker.process.kill()
            return f'worker process {worker.process.pid} was at:\n{stacks}'

    def close(self) -> None:
        """End the workers; results that have not arrived never will."""
        if os.getpid() != self._pid:
            return  # a process that was forked from the user's: the workers are not its own
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._fail_all()
            self._ring()
        if self._thread is not threading.current_thread():
            self._thread.join()
        self._end_workers()
        if self._broken is not None and not self._told:
            # The caller has made all batches: the workers were not missed.
            self.warnings.append(str(self._broken()))
        self._bell.close()
        self._alarm.close()

    def forget_with(self, owner: Any, segment: Segment) -> None:
        """Have the workers let go of a segment once its owner has gone."""
        weakref.finalize(owner, self._forget, segment.id).atexit = False

    def _forget(self, number: int) -> None:
        if os.getpid() != self._pid:
            return  # a process that was forked from the user's: the workers are not its own
        # Only notes it: this may run anywhere, also where the lock is held.
        self._forgotten.append(number)
        with contextlib.suppress(OSError):  # closed
            self._ring()

    # What the watching thread does.

    def _watch(self) -> None:
        try:
            self._start_missing()
            while not self._closed and self._broken is None:
                self._wait()
        except Exception as error:
            text = f'{type(error).__name__}: {error}'
            self._break(lambda: WorkerPoolError(f'the pool cannot start or reach its workers: {text}'))

    def _wait(self) -> None:
        """Wait until something has happened, and see to it."""
        workers = list(self._workers)
        ready = set(wait([self._alarm, *(w.conn for w in workers), *(w.process.sentinel for w in workers)]))
        if self._alarm in ready:
            self._alarm.recv_bytes()
        for worker in workers:
            if worker.conn in ready:
                self._receive(worker)
            if worker.process.sentinel in ready:
                self._bury(worker)
        self._start_missing()
        with self._lock:
            self._dispatch()

    def _receive(self, worker: WorkerHandle) -> bool:
        """Take a message from a worker; return whether there was one."""
        try:
            message = worker.conn.recv()
        except (EOFError, OSError):
            worker.gone = True
            worker.process.join(GRACE_SECONDS)
            return False
        with self._lock:
            if message is None:
                worker.ready = self._was_ready = True
                self._failed_starts = 0
            elif worker.tasks:
                worker.tasks.popleft().future.set_result(message)
        return True

    def _bury(self, worker: WorkerHandle) -> None:
        """See to the jobs of a worker that has ended."""
        while worker.conn.poll() and self._receive(worker):
            pass  # results that it has sent before count
        worker.process.join()
        with self._lock:
            if worker not in self._workers:
                return
            self._workers.remove(worker)
            self._note_loss(worker)
            for task in reversed(worker.tasks):
                self._pending.appendleft(task)
            worker.tasks.clear()
        worker.discard()

    def _note_loss(self, worker: WorkerHandle) -> None:
        """Count a loss, and break off if there are too many."""
        cause = worker.exit_cause()
        if self._closed or worker.killed:
            return
        if worker.process.exitcode == MISSING_GUARD:
            self._break(lambda: WorkerPoolError(f'worker processes cannot start: {GUARD_ADVICE}'))
            return
        if not worker.ready and worker.process.exitcode == -signal.SIGINT:
            return  # Ctrl-C, which is for the user's process
        self.warnings.append(
            f'worker process {worker.process.pid} ended unexpectedly ({cause}); another one takes over'
        )
        if not worker.ready:
            self._failed_starts += 1
            if self._failed_starts > self._max_restarts:
                self._break(lambda: _cannot_start(cause))
        elif worker.tasks:
            task = worker.tasks[0]
            task.losses += 1
            if task.losses > self._max_restarts:
                worker.tasks.popleft()
                task.future.set_exception(_lost(task.losses, cause))

    def _break(self, error: Callable[[], WorkerPoolError]) -> None:
        """End the work of the pool, with an error for every result that is waited for."""
        with self._lock:
            if self._broken is None:
                self._broken = error
            self._fail_all()

    def _fail_all(self) -> None:
        for task in [*self._pending, *(task for worker in self._workers for task in worker.tasks)]:
            task.future.set_exception(self._end_error())
        self._pending.clear()
        for worker in self._workers:
            worker.tasks.clear()

    def _end_error(self) -> Exception:
        if self._broken is None:
            return WorkerPoolError('the pool is closed')
        self._told = True
        return self._broken()

    def _start_missing(self) -> None:
        """Start workers until there are as many as there should be."""
        while len(self._workers) < self.count and not self._closed and self._broken is None:
            inherited = [end for worker in self._workers for end in (worker.conn, worker.stacks)]
            worker = start_worker(self._context, self._threads, [self._alarm, self._bell, *inherited])
            with self._lock:
                self._workers.append(worker)

    def _dispatch(self) -> None:
        """Give jobs that wait to workers that have room, in order; the lock is held."""
        while self._forgotten:
            number = self._forgotten.popleft()
            for worker in self._workers:
                worker.forget(number)
        while self._pending:
            large = len(self._pending[0].packed.data) > SMALL_BYTES
            free = [worker for worker in self._workers if worker.has_room(1 if large else DEPTH)]
            if not free:
                return
            task = self._pending.popleft()
            if task.given or task.claim():
                task.given = True
                min(free, key=lambda worker: len(worker.tasks)).give(task)

    def _ring(self) -> None:
        """Wake the watching thread."""
        self._bell.send_bytes(b'!')

    def _end_workers(self) -> None:
        """Ask the workers to end; end those that do not."""
        for worker in self._workers:
            worker.send(None)
        _join(self._workers)
        for worker in self._workers:
            worker.process.terminate()
        _join(self._workers)
        for worker in self._workers:
            worker.process.kill()
            worker.process.join()
            worker.discard()
        self._workers.clear()


def _join(workers: list[WorkerHandle]) -> None:
    """Wait for workers to end, but not for long."""
    deadline = time.monotonic() + GRACE_SECONDS
    for worker in workers:
        worker.process.join(max(0.0, deadline - time.monotonic()))


def _lost(losses: int, cause: str) -> WorkerLostError:
    return WorkerLostError(
        f'{losses} worker processes ended while they ran the same job, the last one by {cause}. Likely causes: too '
        'little memory (the system kills the largest process: use fewer workers, a smaller batch_size or '
        'batch_buffer_size), or a crash in native code (SIGSEGV, SIGABRT). Run the source without a pool to see which.'
    )


def _cannot_start(cause: str) -> WorkerPoolError:
    return WorkerLostError(
        f'worker processes end before they are ready, the last one by {cause}. Likely causes: {GUARD_ADVICE}; a module '
        'of the script that fails when it is imported (see the traceback above); too little memory'
    )
