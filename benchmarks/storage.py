"""Speed of batches from storage, in rows per second, as ratios to a plain scan of the same file.

Run `python benchmarks/storage.py`; names of rows choose some of them: `storage.py 19 20`.
`--scale 0.1` makes smaller files, for a quick look. `--folder F` keeps them in a folder, and
finds them there; without it they are removed at the end.

A *scan* is a loop that reads the file in order, by whole chunks, and throws away what it has
read; the file is in the cache of the system. Before anything is timed, all of its batches are
checked: every sample once, with the right values. All is timed in turns, and each figure is the
best of several rounds. What takes longer than a time limit is timed on the batches until
then, and the part of an epoch that they are is printed. Row 28 needs packages that are no
dependencies of batchup; it says which are missing.
"""

from __future__ import annotations

import argparse
import inspect
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from in_memory import Work
from storage_files import Files, digest

from batchup.data_source import ArrayDataSource
from batchup.sampling import BlockShuffle, StandardSampler
from batchup.work_pool import WorkerThreadPool

BATCH_SIZE = 256
ROUNDS = 5
# Seconds that one epoch may take, and the checks of one.
LONGEST = 30.0
READ_AHEAD = 2**28
MIXED_BLOCKS = 64


def count(batch: Any) -> int:
    """Return the number of rows of a batch, or of a part of a scan."""
    rows = batch[0] if isinstance(batch, tuple) else batch
    return int(rows.shape[0]) if hasattr(rows, 'shape') else len(rows)


def best_rates(works: dict[str, Work], longest: float = LONGEST) -> dict[str, tuple[float, int]]:
    """Return the rows per second of each in its best round, and how many rows were read in it."""
    best = dict.fromkeys(works, (0.0, 0))
    cut: set[str] = set()
    for _ in range(ROUNDS):
        for name, work in works.items():
            if name not in cut:
                rate, rows, ended = timed(work, longest)
                best[name] = max(best[name], (rate, rows))
                # The rounds are there against noise, of which little is left after so long.
                cut.update([name] if not ended else [])
    return best


def timed(work: Work, longest: float) -> tuple[float, int, bool]:
    """Go through a work until its end, or the time limit; return rows per second, rows, and whether it has ended."""
    rows, start = 0, time.perf_counter()
    iterator = iter(work())
    try:
        for batch in iterator:
            rows += count(batch)
            del batch
            if time.perf_counter() - start > longest:
                return rows / (time.perf_counter() - start), rows, False
        return rows / (time.perf_counter() - start), rows, True
    finally:
        if hasattr(iterator, 'close'):
            iterator.close()


def check(work: Work, digests: np.ndarray, longest: float = LONGEST) -> None:
    """Raise `AssertionError` unless the batches (rows, numbers of the rows) have each row once, and right."""
    seen = np.zeros(len(digests), bool)
    iterator, ended, start = iter(work()), False, time.perf_counter()
    for rows, numbers in iterator:
        numbers = np.asarray(numbers)  # noqa: PLW2901
        assert len(np.unique(numbers)) == len(numbers) == count(rows), 'a row came twice in a batch'
        assert not seen[numbers].any(), 'a row came twice'
        assert np.array_equal(digest(rows), digests[numbers]), 'a row has wrong values'
        seen[numbers] = True
        if time.perf_counter() - start > longest:
            break
    else:
        ended = True
    assert seen.all() or not ended, f'{np.sum(~seen)} rows did not come'
    if hasattr(iterator, 'close'):
        iterator.close()


def make_source(array: Any, n: int, read_ahead: int = READ_AHEAD) -> ArrayDataSource:
    """Return a source over an array in storage, and the numbers of its rows."""
    known = 'read_ahead' in inspect.signature(ArrayDataSource).parameters
    return ArrayDataSource([array, np.arange(n)], **({'read_ahead': read_ahead} if known else {}))


def report(row: str, what: str, ratio: float, target: float, extra: str = '') -> None:
    """Print a line of the table, in which larger is better."""
    verdict = 'met' if ratio >= target else 'MISSED'
    print(f'{row:>3}  {what:<54} {ratio:8.3f}  target {target:<6.3g} {verdict:<6} {extra}', flush=True)


def missing(row: str, what: str, why: object) -> None:
    """Print why something could not be measured."""
    first = str(why).partition('\n')[0]
    print(f'{row:>3}  {what:<54} not measured: {type(why).__name__}: {first}', flush=True)


def in_words(rate: tuple[float, int], n: int) -> str:
    part = '' if rate[1] >= n else f' in {rate[1] / n:.1%} of an epoch'
    return f'{rate[0]:,.0f} rows/s{part}'


def compare(
    row: str, what: str, scan: Work, works: dict[str, tuple[Work, float]], digests: np.ndarray, **others: Work
) -> None:
    """Compare works, each with a target, to a scan; of others, only print the rates."""
    able: dict[str, Work] = {'scan': scan, **others}
    for name, (work, _) in works.items():
        try:
            check(work, digests)
        except Exception as error:
            missing(row, f'{what}, {name}', error)
        else:
            able[name] = work
    rates = best_rates(able)
    n, rate = len(digests), rates['scan'][0]
    extra = [f'{name} {in_words(rates[name], n)}, {rates[name][0] / rate:.4f} of a scan' for name in others]
    for name, (_, target) in works.items():
        if name in rates:
            figures = '; '.join([in_words(rates[name], n), f'scan {in_words(rates["scan"], n)}', *extra])
            report(row, f'{what}, {name}', rates[name][0] / rate, target, f'({figures})')


def scan_by(array: Any, rows: int) -> Iterator[Any]:
    """Yield the rows of an array in order, so many at a time."""
    for start in range(0, array.shape[0], rows):
        yield array[start : start + rows]


def blocks(
    row: str, what: str, array: Any, scan: Work, digests: np.ndarray, block: int, targets: tuple[float, float | None]
) -> None:
    """Compare shuffled blocks of an array, of as many rows in a window for all, with a scan; also by two threads."""
    works: dict[str, tuple[Work, float]] = {}
    shuffle = BlockShuffle(42, block, window=max(1, MIXED_BLOCKS * 1000 // block))
    with WorkerThreadPool(2) as pool:
        try:
            source = make_source(array, len(digests))
        except Exception as error:
            missing(row, what, error)
            return
        works['no pool'] = (lambda: source.batch_iterator(BATCH_SIZE, shuffle=shuffle)), targets[0]
        if targets[1] is not None:
            parallel = pool.parallel_data_source(source)
            works['two threads'] = (lambda: parallel.batch_iterator(BATCH_SIZE, shuffle=shuffle)), targets[1]
        compare(row, what, scan, works, digests)


def h5_blocks(row: str, files: Files) -> None:
    import h5py  # noqa: PLC0415

    with h5py.File(files.h5(compressed=True)) as file:
        x, digests = file['x'], files.digests(files.n, 256)
        blocks(row, 'h5py gzip, blocks', x, lambda: scan_by(x, 1000), digests, 1000, (0.95, 1.7))


def h5_full(row: str, files: Files) -> None:
    """Compare a full shuffle with a scan, and with a sorted index for each batch."""
    import h5py  # noqa: PLC0415

    with h5py.File(files.h5(compressed=True)) as file:
        x, digests = file['x'], files.digests(files.n, 256)
        source = make_source(x, files.n, files.n * 1024 // 8)
        works: dict[str, Work] = {
            'scan': lambda: scan_by(x, 1000),
            'batchup': lambda: source.batch_iterator(BATCH_SIZE, shuffle=42),
            'sorted': lambda: sorted_indices(x, np.random.RandomState(0).permutation(files.n)),
        }
        for name in ('batchup', 'sorted'):
            check(works[name], digests)
        rates = best_rates(works)
    words = ', '.join(f'{name} {in_words(rate, files.n)}' for name, rate in rates.items())
    report(row, 'h5py gzip, full shuffle', rates['batchup'][0] / rates['scan'][0], 1 / 9, f'({words})')
    report(row, 'the same, against a sorted index a batch', rates['batchup'][0] / rates['sorted'][0], 50)


def sorted_indices(x: Any, order: np.ndarray) -> Iterator[Any]:
    """Yield batches in an order, each read by one sorted index: what people write for h5py."""
    for start in range(0, len(order), BATCH_SIZE):
        indices = order[start : start + BATCH_SIZE]
        by_row = np.argsort(indices)
        rows = np.empty((len(indices), *x.shape[1:]), x.dtype)
        rows[by_row] = x[indices[by_row]]
        yield rows, indices


def zarr_blocks(row: str, files: Files) -> None:
    import zarr  # noqa: PLC0415

    sharded = row == '22'
    x, digests = zarr.open_array(files.zarr(sharded), mode='r'), files.digests(files.n, 256)
    block = 16_000 if sharded else 1000
    what = f'zarr, {"shards" if sharded else "chunks"}, blocks'
    blocks(row, what, x, lambda: scan_by(x, block), digests, block, (0.9, None if sharded else 1.5))


def parquet_blocks(row: str, files: Files) -> None:
    """Compare blocks of row groups with reading each, by one thread, into a table of columns."""
    import pyarrow.parquet as pq  # noqa: PLC0415

    from batchup.arrays import ParquetArray  # noqa: PLC0415

    path = files.parquet()

    def scan() -> Iterator[Any]:
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                yield file.read_row_group(group, use_threads=False)

    array = ParquetArray(path, [f'c{number}' for number in range(64)])
    blocks(row, 'Parquet, blocks', array, scan, files.digests(files.n, 64), 5000, (0.9, 1.5))


def sparse_scan(group: Any, rows: int) -> Iterator[Any]:
    """Yield the rows of a sparse matrix in HDF5 in order, so many at a time."""
    import scipy.sparse as sp  # noqa: PLC0415

    indptr, columns = group['indptr'][:], int(group.attrs['shape'][1])
    for start in range(0, len(indptr) - 1, rows):
        ends = indptr[start : start + rows + 1]
        part = slice(ends[0], ends[-1])
        values = group['data'][part], group['indices'][part], ends - ends[0]
        yield sp.csr_matrix(values, shape=(len(ends) - 1, columns))


def sparse_blocks(row: str, files: Files) -> None:
    import h5py  # noqa: PLC0415

    shuffle = BlockShuffle(42, 512, window=MIXED_BLOCKS)
    with h5py.File(files.anndata()) as file:
        x = file['X']
        source = make_source(x, files.n_sparse)
        works = {'no pool': ((lambda: source.batch_iterator(1024, shuffle=shuffle)), 0.9)}
        compare(row, 'CSR in HDF5, blocks', lambda: sparse_scan(x, 512), works, files.sparse_digests())


def h5_in_order(row: str, files: Files) -> None:
    import h5py  # noqa: PLC0415

    with h5py.File(files.h5(compressed=False)) as file:
        x, digests = file['x'], files.digests(files.n, 256)
        source = make_source(x, files.n)
        works = {'no pool': ((lambda: source.batch_iterator(BATCH_SIZE)), 0.95)}
        compare(row, 'h5py contiguous, in order', lambda: scan_by(x, BATCH_SIZE), works, digests)


def mixing(row: str, files: Files) -> None:
    """Count the classes in a batch of a million samples sorted by class, and how many new blocks begin at a time."""
    n, block, classes = 1_000_000, 1000, 100
    plan = StandardSampler(n).plan(BATCH_SIZE, BlockShuffle(1, block, window=256), drop_last=True)
    batches = np.array([request.indices for request in plan])
    met = np.mean([len(np.unique(batch // (n // classes))) for batch in batches])
    _, first = np.unique(batches.reshape(-1) // block, return_index=True)
    # The first and the last tenth are the beginning and the end of the epoch, which a window cannot help.
    beginning = np.bincount(first // BATCH_SIZE, minlength=len(batches))[len(batches) // 10 : -len(batches) // 10]
    report(row, 'BlockShuffle over 256 blocks: classes in a batch', float(met), 90, '(a true shuffle: 92.4)')
    report(row, 'the same: one block in the most that begin in a batch', 1 / beginning.max(), 1 / 8)


def peak_memory(row: str, files: Files) -> None:
    """Measure rows 19 to 24, each in a fresh process."""
    for name in MEMORY_OF:
        command = [sys.executable, __file__, '--memory-of', name, '--folder', str(files.folder)]
        done = subprocess.run([*command, '--scale', str(files.scale)], capture_output=True, text=True, check=False)
        if done.returncode:
            missing(row, f'peak memory of row {name}', RuntimeError(done.stderr.strip().rpartition('\n')[2]))
            continue
        used, allowed = map(int, done.stdout.split())
        extra = f'({used / 2**20:.0f} MB of {allowed / 2**20:.0f} MB)'
        report(row, f'peak memory of row {name}: allowed against used', allowed / max(used, 1), 1, extra)


def print_memory_of(row: str, files: Files) -> None:
    """Print how much the resident memory of this process grows in an epoch, and how much it may."""
    array, n, shuffle, read_ahead, batch = MEMORY_OF[row](files)
    source = make_source(array, n, read_ahead)
    next(iter(source.batch_iterator(1)))
    before = resident('VmRSS')
    Path('/proc/self/clear_refs').write_text('5')  # sets VmHWM to VmRSS
    timed(lambda: source.batch_iterator(batch[0], shuffle=shuffle), LONGEST)
    print(resident('VmHWM') - before, read_ahead + 2 * batch[0] * batch[1] + 2**26)


def resident(what: str) -> int:
    """Return a line of the status of this process, in bytes."""
    status = dict(line.split(':', 1) for line in Path('/proc/self/status').read_text().splitlines())
    return int(status[what].split()[0]) * 1024


Held = tuple[Any, int, Any, int, tuple[int, int]]


def h5_held(files: Files, full: bool = False) -> Held:
    import h5py  # noqa: PLC0415

    shuffle, ahead = (42, files.n * 1024 // 8) if full else (BlockShuffle(42, 1000, window=MIXED_BLOCKS), READ_AHEAD)
    return h5py.File(files.h5(compressed=True))['x'], files.n, shuffle, ahead, (BATCH_SIZE, 1024)


def zarr_held(files: Files, sharded: bool) -> Held:
    import zarr  # noqa: PLC0415

    shuffle = BlockShuffle(42, 16_000, window=4) if sharded else BlockShuffle(42, 1000, window=MIXED_BLOCKS)
    x = zarr.open_array(files.zarr(sharded), mode='r')
    return x, files.n, shuffle, READ_AHEAD, (BATCH_SIZE, 1024)


def parquet_held(files: Files) -> Held:
    from batchup.arrays import ParquetArray  # noqa: PLC0415

    array = ParquetArray(files.parquet(), [f'c{number}' for number in range(64)])
    return array, files.n, BlockShuffle(42, 5000, window=12), READ_AHEAD, (BATCH_SIZE, 256)


def sparse_held(files: Files) -> Held:
    import h5py  # noqa: PLC0415

    shuffle = BlockShuffle(42, 512, window=MIXED_BLOCKS)
    return h5py.File(files.anndata())['X'], files.n_sparse, shuffle, READ_AHEAD, (1024, 500 * 8)


MEMORY_OF: dict[str, Callable[[Files], Held]] = {
    '19': h5_held,
    '20': lambda files: h5_held(files, full=True),
    '21': lambda files: zarr_held(files, sharded=False),
    '22': lambda files: zarr_held(files, sharded=True),
    '23': parquet_held,
    '24': sparse_held,
}


def others(row: str, files: Files) -> None:
    from storage_peers import compare_with_others  # noqa: PLC0415

    compare_with_others(row, files)


ROWS: dict[str, Callable[[str, Files], None]] = {
    '19': h5_blocks,
    '20': h5_full,
    '21': zarr_blocks,
    '22': zarr_blocks,
    '23': parquet_blocks,
    '24': sparse_blocks,
    '25': h5_in_order,
    '26': mixing,
    '27': peak_memory,
    '28': others,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('rows', nargs='*', metavar='row', help='which rows; all by default')
    parser.add_argument('--scale', type=float, default=1.0, help='size of the files, as a part of the full size')
    parser.add_argument('--folder', type=Path, help='where the files are kept')
    parser.add_argument('--memory-of', choices=MEMORY_OF, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        files = Files(arguments.folder or Path(temporary), arguments.scale)
        files.folder.mkdir(parents=True, exist_ok=True)
        if arguments.memory_of:
            print_memory_of(arguments.memory_of, files)
            return
        unknown = [row for row in arguments.rows if row not in ROWS]
        if unknown:
            parser.error(f'there are rows {", ".join(ROWS)}, not {", ".join(unknown)}')
        for row in arguments.rows or ROWS:
            try:
                ROWS[row](row, files)
            except Exception as error:
                missing(row, ROWS[row].__name__, error)


if __name__ == '__main__':
    main()
