"""Memory that processes share."""

from __future__ import annotations

import contextlib
import itertools
import math
import mmap
import os
import re
import tempfile
import weakref
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._ground.messages import warn_user

with contextlib.suppress(ImportError):  # Windows
    import resource

# Arrays begin at multiples of this many bytes: a cache line.
ALIGNMENT = 64

# Where files without a name are made if the system has no memory files, the fastest first.
FOLDERS = ('/dev/shm', tempfile.gettempdir())

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
    huge : bool
        Whether the system is asked for large pages.
    """

    def __init__(self, size: int, huge: bool = False) -> None:
        self.huge = huge
        self.id = next(_segment_ids)
        self.size = max(size, mmap.PAGESIZE)
        self.fd = _open_file(self.size)
        # Not when the process ends: workers may still be sent the file, which the system closes anyway.
        weakref.finalize(self, os.close, self.fd).atexit = False
        self.view = memoryview(map_file(self.fd, self.size, huge=huge))

    def keep_apart(self) -> None:
        """From now on, show nobody else what is written to `view`."""
        self.view = memoryview(map_file(self.fd, self.size, mmap.ACCESS_COPY))


class NoRoomError(MemoryError):
    """There is no room for shared memory, or the process may not have so much."""


def map_file(fd: int, size: int, access: int = mmap.ACCESS_WRITE, offset: int = 0, huge: bool = False) -> mmap.mmap:
    """Map a part of a file, by `huge` pages if possible; raise `NoRoomError` if the process has no room for it."""
    try:
        mapping = mmap.mmap(fd, size, access=access, offset=offset)
        if huge:
            with contextlib.suppress(OSError):
                mapping.madvise(mmap.MADV_HUGEPAGE)
        return mapping
    except OSError as error:
        raise NoRoomError(
            f'{size / 2**20:.0f} MiB of shared memory do not fit into what this process may address; a likely cause '
            f'is a limit (ulimit -v): {error}'
        ) from error


def has_huge_pages() -> bool:
    """Say whether the system gives large pages of shared memory to those who ask for them."""
    with contextlib.suppress(OSError), open('/sys/kernel/mm/transparent_hugepage/shmem_enabled') as file:
        return not re.search(r'\[(never|deny)\]', file.read()) and hasattr(mmap, 'MADV_HUGEPAGE')
    return False


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


def over(memory: Any) -> NDArray[np.uint8]:
    """Return an array over memory that keeps it from being used again.

    A `memoryview` or `np.frombuffer` would refer to what is behind a `PickleBuffer`, and not to it.
    """
    return np.ndarray(memoryview(memory).nbytes, np.uint8, memory)
