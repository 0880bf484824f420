"""What runs in a worker process."""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import gc
import io
import mmap
import os
import pickle
import random
import signal
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import recv_handle
from typing import Any

import numpy as np

from ..failures import Failure
from ..jobs import Fetch, Job, Result, SharedConstant, batches_of
from ..memory import NoRoomError, Span, map_file
from ..names import this_process
from ..packing import Packed, Packer, unpack_whole
from ..pickling import dump

# The signal that asks a worker for the stacks of its threads, where there are signals.
STACKS_SIGNAL = getattr(signal, 'SIGUSR1', None)

# The advice to map pages for writing, since Linux 5.14; Python has no name for it.
MADV_POPULATE_WRITE = 23

# Parts of slots from this size on are mapped at once. Larger: pages are mapped one by one, which takes longer.
# Smaller: more calls of the system.
POPULATED_BYTES = 2**17

# Options of the C library: how many arrays have memory apart from the heap, and how much free memory at the
# end of the heap is kept.
M_MMAP_MAX = -4
M_TRIM_THRESHOLD = -1

# So much is kept. Larger: more memory that may lie idle in each worker. Smaller: page faults for functions that
# make several arrays of large batches.
KEPT_BYTES = 2**28

# Numerical libraries start threads of their own. These variables and functions set how many.
THREAD_VARIABLES = (
    'OMP_NUM_THREADS',
    'OPENBLAS_NUM_THREADS',
    'MKL_NUM_THREADS',
    'VECLIB_MAXIMUM_THREADS',
    'NUMEXPR_NUM_THREADS',
)
THREAD_LIBRARIES = ('openblas', 'mkl_rt', 'libomp', 'libgomp', 'libiomp', 'blis')
THREAD_FUNCTIONS = (
    'openblas_set_num_threads',
    'openblas_set_num_threads64_',
    'scipy_openblas_set_num_threads',
    'scipy_openblas_set_num_threads64_',
    'MKL_Set_Num_Threads',
    'bli_thread_set_num_threads',
    'omp_set_num_threads',
)


def main(conn: Connection, stacks: Connection, inherited: Sequence[Any], threads: int | None) -> None:
    """Set up a worker, and serve until the pool ends."""
    for connection in inherited:
        # With the pool's ends open here, no other worker would notice that the pool has gone.
        connection.close()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the user's process
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if STACKS_SIGNAL is not None:
        faulthandler.register(STACKS_SIGNAL, stacks.fileno(), all_threads=True)
    if threads is not None:
        limit_threads(threads)
    _keep_freed_memory()
    # Forked workers begin with the same state: they would all draw the same numbers.
    random.seed()
    np.random.seed()
    with contextlib.suppress(EOFError, OSError):  # the pool has gone
        conn.send(None)
        Worker(conn).serve()


def _end_with_parent() -> None:
    """End this process when the one that uses it has ended, in whatever way."""
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _keep_freed_memory() -> None:
    """Have the C library keep memory that is freed: large arrays would be made of new pages for every batch."""
    if sys.platform == 'linux':
        library = ctypes.CDLL(None)
        if hasattr(library, 'mallopt'):  # not all C libraries have it
            library.mallopt(M_MMAP_MAX, 0)
            library.mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)


def limit_threads(count: int) -> None:
    """Hold numerical libraries, loaded now or later, to a number of threads."""
    for variable in THREAD_VARIABLES:
        os.environ[variable] = str(count)
    for path in _loaded_libraries():
        library = ctypes.CDLL(path)
        for name in THREAD_FUNCTIONS:
            if hasattr(library, name):
                getattr(library, name)(count)


def _loaded_libraries() -> set[str]:
    """Return the paths of the numerical libraries that are loaded."""
    if not sys.platform.startswith('linux'):
        return set()
    with open('/proc/self/maps') as maps:
        paths = {line.split(maxsplit=5)[5].rstrip('\n') for line in maps if '/' in line}
    return {path for path in paths if any(name in os.path.basename(path) for name in THREAD_LIBRARIES)}


class _Unpickler(pickle.Unpickler):
    """Reads a job, in which numbers stand for constants."""

    def __init__(self, data: bytes, buffers: Any, constant: Callable[[Any], SharedConstant]) -> None:
        super().__init__(io.BytesIO(data), buffers=buffers)
        self._constant = constant

    def persistent_load(self, number: Any) -> SharedConstant:
        return self._constant(number)


class _Slots:
    """The slots of a ring: mapped all at once, or, without room for that, one at a time."""

    def __init__(self, fd: int, size: int, huge: bool) -> None:
        self._fd = fd
        weakref.finalize(self, os.close, fd)
        self._mapping: mmap.mmap | None = None
        self._whole: memoryview | None = None
        # How far each slot is mapped, by where it begins.
        self._ends: dict[int, int] = {}
        with contextlib.suppress(NoRoomError):
            self._mapping = map_file(fd, size, huge=huge)
            self._whole = memoryview(self._mapping)

    def part(self, start: int, end: int) -> memoryview:
        """Return the memory of a slot; raise `NoRoomError` if there is no room even for that."""
        if self._whole is not None:
            return self._whole[start:end]
        return memoryview(map_file(self._fd, end - start, offset=start))

    def populate(self, slot: int, start: int, end: int) -> None:
        """Map the pages of some bytes at once, if that was not done before: one by one, it takes five times as long.

        Contents stay as they are. Small parts, and systems that cannot do it, are left to the first use.
        """
        start = max(self._ends.get(slot, slot), start // mmap.PAGESIZE * mmap.PAGESIZE)
        if self._mapping is None or sys.platform != 'linux' or end - start < POPULATED_BYTES:
            return
        self._ends[slot] = end = -(-end // mmap.PAGESIZE) * mmap.PAGESIZE
        with contextlib.suppress(OSError):
            self._mapping.madvise(MADV_POPULATE_WRITE, start, end - start)


class Worker:
    """The values and the shared memory that a worker has been sent, and its loop."""

    def __init__(self, conn: Connection) -> None:
        self._conn = conn
        self._slots: dict[int, _Slots] = {}
        self._constants: dict[int, Failure | SharedConstant] = {}
        # Whose code keeps arrays that it makes for batches: it is lent no slots.
        self._keepers: weakref.WeakSet[SharedConstant] = weakref.WeakSet()

    def serve(self) -> None:
        """Do what the pool says, message by message; raise `EOFError` or `OSError` when it has gone."""
        actions: dict[str, Callable[..., None]] = {
            'constant': self._take_constant,
            'slots': self._take_slots,
            'prepare': self._prepare,
            'forget': self._forget,
            'run': self._run,
        }
        while True:
            message = self._conn.recv()
            if message is None:
                return
            action, *arguments = message
            actions[action](*arguments)

    def _take_constant(self, number: int, size: int, spans: list[Span]) -> None:
        # Private: what a worker writes is seen by nobody else. What it does not write is shared.
        fd = recv_handle(self._conn)
        try:
            memory = memoryview(map_file(fd, size, mmap.ACCESS_COPY))
            self._constants[number] = SharedConstant(unpack_whole(memory, spans))
        except BaseException as error:
            self._constants[number] = Failure(error)
        finally:
            os.close(fd)

    def _take_slots(self, number: int, size: int, huge: bool) -> None:
        self._slots[number] = _Slots(recv_handle(self._conn), size, huge)

    def _prepare(self, number: int, spans: list[Span]) -> None:
        for start, end in spans:
            self._slots[number].populate(start, start, end)
        self._conn.send(number)

    def _forget(self, number: int) -> None:
        self._constants.pop(number, None)
        self._slots.pop(number, None)

    def _run(self, packed: Packed, used: int, segment: int | None, span: Span) -> None:
        """Run a job, and send what came of it."""
        packer = Packer(bytearray())
        try:
            memory, populate = memoryview(bytearray()), None
            if segment is not None:
                memory = self._slots[segment].part(*span)
                populate = partial(self._populate, segment, span[0])
            packer = Packer(memory, used, populate)
            job: Job = packed.unpack(memory, self._load)
        except BaseException as error:
            failure = Failure(error if isinstance(error, NoRoomError) else _unusable(error))
            self._conn.send(packer.pack(Result([], failure).by(this_process)))
        else:
            lends = segment is not None and self._keepers.isdisjoint(job.constants())
            result = job.run(packer.allocate if lends else None)
            message = _pack(packer, job, result.by(this_process))
            del result
            self._conn.send(message._replace(kept=self._keeps(job, packer)))

    def _populate(self, segment: int, slot: int, start: int, end: int) -> None:
        self._slots[segment].populate(slot, slot + start, slot + end)

    def _keeps(self, job: Job, packer: Packer) -> bool:
        """Say whether a user's code keeps arrays that it has made in a slot; if so, it is lent none from now on."""
        if packer.is_kept():
            gc.collect()  # of frames that an error refers to
            if packer.is_kept():
                self._keepers.update(job.constants())
                return True
        return False

    def _load(self, data: bytes, buffers: Any) -> Any:
        return _Unpickler(data, buffers, self._constant).load()

    def _constant(self, number: Any) -> SharedConstant:
        constant = self._constants[number]
        if isinstance(constant, Failure):
            raise constant.error
        return constant


def _unusable(error: BaseException) -> TypeError:
    """Make the error for what a worker was sent, but cannot unpickle."""
    unusable = TypeError(
        f'what was sent to a worker process cannot be used there: {type(error).__name__}: {error}; functions and '
        'classes must be importable from a module'
    )
    unusable.__cause__ = error
    return unusable


def _pack(packer: Packer, job: Job, result: Result) -> Packed:
    """Pack a result; what does not pickle becomes a failure, at its batch."""
    try:
        return packer.pack(result)
    except Exception as error:
        whole = [list(_leading(batches_of(result.value)))] if isinstance(job, Fetch) else None
        message = f'a result cannot be sent back by a worker process: {error}'
        failure = Failure(TypeError(message).with_traceback(error.__traceback__))
        return packer.pack(result._replace(value=whole, failure=failure).by(this_process))


def _leading(batches: Iterator[Any]) -> Iterator[Any]:
    """Go through the batches before the first that does not pickle."""
    for batch in batches:
        try:
            dump(batch, lambda buffer: None)
        except Exception:
            return
        yield batch
