"""Data sets of HDF5 files that are opened by their names, in every process."""

from __future__ import annotations

import importlib
import io
import os
import pickle
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._ground.indices import check_places

# How h5py reads files that other processes can open by name.
FILE_DRIVERS = ('sec2', 'stdio', 'direct')


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
        self._opened: tuple[int, Any] | None = None
        with _open(self.path) as file:
            dataset = _find(file, self.path, name)
            self.shape: tuple[int, ...] = dataset.shape
            self.dtype: np.dtype[Any] = dataset.dtype
            self.chunks: tuple[int, ...] | None = dataset.chunks
            self._no_rows: NDArray[Any] = dataset[:0]

    def __reduce__(self) -> tuple[Any, ...]:
        return _same_array, (self.path, self.name, self.shape)

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return len(self.shape)

    @property
    def dataset(self) -> Any:
        """The `h5py.Dataset`, opened by this process."""
        opened = self._opened
        if opened is None or opened[0] != os.getpid():
            # Threads may come here at once; then all but one of the files are soon closed again. A
            # lock would stay locked in a process that is forked meanwhile.
            self._opened = opened = (os.getpid(), _find(_open(self.path), self.path, self.name))
        return opened[1]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> Any:
        """Read rows by an integer, a slice, or an array of integers in any order, with repeats."""
        if not isinstance(key, (list, np.ndarray)):
            return self.dataset[key]
        if np.asarray(key).dtype == bool:
            return self.dataset[np.asarray(key)]
        rows = check_places(key, len(self))
        if not len(rows):
            return self._no_rows
        # h5py takes increasing indices only.
        positions, places = np.unique(rows, return_inverse=True)
        return self.dataset[positions][places]

    def __repr__(self) -> str:
        return f'H5Array({self.path!r}, {self.name!r})'


def reopening(value: Any) -> Any:
    """Return how another process opens a data set or group of h5py: a function and arguments; else `NotImplemented`.

    Raises `ValueError` if no other process can open it.
    """
    h5py = sys.modules.get('h5py')
    if h5py is None or not isinstance(value, h5py.Dataset | h5py.Group) or isinstance(value, h5py.File):
        return NotImplemented
    if not value:
        raise ValueError(
            f'{value!r} is closed, and has no name any more by which another process could open it: keep its file '
            'open, or give batchup.arrays.H5Array(path, name)'
        )
    file = value.file
    if value.name is None or file.driver not in FILE_DRIVERS or not _is_there(file):
        raise ValueError(f'{value!r} of {file.filename} has no name, or is in no file that other processes can open')
    if file.mode != 'r' and not file.swmr_mode:
        raise ValueError(
            f'{file.filename} is open for writing, and no other process can open it then: close it, and open it '
            "with mode 'r', or set swmr_mode"
        )
    path = os.path.abspath(file.filename)
    if isinstance(value, h5py.Group):
        return _reopen_group, (path, value.name, file.swmr_mode)
    return _reopen, (path, value.name, file.swmr_mode, value.shape)


def dump_by_name(value: Any) -> bytes:
    """Pickle a value in which data sets and groups of h5py may be: they will be opened again by their names."""
    file = io.BytesIO()
    _NamePickler(file, pickle.HIGHEST_PROTOCOL).dump(value)
    return file.getvalue()


class _NamePickler(pickle.Pickler):
    def reducer_override(self, value: Any) -> Any:
        return reopening(value)


def _is_there(file: Any) -> bool:
    """Say whether the file that is open is the one that has its name now."""
    if not os.path.exists(file.filename):
        return False
    return file.driver != 'sec2' or os.path.samestat(os.fstat(file.id.get_vfd_handle()), os.stat(file.filename))


def _reopen(path: str, name: str, swmr: bool, shape: tuple[int, ...]) -> Any:
    return _same_shape(_find(_open(path, swmr), path, name), path, name, shape)


def _reopen_group(path: str, name: str, swmr: bool) -> Any:
    h5py = importlib.import_module('h5py')
    found = _open(path, swmr).get(name)
    if not isinstance(found, h5py.Group):
        raise KeyError(f'{path} has no group {name!r}')
    return found


def _same_array(path: str, name: str, shape: tuple[int, ...]) -> H5Array:
    array: H5Array = _same_shape(H5Array(path, name), path, name, shape)
    return array


def _same_shape(array: Any, path: str, name: str, shape: tuple[int, ...]) -> Any:
    """Return an array, unless it has got another shape since it was pickled."""
    if array.shape != shape:
        raise ValueError(f'the data set {name!r} of {path} now has shape {array.shape}, not {shape}')
    return array


def _open(path: str, swmr: bool = False) -> Any:
    """Open a file for reading."""
    if not os.path.exists(path):
        raise FileNotFoundError(f'there is no file {path}')
    h5py = importlib.import_module('h5py')
    try:
        return h5py.File(path, 'r', swmr=swmr)
    except OSError as error:
        raise OSError(error.errno, f'{path} cannot be opened as an HDF5 file: {error}') from error


def _find(file: Any, path: str, name: str) -> Any:
    h5py = importlib.import_module('h5py')
    found = file.get(name)
    if not isinstance(found, h5py.Dataset):
        raise KeyError(f'{path} has no data set {name!r}; it has {data_sets(file)}')
    if not found.shape:
        raise TypeError(f'the data set {name!r} of {path} has no dimensions: it has no samples')
    return found


def data_sets(group: Any) -> str:
    """Name the data sets of a file, or of a group, also those in groups within it."""
    names: list[str] = []
    group.visititems(lambda name, item: names.append(name) if hasattr(item, 'shape') else None)
    return list_names(names)


def list_names(names: list[str]) -> str:
    """List names in a message, the first of them if there are many."""
    return ', '.join(map(repr, names[:10])) + (f' and {len(names) - 10} more' if len(names) > 10 else '') or 'none'
