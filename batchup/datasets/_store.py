"""Folders of `.npy` files, which are written piece by piece and read through memory maps."""

from __future__ import annotations

import hashlib
import json
import math
import tarfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from .._files.checksums import compute
from ..errors import DatasetError, DatasetFormatError

# The version of the files; others are refused.
VERSION = 1
FACTS = 'dataset.json'


class _Hashing:
    """A file that computes the SHA-256 of what is written to it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.hashed = hashlib.sha256()

    def write(self, data: Any) -> int:
        self.hashed.update(data)
        return self._file.write(data)


class FolderWriter:
    """Write arrays into a new folder, each once.

    Parameters
    ----------
    folder : path-like
        The folder, which is created.
    """

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)
        self._folder.mkdir(parents=True)
        self._sums: dict[str, str] = {}

    def write(self, name: str, shape: tuple[int, ...], dtype: type[np.generic], pieces: Iterable[NDArray[Any]]) -> None:
        """Write an array that comes in pieces along its first axis.

        Raises
        ------
        DatasetFormatError
            If the pieces are more or less than the array.
        """
        with open(self._folder / f'{name}.npy', 'wb') as raw:
            file = _Hashing(raw)
            header = {'descr': np.lib.format.dtype_to_descr(np.dtype(dtype)), 'fortran_order': False, 'shape': shape}
            np.lib.format.write_array_header_1_0(file, header)
            count = 0
            for piece in pieces:
                count += len(piece)
                file.write(np.ascontiguousarray(piece, dtype).data)
        if count != shape[0]:
            raise DatasetFormatError(f'{name} holds {count:,} of {shape[0]:,} samples: the file is damaged')
        self._sums[f'{name}.npy'] = file.hashed.hexdigest()

    def write_array(self, name: str, array: NDArray[Any]) -> None:
        """Write an array."""
        self.write(name, array.shape, array.dtype.type, [array] if len(array) else [])

    def finish(self, **facts: Any) -> None:
        """Write the version, the checksums and other facts, as JSON."""
        text = json.dumps({'version': VERSION, 'sha256': self._sums, **facts}, indent=1)
        (self._folder / FACTS).write_text(text, encoding='utf-8')


class Folder:
    """A folder that `FolderWriter` has written.

    Attributes
    ----------
    facts : dict
        The version, the checksums, and the facts that `finish` was given.

    Raises
    ------
    DatasetFormatError
        If it is not whole, or of another version.
    """

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)
        try:
            self.facts: Mapping[str, Any] = json.loads((self._folder / FACTS).read_text(encoding='utf-8'))
        except (OSError, ValueError) as error:
            raise self._damaged(f'{FACTS} cannot be read: {error}') from error
        if not isinstance(self.facts, dict):
            raise self._damaged(f'{FACTS} should hold an object')
        if self.facts.get('version') != VERSION:
            raise self._damaged(f'it has version {self.facts.get("version")}, this batchup reads version {VERSION}')

    def __getitem__(self, name: str) -> NDArray[Any]:
        """Open an array, without reading it."""
        path = self._folder / f'{name}.npy'
        try:
            array: NDArray[Any] = np.load(path, mmap_mode='r')
        except (OSError, ValueError, EOFError) as error:
            raise self._damaged(f'{path.name} cannot be opened: {error}') from error
        return array

    def damaged_files(self) -> list[str]:
        """Return the names of the files that are missing, or not as they were written."""
        sums = self.facts['sha256']
        return [name for name, digest in sums.items() if not self._is_right(name, digest)]

    def _is_right(self, name: str, digest: str) -> bool:
        path = self._folder / name
        return path.is_file() and compute(path, 'sha256').digest == digest

    def _damaged(self, what: str) -> DatasetFormatError:
        return DatasetFormatError(
            f'the data set in {self._folder} cannot be used: {what}; delete the folder to have it made again'
        )


@contextmanager
def reading(path: str) -> Iterator[None]:
    """Explain what goes wrong in reading a file that may be damaged."""
    try:
        yield
    except DatasetFormatError as error:
        raise DatasetFormatError(f'{path}: {error}') from error
    except DatasetError:
        raise
    except (EOFError, ValueError, LookupError, OSError, zlib.error, tarfile.TarError) as error:
        if getattr(error, 'errno', None) is not None:  # an error of the system, and not of the contents
            raise
        raise DatasetFormatError(f'{path} is damaged, or of another format: {error}') from error


def pieces_of(file: IO[bytes], shape: tuple[int, ...], n_bytes: int = 2**22) -> Iterator[NDArray[np.uint8]]:
    """Read uint8 samples from an open file, some megabytes at a time.

    Parameters
    ----------
    shape : tuple of int
        The number of samples, and the shape of one.

    Raises
    ------
    EOFError
        If the file ends before the last one.
    """
    count, size = shape[0], math.prod(shape[1:])
    step = max(1, n_bytes // max(1, size))
    for start in range(0, count, step):
        wanted = min(step, count - start)
        yield np.frombuffer(read_exactly(file, wanted * size), np.uint8).reshape(wanted, *shape[1:])


def read_exactly(file: IO[bytes], count: int) -> bytes:
    """Read so many bytes, or raise `EOFError`."""
    data = file.read(count)
    if len(data) < count:
        raise EOFError(f'{count - len(data):,} bytes are missing at its end')
    return data
