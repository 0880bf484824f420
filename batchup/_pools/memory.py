"""Memory that processes share: segments, and rings of slots for results."""

from __future__ import annotations

import contextlib
import itertools
import math
import mmap
import os
import pickle
import sys
import tempfile
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._ground.messages import warn_user

with contextlib.suppress(ImportError):  # Windows
    import resource

# Arrays begin at multiples of this many bytes: a cache line.
ALIGNMENT = 64

# The most that a ring of slots takes, as a part of the memory that is available. Larger: other
# programs may have to give way. Smaller: fewer batches wait for the user.
LARGEST_PART = 0.5

# Where files without a name are made if the system has no memory files, the fastest first.
FOLDERS = ('/dev/shm', tempfile.gettempdir())

# The flag that tells the system to map memory at a given address; Python has no name for it.
MAP_FIXED = 0x10

Span = tuple[int, int]

_segment_ids = itertools.count()


class Segment:
    """Memory that other processes can map, through a file that has no name.

    However a process ends, nothing is left in any folder: the memory is freed when the last
    process that maps it has let go of it.

    Attributes
    ----------
    id : int
        Tells the segments of this process apart.
    fd : int
        The file.
    view : memoryview
        The memory.
    """

    def __init__(self, size: int) -> None:
        self.id = next(_segment_ids)
        self.size = max(size, mmap.PAGESIZE)
        self.fd = _open_file(self.size)
        # Not when the process ends: workers may still be sent the file, which the system closes anyway.
        weakref.finalize(self, os.close, self.fd).atexit = False
        self.view = memoryview(map_file(self.fd, self.size))

    def keep_apart(self) -> None:
        """From now on, show nobody else what is written to `view`."""
        self.view = memoryview(map_file(self.fd, self.size, mmap.ACCESS_COPY))


class NoRoomError(MemoryError):
    """There is no room for shared memory, or the process may not have so much."""


def map_file(fd: int, size: int, access: int = mmap.ACCESS_WRITE, offset: int = 0) -> mmap.mmap:
    """Map a part of a file; raise `NoRoomError` if the process has no room for it."""
    try:
        return mmap.mmap(fd, size, access=access, offset=offset)
    except OSError as error:
        raise NoRoomError(
            f'{size / 2**20:.0f} MiB of shared memory do not fit into what this process may address; a likely cause '
            f'is a limit (ulimit -v): {error}'
        ) from error


def _open_file(size: int) -> int:
    """Open a new file of a size, in memory where that is possible."""
    if hasattr(os, 'memfd_create'):
        fd = os.memfd_create('batchup')
        os.ftruncate(fd, size)
        return fd
    for folder in FOLDERS:
        try:
            with tempfile.TemporaryFile(dir=folder) as file:
                _reserve(file.fileno(), size)
                return os.dup(file.fileno())
        except OSError:
            warn_once(
                folder, f'{folder} has no room for {size / 2**20:.0f} MiB of shared memory; workers use another place'
            )
    raise NoRoomError(f'no room for {size} bytes of shared memory in {" or ".join(FOLDERS)}')


def _reserve(fd: int, size: int) -> None:
    """Give a file its size, and reserve all of it: were the disk full later, a bus error would end the process."""
    if hasattr(os, 'posix_fallocate'):
        os.posix_fallocate(fd, 0, size)
    else:
        os.ftruncate(fd, size)


_warned: set[str] = set()


def warn_once(reason: str, message: str) -> None:
    if reason not in _warned:
        _warned.add(reason)
        warn_user(message)


def machine() -> str | None:
    """Return a text that only this machine has, since it was started; `None` where the system has none."""
    try:
        with open('/proc/sys/kernel/random/boot_id') as file:
            return file.read()
    except OSError:
        return None


def available_memory() -> float:
    """Return how many bytes of memory may still be taken; infinite if that is not known."""
    return min(_available_in_machine(), _available_in_container(), _available_in_process())


def _available_in_machine() -> float:
    try:
        with open('/proc/meminfo') as file:
            return next(int(line.split()[1]) * 1024.0 for line in file if line.startswith('MemAvailable'))
    except (OSError, StopIteration):
        return math.inf


def _available_in_container() -> float:
    try:
        with open('/sys/fs/cgroup/memory.max') as most, open('/sys/fs/cgroup/memory.current') as current:
            return float(most.read()) - float(current.read())
    except (OSError, ValueError):  # ValueError: "max", which is no limit
        return math.inf


def _available_in_process() -> float:
    """Return how much more memory this process may address (ulimit -v)."""
    try:
        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        with open('/proc/self/statm') as file:
            used = int(file.read().split()[0]) * mmap.PAGESIZE
    except (NameError, OSError):
        return math.inf
    return math.inf if limit == resource.RLIM_INFINITY else max(0.0, limit - used)


class Slot(NamedTuple):
    """A part of a ring, for the result of one job.

    It is free again when nothing refers to its `memory` any more: no slot, and no array
    over it.
    """

    segment: Segment
    start: int
    memory: pickle.PickleBuffer


class Ring:
    """Slots of equal size in one segment, and in another one after a fork.

    Parameters
    ----------
    slots : int
        The number of slots wanted; fewer are made if they would take too much memory.
    slot_bytes : int
        The size of each.
    least : int
        The number of slots below which it would be of little use.
    made : callable
        `made(segment)` is called with each segment that is made.

    Attributes
    ----------
    slots : int
        How many there are.
    is_short : bool
        Whether these are fewer than wanted.
    retired : bool
        Whether the slots are not to be used any more: there will be others.

    Raises
    ------
    NoRoomError
        If there is no room for the least number.
    """

    def __init__(self, slots: int, slot_bytes: int, least: int, made: Callable[[Segment], None]) -> None:
        self.slot_bytes = -(-slot_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
        fitting = min(available_memory() * LARGEST_PART // self.slot_bytes, slots)
        self._made = made
        self._renew(slots if fitting == slots else max(int(fitting), least), least)
        self.is_short = self.slots < slots
        if self.is_short:
            warn_once(
                'memory',
                f'memory is short: {self.slots} batches of {self.slot_bytes / 2**20:.0f} MiB wait at a time, '
                'not batch_buffer_size',
            )
        _rings.add(self)

    def _renew(self, slots: int, least: int) -> None:
        """Make new slots, as many as are wanted or have room; the old ones are not used again."""
        self.segment = self._largest(slots, least)
        self.slots = self.segment.size // self.slot_bytes
        self._made(self.segment)
        # For each slot, a weak reference to its memory in use. Nothing else says whether a slot is free, so
        # wherever an interrupt comes, no slot is lost, nor used twice.
        self._uses: list[_SlotUse | None] = [None] * self.slots
        # The slots that were given back, the latest last: its pages exist, and may be in the processor's
        # cache. It only says where to look first.
        self._left: list[_SlotUse] = []
        self.retired = False

    def _largest(self, slots: int, least: int) -> Segment:
        """Make a segment for so many slots, or for as many as there is room for."""
        while True:
            try:
                return Segment(slots * self.slot_bytes)
            except NoRoomError:
                if slots <= least:
                    raise
                slots = max(slots // 2, least)

    def take(self) -> Slot | None:
        """Return a free slot, if there is one."""
        if self.retired:
            self._renew(self.slots, 1)
        number = self._free_number()
        if number is None:
            return None
        start = number * self.slot_bytes
        # Over an array: Python's garbage collection crashes on one over a memoryview.
        part: Any = np.frombuffer(self.segment.view[start : start + self.slot_bytes], np.uint8)
        memory = pickle.PickleBuffer(part)
        use = _SlotUse(memory, self._left.append)
        use.number = number
        self._uses[number] = use
        _places[memory] = _Place(self.segment, start)
        return Slot(self.segment, start, memory)

    @property
    def has_free(self) -> bool:
        """Whether a slot is free."""
        return self._free_number() is not None

    def _free_number(self) -> int | None:
        while self._left:
            number = self._left[-1].number
            if self._is_free(number):
                return number
            self._left.pop()
        return next(filter(self._is_free, range(len(self._uses))), None)

    def _is_free(self, number: int) -> bool:
        use = self._uses[number]
        return use is None or use() is None


class _SlotUse(weakref.ref[pickle.PickleBuffer]):
    """A weak reference to the memory of a slot: the slot is in use for as long as anything refers to that."""

    # If an interrupt comes before it is set, any number will do: it only says where to look first.
    number: int = 0


@dataclass
class _Place:
    """Where the memory of a slot comes from, and whether the user has what is in it."""

    segment: Segment
    start: int
    in_hands: bool = False


_rings: weakref.WeakSet[Ring] = weakref.WeakSet()
_places: weakref.WeakKeyDictionary[pickle.PickleBuffer, _Place] = weakref.WeakKeyDictionary()


def give(memory: pickle.PickleBuffer) -> None:
    """Note that the user gets what is in a slot."""
    _places[memory].in_hands = True


def _part() -> None:
    """Before a fork, make the batches that the user holds private to each process.

    Nothing is copied now: the system copies a page once it is written to. All rings are retired,
    so that no worker writes there either.
    """
    for ring in list(_rings):
        ring.retired = True
    for reference in _places.keyrefs():
        memory = reference()
        place = None if memory is None else _places.get(memory)
        if memory is not None and place is not None and place.in_hands:
            # Once only: a second time, what was written since the first would be lost.
            del _places[memory]
            _make_private(memory, place)


def _make_private(memory: pickle.PickleBuffer, place: _Place) -> None:
    """Map the memory of a slot again, at the same address, with the same contents, for this process alone."""
    # At a fork only, so that nobody else waits for the import.
    import ctypes  # noqa: PLC0415

    map_memory = ctypes.CDLL(None).mmap
    map_memory.restype = ctypes.c_void_p
    map_memory.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    whole = over(memory)
    flags = mmap.MAP_PRIVATE | MAP_FIXED
    protection = mmap.PROT_READ | mmap.PROT_WRITE
    address = whole.ctypes.data
    if map_memory(address, whole.nbytes, protection, flags, place.segment.fd, place.start) != address:
        warn_once('fork', 'batches of a process pool are shared with a forked process: copy those that either changes')


def over(memory: Any) -> NDArray[np.uint8]:
    """Return an array over memory that keeps it from being used again.

    A `memoryview` or `np.frombuffer` would refer to what is behind a `PickleBuffer`, and not to it.
    """
    return np.ndarray(memoryview(memory).nbytes, np.uint8, memory)


if sys.platform == 'linux':
    os.register_at_fork(before=_part)
