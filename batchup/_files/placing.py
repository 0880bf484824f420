"""Files and folders that appear whole or not at all, made by one process at a time."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .._ground.messages import warn_user
from ..errors import DatasetError, StorageError
from .checksums import Checksum, FilePath, check_file

if sys.platform == 'win32':
    import msvcrt
else:
    import fcntl

# The errors of file systems without locks.
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}

# Errors that users can mend: of a disk, of rights, of names. All others are errors of the code that writes.
_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, 'EDQUOT', errno.ENOSPC)}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
_IN_THE_WAY = {errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG}

# Advice if a file cannot be written where it belongs.
OTHER_FOLDER = (
    'or choose another folder by [paths] data_dir in ~/.batchup.cfg or by the environment variable BATCHUP_HOME'
)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other processes and threads from making the same file or folder meanwhile.

    The lock is a file beside it, which is removed at the end. The system releases it when
    the process ends in any way.
    """
    lock = path.with_name(f'{path.name}.lock')
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = _acquire(lock)
    try:
        yield
    finally:
        with suppress(OSError):
            lock.unlink()
        _release(file)


def _acquire(lock: Path) -> int:
    while True:
        file = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _wait_for(file)
            # Whoever had it may have removed it while this process waited.
            if os.path.exists(lock) and os.path.samestat(os.fstat(file), os.stat(lock)):
                return file
        except FileNotFoundError:
            pass
        except BaseException:
            os.close(file)
            raise
        os.close(file)


if sys.platform == 'win32':

    def _wait_for(file: int) -> None:
        while True:
            with suppress(OSError):  # raised after ten seconds
                msvcrt.locking(file, msvcrt.LK_LOCK, 1)
                return

    def _release(file: int) -> None:
        os.close(file)

else:

    def _wait_for(file: int) -> None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            warn_user('this file system has no locks: several processes may download the same file at once')

    def _release(file: int) -> None:
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_UN)  # closing is not enough if a process was forked meanwhile
        os.close(file)


@contextmanager
def placing(path: Path) -> Iterator[Path]:
    """Give a temporary path to write a file or folder to; after success, move that to `path`.

    The temporary path has the same name and suffix, in a folder of its own. What was at `path`
    before is replaced. Only to be used while `locked`.
    """
    folder = partial_of(path)
    with writing(path):
        remove(folder)  # left by a process that was killed
        folder.mkdir(parents=True)
    try:
        with writing(path):
            yield folder / path.name
            if (folder / path.name).is_dir():
                remove(path)
            os.replace(folder / path.name, path)
    finally:
        remove(folder)


def copy_file(path: Path, source: FilePath, checksum: Checksum | None) -> None:
    """Copy a file in place of what may be at `path`, if it is the right one."""
    if not os.path.isfile(source):
        raise FileNotFoundError(f'cannot copy {os.fspath(source)}: there is no such file')
    with locked(path), placing(path) as copy:
        shutil.copyfile(source, copy)
        check_file(copy, checksum, os.fspath(source))


def partial_of(path: Path) -> Path:
    """Return the folder in which `placing` keeps a file or folder until it is whole."""
    return path.with_name(f'{path.name}.partial')


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Explain errors of the system that come up while a file is written."""
    try:
        yield
    except DatasetError:
        raise
    except OSError as error:
        if not is_full(error) and not (error.errno in _FORBIDDEN | _IN_THE_WAY and _is_about(path, error)):
            raise
        raise _storage_error(path, error) from error


def _is_about(path: Path, error: OSError) -> bool:
    """Say whether an error is about a file, a file beside it, or a folder above it.

    Other errors are about files that are read meanwhile.
    """
    if not isinstance(error.filename, (str, os.PathLike)):
        return True
    return os.fspath(error.filename).startswith(str(path)) or Path(error.filename) in path.parents


def _storage_error(path: Path, error: OSError) -> StorageError:
    if is_full(error):
        advice = f'{free_bytes(path):,} bytes are free there; make room'
    elif error.errno in _FORBIDDEN:
        advice = 'make the folder writable'
    else:
        advice = f'the problem is with {error.filename or path}; move it away'
    return StorageError(f'cannot write {path}: {error.strerror}; {advice}, {OTHER_FOLDER}')


def is_full(error: OSError) -> bool:
    """Say whether there is no room for a file, or no more is allowed."""
    return error.errno in _FULL


def free_bytes(path: Path) -> int:
    """Return how many bytes are free on the disk of a file."""
    folder = path
    while not folder.is_dir():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def remove(path: Path) -> None:
    """Delete a file or folder, if there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def note_made(path: Path) -> None:
    """Note that batchup made a file, for a later process that finds it after an interrupted conversion."""
    note = _note_of(path)
    with writing(note):
        note.write_text(_identity(path), encoding='ascii')


def is_made(path: Path) -> bool:
    """Say whether this file was noted; one that a user has put in its place was not."""
    note = _note_of(path)
    return note.is_file() and note.read_text(encoding='ascii', errors='replace') == _identity(path)


def discard_made(path: Path) -> None:
    """Delete a file that was noted."""
    remove(path)
    remove(_note_of(path))


def _note_of(path: Path) -> Path:
    return path.with_name(f'{path.name}.made')


def _identity(path: Path) -> str:
    facts = path.stat()
    return f'{facts.st_size} {facts.st_mtime_ns}'
