"""The reader of an array: a small class for each kind of array."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .._ground.sparse import is_sparse
from .array_likes import ArrayLikeRows
from .arrow import ArrowRows, is_arrow
from .by_batch import BatchRows
from .chunked import ChunkedStorage
from .filled import FilledRows, takes_into_memory
from .frames import FrameRows, is_pandas
from .h5 import h5_storage
from .images import ImageRows, is_images
from .jax_arrays import JaxRows, jax_memory, reduce_jax
from .parquet import ParquetArray, ParquetStorage
from .rows import Rows, is_plain
from .sparse import SparseRows
from .sparse_ahead import SparseStorageRows
from .sparse_groups import SparseStorage, is_csr_group
from .storage import Storage
from .storage_rows import StorageRows
from .tensors import TensorRows, reduce_tensor, tensor_memory
from .through_memory import MemoryRows
from .xarrays import XarrayRows, is_xarray
from .zarrs import ZarrStorage, is_zarr

Reader = Rows | MemoryRows | FilledRows | BatchRows | StorageRows | SparseStorageRows

# Those that read batch by batch, and how their arrays are recognised.
_KINDS = ((is_pandas, FrameRows), (is_arrow, ArrowRows), (is_sparse, SparseRows), (is_xarray, XarrayRows))


def make_reader(number: int, array: Any) -> Reader:
    """Return the reader for an array, which is `data[number]` of a source."""
    if is_plain(array):
        return Rows(array)
    if tensor_memory(array) is not None:
        return TensorRows(array)
    if jax_memory(array) is not None:
        return JaxRows(array)
    for recognises, reader in _KINDS:
        if recognises(array):
            return reader(array, number)
    return _make_stored(array) or _make_other(number, array)


def _make_stored(array: Any) -> StorageRows | SparseStorageRows | None:
    """Return the reader for what is in storage; `None` for anything else."""
    if is_csr_group(array):
        return SparseStorageRows(SparseStorage(array))
    storage = find_storage(array)
    return None if storage is None else StorageRows(storage)


def _make_other(number: int, array: Any) -> Reader:
    """Return the reader for an array-like that is of no library, and in no storage."""
    if is_images(array):
        return ImageRows(array)
    return FilledRows(array) if takes_into_memory(array) else ArrayLikeRows(array, number)


def find_storage(array: Any) -> Storage | None:
    """Return how an array in storage is read; `None` for any other."""
    if is_zarr(array):
        return ZarrStorage(array)
    if isinstance(array, ParquetArray):
        return ParquetStorage(array)
    return h5_storage(array) or (ChunkedStorage(array) if ChunkedStorage.fits(array) else None)


class ReadArrays:
    """The arrays of a source, pickled by their readers, as not all of them pickle by themselves.

    Attributes
    ----------
    arrays : list or tuple of array-likes
        The arrays.
    readers : list of readers
        The reader of each.
    """

    def __init__(self, arrays: Sequence[Any], readers: Sequence[Reader]) -> None:
        self.arrays = arrays
        self.readers = readers

    def __reduce__(self) -> tuple[Any, ...]:
        as_read = all(reader.array is array for reader, array in zip(self.readers, self.arrays))
        if as_read and type(self.arrays) in (list, tuple):
            return _arrays_of, (type(self.arrays), self.readers)
        return ReadArrays, (self.arrays, ())


def _arrays_of(make: type, readers: Sequence[Reader]) -> ReadArrays:
    return ReadArrays(make([reader.array for reader in readers]), readers)


def reduce_to_array(value: Any) -> tuple[Any, ...] | None:
    """Return how to pickle an array of another library as a NumPy array; `None` for any other value."""
    return reduce_tensor(value) or reduce_jax(value)
