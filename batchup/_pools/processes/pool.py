"""Workers that are processes, on this machine."""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import sys
import weakref
from functools import partial
from typing import Any, NoReturn

import numpy as np

from ..._ground.arguments import check_keywords, check_non_negative
from ..._ground.batch import leaves
from ..._ground.messages import warn_user
from ..._sources.base import AbstractDataSource
from ...errors import WorkerPoolError
from ..channel import TURNS, Channel
from ..importing import Imports, lacks_guard
from ..jobs import Fetch, Job, Result, SharedConstant, batches_of
from ..memory import ALIGNMENT, NoRoomError, Ring, Slot, warn_once
from ..packing import Packed
from ..pool import WorkerPool
from ..shipping import Shipment
from ..watchdog import WARN_SECONDS
from .handles import GUARD_ADVICE, MISSING_GUARD
from .supervisor import Supervisor
from .tasks import ProcessTask

# How many results a user may hold on to, in slots of their own. Larger: more memory. Smaller:
# users who keep batches get copies of them.
KEPT_SLOTS = 4

# How much larger a slot is than the first batch. Larger: more memory. Smaller: batches that
# grow a little go through a pipe, which takes longer, until there are larger slots.
SLACK = 1.125

# Processes make batches that are plain copies of memory from this size on, the caller smaller ones.
# Larger: processes help less often. Smaller: to receive a batch takes the caller longer than to make it.
LEAST_BYTES = 2**20

# The size of a slot for small batches, several of which are fetched at once.
GROUP_BYTES = 2**22


# The keywords of a `WorkerProcessPool`.
KEYWORDS = ('processes', 'start_method', 'threads_per_worker', 'max_restarts', 'timeout', 'warn_after')


class WorkerProcessPool(WorkerPool):
    """Workers that are processes on this machine.

    Batches come through shared memory: a worker writes them where the user's process reads
    them. Arrays of a source are copied into shared memory once, when `parallel_data_source`
    is called (later changes of them are not seen by the workers); files mapped by
    `numpy.memmap` are mapped again by each worker.

    Parameters
    ----------
    processes : int
        The number of processes.
    start_method : 'fork', 'forkserver' or 'spawn', optional
        How they are started; by default 'spawn', which is safe everywhere. It imports the
        script, as 'forkserver' does: it needs `if __name__ == '__main__':`.
    threads_per_worker : int or None
        How many threads BLAS and OpenMP may use in each; `None` for no limit.
    max_restarts : int
        How many workers one batch may lose, by a crash or for lack of memory, before the
        stream raises `WorkerLostError`.
    timeout : float, optional
        How long a result may take, in seconds, once the user waits for it.
    warn_after : float or None
        How long a stream waits for a batch, in seconds, before it warns, once, and says where the
        workers are; `None` for no warning.
    """

    _kind = 'processes'
    # Handing over a task takes longer than between threads.
    _task_seconds = 2e-3

    def __init__(
        self,
        processes: int = 1,
        *,
        start_method: str | None = None,
        threads_per_worker: int | None = 1,
        max_restarts: int = 3,
        timeout: float | None = None,
        warn_after: float | None = WARN_SECONDS,
        **unknown: NoReturn,
    ) -> None:
        check_keywords(type(self).__name__, unknown, KEYWORDS)
        super().__init__(processes, timeout, warn_after)
        if getattr(multiprocessing.current_process(), '_inheriting', False):
            # This is a worker that imports a script without a guard: the pool that started it raises an error.
            os._exit(MISSING_GUARD)
        if threads_per_worker is not None and check_non_negative('threads_per_worker', threads_per_worker) == 0:
            raise ValueError('threads_per_worker must be at least 1, or None for no limit, got 0')
        method = 'spawn' if start_method is None else start_method
        context = _context(method)
        if method != 'fork' and lacks_guard():
            raise WorkerPoolError(f'worker processes cannot start: {GUARD_ADVICE}')
        restarts = check_non_negative('max_restarts', max_restarts)
        self._supervisor = Supervisor(self.processes, context, threads_per_worker, restarts)
        self._shipments: weakref.WeakKeyDictionary[Any, Shipment] = weakref.WeakKeyDictionary()
        self._imports = Imports(method)
        _pools.add(self)
        # Before it starts, what ends it is set: an interrupt may come at any time.
        self._close_with(partial(_end, self._supervisor))
        self._supervisor.start()

    def _least_bytes(self) -> int:
        return LEAST_BYTES

    def _share(self, value: Any) -> SharedConstant:
        constant = SharedConstant(value)
        constant.shipment = self._ship(value)
        return constant

    def _ship(self, value: Any) -> Shipment:
        """Put a value into shared memory, unless it is a source that is there already, and unchanged."""
        is_source = isinstance(value, AbstractDataSource)
        shipment = self._shipments.get(value) if is_source else None
        if shipment is None or not shipment.fits(value):
            shipment = Shipment(value, self._imports.reduce)
            self._supervisor.forget_with(shipment, shipment.segment)
            if is_source:
                self._shipments[value] = shipment
        return shipment

    def _open_channel(self, slots: int) -> Channel:
        return ProcessChannel(self._supervisor, slots)

    def _warn(self) -> None:
        _warn_of(self._supervisor)


_pools: weakref.WeakSet[WorkerProcessPool] = weakref.WeakSet()


def _disown() -> None:
    """In a forked process, forget the workers of its parent: multiprocessing would end them as its own."""
    for pool in list(_pools):
        for worker in pool._supervisor._workers:
            multiprocessing.process._children.discard(worker.process)  # type: ignore[attr-defined]


if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=_disown)


def _end(supervisor: Supervisor) -> None:
    supervisor.close()
    _warn_of(supervisor)


def _warn_of(supervisor: Supervisor) -> None:
    """Warn of what has happened in the background."""
    with contextlib.suppress(IndexError):  # there are none, or another thread was faster
        while True:
            warn_user(supervisor.warnings.popleft())


def _context(start_method: str) -> Any:
    known = multiprocessing.get_all_start_methods()
    if sys.platform == 'win32':
        raise NotImplementedError(
            'worker processes need files that can be sent through sockets, which Windows lacks; use a '
            'WorkerThreadPool, or a WorkerExecutorPool over a concurrent.futures.ProcessPoolExecutor'
        )
    if start_method not in known:
        raise ValueError(f'start_method must be one of {", ".join(known)}, got {start_method!r}')
    return multiprocessing.get_context(start_method)


class ProcessChannel(Channel):
    """Jobs go through pipes, arrays through slots of shared memory.

    Parameters
    ----------
    slots : int
        How many results may wait at a time.
    """

    def __init__(self, supervisor: Supervisor, slots: int) -> None:
        self.supervisor = supervisor
        self._slots = slots
        # `None` if there is no room for a ring, or no batch was made yet.
        self._ring: Ring | None = None
        self._batch_bytes: int | None = None

    def submit(self, job: Job) -> ProcessTask:
        task = ProcessTask(job, self, None if self._ring is None else self._ring.take())
        self.supervisor.submit(task)
        return task

    @property
    def starting(self) -> bool:
        return self.supervisor.starting

    @property
    def measured(self) -> bool:
        return self._batch_bytes is not None

    def measure(self, job: Fetch, result: Result) -> None:
        self._batch_bytes = max((_nbytes(batch) for batch in batches_of(result.value)), default=0)
        indices = sum(_nbytes(request.indices) for request in job.requests)
        self._make_ring(max(GROUP_BYTES, self.least_batches * (self._batch_bytes + indices)))

    def _make_ring(self, nbytes: int) -> None:
        least, supervisor = self.supervisor.count + KEPT_SLOTS, self.supervisor
        try:
            self._ring = Ring(
                (self._slots if self.least_batches == 1 else TURNS * supervisor.count) + KEPT_SLOTS,
                int(nbytes * SLACK),
                least,
                lambda segment: supervisor.forget_with(segment, segment),
            )
        except NoRoomError as error:
            warn_once('memory', f'memory is short: batches come through pipes, which takes longer ({error})')
            self._ring = None

    def most_batches(self) -> float:
        if self._ring is None or self._batch_bytes is None:
            return 1
        return max(1, int(self._ring.slot_bytes / SLACK) // max(1, self._batch_bytes))

    def most_jobs(self) -> float:
        if self._ring is None:
            # Until a size is known, as where the first batch is a worker's, results come through pipes.
            return self.supervisor.count * (TURNS if self._batch_bytes is None else 1)
        return max(self.supervisor.count, self._ring.slots - KEPT_SLOTS) if self._ring.is_short else math.inf

    def unpack(self, packed: Packed, slot: Slot | None) -> Result:
        """Return the result that a worker has put into a slot."""
        if slot is None:
            return packed.unpack(b'')  # type: ignore[no-any-return]
        self._learn(packed, slot)
        if self._ring is not None and self._ring.has_free:
            return packed.unpack(slot.memory)  # type: ignore[no-any-return]
        # The user keeps batches: the slot is needed for the next one.
        return packed.unpack_copy(slot.memory)  # type: ignore[no-any-return]

    def _learn(self, packed: Packed, slot: Slot) -> None:
        """Make larger slots if this one was too small."""
        nbytes = memoryview(slot.memory).nbytes
        if packed.missing and self._ring is not None and self._ring.segment is slot.segment:
            self._make_ring(nbytes + packed.missing + ALIGNMENT * (len(packed.spans) + 1))


def _nbytes(tree: Any) -> int:
    """Return the bytes that the arrays of a batch, or of indices, take in a slot."""
    return sum(leaf.nbytes + ALIGNMENT for leaf in leaves(tree) if isinstance(leaf, np.ndarray))
