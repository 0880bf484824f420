"""The binary format of the CIFAR family: records of labels and pixels, in a tar archive."""

from __future__ import annotations

import tarfile
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ..errors import DatasetFormatError
from ._store import reading

MIRRORS = ['https://www.cs.toronto.edu/~kriz/']
SHAPE = (3, 32, 32)
PIXELS = 3 * 32 * 32


def read_members(path: str, names: Sequence[str]) -> dict[str, bytes]:
    """Read files out of an archive into memory; for all parts, these are 180 MB."""
    found: dict[str, bytes] = {}
    with reading(path), tarfile.open(path, 'r|gz') as archive:
        for member in archive:
            file = archive.extractfile(member) if member.name in names and member.isfile() else None
            if file is not None:
                found[member.name] = file.read()
    missing = [name for name in names if name not in found]
    if missing:
        raise DatasetFormatError(f'{path} holds no {missing[0]}')
    return found


def split_records(
    path: str, members: Mapping[str, bytes], names: Sequence[str], n_labels: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return the images, and the labels of shape (n, n_labels), of some files, one after the other."""
    records = []
    for name in names:
        values = np.frombuffer(members[name], np.uint8)
        if len(values) % (n_labels + PIXELS):
            raise DatasetFormatError(
                f'{name} in {path} should hold records of {n_labels + PIXELS:,} bytes, it has {len(values):,} bytes'
            )
        records.append(values.reshape(-1, n_labels + PIXELS))
    together = np.concatenate(records)
    return together[:, n_labels:].reshape(-1, *SHAPE), together[:, :n_labels]


def read_names(path: str, text: bytes, labels: NDArray[np.uint8]) -> list[str]:
    """Return the class names from a file with one in each line."""
    with reading(path):
        names = [line.strip() for line in text.decode('utf-8').splitlines() if line.strip()]
    if labels.size and labels.max() >= len(names):
        raise DatasetFormatError(f'{path} has a label {labels.max()}, but only {len(names)} class names')
    return names
