"""Data sets that are fetched and converted once, for batchup's own and for users'.

>>> import tempfile
>>> import numpy as np
>>> folder = Path(tempfile.mkdtemp())
>>> squares = folder / 'squares.txt'
>>> _ = squares.write_text('0 1 4 9')

>>> @fetch_and_convert_dataset([ExistingSourceFile(squares)], str(folder / 'squares.npy'))
... def fetch_squares(source_paths, target_path):
...     np.save(target_path, np.loadtxt(source_paths[0]))
>>> np.load(fetch_squares(), mmap_mode='r')
memmap([0., 1., 4., 9.])
>>> fetch_squares.delete()
"""

from __future__ import annotations

import abc
import functools
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from .. import config
from .._files.checksums import Checksum, FilePath, check_file, is_right
from .._files.downloads import Patience, by_hand, check_urls, download_file
from .._files.placing import copy_file, discard_made, is_made, locked, note_made, partial_of, placing, remove
from ..errors import DatasetFormatError, StorageError

__all__ = [
    'CopySourceFile',
    'DownloadSourceFile',
    'ExistingSourceFile',
    'FetchedDataset',
    'SourceFile',
    'delete_dataset_cache',
    'fetch_and_convert_dataset',
]


# How long downloads for data sets go on trying.
PATIENCE = Patience()


class Acquired(NamedTuple):
    """A source file that is there now.

    `made`: whether batchup downloaded or copied it, and deletes it after the conversion.
    `verified`: whether it was checked against its checksum.
    """

    path: Path
    made: bool
    verified: bool


class SourceFile(abc.ABC):
    """A file that a data set is made from."""

    # The keyword of the fetching function by which the user gives a path.
    arg_name: str | None = None

    @abc.abstractmethod
    def acquire(self, folder: Path, arguments: Mapping[str, Any]) -> Acquired:
        """Make sure that the file is there, and is the right one.

        Parameters
        ----------
        folder : Path
            Where to put it, if it is brought here.
        arguments : mapping
            What the user gave the fetching function.
        """

    def by_hand(self, folder: Path) -> str:
        """Say how a user can place the file, if that is possible."""
        return ''


class DownloadSourceFile(SourceFile):
    """A file that is downloaded.

    A file that a user has placed where the download would go is used, if it is the right one.

    Parameters
    ----------
    filename : str
        Its name.
    url : str or sequence of str, optional
        Its address; or several, to be tried in this order.
    base_url : str or sequence of str, optional
        In place of `url`: the address without the file name.
    sha256 : str, optional
        The SHA-256 of the right file.
    md5 : str, optional
        Its MD5, where no SHA-256 is known.

    Raises
    ------
    ValueError
        If not exactly one of `url` and `base_url` is given.
    """

    def __init__(
        self,
        filename: str,
        url: str | Sequence[str] | None = None,
        base_url: str | Sequence[str] | None = None,
        sha256: str | None = None,
        *,
        md5: str | None = None,
    ) -> None:
        self.filename = _check_name(filename)
        if base_url is not None and url is None:
            bases = [base_url] if isinstance(base_url, str) else base_url
            url = [f'{base.rstrip("/")}/{quote(filename)}' for base in bases]
        elif url is None or base_url is not None:
            raise ValueError(f'exactly one of url and base_url is needed for {filename!r}')
        self.urls = check_urls(url)
        self.checksum = Checksum.check(sha256, md5)

    def acquire(self, folder: Path, arguments: Mapping[str, Any]) -> Acquired:
        path = folder / self.filename
        if not is_right(path, self.checksum):
            with locked(path):
                download_file(path, self.urls, self.checksum, PATIENCE, progress=True)
            note_made(path)
        return Acquired(path, is_made(path), self.checksum is not None)

    def by_hand(self, folder: Path) -> str:
        return by_hand(folder / self.filename, self.checksum)


class CopySourceFile(SourceFile):
    """A file that is copied from another place, for data that cannot be downloaded freely.

    Parameters
    ----------
    filename : str
        What the copy is called.
    source_path : path-like, optional
        The file.
    arg_name : str, optional
        The keyword of the fetching function by which the user gives the file; it takes
        precedence over `source_path`.
    sha256 : str, optional
        The SHA-256 of the right file.

    Raises
    ------
    ValueError
        If neither `source_path` nor `arg_name` is given.
    """

    def __init__(
        self,
        filename: str,
        source_path: FilePath | None = None,
        arg_name: str | None = None,
        sha256: str | None = None,
    ) -> None:
        self.filename = _check_name(filename)
        if source_path is None and arg_name is None:
            raise ValueError(f'source_path or arg_name is needed for {filename!r}')
        self.source_path = source_path
        self.arg_name = arg_name
        self.checksum = Checksum.check(sha256)

    def acquire(self, folder: Path, arguments: Mapping[str, Any]) -> Acquired:
        path = folder / self.filename
        if self.checksum is None or not is_right(path, self.checksum):
            source = arguments.get(self.arg_name, self.source_path) if self.arg_name is not None else self.source_path
            if source is None:
                raise TypeError(f'{self.filename} is needed: pass {self.arg_name}=, the path of the file')
            if path.is_file() and path.samefile(source):
                check_file(path, self.checksum)
            else:
                copy_file(path, source, self.checksum)
                note_made(path)
        return Acquired(path, is_made(path), self.checksum is not None)


class ExistingSourceFile(SourceFile):
    """A file that is read where it is, and stays there.

    Parameters
    ----------
    path : path-like
        The file.
    sha256 : str, optional
        The SHA-256 of the right file.
    """

    def __init__(self, path: FilePath, sha256: str | None = None) -> None:
        self.path = Path(path)
        self.checksum = Checksum.check(sha256)

    def acquire(self, folder: Path, arguments: Mapping[str, Any]) -> Acquired:
        if not self.path.is_file():
            raise FileNotFoundError(f'there is no file {self.path}')
        check_file(self.path, self.checksum)
        return Acquired(self.path, made=False, verified=self.checksum is not None)


def _check_name(filename: str) -> str:
    if not isinstance(filename, str):
        raise TypeError(f'filename must be a string, got {type(filename).__name__}')
    if Path(filename).name != filename or filename in ('', '..'):
        raise ValueError(f'filename must be a name without folders, got {filename!r}')
    return filename


Convert = Callable[[list[str], str], Any]


class FetchedDataset:
    """A function that fetches a data set once, and returns its path.

    Made by `fetch_and_convert_dataset`. Calling it returns the path of the converted file or
    folder. The first time, the source files are acquired and converted; other processes that
    ask meanwhile wait for it. Files that were downloaded or copied are deleted when all went
    well; those that a user placed stay.

    Attributes
    ----------
    source_files : list of SourceFile
        What it is made from.
    target_filename : str
        The name of the converted file or folder in the data folder.
    """

    def __init__(
        self,
        convert: Convert,
        source_files: Iterable[SourceFile],
        target_filename: str,
        prepare: Callable[[], None] | None = None,
    ) -> None:
        self.source_files = list(source_files)
        for source_file in self.source_files:
            if not isinstance(source_file, SourceFile):
                raise TypeError(f'source_files must be source files, got {type(source_file).__name__}')
        _check_target(target_filename)
        self.target_filename = target_filename
        self._convert = convert
        self._prepare = prepare
        functools.update_wrapper(self, convert)

    @property
    def path(self) -> Path:
        """Where the converted data set is, or will be."""
        return Path(config.get_data_path(self.target_filename))

    @property
    def source_folder(self) -> Path:
        """Where downloaded and copied files are until they are converted."""
        return _downloads_of(self.path)

    def __call__(self, **arguments: Any) -> str:
        known = [source_file.arg_name for source_file in self.source_files if source_file.arg_name is not None]
        for name in arguments:
            if name not in known:
                takes = f'it takes {", ".join(known)}' if known else 'it takes none'
                raise TypeError(f'{self._name}() got an unexpected keyword argument {name!r}; {takes}')
        path = self.path
        if not path.exists():  # which needs no lock, nor a writable folder
            if self._prepare is not None:
                self._prepare()
            try:
                with locked(path):
                    if not path.exists():
                        self._make(path, arguments)
            except (StorageError, DatasetFormatError) as error:
                texts = [source_file.by_hand(self.source_folder) for source_file in self.source_files]
                kind = StorageError if isinstance(error, StorageError) else DatasetFormatError
                raise kind('\n'.join([str(error), *filter(None, texts)])) from error
        return str(path)

    @property
    def _name(self) -> str:
        return getattr(self, '__name__', type(self).__name__)

    def _make(self, path: Path, arguments: Mapping[str, Any]) -> None:
        folder = self.source_folder
        try:
            acquired = [source_file.acquire(folder, arguments) for source_file in self.source_files]
            try:
                self._convert_to(path, [str(source.path) for source in acquired])
            except StorageError:
                raise
            except Exception:
                for source in acquired:
                    if source.made and not source.verified:
                        discard_made(source.path)  # the file may be the reason
                raise
            for source in acquired:
                if source.made:
                    discard_made(source.path)
        finally:
            with suppress(OSError):  # files that were placed by hand, or are to be continued, stay
                folder.rmdir()

    def _convert_to(self, path: Path, source_paths: list[str]) -> None:
        with placing(path) as target:
            self._convert(source_paths, str(target))
            if not target.exists():
                raise DatasetFormatError(f'{self._name} has written nothing at the target path that it was given')

    def delete(self) -> None:
        """Delete the converted data set, and what was downloaded for it."""
        delete_dataset_cache(self.target_filename)


def fetch_and_convert_dataset(
    source_files: Iterable[SourceFile],
    target_filename: str,
    *,
    prepare: Callable[[], None] | None = None,
) -> Callable[[Convert], FetchedDataset]:
    """Make a function that converts files into one that fetches a data set once.

    The function is called as `convert(source_paths, target_path)`, and writes a file or a
    folder at `target_path`. That is moved to its final place when the function has returned:
    it is there whole or not at all.

    Parameters
    ----------
    source_files : iterable of DownloadSourceFile, CopySourceFile or ExistingSourceFile
        What is converted, in the order of `source_paths`.
    target_filename : str
        The name of the converted file or folder in the data folder.
    prepare : callable, optional
        Called before anything is fetched, to raise an error if something is missing.

    Returns
    -------
    callable
        A decorator. The function that it makes takes the `arg_name` of every source file that has
        one as a keyword, and returns the path of the converted data set.
    """
    return lambda convert: FetchedDataset(convert, source_files, target_filename, prepare)


def delete_dataset_cache(*filenames: str) -> None:
    """Delete converted data sets, and what was downloaded for them; missing ones are no error.

    Parameters
    ----------
    filenames : str
        The target file names, as given to `fetch_and_convert_dataset`.
    """
    for filename in filenames:
        _check_target(filename)
        path = Path(config.get_data_path(filename))
        places = path, _downloads_of(path), partial_of(path)
        if any(os.path.lexists(place) for place in places):
            with locked(path):
                for place in places:
                    remove(place)


def _downloads_of(path: Path) -> Path:
    return path.parent / 'downloads' / path.name


def _check_target(filename: str) -> None:
    """Raise an error unless a name belongs to a file or folder below the data folder, or is absolute."""
    if not isinstance(filename, str):
        raise TypeError(f'target_filename must be a string, got {type(filename).__name__}')
    if not os.path.normpath(filename).strip('./\\') or '..' in Path(filename).parts:
        raise ValueError(f'target_filename must name a file or folder in the data folder, got {filename!r}')
