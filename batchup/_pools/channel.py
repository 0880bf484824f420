"""What streams need of a pool: a way for jobs to the workers, and for results back."""

from __future__ import annotations

import abc
import math
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any, Generic, TypeVar

from ..errors import WorkerTimeoutError
from .jobs import Job, Result, SharedConstant

Pending = TypeVar('Pending')


class Channel(abc.ABC, Generic[Pending]):
    """The way of jobs to the workers, and of their results back, for one stream.

    Attributes
    ----------
    batch_seconds : float, optional
        How long it takes to make a batch, as last measured.
    """

    batch_seconds: float | None = None

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

    @abc.abstractmethod
    def _check_open(self) -> None:
        """Raise an error if the pool is closed."""

    def _warn(self) -> None:  # noqa: B027 - most pools have nothing to say
        """Warn of what has happened in the background."""


def wait_for(future: Future[Any], timeout: float | None, where: Callable[[], str]) -> Any:
    """Wait for the result of a future; the error if it takes too long says where the worker is."""
    try:
        return future.result(timeout)
    except FutureTimeoutError as error:
        if future.done():
            raise
        raise WorkerTimeoutError(f'no result within {timeout} seconds (timeout); {where()}') from error
