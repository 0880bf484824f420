"""Finding out what bounds a loop: by what its stream has measured, and by making its latest batches again.

A batch of a plan is a function of its request: to make it again harms nothing, and tells how long it takes alone,
how much of that is computing, and whether two threads make more batches than one.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from threading import Barrier, Thread
from typing import TYPE_CHECKING, NamedTuple

from .statistics import StreamStatistics
from .verdict import Facts

if TYPE_CHECKING:
    from .clock import Clock
    from .stream import Feed

# Making batches again takes about so long in all, in seconds.
PROBE_SECONDS = 0.5

# At least so long is measured at a time, in seconds. Larger: fewer measurements. Smaller: less certain ones.
LEAST_SECONDS = 0.02

# How many of the latest batches are made again.
MOST_REMADE = 8

# Makes a batch.
Make = Callable[[], None]


class Remade(NamedTuple):
    """What it took to make batches again.

    Attributes
    ----------
    seconds, cpu_seconds : float
        For a batch, by one thread.
    speedup : float
        How many times as many two threads make.
    """

    seconds: float
    cpu_seconds: float
    speedup: float


def remake(makes: Sequence[Make], expected: float) -> Remade | None:
    """Make batches again, by one thread and by two in turns; `None` if they take too long, or fail.

    Parameters
    ----------
    makes : sequence of callable
        Each makes a batch.
    expected : float
        How long a batch is expected to take, in seconds.
    """
    if not makes or expected > 0.4 * PROBE_SECONDS:
        return None
    makes = [makes[k % len(makes)] for k in range(max(len(makes), int(LEAST_SECONDS / max(expected, 1e-6)) + 1))]
    makes = makes[: max(1, int(PROBE_SECONDS / 5 / max(expected, 1e-6)))]
    end = time.perf_counter() + PROBE_SECONDS
    alone, both, computed, rounds = float('inf'), float('inf'), float('inf'), 0
    with contextlib.suppress(Exception):
        while rounds < 2 or time.perf_counter() + alone + both < end:
            start, cpu = time.perf_counter(), time.thread_time()
            for make in makes:
                make()
            taken = time.perf_counter() - start
            computed = min(computed, time.thread_time() - cpu)
            alone, both = min(alone, taken), min(both, _by_two(makes))
            rounds += 1
            if 2 * alone + both > PROBE_SECONDS:
                break
        return Remade(alone / len(makes), computed / len(makes), 2 * alone / both)
    return None


def _by_two(makes: Sequence[Make]) -> float:
    """Have each of two threads make all batches; return how long that takes, in seconds."""
    ready, errors, ends = Barrier(2), list[Exception](), list[float]()
    begins = list[float]()

    def work(own: Sequence[Make]) -> None:
        try:
            ready.wait(1)
            begins.append(time.perf_counter())
            for make in own:
                make()
            ends.append(time.perf_counter())
        except Exception as error:
            errors.append(error)

    threads = [Thread(target=work, args=(own,), daemon=True) for own in (makes, makes[::-1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return max(ends) - min(begins)


def find_facts(statistics: StreamStatistics, clock: Clock, feed: Feed) -> Facts:
    """Put together what a verdict needs."""
    makings, n = feed.makings, max(1, statistics.batches - 1)
    period = (statistics.seconds - statistics.first_seconds) / n
    waiting = (statistics.waiting_seconds - statistics.first_seconds) / n
    made = statistics.making_seconds / max(1, statistics.batches)
    by_workers = sum(each.batches for each in statistics.workers if each.name != 'caller') > 0.5 * statistics.batches
    makes = feed.remakes(statistics.position, MOST_REMADE)
    found = remake(makes, waiting if not by_workers else made) if waiting > 0 else None
    making = waiting if not by_workers else made if found is None else found.seconds
    computing = _computing(statistics, clock, found, making, period, by_workers)
    body_computing = (clock.computing or 0.0) * period
    if not by_workers:
        body_computing = max(0.0, body_computing - (computing or 0.0) * making)
    waited = makings.waited_making + makings.waited_transport
    total = max(statistics.making_seconds, 1e-12)
    return Facts(
        batches=statistics.batches,
        period=period,
        waiting=waiting,
        making=making,
        computing=computing,
        speedup=None if found is None else found.speedup,
        body_computing=body_computing,
        stages={name: seconds / total for name, seconds in statistics.stages.items()},
        nbytes=statistics.nbytes / max(1, statistics.batches),
        copied=feed.quick,
        stored=makings.stored,
        planned=bool(makes),
        kind=makings.kind if by_workers else None,
        count=makings.count if by_workers else 0,
        in_transport=makings.waited_transport / waited if waited else 0.0,
        cores=processors(),
    )


def _computing(
    statistics: StreamStatistics, clock: Clock, found: Remade | None, making: float, period: float, by_workers: bool
) -> float | None:
    """Return for what share of making a batch the processor is needed; `None` if it is not known."""
    shares = [] if found is None else [found.cpu_seconds / max(found.seconds, 1e-9)]
    if by_workers:
        seconds, computed = (
            sum(each) for each in zip(*((w.seconds, w.cpu_seconds or 0.0) for w in statistics.workers))
        )
        if found is None and seconds:
            shares.append(computed / seconds)
    elif clock.computing is not None and making > 0:
        # What the user's thread has computed in all, the body of the loop included, is a limit.
        shares.append(clock.computing * period / making)
    return min(1.0, *shares, 1.0) if shares else None


def processors() -> int:
    """Return the number of processors that this process may use."""
    if hasattr(os, 'sched_getaffinity'):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
