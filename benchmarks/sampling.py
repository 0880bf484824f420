"""Speed and memory of samplers and shuffles; no data is read.

Run `python benchmarks/sampling.py`; names of rows choose some of them: `sampling.py 14`.
Every figure is the best of several rounds. Memory is all that Python allocates, at its peak.
"""

from __future__ import annotations

import sys
import time
import tracemalloc
from collections.abc import Callable, Iterable
from itertools import islice

import numpy as np

from batchup._plans.plan import Plan
from batchup.sampling import BlockShuffle, ComputedShuffle, StandardSampler

BILLION = 1_000_000_000

# As many batches as a stream asks for at once.
WINDOW = 256

ROUNDS = 9


def best_time(work: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Return the best time of some calls, in seconds."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def peak_memory(work: Callable[[], object]) -> int:
    """Return the most memory that a call takes, in bytes."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def report(row: str, what: str, value: float, target: float | None, unit: str) -> None:
    """Print a line of the table."""
    verdict = '' if target is None else f'target {target:<4} {"met" if value <= target else "MISSED"}'
    print(f'{row:>3}  {what:<64} {value:8.2f} {unit:<12} {verdict}', flush=True)


def walk(plan: Plan, windows: int) -> None:
    """Go through the first windows of a plan, as a stream does."""
    number = 0
    for _ in range(windows):
        number = plan.window(number, WINDOW).end


def shuffle_of_a_billion(row: str, what: str, shuffle: object, targets: Iterable[float | None]) -> None:
    """Measure the first batch, the memory and the time an index of a shuffle."""
    first, memory, index = targets
    sampler = StandardSampler(BILLION)

    def plan() -> Plan:
        return sampler.plan(64, shuffle)

    report(
        row, f'{what}: first batch', best_time(lambda: next(iter(plan().window(0, WINDOW).split()))) * 1e3, first, 'ms'
    )
    report(row, f'{what}: memory of 1000 windows', peak_memory(lambda: walk(plan(), 1000)) / 1e6, memory, 'MB')
    seconds = best_time(lambda: walk(plan(), 100))
    report(row, f'{what}: windows of 256 batches of 64', seconds / (100 * WINDOW * 64) * 1e9, index, 'ns an index')
    seconds = best_time(lambda: [None for _ in islice(plan(), 10_000)])
    report(row, f'{what}: batch by batch of 64', seconds / (10_000 * 64) * 1e9, None, 'ns an index')


def permutation(row: str) -> None:
    """Measure what a stored permutation of ten million samples takes."""
    rng, n = np.random.RandomState(np.random.PCG64(0)), 10_000_000
    seconds = best_time(lambda: rng.permutation(n), rounds=3)
    report(row, 'a stored permutation of 10,000,000', seconds / n * 1e9, None, 'ns an index')


def row_14() -> None:
    what = '1e9 samples'
    shuffle_of_a_billion('14', f'{what}, ComputedShuffle', ComputedShuffle(42), (5, 16, 15))
    shuffle_of_a_billion('14', f'{what}, BlockShuffle of 1000', BlockShuffle(42, 1000), (None, None, None))
    permutation('14')


ROWS: dict[str, Callable[[], None]] = {'14': row_14}


if __name__ == '__main__':
    for row in sys.argv[1:] or ROWS:
        ROWS[row]()
