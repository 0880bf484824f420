"""Worker processes, as their pool sees them."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import send_handle
from typing import Any

from ..memory import Segment
from .preparation import Preparation
from .tasks import ProcessTask
from .worker import STACKS_SIGNAL, main

# The exit code of a worker that was about to start a pool itself, since a script has no guard.
MISSING_GUARD = 83

GUARD_ADVICE = (
    'the script starts a pool when it is imported, as a worker process does: put its main part '
    "below `if __name__ == '__main__':`"
)


# How long workers may take to say where they are, in seconds. Larger: users wait longer for a worker that is stopped.
# Smaller: one on a busy machine may be taken for stopped.
ANSWER_SECONDS = 0.5


@dataclass(eq=False)
class WorkerHandle:
    """A worker process, as its pool sees it.

    Attributes
    ----------
    ready : bool
        Whether it has started, and takes jobs.
    gone : bool
        Whether it no longer reads what it is sent.
    mute : bool
        Whether nothing more can be read from it.
    served : bool
        Whether it was started by a server, which is told how it ends.
    orphaned : bool
        Whether that server has gone.
    given_up : ProcessTask, optional
        The job because of which the pool itself has ended it.
    known : set of int
        The segments that it maps.
    tasks : deque
        What it was given, in order; it runs the first.
    prepared : dict
        The preparations that it was asked for, by segments: the slots, or `None` once it has mapped them.
    """

    process: Any
    pid: int
    conn: Connection
    stacks: Connection
    served: bool = False
    ready: bool = False
    gone: bool = False
    mute: bool = False
    orphaned: bool = False
    given_up: ProcessTask | None = None
    known: set[int] = field(default_factory=set)
    tasks: deque[ProcessTask] = field(default_factory=deque)
    prepared: dict[int, tuple[weakref.ref[Preparation], list[int]] | None] = field(default_factory=dict)

    def doing(self) -> str:
        """Say what it was doing, for a message."""
        if not self.ready:
            return 'before it was ready'
        jobs = list(self.tasks)  # another thread may take them meanwhile
        return f'while it was at {jobs[0].job.describe()}' if jobs else 'while it had nothing to do'

    def has_room(self, depth: int) -> bool:
        """Say whether it takes another job, when it may have `depth` of them."""
        return self.ready and not self.gone and len(self.tasks) < depth

    def give(self, task: ProcessTask) -> None:
        """Send a job, after what it needs."""
        task.worker = self
        self.tasks.append(task)
        for shipment in task.shipments:
            segment = shipment.segment
            self._share(segment, ('constant', segment.id, segment.size, shipment.spans))
        if task.slot is not None:
            self._share_slots(task.slot.segment)
        self.send(task.message())

    def prepare(self, preparation: Preparation, number: int, count: int) -> bool:
        """Have worker `number` of `count` map its part of some slots, once; return whether it has done so."""
        segment = preparation.segment
        if segment.id not in self.prepared:
            numbers = preparation.part(number, count)
            self.prepared[segment.id] = weakref.ref(preparation), numbers
            self._share_slots(segment)
            self.send(('prepare', segment.id, preparation.spans(numbers)))
        return self.prepared[segment.id] is None

    def note_prepared(self, number: int) -> None:
        """Note that it has mapped its part of the slots in a segment."""
        asked = self.prepared[number]
        self.prepared[number] = None
        preparation = asked and asked[0]()
        if asked and preparation is not None:
            preparation.note(asked[1], self.pid)

    def forget(self, number: int) -> None:
        """Have the worker let go of a segment, if it maps it."""
        if number in self.known:
            self.known.remove(number)
            self.prepared.pop(number, None)
            self.send(('forget', number))

    def _share_slots(self, segment: Segment) -> None:
        self._share(segment, ('slots', segment.id, segment.size, segment.huge))

    def _share(self, segment: Segment, message: tuple[Any, ...]) -> None:
        """Let the worker map a segment, if it has not done so."""
        if segment.id not in self.known and self.send(message):
            self.known.add(segment.id)
            try:
                send_handle(self.conn, segment.fd, self.process.pid)
            except OSError:  # the worker waits for the file: it can be told nothing else
                self.gone = True
                self.kill()

    def send(self, message: tuple[Any, ...] | None) -> bool:
        """Send a message; return whether the worker can be reached. If not, its end is noticed soon."""
        try:
            self.conn.send(message)
        except OSError:
            self.gone = True
        return not self.gone

    def ask_to_end(self) -> None:
        """Tell the worker to end, unless it does not read what it is sent."""
        with contextlib.suppress(OSError):
            os.set_blocking(self.conn.fileno(), False)
            self.conn.send(None)

    def kill(self) -> None:
        """End the process at once."""
        with contextlib.suppress(OSError):
            os.kill(self.pid, signal.SIGKILL)

    def give_up(self, task: ProcessTask) -> str:
        """End the process if this is the job that it runs; return what it was doing. Users' threads call this."""
        self.ask_for_stacks()
        text = self.answer(ANSWER_SECONDS, f'worker process {self.pid}')
        with contextlib.suppress(IndexError, ValueError):  # its tasks are done; it has ended
            if self.tasks[0] is task:
                self.end_for(task)
        return text

    def end_for(self, task: ProcessTask) -> None:
        """End the process because of a job that it runs; this does not count as a loss."""
        self.given_up = task
        self.process.kill()

    def ask_for_stacks(self) -> None:
        """Ask the worker, which must be ready, where its threads are."""
        with contextlib.suppress(OSError, ValueError):  # it has ended
            self._read_stacks(0.0)  # what came too late for an earlier question
            # If it has ended, another process may have its number.
            if STACKS_SIGNAL is not None and not wait([self.process.sentinel], 0):
                os.kill(self.pid, STACKS_SIGNAL)

    def answer(self, seconds: float, name: str) -> str:
        """Say where the worker of this name is, by what it answers within so many seconds."""
        if STACKS_SIGNAL is None:
            return f'{name} cannot be asked for its stacks on this system'
        stacks = self._read_stacks(seconds)
        return f'{name} was at:\n{stacks}' if stacks else f'{name} did not answer; its state is {_state(self.pid)}'

    def _read_stacks(self, seconds: float) -> str:
        """Read what the worker has written of its stacks; wait for the first of it."""
        text = b''
        with contextlib.suppress(OSError, EOFError):  # it has ended, or another thread was faster
            while self.stacks.poll(seconds if not text else 0.05):
                text += os.read(self.stacks.fileno(), 2**16)
        return text.decode(errors='replace')

    def orphan(self) -> bool:
        """Note, and return, whether it only seems to have ended, since the server that started it has ended."""
        self.orphaned = self.served and not self.mute
        return self.orphaned

    def exit_cause(self) -> str:
        """Say how the process has ended."""
        return 'the server that had started it ended' if self.orphaned else _cause(self.process.exitcode)

    def discard(self) -> None:
        """Let go of a process that has ended."""
        self.conn.close()
        # Not `stacks`: a user's thread may be reading from it.
        self.process.close()


def stacks_of(workers: Sequence[WorkerHandle]) -> str:
    """Say where workers are; those that do not answer soon keep nobody waiting, however many they are."""
    jobs = [next(iter(tuple(worker.tasks)), None) for worker in workers]
    # A worker that has just begun would be ended by the signal.
    for worker in (worker for worker, task in zip(workers, jobs) if task is not None):
        worker.ask_for_stacks()
    end, texts = time.monotonic() + ANSWER_SECONDS, []
    for worker, task in zip(workers, jobs):
        name = f'worker process {worker.pid}'
        if task is None:
            texts.append(f'{name} {"had nothing to do" if worker.ready else "was starting"}')
        else:
            texts.append(worker.answer(max(0.0, end - time.monotonic()), f'{name}, at {task.job.describe()},'))
    return '\n'.join(texts)


class FailedStart(Exception):  # noqa: N818 - it is told as a warning, or as another error
    """A worker could not be started.

    Attributes
    ----------
    code : int, optional
        The exit code of what was to start it.
    """

    def __init__(self, message: str, code: int | None) -> None:
        super().__init__(message)
        self.code = code


def _cause(code: int | None) -> str:
    """Say how a process has ended."""
    if code is None or code >= 0:
        return f'exit code {code}'
    try:
        return f'signal {-code}, {signal.Signals(-code).name}'
    except ValueError:
        return f'signal {-code}'


def _state(pid: int) -> str:
    """Return the state of a process, where the system tells it."""
    with contextlib.suppress(OSError), open(f'/proc/{pid}/status') as lines:
        return next((line.partition(':')[2].strip() for line in lines if line.startswith('State:')), 'unknown')
    return 'unknown'


def start_worker(context: Any, threads: int | None, inherited: Sequence[Any]) -> WorkerHandle:
    """Start a worker process.

    Parameters
    ----------
    context : multiprocessing context
        How it is started.
    threads : int or None
        The number of threads that numerical libraries may use; `None` for no limit.
    inherited : sequence of connections and sockets
        The pool's ends, which a forked process has to close.
    """
    conn, workers_conn = context.Pipe(duplex=True)
    stacks, workers_stacks = context.Pipe(duplex=False)
    for end in (stacks, workers_stacks):
        # Nobody waits for room, or for what another thread has read: a worker is stopped while it writes its stacks.
        os.set_blocking(end.fileno(), False)
    method = context.get_start_method()
    arguments = (workers_conn, workers_stacks, [conn, stacks, *inherited] if method == 'fork' else [], threads)
    process = context.Process(target=main, args=arguments, name='batchup-worker', daemon=True)
    try:
        _start_helpers(method)
        with held_interrupts(), _no_false_script():
            process.start()
    except (EOFError, OSError) as error:
        code = _server_exit_code() if method == 'forkserver' else None
        if code is None:
            raise FailedStart(f'{type(error).__name__}: {error}', None) from error
        # It has imported the script, and ended there; or it was killed.
        raise FailedStart(f'the server that starts them ended by {_cause(code)}', code) from error
    workers_conn.close()
    workers_stacks.close()
    return WorkerHandle(process, process.pid, conn, stacks, served=method == 'forkserver')


def _server_exit_code() -> int | None:
    """Return the exit code of the server that forks workers; `None` if it is not known to have ended."""
    server: Any = getattr(forkserver, '_forkserver', None)
    pid: Any = getattr(server, '_forkserver_pid', None)
    with contextlib.suppress(OSError, AttributeError, TypeError):
        # WNOWAIT: whoever starts another server waits for this one, too. It may be about to end.
        for _ in range(20):
            ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is not None:
                return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status
            time.sleep(0.01)
    return None


def _start_helpers(method: str) -> None:
    """Start multiprocessing's own processes now: while Ctrl-C is held back, they would inherit that, and undo it."""
    if method != 'fork':
        resource_tracker.ensure_running()
    if method == 'forkserver':
        forkserver.ensure_running()


@contextlib.contextmanager
def held_interrupts() -> Iterator[None]:
    """Hold Ctrl-C back while processes are started, until they ignore it themselves."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    try:
        # It raises an interrupt that came just before.
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _no_false_script() -> Iterator[None]:
    """Keep processes that are started from looking for a script that was read from standard input."""
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
