"""The exceptions that batchup raises beyond Python's own, and notes on exceptions."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Mapping
from typing import Any


class SampleIndexError(IndexError, ValueError):
    """A sample index lies outside the data.

    An `IndexError`, as NumPy raises, and a `ValueError`, as other bad arguments raise.
    """


class StateMismatchError(ValueError):
    """A saved state was loaded into a stream that it does not fit."""


class EndOfPlanError(IndexError):
    """A plan has no batch of the number that was asked for."""


class ReplayError(RuntimeError):
    """Indices were asked for again that a sequential random generator has moved past."""


class WorkerPoolError(RuntimeError):
    """A pool of workers cannot go on; the message says why, and what to do."""


class WorkerLostError(WorkerPoolError):
    """Workers ended unexpectedly, more often than a pool starts them again."""


class WorkerTimeoutError(WorkerPoolError, TimeoutError):
    """A result did not arrive within the `timeout` of a pool."""


class DatasetError(RuntimeError):
    """A data set, or a file for it, cannot be had; the message says why, where, and what to do."""


class DownloadError(DatasetError, OSError):
    """No address gave a file."""


class ChecksumError(DatasetError, ValueError):
    """A file is not the one that was expected."""


class DatasetFormatError(DatasetError, ValueError):
    """A file is damaged, or in another format."""


class StorageError(DatasetError, OSError):
    """A file cannot be written, as on a full disk or in a read-only folder."""


class MissingExtraError(DatasetError, ImportError):
    """A package is needed that batchup does not install by itself."""


def state_mismatch(saved: Mapping[str, Any], own: Mapping[str, Any]) -> StateMismatchError:
    """Make the error that shows what differs, a line each for the state and the stream."""
    lines = ['this state does not fit this stream:']
    for name in [*own, *(name for name in saved if name not in own)]:
        if saved.get(name) != own.get(name):
            lines.append(f'  {name} of the state:  {saved.get(name, "(missing)")}')
            lines.append(f'  {name} of the stream: {own.get(name, "(missing)")}')
    lines.append('Make the stream with the same source and arguments as the one that was saved.')
    return StateMismatchError('\n'.join(lines))


def installed_by(extra: str) -> str:
    """Say how to install what an extra needs; by the name of batchup alone, pip would find another package."""
    return f"pip install '.[{extra}]' in a copy of batchup's repository"


def warn_user(message: str) -> None:
    """Warn at the line outside the package from which the user came."""
    package = __name__.partition('.')[0]
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_globals.get('__name__', '').partition('.')[0] == package:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, stacklevel=level)


def add_note(error: BaseException, note: str) -> None:
    """Add a line below the message of an exception, on Python 3.10 too, unless it takes none.

    Python 3.10 keeps the note without showing it. An exception of a frozen dataclass, for
    example, refuses notes: it arrives without one.
    """
    with contextlib.suppress(Exception):
        if hasattr(error, 'add_note'):
            error.add_note(note)
        else:
            vars(error).setdefault('__notes__', []).append(note)
