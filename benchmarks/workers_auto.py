"""What a `WorkerAutoPool` has found after two seconds of a loop, against the best of a grid of pools.

Run by `workers.py auto`, for the work of rows 29 to 33. The grid has the source without a pool, threads and
processes, and all settings are measured in turns with the pool that tries them out itself.
"""

from __future__ import annotations

import tempfile
import time
from contextlib import ExitStack
from typing import Any

from in_memory import best_times
from workers_epochs import BATCH_SIZE, BUFFER, CASES, Work

from batchup.work_pool import WorkerAutoPool, WorkerProcessPool, WorkerThreadPool

WORKERS = 2
SECONDS = 2.0
ROUNDS = 5
TARGET = 1.1


def opened(source: Any, epoch: int) -> Any:
    return source.batch_iterator(BATCH_SIZE, shuffle=42, epoch=epoch)


def run_for(source: Any, seconds: float) -> None:
    """Run a loop over epochs for some time."""
    end, epoch = time.perf_counter() + seconds, 0
    while time.perf_counter() < end:
        for _batch in opened(source, epoch):
            pass
        epoch += 1


def against_grid(what: str, work: Work) -> None:
    """Print what was found to be best, and how far that is from the best of the grid."""
    kinds = {'threads': WorkerThreadPool, 'processes': WorkerProcessPool}
    with ExitStack() as stack:
        auto = stack.enter_context(WorkerAutoPool(WORKERS)).parallel_data_source(work.source(), BUFFER)
        run_for(auto, SECONDS)
        decided = auto.decided.get(BATCH_SIZE, 'not yet')
        sources = {'auto': auto, 'inline': work.source()}
        for kind, count in [('threads', 1), ('threads', 2), ('threads', 4), ('processes', 1), ('processes', 2)]:
            pool = stack.enter_context(kinds[kind](count))
            sources[f'{count} {kind}'] = pool.parallel_data_source(work.source(), BUFFER)
            run_for(sources[f'{count} {kind}'], SECONDS)
        works = {name: lambda source=source: opened(source, 1) for name, source in sources.items()}
        times = best_times(works, ROUNDS)
    mine = times.pop('auto')
    best = min(times, key=times.__getitem__)
    shown = ', '.join(f'{name} {seconds / times["inline"]:.2f}' for name, seconds in times.items())
    verdict = 'met' if mine <= TARGET * times[best] else 'MISSED'
    print(
        f'{what:<52} {decided:<10} {mine / times[best]:5.2f} of the best, {best:<12} {verdict:<6} ({shown})', flush=True
    )


def every_row(row: str) -> None:
    from workers import make_images  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as folder:
        make_images(folder)
        for case in (case for cases in CASES.values() for case in cases):
            against_grid(case.what, case.make(folder))
