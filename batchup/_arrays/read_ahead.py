"""Reading ahead in storage: every chunk is decoded once for all rows of it that are needed soon.

To decode a chunk for one of its rows, and again for the next one, is what makes shuffled batches
from storage slow. But the batches to come are known. When a chunk has been decoded, its rows that
they need within a *horizon* are kept, each until its batch is made. Rows are kept for half of the
horizon on average, so it may be nearly twice as long as there is room for.
"""

from __future__ import annotations

import math
import threading
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._ground.batch import Destination, Memory
from .._ground.indices import IndexArray, Leaf
from .._ground.messages import add_note
from .._plans.plan import Request
from .rows import Rows, block_size
from .slots import Slots
from .storage import Storage

# How many bytes of storage are read ahead, unless the user says otherwise. Larger: more memory. Smaller: chunks
# are decoded more often for a full shuffle.
READ_AHEAD = 2**28

# How many times as many rows as there is room for lie between a row that is read now and the last one that
# is kept with it. At 2, rows just find room if chunks are decoded evenly over time. Larger: more rows find
# no room. Smaller: chunks are decoded more often.
HORIZON = 1.8

# What it takes to keep account of a row, in bytes: its index, its slot, and its place among the rows of its chunk.
ACCOUNT_BYTES = 80

# The least number of rows that are sorted by chunk at a time. Larger: the first batch comes later.
# Smaller: more segments to look through when a chunk is decoded.
SEGMENT_ROWS = 2**16

# While so many chunks are decoded, one more segment may be looked at. Larger: less is known when a stream
# begins, so that chunks are decoded again. Smaller: the first batch comes later.
CHUNKS_PER_SEGMENT = 16

# At least so many times, batches are made of the rows that there is room for. Larger: more work for each
# batch. Smaller: chunks are decoded more often.
LEAST_PARTS = 32

# Consecutive rows of storage without chunks are read in parts of this many bytes. Larger: they leave the
# processor's cache. Smaller: more work for each batch.
RUN_BYTES = 2**18

# A chunk is kept as a whole if more than this part of its rows will be needed. Larger: more copies. Smaller:
# more room for rows that nobody needs.
WHOLE = 0.7

# Marks of rows: not read yet, and given to the user.
UNREAD, GIVEN = -1, -2

# Multiples of the golden ratio are spread evenly over [0, 1), but for their whole parts.
GOLDEN = 0.6180339887498949


def read_rows(storage: Storage, start: int, stop: int, output: NDArray[Any]) -> None:
    """Read consecutive rows; an error gets a note that says which."""
    try:
        storage.read(start, stop, output)
    except Exception as error:
        add_note(error, f'in {storage.describe(start, stop)}')
        raise


def empty_rows(storage: Storage, count: int) -> NDArray[Any]:
    """Return an uninitialised array for so many rows."""
    return np.empty((count, *storage.shape[1:]), storage.dtype)


def read_chunk(storage: Storage, chunk: int, output: NDArray[Any]) -> NDArray[Any]:
    """Decode a chunk into an array that has room for it; return its rows."""
    start, stop = storage.bounds(chunk)
    read_rows(storage, start, stop, output[: stop - start])
    return output[: stop - start]


def read_at(storage: Storage, rows: IndexArray, output: NDArray[Any]) -> None:
    """Read rows of any order, each chunk once."""
    memory = empty_rows(storage, storage.chunk_rows)
    for chunk, places in by_chunks(storage.chunks(rows)):
        output[places] = read_chunk(storage, chunk, memory).take(rows[places] - storage.bounds(chunk)[0], 0)


def _chunk_order(chunks: IndexArray) -> IndexArray:
    """Return the order that sorts rows by chunk, and else leaves them as they are; small numbers are sorted faster."""
    small = chunks.max(initial=0) < 2**16
    return np.argsort(chunks.astype(np.uint16) if small else chunks, kind='stable')


def by_chunks(chunks: IndexArray) -> Iterator[tuple[int, IndexArray]]:
    """Go through chunks in storage order, with the places of their rows."""
    order = _chunk_order(chunks)
    ends = [*np.flatnonzero(np.diff(chunks[order])) + 1, len(order)] if len(order) else []
    start = 0
    for end in ends:
        yield int(chunks[order[start]]), order[start:end]
        start = end


class _Segment:
    """The rows of consecutive batches, in the order of the batches.

    Attributes
    ----------
    first : int
        How many rows come before those of this segment.
    number, end : int
        The number of the first batch, and of the one after the last.
    rows, chunks : arrays of shape (n,)
        The indices of the rows, and the numbers of their chunks.
    slots : array of shape (n,)
        Where each row is kept; or `UNREAD`, or `GIVEN`.
    left : int
        How many rows have not been given to the user.
    """

    def __init__(self, first: int, windows: list[Request], storage: Storage) -> None:
        self.first = first
        self.number, self.end = windows[0].number, windows[-1].end
        self._numbers = [window.number for window in windows]
        self._sizes = [len(window.indices) // window.n_batches for window in windows]
        self._starts = [0, *np.cumsum([len(window.indices) for window in windows]).tolist()]
        self.rows = np.concatenate([storage.rows(window.indices) for window in windows])
        self.chunks = storage.chunks(self.rows)
        self.left = len(self.rows)
        self.slots = np.full(self.left, UNREAD)
        self._order = _chunk_order(self.chunks)
        self._sorted = self.chunks[self._order]

    def part(self, number: int, n_batches: int) -> slice:
        """Return the places of the rows of some batches; they have one size."""
        k = bisect_right(self._numbers, number) - 1
        start = self._starts[k] + (number - self._numbers[k]) * self._sizes[k]
        return slice(start, start + n_batches * self._sizes[k])

    def take(self, part: slice) -> IndexArray:
        """Return the slots of rows that are now given to the user."""
        slots = self.slots[part].copy()
        self.slots[part] = GIVEN
        self.left -= len(slots)
        return slots

    def unread(self, chunk: int) -> IndexArray:
        """Return the places of the rows of a chunk that are not read yet, in order."""
        start, stop = self._sorted.searchsorted([chunk, chunk + 1])
        places = self._order[start:stop]
        unread: IndexArray = places[self.slots[places] == UNREAD]
        return unread


@dataclass(eq=False)
class _Decoding:
    """A chunk to be decoded, and what for. Who holds its lock does it; others wait for the lock.

    Attributes
    ----------
    chunk : int
        The number of the chunk.
    places, now : arrays of equal length
        The places of the rows that are needed now, in the batches that are asked for, and which rows of the chunk
        they are.
    slots, later : arrays of equal length
        Where rows for later batches are kept, and which rows of the chunk they are.
    page : int, optional
        The first slot of a page that the whole chunk is decoded into; else its rows are copied to their slots.
    read : array, optional
        The rows for these batches, when the chunk is decoded.
    failed : bool
        Whether it could not be decoded. The error comes again when the batches are read one by one.
    """

    chunk: int
    places: IndexArray
    now: IndexArray
    slots: IndexArray
    later: IndexArray
    page: int | None = None
    read: NDArray[Any] | None = None
    failed: bool = False
    lock: Any = field(default_factory=threading.Lock)

    @property
    def over(self) -> bool:
        """Whether it was decoded, or could not be."""
        return self.failed or self.read is not None


class ReadAhead:
    """The rows of an array in storage that the batches of a stream need, read ahead of them.

    Several threads may ask for batches at a time: then they decode different chunks.

    Parameters
    ----------
    storage : Storage
        What is read.
    room : int
        How many rows may be kept.
    start : int
        The number of the first batch.
    window : callable
        Gives the batches to come, as that of `Ahead` does.
    """

    def __init__(self, storage: Storage, room: int, start: int, window: Callable[[int], Request | None]) -> None:
        self._storage = storage
        self._window = window
        self._kept = empty_rows(storage, room)
        # Memory for chunks and for rows of them, used again and again: new memory would take as long as the copies.
        self._memory: list[tuple[NDArray[Any], NDArray[Any]]] = []
        self._slots = Slots(room, storage.chunk_rows)
        self._horizon = int(HORIZON * room)
        self._scarce = room < storage.shape[0]
        self._segments: deque[_Segment] = deque()
        self._next = start
        self._rows_seen = 0
        # The chunks that were decoded before.
        self._seen: set[int] = set()
        # What is being decoded, and what could not be.
        self._decodings: list[_Decoding] = []
        self._lock = threading.Lock()

    def read(self, number: int, n_batches: int, output: NDArray[Any]) -> bool:
        """Read the rows of some batches of one size, for the first time.

        Parameters
        ----------
        number, n_batches : int
            The number of the first batch, and how many.
        output : array of shape (number of rows, ...)
            Where the rows go.

        Returns
        -------
        bool
            Whether they were read. If not, they were not known beforehand, or a chunk could not be decoded.
        """
        with self._lock:
            segment = self._segment_of(number)
            if segment is None or segment.end < number + n_batches:
                return False
            part = segment.part(number, n_batches)
            slots = segment.take(part)
            if (slots == GIVEN).any():
                return False
            own = self._plan(segment, part, np.flatnonzero(slots == UNREAD))
            decodings = [*own, *(other for other in self._decodings if np.isin(other.slots, slots).any())]
            self._decodings += own
        for decoding in decodings:
            self._decode(decoding, wait=False)
        for decoding in decodings:
            if not decoding.over:  # another thread is at it
                self._decode_next(segment, part)
                self._decode(decoding, wait=True)
        if (slots >= 0).any():
            self._kept.take(slots, 0, output, 'clip')
        for decoding in own:
            if decoding.read is not None:
                output[decoding.places] = decoding.read
        with self._lock:
            self._slots.give_back(slots[slots >= 0])
            self._decodings = [decoding for decoding in self._decodings if decoding.failed or not decoding.over]
        return not any(decoding.failed for decoding in decodings)

    def _segment_of(self, number: int) -> _Segment | None:
        """Return the segment of a batch; forget those whose rows were all given to the user."""
        while self._segments and not self._segments[0].left and self._segments[0].end <= number:
            self._segments.popleft()
        while not self._segments or self._segments[-1].end <= number:
            if not self._look_ahead():
                return None
        return next((segment for segment in self._segments if segment.number <= number < segment.end), None)

    def _look_ahead(self) -> bool:
        """Look at one more segment; return whether there is one."""
        windows: list[Request] = []
        rows = 0
        while rows < SEGMENT_ROWS:
            window = self._window(self._next)
            if window is None:
                break
            windows.append(window)
            rows += len(window.indices)
            self._next = window.end
        if windows:
            self._segments.append(_Segment(self._rows_seen, windows, self._storage))
            self._rows_seen += rows
        return bool(windows)

    def _plan(self, segment: _Segment, part: slice, unread: IndexArray) -> list[_Decoding]:
        """Plan how to decode the chunks of rows that are not read yet; these are given by their places in a part."""
        rows, chunks, here = segment.rows[part], segment.chunks[part], segment.first + part.stop
        by_chunk = [(chunk, unread[places]) for chunk, places in by_chunks(chunks[unread])]
        for _ in range(-(-len(by_chunk) // CHUNKS_PER_SEGMENT)):
            if self._rows_seen >= here + self._horizon or not self._look_ahead():
                break
        decodings = []
        for chunk, places in by_chunk:
            now = rows[places] - self._storage.bounds(chunk)[0]
            decodings.append(_Decoding(chunk, places, now, *self._keep(chunk, segment, here)))
        return decodings

    def _keep(self, chunk: int, segment: _Segment, here: int) -> tuple[IndexArray, IndexArray, int | None]:
        """Give slots to the rows of a chunk that are needed within the horizon.

        Returns
        -------
        tuple
            The slots, which rows of the chunk are kept in them, and the page of the chunk if it has got one.
        """
        found = [(each, each.unread(chunk)) for each in self._segments if each.number >= segment.number]
        last = max((each.first + int(places[-1]) for each, places in found if len(places)), default=here)
        horizon: float = self._horizon
        if self._scarce and chunk not in self._seen and last - here > horizon / 2:
            # At the start, many chunks are decoded at once. For some, rows are kept less long, so that
            # they are not all decoded again at once: room for rows is then free when it is needed.
            horizon *= chunk * GOLDEN % 1
        self._seen.add(chunk)
        wanted = [(each, places[: places.searchsorted(here + horizon - each.first)]) for each, places in found]
        first, stop = self._storage.bounds(chunk)
        count = sum(len(places) for _, places in wanted)
        page = self._slots.take_page(count) if count > WHOLE * (stop - first) else None
        slots, rows = [np.empty(0, np.intp)], [np.empty(0, np.intp)]
        for each, places in wanted:
            kept = places if page is not None else places[: self._slots.free]
            rows.append(each.rows[kept] - first)
            slots.append(self._slots.take(len(kept)) if page is None else page + rows[-1])
            each.slots[kept] = slots[-1]
        return np.concatenate(slots), np.concatenate(rows), page

    def _decode_next(self, segment: _Segment, part: slice) -> None:
        """Decode the next chunk that will be needed after some batches, if there is room for its rows."""
        with self._lock:
            decoding = self._plan_next(segment, part) if self._slots.free > self._storage.chunk_rows else None
            if decoding is None:
                return
            self._decodings.append(decoding)
        self._decode(decoding, wait=False)

    def _plan_next(self, segment: _Segment, part: slice) -> _Decoding | None:
        none = np.empty(0, np.intp)
        for each in self._segments:
            after = part.stop if each is segment else 0
            unread = np.flatnonzero(each.slots[after:] == UNREAD)[:1] if each.number >= segment.number else none
            if len(unread):
                chunk = int(each.chunks[after + unread[0]])
                return _Decoding(chunk, none, none, *self._keep(chunk, segment, segment.first + part.stop))
        return None

    def _decode(self, decoding: _Decoding, wait: bool) -> None:
        """Decode a chunk, unless another thread does; `wait` until that is done."""
        if decoding.over or not (wait or not decoding.lock.locked()):
            return
        with decoding.lock:
            if decoding.over:
                return
            memory = self._take_memory() if decoding.page is None else (self._kept[decoding.page :],) * 2
            try:
                rows = read_chunk(self._storage, decoding.chunk, memory[0])
            except Exception:
                decoding.failed = True
                return
            if decoding.page is None:
                self._copy(rows, decoding, memory[1])
                self._memory.append(memory)
            decoding.read = rows.take(decoding.now, 0)

    def _copy(self, rows: NDArray[Any], decoding: _Decoding, memory: NDArray[Any]) -> None:
        """Copy rows of a chunk to their slots, by way of memory for a chunk."""
        for start in range(0, len(decoding.later), len(memory)):  # rows may be needed several times
            later = decoding.later[start : start + len(memory)]
            rows.take(later, 0, memory[: len(later)], 'clip')
            self._kept[decoding.slots[start : start + len(later)]] = memory[: len(later)]

    def _take_memory(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return memory for a chunk, and for as many rows again."""
        try:
            return self._memory.pop()
        except IndexError:  # other threads use what there is
            rows = self._storage.chunk_rows
            return empty_rows(self._storage, rows), empty_rows(self._storage, rows)


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

    def batches(self, request: Request, to: Destination, room: int, number: int) -> Iterator[NDArray[Any]]:
        """Read the batches of a request.

        Parameters
        ----------
        request : Request
            Its indices are those of this array.
        to : Destination
            How batches are read.
        room : int
            How many rows may be read ahead.
        number : int
            The number of this array in its source.
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
            most = min(block_size(size * self.row_bytes, to.apart), room // (LEAST_PARTS * max(1, size)))
            if room:
                reader = ahead.keep(number, partial(ReadAhead, self.storage, room, ahead.start, ahead.window))
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
        return self._output.empty(count, memory)

    def _read_alone(self, indices: Leaf, output: NDArray[Any]) -> NDArray[Any]:
        if isinstance(indices, range) and not self.storage.whole_chunks and len(indices):
            read_rows(self.storage, indices.start, indices.stop, output)
        else:
            read_at(self.storage, self.storage.rows(indices), output)
        return output


def row_bytes_of(storage: Storage) -> int:
    """Return the number of bytes of a row."""
    return math.prod(storage.shape[1:]) * storage.dtype.itemsize


def room_for(storages: Sequence[Storage], read_ahead: int) -> int:
    """Return how many rows, of several arrays in storage, may be kept in so many bytes."""
    if not storages:
        return 0
    nbytes = sum(row_bytes_of(storage) + ACCOUNT_BYTES for storage in storages)
    return min(read_ahead // nbytes, storages[0].shape[0])
