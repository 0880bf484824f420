"""Memory that workers map before they get jobs, since its first use takes longer than most jobs."""

from __future__ import annotations

from ..rings import Ring


class Preparation:
    """The slots of a ring that workers are to map beforehand.

    Meanwhile, the caller makes the batches that the user asks for, as while workers start.

    Parameters
    ----------
    ring : Ring
    nbytes : int
        How many bytes of a slot results are expected to use.
    each : int
        How many slots each worker is to map.
    attempts : int
        How often workers may be asked for it: one may be killed, for the memory that this takes.
    """

    def __init__(self, ring: Ring, nbytes: int, each: int, attempts: int) -> None:
        self.segment = ring.segment
        self._ring = ring
        self._nbytes = min(nbytes, ring.slot_bytes)
        self._each = each
        self._attempts = attempts
        self._done = False

    @property
    def is_awaited(self) -> bool:
        """Whether no worker has mapped its part, and one still may."""
        return not self._done and self._attempts > 0

    @property
    def is_needed(self) -> bool:
        """Whether a worker that has not mapped its part is to do so before it gets a job."""
        return self._attempts > 0

    def part(self, number: int, count: int) -> list[int]:
        """Return the numbers of the slots that worker `number` of `count` is to map."""
        self._attempts -= 1
        return list(range(number % count, min(self._ring.slots, count * self._each), count))

    def spans(self, numbers: list[int]) -> list[tuple[int, int]]:
        """Return where the memory of some slots is that results are expected to use."""
        starts = [number * self._ring.slot_bytes for number in numbers]
        return [(start, start + self._nbytes) for start in starts]

    def note(self, numbers: list[int], writer: int) -> None:
        """Note that a process has mapped some slots."""
        self._done = True
        self._ring.note_mapped(self.segment.id, numbers, writer)
