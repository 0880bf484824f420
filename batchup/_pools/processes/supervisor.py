"""Worker processes: started, given jobs, watched, replaced, ended."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any

from ...errors import WorkerLostError, WorkerPoolError, WorkerTimeoutError
from ..memory import Segment
from ..waiting import Flag, start_thread, wait_in_slices
from .handles import GUARD_ADVICE, MISSING_GUARD, FailedStart, WorkerHandle, held_interrupts, stacks_of, start_worker
from .tasks import ProcessTask

if TYPE_CHECKING:
    from .pool import ProcessChannel

# How many jobs a worker has at a time: one that runs, and one to go on with at once. Larger:
# jobs wait for a slow worker while another is idle.
DEPTH = 2

# Jobs of more bytes are sent to idle workers only, which read at once: a pipe holds at least this much.
SMALL_BYTES = 2**15

# How long workers may take to end by themselves, in seconds, before they are ended.
GRACE_SECONDS = 1.0


class Supervisor:
    """A number of worker processes, and a thread that looks after them.

    The thread alone starts workers, sends and receives, and knows who has which job. Users'
    threads append jobs, wait for flags, and set `_closing`. An interrupt only reaches the main
    thread, so it does no harm, wherever it comes: at worst a bell has not been rung, and the
    thread that waits for a result rings it again.

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
        self.max_restarts = max_restarts
        self._workers: list[WorkerHandle] = []
        self._pending: deque[ProcessTask] = deque()
        # Tasks that were looked at, but not given to a worker yet. They come before those that are pending.
        self._held: deque[ProcessTask] = deque()
        # The owners of the segments that workers may map.
        self._owners: dict[int, weakref.ref[Any]] = {}
        self._failed_starts = 0
        self._was_ready = False
        self._closing = False
        self._broken: Callable[[], WorkerPoolError] | None = None
        self._told = False
        # Whether the thread is to be woken for a new job.
        self._hungry = False
        # What the user is to be warned of: messages wait for the user's own thread.
        self.warnings: deque[str] = deque()
        self._alarm, self._bell = socket.socketpair()
        self._alarm.setblocking(False)
        self._bell.setblocking(False)
        # Taken by the one who sees to the workers until they have ended.
        self._duty = threading.Lock()
        self._thread_id: int | None = None
        self._ended = Flag()

    def start(self) -> None:
        """Start the thread and the workers; `close` ends what was started, also if this is interrupted."""
        if self._context.get_start_method() == 'fork':
            # Before there is a thread: locks that others hold are never released in a forked process.
            with held_interrupts():
                self._start_missing()
        start_thread(self._run, 'batchup-pool')

    # What the user's threads call.

    def submit(self, task: ProcessTask) -> None:
        """Take on a task, for a worker."""
        self._pending.append(task)
        self.ring_if_hungry()

    def ring_if_hungry(self) -> None:
        """Wake the thread if a worker has room for a job."""
        if self._hungry:
            self.ring()

    @property
    def starting(self) -> bool:
        """Whether no worker has been ready yet; stays false when there was one, even if all have ended since."""
        return not (self._was_ready or self.is_down)

    def close(self) -> None:
        """End the workers; results that have not arrived never will. May be called again."""
        self._closing = True
        if os.getpid() != self._pid:
            return  # a process that was forked from the user's: the workers are not its own
        if self._duty.acquire(blocking=False):
            self._finish()  # the thread has not begun, and now never will
        self.ring()
        if self._thread_id == threading.get_ident():
            return
        wait_in_slices(self._ended.wait, None)
        if self._broken is not None and not self._told:
            # The caller has made all batches: the workers were not missed.
            self.warnings.append(str(self.end_error()))

    def forget_with(self, owner: Any, segment: Segment) -> None:
        """Have the workers let go of a segment once its owner has gone."""
        self._owners[segment.id] = weakref.ref(owner, lambda _: self.ring())

    def ring(self) -> None:
        """Wake the thread, now or when it next falls asleep."""
        with contextlib.suppress(OSError):  # it has ended, or has not heard many others yet
            self._bell.send(b'!')

    def stacks(self) -> str:
        """Say where the workers are."""
        return stacks_of(list(self._workers)) or 'no worker process has started yet'

    @property
    def is_down(self) -> bool:
        """Whether no more results will come."""
        return self._closing or self._broken is not None

    def end_error(self) -> Exception:
        """Make the error that says why there are no more results."""
        if self._broken is None:
            return WorkerPoolError('the pool is closed')
        self._told = True
        return self._broken()

    # What the thread does.

    def _run(self) -> None:
        """Look after the workers until the pool is closed, or can do no more."""
        if not self._duty.acquire(blocking=False):
            return  # closed already
        self._thread_id = threading.get_ident()
        try:
            self._start_missing()
            while not self.is_down:
                self._forget()
                self._hand_out()
                self._wait()
                self._start_missing()
        except Exception as error:
            text = f'{type(error).__name__}: {error}'
            self._break(lambda: WorkerPoolError(f'the pool cannot start or reach its workers: {text}'))
        finally:
            self._finish()

    def _forget(self) -> None:
        """Have workers let go of the segments whose owners have gone."""
        for number in [number for number, owner in list(self._owners.items()) if owner() is None]:
            for worker in self._workers:
                worker.forget(number)
            del self._owners[number]

    def _hand_out(self) -> None:
        """Give jobs that wait to workers that have room, in order."""
        # Set before the last look at the jobs: a thread that appends one later rings the bell.
        self._hungry = True
        held, self._held = self._held, deque()
        full: set[ProcessChannel] = set()
        while any(worker.has_room(DEPTH) for worker in self._workers) and (held or self._pending):
            task = held.popleft() if held else self._pending.popleft()
            if task.withdrawn:
                continue
            if task.channel in full or not self._give(task):
                full.add(task.channel)
                self._held.append(task)
        self._held += held
        self._hungry = any(worker.has_room(DEPTH) for worker in self._workers)

    def _give(self, task: ProcessTask) -> bool:
        """Give a task to a worker, or drop it; return whether that was possible."""
        worker = self._worker_for(task)
        if worker is None:
            return False
        if not task.given:
            if not task.claim():
                return True  # the user's thread makes the batch
            task.given = True
            task.bind(worker.pid)
        if worker.tasks and task.sent_bytes > SMALL_BYTES:
            return False
        worker.give(task)
        return True

    def _worker_for(self, task: ProcessTask) -> WorkerHandle | None:
        """Return the worker that has the fewest jobs; `None` if there is no room, or the user is to come first."""
        if not task.given and not task.awaited and task.channel.is_full:
            task.channel.was_idle |= any(worker.has_room(1) for worker in self._workers)
            return None
        preparation = task.channel.preparation
        free = [
            worker
            for number, worker in enumerate(self._workers)
            if worker.has_room(DEPTH)
            and (preparation is None or not preparation.is_needed or worker.prepare(preparation, number, self.count))
        ]
        return min(free, key=lambda worker: len(worker.tasks), default=None)

    def _wait(self) -> None:
        """Wait until something has happened, and see to it."""
        workers = list(self._workers)
        readers = [worker.conn for worker in workers if not worker.mute]
        ready = set(wait([self._alarm, *readers, *(worker.process.sentinel for worker in workers)]))
        self._hungry = False
        if self._alarm in ready:
            self._alarm.recv(2**12)
        for worker in workers:
            if worker.conn in ready:
                self._receive(worker)
            if worker.process.sentinel in ready:
                self._bury(worker)

    def _receive(self, worker: WorkerHandle) -> None:
        """Take a message from a worker, if there is one."""
        try:
            message = worker.conn.recv()
        except (EOFError, OSError):
            worker.gone = worker.mute = True
            worker.process.join(GRACE_SECONDS)
            if worker.process.exitcode is None:
                worker.kill()
            return
        except MemoryError:  # what is left of the message cannot be told from the next one
            worker.gone = worker.mute = True
            worker.end_for(worker.tasks[0])
            text = f'a result of worker process {worker.pid} does not fit into memory'
            worker.tasks.popleft().settle(lambda: MemoryError(text))
            return
        if message is None:
            worker.ready = self._was_ready = True
            self._failed_starts = 0
        elif isinstance(message, int):
            worker.note_prepared(message)
        elif worker.tasks:
            worker.tasks.popleft().settle(message)

    def _bury(self, worker: WorkerHandle) -> None:
        """Remove a worker that has ended, and see to its jobs."""
        worker.process.join()
        self._receive_all(worker)  # results that it has sent before count
        if worker.orphan():
            # Before another worker gets its jobs, and their slots.
            worker.kill()
            self._receive_all(worker, GRACE_SECONDS)
        self._workers.remove(worker)
        self._note_loss(worker)
        for task in reversed(worker.tasks):
            task.worker = None
            if task is worker.given_up:
                text = f'the worker of this job, process {worker.pid}, was ended, since it took too long'
                task.settle(partial(WorkerTimeoutError, text))
            else:
                self._held.appendleft(task)
        worker.discard()

    def _receive_all(self, worker: WorkerHandle, seconds: float = 0.0) -> None:
        """Take the messages of a worker that has ended; wait for each as long as `seconds`."""
        while not worker.mute and worker.conn.poll(seconds):
            self._receive(worker)

    def _note_loss(self, worker: WorkerHandle) -> None:
        """Count a loss, and break off if there are too many."""
        code, cause = worker.process.exitcode, worker.exit_cause()
        if self._closing or worker.given_up is not None:
            return
        if not worker.ready and code == -signal.SIGINT:
            return  # Ctrl-C, which is for the user's process
        if code != MISSING_GUARD:
            text = f'worker process {worker.pid} ended unexpectedly ({cause}) {worker.doing()}; another one takes over'
            self.warnings.append(text)
        if not worker.ready:
            self._note_failed_start(code, cause)
        elif worker.tasks:
            task = worker.tasks[0]
            task.losses += 1
            if task.losses > self.max_restarts:
                worker.tasks.popleft()
                task.settle(partial(_lost, task.losses, f'process {worker.pid} by {cause}'))

    def _note_failed_start(self, code: int | None, cause: str) -> None:
        self._failed_starts += 1
        if code == MISSING_GUARD:
            self._break(lambda: WorkerPoolError(f'worker processes cannot start: {GUARD_ADVICE}'))
        elif self._failed_starts > self.max_restarts:
            self._break(lambda: _cannot_start(cause))

    def _break(self, error: Callable[[], WorkerPoolError]) -> None:
        """End the work of the pool, with an error for every result that is waited for."""
        if self._broken is None:
            self._broken = error

    def _start_missing(self) -> None:
        """Start workers until there are as many as there should be."""
        while len(self._workers) < self.count and not self.is_down and self._may_start():
            inherited = [end for worker in self._workers for end in (worker.conn, worker.stacks)]
            try:
                worker = start_worker(self._context, self._threads, [self._alarm, self._bell, *inherited])
            except FailedStart as error:
                if error.code != MISSING_GUARD:
                    self.warnings.append(f'a worker process could not start ({error}); another one is started')
                self._note_failed_start(error.code, str(error))
            else:
                self._workers.append(worker)

    def _may_start(self) -> bool:
        """Say whether another worker may start: new interpreters leave a core to the caller, who makes batches."""
        n_starting = sum(not worker.ready for worker in self._workers)
        return self._context.get_start_method() != 'spawn' or n_starting < max(1, count_cores() - 1)

    def _finish(self) -> None:
        """Give an error to all tasks that wait, and leave nothing behind."""
        try:
            for tasks in (self._held, self._pending, *(worker.tasks for worker in self._workers)):
                while tasks:
                    tasks.popleft().settle(self.end_error)
            self._end_workers()
        finally:
            self._owners.clear()
            self._alarm.close()
            self._bell.close()
            self._ended.raise_()

    def _end_workers(self) -> None:
        """Ask the workers to end; end those that do not."""
        for worker in self._workers:
            worker.ask_to_end()
        _join(self._workers)
        for worker in self._workers:
            worker.process.terminate()
        _join(self._workers)
        for worker in self._workers:
            worker.process.kill()
            worker.process.join()
            worker.discard()
        self._workers.clear()


def count_cores() -> int:
    """Return how many processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


def _join(workers: list[WorkerHandle]) -> None:
    """Wait for workers to end, but not for long."""
    deadline = time.monotonic() + GRACE_SECONDS
    for worker in workers:
        worker.process.join(max(0.0, deadline - time.monotonic()))


def _lost(losses: int, last: str) -> WorkerLostError:
    return WorkerLostError(
        f'{losses} worker processes ended while they ran the same job, the last one, {last}. Likely causes: too '
        'little memory (the system kills the largest process: use fewer workers, a smaller batch_size or '
        'batch_buffer_size), or a crash in native code (SIGSEGV, SIGABRT). Run the source without a pool to see which.'
    )


def _cannot_start(cause: str) -> WorkerPoolError:
    return WorkerLostError(
        f'worker processes end before they are ready, the last one by {cause}. Likely causes: a module of the script '
        'that fails when it is imported (see the traceback above), or too little memory'
    )
