"""Arrays that users have saved in .npz files."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Container, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .base import CommandError

# What samples and their labels are called, the most frequent names first.
PAIRS = (
    ('X', 'y'),
    ('x', 'y'),
    ('X_train', 'y_train'),
    ('x_train', 'y_train'),
    ('train_X', 'train_y'),
    ('train_x', 'train_y'),
    ('images', 'labels'),
    ('train_images', 'train_labels'),
)


def read_samples(path: str, x: str | None, y: str | None) -> dict[str, NDArray[Any]]:
    """Read the samples of a .npz file and their labels, by their names; `None` for a usual one.

    Raises
    ------
    CommandError
        If the file cannot be read, or does not have them.
    """
    return read_arrays(path, lambda names: _choose(path, names, x, y))


def _choose(path: str, names: Sequence[str], x: str | None, y: str | None) -> Sequence[str]:
    """Return the names of the samples and the labels among those of all arrays of a file."""
    for usual_x, usual_y in PAIRS:
        pair = x or usual_x, y or usual_y
        if all(name in names for name in pair):
            return pair
    missing = next(name for name in (x or 'X', y or 'y') if name not in names)
    raise CommandError(
        f'{path} has no array {missing}; it has: {", ".join(names) or "no arrays"}; --x and --y say which are the '
        'samples and their labels'
    )


def labels_of(name: str, names: Container[str]) -> str | None:
    """Return the name of the labels of samples of this name, if they are among some names."""
    for of_samples, of_labels in (('images', 'labels'), ('X', 'y'), ('x', 'y')):
        labels = name.replace(of_samples, of_labels)
        if labels != name and labels in names:
            return labels
    return None


def read_arrays(path: str, choose: Callable[[Sequence[str]], Sequence[str]] | None = None) -> dict[str, NDArray[Any]]:
    """Read arrays of a .npz file: all, or those that `choose(names)` names out of them.

    Raises
    ------
    CommandError
        If the file cannot be read.
    """
    try:
        with open(path, 'rb') as raw:
            if not zipfile.is_zipfile(raw):
                raise CommandError(f'{path} is no .npz file, or not all of one; np.savez(file, X=X, y=y) writes one')
            raw.seek(0)
            with np.load(raw, allow_pickle=False) as file:
                names = file.files if choose is None else choose(file.files)
                return {name: _read_array(path, file, name) for name in names}
    except OSError as error:
        raise CommandError(f'cannot read {path}: {error.strerror or error}') from None
    except CommandError:
        raise
    except Exception as error:  # a damaged file can make NumPy and zipfile raise nearly anything
        raise CommandError(f'{path} is damaged: {error}') from None


def _read_array(path: str, file: Any, name: str) -> NDArray[Any]:
    try:
        return np.asarray(file[name])
    except ValueError as error:
        if 'Object arrays' not in str(error):
            raise
        raise CommandError(f'{path}: {name} is an object array; save numbers, and labels of one type') from None
