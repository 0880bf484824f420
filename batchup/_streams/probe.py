"""Finding out what bounds a loop: by what its stream has measured, and by making its latest batches again.

A batch of a plan is a function of its request: to make it again harms nothing, and tells how long it takes alone,
how much of that is computing, and whether two threads make more batches than one.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable, Sequence
from threading import Barrier, Thread
from typing import TYPE_CHECKING, NamedTuple

from .statistics import StreamStatistics
from .verdict import COPIED_BYTES, Facts, part_alone

if TYPE_CHECKING:
    from .clock import Clock
    from .stream import Feed

# Making batches again takes about so long in all, in seconds.
PROBE_SECONDS = 0.5

# At least so long is measured at a time, in seconds. Larger: fewer measurements. Smaller: less certain ones.
LEAST_SECONDS = 0.02

# How many of the latest batches are made again.
MOST_REMADE = 8

# Both are measured so often at most, and the best counts.
MOST_ROUNDS = 5

# Makes a batch.
Make = Callable[[], None]


class Remade(NamedTuple):
    """What it took to make batches again, without the time in which other programs had the processor.

    Attributes
    ----------
    seconds, cpu_seconds : float
        For a batch, by one thread.
    speedup : float
        How many times as many two threads make.
    busy : float
        The share of the time in which other programs had the processor.
    """

    seconds: float
    cpu_seconds: float
    speedup: float
    busy: float


class Taken(NamedTuple):
    """How long a thread took for something, how much of that it was computing, and how long it had to wait before."""

    seconds: float
    cpu_seconds: float
    delayed: float


def remake(makes: Sequence[Make]) -> Remade | None:
    """Make batches again, by one thread and by two in turns; `None` if they take too long, or fail.

    Parameters
    ----------
    makes : sequence of callable
        Each makes a batch.
    """
    end = time.perf_counter() + PROBE_SECONDS
    with contextlib.suppress(Exception):
        first = _timed(makes[:1])
        if makes and first.seconds < PROBE_SECONDS / 3:
            times = max(1, math.ceil(LEAST_SECONDS / max(first.seconds, 1e-6) / len(makes)))
            makes = (list(makes) * times)[: max(1, int(PROBE_SECONDS / 6 / max(first.seconds, 1e-6)))]
            alone, both = [_timed(makes)], [_by_two(makes)]
            while time.perf_counter() + 2 * alone[-1].seconds + both[-1] < end and len(both) < MOST_ROUNDS:
                alone.append(_timed(makes))
                both.append(_by_two(makes))
            seconds, cpu_seconds, delayed = map(min, zip(*alone))
            speedup, busy = 2 * seconds / max(min(both), 1e-9), delayed / (seconds + delayed)
            return Remade(seconds / len(makes), cpu_seconds / len(makes), speedup, busy)
    return None


def _timed(makes: Sequence[Make]) -> Taken:
    """Make batches; return how long that took."""
    start, delayed, cpu = time.perf_counter(), seconds_delayed(), time.thread_time()
    for make in makes:
        make()
    cpu, delayed = time.thread_time() - cpu, seconds_delayed() - delayed
    return Taken(max(cpu, time.perf_counter() - start - delayed), cpu, delayed)


def _by_two(makes: Sequence[Make]) -> float:
    """Have each of two threads make all batches; return how long the slower one takes, in seconds."""
    ready, errors, taken = Barrier(2), list[Exception](), list[float]()

    def work(own: Sequence[Make]) -> None:
        try:
            ready.wait(1)
            taken.append(_timed(own).seconds)
        except Exception as error:
            errors.append(error)

    threads = [Thread(target=work, args=(own,), daemon=True) for own in (makes, makes[::-1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for error in errors:
        raise error
    return max(taken)


def seconds_delayed() -> float:
    """Return how long this thread was ready to run, but waited for a processor; 0 where the system does not tell."""
    try:
        with open('/proc/thread-self/schedstat', 'rb') as file:
            return int(file.read().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0


def find_facts(statistics: StreamStatistics, clock: Clock, feed: Feed) -> Facts:
    """Put together what a verdict needs."""
    makings, n = feed.makings, max(1, statistics.batches - 1)
    period = (statistics.seconds - statistics.first_seconds) / n
    waiting = (statistics.waiting_seconds - statistics.first_seconds) / n
    making = statistics.making_seconds / max(1, statistics.batches)
    nbytes = statistics.nbytes / max(1, statistics.batches)
    pooled = sum(each.batches for each in statistics.workers if each.name != 'caller') > 0.5 * statistics.batches
    makes = feed.remakes(statistics.position, MOST_REMADE)
    found = None if feed.quick and nbytes < COPIED_BYTES['threads'] else remake(makes)
    if pooled and found is not None:
        alone = part_alone(found.speedup) if makings.kind == 'threads' else 0.0
        # No longer than all workers together need for so many batches.
        most = period / (alone + (1 - alone) / makings.count)
        # And no shorter than they have computed: the batches that are made again are in the processor's cache.
        computed = sum(each.cpu_seconds or 0.0 for each in statistics.workers) / statistics.batches
        making = max(computed, min(making, most, found.seconds / max(0.05, 1 - found.busy)))
    computing = _computing(statistics, clock, found, pooled)
    body_computing = (clock.computing or 0.0) * period - (0.0 if pooled else (computing or 0.0) * waiting)
    waited = makings.waited_making + makings.waited_transport
    return Facts(
        batches=statistics.batches,
        period=period,
        waiting=waiting,
        making=making if pooled else waiting,
        computing=1.0 if feed.quick else computing,
        speedup=None if found is None else found.speedup,
        body_computing=max(0.0, body_computing),
        stages={name: seconds / max(statistics.making_seconds, 1e-12) for name, seconds in statistics.stages.items()},
        nbytes=nbytes,
        copied=feed.quick,
        stored=makings.stored,
        planned=bool(makes),
        kind=makings.kind if pooled else None,
        count=makings.count if pooled else 0,
        in_transport=makings.waited_transport / waited if waited else 0.0,
        at_work=statistics.making_seconds / max(1e-9, makings.count * statistics.seconds),
        cores=processors(),
        busy=0.0 if found is None else found.busy,
    )


def _computing(statistics: StreamStatistics, clock: Clock, found: Remade | None, pooled: bool) -> float | None:
    """Return for what share of making a batch the processor is needed; `None` if it is not known."""
    making = statistics.making_seconds
    if found is None:
        computed = sum(worker.cpu_seconds or 0.0 for worker in statistics.workers)
        return min(1.0, computed / making) if pooled and making else None
    share = min(1.0, found.cpu_seconds / max(found.seconds, 1e-9))
    read = not pooled and statistics.stages['read'] > 0.5 * making
    if read and clock.computing is not None and 3 * found.seconds * statistics.batches < making:
        # What was read from a disk is in memory now. All that the user's thread has computed is a limit.
        share = min(share, clock.computing * statistics.seconds / making)
    return share


def processors() -> int:
    """Return the number of processors that this process may use."""
    if hasattr(os, 'sched_getaffinity'):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
