"""USPS: 9,298 images of handwritten digits from envelopes, 16 x 16 pixels.

"A Database for Handwritten Text Recognition Research", J. J. Hull, IEEE Transactions on
Pattern Analysis and Machine Intelligence, 1994. In the form of the LIBSVM data sets.
"""

from __future__ import annotations

import bz2
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ..errors import DatasetFormatError
from ._images import SplitDataset, check_n_val, split_off
from ._store import Folder, FolderWriter, reading
from .dataset import DownloadSourceFile, FetchedDataset, fetch_and_convert_dataset

MIRRORS = ['https://www.csie.ntu.edu.tw/~cjlin/libsvmtools/datasets/multiclass/']
MD5 = {'usps.bz2': 'ec16c51db3855ca6c91edd34d0e9b197', 'usps.t.bz2': '8ea070ee2aca1ac39742fdd1ef5ed118'}
PIXELS = 256


@fetch_and_convert_dataset(
    [DownloadSourceFile(name, base_url=MIRRORS, md5=digest) for name, digest in MD5.items()], 'usps'
)
def fetch_usps(source_paths: list[str], target_path: str) -> None:
    """Fetch the data set, and return its folder."""
    folder = FolderWriter(target_path)
    for part, path in zip(('train', 'test'), source_paths):
        images, labels = _read(path)
        folder.write_array(f'{part}_X', images)
        folder.write_array(f'{part}_y', labels)
    folder.finish()


def _read(path: str) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Read lines of `label index:value ...`; values that are missing are 0, as in LIBSVM."""
    labels: list[int] = []
    rows: list[NDArray[np.float32]] = []
    with reading(path), bz2.open(path, 'rt', encoding='ascii') as file:
        for line in file:
            label, *pairs = line.split() or ('',)
            if not label:
                continue
            row = np.zeros(PIXELS, np.float32)
            for pair in pairs:
                index, _, value = pair.partition(':')
                if not 1 <= int(index) <= PIXELS:
                    raise DatasetFormatError(f'line {len(rows) + 1} has a value {index} of {PIXELS}')
                row[int(index) - 1] = float(value)
            labels.append(int(label) - 1)
            rows.append(row)
        if labels and not 0 <= min(labels) <= max(labels) <= 9:
            raise DatasetFormatError(f'labels should be 1 to 10, got {min(labels) + 1} to {max(labels) + 1}')
        if not np.isfinite(rows).all():
            raise DatasetFormatError('values should be from -1 to 1, got one that is not finite')
    images: NDArray[np.float32] = (np.array(rows, np.float32).reshape(-1, 1, 16, 16) + np.float32(1)) / np.float32(2)
    return images, np.array(labels, np.int32)


def delete_cache() -> None:
    """Delete the converted data set, and what was downloaded for it."""
    fetch_usps.delete()


class USPS(SplitDataset):
    """Handwritten digits: 7,291 for training and validation, 2,007 for testing.

    Downloaded and converted the first time, then opened through memory maps.

    Parameters
    ----------
    n_val : int or None
        How many of the images for training, the last ones, are for validation instead; 0 or
        `None` for none.

    Attributes
    ----------
    train_X, val_X, test_X : arrays of shape (n, 1, 16, 16), float32
        The images, from 0 to 1.
    train_y, val_y, test_y : arrays of shape (n,), int32
        The digits.
    """

    fetch: ClassVar[FetchedDataset] = fetch_usps

    def __init__(self, n_val: int | None = 729) -> None:
        n_val = check_n_val(n_val)
        folder = Folder(type(self).fetch())
        self.train_X, self.val_X = split_off(folder['train_X'], n_val)
        self.train_y, self.val_y = split_off(folder['train_y'], n_val)
        self.test_X, self.test_y = folder['test_X'], folder['test_y']
