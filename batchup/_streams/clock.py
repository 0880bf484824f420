"""The clock of a stream: how long its user waits for batches, and works on them.

It is read twice for a batch, which takes a fifth of a microsecond. Where batches come so fast that this would count,
it is read in some stretches of consecutive batches only; in the others, the user is taken to wait for as long.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Any, NamedTuple

import numpy as np

from .._ground.batch import Batch, leaves, row_counts
from .makings import LATEST

# How many batches are timed at a time: as many as one window has, so that what is done once in a window counts.
STRETCH = 256

# How many batches after them are not timed, where batches come fast.
PAUSE = 15 * STRETCH

# Batches come fast if it takes less from one to the next, in seconds. Larger: less is measured. Smaller: to look at
# the clock takes a larger part of the time.
FAST_SECONDS = 2e-5

# How long until the next batch is looked at more closely, in seconds. Larger: bytes are estimated from fewer
# batches. Smaller: looking, a microsecond or two, takes a larger part of the time.
LOOK_SECONDS = 1e-3


class Totals(NamedTuple):
    """Sums over the batches of a stream: their samples and bytes, all seconds, and those in which the user waited."""

    samples: int
    nbytes: int
    seconds: float
    waiting: float


class Clock:
    """Adds up times and sizes of the batches of a stream.

    Attributes
    ----------
    samples : int
        The number of samples delivered, except for those of a pause that is not over.
    waiting : float
        How many seconds the user has waited for batches that were timed.
    latest : deque of float
        The seconds for each of the latest of them.
    ready : float
        When the latest of them was there.
    due : float
        When to look at a batch more closely.
    first_seconds : float
        How long the user has waited for the first batch.
    computing : float, optional
        The share of the time in which the user's thread was computing; `None` if it is not known.
    """

    __slots__ = (
        '_first',
        '_looked',
        '_paused',
        '_seen',
        '_stretch',
        '_untimed',
        'computing',
        'due',
        'first_seconds',
        'latest',
        'ready',
        'samples',
        'waiting',
    )

    def __init__(self) -> None:
        self.samples = 0
        self.waiting = 0.0
        self.latest: deque[float] = deque(maxlen=LATEST)
        self.ready = self.due = self.first_seconds = 0.0
        self._first: float | None = None
        self._stretch = 0.0
        self._untimed = 0
        # The position where timing has paused, and the samples of a batch there.
        self._paused: tuple[int, int] | None = None
        # Samples and bytes of the batches that were looked at.
        self._looked = (0, 0)
        # The user's thread, and when it was first looked at: by the clock, and by how long it had been computing.
        self._seen: tuple[int, float, float] | None = None
        # The share of the time since then in which it was computing.
        self.computing: float | None = None

    def begin(self) -> None:
        """Note that batches are asked for from now on."""
        self._stretch = time.perf_counter()
        if self._first is None:
            self._first = self.ready = self._stretch

    def look(self, batch: Batch, ready: float) -> None:
        """Note the size of a batch that was there at a time, and how long the user's thread has been computing."""
        if not any(self._looked):
            self.first_seconds = ready - (self._first or ready)
        rows, nbytes = self._looked
        self._looked = rows + rows_of(batch), nbytes + sum(bytes_of(leaf) for leaf in leaves(batch))
        thread, computed = threading.get_ident(), time.thread_time()
        if self._seen is None or self._seen[0] != thread:
            self._seen = thread, ready, computed
        elif ready > self._seen[1]:
            self.computing = (computed - self._seen[2]) / (ready - self._seen[1])
        self.due = ready + LOOK_SECONDS

    def is_costly(self) -> bool:
        """Say whether batches come so fast that clocks count, at the end of a stretch that was timed."""
        start, self._stretch = self._stretch, time.perf_counter()
        return self._stretch - start < STRETCH * FAST_SECONDS

    def pause_at(self, position: int, rows: int = 0) -> int:
        """Note that batches from a position on are not timed; if they are not counted, give the samples of one."""
        self._paused = position, rows
        return position

    def go_on(self, position: int, rows: int = 0) -> None:
        """Note that batches from a position on are timed again; `rows` are the samples of the last that was not."""
        if self._paused is not None:
            count, size = position - self._paused[0], self._paused[1]
            self._untimed += count
            self.samples += (count - 1) * size + rows if count else 0
            self._paused = None
            self._stretch = self.ready = time.perf_counter()

    def totals(self, position: int, batches: int) -> Totals:
        """Return the sums over so many batches that were delivered, the last of them before a position."""
        paused, size = (position - self._paused[0], self._paused[1]) if self._paused is not None else (0, 0)
        untimed = self._untimed + paused
        samples, (rows, nbytes) = self.samples + paused * size, self._looked
        waiting = self.waiting + untimed * (self.waiting - self.first_seconds) / max(1, batches - untimed - 1)
        seconds = 0.0 if self._first is None else (self.ready - self._first) * batches / max(1, batches - paused)
        return Totals(samples, round(samples * nbytes / max(1, rows)), seconds, waiting)


def rows_of(batch: Batch) -> int:
    """Return the number of samples of a batch, by its first array; 0 if it has none."""
    if batch and type(batch[0]) is np.ndarray and batch[0].ndim:
        return len(batch[0])
    return next(iter(row_counts(batch)), 0)


def bytes_of(leaf: Any) -> int:
    """Return the number of bytes of an array; 0 for anything else."""
    nbytes = getattr(leaf, 'nbytes', 0)
    return int(nbytes) if isinstance(nbytes, (int, np.integer)) else 0
