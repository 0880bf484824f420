"""Speed of pools of workers, as ratios to the same work inline, in the caller.

Run `python benchmarks/workers.py`; names of rows choose some of them: `workers.py 8 10`.

Row 6 is compared with the floor of `in_memory.py`: takes into one output, over and over.
The others are compared with a plain loop that does the same work in the caller. Where torch
is installed, its DataLoader with two persistent workers does it as well. All are timed in
turns, and each figure is the best of several rounds; pools are warm, except in row 17.

Rows 29 to 33 are tables of epochs, from the making of the pool on: `workers_epochs.py`. The row
`sizes` is a table of batches from memory, from 1 KB to 40 MB: `workers_sizes.py`. The row `auto` is
what a pool that tries out workers finds, against a grid of pools: `workers_auto.py`.
"""

from __future__ import annotations

import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from in_memory import Work, best_times, cifar_like, make_output, mnist_like, report, takes
from workers_auto import every_row
from workers_epochs import epoch_by_epoch
from workers_sizes import any_size

from batchup.data_source import ArrayDataSource
from batchup.work_pool import WorkerProcessPool, WorkerThreadPool

WORKERS = 2
BATCH_SIZE = 64
BUFFER = 64
ROUNDS = 7
# Of an epoch that takes a hundredth of a second.
SHORT_ROUNDS = 40


class Compressed:
    """Samples that are kept compressed: each takes a decompression to read."""

    def __init__(self, samples: list[bytes], row_bytes: int) -> None:
        self.samples = samples
        self.row_bytes = row_bytes

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, indices: Any) -> np.ndarray:
        out = np.empty((len(indices), self.row_bytes), np.uint8)
        for row, index in zip(out, indices):
            row[:] = np.frombuffer(zlib.decompress(self.samples[index]), np.uint8)
        return out


def make_compressed(n: int = 2048, row_bytes: int = 3 * 96 * 96) -> Compressed:
    rng = np.random.RandomState(8)
    rows = rng.randint(0, 16, (n, row_bytes)).astype(np.uint8)
    return Compressed([zlib.compress(row.tobytes()) for row in rows], row_bytes)


def make_images(folder: str, n: int = 1280) -> np.ndarray:
    """Write images to a file, and map it."""
    path = Path(folder) / 'images.npy'
    images = np.lib.format.open_memmap(path, 'w+', np.float32, (n, 3, 224, 224))
    images[:] = np.arange(n, dtype=np.float32)[:, None, None, None]
    images.flush()
    return np.load(path, mmap_mode='r')


def threads_in_memory(row: str) -> None:
    """Compare two threads with the floor of gathers from memory."""
    cases: list[tuple[str, Callable[[], Any], int]] = [
        ('60,000 x 784 float32, batch 64', mnist_like, 64),
        ('60,000 x 784 float32, batch 256', mnist_like, 256),
        ('50,000 x 3 x 32 x 32 uint8, batch 256', cifar_like, 256),
    ]
    with WorkerThreadPool(WORKERS) as pool:
        for what, make, batch_size in cases:
            arrays = make()
            order = np.random.RandomState(0).permutation(len(arrays[1]))
            outputs = [make_output(arrays, batch_size)]
            parallel = pool.parallel_data_source(ArrayDataSource(list(arrays), indices=order), BUFFER)
            compare(
                row,
                f'threads, {what}',
                0.7,
                lambda: takes(arrays, order, batch_size, outputs),  # noqa: B023
                lambda: parallel.batch_iterator(batch_size),  # noqa: B023
                rounds=SHORT_ROUNDS,
            )


def compare(
    row: str,
    what: str,
    target: float,
    inline: Work,
    pooled: Work,
    others: dict[str, Work] | None = None,
    rounds: int = ROUNDS,
) -> None:
    works = {'inline': inline, 'pooled': pooled, **(others or {})}
    times = best_times(works, rounds)
    floor = times.pop('inline')
    extra = ', '.join(f'{name} {seconds / floor:.2f}' for name, seconds in times.items() if name != 'pooled')
    report(row, what, times['pooled'] / floor, target, f'(inline {floor:.3f} s{"; " + extra if extra else ""})')


def torch_loader(data: list[Any], order: np.ndarray) -> dict[str, Work]:
    """Make torch's DataLoader over the same samples, if torch is there."""
    try:
        import torch  # noqa: PLC0415
    except ImportError:
        return {}

    class Samples(torch.utils.data.Dataset):  # type: ignore[misc]
        def __len__(self) -> int:
            return len(order)

        def __getitem__(self, k: int) -> Any:
            return tuple(np.asarray(array[order[k : k + 1]][0]) for array in data)

    torch.multiprocessing.set_sharing_strategy('file_system')
    loader = torch.utils.data.DataLoader(
        Samples(), BATCH_SIZE, num_workers=WORKERS, persistent_workers=True, multiprocessing_context='fork'
    )
    return {'torch': lambda: loader}


def background(rows: dict[str, Any], what: str, data: list[Any], target: float) -> None:
    """Compare pools with a loop in the caller."""
    order = np.random.RandomState(0).permutation(len(data[0]))
    source = ArrayDataSource(data, indices=order)

    def inline() -> Iterator[Any]:
        for start in range(0, len(order), BATCH_SIZE):
            indices = order[start : start + BATCH_SIZE]
            yield tuple(array[indices] for array in data)

    others = torch_loader(data, order)
    for row, pool in rows.items():
        with pool:
            parallel = pool.parallel_data_source(source, BUFFER)
            kind = type(pool).__name__
            compare(row, f'{kind}, {what}', target, inline, lambda: parallel.batch_iterator(BATCH_SIZE), others)  # noqa: B023


def images(row: str) -> None:
    pool = WorkerProcessPool(WORKERS) if row == '8' else WorkerThreadPool(WORKERS)
    with tempfile.TemporaryDirectory() as folder:
        background({row: pool}, '1,280 images from a mapped file', [make_images(folder)], 0.65)


def compressed(row: str) -> None:
    pool = WorkerProcessPool(WORKERS) if row == '10' else WorkerThreadPool(WORKERS)
    background({row: pool}, '2,048 compressed samples', [make_compressed()], 0.57)


def memory(row: str) -> None:
    """Measure what a spawned pool over one array takes, all processes together."""
    try:
        import psutil  # noqa: PLC0415
    except ImportError:
        print(f'{row:>3}  needs psutil')
        return

    def total() -> int:
        processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
        return sum(process.memory_full_info().pss for process in processes)

    with WorkerProcessPool(WORKERS, start_method='spawn') as pool:
        list(pool.work_stream((time.sleep, (0.05,)) for _ in range(8 * WORKERS)).retrieve_iter())
        before = total()
        source = ArrayDataSource([np.ones((250_000, 1000), np.float32)])
        nbytes = source.data[0].nbytes
        parallel = pool.parallel_data_source(source)
        # More than a megabyte: the caller would make smaller ones, and no worker would touch the array.
        for _batch in parallel.batch_iterator(300, shuffle=1):
            pass
        ratio = (total() - before) / nbytes
    report(row, '1 GB array, spawn: memory against the array', ratio, 1.15)


def first_batch(row: str) -> None:
    """Compare the time to the first batch of a new pool with that of a worker's first answer."""
    source = ArrayDataSource([np.ones((1280, 3, 64, 64), np.float32)])
    for start_method in ('fork', 'forkserver', 'spawn'):
        start = time.perf_counter()
        with WorkerProcessPool(WORKERS, start_method=start_method) as pool:
            next(pool.parallel_data_source(source, BUFFER).batch_iterator(BATCH_SIZE))
            first = time.perf_counter() - start
            pool.work_stream([(time.time,)]).retrieve()
            worker = time.perf_counter() - start
        extra = f'(first batch {first * 1e3:.1f} ms, first answer of a worker {worker * 1e3:.1f} ms)'
        report(row, f'{start_method}: first batch against first answer', first / worker, 1.0, extra)


ROWS: dict[str, Callable[[str], None]] = {
    '6': threads_in_memory,
    '8': images,
    '9': images,
    '10': compressed,
    '11': compressed,
    '16': memory,
    '17': first_batch,
    **dict.fromkeys(['29', '30', '31', '32', '33'], epoch_by_epoch),
    'sizes': any_size,
    'auto': every_row,
}


if __name__ == '__main__':
    for row in sys.argv[1:] or ROWS:
        ROWS[row](row)
