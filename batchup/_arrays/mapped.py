"""Gathering rows of mapped files, which may have to be read from the disk first.

A gather reads what is missing one page after the other, and waits for each; and the system reads
more around each page, which is of no use to a shuffled batch of a file that memory cannot hold.
"""

from __future__ import annotations

import contextlib
import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._ground.indices import IndexArray, Leaf, from_start

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

# After a row had to be waited for, the rows of so many gathers are asked for. Larger: more calls
# for nothing once all is in memory. Smaller: more rows that are waited for one by one.
ASKED_GATHERS = 64


class AskingTake:
    """`ndarray.take` over a mapped file, which asks the system for all rows of a gather before it reads them.

    The system then reads them from the disk at the same time, and nothing else. To ask costs a
    microsecond a row, which is too much where rows are in memory. So a single row is read first:
    only if it had to be waited for are the others, and those of the gathers that follow, asked for.

    Parameters
    ----------
    rows : array of shape (n, ...)
        C-contiguous, over memory of the mapping.
    mapping : mmap.mmap
        The mapped file. What is asked for does not change how others read it.
    """

    def __init__(self, rows: NDArray[Any], mapping: mmap.mmap) -> None:
        self._take: Any = rows.take
        self._mapping = mapping
        self._n, self._row_bytes = len(rows), rows.nbytes // max(1, len(rows))
        self._start = rows.ctypes.data - np.frombuffer(mapping, np.uint8).ctypes.data
        # Threads may share it: at worst, one gather more is asked for, or one fewer.
        self._asked = 0

    def __call__(self, indices: IndexArray, axis: int, output: Any, mode: str) -> Any:
        """Take rows, as `ndarray.take` does with indices in one dimension."""
        if self._asked == 0 and len(indices) > 1:
            before = _waits()
            self._take(indices[:1], axis, None, mode)
            self._asked = ASKED_GATHERS if _waits() > before else 0
        if self._asked:
            self._asked -= 1
            # It is but advice: a file system that does not take it reads as ever.
            with contextlib.suppress(OSError):
                self._ask(indices)
        return self._take(indices, axis, output, mode)

    def _ask(self, indices: IndexArray) -> None:
        """Ask for rows, in the order of the file: those that share pages, or touch, by one call."""
        starts = self._start + np.sort(indices % self._n) * self._row_bytes
        first, end = starts // mmap.PAGESIZE, -(-(starts + self._row_bytes) // mmap.PAGESIZE)
        apart = np.flatnonzero(first[1:] > end[:-1]) + 1
        first, end = first[np.append(0, apart)], end[np.append(apart, len(end)) - 1]
        for start, length in zip((first * mmap.PAGESIZE).tolist(), ((end - first) * mmap.PAGESIZE).tolist()):
            self._mapping.madvise(mmap.MADV_WILLNEED, start, length)


def make_take(rows: NDArray[Any]) -> Any:
    """Return `rows.take`, or an `AskingTake` for C-contiguous rows of a mapped file."""
    mapping = _mapping_of(rows)
    asks = mapping is not None and rows.flags.c_contiguous and rows.nbytes > 0 and _can_ask()
    return AskingTake(rows, mapping) if asks and mapping is not None else rows.take


class MappedFile:
    """The file of a mapped array, which may become shorter: the system kills who reads beyond its end.

    Parameters
    ----------
    array : array of shape (n, ...)
        A view of the mapped array.
    owner : numpy.memmap
        What has mapped the file.
    """

    def __init__(self, array: NDArray[Any], owner: np.memmap[Any, Any]) -> None:
        self._mapping: mmap.mmap = owner._mmap  # type: ignore[attr-defined]
        self._path = owner.filename or 'a mapped file'
        self._n = len(array)
        first = owner.offset - owner.offset % mmap.ALLOCATIONGRANULARITY
        address = array.ctypes.data - np.frombuffer(self._mapping, np.uint8).ctypes.data
        sizes = zip(array.shape[1:], array.strides[1:])
        # Where the bytes of row 0 end in the file, and how far on those of the next one end.
        self._row_end: int = first + address + array.itemsize + sum(max(0, (size - 1) * step) for size, step in sizes)
        self._step: int = array.strides[0]
        self._end = self._end_of(max(self._n - 1, 0) if self._step > 0 else 0)

    @classmethod
    def of(cls, array: Any) -> MappedFile | None:
        """Return the file of an array that NumPy has mapped, or of a view of one; `None` for any other."""
        owner = _owner_of(array)
        return cls(array, owner) if array.size and _mapping_of(array) is not None else None

    def check(self, indices: Leaf) -> None:
        """Raise `OSError` if the file no longer has the rows that indices from -n to n - 1 choose."""
        size = self._mapping.size()
        if size < self._end and len(indices):
            rows = from_start(indices, self._n)
            last = int(rows.max() if self._step > 0 else rows.min())
            if size < self._end_of(last):
                raise OSError(
                    f'{self._path} has become shorter since it was mapped: it has {size} bytes, and row {last} ends at '
                    f'{self._end_of(last)}; map it again'
                )

    def _end_of(self, row: int) -> int:
        return self._row_end + row * self._step


def _owner_of(array: Any) -> Any:
    """Return the array that another one is a view of, if it is one of NumPy's own."""
    while type(array) is np.ndarray:
        array = array.base
    return array


def _mapping_of(array: Any) -> mmap.mmap | None:
    """Return the mapping of a `numpy.memmap`, and of its views."""
    mapping = getattr(_owner_of(array), '_mmap', None)
    return mapping if isinstance(mapping, mmap.mmap) else None


def _can_ask() -> bool:
    return resource is not None and hasattr(mmap, 'MADV_WILLNEED')


def _waits() -> int:
    """Count how often this thread (or, where the system does not tell, this process) has waited for the disk."""
    return resource.getrusage(getattr(resource, 'RUSAGE_THREAD', resource.RUSAGE_SELF)).ru_majflt
