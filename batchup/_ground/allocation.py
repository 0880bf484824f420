"""Memory for arrays that are on their way into a batch.

Whoever calls a user's code that makes a batch says where its arrays are to lie: in a slot, in a
worker process, or else in memory that is recycled. Fresh memory for a large batch costs as much
as a copy of it, in page faults.
"""

from __future__ import annotations

import math
import threading
import weakref
from collections import deque
from collections.abc import Callable
from functools import partial
from operator import index
from pickle import PickleBuffer
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Returns an array of this shape and dtype, whose values nobody has set, or `None` where there is no room for it.
Allocate = Callable[[tuple[int, ...], 'np.dtype[Any]'], 'np.ndarray | None']

# Arrays of at least this many bytes are recycled. Larger: page faults for every batch below
# it. Smaller: a microsecond of book-keeping for batches that the allocator serves well.
RECYCLED_BYTES = 2**17

# Pieces of memory that wait to be used again, for each of those that recycle. Larger: more memory that
# may lie idle. Smaller: fresh memory for loops, and threads, that let go of several batches at a time.
IDLE_PIECES = 8

# Bytes that a processor moves at once. Memory begins at multiples of it: JAX takes such arrays without a copy.
CACHE_LINE = 64


class _Here(threading.local):
    """What gives arrays their memory in this thread; nothing: NumPy does."""

    allocate: Allocate | None = None


_here = _Here()


def empty(shape: int | tuple[int, ...], dtype: Any = np.float64) -> np.ndarray:
    """Return an array for a batch, whose values are not set, as `np.empty` does.

    A function of `map`, or the `__getitem__` of an array of one's own, that makes its result in such
    an array has nothing to pay for handing it over: in a worker process, it lies where the user's
    process reads it; elsewhere, in memory of an earlier batch that nothing refers to any more.

    Parameters
    ----------
    shape : int or tuple of ints
    dtype : optional
        Any data type of NumPy.

    Returns
    -------
    array
        Of that shape and dtype, in C order.

    >>> import numpy as np
    >>> def centred(images):
    ...     output = empty(images.shape, np.float32)
    ...     np.subtract(images, images.mean(), out=output)
    ...     return (output,)
    >>> centred(np.array([[1, 2, 3]], np.uint8))
    (array([[-1.,  0.,  1.]], dtype=float32),)
    """
    allocate, sizes = _here.allocate, None
    if allocate is not None:
        kind, sizes = np.dtype(dtype), _sizes(shape)
    if allocate is None or sizes is None or kind.hasobject or not kind.itemsize:
        return np.empty(shape, dtype)
    array = allocate(sizes, kind)
    return np.empty(sizes, kind) if array is None else array


def _sizes(shape: Any) -> tuple[int, ...] | None:
    """Return the lengths of all axes; `None` if there are no elements, or for what `np.empty` refuses."""
    try:
        sizes = tuple(map(index, shape if hasattr(shape, '__iter__') else (shape,)))
    except TypeError:
        return None
    return sizes if min(sizes, default=1) > 0 else None


class Allocating:
    """A block of a `with` statement in which `empty` asks `allocate` for memory, in this thread."""

    __slots__ = ('_allocate', '_before')

    def __init__(self, allocate: Allocate) -> None:
        self._allocate = allocate

    def __enter__(self) -> None:
        self._before = _here.allocate
        _here.allocate = self._allocate

    def __exit__(self, *error: object) -> None:
        _here.allocate = self._before


def allocating(allocate: Allocate) -> Allocating:
    """Have `empty` ask `allocate` for memory, in this thread, until the end of the block."""
    return Allocating(allocate)


class Recycler:
    """Memory for large arrays, each piece used again once nothing refers to it.

    An array is made over each piece. Its views, and whatever else shares memory with it, keep the
    piece in use. After that, it is put among the idle ones, and the latest is used first: it may
    still be in the processor's cache. Only C code runs then: an interrupt in Python code would be lost.
    """

    def __init__(self) -> None:
        self._idle: deque[_PieceUse] = deque(maxlen=IDLE_PIECES)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), ()

    def __del__(self) -> None:
        # Memory in use refers to it.
        self._idle.clear()

    def array(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any] | None:
        """Return an uninitialised array; `None` where NumPy's own memory is as fast, or has to be used."""
        nbytes = math.prod(shape) * dtype.itemsize
        if nbytes < RECYCLED_BYTES or dtype.hasobject:
            return None
        # Arrays over a buffer that is no array are themselves the base of their views: NumPy
        # passes over bases that are arrays without memory of their own.
        try:
            return np.ndarray(shape, dtype, self.memory(nbytes))  # type: ignore[arg-type]
        except (MemoryError, ValueError):  # too many bytes, of which NumPy tells the user
            return None

    def memory(self, nbytes: int) -> PickleBuffer:
        """Return memory for one array."""
        piece = self._piece(nbytes)
        held = piece.view(_Held)
        memory = PickleBuffer(held)  # type: ignore[arg-type]
        held.use = use = _PieceUse(memory, self._idle.append)
        use.piece = piece
        return memory

    def allocating(self, memory: Allocate | None = None) -> Allocating:
        """Have `empty` ask `memory`, and then this, in this thread, until the end of the block."""
        return Allocating(self.array if memory is None else partial(self._array_in, memory))

    def _array_in(self, memory: Allocate, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any] | None:
        array = memory(shape, dtype)
        return self.array(shape, dtype) if array is None else array

    def _piece(self, nbytes: int) -> NDArray[np.uint8]:
        """Return an idle piece that fits, or a new one."""
        for _ in range(len(self._idle)):
            try:
                use = self._idle.pop()
            except IndexError:  # another thread was faster
                break
            if nbytes <= len(use.piece) <= 2 * nbytes:
                return use.piece
            self._idle.appendleft(use)
        fresh = np.empty(nbytes + CACHE_LINE, np.uint8)
        start = -fresh.ctypes.data % CACHE_LINE
        return fresh[start : start + nbytes]


class _PieceUse(weakref.ref[PickleBuffer]):
    """A weak reference to memory in use: its callback is called when nothing uses the memory any more."""

    # If an interrupt comes before it is set, this one is there, which fits nothing.
    piece: NDArray[np.uint8] = np.empty(0, np.uint8)


class _Held(np.ndarray):
    """A piece of memory in use."""

    __slots__ = ('use',)
    use: _PieceUse
