"""What people use for shuffled batches from storage, over the files of `storage.py`: its row 28.

Each is set up as its documentation says, in the caller or with two workers. Those that mix by
a buffer, or by blocks, get one of as many rows as the `BlockShuffle` of batchup has in its window.
Every batch is made a pair: its rows, and their numbers in the file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from storage import (
    BATCH_SIZE,
    LONGEST,
    MIXED_BLOCKS,
    best_rates,
    check,
    in_words,
    make_source,
    missing,
    report,
    scan_by,
    sparse_scan,
)
from storage_files import Files

from batchup.sampling import BlockShuffle
from batchup.work_pool import WorkerThreadPool

Peer = Callable[[Path], Iterator[Any]]
WORKERS = 2
SPARSE_BATCH_SIZE = 1024
SPARSE_BLOCK = 512


class H5Rows:
    """The rows of row 19's file one by one, with their numbers; each process opens the file itself."""

    def __init__(self, path: Path) -> None:
        import h5py  # noqa: PLC0415

        self.path = path
        self._opened: dict[int, Any] = {}
        with h5py.File(path) as file:
            self._length = len(file['x'])

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: Any) -> tuple[np.ndarray, int]:
        import h5py  # noqa: PLC0415

        if os.getpid() not in self._opened:
            self._opened[os.getpid()] = h5py.File(self.path)['x']
        return self._opened[os.getpid()][int(index)], int(index)


def torch_loader(path: Path) -> Iterator[Any]:
    import torch  # noqa: PLC0415

    generator = torch.Generator().manual_seed(42)
    loader = torch.utils.data.DataLoader(
        H5Rows(path), BATCH_SIZE, shuffle=True, num_workers=WORKERS, generator=generator
    )
    return ((rows.numpy(), numbers.numpy()) for rows, numbers in loader)


def grain_loader(path: Path) -> Iterator[Any]:
    import grain  # noqa: PLC0415

    data = grain.MapDataset.source(H5Rows(path)).shuffle(seed=42).batch(BATCH_SIZE)
    return iter(data.to_iter_dataset(grain.ReadOptions(num_threads=WORKERS)))


def hf_datasets(path: Path) -> Iterator[Any]:
    """Yield the batches of HF datasets, which first makes an Arrow file of the data: not timed."""
    os.environ['HF_HUB_OFFLINE'] = '1'
    import datasets  # noqa: PLC0415

    datasets.disable_progress_bars()
    cache = path.parent / f'{path.name}-arrow'
    data = datasets.load_dataset('hdf5', data_files=str(path), split='train', cache_dir=str(cache))
    data = data.to_iterable_dataset(num_shards=MIXED_BLOCKS).shuffle(seed=42, buffer_size=MIXED_BLOCKS * 1000)
    batches = data.with_format('numpy').iter(batch_size=BATCH_SIZE)
    return ((batch['x'], batch['number']) for batch in batches)


def sc_dataset(path: Path) -> Iterator[Any]:
    import anndata  # noqa: PLC0415
    import h5py  # noqa: PLC0415
    import scdataset  # noqa: PLC0415

    matrix = anndata.io.sparse_dataset(h5py.File(path)['X'])
    return iter(
        scdataset.scDataset(
            np.arange(matrix.shape[0]),
            scdataset.BlockShuffling(block_size=SPARSE_BLOCK),
            batch_size=SPARSE_BATCH_SIZE,
            fetch_factor=MIXED_BLOCKS * SPARSE_BLOCK // SPARSE_BATCH_SIZE,
            fetch_callback=lambda _numbers, indices: (matrix[indices], indices),
            batch_callback=lambda fetched, places: (fetched[0][places], fetched[1][places]),
            seed=42,
        )
    )


def compare_with_others(row: str, files: Files) -> None:
    import h5py  # noqa: PLC0415

    path, shuffle = files.h5(compressed=True), BlockShuffle(42, 1000, window=MIXED_BLOCKS)
    with h5py.File(path) as file, WorkerThreadPool(WORKERS) as pool:
        x = file['x']
        source = make_source(x, files.n)
        parallel = pool.parallel_data_source(source)
        works = {
            'scan': lambda: scan_by(x, 1000),
            'batchup': lambda: source.batch_iterator(BATCH_SIZE, shuffle=shuffle),
            'batchup, two threads': lambda: parallel.batch_iterator(BATCH_SIZE, shuffle=shuffle),
            'batchup, full shuffle': lambda: source.batch_iterator(BATCH_SIZE, shuffle=42),
        }
        peers: dict[str, Peer] = {'torch': torch_loader, 'grain': grain_loader, 'datasets': hf_datasets}
        side_by_side(row, "row 19's file", works, peers, path, files.digests(files.n, 256))

    path, shuffle = files.anndata(), BlockShuffle(42, SPARSE_BLOCK, window=MIXED_BLOCKS)
    with h5py.File(path) as file:
        matrix = file['X']
        works = {'scan': lambda: sparse_scan(matrix, SPARSE_BLOCK)}
        try:
            source = make_source(matrix, files.n_sparse)
            works['batchup'] = lambda: source.batch_iterator(SPARSE_BATCH_SIZE, shuffle=shuffle)
        except TypeError as error:
            missing(row, "row 24's file, batchup", error)
        side_by_side(row, "row 24's file", works, {'scdataset': sc_dataset}, path, files.sparse_digests())
    print(f'{row:>3}  annbatch is not among them: it needs Python 3.12')


def side_by_side(
    row: str, what: str, works: dict[str, Any], peers: dict[str, Peer], path: Path, digests: np.ndarray
) -> None:
    """Print the rates of all, and how much faster batchup is than each of the others."""
    able = dict(works)
    for name, peer in peers.items():
        able[name] = lambda peer=peer: peer(path)
    for name in [name for name in able if name != 'scan']:
        try:
            check(able[name], digests)
        except (ImportError, AssertionError) as error:
            missing(row, f'{what}, {name}', error)
            del able[name]
    rates = best_rates(able, LONGEST)
    for name in able:
        print(f'{row:>3}  {what}, {name}: {in_words(rates[name], len(digests))}', flush=True)
    for name in peers:
        if name in rates and 'batchup' in rates:
            report(row, f'{what}, batchup against {name}', rates['batchup'][0] / rates[name][0], 1)
