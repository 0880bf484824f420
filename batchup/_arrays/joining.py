"""Batches of arrays of all kinds: which kind they are of, and how those of one kind are put together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .._ground.indices import IndexArray
from .._ground.sparse import is_sparse, stack
from .arrow import in_one_chunk, is_arrow, is_arrow_array, is_arrow_table, join_arrow, take
from .chunked import ChunkedStorage
from .frames import is_pandas, join_frames
from .h5 import is_h5
from .parquet import ParquetArray
from .rows import is_plain
from .sparse_groups import is_csr_group
from .tensors import is_tensor, join_tensors
from .xarrays import choose, is_xarray, join_xarrays
from .zarrs import is_zarr


def kind_of(array: Any) -> str:
    """Name the kind of array that a part of a batch is.

    >>> kind_of(np.arange(3)), kind_of(np.ma.arange(3)), kind_of([1, 2])
    ('numpy.ndarray', 'numpy.ma.MaskedArray', 'numpy.ndarray')
    """
    if isinstance(array, np.ma.MaskedArray):
        return 'numpy.ma.MaskedArray'
    if is_tensor(array):
        return 'torch.Tensor'
    if is_plain(array) or not _keeps_its_kind(array):
        return 'numpy.ndarray'
    if is_sparse(array):  # rows of CSC are CSR
        return f'scipy.{type(array).__name__.replace("csc", "csr")}'
    if is_arrow_array(array):
        return 'pyarrow.ChunkedArray' if hasattr(array, 'num_chunks') else 'pyarrow.Array'
    return f'{type(array).__module__.partition(".")[0]}.{type(array).__qualname__}'


def known_kind(data: Any) -> str | None:
    """Return the kind of arrays that is read from data, without reading; `None` if it is not known."""
    if is_h5(data) or is_zarr(data) or isinstance(data, ParquetArray) or ChunkedStorage.fits(data):
        return 'numpy.ndarray'
    if is_csr_group(data):
        return 'scipy.csr_matrix'
    return kind_of(data) if _keeps_its_kind(data) else None


def as_kind(array: Any) -> Any:
    """Return a part of a batch as it is, or as a NumPy array if arrays of its kind cannot be concatenated."""
    return array if _keeps_its_kind(array) and not is_plain(array) else np.asarray(array)


def _keeps_its_kind(array: Any) -> bool:
    """Say whether arrays of this kind can be concatenated without becoming NumPy arrays."""
    if isinstance(array, np.ndarray) or any(
        recognises(array) for recognises in (is_pandas, is_tensor, is_sparse, is_arrow, is_xarray)
    ):
        return True
    return hasattr(array, '__array_namespace__') or hasattr(array, '__array_function__')


def join_rows(parts: Sequence[Any], places: IndexArray | None = None) -> Any:
    """Concatenate arrays of one kind, in its own way, and then choose the rows that `places` name, in that order.

    >>> join_rows([np.ma.masked_equal([1, 2], 2), np.ma.masked_equal([3], 2)], np.array([2, 1, 0]))
    masked_array(data=[3, --, 1],
                 mask=[False,  True, False],
           fill_value=2)
    """
    joined = _join(parts)
    if places is None:
        return joined
    if is_arrow(joined):
        return take(in_one_chunk(joined), places)
    if is_xarray(joined):
        return choose(joined, places)
    return joined.iloc[places] if is_pandas(joined) else joined[places]


def _join(parts: Sequence[Any]) -> Any:
    """Concatenate arrays of one kind."""
    first = parts[0]
    for recognises, join in _JOINED:
        if recognises(first):
            return join(parts)
    if isinstance(first, np.ma.MaskedArray):
        joined: Any = _in_byte_order(np.ma.concatenate(parts), first.dtype)  # type: ignore[no-untyped-call]
        joined.fill_value = first.fill_value
        return joined
    if not isinstance(first, np.ndarray) and hasattr(first, '__array_namespace__'):
        return first.__array_namespace__().concat(list(parts))
    joined = _in_byte_order(np.concatenate(parts), first.dtype)
    return joined.view(type(first)) if isinstance(first, np.ndarray) and not is_plain(first) else joined


_JOINED = (
    (is_pandas, join_frames),
    (is_tensor, join_tensors),
    (is_sparse, stack),
    (is_arrow, join_arrow),
    (is_xarray, join_xarrays),
)


def _in_byte_order(joined: Any, dtype: np.dtype[Any]) -> Any:
    """Give concatenated arrays their byte order back: NumPy has given them that of the machine."""
    same_size = dtype.newbyteorder('=') == joined.dtype.newbyteorder('=')
    # Strings have become as long as the longest of all.
    return joined.astype(dtype if same_size else joined.dtype.newbyteorder(dtype.byteorder), copy=False)


def columns_of(array: Any) -> Any:
    """Return the dtype of an array; of a table, each name with its dtype; `None` if it has none."""
    if is_arrow_table(array):
        return list(zip(array.schema.names, array.schema.types))
    if is_arrow_array(array):
        return array.type
    if not is_pandas(array):
        return getattr(array, 'dtype', None)
    return [(array.name, array.dtype)] if array.ndim == 1 else list(array.dtypes.items())


def text_kind(array: Any) -> str | None:
    """Return `'U'` or `'S'` for an array of strings, whose dtype says how long the longest is; else `None`."""
    kind = getattr(getattr(array, 'dtype', None), 'kind', None)
    return kind if kind in ('U', 'S') else None
