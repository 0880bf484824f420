"""Arrays that users have saved in .npz files."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .base import CommandError


def read_arrays(path: str, names: Sequence[str] | None = None) -> dict[str, NDArray[Any]]:
    """Read arrays of a .npz file: those of the given names, or all.

    Raises
    ------
    CommandError
        If the file cannot be read, or has no such arrays.
    """
    try:
        with open(path, 'rb') as raw:
            if not zipfile.is_zipfile(raw):
                raise CommandError(f'{path} is no .npz file, or not all of one; np.savez(file, X=X, y=y) writes one')
            raw.seek(0)
            with np.load(raw, allow_pickle=False) as file:
                return {name: _read_array(path, file, name) for name in names or file.files}
    except OSError as error:
        raise CommandError(f'cannot read {path}: {error.strerror or error}') from None
    except CommandError:
        raise
    except Exception as error:  # a damaged file can make NumPy and zipfile raise nearly anything
        raise CommandError(f'{path} is damaged: {error}') from None


def _read_array(path: str, file: Any, name: str) -> NDArray[Any]:
    if name not in file.files:
        raise CommandError(f'{path} has no array {name}; it has: {", ".join(file.files) or "no arrays"}')
    try:
        return np.asarray(file[name])
    except ValueError as error:
        if 'Object arrays' not in str(error):
            raise
        raise CommandError(f'{path}: {name} is an object array; save numbers, and labels of one type') from None
