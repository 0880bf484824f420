"""What the data sets of images have in common: parts for training, validation and testing."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from .._ground.arguments import check_non_negative
from .._ground.words import Worded, kind_of_rows
from ..data_source import ArrayDataSource
from ..image.utils import ImageArrayUInt8ToFloat32
from ._store import Folder
from .dataset import FetchedDataset


class SplitDataset(Worded):
    """Samples in three parts, each as a data source."""

    train_X: Any
    val_X: Any
    test_X: Any
    train_y: NDArray[np.int32]
    val_y: NDArray[np.int32]
    test_y: NDArray[np.int32]

    def _words(self) -> str:
        counts = [f'{part} {len(getattr(self, f"{part}_y"))}' for part in ('train', 'val', 'test')]
        return f'{", ".join(counts)}: {kind_of_rows(self.train_X)}, {kind_of_rows(self.train_y)}'

    def train_source(self, **options: Any) -> ArrayDataSource:
        """Return a source of the images and labels for training.

        The options are those of `batchup.data_source.ArrayDataSource`.
        """
        return ArrayDataSource([self.train_X, self.train_y], **options)

    def val_source(self, **options: Any) -> ArrayDataSource:
        """Return a source of the images and labels for validation."""
        return ArrayDataSource([self.val_X, self.val_y], **options)

    def test_source(self, **options: Any) -> ArrayDataSource:
        """Return a source of the images and labels for testing."""
        return ArrayDataSource([self.test_X, self.test_y], **options)


class ImageDataset(SplitDataset):
    """Images and labels that were fetched into a folder; the last ones for training are for validation."""

    # Fetches the folder; subclasses may have their files elsewhere.
    fetch: ClassVar[FetchedDataset]

    train_X_u8: NDArray[np.uint8]
    val_X_u8: NDArray[np.uint8]
    test_X_u8: NDArray[np.uint8]

    def __init__(self, n_val: int | None = 10000, val_lower: float = 0.0, val_upper: float = 1.0) -> None:
        n_val = check_n_val(n_val)
        folder = Folder(type(self).fetch())
        self.train_X_u8, self.val_X_u8 = split_off(folder['train_X'], n_val)
        self.train_y, self.val_y = split_off(folder['train_y'], n_val)
        self.test_X_u8, self.test_y = folder['test_X'], folder['test_y']
        self.train_X = ImageArrayUInt8ToFloat32(self.train_X_u8, val_lower, val_upper)
        self.val_X = ImageArrayUInt8ToFloat32(self.val_X_u8, val_lower, val_upper)
        self.test_X = ImageArrayUInt8ToFloat32(self.test_X_u8, val_lower, val_upper)
        self._open(folder, n_val)

    def _open(self, folder: Folder, n_val: int) -> None:
        """Open other arrays of the folder, in subclasses that have some."""


def check_n_val(n_val: int | None) -> int:
    """Return the number of samples for validation."""
    return check_non_negative('n_val', 0 if n_val is None else n_val)


def split_off(array: NDArray[Any], n_val: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the samples for training, and the last ones, for validation."""
    n_train = len(array) - n_val
    if n_train < 0:
        raise ValueError(f'n_val must be at most {len(array)}, the number of samples for training, got {n_val}')
    return array[:n_train], array[n_train:]
