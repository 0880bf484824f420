"""The reader of an array: a small class for each kind of array."""

from __future__ import annotations

from typing import Any

from .array_likes import ArrayLikeRows
from .chunked import ChunkedStorage
from .h5 import h5_storage
from .parquet import ParquetArray, ParquetStorage
from .read_ahead import StorageRows
from .rows import Rows, is_plain
from .storage import Storage
from .zarrs import ZarrStorage, is_zarr

Reader = Rows | ArrayLikeRows | StorageRows


def make_reader(number: int, array: Any) -> Reader:
    """Return the reader for an array, which is `data[number]` of a source."""
    if is_plain(array):
        return Rows(array)
    storage = find_storage(array)
    return ArrayLikeRows(array) if storage is None else StorageRows(storage)


def find_storage(array: Any) -> Storage | None:
    """Return how an array in storage is read; `None` for any other."""
    if is_zarr(array):
        return ZarrStorage(array)
    if isinstance(array, ParquetArray):
        return ParquetStorage(array)
    return h5_storage(array) or (ChunkedStorage(array) if ChunkedStorage.fits(array) else None)
