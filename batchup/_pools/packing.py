"""Values that are packed into memory that processes share.

Arrays are copied into it, or were written there to begin with; a pipe carries what is left of a
pickle: structure, dtypes, shapes.
"""

from __future__ import annotations

import io
import math
import pickle
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .memory import ALIGNMENT, Segment, Span, give, over
from .pickling import ARRAY_PROTOCOL, ArrayPickler


class Packed(NamedTuple):
    """A pickled value: what goes through a pipe, and where in memory its arrays are.

    Attributes
    ----------
    data : bytes
        The pickle.
    spans : list of (int, int)
        Begin and end of each array.
    missing : int
        How many more bytes of memory would have had room for all arrays.
    """

    data: bytes
    spans: list[Span]
    missing: int

    def unpack(self, memory: Any, load: Callable[..., Any] = pickle.loads) -> Any:
        """Return the value, with arrays over the memory."""
        if isinstance(memory, pickle.PickleBuffer):
            give(memory)
        # Each over a part of its own: what refers to one array does not refer to the others.
        return load(self.data, buffers=[np.ndarray(end - start, np.uint8, memory, start) for start, end in self.spans])

    def unpack_copy(self, memory: Any) -> Any:
        """Return the value, with arrays that do not refer to the memory."""
        whole = over(memory)
        return pickle.loads(self.data, buffers=[whole[start:end].copy() for start, end in self.spans])


class Packer:
    """Packs values into memory, one after the other as long as there is room."""

    def __init__(self, memory: Any, used: int = 0) -> None:
        self._bytes = over(memory)
        self._address = self._bytes.ctypes.data
        self.used = used
        self._missing = 0
        self._spans: list[Span] = []

    def allocate(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any] | None:
        """Return an array over the memory, if it has room for one."""
        nbytes = math.prod(shape) * dtype.itemsize
        start = self._reserve(nbytes)
        return None if start is None else np.ndarray(shape, dtype, self._bytes, start)

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

    def _reserve(self, nbytes: int) -> int | None:
        """Reserve memory; return where it begins."""
        start = -(-self.used // ALIGNMENT) * ALIGNMENT
        if not nbytes or start + nbytes > len(self._bytes):
            self._missing += nbytes
            return None
        self.used = start + nbytes
        return start

    def put(self, raw: memoryview) -> Span | None:
        """Copy bytes into the memory, unless they are there already; return where they are."""
        if not raw.nbytes:
            return None
        source = np.frombuffer(raw, np.uint8)
        start: int | None = source.ctypes.data - self._address
        if start is None or not 0 <= start <= len(self._bytes) - raw.nbytes:
            start = self._reserve(raw.nbytes)
            if start is None:
                return None
            self._bytes[start : start + raw.nbytes] = source
        return start, start + raw.nbytes


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
