"""Reading ahead in storage: every chunk is decoded once for all rows of it that are needed soon.

To decode a chunk for one of its rows, and again for the next one, is what makes shuffled batches
from storage slow. But the batches to come are known. When a chunk has been decoded, its rows that
they need within a *horizon* are kept, each until its batch is made. Rows are kept for half of the
horizon on average, so it may be nearly twice as long as there is room for.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._ground.indices import IndexArray
from .._plans.plan import Request
from .segments import GIVEN, UNREAD, Segment, by_chunks
from .slots import Slots
from .storage import Storage, empty_rows, read_chunk

# How many times as many rows as there is room for lie between a row that is read now and the last one that
# is kept with it. At 2, rows just find room if chunks are decoded evenly over time. Larger: more rows find
# no room. Smaller: chunks are decoded more often.
HORIZON = 1.8

# The least number of rows that are sorted by chunk at a time. Larger: the first batch comes later.
# Smaller: more segments to look through when a chunk is decoded.
SEGMENT_ROWS = 2**16

# While so many chunks are decoded, one more segment may be looked at. Larger: less is known when a stream
# begins, so that chunks are decoded again. Smaller: the first batch comes later.
CHUNKS_PER_SEGMENT = 16

# A chunk is kept as a whole if more than this part of its rows will be needed. Larger: more copies. Smaller:
# more room for rows that nobody needs.
WHOLE = 0.7

# Multiples of the golden ratio are spread evenly over [0, 1), but for their whole parts.
GOLDEN = 0.6180339887498949


@dataclass(eq=False)
class _Decoding:
    """A chunk to be decoded, and what for. Who holds its lock does it; others wait for the lock.

    Attributes
    ----------
    number : int
        Counts from 1.
    chunk : int
        The number of the chunk.
    places, now : arrays of equal length
        The places of the rows that are needed now, in the batches that are asked for, and which rows of the chunk
        they are.
    slots, later : arrays of equal length
        Where rows for later batches are kept, and which rows of the chunk they are.
    kept : list of (segment, places)
        The places of these rows in their segments.
    page : int, optional
        The first slot of a page that the whole chunk is decoded into; else its rows are copied to their slots.
    read : array, optional
        The rows for these batches, when the chunk is decoded.
    failed : bool
        Whether it could not be decoded. The error comes again when the batches are read one by one.
    """

    number: int
    chunk: int
    places: IndexArray
    now: IndexArray
    slots: IndexArray
    later: IndexArray
    kept: list[tuple[Segment, IndexArray]]
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
        self._segments: deque[Segment] = deque()
        self._next = start
        self._rows_seen = 0
        # The chunks that were decoded before.
        self._seen: set[int] = set()
        # What is to be decoded, or being decoded, by its number; and for each slot the number, or 0.
        self._decodings: dict[int, _Decoding] = {}
        self._n_decodings = 0
        self._filled_by = np.zeros(room, np.intp)
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
            if (segment.slots[part] == GIVEN).any():
                return False
            slots = segment.take(part)
            kept = slots[slots != UNREAD]
            coming = self._filled_by[kept]
            others = [self._decodings[k] for k in set(coming[coming > 0].tolist())]
            own = self._plan(segment, part, np.flatnonzero(slots == UNREAD))
        decodings = [*own, *others]
        for decoding in decodings:
            self._decode(decoding, wait=False)
        for decoding in decodings:
            if not decoding.over:  # another thread is at it
                self._decode_next(segment, part)
                self._decode(decoding, wait=True)
        if len(kept):
            self._kept.take(slots, 0, output, 'clip')
        for decoding in own:
            if decoding.read is not None:
                output[decoding.places] = decoding.read
        with self._lock:
            for decoding in [each for each in self._decodings.values() if each.over]:
                self._forget(decoding)
            self._slots.give_back(kept)
        return not any(decoding.failed for decoding in decodings)

    def _segment_of(self, number: int) -> Segment | None:
        """Return the segment of a batch; forget those whose rows were all given to the user."""
        while self._segments and not self._segments[0].left and self._segments[0].end <= number:
            self._segments.popleft()
        while not self._segments or self._segments[-1].end <= number:
            if self._look_ahead():
                continue
            if self._next >= number:
                return None
            self._next = number  # the windows before it are no longer at hand
        return next((segment for segment in self._segments if segment.number <= number < segment.end), None)

    def _look_ahead(self) -> bool:
        """Look at one more segment; return whether there is one."""
        windows: list[Request] = []
        rows = looked_at = 0
        while looked_at < min(SEGMENT_ROWS, max(self._horizon, 1)):
            window = self._window(self._next)
            if window is None:
                break
            windows.append(window)
            rows += len(window.indices)
            looked_at += max(len(window.indices), window.n_batches)  # the batches of a shard may be empty
            self._next = window.end
        if windows:
            self._segments.append(Segment(self._rows_seen, windows, self._storage))
            self._rows_seen += rows
        return bool(windows)

    def _plan(self, segment: Segment, part: slice, unread: IndexArray) -> list[_Decoding]:
        """Look further ahead; plan to decode the chunks of unread rows, whose places in a part are given."""
        rows, chunks, here = segment.rows[part], segment.chunks[part], segment.first + part.stop
        by_chunk = [(chunk, unread[places]) for chunk, places in by_chunks(chunks[unread])]
        for _ in range(-(-len(by_chunk) // CHUNKS_PER_SEGMENT)):
            if self._rows_seen >= here + self._horizon or not self._look_ahead():
                break
        return [self._decoding(chunk, places, rows[places], segment, here) for chunk, places in by_chunk]

    def _decoding(self, chunk: int, places: IndexArray, now: IndexArray, segment: Segment, here: int) -> _Decoding:
        """Plan to decode a chunk, and give slots to its rows that are needed within the horizon."""
        found = [(each, each.unread(chunk)) for each in self._segments if each.number >= segment.number]
        last = max((each.first + int(places[-1]) for each, places in found if len(places)), default=here)
        horizon: float = self._horizon
        if self._scarce and chunk not in self._seen and last - here > horizon / 2:
            # At the start, many chunks are decoded at once. For some, rows are kept less long, so that
            # they are not all decoded again at once: room for rows is then free when it is needed.
            horizon *= chunk * GOLDEN % 1
        self._seen.add(chunk)
        first, stop = self._storage.bounds(chunk)
        wanted = [(each, places[: places.searchsorted(here + horizon - each.first)]) for each, places in found]
        count = sum(len(places) for _, places in wanted)
        page = self._slots.take_page(count) if count > WHOLE * (stop - first) else None
        kept = []
        slots, later = [np.empty(0, np.intp)], [np.empty(0, np.intp)]
        for each, needed in wanted:
            places_kept = needed if page is not None else needed[: self._slots.free]
            kept.append((each, places_kept))
            later.append(each.rows[places_kept] - first)
            slots.append(self._slots.take(len(places_kept)) if page is None else page + later[-1])
            each.slots[places_kept] = slots[-1]
        self._n_decodings = number = self._n_decodings + 1
        filled = np.concatenate(slots)
        self._filled_by[filled] = number
        decoding = _Decoding(number, chunk, places, now - first, filled, np.concatenate(later), kept, page)
        self._decodings[number] = decoding
        return decoding

    def _forget(self, decoding: _Decoding) -> None:
        """Note that a decoding is over, before its slots are given back."""
        del self._decodings[decoding.number]
        self._filled_by[decoding.slots] = 0

    def _decode_next(self, segment: Segment, part: slice) -> None:
        """Decode the next chunk that will be needed after some batches, if there is room for its rows."""
        with self._lock:
            decoding = self._plan_next(segment, part) if self._slots.free > self._storage.chunk_rows else None
        if decoding is not None:
            self._decode(decoding, wait=False)

    def _plan_next(self, segment: Segment, part: slice) -> _Decoding | None:
        """Plan to decode the chunk of the first unread row after some batches; `None` if there is none."""
        none = np.empty(0, np.intp)
        for each in self._segments:
            after = part.stop if each is segment else 0
            unread = np.flatnonzero(each.slots[after:] == UNREAD)[:1] if each.number >= segment.number else none
            if len(unread):
                chunk = int(each.chunks[after + unread[0]])
                return self._decoding(chunk, none, none, segment, segment.first + part.stop)
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
                self._give_up(decoding)
                return
            now = rows.take(decoding.now, 0)
            if decoding.page is None:
                self._copy(rows, decoding, memory[1])
                self._memory.append(memory)
            # Only now may other threads use what is kept.
            decoding.read = now

    def _give_up(self, decoding: _Decoding) -> None:
        """Say that a chunk could not be decoded; for batches that are not asked for yet, it will be tried again."""
        with self._lock:
            decoding.failed = True
            self._forget(decoding)
            start = 0
            for segment, places in decoding.kept:
                # Rows of batches that were asked for meanwhile are marked as given.
                slots = decoding.slots[start : start + len(places)]
                start += len(places)
                waiting = segment.slots[places] == slots
                segment.slots[places[waiting]] = UNREAD
                self._slots.give_back(slots[waiting])

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
