"""Arrays of zarr, versions 2 and 3 of the format, sharded or not.

zarr decodes all chunks in the threads of one event loop. Where the chunks are files of this
machine, compressed as most are, they are read and decoded here, by the thread that asks: two to
four times faster, and by several threads at the same time. Everything else is left to zarr.
"""

from __future__ import annotations

import itertools
import math
import operator
import os
import struct
import sys
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from .storage import Storage, rows_of_bytes

# Shards of up to this many bytes are chunks to batchup. Larger: fewer calls for each shard, more
# memory. Smaller: the index of a shard is read more often.
SHARD_BYTES = 2**26

# Large shards are read in parts of this size, if inner chunks are smaller. Larger: more memory.
# Smaller: the index of a shard is read more often.
PART_BYTES = 2**22

# In the index of a shard, the offset and the length of a chunk that is not there.
MISSING = 2**64 - 1

# The kinds of dtypes whose bytes in a file are those in memory, but for their order.
PLAIN_KINDS = 'biufcmMSU'

Decode = Callable[[bytes], Any]
Place = tuple[int, ...]  # of a chunk, in the grid of chunks


def is_zarr(array: Any) -> bool:
    """Say whether something is an array of zarr."""
    zarr = sys.modules.get('zarr')
    return zarr is not None and isinstance(array, zarr.Array)


class ZarrStorage(Storage):
    """An array of zarr; a chunk of it is a shard, unless shards are very large.

    Parameters
    ----------
    array : zarr.Array
        Of at least one dimension.
    """

    def __init__(self, array: Any) -> None:
        self.array = array
        self.shape = tuple(array.shape)
        self.dtype = array.dtype
        self.chunk_rows = _chunk_rows(array)
        self._folder = _local_folder(array)
        self._files = None if self._folder is None else _make_files(array, self._folder)
        # Of a shard, the inner chunks that are needed are read; zarr itself is fast with all of them.
        self.whole_chunks = self._files is None or self.chunk_rows <= array.chunks[0]
        self._stamp = self._metadata_stamp()

    def __reduce__(self) -> tuple[type[ZarrStorage], tuple[Any]]:
        return ZarrStorage, (self.array,)

    def read(self, start: int, stop: int, output: NDArray[Any]) -> None:
        if self._files is None:
            output[...] = self.array[start:stop]
            self.check()
        elif not self._files.read(start, stop, output):
            self.check()  # a chunk that was never written has no file, nor has one of an array that is gone

    def name(self) -> str:
        path: str = getattr(self.array, 'path', '')
        where = str(self.array.store) if self._folder is None else self._folder.removesuffix(path).rstrip(os.sep)
        return f'zarr array {path!r} of {where}' if path else f'zarr array {where}'

    def check(self) -> None:
        stamp = self._metadata_stamp()
        same = stamp == self._stamp
        length = (self.array if same else self._open_again()).shape[0]
        if length != self.shape[0]:
            raise ValueError(f'{self.name()} now has length {length}, not {self.shape[0]}: make a new source')
        self._stamp = stamp

    def _open_again(self) -> Any:
        format_ = self.array.metadata.zarr_format
        return sys.modules['zarr'].open_array(self.array.store_path, mode='r', zarr_format=format_)

    def _metadata_stamp(self) -> tuple[int, int, int] | None:
        """Return numbers that change with the file of metadata; `None` if there is no such file."""
        if self._folder is None:
            return None
        name = '.zarray' if self.array.metadata.zarr_format == 2 else 'zarr.json'
        try:
            found = os.stat(os.path.join(self._folder, name))
        except FileNotFoundError:
            raise ValueError(f'{self.name()} is gone: there is no {name} in {self._folder}') from None
        return found.st_mtime_ns, found.st_ino, found.st_size


def _chunk_rows(array: Any) -> int:
    """Return the rows of a shard, of some of its chunks if it is large, or of a chunk."""
    rows, length = array.chunks[0], array.shape[0]
    shards = getattr(array, 'shards', None)
    if shards is not None:
        rows = shards[0]
        if rows > rows_of_bytes(SHARD_BYTES, array.dtype, array.shape[1:]):
            inner = array.chunks[0]
            most = max(inner, rows_of_bytes(PART_BYTES, array.dtype, array.shape[1:]))
            rows = next(part for part in range(most // inner * inner, 0, -inner) if rows % part == 0)
    return max(1, min(int(rows), int(length)))


def _local_folder(array: Any) -> str | None:
    """Return the folder of an array of version 3 of zarr in a `LocalStore`, or `None`."""
    store: Any = getattr(array, 'store', None)
    if type(store).__name__ != 'LocalStore' or not hasattr(array, 'metadata'):
        return None
    return os.path.join(os.path.abspath(str(store.root)), str(array.path)).rstrip(os.sep)


def _make_files(array: Any, folder: str) -> _Files | None:
    """Return the reader of an array's files, or `None` if only zarr can read them."""
    if array.dtype.kind not in PLAIN_KINDS or array.dtype.hasobject:
        return None
    metadata = array.metadata
    if metadata.zarr_format == 2:
        if metadata.order != 'C' or metadata.filters:
            return None
        compressor = metadata.compressor
        decode = _plain if compressor is None else _decoder(compressor.codec_id)
        return None if decode is None else _Files(array, folder, array.dtype, decode)
    codecs = [codec.to_dict() for codec in metadata.codecs]
    if len(codecs) == 1 and codecs[0]['name'] == 'sharding_indexed':
        shard = codecs[0]['configuration']
        index = _index_codecs(shard['index_codecs'])
        decoding = _dtype_and_decoder(array.dtype, shard['codecs'])
        if index is None or decoding is None or array.shards is None:
            return None
        return _ShardFiles(array, folder, *decoding, index, shard['index_location'] == 'start')
    decoding = _dtype_and_decoder(array.dtype, codecs)
    return None if decoding is None else _Files(array, folder, *decoding)


def _dtype_and_decoder(dtype: np.dtype[Any], codecs: Any) -> tuple[np.dtype[Any], Decode] | None:
    """Return the dtype in the file and what decompresses a chunk, for codecs that are known."""
    if not 1 <= len(codecs) <= 2 or codecs[0]['name'] != 'bytes':
        return None
    endian = codecs[0].get('configuration', {}).get('endian')
    stored = dtype if endian is None else dtype.newbyteorder('>' if endian == 'big' else '<')
    decode = _decoder(codecs[1]['name']) if len(codecs) == 2 else _plain
    return None if decode is None else (stored, decode)


def _decoder(name: str) -> Decode | None:
    """Return what decompresses chunks and lets other threads run meanwhile; `None` for other codecs."""
    numcodecs = sys.modules.get('numcodecs')
    if numcodecs is None or name not in ('blosc', 'zstd', 'gzip', 'zlib'):
        return None
    decode: Decode = numcodecs.get_codec({'id': name}).decode
    if name != 'blosc':
        return decode

    def decode_blosc(data: bytes) -> Any:
        # Blosc itself would read beyond the end of a truncated chunk.
        if len(data) < 16 or struct.unpack_from('<I', data, 12)[0] > len(data):
            raise ValueError(f'only {len(data)} bytes are left of a compressed chunk')
        return decode(data)

    return decode_blosc


def _plain(data: bytes) -> bytes:
    return data


def _index_codecs(codecs: Any) -> tuple[np.dtype[Any], Callable[[bytes], int] | None] | None:
    """Return the dtype and the checksum of the index of a shard, for codecs that are known."""
    checksum = None
    if len(codecs) == 2 and codecs[1]['name'] == 'crc32c':
        checksum = getattr(sys.modules.get('google_crc32c'), 'value', None)
        if checksum is None:
            return None
        codecs = codecs[:1]
    decoding = _dtype_and_decoder(np.dtype(np.uint64), codecs)
    return None if decoding is None or len(codecs) > 1 else (decoding[0], checksum)


class _Files:
    """An array in files, of one chunk each.

    Parameters
    ----------
    array : zarr.Array
        The array.
    folder : str
        Where its files are.
    stored : numpy.dtype
        The dtype of its bytes.
    decode : function
        Decompresses a chunk.
    """

    def __init__(self, array: Any, folder: str, stored: np.dtype[Any], decode: Decode) -> None:
        self._chunk = tuple(array.chunks)
        self._folder = folder
        self._key: Callable[[Place], str] = array.metadata.encode_chunk_key
        self._stored = stored
        self._decode = decode
        fill = array.fill_value
        self._fill = np.zeros((), array.dtype)[()] if fill is None else fill

    def read(self, start: int, stop: int, output: NDArray[Any]) -> bool:
        """Read rows as `Storage.read` does; say whether all of their files are there."""
        complete = True
        places = sorted(self._places(start, stop, output.shape[1:]), key=self._file)
        for key, group in itertools.groupby(places, self._file):
            members = list(group)
            try:
                with open(f'{self._folder}/{self._key(key)}', 'rb', 0) as file:
                    for place, chunk in zip(members, self._chunks(file, members)):
                        self._copy(chunk, place, start, output)
            except FileNotFoundError:
                complete = False
                for place in members:
                    self._copy(None, place, start, output)
        return complete

    def _places(self, start: int, stop: int, row_shape: Place) -> Iterator[Place]:
        """Yield the places of the chunks that have rows from `start` to `stop`, in order."""
        rows = self._chunk[0]
        columns = [range(math.ceil(size / chunk)) for size, chunk in zip(row_shape, self._chunk[1:])]
        return itertools.product(range(start // rows, (stop - 1) // rows + 1), *columns)

    def _file(self, place: Place) -> Place:
        """Return the place of the file that has a chunk."""
        return place

    def _chunks(self, file: BinaryIO, places: list[Place]) -> Iterator[NDArray[Any] | None]:
        """Yield chunks of a file, and `None` for those that were never written."""
        return (self._array(file.read()) for _ in places)

    def _array(self, data: bytes) -> NDArray[Any]:
        """Decode a chunk."""
        decoded = np.frombuffer(self._decode(data), np.uint8)
        expected = math.prod(self._chunk) * self._stored.itemsize
        if len(decoded) != expected:
            raise ValueError(f'a chunk has {len(decoded)} bytes in place of {expected}')
        return decoded.view(self._stored).reshape(self._chunk)

    def _copy(self, chunk: NDArray[Any] | None, place: Place, start: int, output: NDArray[Any]) -> None:
        """Copy what is needed of a chunk, or the fill value, to where it belongs."""
        first = place[0] * self._chunk[0] - start
        skipped = max(0, -first)
        columns = (slice(k * size, (k + 1) * size) for k, size in zip(place[1:], self._chunk[1:]))
        target = output[(slice(first + skipped, first + self._chunk[0]), *columns)]
        if chunk is None:
            target[...] = self._fill
        else:
            target[...] = chunk[(slice(skipped, skipped + len(target)), *map(slice, target.shape[1:]))]


class _ShardFiles(_Files):
    """An array in files of many chunks each: shards.

    Parameters
    ----------
    array, folder, stored, decode
        As for `_Files`, for the chunks within shards.
    index : tuple of numpy.dtype and function
        The dtype of the index of a shard, and its checksum or `None`.
    index_first : bool
        Whether the index is at the start of the file, or else at its end.
    """

    def __init__(
        self,
        array: Any,
        folder: str,
        stored: np.dtype[Any],
        decode: Decode,
        index: tuple[np.dtype[Any], Callable[[bytes], int] | None],
        index_first: bool,
    ) -> None:
        super().__init__(array, folder, stored, decode)
        self._grid = tuple(shard // chunk for shard, chunk in zip(array.shards, array.chunks))
        self._index_dtype, self._checksum = index
        self._index_first = index_first

    def _file(self, place: Place) -> Place:
        return tuple(map(operator.floordiv, place, self._grid))

    def _chunks(self, file: BinaryIO, places: list[Place]) -> Iterator[NDArray[Any] | None]:
        index = self._index(file)
        for place in places:
            offset, length = index[tuple(map(operator.mod, place, self._grid))].tolist()
            if offset == MISSING:
                yield None
            else:
                file.seek(offset)
                yield self._array(file.read(length))

    def _index(self, file: BinaryIO) -> NDArray[Any]:
        """Read offset and length of each chunk: an array of shape (*grid, 2)."""
        nbytes = 16 * math.prod(self._grid)
        total = nbytes + (0 if self._checksum is None else 4)
        file.seek(0 if self._index_first else max(0, file.seek(0, os.SEEK_END) - total))
        data = file.read(total)
        damaged = len(data) < total
        if self._checksum is not None and not damaged:
            damaged = self._checksum(data[:nbytes]) != int.from_bytes(data[nbytes:], 'little')
        if damaged:
            raise ValueError(f'the index of the shard {file.name} is damaged: the file may be truncated')
        return np.frombuffer(data, self._index_dtype, nbytes // 8).reshape(*self._grid, 2)
