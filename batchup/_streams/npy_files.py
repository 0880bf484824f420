"""New files in NumPy's format `.npy`, which appear whole or not at all."""

from __future__ import annotations

import os
import secrets
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from .._files.placing import free_bytes, is_full
from .._ground.indices import Leaf
from ..errors import StorageError
from .gatherer import Chunked, Gatherer
from .targets import Target

# How much of a file is written as a whole, in bytes, where its rows are shuffled.
PART_BYTES = 2**20

# A file has fewer rows than this, and so no longer header.
MOST_ROWS = 2**63


class NpyFile(Target, Chunked):
    """A file `.npy` for the rows of results, which come in any order.

    It is written beside its name, and gets the name when it is whole. Its rows are those that
    were put, in the order of their numbers and without gaps.

    Parameters
    ----------
    name : str
        What it is called in errors.
    path : str or PathLike
        Where the file will be. What is there is replaced.

    Raises
    ------
    ValueError
        If the path does not end in `.npy`.
    OSError
        If no file can be written there.
    """

    new = True

    def __init__(self, name: str, path: str | os.PathLike[str]) -> None:
        self.path = _checked(name, path)
        self.name = f'{name} ({self.path})'
        self._file: IO[bytes] | None = None
        self._partial: Path | None = None
        self._gatherer: Gatherer | None = None
        # Which rows were put, as far as the last one.
        self._seen = np.zeros(0, np.bool_)
        self._end = 0

    def check_ranks(self, count: int) -> None:
        if count > 1:
            raise ValueError(
                f'{self.name} cannot be written by {count} ranks. Return parts, and merge(parts, out=path); or make '
                'the file with numpy.lib.format.open_memmap, and give each rank a map of it as out'
            )

    def take_form(self, values: NDArray[Any], n_rows: int | None) -> None:
        if self.row_shape is not None:
            return
        if values.dtype.hasobject or values.dtype.kind == 'T':
            raise TypeError(
                f'{self.name} cannot hold values of dtype {values.dtype}, which have no fixed size; '
                "convert them in the function, for instance with astype('U20')"
            )
        row_shape, dtype = values.shape[1:], values.dtype
        self._header_bytes = len(_header(MOST_ROWS, row_shape, dtype))
        self._row_bytes = dtype.itemsize * int(np.prod(row_shape, dtype=object))
        self.chunk_rows = max(1, PART_BYTES // max(1, self._row_bytes))
        self._n_rows = n_rows
        if n_rows is not None and self._needed() > free_bytes(self.path):
            raise self._full('there is not enough room')
        with self._explained():
            self._open()
        self.row_shape, self.dtype = row_shape, dtype
        self._gatherer = Gatherer(self, row_shape, dtype)

    def check_last(self, last: int) -> None:
        if last >= len(self._seen):
            seen = np.zeros(max(last + 1, 2 * len(self._seen)), np.bool_)
            seen[: self._end] = self._seen[: self._end]
            self._seen = seen

    def put(self, rows: Leaf, values: NDArray[Any]) -> None:
        assert self._gatherer is not None
        with self._explained():
            self._gatherer.add(rows, values)
        self._seen[slice(rows.start, rows.stop) if isinstance(rows, range) else rows] = True
        self._end = max(self._end, int(rows[-1] if isinstance(rows, range) else rows.max()) + 1)

    def complete(self) -> None:
        if self._gatherer is None or self._file is None or self.row_shape is None:
            raise ValueError(f'there are no results: the shape and dtype of {self.name} are not known')
        with self._explained():
            self._gatherer.flush()
            self._n_rows = int(np.count_nonzero(self._seen[: self._end]))
            if self._n_rows < self._end:
                self._close_gaps()
            file = self._file
            file.seek(0)
            file.write(_header(self._n_rows, self.row_shape, self.dtype, self._header_bytes))
            file.truncate(self._needed())
            file.flush()
            os.fsync(file.fileno())  # a name must not survive a loss of power without what it stands for
            file.close()

    def result(self) -> NDArray[Any]:
        assert self._partial is not None
        assert self._n_rows is not None
        assert self.row_shape is not None
        os.replace(self._partial, self.path)
        self._partial = None
        shape = (self._n_rows, *self.row_shape)
        if self._needed() == self._header_bytes:  # nothing to map
            return np.empty(shape, self.dtype)
        return np.memmap(self.path, self.dtype, 'r', self._header_bytes, shape)

    def abandon(self) -> None:
        if self._file is not None:
            with suppress(OSError):  # what is in its buffer cannot be written
                self._file.close()
        if self._partial is not None:
            with suppress(OSError):  # its name was too long
                self._partial.unlink(missing_ok=True)

    def read(self, start: int, stop: int) -> NDArray[Any]:
        assert self.row_shape is not None
        rows = np.zeros((stop - start, *self.row_shape), self.dtype)
        file = self._file
        assert file is not None
        file.seek(self._header_bytes + start * self._row_bytes)
        file.readinto(_bytes_of(rows))  # type: ignore[attr-defined]
        return rows

    def write(self, start: int, values: NDArray[Any]) -> None:
        file = self._file
        assert file is not None
        file.seek(self._header_bytes + start * self._row_bytes)
        file.write(_bytes_of(values))

    def _open(self) -> None:
        self._partial = self.path.with_name(f'{self.path.name}.{secrets.token_hex(4)}.partial')
        self._file = open(self._partial, 'x+b')  # noqa: SIM115 - it stays open

    def _close_gaps(self) -> None:
        """Move rows up into the places of those that were not put."""
        count = 0
        for start in range(0, self._end, self.chunk_rows):
            stop = min(start + self.chunk_rows, self._end)
            rows = self.read(start, stop)[self._seen[start:stop]]
            self.write(count, rows)
            count += len(rows)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Say which file it is, and how much room it takes, if there is no room for it."""
        try:
            yield
        except OSError as error:
            if not is_full(error):
                raise
            raise self._full(str(error.strerror)) from error

    def _needed(self) -> int:
        """Return the number of bytes of the file, or of what is there of it if the number of rows is not known."""
        return self._header_bytes + (self._end if self._n_rows is None else self._n_rows) * self._row_bytes

    def _full(self, reason: str) -> StorageError:
        needed = f'{"more than " if self._n_rows is None else ""}{self._needed():,} bytes'
        return StorageError(
            f'cannot write {self.path}: {reason}; it needs {needed}, and {free_bytes(self.path):,} more are free. '
            'Make room, or choose another folder'
        )


def _checked(name: str, path: str | os.PathLike[str]) -> Path:
    """Return where a file of this path is, following links; raise an error unless it can be written."""
    given = os.fspath(path)
    if not isinstance(given, str) or not given.endswith('.npy'):
        raise ValueError(
            f'{name} must be a path that ends in .npy, got {given!r}; to write into a file of another kind, '
            'open its data set and give that'
        )
    real = Path(os.path.realpath(given))
    if not real.parent.is_dir():
        raise FileNotFoundError(f'{name}: there is no folder {real.parent}; make it first')
    if real.is_dir():
        raise IsADirectoryError(f'{name} must be the path of a file, but {real} is a folder')
    if not os.access(real.parent, os.W_OK):
        raise StorageError(f'cannot write {real}: the folder is not writable')
    return real


def _header(n_rows: int, row_shape: tuple[int, ...], dtype: np.dtype[Any], size: int = 0) -> bytes:
    """Return the header of a file `.npy`, of at least `size` bytes; a multiple of 64."""
    facts = {'descr': np.lib.format.dtype_to_descr(dtype), 'fortran_order': False, 'shape': (n_rows, *row_shape)}
    text = repr(facts).encode()
    # Version 1 has no more than 2 bytes for the length, and version 2 no names of fields but in Latin-1.
    version, length = ((1, 0), '<H') if len(text) < 2**15 and text.isascii() else ((3, 0), '<I')
    start = np.lib.format.magic(*version)
    fixed = len(start) + struct.calcsize(length)
    size = max(size, -(-(fixed + len(text) + 1) // 64) * 64)
    return start + struct.pack(length, size - fixed) + text.ljust(size - fixed - 1) + b'\n'


def _bytes_of(values: NDArray[Any]) -> memoryview:
    """Return the memory of an array, as bytes."""
    flat = np.ascontiguousarray(values).reshape(-1)
    return memoryview(flat.view(np.uint8) if flat.nbytes else b'')  # type: ignore[arg-type]
