"""Whose code makes the batches of a source: the package's and other libraries' alone, or the user's as well."""

from __future__ import annotations

from typing import Any

from .._arrays.array_likes import ArrayLikeRows
from .._arrays.chunked import ChunkedStorage
from .._arrays.filled import FilledRows
from .._arrays.readers import make_reader
from .._arrays.storage_rows import StorageRows
from .._sources.arrays import ArrayDataSource
from .._sources.base import AbstractDataSource, DerivedDataSource, MapDataSource
from .._sources.concat import ConcatDataSource
from ..image.utils import ImageArrayUInt8ToFloat32

PACKAGE = __name__.partition('.')[0]


def runs_users_code(source: AbstractDataSource) -> bool:
    """Say whether code of the user's may run when a source reads batches: a function, a source, an array-like."""
    if type(source).__module__.partition('.')[0] != PACKAGE or isinstance(source, MapDataSource):
        return True
    if isinstance(source, (DerivedDataSource, ConcatDataSource)):
        members = source._members if isinstance(source, DerivedDataSource) else source.datasets
        return any(runs_users_code(member) for member in members)
    return not isinstance(source, ArrayDataSource) or any(_is_users(reader) for reader in source._readers)


def _is_users(reader: Any) -> bool:
    """Say whether what a reader reads is an array-like of the user's."""
    if type(reader.array) is ImageArrayUInt8ToFloat32:
        return _is_users(make_reader(0, reader.array.arr_u8))
    own = isinstance(reader, StorageRows) and isinstance(reader.storage, ChunkedStorage)
    return own or isinstance(reader, (ArrayLikeRows, FilledRows))
