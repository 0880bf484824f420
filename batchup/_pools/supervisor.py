"""Worker processes: started, given jobs, watched, replaced, ended."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import signal
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from multiprocessing import Pipe, forkserver, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import send_handle
from typing import Any

from ..errors import WorkerLostError, WorkerPoolError
from .jobs import Job, SharedConstant
from .memory import Packed, Packer, Segment, Slot
from .shipping import Shipment
from .worker import STACKS_SIGNAL, main

# How many jobs a worker has at a time: one that runs, and one so that it need not wait. Larger:
# jobs wait for a slow worker while another is idle.
DEPTH = 2

# Jobs of more bytes are sent to idle workers only, which read at once: a pipe holds at least this much.
SMALL_BYTES = 2**15

# How long workers may take to end by themselves, in seconds, before they are ended.
GRACE_SECONDS = 1.0

# The exit code of a worker that was about to start a pool itself, since a script has no guard.
MISSING_GUARD = 83

GUARD_ADVICE = (
    'the script starts a pool when it is imported, as a worker process does: put its main part '
    "below `if __name__ == '__main__':`"
)


@dataclass(eq=False)
class Task:
    """A job, and the future of its result.

    Attributes
    ----------
    packed, used
        The job, and how much of the slot it takes.
    slot : Slot, optional
        Where its result will be.
    shipments : list
        The values that it needs.
    given : bool
        Whether a worker was given it.
    losses : int
        How many workers were lost that ran it.
    """

    packed: Packed
    used: int
    slot: Slot | None
    shipments: list[Shipment]
    future: Future[Packed] = field(default_factory=Future)
    given: bool = False
    losses: int = 0
    _open: threading.Lock = field(default_factory=threading.Lock)

    def claim(self) -> bool:
        """Say whether the job is now the caller's, to run it, give it to a worker, or drop it."""
        return self._open.acquire(blocking=False)

    def message(self) -> tuple[Any, ...]:
        """Return what a worker is sent."""
        if self.slot is None:
            return 'run', self.packed, self.used, None, (0, 0)
        end = self.slot.start + memoryview(self.slot.memory).nbytes
        return 'run', self.packed, self.used, self.slot.segment.id, (self.slot.start, end)


@dataclass(eq=False)
class WorkerHandle:
    """A worker process, as its pool sees it.

    Attributes
    ----------
    ready : bool
        Whether it has started, and takes jobs.
    gone : bool
        Whether it no longer reads what it is sent.
    killed : bool
        Whether the pool itself has ended it.
    known : set of int
        The segments that it maps.
    tasks : deque
        What it was given, in order; it runs the first.
    """

    process: Any
    conn: Connection
    stacks: Connection
    ready: bool = False
    gone: bool = False
    killed: bool = False
    known: set[int] = field(default_factory=set)
    tasks: deque[Task] = field(default_factory=deque)

    def has_room(self, depth: int) -> bool:
        """Say whether it takes another job, if it may have so many."""
        return self.ready and not self.gone and len(self.tasks) < depth


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
        task = _pack_task(job, shipped, slot)
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
            stacks = _stacks(worker)
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
        _discard(worker)

    def _note_loss(self, worker: WorkerHandle) -> None:
        """Count a loss, and break off if there are too many."""
        cause = _exit_cause(worker.process)
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
            worker = self._start()
            with self._lock:
                self._workers.append(worker)

    def _start(self) -> WorkerHandle:
        conn, workers_conn = self._context.Pipe(duplex=True)
        stacks, workers_stacks = self._context.Pipe(duplex=False)
        inherited: list[Connection] = []
        if self._context.get_start_method() == 'fork':
            inherited = [conn, stacks, self._alarm, self._bell]
            inherited += [end for worker in self._workers for end in (worker.conn, worker.stacks)]
        arguments = (workers_conn, workers_stacks, inherited, self._threads)
        process = self._context.Process(target=main, args=arguments, name='batchup-worker', daemon=True)
        try:
            self._start_helpers()
            with _held_interrupts(), _no_false_script():
                process.start()
        except (EOFError, ConnectionError) as error:
            # The server that forks workers has imported the script, and ended there.
            raise WorkerPoolError(f'worker processes cannot start; a likely cause: {GUARD_ADVICE}') from error
        workers_conn.close()
        workers_stacks.close()
        return WorkerHandle(process, conn, stacks)

    def _start_helpers(self) -> None:
        """Start multiprocessing's own processes, which must not begin, or end, what holds Ctrl-C back."""
        method = self._context.get_start_method()
        if method != 'fork':
            resource_tracker.ensure_running()
        if method == 'forkserver':
            forkserver.ensure_running()

    def _dispatch(self) -> None:
        """Give jobs that wait to workers that have room, in order; the lock is held."""
        while self._forgotten:
            number = self._forgotten.popleft()
            for worker in self._workers:
                if number in worker.known:
                    worker.known.remove(number)
                    self._send(worker, ('forget', number))
        while self._pending:
            large = len(self._pending[0].packed.data) > SMALL_BYTES
            free = [worker for worker in self._workers if worker.has_room(1 if large else DEPTH)]
            if not free:
                return
            task = self._pending.popleft()
            if task.given or task.claim():
                task.given = True
                worker = min(free, key=lambda worker: len(worker.tasks))
                worker.tasks.append(task)
                self._give(worker, task)

    def _give(self, worker: WorkerHandle, task: Task) -> None:
        """Send a job, after what it needs."""
        for shipment in task.shipments:
            segment = shipment.segment
            self._share(worker, segment, ('constant', segment.id, segment.size, shipment.spans))
        if task.slot is not None:
            segment = task.slot.segment
            self._share(worker, segment, ('slots', segment.id, segment.size))
        self._send(worker, task.message())

    def _share(self, worker: WorkerHandle, segment: Segment, message: tuple[Any, ...]) -> None:
        """Let a worker map a segment, if it has not done so."""
        if segment.id not in worker.known and self._send(worker, message):
            worker.known.add(segment.id)
            try:
                send_handle(worker.conn, segment.fd, worker.process.pid)
            except OSError:
                worker.gone = True

    def _send(self, worker: WorkerHandle, message: tuple[Any, ...] | None) -> bool:
        """Send a message; return whether the worker can be reached. If not, its end is noticed soon."""
        try:
            worker.conn.send(message)
        except OSError:
            worker.gone = True
        return not worker.gone

    def _ring(self) -> None:
        """Wake the watching thread."""
        self._bell.send_bytes(b'!')

    def _end_workers(self) -> None:
        """Ask the workers to end; end those that do not."""
        for worker in self._workers:
            self._send(worker, None)
        _join(self._workers)
        for worker in self._workers:
            worker.process.terminate()
        _join(self._workers)
        for worker in self._workers:
            worker.process.kill()
            worker.process.join()
            _discard(worker)
        self._workers.clear()


@contextlib.contextmanager
def _held_interrupts() -> Iterator[None]:
    """Have processes that are started not be reached by Ctrl-C before they can ignore it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _no_false_script() -> Iterator[None]:
    """Have processes that are started not look for a script that was read from standard input."""
    script = sys.modules['__main__']
    path = getattr(script, '__file__', None)
    if path != '<stdin>':
        yield
        return
    del script.__file__
    try:
        yield
    finally:
        script.__file__ = path


class _TaskPickler(pickle.Pickler):
    """Pickles jobs, with a number in place of each shared constant."""

    def __init__(self, *args: Any, shipped: Callable[[SharedConstant], Shipment], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._shipped = shipped
        self.shipments: list[Shipment] = []

    def persistent_id(self, value: Any) -> int | None:
        if not isinstance(value, SharedConstant):
            return None
        shipment = self._shipped(value)
        self.shipments.append(shipment)
        return shipment.segment.id


def _pack_task(job: Job, shipped: Callable[[SharedConstant], Shipment], slot: Slot | None) -> Task:
    packer = Packer(slot.memory if slot is not None else bytearray())
    file = io.BytesIO()
    pickler = _TaskPickler(file, 5, buffer_callback=packer.place, shipped=shipped)
    try:
        pickler.dump(job)
    except Exception as error:
        raise TypeError(
            f'a job cannot be sent to a worker process: {error}; use functions and classes from the top level '
            'of a module, or a WorkerThreadPool'
        ) from error
    return Task(packer.packed(file), packer.used, slot, pickler.shipments)


def _stacks(worker: WorkerHandle) -> str:
    """Ask a worker where its threads are."""
    if STACKS_SIGNAL is None or worker.process.pid is None:
        return '(stacks are not available on this system)'
    os.kill(worker.process.pid, STACKS_SIGNAL)
    text = b''
    while worker.stacks.poll(0.5 if not text else 0.05):
        text += os.read(worker.stacks.fileno(), 2**16)
    return text.decode(errors='replace')


def _join(workers: list[WorkerHandle]) -> None:
    """Wait for workers to end, but not for long."""
    deadline = time.monotonic() + GRACE_SECONDS
    for worker in workers:
        worker.process.join(max(0.0, deadline - time.monotonic()))


def _discard(worker: WorkerHandle) -> None:
    worker.conn.close()
    worker.stacks.close()
    worker.process.close()


def _exit_cause(process: Any) -> str:
    code = process.exitcode
    if code is None or code >= 0:
        return f'exit code {code}'
    try:
        return f'signal {-code}, {signal.Signals(-code).name}'
    except ValueError:
        return f'signal {-code}'


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
