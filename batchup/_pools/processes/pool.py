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
from ..memory import ALIGNMENT, NoRoomError, warn_once
from ..packing import Packed
from ..pool import WorkerPool
from ..rings import Ring, Slot
from ..shipping import Shipment
from ..watchdog import WARN_SECONDS
from .handles import GUARD_ADVICE, MISSING_GUARD
from .preparation import Preparation
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
LEAST_BYTES = 2**24

# Results from this size on are written to slots that workers have mapped beforehand. Larger: the first batches
# of workers take longer. Smaller: the caller makes batches that workers could make.
PREPARED_BYTES = 2**21

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

    A job gets its slot when a worker is about to get the job, and few results are made before the
    user asks for them: so few slots are ever used, and take memory.

    Parameters
    ----------
    slots : int
        How many results may wait at a time.

    Attributes
    ----------
    preparation : Preparation, optional
        What workers map before they get jobs.
    was_idle : bool
        Whether a worker had nothing to do, as the user had not asked for results.
    """

    def __init__(self, supervisor: Supervisor, slots: int) -> None:
        self.supervisor = supervisor
        self._slots = slots
        # `None` if there is no room for a ring, or no batch was made yet.
        self._ring: Ring | None = None
        self._batch_bytes: int | None = None
        self.preparation: Preparation | None = None
        self.was_idle = False
        # How often the stream had to wait after a worker was idle.
        self._waits = 0
        # How many results may be under way or wait.
        self._depth = min(slots, TURNS * supervisor.count)

    def begin(self) -> None:
        self._waits = 0
        self.was_idle = False

    def submit(self, job: Job) -> ProcessTask:
        task = ProcessTask(job, self)
        self.supervisor.submit(task)
        return task

    @property
    def has_slots(self) -> bool:
        """Whether there are slots for results."""
        return self._ring is not None

    @property
    def is_full(self) -> bool:
        """Whether no more results are to be made until the user takes one."""
        return self._ring is not None and self._ring.waiting >= self._depth

    def take_slot(self, writer: int) -> Slot | None:
        """Return a free slot, if there is one, for a worker to write to. The supervisor's thread alone calls this."""
        try:
            return None if self._ring is None else self._ring.take(writer)
        except NoRoomError:  # for other slots, after a fork
            return None

    def lose(self, slot: Slot) -> None:
        """Never use a slot again: a worker's own code goes on writing to it."""
        if self._ring is not None:
            self._ring.lose(slot)

    def note_wait(self) -> None:
        """Note that the user has to wait for a result: more of them are made ahead, if a worker was idle.

        Once is no reason: every stream may stand still before its first batch.
        """
        if self.was_idle:
            self.was_idle = False
            self._waits += 1
            if self._waits > 1:
                self._depth = min(self._slots, self._depth + self.supervisor.count)
                self.supervisor.ring()

    @property
    def starting(self) -> bool:
        if self.supervisor.is_down or self.preparation is None:
            return self.supervisor.starting
        return self.supervisor.starting or self.preparation.is_awaited

    @property
    def measured(self) -> bool:
        return self._batch_bytes is not None

    def measure(self, job: Fetch, result: Result) -> None:
        self._batch_bytes = max((_nbytes(batch) for batch in batches_of(result.value)), default=0)
        indices = sum(_nbytes(request.indices) for request in job.requests)
        nbytes = self.least_batches * (self._batch_bytes + indices)
        self._make_ring(max(GROUP_BYTES, nbytes), nbytes)

    def _make_ring(self, nbytes: int, used: int) -> None:
        """Make slots for so many bytes each, of which results are expected to use some."""
        least, supervisor = self.supervisor.count + KEPT_SLOTS, self.supervisor
        try:
            self._ring = Ring(
                (self._slots if self.least_batches == 1 else TURNS * supervisor.count) + KEPT_SLOTS,
                int(nbytes * SLACK),
                least,
                lambda segment: supervisor.forget_with(segment, segment),
                used,
            )
        except NoRoomError as error:
            warn_once('memory', f'memory is short: batches come through pipes, which takes longer ({error})')
            self._ring = None
        self.preparation = None
        if self._ring is not None and used >= PREPARED_BYTES:
            # Besides those under way, the user has one slot, and gets another.
            each = TURNS + -(-2 // supervisor.count)
            self.preparation = Preparation(self._ring, used, each, supervisor.count + supervisor.max_restarts)

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
        if self._ring is not None and self._ring.held + 1 + min(self._depth, self.most_jobs()) <= self._ring.slots:
            return packed.unpack(slot.memory)  # type: ignore[no-any-return]
        # The user keeps batches: the slot is needed for the next one.
        return packed.unpack_copy(slot.memory)  # type: ignore[no-any-return]

    def _learn(self, packed: Packed, slot: Slot) -> None:
        """Make larger slots if this one was too small."""
        nbytes = memoryview(slot.memory).nbytes
        if packed.missing and self._ring is not None and self._ring.segment is slot.segment:
            nbytes += packed.missing + ALIGNMENT * (len(packed.spans) + 1)
            self._make_ring(nbytes, nbytes)


def _nbytes(tree: Any) -> int:
    """Return the bytes that the arrays of a batch, or of indices, take in a slot."""
    return sum(leaf.nbytes + ALIGNMENT for leaf in leaves(tree) if isinstance(leaf, np.ndarray))
