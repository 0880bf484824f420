"""How often `stream.verdict()` names rightly what bounds a loop, and how far its predicted gain is off.

Run `python benchmarks/verdicts.py`; words choose the loops whose names have one of them: `verdicts.py storage`.

The bottleneck of each loop is known by construction: what is slow sleeps, computes in Python (which holds the global
lock) or in C (which does not), or is large. Where the verdict proposes other workers, the loop is run with these as
well, and the gain that it has is compared with the one that was predicted. Sleeps are exact on any machine; gains
of what computes are those of this one, which should be idle.
"""

from __future__ import annotations

import functools
import hashlib
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from batchup.data_source import AbstractDataSource, ArrayDataSource, CallableDataSource, CompositeDataSource, Verdict
from batchup.work_pool import WorkerExecutorPool, WorkerProcessPool, WorkerThreadPool

ROWS = 4
# How long each loop should go on, in seconds, and the least and the most batches of it.
LOOP_SECONDS = 0.8
FEWEST, MOST = 24, 400


@dataclass(frozen=True)
class Sleep:
    """A mapped function that waits, as for a service."""

    seconds: float

    def __call__(self, *batch: Any) -> Any:
        time.sleep(self.seconds)
        return batch


@functools.cache
def steps_a_second() -> float:
    """Measure how fast this machine goes through a loop in Python, by its processor time."""
    start = time.thread_time()
    count_up(400_000)
    return 400_000 / (time.thread_time() - start)


def count_up(steps: int) -> int:
    total = 0
    for k in range(steps):
        total += k * k
    return total


@dataclass(frozen=True)
class Python:
    """A mapped function, or the body of a loop, that computes in Python for so many seconds."""

    seconds: float
    steps: float = field(default_factory=steps_a_second)

    def __call__(self, *batch: Any) -> Any:
        count_up(int(self.seconds * self.steps))
        return batch


BLOCK = bytes(2**20)


@functools.cache
def blocks_a_second() -> float:
    start = time.thread_time()
    for _ in range(50):
        hashlib.sha256(BLOCK)
    return 50 / (time.thread_time() - start)


@dataclass(frozen=True)
class Compiled:
    """A mapped function that computes in C, without Python's global lock."""

    seconds: float
    blocks: float = field(default_factory=blocks_a_second)

    def __call__(self, *batch: Any) -> Any:
        nbytes = int(self.seconds * self.blocks * 2**20)
        while nbytes > 0:
            hashlib.sha256(memoryview(BLOCK)[:nbytes])
            nbytes -= len(BLOCK)
        return batch


@dataclass(frozen=True)
class Vectors:
    """A mapped function that computes with NumPy, on arrays that stay in the processor's cache."""

    seconds: float
    steps: float = field(default_factory=steps_a_second)

    def __call__(self, *batch: Any) -> Any:
        values, end = np.linspace(1, 2, 20_000), time.thread_time() + self.seconds
        while time.thread_time() < end:
            for _ in range(10):
                np.sqrt(values, out=values)
        return batch


@dataclass(frozen=True)
class Large:
    """A mapped function that makes large batches in no time."""

    nbytes: int

    def __call__(self, *batch: Any) -> Any:
        return np.zeros((len(batch[0]), self.nbytes // len(batch[0])), np.uint8), *batch[1:]


WORDS = np.array([f'word {k}' for k in range(150_000)], object).reshape(ROWS, -1)


def objects(*_batch: Any) -> Any:
    """Return many Python objects, which go through a pipe, where there is one."""
    return (WORDS.copy(),)


class SlowArray:
    """An array-like that waits for every read."""

    def __init__(self, length: int, seconds: float, row_bytes: int = 80) -> None:
        self.length, self.seconds, self.row_bytes = length, seconds, row_bytes

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, indices: Any) -> np.ndarray:
        time.sleep(self.seconds)
        return np.zeros((len(indices), self.row_bytes), np.uint8)


class SlowChunks:
    """An array-like in chunks, each of which takes a while to decode."""

    def __init__(self, length: int, seconds: float, chunk_rows: int) -> None:
        self.shape, self.dtype, self.chunks = (length, 8), np.dtype(np.float32), (chunk_rows, 8)
        self.seconds = seconds

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, indices: Any) -> np.ndarray:
        time.sleep(self.seconds)
        return np.zeros((len(range(*indices.indices(self.shape[0]))), 8), np.float32)


# Sources, by the number of their batches.


def memory(n: int) -> ArrayDataSource:
    return ArrayDataSource([np.zeros((n * ROWS, 100), np.float32)])


def mapped(*functions: Any) -> Callable[[int], AbstractDataSource]:
    return lambda n: functools.reduce(lambda source, fn: source.map(fn), functions, memory(n))


def slow_reads(seconds: float, *functions: Any, row_bytes: int = 80) -> Callable[[int], AbstractDataSource]:
    def make(n: int) -> AbstractDataSource:
        source: AbstractDataSource = ArrayDataSource([SlowArray(n * ROWS, seconds, row_bytes)])
        return functools.reduce(lambda below, fn: below.map(fn), functions, source)

    return make


def slow_chunks(seconds: float) -> Callable[[int], AbstractDataSource]:
    return lambda n: ArrayDataSource([SlowChunks(n * ROWS, seconds, ROWS)])


def beside_memory(make: Callable[[int], AbstractDataSource]) -> Callable[[int], AbstractDataSource]:
    return lambda n: CompositeDataSource([memory(n), make(n)])


def slow_iterator(seconds: float) -> Callable[[int], AbstractDataSource]:
    def batches(batch_size: int, n: int) -> Iterator[Any]:
        for _ in range(n):
            time.sleep(seconds)
            yield (np.zeros((batch_size, 100), np.float32),)

    return lambda n: CallableDataSource(lambda batch_size, **_: batches(batch_size, n))


# Pools.


def threads(count: int) -> Any:
    return WorkerThreadPool(count)


def processes(count: int) -> Any:
    return WorkerProcessPool(count, start_method='fork')


def executor(count: int) -> Any:
    return WorkerExecutorPool(executors(count), count)


@functools.cache
def executors(count: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(count)


POOLS = {'threads': threads, 'processes': processes}


@dataclass(frozen=True)
class Loop:
    """A loop with a known bottleneck.

    Attributes
    ----------
    bound : str
        What it waits for.
    what : str
        What it is, in words.
    source : callable
        Makes the source, from the number of batches.
    body : float or Python
        What the loop does with a batch: it sleeps for some seconds, or computes.
    pool : callable, optional
        Makes the pool.
    kinds : tuple
        The kinds of workers that are right; any, if it is empty.
    """

    bound: str
    what: str
    source: Callable[[int], AbstractDataSource]
    body: Any = 0.0
    pool: Callable[[], Any] | None = None
    kinds: tuple[str | None, ...] = ()


def at(make: Callable[[int], Any], count: int) -> Callable[[], Any]:
    return functools.partial(make, count)


def loops_bound_by_loop() -> list[Loop]:
    found = [
        Loop('loop', 'memory', memory, 0.02, kinds=(None,)),
        Loop('loop', 'memory, body in Python', memory, Python(0.02), kinds=(None,)),
        Loop('loop', 'two members in memory', beside_memory(memory), 0.01, kinds=(None,)),
        Loop('loop', 'iterator', slow_iterator(0.0005), 0.02, kinds=(None,)),
        Loop('loop', 'slow reads', slow_reads(0.001), 0.03, kinds=(None,)),
        Loop('loop', 'fast chunks', slow_chunks(0.0002), 0.05, kinds=(None,)),
        Loop('loop', 'memory, threads', memory, 0.02, at(threads, 2), (None,)),
        Loop('loop', 'memory, processes', memory, 0.02, at(processes, 2), (None,)),
        Loop('loop', 'tiny function, threads', mapped(Python(0.0002)), 0.03, at(threads, 2), (None,)),
        Loop('loop', 'tiny function, processes', mapped(Python(0.0005)), 0.03, at(processes, 2), (None,)),
        Loop('loop', 'sleep, executor', mapped(Sleep(0.005)), 0.03, at(executor, 2)),
        Loop('loop', 'body in Python, sleep, threads', mapped(Sleep(0.01)), Python(0.02), at(threads, 2), ('threads',)),
    ]
    for fn in (Sleep(0.001), Python(0.001), Compiled(0.001), Vectors(0.001)):
        found.append(Loop('loop', f'{type(fn).__name__} 1 ms', mapped(fn), 0.03, kinds=(None,)))
    for fn in (Sleep(0.02), Compiled(0.01), Vectors(0.01)):
        found.append(Loop('loop', f'{type(fn).__name__}, threads', mapped(fn), 0.04, at(threads, 2), ('threads',)))
    for fn in (Sleep(0.02), Python(0.01), Compiled(0.01)):
        found.append(
            Loop('loop', f'{type(fn).__name__}, processes', mapped(fn), 0.04, at(processes, 2), ('processes',))
        )
    found.append(Loop('loop', 'slow reads, threads', slow_reads(0.02), 0.03, at(threads, 2), ('threads',)))
    found.append(Loop('loop', 'slow reads, 4 threads', slow_reads(0.05), 0.03, at(threads, 4), ('threads',)))
    return found


def loops_bound_by_making() -> list[Loop]:
    waits, locks, free = ('threads',), ('processes',), ('threads',)
    found = [
        Loop('making', 'RandomState, Python', mapped(Python(0.02)), 0.0, kinds=locks),
        Loop('making', 'sleep and Python', mapped(Sleep(0.002), Python(0.02)), 0.0, kinds=locks),
        Loop('making', 'Python and sleep', mapped(Python(0.001), Sleep(0.03)), 0.0, kinds=waits),
        Loop('making', 'beside memory, sleep', beside_memory(mapped(Sleep(0.02))), 0.005, kinds=waits),
        Loop('making', 'iterator', slow_iterator(0.02), 0.002, kinds=(None,)),
        Loop('making', 'iterator with a body', slow_iterator(0.02), 0.02, kinds=(None,)),
        Loop('making', 'fast read, slow function', slow_reads(0.003, Sleep(0.03)), 0.005, kinds=waits),
        Loop('making', 'sleep, 1 thread', mapped(Sleep(0.03)), 0.005, at(threads, 1), waits),
        Loop('making', 'sleep, 2 threads', mapped(Sleep(0.04)), 0.005, at(threads, 2), waits),
        Loop('making', 'sleep, 4 threads', mapped(Sleep(0.1)), 0.01, at(threads, 4), waits),
        Loop('making', 'Python, 2 threads', mapped(Python(0.02)), 0.0, at(threads, 2), locks),
        Loop('making', 'Python, 4 threads', mapped(Python(0.02)), 0.0, at(threads, 4), locks),
        Loop('making', 'Compiled, 1 thread', mapped(Compiled(0.02)), 0.0, at(threads, 1), free),
        Loop('making', 'Python, 1 process', mapped(Python(0.02)), 0.0, at(processes, 1), locks),
        Loop('making', 'sleep, 1 process', mapped(Sleep(0.03)), 0.005, at(processes, 1), waits),
        Loop('making', 'sleep, 2 processes', mapped(Sleep(0.05)), 0.005, at(processes, 2), waits),
        Loop('making', 'sleep, executor', mapped(Sleep(0.05)), 0.005, at(executor, 2), waits),
    ]
    for fn, kinds in ((Sleep(0.02), waits), (Python(0.02), locks), (Compiled(0.02), free), (Vectors(0.02), free)):
        name = type(fn).__name__
        found.append(Loop('making', name, mapped(fn), 0.0, kinds=kinds))
        found.append(Loop('making', f'{name}, some body', mapped(fn), 0.012, kinds=kinds))
    return found


def loops_bound_by_storage() -> list[Loop]:
    waits = ('threads',)
    return [
        Loop('storage', 'slow reads', slow_reads(0.02), 0.0, kinds=waits),
        Loop('storage', 'slow reads, some body', slow_reads(0.02), 0.01, kinds=waits),
        Loop('storage', 'slow reads, body in Python', slow_reads(0.03), Python(0.01), kinds=waits),
        Loop('storage', 'slow reads, fast function', slow_reads(0.02, Sleep(0.003)), 0.005, kinds=waits),
        Loop('storage', 'slow reads, function in Python', slow_reads(0.02, Python(0.001)), 0.005, kinds=waits),
        Loop('storage', 'slow reads beside memory', beside_memory(slow_reads(0.02)), 0.005, kinds=waits),
        Loop('storage', 'slow reads of 4 MB', slow_reads(0.03, row_bytes=2**20), 0.005, kinds=waits),
        Loop('storage', 'slow chunks', slow_chunks(0.02), 0.002),
        Loop('storage', 'slow chunks, some body', slow_chunks(0.02), 0.02),
        Loop('storage', 'slow reads, 1 thread', slow_reads(0.03), 0.005, at(threads, 1), waits),
        Loop('storage', 'slow reads, 2 threads', slow_reads(0.05), 0.005, at(threads, 2), waits),
        Loop('storage', 'slow reads, 1 process', slow_reads(0.03), 0.005, at(processes, 1), waits),
        Loop('storage', 'slow reads, 2 processes', slow_reads(0.05), 0.005, at(processes, 2), waits),
        Loop('storage', 'slow reads, executor', slow_reads(0.06), 0.005, at(executor, 2), waits),
    ]


def loops_bound_by_transport() -> list[Loop]:
    found = [
        Loop('transport', f'{size >> 20} MB, executor', mapped(Sleep(0.01), Large(size)), 0.01, at(executor, workers))
        for size, workers in ((3 << 23, 2), (2**25, 2), (2**26, 2), (2**25, 1), (2**25, 4))
    ]
    found += [
        Loop('transport', '64 MB, Python, executor', mapped(Python(0.01), Large(2**26)), 0.01, at(executor, 2)),
        Loop('transport', '48 MB, little body, executor', mapped(Sleep(0.005), Large(3 << 24)), 0.005, at(executor, 2)),
        Loop('transport', 'reads of 32 MB, executor', slow_reads(0.01, row_bytes=2**23), 0.01, at(executor, 2)),
    ]
    for count in (1, 2):
        what = f'objects, {count} processes'
        found.append(Loop('transport', what, mapped(Sleep(0.002), objects), 0.005, at(processes, count)))
    return found


ALL = (
    *loops_bound_by_loop(),
    *loops_bound_by_making(),
    *loops_bound_by_storage(),
    *loops_bound_by_transport(),
)


def go_through(stream: Any, body: Any) -> float:
    """Go through a loop; return the seconds from one batch to the next."""
    for _batch in stream:
        if isinstance(body, Python):
            body()
        elif body:
            time.sleep(body)
        del _batch
    found = stream.statistics()
    return (found.seconds - found.first_seconds) / max(1, found.batches - 1)


def run(loop: Loop, make_pool: Callable[[], Any] | None, n: int | None = None) -> tuple[float, Verdict, int]:
    """Run a loop; return the seconds for a batch, the verdict, and the number of batches."""
    with nullcontext() if make_pool is None else make_pool() as pool:
        rng = np.random.RandomState(1) if 'RandomState' in loop.what else None

        def stream(n: int) -> Any:
            source = loop.source(n) if pool is None else pool.parallel_data_source(loop.source(n))
            return source.batch_iterator(ROWS) if rng is None else source.batch_iterator(ROWS, shuffle=rng)

        if n is None or pool is not None:  # workers start, and it is seen how long a batch takes
            period = go_through(stream(FEWEST), loop.body)
        n = n or int(min(MOST, max(FEWEST, LOOP_SECONDS / period)))
        measured = stream(n)
        return go_through(measured, loop.body), measured.verdict(), n


def main(words: list[str]) -> None:
    chosen = [loop for loop in ALL if not words or any(word in f'{loop.bound} {loop.what}' for word in words)]
    right, errors = 0, []
    for loop in chosen:
        period, verdict, n = run(loop, loop.pool)
        named = verdict.bound == loop.bound and (not loop.kinds or verdict.kind in loop.kinds)
        right += named
        gain = ''
        if verdict.gain > 1:
            proposed = POOLS.get(verdict.kind or '')
            other, _, _ = run(loop, None if proposed is None else at(proposed, verdict.workers), n)
            errors.append(abs(verdict.gain / (period / other) - 1))
            gain = f'gain {verdict.gain:5.2f}, measured {period / other:5.2f}'
        proposal = f'{verdict.workers} {verdict.kind}' if verdict.kind else 'no pool'
        mark = 'right' if named else 'WRONG'
        print(f'{mark}  {loop.bound:<9} {loop.what:<32} {verdict.bound:<9} {proposal:<12} {gain}', flush=True)
        if not named:
            print(f'       {verdict}')
    print(f'{right} of {len(chosen)} loops are named rightly')
    if errors:
        within = sum(error <= 0.25 for error in errors)
        print(f'the gain is within 25 % for {within} of {len(errors)} proposals; median error {np.median(errors):.0%}')


if __name__ == '__main__':
    main(sys.argv[1:])
