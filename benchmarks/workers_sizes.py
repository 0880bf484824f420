"""Batches of any size from memory: pools against the serial stream, from 1 KB to 40 MB.

Run by `workers.py sizes`. A batch has 64 samples, and a second array with their labels. The
figures are ratios to the serial stream in the same run: the best of several epochs, in turns.
"""

from __future__ import annotations

import numpy as np
from in_memory import best_times

from batchup.data_source import ArrayDataSource
from batchup.work_pool import WorkerProcessPool, WorkerThreadPool

WORKERS = 2
BATCH_SIZE = 64
BUFFER = 20
MOST_OF_SERIAL = 1.05

# Bytes of a batch.
SIZES = [2**10, 2**12, 2**14, 2**16, 2**18, 2**20, 2**22, 10**7, 4 * 10**7]
# Bytes of an epoch, and how many batches it has at least and at most.
EPOCH_BYTES = 2**28
FEWEST, MOST = 16, 8192
# Bytes that are read in all.
READ_BYTES = 2**33


def make_source(batch_bytes: int) -> ArrayDataSource:
    batches = min(MOST, max(FEWEST, EPOCH_BYTES // batch_bytes))
    # As often as fits into half a gigabyte of memory.
    n = BATCH_SIZE * min(batches, max(4, 2**29 // batch_bytes))
    rows = np.ones((n, batch_bytes // BATCH_SIZE // 4), np.float32)
    order = np.random.RandomState(0).randint(0, n, batches * BATCH_SIZE)
    return ArrayDataSource([rows, np.arange(n, dtype=np.int32)], indices=order)


def in_units(n_bytes: int) -> str:
    return f'{n_bytes // 1024} KB' if n_bytes < 2**20 else f'{n_bytes / 2**20:.3g} MB'


def any_size(row: str) -> None:
    """Print a line for each size."""
    print(f'{"batch":>9}  {"serial, us":>11}  {"threads":>8}  {"processes":>9}  (x serial, target {MOST_OF_SERIAL})')
    with WorkerThreadPool(WORKERS) as threads, WorkerProcessPool(WORKERS) as processes:
        for nbytes in SIZES:
            source = make_source(nbytes)
            count = source.num_samples() // BATCH_SIZE
            sources = {
                'serial': source,
                'threads': threads.parallel_data_source(source, BUFFER),
                'processes': processes.parallel_data_source(source, BUFFER),
            }
            works = {name: lambda one=one: one.batch_iterator(BATCH_SIZE) for name, one in sources.items()}
            times = best_times(works, rounds=max(7, min(30, READ_BYTES // (nbytes * count))))
            serial = times.pop('serial')
            shown = '  '.join(f'{seconds / serial:8.2f}' for seconds in times.values())
            missed = [name for name, seconds in times.items() if seconds > MOST_OF_SERIAL * serial]
            verdict = f'MISSED by {", ".join(missed)}' if missed else 'met'
            print(f'{in_units(nbytes):>9}  {serial / count * 1e6:11.1f}  {shown}   {verdict}', flush=True)
