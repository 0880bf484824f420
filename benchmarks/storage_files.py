"""The files that `storage.py` reads: each made once, of counts as they are in single cells.

Every row has a digest, which tells whether a row that was read is the right one: the sum of
its values by random whole weights, which float64 holds exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

# Rows that are written at a time.
WRITTEN_ROWS = 1000


def dense_blocks(n: int, columns: int) -> Iterator[tuple[int, np.ndarray]]:
    """Yield blocks of rows, float32, with the number of their first row."""
    rng = np.random.RandomState(0)
    for start in range(0, n, WRITTEN_ROWS):
        yield start, rng.poisson(0.3, (min(WRITTEN_ROWS, n - start), columns)).astype(np.float32)


def sparse_blocks(n: int, columns: int, in_row: int) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yield blocks of as many values in each row, with the number of the first row: values, and their columns."""
    rng = np.random.RandomState(0)
    for start in range(0, n, WRITTEN_ROWS):
        shape = min(WRITTEN_ROWS, n - start), in_row
        # In increasing order, none twice.
        places = rng.randint(0, columns // in_row, shape) + np.arange(in_row) * (columns // in_row)
        yield start, (rng.poisson(0.3, shape) + 1).astype(np.float32), places.astype(np.int32)


def weights(columns: int) -> np.ndarray:
    return np.random.RandomState(9).randint(1, 2**20, columns).astype(np.float64)


def digest(rows: Any) -> np.ndarray:
    """Return the digest of each row, of an array, of a sparse one, or of a table."""
    if hasattr(rows, 'to_pandas'):
        rows = rows.to_pandas()
    if hasattr(rows, 'to_numpy'):
        rows = rows.to_numpy()
    rows = rows if hasattr(rows, 'tocsr') else np.asarray(rows)
    return np.asarray(rows @ weights(rows.shape[1]))


class Files:
    """Files in a folder, made where they are missing.

    Parameters
    ----------
    folder : Path
        Where they are, or will be.
    scale : float
        The number of rows, as a part of the full size.
    """

    def __init__(self, folder: Path, scale: float) -> None:
        self.folder = folder
        self.scale = scale
        self.n = max(WRITTEN_ROWS, int(1_000_000 * scale))
        self.n_sparse = max(WRITTEN_ROWS, int(200_000 * scale))

    def digests(self, n: int, columns: int) -> np.ndarray:
        """Return the digests of all rows of a dense file."""

        def make(path: Path) -> None:
            np.save(path, np.concatenate([digest(block) for _, block in dense_blocks(n, columns)]))

        return np.load(self._made(f'digests-{n}-{columns}.npy', make))

    def sparse_digests(self) -> np.ndarray:
        def make(path: Path) -> None:
            by_column = weights(20_000)
            blocks = sparse_blocks(self.n_sparse, 20_000, 500)
            np.save(path, np.concatenate([(values * by_column[places]).sum(axis=1) for _, values, places in blocks]))

        return np.load(self._made(f'digests-{self.n_sparse}-sparse.npy', make))

    def h5(self, compressed: bool) -> Path:
        """Return an HDF5 file, `x` of n x 256 and `number`: in chunks of 1,000 by gzip 4 and shuffle, or contiguous."""
        how: dict[str, Any] = {'chunks': (1000, 256), 'compression': 'gzip', 'compression_opts': 4, 'shuffle': True}

        def make(path: Path) -> None:
            import h5py  # noqa: PLC0415

            with h5py.File(path, 'w') as file:
                file['number'] = np.arange(self.n)
                x = file.create_dataset('x', (self.n, 256), np.float32, **(how if compressed else {}))
                for start, block in dense_blocks(self.n, 256):
                    x[start : start + len(block)] = block

        return self._made(f'{"gzip" if compressed else "contiguous"}-{self.n}.h5', make)

    def zarr(self, sharded: bool) -> Path:
        """Return a zarr v3 array, n x 256, blosc-zstd 3: in chunks of 1,000 rows, or of 64 in shards of 16,000."""

        def make(path: Path) -> None:
            import zarr  # noqa: PLC0415

            layout: dict[str, Any] = {'chunks': (1000, 256)}
            if sharded:
                layout = {'chunks': (64, 256), 'shards': (16_000, 256)}
            codec = zarr.codecs.BloscCodec(cname='zstd', clevel=3)
            x = zarr.create_array(
                path, shape=(self.n, 256), dtype='float32', zarr_format=3, compressors=[codec], **layout
            )
            at_once = layout.get('shards', layout['chunks'])[0]
            kept: list[np.ndarray] = []
            for start, block in dense_blocks(self.n, 256):
                kept.append(block)
                stop = start + len(block)
                if stop % at_once == 0 or stop == self.n:
                    whole = np.concatenate(kept)
                    x[stop - len(whole) : stop] = whole
                    kept.clear()

        return self._made(f'{"sharded" if sharded else "chunked"}-{self.n}.zarr', make)

    def parquet(self) -> Path:
        """Return a Parquet file of 64 columns by zstd, in row groups of 5,000."""

        def make(path: Path) -> None:
            import pyarrow as pa  # noqa: PLC0415
            import pyarrow.parquet as pq  # noqa: PLC0415

            schema = pa.schema([(f'c{number}', pa.float32()) for number in range(64)])
            with pq.ParquetWriter(path, schema, compression='zstd') as writer:
                kept: list[np.ndarray] = []
                for start, block in dense_blocks(self.n, 64):
                    kept.append(block)
                    if len(kept) == 5 or start + len(block) == self.n:
                        columns = np.concatenate(kept).T
                        writer.write_table(pa.table([pa.array(column) for column in columns], schema=schema))
                        kept.clear()

        return self._made(f'columns-{self.n}.parquet', make)

    def anndata(self) -> Path:
        """Return an HDF5 file with the sparse matrix `X`, n x 20,000, 500 values a row, as anndata writes it."""

        def make(path: Path) -> None:
            import h5py  # noqa: PLC0415

            n, in_row = self.n_sparse, 500
            with h5py.File(path, 'w') as file:
                group = file.create_group('X')
                attributes = {'encoding-type': 'csr_matrix', 'encoding-version': '0.1.0', 'shape': (n, 20_000)}
                group.attrs.update(attributes)
                group.create_dataset('indptr', data=np.arange(n + 1) * in_row, maxshape=(None,))
                data = group.create_dataset('data', (n * in_row,), np.float32, maxshape=(None,))
                indices = group.create_dataset('indices', (n * in_row,), np.int32, maxshape=(None,))
                for start, values, places in sparse_blocks(n, 20_000, in_row):
                    part = slice(start * in_row, (start + len(values)) * in_row)
                    data[part], indices[part] = values.reshape(-1), places.reshape(-1)

        return self._made(f'anndata-{self.n_sparse}.h5', make)

    def _made(self, name: str, make: Callable[[Path], None]) -> Path:
        """Return the path of a file; what an interrupted run has left of it is made again."""
        path, part = self.folder / name, self.folder / f'part-{name}'
        if not path.exists():
            if part.is_file():
                part.unlink()
            make(part)
            part.rename(path)
        return path
