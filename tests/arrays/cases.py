"""Arrays of every kind that sources read, for the contract that all of them keep.

A case makes an array of its kind from the values that its samples have, and makes arrays of NumPy
from its batches again. Entries do not depend on each other.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from batchup.arrays import ParquetArray


def floats(n: int) -> Any:
    """Make samples of three floating point numbers."""
    return np.arange(3 * n, dtype=np.float32).reshape(n, 3) * 2


def sparse_floats(n: int) -> Any:
    """Make samples that are zero for the greater part."""
    return np.where(np.arange(5 * n).reshape(n, 5) % 3, 0, np.arange(5 * n).reshape(n, 5)).astype(np.float32)


def integers(n: int) -> Any:
    """Make samples that are numbers."""
    return np.arange(n) * 10


def flags(n: int) -> Any:
    """Make samples that are booleans."""
    return np.arange(n) % 3 == 0


def texts(n: int) -> Any:
    """Make samples that are strings."""
    return np.array([f'text {k}' for k in range(n)], dtype=object)


class Case(NamedTuple):
    """A kind of arrays.

    Attributes
    ----------
    library : str
        What is imported to make such arrays.
    make : callable
        `make(library, values, folder)` returns an array of this kind with the values.
    kind : str
        The name of the class of batches.
    back : callable
        Makes a NumPy array of a batch.
    values : callable
        `values(n)` returns the values of n samples.
    """

    library: str
    make: Callable[[Any, Any, Path], Any]
    kind: str
    back: Callable[[Any], Any]
    values: Callable[[int], Any] = floats

    def array(self, n: int, folder: Path) -> Any:
        """Make an array of n samples."""
        return self.make(importlib.import_module(self.library), self.values(n), folder)


class Doubling:
    """An array-like of a user's, with no more than it needs."""

    def __init__(self, values: Any) -> None:
        self.halves = values / 2

    def __len__(self) -> int:
        return len(self.halves)

    def __getitem__(self, indices: Any) -> Any:
        return self.halves[indices] * 2


class Filling(Doubling):
    """An array-like of a user's that writes into memory that it is given."""

    def __init__(self, values: Any) -> None:
        super().__init__(values)
        self.shape, self.dtype = values.shape, values.dtype

    def take(self, indices: Any, axis: int, out: Any) -> None:
        np.multiply(self.halves[indices], 2, out=out)


def masked(values: Any) -> Any:
    """Mask a value; below the mask is another one."""
    return np.ma.array(np.where(values == 8, 99, values), mask=values == 8, fill_value=8)


def in_chunks(arrow: Any, values: Any) -> Any:
    return arrow.chunked_array(
        [values[start : start + 3] for start in range(0, len(values), 3)], arrow.from_numpy_dtype(values.dtype)
    )


def transposed(torch: Any, values: Any) -> Any:
    return torch.from_numpy(values.T.copy()).T


def frame(pandas: Any, values: Any) -> Any:
    return pandas.DataFrame(values, index=np.arange(len(values))[::-1], columns=list('abc'))


def labelled(xarray: Any, values: Any) -> Any:
    common = (('column',), np.arange(3.0))
    return xarray.DataArray(
        values, dims=('row', 'column'), coords={'row': np.arange(len(values))[::-1], 'common': common}
    )


def new_path(folder: Path) -> Path:
    return folder / f'array {sum(1 for _ in folder.iterdir())}'


def in_zarr(zarr: Any, values: Any, folder: Path, **layout: Any) -> Any:
    dtype = 'string' if values.dtype == object else values.dtype
    array = zarr.create_array(
        new_path(folder), shape=values.shape, dtype=dtype, chunks=(4, *values.shape[1:]), **layout
    )
    array[...] = values
    return array


def sparse_group(values: Any, group: Any, **layout: Any) -> Any:
    """Write values to a group as AnnData writes sparse rows."""
    rows = importlib.import_module('scipy.sparse').csr_matrix(values)
    group.attrs.update({'encoding-type': 'csr_matrix', 'encoding-version': '0.1.0', 'shape': list(rows.shape)})
    for name in ('data', 'indices', 'indptr'):
        create = group.create_array if hasattr(group, 'create_array') else group.create_dataset
        create(name, data=getattr(rows, name), **layout)
    return group


def sparse_in_h5(h5py: Any, values: Any, folder: Path, **layout: Any) -> Any:
    path = new_path(folder)
    with h5py.File(path, 'w') as file:
        sparse_group(values, file.create_group('X'), **layout)
    return h5py.File(path, 'r')['X']


def sparse_in_zarr(zarr: Any, values: Any, folder: Path) -> Any:
    return sparse_group(values, zarr.open_group(new_path(folder), mode='w'))


def in_parquet(parquet: Any, values: Any, folder: Path) -> Any:
    columns = {'x': values} if values.ndim == 1 else {f'x{k}': values[:, k] for k in range(values.shape[1])}
    path = new_path(folder)
    arrow = importlib.import_module('pyarrow')
    if values.dtype == object:
        columns = {'x': arrow.array(values, arrow.string())}
    parquet.write_table(arrow.table(columns), path, 4)
    return ParquetArray(path, 'x' if values.ndim == 1 else list(columns))


ALL_CASES: dict[str, Case] = {
    'numpy': Case('numpy', lambda np, values, _: values, 'ndarray', np.asarray),
    'numpy, strings': Case(
        'numpy', lambda np, values, _: values.astype(str), 'ndarray', lambda x: x.astype(object), texts
    ),
    'numpy, in order of columns': Case('numpy', lambda np, values, _: np.asfortranarray(values), 'ndarray', np.asarray),
    'numpy.ma': Case('numpy', lambda np, values, _: masked(values), 'MaskedArray', lambda x: x.filled()),
    'array-like': Case('numpy', lambda np, values, _: Doubling(values), 'ndarray', np.asarray),
    'array-like with take': Case('numpy', lambda np, values, _: Filling(values), 'ndarray', np.asarray),
    'pandas.DataFrame': Case(
        'pandas', lambda pandas, values, _: frame(pandas, values), 'DataFrame', lambda x: x.to_numpy()
    ),
    'pandas.Series': Case(
        'pandas', lambda pandas, values, _: pandas.Series(values), 'Series', lambda x: x.to_numpy(), integers
    ),
    'pandas.Series, strings': Case(
        'pandas', lambda pandas, values, _: pandas.Series(values, dtype=object), 'Series', lambda x: x.to_numpy(), texts
    ),
    'pyarrow.Table': Case(
        'pyarrow',
        lambda arrow, values, _: arrow.table({'x': in_chunks(arrow, values), 'y': values}),
        'Table',
        lambda x: x['x'].to_numpy(),
        integers,
    ),
    'pyarrow.RecordBatch': Case(
        'pyarrow',
        lambda arrow, values, _: arrow.record_batch({'x': arrow.array(values)}),
        'RecordBatch',
        lambda x: x['x'].to_numpy(),
        integers,
    ),
    'pyarrow.Array': Case('pyarrow', lambda arrow, values, _: arrow.array(values), 'Int64Array', np.asarray, integers),
    'pyarrow.Array, booleans': Case(
        'pyarrow', lambda arrow, values, _: arrow.array(values), 'BooleanArray', np.asarray, flags
    ),
    'pyarrow.Array, strings': Case(
        'pyarrow', lambda arrow, values, _: arrow.array(values, arrow.string()), 'StringArray', np.asarray, texts
    ),
    'pyarrow.ChunkedArray': Case(
        'pyarrow', lambda arrow, values, _: in_chunks(arrow, values), 'ChunkedArray', np.asarray, integers
    ),
    'scipy.csr_matrix': Case(
        'scipy.sparse',
        lambda sparse, values, _: sparse.csr_matrix(values),
        'csr_matrix',
        lambda x: x.toarray(),
        sparse_floats,
    ),
    'scipy.csr_array': Case(
        'scipy.sparse',
        lambda sparse, values, _: sparse.csr_array(values),
        'csr_array',
        lambda x: x.toarray(),
        sparse_floats,
    ),
    'scipy.csc_matrix': Case(
        'scipy.sparse',
        lambda sparse, values, _: sparse.csc_matrix(values),
        'csr_matrix',
        lambda x: x.toarray(),
        sparse_floats,
    ),
    'scipy.csc_array': Case(
        'scipy.sparse',
        lambda sparse, values, _: sparse.csc_array(values),
        'csr_array',
        lambda x: x.toarray(),
        sparse_floats,
    ),
    'h5py, sparse rows': Case('h5py', sparse_in_h5, 'csr_matrix', lambda x: x.toarray(), sparse_floats),
    'zarr, sparse rows': Case('zarr', sparse_in_zarr, 'csr_matrix', lambda x: x.toarray(), sparse_floats),
    'torch': Case('torch', lambda torch, values, _: torch.from_numpy(values), 'Tensor', np.asarray),
    'torch, not contiguous': Case('torch', lambda torch, values, _: transposed(torch, values), 'Tensor', np.asarray),
    'torch, booleans': Case('torch', lambda torch, values, _: torch.from_numpy(values), 'Tensor', np.asarray, flags),
    'torch, bfloat16': Case(
        'torch', lambda torch, values, _: torch.from_numpy(values).bfloat16(), 'Tensor', lambda x: x.float().numpy()
    ),
    'torch, parameter': Case(
        'torch',
        lambda torch, values, _: torch.nn.Parameter(torch.from_numpy(values)),
        'Tensor',
        lambda x: x.detach().numpy(),
    ),
    'jax': Case('jax.numpy', lambda jnp, values, _: jnp.asarray(values), 'ArrayImpl', np.asarray),
    'jax, on a device': Case(
        'jax', lambda jax, values, _: jax.device_put(values, jax.devices('cpu')[0]), 'ArrayImpl', np.asarray
    ),
    'jax, bfloat16': Case(
        'jax.numpy',
        lambda jnp, values, _: jnp.asarray(values, 'bfloat16'),
        'ArrayImpl',
        lambda x: np.asarray(x).astype(np.float32),
    ),
    'xarray.DataArray': Case('xarray', lambda xarray, values, _: labelled(xarray, values), 'DataArray', np.asarray),
    'xarray.Variable': Case(
        'xarray', lambda xarray, values, _: labelled(xarray, values).variable, 'Variable', np.asarray
    ),
    'xarray over dask': Case(
        'xarray', lambda xarray, values, _: labelled(xarray, values).chunk({'row': 4}), 'DataArray', np.asarray
    ),
    'zarr': Case('zarr', in_zarr, 'ndarray', np.asarray),
    'zarr, shards': Case(
        'zarr', lambda zarr, values, folder: in_zarr(zarr, values, folder, shards=(8, 3)), 'ndarray', np.asarray
    ),
    'zarr, format 2': Case(
        'zarr', lambda zarr, values, folder: in_zarr(zarr, values, folder, zarr_format=2), 'ndarray', np.asarray
    ),
    'zarr, booleans': Case('zarr', in_zarr, 'ndarray', np.asarray, flags),
    'zarr, strings': Case('zarr', in_zarr, 'ndarray', lambda x: x.astype(object), texts),
    'Parquet': Case('pyarrow.parquet', in_parquet, 'ndarray', np.asarray),
    'Parquet, booleans': Case('pyarrow.parquet', in_parquet, 'ndarray', np.asarray, flags),
    'Parquet, strings': Case('pyarrow.parquet', in_parquet, 'ndarray', np.asarray, texts),
}

# JAX, once it is imported, warns of every fork: its cases run in an interpreter of their own (see test_jax.py).
ONLY_JAX = 'ONLY_JAX' in os.environ
CASES = {name: case for name, case in ALL_CASES.items() if case.library.startswith('jax') == ONLY_JAX}
