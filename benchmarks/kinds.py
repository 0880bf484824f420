"""Shuffled batches of 256 samples from arrays of many libraries, in memory: microseconds for a batch.

Run `python benchmarks/kinds.py`; names of kinds choose some of them: `kinds.py torch jax`. Kinds
whose library is not installed are left out. Every figure is the best of several epochs.
"""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from batchup.data_source import ArrayDataSource

ROWS = np.random.RandomState(0).rand(100_000, 64).astype(np.float32)
COLUMNS = {f'c{k}': ROWS[:, k].copy() for k in range(16)}

EPOCHS = 5


def sparse_rows(sparse: Any) -> Any:
    return sparse.random(len(ROWS), 2000, 0.02, format='csr', dtype=np.float32, random_state=0)


# What is imported, what is made with it, and arguments of the source.
KINDS: dict[str, tuple[str, Callable[[Any], Any], dict[str, Any]]] = {
    'numpy': ('numpy', lambda _: ROWS, {}),
    'numpy.ma': ('numpy', lambda _: np.ma.masked_greater(ROWS, 0.9), {}),
    'torch': ('torch', lambda torch: torch.from_numpy(ROWS), {}),
    'torch, 1-D': ('torch', lambda torch: torch.arange(len(ROWS)), {}),
    'torch, not contiguous': ('torch', lambda torch: torch.from_numpy(ROWS.T.copy()).T, {}),
    'torch, bfloat16': ('torch', lambda torch: torch.from_numpy(ROWS).bfloat16(), {}),
    'jax': ('jax', lambda jax: jax.numpy.asarray(ROWS), {}),
    'pandas, 16 columns': ('pandas', lambda pandas: pandas.DataFrame(COLUMNS), {}),
    'pandas, to_numpy': ('pandas', lambda pandas: pandas.DataFrame(COLUMNS), {'to_numpy': True}),
    'pandas, one column': ('pandas', lambda pandas: pandas.Series(ROWS[:, 0]), {}),
    'pyarrow, 16 columns': ('pyarrow', lambda arrow: arrow.table(COLUMNS), {}),
    'pyarrow, to_numpy': ('pyarrow', lambda arrow: arrow.table(COLUMNS), {'to_numpy': True}),
    'csr, 40 of 2000': ('scipy.sparse', sparse_rows, {}),
    'xarray': ('xarray', lambda xarray: xarray.DataArray(ROWS, dims=('row', 'column')), {}),
}


def microseconds(source: ArrayDataSource) -> float:
    """Return how long a batch takes, in the best of several epochs."""
    best = float('inf')
    for seed in range(EPOCHS):
        stream = source.batch_iterator(256, shuffle=seed)
        next(stream)  # and the order of the epoch
        start = time.perf_counter()
        for _batch in stream:
            pass
        best = min(best, (time.perf_counter() - start) / (len(stream) - 1))
    return best * 1e6


def main() -> None:
    for name, (library, make, kwargs) in KINDS.items():
        if not sys.argv[1:] or any(chosen in name for chosen in sys.argv[1:]):
            try:
                array = make(importlib.import_module(library))
            except ImportError:
                continue
            print(f'{name:24}{microseconds(ArrayDataSource([array], **kwargs)):8.1f} us', flush=True)


if __name__ == '__main__':
    main()
