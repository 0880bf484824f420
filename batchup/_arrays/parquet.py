"""Columns of Parquet files as one array, of which row groups are the chunks."""

from __future__ import annotations

import importlib
import os
import threading
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._ground.indices import IndexArray, from_start
from .._ground.messages import installed_by
from .arrow_columns import Columns, NullsError
from .segments import by_chunks
from .storage import Storage

# Columns of a row group are decoded together up to so many bytes of them. Larger: more memory beside the
# batches. Smaller: more calls, of 0.1 milliseconds each.
TOGETHER_BYTES = 2**24

# How many row numbers an error lists. Larger: a longer message. Smaller: fewer rows to look at.
ROWS_SHOWN = 5

PathLike = str | os.PathLike[str]


class ParquetArray:
    """Columns of Parquet files as an array; every process that reads it opens the files itself.

    Whatever is read, whole row groups are decoded for it; in the main thread, by threads of pyarrow. Files are
    opened when rows are first read.

    Parameters
    ----------
    path : path-like, or sequence of path-like
        A file; or several, whose rows follow each other; or a folder, of which all files that end in
        ``.parquet`` are read, also those in folders within it, in the order of their paths.
    columns : str or sequence of str, optional
        One name, for an array of shape (n,), or of shape (n, k) if the values are lists of a fixed size k. Or
        several: if all have one dtype, they are put side by side, for an array of shape (n, number of columns);
        otherwise they are the fields of a structured array of shape (n,). By default: all columns.

    Attributes
    ----------
    shape : tuple of int
        The number of rows in all files, and the shape of a row.
    dtype : numpy.dtype
        The dtype of the values. Strings, decimals and times of day are objects.
    paths : tuple of str
        The files; absolute.
    columns : tuple of str
        The names of the columns.
    group_starts : array of shape (number of row groups + 1,)
        The first row of each row group, and at the end the number of rows.

    Raises
    ------
    ImportError
        If pyarrow is not installed.
    FileNotFoundError
        If there is no such file, or none in the folder.
    KeyError
        If a file has no such column.
    TypeError
        If a column has no dtype in NumPy, or has not the same one in all files.
    ValueError
        If a file is no Parquet file, or is truncated. When rows are read: if a file has changed since, or if
        integers, bools or lists are missing. Floats that are missing are NaN.
    """

    def __init__(self, path: PathLike | Sequence[PathLike], columns: str | Sequence[str] | None = None) -> None:
        parquet = _parquet()
        self.paths = _files_at(path)
        self._stamps = [_stamp(file) for file in self.paths]
        self._metadata = [_read_metadata(parquet, file) for file in self.paths]
        if columns is None:
            columns = self._metadata[0].schema.to_arrow_schema().names
        self._columns = self._find_columns(columns)
        self.columns = self._columns.names
        self.dtype = self._columns.dtype
        # Each row group: the number of its file, and its number there.
        self._groups = [(k, g) for k, file in enumerate(self._metadata) for g in range(file.num_row_groups)]
        sizes = [self._metadata[k].row_group(g).num_rows for k, g in self._groups]
        self.group_starts = np.cumsum([0, *sizes])
        self._starts: list[int] = self.group_starts.tolist()
        self.shape: tuple[int, ...] = (self._starts[-1], *self._columns.row_shape)
        self._opened = _Opened()

    def _find_columns(self, columns: str | Sequence[str]) -> Columns:
        """Find the columns in every file, with the same dtypes."""
        if not columns:
            raise ValueError(f'columns must name at least one column, got {columns!r}')
        first = None
        for file, metadata in zip(self.paths, self._metadata):
            try:
                found = Columns(columns, metadata.schema.to_arrow_schema())
            except (KeyError, TypeError) as error:
                raise type(error)(f'{file}: {error.args[0]}') from None
            first = first or found
            if (found.dtype, found.row_shape) != (first.dtype, first.row_shape):
                raise TypeError(
                    f'{file}: rows have dtype {found.dtype} and shape {found.row_shape}; '
                    f'those of {self.paths[0]} have {first.dtype} and {first.row_shape}'
                )
        assert first is not None
        return first

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != '_opened'}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _opened=_Opened())

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        files = repr(self.paths[0]) if len(self.paths) == 1 else f'{self.paths[0]!r} and {len(self.paths) - 1} more'
        return f'<ParquetArray of {files}: shape {self.shape}, dtype {self.dtype}>'

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError('Parquet files are decoded into new memory: they cannot be an array without a copy')
        return self[:].astype(self.dtype if dtype is None else dtype, copy=False)  # type: ignore[no-any-return]

    def __getitem__(self, key: Any) -> Any:
        """Read a row, a slice, or the rows that an array of indices or bools chooses; each row group once."""
        if isinstance(key, slice):
            start, stop, step = key.indices(len(self))
            if step == 1:
                output = np.empty((max(0, stop - start), *self.shape[1:]), self.dtype)
                self._read(start, start + len(output), output)
                return output
            return self._at(np.arange(start, stop, step))
        indices = np.asarray(key)
        if indices.dtype == bool and indices.shape == self.shape[:1]:
            return self._at(np.flatnonzero(indices))
        if isinstance(key, tuple) or (indices.size and (indices.dtype.kind not in 'iu' or indices.ndim > 1)):
            raise TypeError(f'rows are chosen by an integer, a slice, or an array of integers or bools, got {key!r}')
        if indices.size and not -len(self) <= indices.min() <= indices.max() < len(self):
            raise IndexError(f'rows {indices.min()} to {indices.max()} were asked for; there are {len(self)}')
        rows = self._at(from_start(indices.reshape(-1).astype(np.intp), len(self)))
        return rows if indices.ndim else rows[0]

    def _at(self, rows: IndexArray) -> NDArray[Any]:
        """Read rows by indices from 0 on."""
        output = np.empty((len(rows), *self.shape[1:]), self.dtype)
        for group, places in by_chunks(self._groups_of(rows)):
            start, stop = self._starts[group : group + 2]
            output[places] = self[start:stop][rows[places] - start]
        return output

    def _groups_of(self, rows: IndexArray) -> IndexArray:
        """Return the numbers of the row groups that rows are in."""
        found: IndexArray = self.group_starts.searchsorted(rows, 'right') - 1
        return found

    def _read(self, start: int, stop: int, output: NDArray[Any]) -> None:
        """Read the rows from `start` to `stop` into an array."""
        row = start
        group = bisect_right(self._starts, start) - 1
        while row < stop:
            first, end = self._starts[group : group + 2]
            if row < end:
                end = min(end, stop)
                self._read_group(group, row - first, end - first, output[row - start : end - start])
                row = end
            group += 1

    def _read_group(self, group: int, start: int, stop: int, output: NDArray[Any]) -> None:
        """Read rows of a row group; an error says of which file."""
        k, number = self._groups[group]
        try:
            self._decode(group, start, stop, output)
        except NullsError as error:
            before = self._starts[group] - self._starts[group - number]
            rows = (error.rows + before + start)[:ROWS_SHOWN].tolist()
            more = f' and {len(error.rows) - len(rows)} more' if len(error.rows) > len(rows) else ''
            raise ValueError(
                f'{self.paths[k]}: column {error.column!r} has no values in rows {", ".join(map(str, rows))}{more}; '
                'floats could be NaN, but these are none: write values there, or choose other columns'
            ) from None
        except (OSError, importlib.import_module('pyarrow').ArrowException) as error:
            raise OSError(f'{self.paths[k]}: row group {number} could not be read: {error}') from error

    def _decode(self, group: int, start: int, stop: int, output: NDArray[Any]) -> None:
        k, number = self._groups[group]
        file = self._file(k)
        rows = self._starts[group + 1] - self._starts[group]
        opened = self._opened
        if stop - start < rows or opened.group == group:
            if opened.group != group:
                opened.table = None  # before there is another one
                opened.table, opened.group = _read(file, number, self.columns), group
            self._columns.fill(0, opened.table.slice(start, stop - start), output)
            if stop == rows:
                opened.table, opened.group = None, -1
            return
        together = max(1, len(self.columns) * TOGETHER_BYTES // max(1, output.nbytes))
        for first in range(0, len(self.columns), together):
            names = self.columns[first : first + together]
            self._columns.fill(first, _read(file, number, names), output)

    def _file(self, k: int) -> Any:
        """Return a file as this thread has opened it."""
        path, opened = self.paths[k], self._opened
        if _stamp(path) != self._stamps[k]:
            raise ValueError(f'{path} has changed since it was opened: make a new ParquetArray, and a new source')
        if (opened.pid, opened.number) != (os.getpid(), k):
            opened.pid, opened.number = os.getpid(), k
            opened.table, opened.group = None, -1
            opened.file = _parquet().ParquetFile(path, metadata=self._metadata[k])
        return opened.file


class _Opened(threading.local):
    """What one thread has open: readers of pyarrow are for one thread each.

    Attributes
    ----------
    pid, number : int
        The process that has opened the file, and the number of the file.
    file : pyarrow.parquet.ParquetFile
        The file that was read last.
    group : int
        The number of the row group that was decoded last, if all of its rows were not asked for at once.
    table : pyarrow.Table
        That row group.
    """

    pid, number = -1, -1
    file: Any = None
    group: int = -1
    table: Any = None


class ParquetStorage(Storage):
    """The columns of Parquet files. Row groups, which may differ in size, are the chunks.

    Parameters
    ----------
    array : ParquetArray
        The columns.
    """

    def __init__(self, array: ParquetArray) -> None:
        self.array = array
        self.shape = array.shape
        self.dtype = array.dtype
        self.chunk_rows = max(1, int(np.diff(array.group_starts).max(initial=1)))

    def read(self, start: int, stop: int, output: NDArray[Any]) -> None:
        self.array._read(start, stop, output)

    def chunks(self, rows: IndexArray) -> IndexArray:
        groups: IndexArray = self.array._groups_of(rows)
        return groups

    def bounds(self, chunk: int) -> tuple[int, int]:
        start, stop = self.array.group_starts[chunk : chunk + 2].tolist()
        return start, stop

    def name(self) -> str:
        paths: tuple[str, ...] = self.array.paths
        more = f' and {len(paths) - 1} more files' if len(paths) > 1 else ''
        return f'Parquet file {paths[0]}{more}'


def _parquet() -> Any:
    try:
        return importlib.import_module('pyarrow.parquet')
    except ImportError as error:
        raise ImportError(f'ParquetArray needs pyarrow: {installed_by("parquet")}') from error


def _files_at(path: PathLike | Sequence[PathLike]) -> tuple[str, ...]:
    """Return the absolute paths of one file, of several, or of those in a folder."""
    if not isinstance(path, (str, os.PathLike)):
        if not path:
            raise ValueError('path must name at least one file, got none')
        return tuple(file for each in path for file in _files_at(each))
    absolute = Path(path).absolute()
    if not absolute.is_dir():
        return (str(absolute),)
    files = tuple(str(file) for file in sorted(absolute.rglob('*.parquet')) if not file.name.startswith(('.', '_')))
    if not files:
        raise FileNotFoundError(f'there is no file *.parquet in {absolute}')
    return files


def _read_metadata(parquet: Any, path: str) -> Any:
    try:
        return parquet.read_metadata(path)
    except importlib.import_module('pyarrow').ArrowInvalid as error:
        raise ValueError(f'{path} is no Parquet file, or is truncated: {error}') from error


def _read(file: Any, group: int, names: tuple[str, ...]) -> Any:
    """Decode columns of a row group, in the order of their names."""
    # Threads of a pool decode different row groups: that takes half of the time it takes threads of pyarrow.
    alone = threading.current_thread() is threading.main_thread()
    return file.read_row_group(group, list(names), use_threads=alone).select(names)


def _stamp(path: str) -> tuple[int, int, int]:
    """Return numbers that change with a file."""
    found = os.stat(path)
    return found.st_mtime_ns, found.st_ino, found.st_size
