"""`bench`: which pool is best for a source, and whether any is."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from ..._ground.progress import make_bar
from ..._pools.calibration import LEAST_GAIN, Meter, Timing, cores
from ..._pools.mapper import Makers
from ...data_source import AbstractDataSource, IteratorDataSource, Stream, Verdict
from ...work_pool import WorkerProcessPool, WorkerThreadPool
from .base import CommandError
from .sources import find_source

# The seed of the order.
SEED = 42

# How many batches may wait: at first so many, and then these with the workers that are best.
BUFFER_SIZE = 20
OTHER_SIZES = (4, 64)

# In this part of the time nothing is measured: files come into the memory of the system.
WARM_SHARE = 0.1

# A setting is measured so often, unless the time for each is less than that, in seconds.
ROUNDS = 3
LEAST_SECONDS = 0.3

# A setting of slow batches may take so many times its share of the time.
PATIENCE = 2.0

MADE_BY_CALLER = 'batches that are copied so quickly are made by your own process, with any pool'


class Setting(NamedTuple):
    """A way to read a source: by so many workers of a kind, or by none."""

    kind: str
    workers: int
    buffer_size: int

    def line(self, batch_size: int, arguments: str) -> str:
        """Return the line of code that reads a source in this way."""
        source = 'source'
        if self.workers:
            buffer = '' if self.buffer_size == BUFFER_SIZE else f', batch_buffer_size={self.buffer_size}'
            source = f'{POOLS[self.kind].__name__}({self.workers}).parallel_data_source(source{buffer})'
        return f'batches = {source}.batch_iterator({batch_size}{arguments})'


ALONE = Setting('no pool', 0, 0)

POOLS: dict[str, type[WorkerThreadPool | WorkerProcessPool]] = {
    'threads': WorkerThreadPool,
    'processes': WorkerProcessPool,
}


class Bench:
    """Measures a loop over a source in one setting after the other.

    Parameters
    ----------
    source : data source
    batch_size : int
        The number of samples in a batch.
    body : float
        How long the loop works on a batch, in seconds.
    seconds : float
        How long all settings take together, about.

    Attributes
    ----------
    found : dict
        What was measured, for each setting.
    left_out : dict
        Why a kind of pool refuses the source.
    verdict : Verdict, optional
        That on the loop without a pool.
    """

    def __init__(self, source: AbstractDataSource, batch_size: int, body: float, seconds: float) -> None:
        self.source = source
        self.batch_size = batch_size
        self.body = body
        self.seconds = seconds
        self.found: dict[Setting, Timing] = {}
        self.left_out: dict[str, str] = {}
        self.verdict: Verdict | None = None

    def run(self) -> None:
        """Measure all settings, and show a bar."""
        pooled = self.source.is_random_access
        steps = 1 + (len(grid()) + len(OTHER_SIZES)) * pooled
        share = (1 - WARM_SHARE) * self.seconds / steps
        with make_bar(total=steps, leave=False) as bar:
            if pooled:
                self._measure(self.source, Meter(seconds=WARM_SHARE * self.seconds))
            for setting in self._settings() if pooled else [ALONE]:
                bar.set_description(_in_words(setting))
                if setting.kind not in self.left_out:
                    self._note(setting, share)
                bar.update()

    def _settings(self) -> Iterator[Setting]:
        """Go through the settings, of which the later ones depend on what was found."""
        yield ALONE
        pooled = {*grid()}
        if self.verdict is not None and self.verdict.kind in POOLS:
            pooled.add(Setting(self.verdict.kind, self.verdict.workers, BUFFER_SIZE))
        yield from sorted(pooled, key=_cost)
        best = self.best()
        yield from (best._replace(buffer_size=size) for size in OTHER_SIZES if best.workers)

    def _note(self, setting: Setting, seconds: float) -> None:
        """Measure a setting, unless its pool refuses the source, or would make no batch of it."""
        if not setting.workers:
            self.found[setting] = self._best_of(self.source, setting, seconds)
            return
        with POOLS[setting.kind](setting.workers) as pool:
            if Makers.only_caller(pool, self.source._copied_bytes(self.batch_size)):
                return
            try:
                parallel = pool.parallel_data_source(self.source, setting.buffer_size)
            except TypeError as error:
                self.left_out[setting.kind] = str(error)
                return
            pool.work_stream([(os.getpid,)]).retrieve()  # as soon as there are workers
            self.found[setting] = self._best_of(parallel, setting, seconds)

    def _best_of(self, source: AbstractDataSource, setting: Setting, seconds: float) -> Timing:
        """Measure a few times; return the best, since all else that a machine does only takes time."""
        rounds = max(1, min(ROUNDS, int(seconds / LEAST_SECONDS))) if self.source.is_random_access else 1
        meters = [Meter(setting.workers, seconds=seconds / rounds) for _ in range(rounds)]
        for meter in meters:
            stream = self._measure(source, meter)
        if not setting.workers and isinstance(stream, Stream):
            self.verdict = stream.verdict()
        timings = [meter.timing for meter in meters if meter.batches]
        if not timings:
            raise CommandError('the source has too few batches: there is nothing to measure')
        return min(timings, key=lambda timing: timing.total)

    def _measure(self, source: AbstractDataSource, meter: Meter) -> Any:
        """Go through epochs until a meter has enough, or there are no more batches, or it is late.

        Returns one of the last streams, or of what `batch_iterator` of a user's own source returns.
        """
        deadline = time.perf_counter() + PATIENCE * meter.seconds
        stream: Any = None
        for epoch in range(2**32):
            before, stream = stream, self._open(source, epoch)
            empty = True
            for _batch in meter.measure(iter(stream)):
                empty = False
                if self.body:
                    time.sleep(self.body)
                if meter.enough or (meter.batches and time.perf_counter() > deadline):
                    return max(stream, before, key=_position)
            if empty or isinstance(source, IteratorDataSource):
                break
        return stream

    def _open(self, source: AbstractDataSource, epoch: int) -> Iterator[Any]:
        if self.source.is_random_access:
            return source.batch_iterator(self.batch_size, shuffle=SEED, epoch=epoch)
        return source.batch_iterator(self.batch_size)

    def best(self) -> Setting:
        """Return the fastest setting; of those that take about as long, the one that takes the least memory."""
        least = min(timing.total for timing in self.found.values())
        near = [setting for setting, timing in self.found.items() if timing.total <= LEAST_GAIN * least]
        return min(near, key=_cost)


def _position(stream: Any) -> int:
    """Return how many batches have come from a stream; 0 for what is none."""
    return stream.position if isinstance(stream, Stream) else 0


def grid() -> list[Setting]:
    """Return what to measure with pools: also more threads than cores, since they may all wait for a disk."""
    counts = {'threads': {1, 2, cores(), 2 * cores()}, 'processes': {1, 2, cores()}}
    return [Setting(kind, count, BUFFER_SIZE) for kind in POOLS for count in sorted(counts[kind])]


def _cost(setting: Setting) -> tuple[int, int, int]:
    """Order settings by the memory that they take."""
    return [ALONE.kind, *POOLS].index(setting.kind), setting.workers, setting.buffer_size


def bench(name: str, batch_size: int, consumer_ms: float, seconds: float) -> None:
    """Measure a source with pools and without one; print a table, what it says, and the line of code to use.

    Parameters
    ----------
    name : str
        `MODULE:OBJECT`, a data set, or the path of a .npz file.
    batch_size : int
        The number of samples in a batch.
    consumer_ms : float
        How long the loop works on a batch, in milliseconds.
    seconds : float
        How long it takes in all, about.
    """
    source = find_source(name)
    measured = Bench(source, batch_size, consumer_ms / 1000, seconds)
    try:
        measured.run()
    except (CommandError, OSError):
        raise
    except Exception as error:
        where = ''.join(f' {note.partition(", with ")[0]}' for note in getattr(error, '__notes__', []))
        raise CommandError(f'{name}: {type(error).__name__}{where}: {error}') from error
    _print_table(measured.found, batch_size)
    if source.is_random_access:
        for kind in sorted(POOLS.keys() - {setting.kind for setting in measured.found}):
            print(f'{kind:<10} not measured: {measured.left_out.get(kind, MADE_BY_CALLER)}')
    print()
    for line in _conclusion(name, measured):
        print(line)


def _print_table(found: Mapping[Setting, Timing], batch_size: int) -> None:
    """Print a line for each setting."""
    print(f'{"":<10}{"workers":>8}{"buffer":>8}{"ms a batch":>12}{"samples/s":>12}{"waiting":>9}{"speed":>8}')
    alone = found[ALONE].total
    for (kind, workers, buffer_size), timing in found.items():
        numbers = f'{workers:>8}{buffer_size:>8}' if workers else f'{"-":>8}{"-":>8}'
        per_second = f'{batch_size / timing.total:,.0f}'
        print(
            f'{kind:<10}{numbers}{timing.total * 1e3:>12.3f}{per_second:>12}'
            f'{timing.waiting / timing.total:>9.0%}{alone / timing.total:>8.2f}'
        )


def _conclusion(name: str, measured: Bench) -> Iterator[str]:
    """Give the verdict, what was measured to be best, and the line of code for it."""
    source, best = measured.source, measured.best()
    if measured.verdict is not None:
        yield f'Without a pool: {measured.verdict}\n'
    if not source.is_random_access:
        yield (
            f'Only the loop without a pool was measured: workers read batches by their indices, and {name} '
            f'({type(source).__name__}) is not random access.'
        )
    elif best.workers:
        gain = measured.found[ALONE].total / measured.found[best].total
        yield f'Measured: with {_in_words(best)}, the loop is {gain:.2f} times as fast as without a pool. Use this:'
    else:
        yield 'Measured: the loop is about as fast without a pool as it is with any. Use this:'
    yield f'    {best.line(measured.batch_size, f", shuffle={SEED}" if source.is_random_access else "")}'


def _in_words(setting: Setting) -> str:
    """Name a setting.

    >>> _in_words(ALONE), _in_words(Setting('threads', 1, 20)), _in_words(Setting('processes', 2, 20))
    ('no pool', 'one thread', '2 processes')
    """
    if setting.workers > 1:
        return f'{setting.workers} {setting.kind}'
    return {'threads': 'one thread', 'processes': 'one process'}.get(setting.kind, setting.kind)
