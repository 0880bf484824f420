"""Reading batches from storage: in parts, of rows that are read ahead as far as the batches to come are known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from numpy.typing import NDArray

from .._ground.batch import Destination, Memory
from .._ground.indices import IndexArray, Leaf
from .._plans.plan import Request
from .read_ahead import ReadAhead
from .rows import Rows, block_size
from .segments import by_chunks
from .storage import Storage, empty_rows, read_chunk, read_rows, row_bytes_of

# How many bytes of storage are read ahead, unless the user says otherwise. Larger: more memory. Smaller: chunks
# are decoded more often for a full shuffle.
READ_AHEAD = 2**28

# What it takes to keep account of a row, in bytes: its index, its slot, and its place among the rows of its chunk.
ACCOUNT_BYTES = 80

# Batches are made of the rows that were read ahead in parts of so many bytes. Larger: they leave the processor's
# cache. Smaller: threads wait for each other more often.
PART_BYTES = 2**21

# At least so many times, batches are made of the rows that there is room for. Larger: more work for each
# batch. Smaller: chunks are decoded more often.
LEAST_PARTS = 32

# Consecutive rows of storage without chunks are read in parts of this many bytes. Larger: they leave the
# processor's cache. Smaller: more work for each batch.
RUN_BYTES = 2**19


class StorageRows:
    """The samples of an array in storage, to be read by valid indices.

    Parameters
    ----------
    storage : Storage
        The array.
    """

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.array = storage.array
        self.row_bytes = row_bytes_of(storage)
        self._output = Rows(empty_rows(storage, 0))

    def __reduce__(self) -> tuple[type[StorageRows], tuple[Storage]]:
        return StorageRows, (self.storage,)

    def read(self, indices: Leaf) -> NDArray[Any]:
        """Read the rows that indices from -n to n - 1 choose, as a new array."""
        self.storage.check()
        return self._read_alone(indices, self._empty(len(indices), None))

    def columns(self, indices: Leaf, n_batches: int, memory: Memory | None = None) -> NDArray[Any]:
        """Read several batches of equal size at once, into `memory` if it has room, each chunk once.

        Returns
        -------
        array of shape (n_batches, batch size, ...)
            Over memory that nothing else uses.
        """
        self.storage.check()
        rows = self._read_alone(indices, self._empty(len(indices), memory))
        return rows.reshape(n_batches, len(indices) // n_batches, *rows.shape[1:])

    def batches(self, request: Request, to: Destination, room: int) -> Iterator[NDArray[Any]]:
        """Read the batches of a request.

        Parameters
        ----------
        request : Request
            Its indices are those of this array.
        to : Destination
            How batches are read.
        room : int
            How many rows may be read ahead.
        """
        size = len(request.indices) // request.n_batches
        if isinstance(request.indices, range) and not self.storage.whole_chunks and size:
            yield from self._runs(request.indices, size)
            return
        first, ahead, reader = request.number, request.ahead, None
        if ahead is None:  # the request is all that is known
            most = room // max(1, size)
        else:
            # Rows are kept from one part to another, and few of them go through a part at a time.
            most = min(block_size(size * self.row_bytes, to.apart, PART_BYTES), room // (LEAST_PARTS * max(1, size)))
            if room:
                reader = ahead.keep(self, partial(ReadAhead, self.storage, room, ahead.start, ahead.window))
        most = max(1, most)
        # The first batch does not wait for others.
        count = 1 if ahead is not None and first == ahead.start else most
        while first < request.end:
            part = request.since(first).up_to(count)
            self.storage.check()
            output = self._empty(len(part.indices), None)
            if self._read_part(part, reader, output):
                yield from output.reshape(part.n_batches, size, *output.shape[1:])
            else:
                # An error comes at the first batch that it concerns.
                yield from (self.read(single.indices) for single in part.split())
            del output
            first, count = part.end, min(2 * count, most)

    def _runs(self, rows: range, size: int) -> Iterator[NDArray[Any]]:
        """Read batches of consecutive rows as they come, from storage that has no chunks."""
        most = max(1, RUN_BYTES // max(1, size * self.row_bytes)) * size
        for start in range(rows.start, rows.stop, most):
            self.storage.check()
            output = self._empty(min(most, rows.stop - start), None)
            try:
                read_rows(self.storage, start, start + len(output), output)
            except Exception:
                if len(output) == size:
                    raise
                # The error comes at the first batch that it concerns.
                yield from (self.read(range(first, first + size)) for first in range(start, start + len(output), size))
            else:
                yield from (output,) if len(output) == size else output.reshape(-1, size, *output.shape[1:])
            del output

    def _read_part(self, request: Request, reader: ReadAhead | None, output: NDArray[Any]) -> bool:
        """Read several batches; return whether that was possible."""
        if reader is not None:
            return reader.read(request.number, request.n_batches, output)
        try:
            self._read_alone(request.indices, output)
        except Exception:
            return False
        return True

    def _empty(self, count: int, memory: Memory | None) -> NDArray[Any]:
        """Return an uninitialised array for so many rows: in `memory`, if it has room, or else recycled."""
        return self._output.empty(count, memory)

    def _read_alone(self, indices: Leaf, output: NDArray[Any]) -> NDArray[Any]:
        """Read rows into an array, and nothing for other batches."""
        if isinstance(indices, range) and not self.storage.whole_chunks and len(indices):
            read_rows(self.storage, indices.start, indices.stop, output)
        else:
            read_at(self.storage, self.storage.rows(indices), output)
        return output


def read_at(storage: Storage, rows: IndexArray, output: NDArray[Any]) -> None:
    """Read rows of any order, each chunk once."""
    memory = empty_rows(storage, storage.chunk_rows)
    for chunk, places in by_chunks(storage.chunks(rows)):
        output[places] = read_chunk(storage, chunk, memory).take(rows[places] - storage.bounds(chunk)[0], 0)


def room_for(storages: Sequence[Storage], read_ahead: int) -> int:
    """Return how many rows, of several arrays in storage, may be kept in so many bytes."""
    if not storages:
        return 0
    nbytes = sum(row_bytes_of(storage) + ACCOUNT_BYTES for storage in storages)
    return min(read_ahead // nbytes, storages[0].shape[0])
