"""What a stream needs of a pool: a channel for its jobs, and the tasks that they become."""

from __future__ import annotations

import abc
import math
import threading
from collections import deque
from dataclasses import dataclass
from typing import Any

from ..errors import WorkerTimeoutError
from .failures import Failure
from .jobs import Fetch, Job, Result
from .waiting import Flag, Watch, wait_in_slices

# How many groups of small batches are under way for each worker: one that it makes, one that it
# makes next. Larger: more memory, which leaves the processor's caches.
TURNS = 2


class Task(abc.ABC):
    """A job that was handed over, to give its result later.

    Attributes
    ----------
    job : Job, optional
        What is to be run; `None` if it has been run.
    """

    job: Job | None

    @abc.abstractmethod
    def result(self, timeout: float | None, watch: Watch | None = None) -> Result:
        """Wait for the result, for `timeout` seconds at most; it may be an error of the job. May be called again.

        `watch` is told if that takes long.

        Raises
        ------
        WorkerPoolError
            If there is no result: workers were lost, or did not answer in time.
        StreamClosed
            If the stream is closed meanwhile.
        """

    @abc.abstractmethod
    def withdraw(self) -> bool:
        """Take the job back, unless a worker has begun with it; return whether it is now back. Never waits."""

    def await_workers(self) -> None:  # noqa: B027 - most pools have workers at once
        """Wait until there is a worker, or the task is over."""

    def stacks(self) -> str:
        """Say what the workers are doing, with their stacks where these are known."""
        return ''

    def is_done(self) -> bool | None:
        """Say whether the job is done; `None` if that cannot be known without waiting."""
        return None


class DoneTask(Task):
    """A task whose result is there: the caller has made it, or it is an error."""

    job = None

    def __init__(self, result: Result) -> None:
        self._result = result

    @classmethod
    def failed(cls, error: Exception) -> DoneTask:
        """Make a task whose result is an error."""
        return cls(Result([], Failure(error)))

    def result(self, timeout: float | None, watch: Watch | None = None) -> Result:
        return self._result

    def withdraw(self) -> bool:
        return False

    def is_done(self) -> bool:
        return True


class QueuedTask(Task):
    """A task that waits in this process for a worker.

    Neither it nor its channel refers to the pool: when that is forgotten, it ends, with tasks under way or not.

    Attributes
    ----------
    done : Flag
        Whether there is an outcome.
    outcome : object
        What came of the job, as the worker gave it.
    """

    job: Job

    def __init__(self, job: Job, channel: Channel) -> None:
        self.job = job
        self.channel = channel
        self.done = Flag()
        self.outcome: Any = None
        self._open = threading.Lock()

    def claim(self) -> bool:
        """Take the job, to run it, hand it on, or drop it; return whether nobody else had taken it."""
        return self._open.acquire(blocking=False)

    def withdraw(self) -> bool:
        return self.claim()

    def is_done(self) -> bool:
        return self.done.up

    def settle(self, outcome: Any) -> None:
        """Keep the outcome, and wake the thread that waits for it."""
        self.outcome = outcome
        self.done.raise_()

    def await_workers(self) -> None:
        wait_in_slices(lambda seconds: self._is_over(seconds) or not self.channel.starting, None, self.channel)

    def result(self, timeout: float | None, watch: Watch | None = None) -> Result:
        if not self.done.up and not wait_in_slices(self._is_over, timeout, self.channel, watch):
            raise WorkerTimeoutError(f'no result within {timeout} seconds (timeout); {self._give_up()}')
        return self._arrived()

    @abc.abstractmethod
    def _is_over(self, seconds: float) -> bool:
        """Wait for so many seconds at most; return whether there is an outcome, or there will never be one."""

    @abc.abstractmethod
    def _arrived(self) -> Result:
        """Return the result, or raise the error that says why there will be none."""

    @abc.abstractmethod
    def _give_up(self) -> str:
        """Stop a job that takes too long, if that is possible; say where it was."""


class UnderWay(deque[Any]):
    """The tasks of a stream, in order, which are withdrawn when the stream has gone; any with a method `withdraw`."""

    def withdraw(self) -> None:
        """Let go of all tasks, and take back those that no worker has begun with."""
        while self:
            self.popleft().withdraw()

    __del__ = withdraw


@dataclass
class Use:
    """The use of a channel by one stream.

    Attributes
    ----------
    over : bool
        Whether the stream was closed: a thread that waits for a result gets `StreamClosed` soon.
    """

    over: bool = False


class Channel(abc.ABC):
    """The way of jobs to the workers, for one stream at a time.

    Attributes
    ----------
    batch_seconds : float, optional
        How long it takes to make a batch, as last measured.
    use : Use
        The use by its latest stream.
    apart : bool
        Whether workers share no memory with the user's process: each reads for itself what its jobs need.
    least_batches : int
        How many batches a job fetches at least, where that saves reading.
    """

    batch_seconds: float | None = None
    use: Use = Use()
    apart: bool = True
    least_batches: int = 1

    def begin(self) -> None:  # noqa: B027 - most channels keep no account of streams
        """Note that a stream begins to submit jobs."""

    @abc.abstractmethod
    def submit(self, job: Job) -> Task:
        """Hand over a job."""

    @property
    def starting(self) -> bool:
        """Whether no worker takes jobs yet."""
        return False

    @property
    def measured(self) -> bool:
        """Whether it is known how much memory a result needs. If not, `measure` is to be called with the first one."""
        return True

    def measure(self, job: Fetch, result: Result) -> None:  # noqa: B027 - most results need no memory of the channel
        """Learn from a first result how much memory the others need."""

    def most_batches(self) -> float:
        """Return how many batches one job should fetch at most."""
        return math.inf

    def most_jobs(self) -> float:
        """Return how many jobs there is memory for, at a time."""
        return math.inf
