"""Gathering rows of NumPy arrays, into memory that is recycled for large batches.

`ndarray.take` into an existing array is the fastest gather that NumPy has: 1.2 to 3 times
faster than fancy indexing. Fresh memory for a large batch costs as much again, in page
faults, so it is used again as soon as nothing refers to it any more.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import chain, repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._ground.allocation import RECYCLED_BYTES, Recycler
from .._ground.batch import Destination, Memory
from .._ground.indices import IndexArray, Leaf, as_array
from .mapped import MappedFile, make_take

# Small batches are copied in blocks of this many bytes. Larger: more memory that one kept batch
# keeps with it, and blocks that leave the processor's cache. Smaller: more work for each batch.
BLOCK_BYTES = 2**20

# Batches of at least this many bytes are read one by one where a function may return them as they
# are: out of a block, they would have to be copied. Larger: more copies. Smaller: fewer blocks.
APART_BYTES = 2**14


class Buffers(Recycler):
    """Memory for large batches of rows, each piece used again once nothing refers to it.

    Parameters
    ----------
    array : array of shape (n, ...)
        The data that will be copied into the memory.
    """

    def __init__(self, array: NDArray[Any]) -> None:
        super().__init__()
        self._row_shape = array.shape[1:]
        self._dtype = array.dtype
        self._row_bytes = row_bytes(array)

    def rows(self, count: int) -> NDArray[Any]:
        """Return an uninitialised array for so many rows."""
        memory: Any = self.memory(count * self._row_bytes)
        return np.ndarray((count, *self._row_shape), self._dtype, memory)


def is_plain(array: Any) -> bool:
    """Say whether an array is NumPy's own type (also memory-mapped), with no behaviour added."""
    return type(array) in (np.ndarray, np.memmap)


def row_bytes(array: NDArray[Any]) -> int:
    """Return the number of bytes of a sample."""
    return math.prod(array.shape[1:]) * array.itemsize


def block_size(batch_bytes: int, apart: bool, block_bytes: int = BLOCK_BYTES) -> int:
    """Return how many batches are read at once: one, if they are large, and are to be apart."""
    return 1 if apart and batch_bytes >= APART_BYTES else max(1, block_bytes // max(1, batch_bytes))


class Rows:
    """The samples of a plain array, to be copied by valid indices.

    Parameters
    ----------
    array : array of shape (n, ...)
        A plain array; left as it is.
    """

    def __init__(self, array: NDArray[Any]) -> None:
        self.array = array
        self.row_bytes = row_bytes(array)
        self._plain = array.view(np.ndarray)
        self._take: Any = make_take(self._plain)
        # `take` would first copy all of an array that is not contiguous. Its mode 'wrap' is as
        # fast as 'clip', and gives negative indices their meaning.
        self._takes = array.flags.c_contiguous and array.flags.aligned
        self._buffers = Buffers(self._plain)
        self._file = MappedFile.of(self._plain)
        recycles = self.row_bytes > 0 and not array.dtype.hasobject
        self._recycled_rows = RECYCLED_BYTES / self.row_bytes if recycles else math.inf

    def __reduce__(self) -> tuple[type[Rows], tuple[NDArray[Any]]]:
        return Rows, (self.array,)

    def read(self, indices: Leaf) -> NDArray[Any]:
        """Copy the rows that m indices from -n to n - 1 choose; they are not checked.

        Returns
        -------
        array of shape (m, ...)
            A new, writable array of the same dtype.

        Raises
        ------
        OSError
            If the file of a mapped array has become too short.
        """
        if self._file is not None:
            self._file.check(indices)
        output = next(self._outputs(len(indices)))
        if isinstance(indices, range):
            return self._copy(slice(indices.start, indices.stop), output)
        rows: NDArray[Any] = self._take(indices, 0, output, 'wrap') if self._takes else self._plain[indices]
        return rows

    def columns(self, indices: Leaf, n_batches: int, memory: Memory | None = None) -> NDArray[Any]:
        """Read several batches of equal size at once, into `memory` if it has room.

        Returns
        -------
        array of shape (n_batches, batch size, ...)
            Over memory that nothing else uses.
        """
        rows = None if memory is None else self._room(len(indices), memory)
        rows = self.read(indices) if rows is None else self.read_into(rows, indices)
        return rows.reshape(n_batches, len(indices) // n_batches, *rows.shape[1:])

    def empty(self, count: int, memory: Memory | None = None) -> NDArray[Any]:
        """Return an uninitialised array for so many rows: in `memory`, if it has room, or else recycled."""
        rows = None if memory is None else self._room(count, memory)
        if rows is None:
            rows = next(self._outputs(count))
        return np.empty((count, *self.array.shape[1:]), self.array.dtype) if rows is None else rows

    def _room(self, count: int, memory: Memory) -> NDArray[Any] | None:
        return None if self.array.dtype.hasobject else memory((count, *self.array.shape[1:]), self.array.dtype)

    def read_into(self, output: NDArray[Any], indices: Leaf) -> NDArray[Any]:
        """Copy rows into an array that is given."""
        if self._file is not None:
            self._file.check(indices)
        if isinstance(indices, range):
            return self._copy(slice(indices.start, indices.stop), output)
        if self._takes:
            self._take(indices, 0, output, 'wrap')
        else:
            output[...] = self._plain[indices]
        return output

    def scatter(self, output: NDArray[Any], places: IndexArray, indices: Leaf) -> None:
        """Copy rows one by one to any places in an array."""
        if self._file is not None:
            self._file.check(indices)
        plain = self._plain
        for place, index in zip(places.tolist(), as_array(indices).tolist()):
            output[place] = plain[index]

    def batches(self, indices: Leaf, n_batches: int, to: Destination) -> Iterator[NDArray[Any]]:
        """Read several batches of equal size: small ones in blocks, large ones one by one.

        There is no Python loop around the batches: most of their time would be Python's. Where
        memory is given, they are read there, all at once.
        """
        if to.memory is not None:
            return iter(self.columns(indices, n_batches, to.memory))
        size = len(indices) // n_batches
        block = block_size(size * self.row_bytes, to.apart)
        if block > 1:
            # Iterating over the first axis of a block gives batches, each a view of its own rows.
            return chain.from_iterable(self._blocks(indices, size, n_batches, block))
        if self._file is not None:
            return map(self.read, (indices[first : first + size] for first in range(0, len(indices), size)))
        outputs = self._outputs(size)
        if isinstance(indices, range):
            starts = range(indices.start, indices.stop, size)
            return map(self._copy, map(slice, starts, (start + size for start in starts)), outputs)
        parts = iter(indices.reshape(n_batches, size))
        if not self._takes:
            return map(self._plain.__getitem__, parts)
        return map(self._take, parts, repeat(0), outputs, repeat('wrap'))

    def _blocks(self, indices: Leaf, size: int, n_batches: int, block: int) -> Iterator[NDArray[Any]]:
        """Read batches in blocks of shape (block, size, ...); the last one may have fewer batches."""
        for first in range(0, n_batches, block):
            count = min(block, n_batches - first)
            part = indices[first * size : (first + count) * size]
            try:
                rows = self.read(part)
            except OSError:
                if count == 1:
                    raise
                # The error comes at the first batch that it concerns.
                yield from self._blocks(part, size, count, 1)
                continue
            yield rows.reshape(count, size, *rows.shape[1:])
            # For a user who has let go of the block, its memory is free for the next one.
            del rows

    def _outputs(self, size: int) -> Iterator[Any]:
        """Give memory for `size` rows, again and again; `None` where NumPy's own is as fast."""
        return map(self._buffers.rows, repeat(size)) if size >= self._recycled_rows else repeat(None)

    def _copy(self, rows: slice, output: NDArray[Any] | None) -> NDArray[Any]:
        if output is None:
            return self._plain[rows].copy()
        output[...] = self._plain[rows]
        return output
