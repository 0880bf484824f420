"""What a stream has done so far, and how long it took: what `statistics()` returns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from .stream import Feed, Phase
    from .turns import Count


@dataclass(frozen=True)
class WorkerStatistics:
    """How long one worker has taken to make batches.

    Attributes
    ----------
    name : str
        `'caller'` for the user's own thread, or the number of a thread or a process.
    batches : int
        The number of batches that it has made.
    seconds : float
        How long that took.
    cpu_seconds : float or None
        For how much of it the worker was computing; it waited for the rest, for a disk, or for Python's
        global lock. `None` for the user's own thread.
    median, percentile_95 : float
        Seconds that a batch took: half of the latest ones, and 19 of 20, took at most so long.
    """

    name: str
    batches: int
    seconds: float
    cpu_seconds: float | None
    median: float
    percentile_95: float


@dataclass(frozen=True)
class StreamStatistics:
    """What a stream has done so far.

    Two of them are equal if they count the same batches and samples; how long things took is not compared.

    Attributes
    ----------
    phase : Phase
        Where the stream stands in its life.
    position : int
        The number of batches that the user has received or skipped.
    length : int, math.inf or None
        The number of batches in all; infinite if endless, `None` if unknown.
    batches : int
        The number of batches delivered by this stream, without skipped ones.
    samples : int
        The number of samples in these: the rows of the first array of each.
    nbytes : int
        The number of bytes of their arrays; estimated by their samples where batches come faster than one in a
        millisecond, and those of some are not looked at.
    seconds : float
        From the time when the first batch was asked for until the latest one was there.
    first_seconds : float
        How long the user has waited for the first batch.
    waiting_seconds : float
        How long the user has waited for batches, the first one included.
    body_seconds : float
        How long the user's loop has worked on batches: the time between one and the next request.
    making_seconds : float
        How long it took to make the batches, summed over the workers. Without workers, the user waits for just that.
    making_median, making_95 : float
        Seconds that it takes to make a batch: half of the latest ones, and 19 of 20, took at most so long.
    transport_seconds : float
        How long finished batches took from workers to the user, as far as the user waited for that.
    buffer_fill : float or None
        The share of the batches under way that were ready, whenever the user asked for one: near 1, workers are
        ahead of the loop, near 0, the loop waits for them. `None` without workers.
    stages : dict
        How many of the seconds of making each stage took. `'read'` is reading from arrays and files, `'map(f)'` a
        function that is mapped. `'member 0'` is all that is done for a member of a composite, and
        `'member 0: map(f)'` a function within it, which is part of that.
    workers : tuple of WorkerStatistics
        Who has made how many batches.
    """

    phase: Phase
    position: int
    length: int | float | None
    batches: int
    samples: int
    nbytes: int = field(compare=False)
    seconds: float = field(compare=False)
    first_seconds: float = field(compare=False)
    waiting_seconds: float = field(compare=False)
    body_seconds: float = field(compare=False)
    making_seconds: float = field(compare=False)
    making_median: float = field(compare=False)
    making_95: float = field(compare=False)
    transport_seconds: float = field(compare=False)
    buffer_fill: float | None = field(compare=False)
    stages: Mapping[str, float] = field(compare=False)
    workers: tuple[WorkerStatistics, ...] = field(compare=False)


def gather(phase: Phase, batches: int, count: Count, feed: Feed, caller: int) -> StreamStatistics:
    """Put together what is known of a stream.

    Parameters
    ----------
    phase : Phase
        Where it stands in its life.
    batches : int
        How many batches it has delivered.
    count : Count
        How far it has come.
    feed : Feed
        Where its batches come from.
    caller : int
        The user's thread.
    """
    position, clock, makings = count.position, count.clock, feed.makings
    samples, nbytes, seconds, waiting = clock.totals(position, batches)
    workers: tuple[WorkerStatistics, ...] = ()
    if makings.makers:
        workers, latest = makings.workers(caller), [each for maker in makings.makers.values() for each in maker.latest]
        middle, most = percentiles(latest)
    elif batches:
        middle, most = percentiles(clock.latest)
        workers = (WorkerStatistics('caller', batches, waiting, None, middle, most),)
    else:
        middle = most = 0.0
    making = sum(worker.seconds for worker in workers)
    return StreamStatistics(
        phase=phase,
        position=position,
        length=feed.length,
        batches=batches,
        samples=samples,
        nbytes=nbytes,
        seconds=seconds,
        first_seconds=clock.first_seconds,
        waiting_seconds=waiting,
        body_seconds=max(0.0, seconds - waiting),
        making_seconds=making,
        making_median=middle,
        making_95=most,
        transport_seconds=makings.waited_transport,
        buffer_fill=makings.buffer_fill,
        stages=feed.stages(making) if batches else {},
        workers=workers,
    )


def percentiles(seconds: Iterable[float]) -> tuple[float, float]:
    """Return the median and the 95th percentile; 0 for no values."""
    values = list(seconds)
    middle, most = np.percentile(values, [50, 95]) if values else (0.0, 0.0)
    return float(middle), float(most)
