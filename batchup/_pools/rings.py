"""Rings of slots, for results of worker processes."""

from __future__ import annotations

import mmap
import os
import pickle
import sys
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from .memory import NoRoomError, Segment, available_memory, has_huge_pages, over, warn_once

# The most that a ring of slots takes, as a part of the memory that is available. Larger: other
# programs may have to give way. Smaller: fewer batches wait for the user.
LARGEST_PART = 0.5

# The flag that tells the system to map memory at a given address; Python has no name for it.
MAP_FIXED = 0x10

# The size of a large page.
HUGE_PAGE = 2**21


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
    used : int
        How many bytes of each are expected to be used: where that is much, slots are of large pages.

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

    def __init__(self, slots: int, slot_bytes: int, least: int, made: Callable[[Segment], None], used: int = 0) -> None:
        self._huge = used >= HUGE_PAGE and has_huge_pages()
        page = HUGE_PAGE if self._huge else mmap.PAGESIZE
        self.slot_bytes = -(-slot_bytes // page) * page
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
        # For each slot that was ever used, or mapped, a weak reference to its memory in use. Nothing else says
        # whether a slot is free, so wherever an interrupt comes, no slot is lost, nor used twice.
        self._uses: list[_SlotUse | None] = []
        # The processes that have mapped each of these.
        self._writers: list[set[int]] = []
        # The slots that were given back, the latest last. It only says where to look first.
        self._left: list[_SlotUse] = []
        self._lost: list[pickle.PickleBuffer] = []
        self.retired = False

    def _largest(self, slots: int, least: int) -> Segment:
        """Make a segment for so many slots, or for as many as there is room for."""
        while True:
            try:
                return Segment(slots * self.slot_bytes, self._huge)
            except NoRoomError:
                if slots <= least:
                    raise
                slots = max(slots // 2, least)

    def take(self, writer: int = 0) -> Slot | None:
        """Return a free slot, if there is one, for a process to write to.

        Rather one that the process has mapped, the latest of these first: it may be in the processor's
        cache. Memory that nobody has used yet comes last. One thread at a time may call this.
        """
        while True:
            if self.retired:
                self._renew(self.slots, 1)
            number = self._choose(writer)
            if number is None:
                return None
            slot = self._slot(number)
            if not self.retired:  # by a fork in another thread, which may have made this very slot private
                self._writers[number].add(writer)
                return slot

    def _slot(self, number: int) -> Slot:
        start = number * self.slot_bytes
        # Over an array: Python's garbage collection crashes on one over a memoryview.
        part: Any = np.frombuffer(self.segment.view[start : start + self.slot_bytes], np.uint8)
        memory = pickle.PickleBuffer(part)
        use = _SlotUse(memory, self._left.append)
        use.number, use.place = number, _Place(self.segment, start)
        self._uses[number] = use
        _places[memory] = use.place
        return Slot(self.segment, start, memory)

    def _choose(self, writer: int) -> int | None:
        """Return the number of a free slot."""
        n_left = len(self._left)
        # A slot that was taken again has another use by now.
        left = [use for use in self._left[:n_left] if self._uses[use.number] is use]
        self._left[:n_left] = left
        # The latest first; then those that nobody has left yet, or whose end an interrupt has hidden.
        free = dict.fromkeys([use.number for use in reversed(left)])
        free.update(dict.fromkeys(filter(self._is_free, range(len(self._uses)))))
        for number in free:
            if writer in self._writers[number]:
                return number
        if not free and len(self._uses) < self.slots:
            return self._add()
        return next(reversed(free), None)

    def _add(self) -> int:
        """Begin to use another slot; return its number."""
        self._writers.append(set())
        self._uses.append(None)
        return len(self._uses) - 1

    def _is_free(self, number: int) -> bool:
        use = self._uses[number]
        return use is None or use() is None

    def note_mapped(self, segment: int, numbers: Sequence[int], writer: int) -> None:
        """Note that a process has mapped some slots, if they are still in use."""
        if self.segment.id == segment:
            for number in numbers:
                while len(self._uses) <= number:
                    self._add()
                self._writers[number].add(writer)

    def lose(self, slot: Slot) -> None:
        """Never use a slot again: somebody else goes on writing to it."""
        place = _places.get(slot.memory)
        if slot.segment is self.segment and place is not None:
            place.in_hands = True
            self._lost.append(slot.memory)

    @property
    def waiting(self) -> int:
        """How many slots are in use, and the user does not have yet what is in them."""
        return sum(not use.place.in_hands for use in self._in_use())

    @property
    def held(self) -> int:
        """How many slots the user has."""
        return sum(use.place.in_hands for use in self._in_use())

    def _in_use(self) -> list[_SlotUse]:
        return [use for use in list(self._uses) if use is not None and use() is not None]


@dataclass
class _Place:
    """Where the memory of a slot comes from, and whether the user has what is in it."""

    segment: Segment | None
    start: int
    in_hands: bool = False


class _SlotUse(weakref.ref[pickle.PickleBuffer]):
    """A weak reference to the memory of a slot: the slot is in use for as long as anything refers to that."""

    # If an interrupt comes before they are set, any will do: nobody gets the slot.
    number: int = 0
    place: _Place = _Place(None, 0)


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
        if memory is not None and place is not None and place.segment is not None and place.in_hands:
            # Once only: a second time, what was written since the first would be lost.
            del _places[memory]
            _make_private(memory, place.segment.fd, place.start)


def _make_private(memory: pickle.PickleBuffer, fd: int, start: int) -> None:
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
    if map_memory(address, whole.nbytes, protection, flags, fd, start) != address:
        warn_once('fork', 'batches of a process pool are shared with a forked process: copy those that either changes')


if sys.platform == 'linux':
    os.register_at_fork(before=_part)
