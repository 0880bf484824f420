"""How batches were made by workers: noted job by job, as their results arrive."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from .._ground.stages import Stages
from .statistics import WorkerStatistics, percentiles

# Of so many of the latest batches, percentiles are taken.
LATEST = 1000


class Work(NamedTuple):
    """What a worker tells about a job with its result.

    Attributes
    ----------
    worker : (int, int)
        The process, and the thread in it.
    seconds, cpu_seconds : float
        How long the job ran, and for how much of that it was computing.
    finished : float
        When it was done, by the clock of the machine.
    stages : dict
        How many seconds each stage took.
    """

    worker: tuple[int, int]
    seconds: float
    cpu_seconds: float
    finished: float
    stages: Mapping[str, float]


class Watch:
    """Takes the time of a job, which begins now."""

    def __init__(self) -> None:
        self.stages = Stages()
        self._start, self._cpu = time.perf_counter(), time.thread_time()

    def work(self) -> Work:
        """Return what is known of the job, which ends now."""
        seconds, cpu_seconds = time.perf_counter() - self._start, time.thread_time() - self._cpu
        return Work(here(), seconds, cpu_seconds, time.monotonic(), self.stages.totals())


def here() -> tuple[int, int]:
    """Name the thread that calls this."""
    return os.getpid(), threading.get_ident()


class Maker:
    """What one worker has made."""

    def __init__(self) -> None:
        self.batches = 0
        self.seconds = 0.0
        self.cpu_seconds = 0.0
        self.latest: deque[float] = deque(maxlen=LATEST)

    def note(self, work: Work, n_batches: int) -> None:
        """Add the batches of a job."""
        self.batches += n_batches
        self.seconds += work.seconds
        self.cpu_seconds += work.cpu_seconds
        self.latest.extend([work.seconds / n_batches] * min(n_batches, LATEST))


class Makings:
    """How the batches of a stream were made.

    Attributes
    ----------
    stages : Stages
        How long the stages took.
    makers : dict
        Each worker, by its process and thread.
    waited_making, waited_transport : float
        How many seconds the user has waited for jobs that were not finished yet, and then for their results to arrive.
    kind : str, optional
        The kind of workers: 'threads', 'processes' or 'executor'; `None` without any.
    count : int
        The number of workers.
    stored : bool
        Whether batches are read from chunks of storage, which are decoded.
    """

    def __init__(self, kind: str | None = None, count: int = 0, stored: bool = False) -> None:
        self.kind = kind
        self.count = count
        self.stored = stored
        self.stages = Stages()
        self.makers: dict[tuple[int, int], Maker] = {}
        self.waited_making = 0.0
        self.waited_transport = 0.0
        self._began = time.monotonic()
        # The sum of the shares of batches that were ready, and of how many there are.
        self._filled, self._asked = 0.0, 0

    def note_buffer(self, done: Iterable[bool | None]) -> None:
        """Note which of the jobs under way are done, as the user asks for the first of them; `None` is not known."""
        flags = [flag for flag in done if flag is not None]
        if flags:
            self._filled += sum(flags) / len(flags)
            self._asked += 1

    def note(self, work: Work | None, n_batches: int, asked: float) -> None:
        """Note a job whose result has just arrived; the user has waited for it since the time `asked`."""
        if work is None or not n_batches:
            return
        self.makers.setdefault(work.worker, Maker()).note(work, n_batches)
        self.stages.add(work.stages)
        arrived = time.monotonic()
        # Another machine has another clock.
        finished = work.finished if self._began <= work.finished <= arrived else asked
        self.waited_making += max(0.0, finished - asked)
        self.waited_transport += arrived - max(finished, asked)

    def stage_seconds(self, making: float) -> dict[str, float]:
        """Return how many of the seconds of making each stage took: what no function took is reading."""
        return with_reading(making, self.stages.totals())

    @property
    def buffer_fill(self) -> float | None:
        """The share of the jobs under way that were done, on average; `None` if it is not known."""
        return self._filled / self._asked if self._asked else None

    def workers(self, caller: int) -> tuple[WorkerStatistics, ...]:
        """Return what each worker has done; `caller` is the user's thread."""
        pid, found = os.getpid(), []
        for number, ((process, thread), maker) in enumerate(sorted(self.makers.items())):
            name = f'thread {number}' if process == pid else f'process {process}'
            middle, most = percentiles(maker.latest)
            name = 'caller' if (process, thread) == (pid, caller) else name
            found.append(WorkerStatistics(name, maker.batches, maker.seconds, maker.cpu_seconds, middle, most))
        return tuple(found)


def with_reading(making: float, stages: Mapping[str, float]) -> dict[str, float]:
    """Add reading to the seconds of stages: what no function took of those of making."""
    functions = sum(seconds for name, seconds in stages.items() if name.endswith(')'))
    return {**stages, 'read': max(0.0, making - functions)}
