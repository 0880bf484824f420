"""Workers of an executor: of `concurrent.futures`, or of a cluster."""

from __future__ import annotations

import itertools
import mmap
import multiprocessing
import os
import pickle
import random
import threading
import uuid
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import TimeoutError as FutureTimeoutError
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from .._ground.arguments import check_non_negative
from .._ground.messages import installed_by, warn_user
from .._sources.base import AbstractDataSource
from .._streams.turns import StreamClosed
from ..errors import WorkerLostError, WorkerPoolError, WorkerTimeoutError
from .channel import Channel, Task
from .jobs import Job, Result, SharedConstant
from .memory import Segment, Span, machine
from .packing import unpack_whole
from .pickling import Sealed
from .pool import WorkerPool
from .shipping import Shipment
from .waiting import Flag, wait_in_slices

# How many values a worker keeps for jobs to come. Larger: more memory. Smaller: sources that are
# used in turns may be sent again.
KEPT_VALUES = 8

# These errors are about the job itself, which may not pickle: another try would not help.
_FOR_GOOD = (TypeError, AttributeError, pickle.PicklingError)


class WorkerExecutorPool(WorkerPool):
    """Workers of an executor: anything with `submit(fn, *args)` whose result has `.result()`.

    Among these are the executors of `concurrent.futures`, `client.get_executor()` of a Dask
    client, and `RayExecutor`. The executor stays the user's: it is not shut down.

    A source is pickled once, and each worker keeps it: workers on this machine take it from
    shared memory, others are sent it.

    Parameters
    ----------
    executor : executor
        Runs the jobs.
    processes : int, optional
        The number of workers; by default what the executor says, or the number of processors.
    max_restarts : int
        How often a batch is submitted again after its worker was lost.
    timeout : float, optional
        How long a result may take, in seconds, once the user waits for it.
    """

    _kind = 'executor'
    # A cluster takes a millisecond or more for a task.
    _task_seconds = 1e-2

    def __init__(
        self, executor: Any, processes: int | None = None, *, max_restarts: int = 3, timeout: float | None = None
    ) -> None:
        if not callable(getattr(executor, 'submit', None)):
            raise TypeError(f'executor must have a method submit(fn, *args), got {type(executor).__name__}')
        if processes is None:
            processes = getattr(executor, '_max_workers', None) or os.cpu_count() or 1
        super().__init__(processes, timeout)
        self._executor = executor
        self._max_restarts = check_non_negative('max_restarts', max_restarts)
        self._close_with(lambda: None)
        self._parcels: weakref.WeakKeyDictionary[Any, _Parcel] = weakref.WeakKeyDictionary()

    def _share(self, value: Any) -> SharedConstant:
        parcel = self._parcels.get(value) if isinstance(value, AbstractDataSource) else None
        if parcel is None or not parcel.fits(value):
            parcel = _Parcel()
            if isinstance(value, AbstractDataSource):
                self._parcels[value] = parcel
        return CarriedConstant(value, parcel)

    def _open_channel(self, slots: int) -> Channel:
        return _ExecutorChannel(self, self._executor, self._max_restarts)


class _Parcel:
    """A value on its way to other processes: pickled when it first goes to one, and once only.

    Attributes
    ----------
    key : str
        Names the value in all workers.
    """

    def __init__(self) -> None:
        self.key = uuid.uuid4().hex
        self._lock = threading.Lock()
        self._shipment: Shipment | None = None
        self._blob: Any = None

    def fits(self, value: Any) -> bool:
        """Say whether a value is as it was when it was pickled, or was not pickled yet."""
        return self._shipment is None or self._shipment.fits(value)

    def shipment(self, value: Any) -> Shipment:
        """Return the pickled value."""
        with self._lock:
            if self._shipment is None:
                self._shipment = Shipment(value)
            return self._shipment

    def blob(self, value: Any, share: Callable[[Any], Any] | None) -> Any:
        """Return the pickled value for workers that have no access to the memory of this machine."""
        if self._blob is None:
            blob = np.frombuffer(self.shipment(value).segment.view, np.uint8)
            self._blob = blob if share is None else share(blob)
        return self._blob


class CarriedConstant(SharedConstant):
    """A constant that stays what it is in this process, and becomes an `ArrivedConstant` in others."""

    def __init__(self, value: Any, parcel: _Parcel) -> None:
        super().__init__(value)
        self.parcel = parcel
        self.key = parcel.key

    def __reduce__(self) -> tuple[Any, ...]:
        shipment = self.parcel.shipment(self.value)
        return ArrivedConstant, (self.key, _place(shipment.segment), shipment.spans)


class _Carried(NamedTuple):
    """The key of a value that is sent along with a job, and where its parts are."""

    key: str
    spans: list[Span]


class ArrivedConstant(SharedConstant):
    """A constant in a worker, which may have the value, find it in shared memory, or lack it."""

    def __init__(self, key: str, place: tuple[Any, ...] | None, spans: list[Span]) -> None:
        self.key = key
        self._place = place
        self._spans = spans

    def __reduce__(self) -> tuple[Any, ...]:
        return ArrivedConstant, (self.key, self._place, self._spans)

    @property
    def value(self) -> Any:
        """The value; raises `LookupError` if this worker has no way to it."""
        return _kept(self.key, partial(_from_place, self._place, self._spans))


_values: OrderedDict[str, Any] = OrderedDict()
_values_lock = threading.Lock()


def _kept(key: str, load: Callable[[], Any]) -> Any:
    """Return a value that this worker keeps; the first time, it is loaded."""
    with _values_lock:
        if key not in _values:
            _values[key] = load()
        _values.move_to_end(key)
        while len(_values) > KEPT_VALUES:
            _values.popitem(last=False)
        return _values[key]


def _place(segment: Segment) -> tuple[Any, ...] | None:
    """Return where other processes of this machine find a segment, if they can."""
    path = f'/proc/{os.getpid()}/fd/{segment.fd}'
    boot = machine()
    return None if boot is None else (boot, path, os.fstat(segment.fd).st_ino, segment.size)


def _from_place(place: tuple[Any, ...] | None, spans: list[Span]) -> Any:
    """Load a value from the memory of this machine."""
    if place is None or place[0] != machine():
        raise LookupError('the value is on another machine')
    _, path, inode, size = place
    try:
        with open(path, 'rb') as file:
            if os.fstat(file.fileno()).st_ino != inode:
                raise LookupError('the value has gone')
            return unpack_whole(mmap.mmap(file.fileno(), size, access=mmap.ACCESS_COPY), spans)
    except OSError as error:
        raise LookupError(str(error)) from error


class _Lacking(NamedTuple):
    """The answer of a worker that lacks a value."""

    key: str


_seeded: set[int] = set()


def _draw_apart() -> None:
    """Give this worker process random numbers of its own: forked ones begin with the same state."""
    if multiprocessing.parent_process() is not None and os.getpid() not in _seeded:
        _seeded.add(os.getpid())
        random.seed()
        np.random.seed()


def run_job(sealed: Sealed, name: str, carried: _Carried | None = None, blob: Any = None) -> Sealed | _Lacking:
    """Run a job in a worker; the name is for the executor, to tell equal jobs apart."""
    job: Job = sealed.value
    _draw_apart()
    if carried is not None:
        _kept(carried.key, lambda: unpack_whole(bytearray(blob), carried.spans))
    for constant in job.constants():
        try:
            constant.value  # noqa: B018
        except LookupError:
            return _Lacking(constant.key)  # type: ignore[attr-defined]
    return Sealed(job.run())


class _ExecutorChannel(Channel):
    def __init__(self, pool: WorkerPool, executor: Any, max_restarts: int) -> None:
        self.pool = pool
        self.executor = executor
        self.max_restarts = max_restarts
        # A part of the names of jobs: some executors would take equal jobs without names for one.
        self._name = uuid.uuid4().hex
        self._numbers = itertools.count()
        # Futures of tasks that were withdrawn.
        self.unwanted: deque[Any] = deque()

    def submit(self, job: Job) -> Task:
        self._cancel_unwanted()
        try:
            return _ExecutorTask(job, self)
        except _FOR_GOOD as error:
            raise _explained(job, error) from error

    def future_of(self, job: Job, *carried: Any) -> Any:
        """Submit a job to the executor."""
        return self.executor.submit(run_job, Sealed(job), f'{self._name}-{next(self._numbers)}', *carried)

    def _cancel_unwanted(self) -> None:
        while self.unwanted:
            cancel = getattr(self.unwanted.popleft(), 'cancel', None)
            if cancel is not None:
                cancel()


class _ExecutorTask(Task):
    """A task whose result is that of a future of the executor."""

    job: Job

    def __init__(self, job: Job, channel: _ExecutorChannel) -> None:
        self.job = job
        self._channel = channel
        self._losses = 0
        self._future = channel.future_of(job)

    def withdraw(self) -> bool:
        # Only notes it: this may run at any moment, also while the executor holds a lock.
        self._channel.unwanted.append(self._future)
        return False

    def result(self, timeout: float | None) -> Result:
        while True:
            try:
                result = self._wait(timeout)
            except _FOR_GOOD as error:
                raise _explained(self.job, error) from error
            except (WorkerTimeoutError, StreamClosed):
                raise
            except Exception as error:
                self._submit_again(error)
                continue
            if isinstance(result, Sealed):
                return result.value  # type: ignore[no-any-return]
            self._future = self._channel.future_of(self.job, *_carry(self.job, result.key, self._channel.executor))

    def _wait(self, timeout: float | None) -> Any:
        announce = getattr(self._future, 'add_done_callback', None)
        if announce is None:
            return self._wait_inside(timeout)
        # Not by `result` of the future: a thread interrupted there may keep a lock that the executor needs.
        done = Flag()
        announce(lambda _: done.raise_())
        if not wait_in_slices(done.wait, timeout, self._channel):
            raise _too_late(timeout)
        return self._future.result()

    def _wait_inside(self, timeout: float | None) -> Any:
        try:
            return self._future.result() if timeout is None else self._future.result(timeout)
        except (FutureTimeoutError, TimeoutError) as error:
            if timeout is None:
                raise
            raise _too_late(timeout) from error

    def _submit_again(self, error: Exception) -> None:
        """Hand over the job once more, since its worker was lost."""
        self._losses += 1
        what = f'{type(error).__name__}: {error}'
        if self._losses > self._channel.max_restarts:
            raise WorkerLostError(
                f'a job was lost {self._losses} times by the executor, the last time by {what}'
            ) from error
        self._channel.pool._check_open()
        try:
            self._future = self._channel.future_of(self.job)
        except Exception as broken:
            raise WorkerLostError(f'the executor lost a worker, and takes no more jobs: {broken}') from error
        warn_user(f'the executor lost a job ({what}); it is submitted again')


def _too_late(timeout: float | None) -> WorkerTimeoutError:
    return WorkerTimeoutError(f'no result within {timeout} seconds (timeout) from the executor')


def _explained(job: Job, error: Exception) -> Exception:
    """Return the error that names what in a job does not pickle; if there is none, the error that is given."""
    for constant in job.constants():
        if isinstance(constant, CarriedConstant):
            try:
                constant.parcel.shipment(constant.value)
            except TypeError as reason:
                return reason
    return error


def _carry(job: Job, key: str, executor: Any) -> tuple[_Carried, Any]:
    """Return a value that a worker lacks, to be sent along with the job."""
    constant = next(one for one in job.constants() if isinstance(one, CarriedConstant) and one.key == key)
    blob = constant.parcel.blob(constant.value, _sharing(executor))
    return _Carried(key, constant.parcel.shipment(constant.value).spans), blob


def _sharing(executor: Any) -> Callable[[Any], Any] | None:
    """Return the function by which an executor sends a value to each of its workers once; `None` if it has none."""
    share: Callable[[Any], Any] | None = getattr(executor, 'share', None)
    client: Any = getattr(executor, '_client', None)  # Dask
    if share is None and hasattr(client, 'scatter'):
        share = partial(client.scatter, broadcast=True)
    return share


class RayExecutor:
    """An executor over Ray, for `WorkerExecutorPool`; call `ray.init()` before.

    Parameters
    ----------
    **options
        Options of Ray's tasks, such as `num_cpus=1` or `max_retries=5`.
    """

    def __init__(self, **options: Any) -> None:
        try:
            import ray  # noqa: PLC0415
        except ImportError as error:
            raise ImportError(f'RayExecutor needs Ray: {installed_by("ray")}') from error
        if not ray.is_initialized():
            raise WorkerPoolError('Ray is not running; call ray.init() first')
        self._ray = ray
        self._remote = ray.remote(**options)(_call) if options else ray.remote(_call)

    def submit(self, fn: Callable[..., Any], *args: Any) -> _RayFuture:
        """Run a function in a Ray task."""
        return _RayFuture(self._ray, self._remote.remote(fn, *args))

    def share(self, value: Any) -> Any:
        """Put a value into Ray's object store, from which each node takes it once."""
        return self._ray.put(value)


def _call(fn: Callable[..., Any], *args: Any) -> Any:
    return fn(*args)


class _RayFuture:
    """The result of a Ray task.

    It has no `cancel`: Ray 2.60 may end the user's process if a task is cancelled as it completes.
    """

    def __init__(self, ray: Any, ref: Any) -> None:
        self._ray = ray
        self._ref = ref

    def result(self, timeout: float | None = None) -> Any:
        return self._ray.get(self._ref, timeout=timeout)
