"""Worker processes, as their pool sees them."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.reduction import send_handle
from typing import Any

from ..errors import WorkerPoolError
from .memory import Segment
from .tasks import Task
from .worker import STACKS_SIGNAL, main

# The exit code of a worker that was about to start a pool itself, since a script has no guard.
MISSING_GUARD = 83

GUARD_ADVICE = (
    'the script starts a pool when it is imported, as a worker process does: put its main part '
    "below `if __name__ == '__main__':`"
)


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

    def give(self, task: Task) -> None:
        """Send a job, after what it needs."""
        self.tasks.append(task)
        for shipment in task.shipments:
            segment = shipment.segment
            self._share(segment, ('constant', segment.id, segment.size, shipment.spans))
        if task.slot is not None:
            segment = task.slot.segment
            self._share(segment, ('slots', segment.id, segment.size))
        self.send(task.message())

    def forget(self, number: int) -> None:
        """Have the worker let go of a segment, if it maps it."""
        if number in self.known:
            self.known.remove(number)
            self.send(('forget', number))

    def _share(self, segment: Segment, message: tuple[Any, ...]) -> None:
        """Let the worker map a segment, if it has not done so."""
        if segment.id not in self.known and self.send(message):
            self.known.add(segment.id)
            try:
                send_handle(self.conn, segment.fd, self.process.pid)
            except OSError:
                self.gone = True

    def send(self, message: tuple[Any, ...] | None) -> bool:
        """Send a message; return whether the worker can be reached. If not, its end is noticed soon."""
        try:
            self.conn.send(message)
        except OSError:
            self.gone = True
        return not self.gone

    def stack_dump(self) -> str:
        """Ask the worker where its threads are."""
        if STACKS_SIGNAL is None or self.process.pid is None:
            return '(stacks are not available on this system)'
        os.kill(self.process.pid, STACKS_SIGNAL)
        text = b''
        while self.stacks.poll(0.5 if not text else 0.05):
            text += os.read(self.stacks.fileno(), 2**16)
        return text.decode(errors='replace')

    def exit_cause(self) -> str:
        """Say how the process has ended."""
        code = self.process.exitcode
        if code is None or code >= 0:
            return f'exit code {code}'
        try:
            return f'signal {-code}, {signal.Signals(-code).name}'
        except ValueError:
            return f'signal {-code}'

    def discard(self) -> None:
        """Let go of a process that has ended."""
        self.conn.close()
        self.stacks.close()
        self.process.close()


def start_worker(context: Any, threads: int | None, inherited: Sequence[Connection]) -> WorkerHandle:
    """Start a worker process.

    Parameters
    ----------
    context : multiprocessing context
        How it is started.
    threads : int or None
        The number of threads that numerical libraries may use; `None` for no limit.
    inherited : sequence of connections
        The pool's ends of connections, which a forked process has to close.
    """
    conn, workers_conn = context.Pipe(duplex=True)
    stacks, workers_stacks = context.Pipe(duplex=False)
    forks = context.get_start_method() == 'fork'
    arguments = (workers_conn, workers_stacks, [conn, stacks, *inherited] if forks else [], threads)
    process = context.Process(target=main, args=arguments, name='batchup-worker', daemon=True)
    try:
        _start_helpers(context.get_start_method())
        with _held_interrupts(), _no_false_script():
            process.start()
    except (EOFError, ConnectionError) as error:
        # The server that forks workers has imported the script, and ended there.
        raise WorkerPoolError(f'worker processes cannot start; a likely cause: {GUARD_ADVICE}') from error
    workers_conn.close()
    workers_stacks.close()
    return WorkerHandle(process, conn, stacks)


def _start_helpers(method: str) -> None:
    """Start multiprocessing's own processes, which must not begin, or end, what holds Ctrl-C back."""
    if method != 'fork':
        resource_tracker.ensure_running()
    if method == 'forkserver':
        forkserver.ensure_running()


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
