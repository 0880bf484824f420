"""How long a loop takes for a batch, and which way of making batches is best for it.

Batches are made inline, by threads or by processes. Which of these is the fastest depends on the
source, on the machine, and on the loop. So each is tried for some batches of the loop itself.
"""

from __future__ import annotations

import os
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, Literal, NamedTuple

from .._ground.batch import Batch

Way = Literal['inline', 'threads', 'processes']

INLINE: Final = 'inline'
THREADS: Final = 'threads'
PROCESSES: Final = 'processes'

# How long a trial measures, in seconds. Larger: a decision comes later. Smaller: more often, it is a wrong one.
TRIAL_SECONDS = 0.2

# A loop is as fast as workers can make it if it takes no more than so many times as long. Larger: speed is given
# away. Smaller: workers are tried, and processes started, for next to nothing.
NEAR = 1.1

# How many times as fast a loop must be for workers, or costlier ones, to be worth their while. Larger: speed is
# given away. Smaller: workers are used for next to nothing, or by the noise of a measurement.
LEAST_GAIN = 1.05


# Before a trial, each worker makes a batch, or there are so many times as many batches as workers: idle ones may get
# none. Larger: a decision comes later. Smaller: workers that have just been started are measured.
MOST_FIRST = 3


class Timing(NamedTuple):
    """How long a loop takes for a batch, in seconds.

    Attributes
    ----------
    waiting : float
        How long it waits for the batch. Inline, the batch is made in this time.
    body : float
        How long its own body works on the batch.
    """

    waiting: float
    body: float

    @property
    def total(self) -> float:
        """Both together."""
        return self.waiting + self.body


class Meter:
    """Measures a loop over batches, of one stream or several, until enough is known.

    Parameters
    ----------
    workers : int
        How many workers make the batches; 0 for the caller. As many batches, or one, are not counted
        at first: workers, and a loop that compiles something, take longer for these.
    seconds : float
        How long to measure, at least.
    """

    def __init__(self, workers: int = 0, *, seconds: float) -> None:
        self._left = max(1, workers)
        self._least = 2 * max(1, workers)
        self.seconds = seconds
        self.batches = 0
        self._waiting = 0.0
        self._body = 0.0

    @property
    def enough(self) -> bool:
        """Whether it has measured for long enough."""
        return self.batches >= self._least and self._waiting + self._body >= self.seconds

    @property
    def timing(self) -> Timing:
        """What was measured so far; zeros if that is nothing."""
        count = max(1, self.batches)
        return Timing(self._waiting / count, self._body / count)

    def measure(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Go through batches, and measure the loop that takes them, from one batch to the next."""
        clock = time.perf_counter
        asked = clock()
        for batch in batches:
            came = clock()
            yield batch
            del batch  # not kept while the next one is made
            now = clock()
            self._note(came - asked, now - came)
            asked = now

    def _note(self, waiting: float, body: float) -> None:
        if self._left:
            self._left -= 1
        elif not self.enough:
            self.batches += 1
            self._waiting += waiting
            self._body += body


class Calibration:
    """Finds out which way of making batches is best for a loop, by a trial of each that may be.

    Parameters
    ----------
    ways : sequence
        The ways that there are: first inline, then those that cost more memory than the ones before.
    workers : int
        How many threads, or processes, can be at work at a time.

    Attributes
    ----------
    ways : list
        Those that are left.
    decided : str, optional
        The way that was found to be best; `None` as long as there is something to try.
    """

    def __init__(self, ways: Sequence[Way], workers: int) -> None:
        self.ways = list(ways)
        self._workers = workers
        self._meters: dict[Way, Meter] = {}
        # Who has made batches, and how many there were, before the trials of workers.
        self._makers: dict[Way, set[object]] = defaultdict(set)
        self._made: Counter[Way] = Counter()
        self.decided: Way | None = None

    def next_way(self) -> Way:
        """Return the way to try next, or to go on with; once there is nothing left to try, the best one."""
        if self.decided is None:
            timings = self.timings()
            way = next((way for way in self._meters if way not in timings), None) or untried(
                self.ways, timings, self._workers
            )
            if way is None:
                way = self.decided = best_way(self.ways, timings)
            return way
        return self.decided

    def is_warm(self, way: Way) -> bool:
        """Say whether every worker has made a batch: the first one takes it longer."""
        enough = len(self._makers[way]) >= self._workers or self._made[way] >= MOST_FIRST * self._workers
        return way == INLINE or enough

    def warm_up(self, way: Way, makers: Iterable[object]) -> None:
        """Note a batch before a trial, and which workers have made batches in this way."""
        self._makers[way].update(makers)
        self._made[way] += 1

    def meter(self, way: Way) -> Meter:
        """Return what measures a way."""
        return self._meters.setdefault(way, Meter(0 if way == INLINE else self._workers, seconds=TRIAL_SECONDS))

    def timings(self) -> dict[Way, Timing]:
        """Return what was measured, of those ways whose trials are over."""
        return {way: meter.timing for way, meter in self._meters.items() if meter.enough}

    def best_so_far(self) -> Way:
        """Return the best of the ways that were tried."""
        return best_way(self.ways, self.timings())

    def leave_out(self, way: Way) -> None:
        """Do not use a way; two streams may find out at the same time."""
        self.ways = [other for other in self.ways if other != way]
        self._meters.pop(way, None)


def untried(ways: Sequence[Way], timings: Mapping[Way, Timing], workers: int) -> Way | None:
    """Return the way to try next; `None` if no other way can be much faster than the best one so far.

    A loop with workers takes as long as its own body, or as long as the workers take that share the making
    of the batches, whichever is longer.

    >>> loop = {'inline': Timing(waiting=0.008, body=0.002)}
    >>> untried(['inline', 'threads', 'processes'], loop, workers=2)
    'threads'
    >>> loop['threads'] = Timing(waiting=0.0021, body=0.002)
    >>> untried(['inline', 'threads', 'processes'], loop, workers=2)
    """
    if INLINE not in timings:
        return INLINE
    waiting, body = timings[INLINE]
    goal = max(body, waiting / workers)
    if min(timing.total for timing in timings.values()) <= NEAR * goal:
        return None
    return next((way for way in ways if way not in timings), None)


def best_way(ways: Sequence[Way], timings: Mapping[Way, Timing]) -> Way:
    """Return the fastest way; of those that take about as long, the first; inline if nothing was measured.

    >>> best_way(['inline', 'threads'], {'inline': Timing(0.0003, 0.01), 'threads': Timing(0.0001, 0.01)})
    'inline'
    """
    least = min((timing.total for timing in timings.values()), default=0.0)
    return next((way for way in ways if way in timings and timings[way].total <= LEAST_GAIN * least), INLINE)


def cores() -> int:
    """Return the number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
