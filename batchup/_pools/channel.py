"""What streams need of a pool: a way for jobs to the workers, and for results back."""

from __future__ import annotations

import _thread
import abc
import math
import threading
import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from .._streams.turns import StreamClosed
from .jobs import Job, Result, SharedConstant

# How long to wait at a time. Larger: a lost Ctrl-C, or the end of a stream, is noticed later.
# Smaller: more waking up.
SLICE_SECONDS = 0.5

Pending = TypeVar('Pending')


class Channel(abc.ABC, Generic[Pending]):
    """The way of jobs to the workers, and of their results back, for one stream.

    Attributes
    ----------
    batch_seconds : float, optional
        How long it takes to make a batch, as last measured.
    abandoned : bool
        Whether the stream was closed: `receive` ends soon with `StreamClosed`.
    """

    batch_seconds: float | None = None
    abandoned: bool = False

    @abc.abstractmethod
    def submit(self, job: Job) -> Pending:
        """Hand over a job."""

    @abc.abstractmethod
    def receive(self, pending: Pending) -> Result:
        """Wait for the result of a job; what a worker raised is in it.

        Raises
        ------
        WorkerPoolError
            If there is none: workers were lost, or did not answer in time.
        """

    @abc.abstractmethod
    def withdraw(self, pending: Pending) -> bool:
        """Take a job back, if no worker was given it; return whether that was so."""

    @property
    def starting(self) -> bool:
        """Whether there is no worker yet."""
        return False

    def most_batches(self) -> float:
        """Return how many batches one job should fetch at most."""
        return math.inf

    def most_jobs(self) -> float:
        """Return how many jobs there is memory for, at a time."""
        return math.inf


class Backend(abc.ABC):
    """Workers, as streams use them.

    Attributes
    ----------
    processes : int
        The number of workers.
    """

    processes: int

    @abc.abstractmethod
    def _share(self, value: Any) -> SharedConstant:
        """Prepare a value for the workers."""

    @abc.abstractmethod
    def _open_channel(self, slots: int) -> Channel[Any]:
        """Open a way for jobs to the workers; so many results may wait at a time."""

    # How long a task should be, in seconds: small batches are fetched in groups. Larger: less
    # work to hand over tasks. Smaller: results arrive sooner.
    _task_seconds = 1e-3

    def _least_bytes(self) -> int:
        """Return how large batches must be for workers to make them, if they are plain copies of memory.

        To take over smaller ones costs the caller more than to make them.
        """
        return 0

    @abc.abstractmethod
    def _check_open(self) -> None:
        """Raise an error if the pool is closed, or belongs to another process."""

    @abc.abstractmethod
    def _check_process(self) -> None:
        """Raise an error in a process that was forked from that of the pool."""

    def _warn(self) -> None:  # noqa: B027 - most pools have nothing to say
        """Warn of what has happened in the background."""


class Flag:
    """Something that happens once, and that others wait for.

    Whole wherever an interrupt comes. Events, conditions and futures have a lock that an
    interrupted thread may keep, so that nobody can say any more that it has happened.

    Attributes
    ----------
    up : bool
        Whether it has happened.
    """

    __slots__ = ('_sleep', 'up')

    def __init__(self) -> None:
        self.up = False
        # To acquire it is to sleep; that it was acquired says nothing.
        self._sleep = threading.Lock()
        self._sleep.acquire()

    def raise_(self) -> None:
        """Say that it has happened; for one thread only, which is not interrupted."""
        if not self.up:
            self.up = True
            self._sleep.release()

    def wait(self, seconds: float) -> bool:
        """Wait until it has happened, but not longer than this, and maybe less; return whether it has."""
        if not self.up and self._sleep.acquire(timeout=seconds):
            self._sleep.release()  # for the next one who waits
        return self.up


def start_thread(run: Callable[[], None], name: str) -> threading.Thread:
    """Start a thread that does not keep the interpreter from ending.

    An interrupt does not keep it from starting: `Thread.start` waits for an event, so it is
    called where no interrupt comes.
    """
    thread = threading.Thread(target=run, name=name, daemon=True)
    started, errors = Flag(), list[Exception]()

    def start() -> None:
        try:
            thread.start()
        except Exception as error:  # there may be no more threads
            errors.append(error)
        started.raise_()

    _thread.start_new_thread(start, ())
    wait_in_slices(started.wait, None)
    for error in errors:
        raise error
    return thread


def wait_in_slices(
    finished: Callable[[float], bool], timeout: float | None, channel: Channel[Any] | None = None
) -> bool:
    """Wait for a while at a time: Python may lose a Ctrl-C that comes as a long wait begins.

    Parameters
    ----------
    finished : callable
        `finished(seconds)` waits that long, and returns whether it need not wait any more.
    timeout : float, optional
        How long to wait in all, in seconds.
    channel : Channel, optional
        The wait ends with `StreamClosed` once it is abandoned.

    Returns
    -------
    bool
        Whether it was finished in time.
    """
    end = math.inf if timeout is None else time.monotonic() + timeout
    while not finished(max(0.0, min(SLICE_SECONDS, end - time.monotonic()))):
        if channel is not None and channel.abandoned:
            raise StreamClosed
        if time.monotonic() >= end:
            return False
    return True
