"""What all pools have in common."""

from __future__ import annotations

import abc
import os
import weakref
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, NoReturn

import numpy as np

from .._ground.arguments import check_positive, is_integer
from .._ground.words import counted
from .._sources.base import AbstractDataSource
from ..errors import WorkerPoolError
from .channel import Channel
from .jobs import SharedConstant
from .parallel import ParallelDataSource
from .work_stream import WorkStream

# What a pool takes as `timeout` and `warn_after`.
Timeout = float | None


def check_seconds(name: str, seconds: Any) -> Timeout:
    """Check a time in seconds, a positive number and no boolean, and return it as a `float`; `None` is no limit."""
    if seconds is None:
        return None
    if not is_integer(seconds) and not isinstance(seconds, (float, np.floating)):
        raise TypeError(f'{name} must be a number of seconds or None, got {seconds!r} ({type(seconds).__name__})')
    if not seconds > 0:
        raise ValueError(f'{name} must be a positive number of seconds or None, got {seconds!r}')
    return float(seconds)


class WorkerPool(abc.ABC):
    """Base class of pools.

    A pool serves any number of streams, one after the other or at the same time. It ends by
    `close()`, at the end of a `with` block, or when nothing refers to it any more.

    Attributes
    ----------
    processes : int
        The number of workers.
    timeout : float or None
        How long a result may take, in seconds, once the user waits for it.
    warn_after : float or None
        How long a stream waits for a batch, in seconds, before it warns.
    """

    # How long a job should take, in seconds: small batches are fetched in groups. Larger: less
    # work to hand over jobs. Smaller: results arrive sooner.
    _task_seconds = 1e-3

    # What workers are: 'threads', 'processes', or those of an 'executor'.
    _kind: str

    def __init__(self, processes: int, timeout: float | None, warn_after: float | None) -> None:
        self.processes = check_positive('processes', processes)
        self.timeout = check_seconds('timeout', timeout)
        self.warn_after = check_seconds('warn_after', warn_after)
        self._pid = os.getpid()
        self._closed = False

    def _close_with(self, end: Callable[[], None]) -> None:
        """Set the function that ends the pool: at the latest, when it is forgotten or the interpreter ends.

        It may be called several times, since an interrupt may cut a call short.
        """
        self._end = end
        self._finalizer = weakref.finalize(self, end)

    def parallel_data_source(self, ds: AbstractDataSource, batch_buffer_size: int = 20) -> ParallelDataSource:
        """Return a source with the batches of `ds`, made by the workers of this pool.

        Parameters
        ----------
        ds : random-access data source
            Where the batches come from.
        batch_buffer_size : int
            How many batches may wait for the user.

        Raises
        ------
        TypeError
            If `ds` is no data source, or not random access; for worker processes, also if it
            cannot be sent to them. The message names what is at fault.
        """
        self._check_open()
        return ParallelDataSource(ds, self, batch_buffer_size)

    def work_stream(self, task_generator: Iterable[tuple[Any, ...]], task_buffer_size: int = 20) -> WorkStream:
        """Run functions in the workers, and get their results in order.

        Parameters
        ----------
        task_generator : iterable of tuples
            Tasks: `(fn,)`, `(fn, args)` or `(fn, args, kwargs)`.
        task_buffer_size : int
            How many tasks may be handed over before the result of the first is asked for.
        """
        self._check_open()
        return WorkStream(task_generator, self, task_buffer_size)

    def shared_constant(self, value: Any) -> SharedConstant:
        """Wrap a value that tasks take as an argument: it is sent to each worker once."""
        self._check_process()
        return self._share(value)

    @abc.abstractmethod
    def _share(self, value: Any) -> SharedConstant:
        """Prepare a value for the workers."""

    @abc.abstractmethod
    def _open_channel(self, slots: int) -> Channel:
        """Open a channel to the workers; up to `slots` results may wait at a time."""

    def _least_bytes(self) -> int:
        """Return how large batches must be for workers to make them, if they are plain copies of memory.

        To take over smaller ones costs the caller more than to make them.
        """
        return 0

    def _warn(self) -> None:  # noqa: B027 - most pools have nothing to say
        """Warn of what has happened in the background."""

    def _check_process(self) -> None:
        """Raise an error in a process that was forked from the one that made the pool."""
        if os.getpid() != self._pid:
            raise WorkerPoolError(
                f'this pool, with all that came from it, belongs to process {self._pid}, from which this one '
                f'({os.getpid()}) was forked: its workers cannot be shared; make a new pool here'
            )

    def _check_open(self) -> None:
        """Raise an error if the pool is closed, or belongs to another process."""
        self._check_process()
        if self._closed:
            raise WorkerPoolError('the pool is closed; make a new one')

    def close(self) -> None:
        """End the workers. Streams raise an error after the batches that are there already."""
        self._closed = True
        self._end()
        self._finalizer.detach()

    def __repr__(self) -> str:
        closed = ', closed' if self._closed else ''
        return f'<{type(self).__name__}: {counted(self.processes, "worker")}{closed}>'

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(
            f'a {type(self).__name__} cannot be copied or pickled, and neither can what refers to it: its workers are '
            'those of this process; copy or pickle the source that it reads, and make another pool'
        )

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
