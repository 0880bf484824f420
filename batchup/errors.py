"""The exceptions that batchup raises beyond Python's own."""

from __future__ import annotations

__all__ = [
    'ChecksumError',
    'DatasetError',
    'DatasetFormatError',
    'DownloadError',
    'EndOfPlanError',
    'MissingExtraError',
    'NonFiniteError',
    'ReplayError',
    'SampleIndexError',
    'StateMismatchError',
    'StorageError',
    'WorkerLostError',
    'WorkerPoolError',
    'WorkerTimeoutError',
]


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


class NonFiniteError(FloatingPointError, ValueError):
    """A function returned NaN or infinity for a batch, and `check_finite=True` asked to look for these.

    A `FloatingPointError`, as NumPy raises under `np.errstate(all='raise')`, and a `ValueError`,
    as SciPy raises for its `check_finite`.
    """


class WorkerPoolError(RuntimeError):
    """A pool of workers cannot go on; the message says why, and what to do."""


class WorkerLostError(WorkerPoolError):
    """Workers ended unexpectedly, more often than a pool starts them again."""


class WorkerTimeoutError(WorkerPoolError, TimeoutError):
    """A result did not arrive within the `timeout` of a pool."""


class DatasetError(RuntimeError):
    """A data set, or a file for it, is not available; the message says why, where, and what to do."""


class DownloadError(DatasetError, OSError):
    """A file could not be downloaded from any of its addresses."""


class ChecksumError(DatasetError, ValueError):
    """A file is not the one that was expected."""


class DatasetFormatError(DatasetError, ValueError):
    """A file is damaged, or in another format."""


class StorageError(DatasetError, OSError):
    """A file cannot be written, as on a full disk or in a read-only folder."""


class MissingExtraError(DatasetError, ImportError):
    """A package is needed that batchup does not install by itself."""
