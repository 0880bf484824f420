"""Where batchup keeps files, and how it gets them: downloaded or copied, and verified.

The folder is the first of: `data_dir` in the section ``[paths]`` of the file ``.batchup.cfg``
in the home folder; the environment variable ``BATCHUP_HOME``; ``.batchup`` in the home folder.
"""

from __future__ import annotations

import configparser
import os
from collections.abc import Sequence
from pathlib import Path

from ._files import checksums
from ._files.checksums import Checksum, FilePath
from ._files.downloads import Patience, by_hand, check_urls, download_file
from ._files.placing import copy_file, locked, writing
from ._ground.arguments import check_flag
from .errors import StorageError

__all__ = [
    'compute_sha256',
    'copy_and_verify',
    'copy_data',
    'download',
    'download_and_verify',
    'download_data',
    'get_batchup_path',
    'get_data_dir',
    'get_data_path',
    'verify_file',
]


def get_batchup_path() -> str:
    """Return the folder of batchup's files, which is created when it is missing.

    Relative folders in the file or the variable are relative to the home folder; `~` is
    the home folder.

    Raises
    ------
    ValueError
        If the configuration file cannot be understood.
    StorageError
        If the folder cannot be created, or a file is in its place.
    """
    home = Path.home()
    chosen = _configured(home / '.batchup.cfg') or os.environ.get('BATCHUP_HOME', '').strip() or '.batchup'
    return _folder(home / Path(chosen).expanduser())


def _configured(path: Path) -> str | None:
    """Return the folder that a configuration file names, if any."""
    parser = configparser.ConfigParser(interpolation=None)
    try:
        with open(path, encoding='utf-8-sig') as file:  # some editors write a byte order mark
            parser.read_file(file)
    except FileNotFoundError:
        return None
    except (configparser.Error, UnicodeDecodeError) as error:
        raise ValueError(
            f'cannot understand the configuration file {path}: {error}; it should look like:\n'
            '[paths]\ndata_dir = /a/folder'
        ) from error
    return parser.get('paths', 'data_dir', fallback='').strip() or None


def _folder(path: Path) -> str:
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)
    return str(path)


def get_data_dir() -> str:
    """Return the folder of data files, `data` in that of `get_batchup_path`; it is created when missing."""
    return _folder(Path(get_batchup_path()) / 'data')


def get_data_path(filename: FilePath) -> str:
    """Return the path of a file in the data folder; an absolute path is returned as it is."""
    if os.path.isabs(filename):
        return os.fspath(filename)
    return os.path.join(get_data_dir(), filename)


def compute_sha256(path: FilePath) -> str:
    """Return the SHA-256 of a file: 64 hexadecimal digits."""
    return checksums.compute(path, 'sha256').digest


def verify_file(path: FilePath, sha256: str | None) -> bool:
    """Say whether there is a file at `path` with the expected SHA-256.

    For `None`, any file will do.
    """
    return checksums.is_right(path, Checksum.check(sha256))


def download(
    path: FilePath,
    url: str | Sequence[str],
    *,
    timeout: float = 30.0,
    attempts: int = 4,
    backoff: float = 1.0,
    progress: bool = True,
) -> str:
    """Download a file, and replace what may be at `path`.

    The file appears when it is complete, never half-written.

    Parameters
    ----------
    path : path-like
        Where to put it; missing folders are created.
    url : str or sequence of str
        Its address; or several, to be tried in this order.
    timeout : float
        How long to wait for an answer and for each piece of the file, in seconds.
    attempts : int
        How often to try each address, if what goes wrong may pass.
    backoff : float
        How long to wait before the second round of tries, in seconds; twice as long before
        each later one.
    progress : bool
        Whether to show a bar, in a terminal or a notebook.

    Returns
    -------
    str
        The path.

    Raises
    ------
    DownloadError
        If no address gives the file; the message says why for each.
    StorageError
        If the file cannot be written, or every address says that it has more bytes than are free.
    """
    return _download(path, check_urls(url), None, Patience(timeout, attempts, backoff), progress)


def download_and_verify(
    path: FilePath,
    url: str | Sequence[str],
    sha256: str | None,
    *,
    md5: str | None = None,
    timeout: float = 30.0,
    attempts: int = 4,
    backoff: float = 1.0,
    progress: bool = True,
) -> str:
    """Download a file, unless the right one is at `path` already.

    A download that was interrupted is continued. If several processes ask at once, one
    downloads and the others wait.

    Parameters
    ----------
    sha256 : str or None
        The SHA-256 of the right file; with `None`, any file is right.
    md5 : str, optional
        Its MD5, where no SHA-256 is known.

    The other parameters are those of `download`.

    Raises
    ------
    ChecksumError
        If every address gives another file. What was at `path` stays as it was.
    """
    return _download(
        path, check_urls(url), Checksum.check(sha256, md5), Patience(timeout, attempts, backoff), progress, True
    )


def _download(
    path: FilePath,
    urls: Sequence[str],
    checksum: Checksum | None,
    patience: Patience,
    progress: bool,
    keep: bool = False,
) -> str:
    progress = check_flag('progress', progress)
    target = Path(path)
    if not (keep and checksums.is_right(target, checksum)):  # which needs no lock, nor a writable folder
        try:
            with locked(target):
                if not (keep and checksums.is_right(target, checksum)):
                    download_file(target, urls, checksum, patience, progress)
        except StorageError as error:
            raise StorageError(f'{error}\n{by_hand(target, checksum)}') from error
    return os.fspath(path)


def copy_and_verify(path: FilePath, source: FilePath, sha256: str | None, *, md5: str | None = None) -> str:
    """Copy a file, unless the right one is at `path` already.

    Parameters
    ----------
    path : path-like
        Where to put it; missing folders are created.
    source : path-like
        The file to copy.
    sha256 : str or None
        The SHA-256 of the right file; with `None`, any file is right.
    md5 : str, optional
        Its MD5, where no SHA-256 is known.

    Returns
    -------
    str
        The path.

    Raises
    ------
    FileNotFoundError
        If there is no file to copy.
    ChecksumError
        If it is another file; then what was at `path` stays as it was.
    """
    checksum = Checksum.check(sha256, md5)
    if not checksums.is_right(path, checksum):
        copy_file(Path(path), source, checksum)
    return os.fspath(path)


def download_data(filename: FilePath, url: str | Sequence[str], sha256: str | None = None) -> str:
    """Download a file into the data folder, unless it is there; return its path."""
    return download_and_verify(get_data_path(filename), url, sha256)


def copy_data(filename: FilePath, source: FilePath, sha256: str | None = None) -> str:
    """Copy a file into the data folder, unless it is there; return its path."""
    return copy_and_verify(get_data_path(filename), source, sha256)
