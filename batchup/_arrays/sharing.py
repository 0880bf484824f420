"""How the readers of a source share the memory for what is read ahead."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from .._ground.batch import Destination
from .._plans.plan import Request
from .readers import Reader
from .sparse_ahead import SparseStorageRows
from .storage_rows import StorageRows, room_for


def share_of(readers: Sequence[Reader], read_ahead: int) -> int:
    """Return how many bytes each sparse matrix in storage may take, and all other arrays in storage together."""
    n_sparse = sum(isinstance(reader, SparseStorageRows) for reader in readers)
    dense = any(isinstance(reader, StorageRows) for reader in readers)
    return read_ahead // max(1, n_sparse + dense)


def room_of(readers: Sequence[Reader], read_ahead: int) -> int:
    """Return how many rows of the arrays in storage, apart from sparse matrices, may be read ahead."""
    storages = [reader.storage for reader in readers if isinstance(reader, StorageRows)]
    return room_for(storages, share_of(readers, read_ahead))


def rows_at_once(readers: Sequence[Reader], read_ahead: int) -> int:
    """Return how many samples may be read ahead of all arrays."""
    share = share_of(readers, read_ahead)
    rooms = [reader.room(share) for reader in readers if isinstance(reader, SparseStorageRows)]
    if not rooms or any(isinstance(reader, StorageRows) for reader in readers):
        rooms.append(room_of(readers, read_ahead))
    return min(rooms)


def read_all(readers: Sequence[Reader], request: Request, to: Destination, read_ahead: int) -> Iterator[Iterator[Any]]:
    """Begin to read the batches of a request from each of the arrays."""
    room = room_of(readers, read_ahead)
    for reader in readers:
        if isinstance(reader, StorageRows):
            yield reader.batches(request, to, room)
        elif isinstance(reader, SparseStorageRows):
            yield reader.batches(request, share_of(readers, read_ahead))
        else:
            yield reader.batches(request.indices, request.n_batches, to)
