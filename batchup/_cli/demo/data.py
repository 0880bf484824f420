"""The data of the demo: the digits in the package, or a user's .npz file."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...datasets.digits import Digits
from ..commands.base import CommandError
from ..commands.npz import read_samples

# With fewer samples, the parts for validation and testing are too small to tell anything.
FEWEST_SAMPLES = 20

# Larger values could leave the range of float64 when they are squared.
LARGEST_VALUE = 1e100


@dataclass(frozen=True)
class Data:
    """Samples and their classes, in three parts.

    Attributes
    ----------
    name : str
        What the data is, with a short hash of it. A file may be renamed.
    n_classes : int
        The number of classes; labels are 0 to `n_classes - 1`.
    train, val, test : tuple of array-likes
        Samples of shape (n, ...), and labels of shape (n,).
    """

    name: str
    n_classes: int
    train: tuple[Any, Any]
    val: tuple[Any, Any]
    test: tuple[Any, Any]

    def __str__(self) -> str:
        shape = ' x '.join(map(str, self.train[0].shape[1:])) or '1'
        counts = (len(labels) for _, labels in (self.train, self.val, self.test))
        return '{:,} samples for training, {:,} for validation, {:,} for testing; {} numbers each, {} classes'.format(
            *counts, shape, self.n_classes
        )


def load_digits() -> Data:
    """Read the handwritten digits that ship with the package."""
    digits = Digits(n_val=200)
    train, val, test = (
        (digits.train_X, digits.train_y),
        (digits.val_X, digits.val_y),
        (digits.test_X, digits.test_y),
    )
    return Data(f'digits ({_digest(*train, *val, *test)})', 10, train, val, test)


def load_file(path: str, seed: int, x: str | None = None, y: str | None = None) -> Data:
    """Read samples and labels of a user's .npz file, by their names or usual ones, and split them at random.

    70 % are for training, 10 % for validation and 20 % for testing.

    Raises
    ------
    CommandError
        If the file cannot be read, or its arrays are not samples with class labels.
    """
    (x, samples), (y, given_labels) = read_samples(path, x, y).items()
    try:
        _check_samples(x, samples)
        classes, labels = _check_labels(y, given_labels)
        _check_counts(x, y, len(samples), len(labels), len(classes))
    except ValueError as error:
        raise CommandError(f'{path}: {error}') from None
    name = f'an array of shape {samples.shape} ({_digest(samples, given_labels)})'
    # No draws of the library have the key (ord('s'),): its own keys are longer.
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(ord('s'),)))
    order = rng.permutation(len(labels))
    parts = np.split(order, [len(order) * 7 // 10, len(order) * 8 // 10])
    train, val, test = ((samples[part], labels[part]) for part in parts)
    return Data(name, len(classes), train, val, test)


def _check_samples(name: str, samples: NDArray[Any]) -> None:
    """Raise `ValueError` unless these are finite numbers for a number of samples."""
    if samples.ndim == 0:
        raise ValueError(f'{name} is a single value; it must have shape (n, ...)')
    if samples.dtype.kind not in 'biuf':
        raise ValueError(f'{name} must hold numbers, got dtype {samples.dtype}')
    if not samples.size:
        raise ValueError(f'{name} is empty, with shape {samples.shape}')
    lowest, highest = float(samples.min()), float(samples.max())
    if not (lowest >= -LARGEST_VALUE and highest <= LARGEST_VALUE):  # NaN is caught here as well
        bad = np.argwhere(~(np.abs(samples.astype(np.float64)) <= LARGEST_VALUE))[0]
        place = ', '.join(map(str, bad))
        raise ValueError(
            f'{name} must hold finite numbers up to {LARGEST_VALUE}, got {samples[tuple(bad)]} at {name}[{place}]'
        )


def _check_labels(name: str, labels: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.intp]]:
    """Return the classes, and for every sample the number of its class."""
    if labels.ndim != 1:
        raise ValueError(f'{name} must have one dimension, a class label for each sample, got shape {labels.shape}')
    if labels.dtype.kind not in 'biufSU':
        raise ValueError(f'{name} must hold integers or strings as class labels, got dtype {labels.dtype}')
    if labels.dtype.kind == 'f' and not (whole := np.isfinite(labels) & (labels == np.round(labels))).all():
        raise ValueError(f'{name} must hold class labels, got {labels[~whole][0]}; the demo does no regression')
    return np.unique(labels, return_inverse=True)


def _check_counts(x: str, y: str, n_samples: int, n_labels: int, n_classes: int) -> None:
    if n_samples != n_labels:
        raise ValueError(f'{x} and {y} must have the same length, got {n_samples} and {n_labels}')
    if n_samples < FEWEST_SAMPLES:
        raise ValueError(f'at least {FEWEST_SAMPLES} samples are needed, got {n_samples}')
    if n_classes < 2:
        raise ValueError(f'all labels in {y} are equal; at least two classes are needed')
    if 2 * n_classes > n_samples:
        raise ValueError(
            f'{y} has {n_classes} different labels for {n_samples} samples; at least two samples a class are needed'
        )


def _digest(*arrays: Any) -> str:
    """Return a short hash of the contents, dtypes and shapes of some arrays."""
    hasher = hashlib.blake2b(digest_size=6)
    for array in map(np.asarray, arrays):
        hasher.update(f'{array.dtype} {array.shape}'.encode())
        hasher.update(np.ascontiguousarray(array).view(np.uint8).data)
    return hasher.hexdigest()
