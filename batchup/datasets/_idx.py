"""The IDX format of the MNIST family: a header, then the values, compressed by gzip."""

from __future__ import annotations

import gzip
import struct
from typing import IO, cast

import numpy as np
from numpy.typing import NDArray

from ..errors import DatasetFormatError
from ._store import FolderWriter, pieces_of, read_exactly, reading
from .dataset import DownloadSourceFile

# The type of the values, the only one in these files.
UINT8 = 8
SHAPE = (28, 28)


def source_files(base_url: list[str], sha256: dict[str, str]) -> list[DownloadSourceFile]:
    """Return the four files, as `convert` takes them."""
    return [DownloadSourceFile(name, base_url=base_url, sha256=digest) for name, digest in sha256.items()]


def convert(source_paths: list[str], target_path: str) -> None:
    """Convert images and labels for training, then those for testing."""
    folder = FolderWriter(target_path)
    train_images, train_labels, test_images, test_labels = source_paths
    for part, images, labels in (('train', train_images, train_labels), ('test', test_images, test_labels)):
        n_images = _write(folder, f'{part}_X', images, SHAPE)
        n_labels = _write(folder, f'{part}_y', labels, ())
        if n_images != n_labels:
            raise DatasetFormatError(f'{images} holds {n_images:,} images, {labels} {n_labels:,} labels')
    folder.finish(class_names=None)


def _write(folder: FolderWriter, name: str, path: str, shape: tuple[int, ...]) -> int:
    """Write the samples in a file, each of the given shape, as an array; return their number.

    Images get an axis for the channel.
    """
    with reading(path), gzip.open(path) as unzipped:
        file = cast(IO[bytes], unzipped)
        count = _read_header(file, shape)
        pieces = pieces_of(file, (count, *shape))
        if shape:
            folder.write(name, (count, 1, *shape), np.uint8, (piece[:, np.newaxis] for piece in pieces))
        else:
            folder.write(name, (count,), np.int32, (_check_labels(piece) for piece in pieces))
        if file.read(1):
            raise DatasetFormatError('there is more in it than its header says')
    return count


def _check_labels(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if labels.max(initial=0) > 9:
        raise DatasetFormatError(f'labels should be 0 to 9, got {labels.max()}')
    return labels


def _read_header(file: IO[bytes], shape: tuple[int, ...]) -> int:
    """Check the header, and return the number of samples."""
    ndim = 1 + len(shape)
    zero, type_code, dimensions = struct.unpack('>HBB', read_exactly(file, 4))
    if (zero, type_code, dimensions) != (0, UINT8, ndim):
        raise DatasetFormatError(
            f'it should begin with 0, type {UINT8} and {ndim} dimensions, got {zero}, {type_code} and {dimensions}'
        )
    count, *found = struct.unpack(f'>{ndim}I', read_exactly(file, 4 * ndim))
    if tuple(found) != shape:
        raise DatasetFormatError(f'it should hold samples of shape {shape}, got {tuple(found)}')
    return int(count)
