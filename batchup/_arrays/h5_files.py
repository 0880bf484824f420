"""A data set of an HDF5 file that opens its file itself, in every process."""

from __future__ import annotations

import importlib
import os
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray


class H5Array:
    """A data set of an HDF5 file; every process that reads it opens the file itself.

    The file is opened for reading when rows are first read, and closed when the array is let go.

    Parameters
    ----------
    path : path-like
        The file.
    name : str
        The name of the data set in it.

    Attributes
    ----------
    path : str
        The file; absolute.
    name : str
        The name of the data set.
    shape : tuple of int
        Its shape.
    dtype : numpy.dtype
        Its dtype.
    chunks : tuple of int or None
        The shape of its chunks.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    OSError
        If it is not an HDF5 file, or another program is writing to it.
    KeyError
        If it has no data set of that name.
    TypeError
        If the data set has no dimensions, and so no rows.
    """

    def __init__(self, path: str | os.PathLike[str], name: str) -> None:
        self.path = os.path.abspath(os.fspath(path))
        self.name = name
        self._lock = threading.Lock()
        self._opened: tuple[int, Any] | None = None
        with _open(self.path) as file:
            dataset = _find(file, self.path, name)
            self.shape: tuple[int, ...] = dataset.shape
            self.dtype: np.dtype[Any] = dataset.dtype
            self.chunks: tuple[int, ...] | None = dataset.chunks
            self.no_rows: NDArray[Any] = dataset[:0]

    def __reduce__(self) -> tuple[Any, ...]:
        return H5Array, (self.path, self.name)

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return len(self.shape)

    @property
    def dataset(self) -> Any:
        """The `h5py.Dataset`, opened by this process."""
        opened = self._opened
        if opened is None or opened[0] != os.getpid():
            with self._lock:
                opened = self._opened
                if opened is None or opened[0] != os.getpid():
                    self._opened = opened = (os.getpid(), _find(_open(self.path), self.path, self.name))
        return opened[1]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> Any:
        """Read rows by an integer, a slice, or an array of integers in any order, with repeats."""
        return self.dataset[key]

    def __repr__(self) -> str:
        return f'H5Array({self.path!r}, {self.name!r})'


def _open(path: str) -> Any:
    """Open a file for reading."""
    if not os.path.exists(path):
        raise FileNotFoundError(f'there is no file {path}')
    h5py = importlib.import_module('h5py')
    try:
        return h5py.File(path, 'r')
    except OSError as error:
        raise type(error)(f'{path} cannot be opened as an HDF5 file: {error}') from error


def _find(file: Any, path: str, name: str) -> Any:
    h5py = importlib.import_module('h5py')
    found = file.get(name)
    if not isinstance(found, h5py.Dataset):
        raise KeyError(f'{path} has no data set {name!r}; it has {_data_sets(file)}')
    if not found.shape:
        raise TypeError(f'the data set {name!r} of {path} has no dimensions: it has no samples')
    return found


def _data_sets(file: Any) -> str:
    """Name the data sets of a file, the first of them if there are many."""
    names: list[str] = []
    file.visititems(lambda name, item: names.append(name) if hasattr(item, 'shape') else None)
    return ', '.join(map(repr, names[:10])) + (f' and {len(names) - 10} more' if len(names) > 10 else '') or 'none'
