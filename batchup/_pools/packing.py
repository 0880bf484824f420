"""Values that are packed into memory that processes share.

Arrays are copied into it, or were written there to begin with; a pipe carries what is left of a
pickle: structure, dtypes, shapes.
"""

from __future__ import annotations

import bisect
import io
import math
import pickle
import weakref
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .memory import ALIGNMENT, Segment, Span, over
from .pickling import ARRAY_PROTOCOL, ArrayPickler
from .rings import give


class Packed(NamedTuple):
    """A pickled value: what goes through a pipe, and where in memory its arrays are.

    Attributes
    ----------
    data : bytes
        The pickle.
    spans : list of (int, int), or of bytes
        Begin and end of each array; or what is in it, if it is not in the memory.
    missing : int
        How many more bytes of memory would have had room for all arrays.
    kept : bool
        Whether the worker goes on using parts of the memory, which must therefore not be used again.
    """

    data: bytes
    spans: list[Span | bytearray]
    missing: int
    kept: bool = False

    def unpack(self, memory: Any, load: Callable[..., Any] = pickle.loads) -> Any:
        """Return the value, with arrays over the memory."""
        if isinstance(memory, pickle.PickleBuffer):
            give(memory)
        # Each over a part of its own: what refers to one array does not refer to the others.
        buffers = [
            span if isinstance(span, bytearray) else np.ndarray(span[1] - span[0], np.uint8, memory, span[0])
            for span in self.spans
        ]
        return load(self.data, buffers=buffers)

    def unpack_copy(self, memory: Any) -> Any:
        """Return the value, with arrays that do not refer to the memory."""
        whole = over(memory)
        buffers = [span if isinstance(span, bytearray) else whole[slice(*span)].copy() for span in self.spans]
        return pickle.loads(self.data, buffers=buffers)


class _Part(NamedTuple):
    """A part of the memory that is taken: as long as `user()` is not `None`."""

    start: int
    end: int
    user: Callable[[], Any]


class Packer:
    """Packs values into memory, one after the other as long as there is room.

    Arrays may also be made in the memory, and packed later. What they take is free again once
    nothing refers to it, as of those that were made on the way only.

    Parameters
    ----------
    memory : buffer
    used : int
        How many bytes at its beginning are taken.
    prepare : callable, optional
        `prepare(start, end)` is called with the bytes that are about to be written.
    """

    def __init__(self, memory: Any, used: int = 0, prepare: Callable[[int, int], None] | None = None) -> None:
        self._bytes = over(memory)
        self._address = self._bytes.ctypes.data
        self._prepare = prepare
        self._first = used
        # In the order of their places.
        self._parts: list[_Part] = []
        self._missing = 0
        self._spans: list[Span | bytearray] = []

    @property
    def used(self) -> int:
        """Where the memory ends that is taken."""
        return self._parts[-1].end if self._parts else self._first

    def allocate(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any] | None:
        """Return an array over the memory, if it has room for one. Nothing else refers to the memory of the array."""
        nbytes = math.prod(shape) * dtype.itemsize
        start = self._find(nbytes)
        if start is None:
            return None
        part: Any = self._bytes[start : start + nbytes]
        memory: Any = pickle.PickleBuffer(part)
        self._take(_Part(start, start + nbytes, weakref.ref(memory)))
        return np.ndarray(shape, dtype, memory)

    def is_kept(self) -> bool:
        """Say whether anything still refers to an array that was made in the memory."""
        return any(isinstance(part.user, weakref.ref) and part.user() is not None for part in self._parts)

    def pack(self, value: Any) -> Packed:
        """Pickle a value, and put its arrays into the memory as far as there is room."""
        self._spans.clear()
        file = io.BytesIO()
        ArrayPickler(file, ARRAY_PROTOCOL, buffer_callback=self.place).dump(value)
        return self.packed(file)

    def packed(self, file: io.BytesIO) -> Packed:
        """Return what was pickled into a file, with `place` as its `buffer_callback`."""
        return Packed(file.getvalue(), list(self._spans), self._missing)

    def place(self, buffer: pickle.PickleBuffer) -> bool:
        """Put an array into the memory; return whether it stays in the pickle for lack of room."""
        span = self.put(buffer.raw())
        if span is not None:
            self._spans.append(span)
        return span is None

    def _find(self, nbytes: int) -> int | None:
        """Return where so many bytes are free: at the end, or else in the first gap."""
        parts = self._parts
        while parts and parts[-1].user() is None:
            parts.pop()
        start = _aligned(self.used)
        if not nbytes or start + nbytes <= len(self._bytes):
            return start if nbytes else None
        self._parts = [part for part in parts if part.user() is not None]
        begins = [self._first, *(part.end for part in self._parts)]
        ends = [*(part.start for part in self._parts), len(self._bytes)]
        return next((_aligned(begin) for begin, end in zip(begins, ends) if _aligned(begin) + nbytes <= end), None)

    def _take(self, part: _Part) -> None:
        if self._prepare is not None:
            self._prepare(part.start, part.end)
        bisect.insort(self._parts, part, key=attrgetter('start'))

    def put(self, raw: memoryview) -> Span | None:
        """Copy bytes into the memory, unless they are there already; return where they are."""
        if not raw.nbytes:
            return None
        source = np.frombuffer(raw, np.uint8)
        start: int | None = source.ctypes.data - self._address
        if start is None or not 0 <= start <= len(self._bytes) - raw.nbytes:
            start = self._find(raw.nbytes)
            if start is None:
                self._missing += raw.nbytes
                return None
            self._take(_Part(start, start + raw.nbytes, _always))
            self._bytes[start : start + raw.nbytes] = source
        return start, start + raw.nbytes


def _aligned(start: int) -> int:
    return -(-start // ALIGNMENT) * ALIGNMENT


def _always() -> bool:
    return True


def store_whole(parts: Sequence[Any]) -> tuple[Segment, list[Span]]:
    """Put buffers side by side into a segment of their own; return where they are."""
    segment = Segment(sum(memoryview(part).nbytes + ALIGNMENT for part in parts))
    packer = Packer(segment.view)
    spans = [packer.put(memoryview(part)) or (0, 0) for part in parts]
    del packer  # it refers to the memory, which is about to be mapped anew
    segment.keep_apart()
    return segment, spans


def unpack_whole(memory: Any, spans: list[Span]) -> Any:
    """Return the value of a segment whose first part is its pickle, with arrays over its memory."""
    (start, end), *others = spans
    view = memoryview(memory)
    return pickle.loads(view[start:end], buffers=[view[start:end] for start, end in others])
