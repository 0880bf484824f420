"""Data sets of HDF5 files, and their views, as h5py gives them.

h5py lets one thread in at a time, while it decodes, too. Where its filters are those of
everyday files (gzip, and the shuffle of bytes), only the compressed bytes of a chunk come from
h5py, and they are decoded here, by as many threads as read.
"""

from __future__ import annotations

import itertools
import math
import os
import pickle
import sys
import threading
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .h5_files import H5Array, dump_by_name
from .inflate import inflate
from .storage import Storage, rows_of_bytes

# Rows of about so many bytes are read at once where there are no chunks. Larger: more rows that
# nobody asked for. Smaller: more calls, of 5 microseconds each.
READ_BYTES = 2**20

# Numbers that HDF5 has given to its filters.
_GZIP, _SHUFFLE = 1, 2


class H5Storage(Storage):
    """The rows of an h5py data set, of a view of one, or of an `H5Array`.

    Parameters
    ----------
    array : h5py.Dataset, a view that it gives (`astype`, `asstr`, `fields`), or H5Array
        An array with at least one dimension.
    """

    def __init__(self, array: Any) -> None:
        opens_itself = isinstance(array, H5Array)
        dataset = array if opens_itself else dataset_of(array)
        self.array = array
        self._view = None if array is dataset else array
        # The dtype of a view, and the shape of its rows, are those of what it reads.
        no_rows = array[[]] if opens_itself else array[:0]
        self.shape = (array.shape[0], *no_rows.shape[1:])
        self.dtype = no_rows.dtype
        self.whole_chunks = dataset.chunks is not None
        chunk_rows = dataset.chunks[0] if dataset.chunks else rows_of_bytes(READ_BYTES, self.dtype, self.shape[1:])
        self.chunk_rows = min(chunk_rows, max(1, self.shape[0]))
        path = array.path if opens_itself else dataset.file.filename
        self._name = f'data set {dataset.name!r} of {path}'
        # The data set as it is open in this process, and where its bytes are, if they are those in memory.
        self._opened: tuple[Any, _Bytes | None] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return _load_storage, (dump_by_name(self.array),)

    @property
    def _dataset(self) -> Any:
        return dataset_of(self.array)

    @cached_property
    def _chunks(self) -> _RawChunks | None:
        """How chunks are decoded here; `None` if h5py is to do so."""
        dataset = self._dataset
        if self._view is None:
            return _RawChunks.of(dataset)
        numbers = dataset.dtype.kind in 'iuf' and self.dtype.kind in 'iuf'
        # NumPy converts numbers as HDF5 does if all of them fit.
        alike = _is_astype(self._view) and numbers and np.can_cast(dataset.dtype, self.dtype)
        return _RawChunks.of(dataset) if alike else None

    @cached_property
    def _copier(self) -> Any:
        """What copies rows as HDF5 converts them; `None` if h5py converts what it has read."""
        converts = self._view is not None and not _is_astype(self._view)
        if converts or self.dtype.hasobject or self._dataset.dtype.subdtype is not None:
            return None
        return _Copier(self.dtype)

    def read(self, start: int, stop: int, output: NDArray[Any]) -> None:
        """Read the rows from `start` to `stop`; see `Storage.read`.

        Raises
        ------
        ValueError
            If the file is closed.
        OSError
            If the rows cannot be read, or a chunk does not decode.
        """
        try:
            self._read(start, stop, output)
        except Exception as error:
            self._check_open()
            if not isinstance(error, (OSError, RuntimeError)):
                raise
            raise OSError(f'{self._name} could not be read: {error}') from error

    def _read(self, start: int, stop: int, output: NDArray[Any]) -> None:
        dataset, chunks, copier = self._dataset, self._chunks, self._copier
        if self._opened is None or self._opened[0] is not dataset:  # as it is not in a forked process
            self._opened = dataset, None if self._view is not None else _find_bytes(dataset)
        place = self._opened[1]
        if place is not None:
            self._check_open()  # or its file may be another one by now
            place.read(start, output)
        elif chunks is None and copier is None:
            output[...] = (dataset if self._view is None else self._view)[start:stop]
        elif chunks is None:
            copier.copy(dataset, (start, *[0] * (output.ndim - 1)), output)
        elif chunks.dtype == self.dtype:
            chunks.read(dataset, start, stop, output)
        else:
            rows = np.empty(output.shape, chunks.dtype)
            chunks.read(dataset, start, stop, rows)
            output[...] = rows

    def name(self) -> str:
        return self._name

    def check(self) -> None:
        """Raise `ValueError` if the file is closed, or the data set has another length than at first."""
        self._check_open()
        length = self._dataset.shape[0]
        if length != self.shape[0]:
            raise ValueError(f'{self._name} now has length {length}, not {self.shape[0]}')

    def _check_open(self) -> None:
        if not self._dataset:
            raise ValueError(
                f'{self._name}: the h5py file is closed; keep the file open while batches are read, or give '
                'batchup.arrays.H5Array(path, name), which opens it itself'
            )


def _load_storage(pickled: bytes) -> H5Storage:
    return H5Storage(pickle.loads(pickled))


class _RawChunks:
    """The chunks of a data set, decoded with no lock held.

    Parameters
    ----------
    dataset : h5py.Dataset
        A data set in chunks.
    filters : list of int
        The numbers of its filters, in the order in which they were applied.

    Attributes
    ----------
    dtype : numpy.dtype
        The dtype of the numbers in the file.
    """

    def __init__(self, dataset: Any, filters: list[int]) -> None:
        self.dtype = dataset.dtype
        self._copier = _Copier(dataset.dtype)
        self._row_shape = dataset.shape[1:]
        self._shape = dataset.chunks
        self._nbytes = math.prod(dataset.chunks) * dataset.dtype.itemsize
        self._filters = filters

    @classmethod
    def of(cls, dataset: Any) -> _RawChunks | None:
        """Return the chunks of a data set; `None` if only h5py can decode them."""
        if dataset.chunks is None:
            return None
        properties = dataset.id.get_create_plist()
        filters = [properties.get_filter(number)[0] for number in range(properties.get_nfilters())]
        if filters not in ([_GZIP], [_SHUFFLE, _GZIP]) or not _bytes_of_memory(dataset):
            return None
        return cls(dataset, filters)

    def read(self, dataset: Any, start: int, stop: int, output: NDArray[Any]) -> None:
        """Read rows of the data set, as it is open in this process.

        Chunks that were never written are left to HDF5, which knows what they are filled with.
        """
        items = output.reshape(-1).view(np.uint8).reshape(*output.shape, self.dtype.itemsize)
        for corner, inside, outside in self._parts(start, stop):
            # To read a chunk that is not there ends in any error, or none.
            if dataset.id.get_chunk_info_by_coord(corner).byte_offset is None:
                begin = tuple(first + part.start for first, part in zip(corner, inside))
                self._copier.copy(dataset, begin, output, outside)
            else:
                skipped, raw = dataset.id.read_direct_chunk(corner)
                self._decode(raw, skipped, inside, items[outside])

    def _parts(self, start: int, stop: int) -> Iterator[tuple[tuple[int, ...], tuple[slice, ...], tuple[slice, ...]]]:
        """Go through the chunks with rows to read: the corner of each, which part of it is read, and where to."""
        lows, highs = [start] + [0] * (len(self._shape) - 1), [stop, *self._row_shape]
        axes = []
        for size, low, high in zip(self._shape, lows, highs):
            firsts = range(low - low % size, high, size)
            axes.append([(first, max(first, low), min(first + size, high)) for first in firsts])
        for spans in itertools.product(*axes):
            yield (
                tuple(first for first, _, _ in spans),
                tuple(slice(begin - first, end - first) for first, begin, end in spans),
                tuple(slice(begin - low, end - low) for low, (_, begin, end) in zip(lows, spans)),
            )

    def _decode(self, raw: bytes, skipped: int, inside: tuple[slice, ...], items: NDArray[np.uint8]) -> None:
        """Undo the filters of a chunk, except those that were skipped, and copy a part of it.

        Parameters
        ----------
        raw : bytes
            The chunk as it is in the file.
        skipped : int
            Has a bit for each filter; set for those that were not applied to this chunk.
        inside : tuple of slices
            The part that is copied.
        items : uint8 array of shape (..., item size)
            Where it goes, byte by byte.
        """
        applied = [code for number, code in enumerate(self._filters) if not skipped >> number & 1]
        if _GZIP in applied:
            raw = inflate(raw, self._nbytes)
        if len(raw) != self._nbytes:
            raise OSError(f'a chunk has {len(raw)} bytes, and not {self._nbytes}')
        decoded = np.frombuffer(raw, np.uint8)
        if _SHUFFLE in applied:
            # The first bytes of all items come first, then all of their second bytes.
            for byte, plane in enumerate(decoded.reshape(-1, *self._shape)):
                items[..., byte] = plane[inside]
        else:
            items[...] = decoded.reshape(*self._shape, -1)[inside]


def _bytes_of_memory(dataset: Any) -> bool:
    """Say whether numbers of a data set have the same bytes in the file as in memory."""
    if dataset.dtype.hasobject or dataset.dtype.subdtype is not None:
        return False
    own_type = sys.modules['h5py'].h5t.py_create(dataset.dtype, logical=True)
    return bool(dataset.id.get_type().equal(own_type))


class _Bytes:
    """Rows of a data set that lie in a file as in memory: all in one place, or those of each chunk.

    Parameters
    ----------
    file : int
        The descriptor of the file.
    places : sequence of integers
        Where in the file each chunk begins.
    rows : int
        How many rows a chunk has.
    """

    def __init__(self, file: int, places: Sequence[int] | NDArray[Any], rows: int) -> None:
        self._file = file
        self._places = places
        self._rows = rows

    def read(self, start: int, output: NDArray[Any]) -> None:
        """Read consecutive rows."""
        row_bytes = output.nbytes // len(output)
        chunk, first = divmod(start, self._rows)
        while len(output) > self._rows - first:
            part, output = output[: self._rows - first], output[self._rows - first :]
            _read_bytes(self._file, int(self._places[chunk]) + first * row_bytes, part)
            chunk, first = chunk + 1, 0
        _read_bytes(self._file, int(self._places[chunk]) + first * row_bytes, output)


def _find_bytes(dataset: Any) -> _Bytes | None:
    """Return where the bytes of a data set are; `None` if they do not lie in the file as in memory."""
    file = dataset.file
    plain = not (dataset.is_virtual or dataset.external) and _bytes_of_memory(dataset)
    # What is written to a file may not be there yet.
    known = file.driver == 'sec2' and file.mode == 'r' and not file.swmr_mode and not file.userblock_size
    if not (plain and known and hasattr(os, 'preadv')):
        return None
    if dataset.chunks is not None:
        places = _chunk_places(dataset)
        return None if places is None else _Bytes(file.id.get_vfd_handle(), places, dataset.chunks[0])
    place = dataset.id.get_offset()
    return None if place is None else _Bytes(file.id.get_vfd_handle(), [place], max(1, len(dataset)))


def _chunk_places(dataset: Any) -> NDArray[Any] | None:
    """Return where in the file each chunk begins; `None` unless all are there, without filters, and of whole rows."""
    count = -(-len(dataset) // dataset.chunks[0])
    whole = dataset.chunks[1:] == dataset.shape[1:] and dataset.id.get_create_plist().get_nfilters() == 0
    # To ask for one chunk at a time takes longer than to read it.
    if not (whole and count) or not hasattr(dataset.id, 'chunk_iter') or dataset.id.get_num_chunks() != count:
        return None
    places = np.full(count, -1)

    def note(chunk: Any) -> None:
        places[chunk.chunk_offset[0] // dataset.chunks[0]] = chunk.byte_offset

    dataset.id.chunk_iter(note)
    return None if (places < 0).any() else places


def _read_bytes(file: int, place: int, output: NDArray[Any]) -> None:
    """Fill an array with the bytes of a file from a place on; `OSError` if it ends before."""
    left = memoryview(output.reshape(-1).view(np.uint8))  # type: ignore[arg-type]
    while left:
        count = os.preadv(file, [left], place)
        if not count:
            raise OSError(f'the file ends {len(left)} bytes too early')
        left, place = left[count:], place + count


class _Copier:
    """Copies parts of a data set by HDF5 itself.

    `Dataset.read_direct` does the same, but makes anew for every part what is kept here, which
    takes longer than to copy a small batch.

    Parameters
    ----------
    dtype : numpy.dtype
        The dtype of the arrays that it copies to; HDF5 converts to it.
    """

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self._type = sys.modules['h5py'].h5t.py_create(dtype)
        # What is selected of the data set and of the array: for each thread its own.
        self._spaces = threading.local()

    def copy(
        self, dataset: Any, begin: tuple[int, ...], output: NDArray[Any], part: tuple[slice, ...] | None = None
    ) -> None:
        """Copy what begins at a place in a data set to a part of an array; by default, to all of it."""
        spaces = self._spaces
        if getattr(spaces, 'shape', None) != output.shape:
            spaces.source, spaces.target = dataset.id.get_space(), sys.modules['h5py'].h5s.create_simple(output.shape)
            spaces.shape = output.shape
        part = tuple(slice(0, size) for size in output.shape) if part is None else part
        shape = tuple(each.stop - each.start for each in part)
        spaces.target.select_hyperslab(tuple(each.start for each in part), shape)
        spaces.source.select_hyperslab(begin, shape)
        dataset.id.read(spaces.target, spaces.source, output, self._type)


def h5_storage(array: Any) -> H5Storage | None:
    """Return the storage of an array, if it is of a kind of this module, and has rows."""
    return H5Storage(array) if is_h5(array) and array.shape else None


def is_h5(array: Any) -> bool:
    """Say whether an array is of a kind of this module."""
    return isinstance(array, H5Array) or dataset_of(array) is not None


def is_closed(array: Any) -> bool:
    """Say whether an array is one of h5py whose file is closed."""
    dataset = None if isinstance(array, H5Array) else dataset_of(array)
    return dataset is not None and not dataset


def dataset_of(array: Any) -> Any:
    """Return the h5py data set that is read; `None` if an array is of another kind."""
    if isinstance(array, H5Array):
        return array.dataset
    h5py = sys.modules.get('h5py')
    if h5py is None:
        return None
    # h5py tells its views from other objects by nothing that is public.
    own = type(array).__module__ == 'h5py._hl.dataset'
    dataset = getattr(array, '_dset', None) if own and not isinstance(array, h5py.Dataset) else array
    return dataset if isinstance(dataset, h5py.Dataset) else None


def _is_astype(view: Any) -> bool:
    return type(view).__name__ in ('AsTypeView', 'AstypeWrapper')
