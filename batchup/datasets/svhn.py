"""SVHN: colour images of digits on house numbers, 32 x 32 pixels. Reading them needs scipy.

"Reading Digits in Natural Images with Unsupervised Feature Learning", Y. Netzer, T. Wang,
A. Coates, A. Bissacco, B. Wu and A. Y. Ng, 2011.
"""

from __future__ import annotations

import importlib.util
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from .._ground.messages import installed_by
from .._ground.words import Worded, counted, kind_of_rows
from ..data_source import ArrayDataSource
from ..errors import DatasetFormatError, MissingExtraError
from ..image.utils import ImageArrayUInt8ToFloat32
from ._images import ImageDataset
from ._store import Folder, FolderWriter, reading
from .dataset import DownloadSourceFile, FetchedDataset, fetch_and_convert_dataset

MIRRORS = ['http://ufldl.stanford.edu/housenumbers/']
SHA256 = {
    'train_32x32.mat': '435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8',
    'test_32x32.mat': 'cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b',
    'extra_32x32.mat': 'a133a4beb38a00fcdda90c9489e0c04f900b660ce8a316a5e854838379a71eb3',
}
SHAPE = (32, 32, 3)

# How many images are transposed at a time.
STEP = 2048


def _check_scipy() -> None:
    if importlib.util.find_spec('scipy') is None:
        raise MissingExtraError(f'SVHN comes in MATLAB files, which scipy reads: {installed_by("svhn")}')


def _files(*names: str) -> list[DownloadSourceFile]:
    return [DownloadSourceFile(name, base_url=MIRRORS, sha256=SHA256[name]) for name in names]


@fetch_and_convert_dataset(_files('train_32x32.mat', 'test_32x32.mat'), 'svhn', prepare=_check_scipy)
def fetch_svhn(source_paths: list[str], target_path: str) -> None:
    """Fetch the images for training and testing, and return their folder."""
    folder = FolderWriter(target_path)
    for prefix, path in zip(('train_', 'test_'), source_paths):
        _convert(folder, prefix, path)
    folder.finish()


@fetch_and_convert_dataset(_files('extra_32x32.mat'), 'svhn_extra', prepare=_check_scipy)
def fetch_svhn_extra(source_paths: list[str], target_path: str) -> None:
    """Fetch the extra images, and return their folder."""
    folder = FolderWriter(target_path)
    _convert(folder, '', source_paths[0])
    folder.finish()


def _convert(folder: FolderWriter, prefix: str, path: str) -> None:
    images, labels = _read(path)
    count = len(labels)
    pieces = (images[..., start : start + STEP].transpose(3, 2, 0, 1) for start in range(0, count, STEP))
    folder.write(f'{prefix}X', (count, 3, 32, 32), np.uint8, pieces)
    folder.write_array(f'{prefix}y', np.where(labels == 10, 0, labels).astype(np.int32))


def _read(path: str) -> tuple[NDArray[np.uint8], NDArray[Any]]:
    """Return images of shape (32, 32, 3, n) and labels of shape (n,) of a MATLAB file."""
    from scipy.io import loadmat  # type: ignore[import-untyped] # noqa: PLC0415 - an extra
    from scipy.io.matlab import MatReadError  # type: ignore[import-untyped] # noqa: PLC0415

    with reading(path):
        try:
            arrays = loadmat(path, variable_names=['X', 'y'])
        except (MatReadError, NotImplementedError, TypeError) as error:
            raise ValueError(error) from error
        images, labels = arrays['X'], arrays['y'].reshape(-1)
        if images.dtype != np.uint8 or images.shape != (*SHAPE, len(labels)):
            raise DatasetFormatError(f'X should be uint8 of shape (32, 32, 3, n), got {images.dtype} {images.shape}')
        if labels.dtype.kind not in 'uif':
            raise DatasetFormatError(f'labels should be numbers, got {labels.dtype}')
        if len(labels) and not 1 <= labels.min() <= labels.max() <= 10:
            raise DatasetFormatError(f'labels should be 1 to 10, got {labels.min()} to {labels.max()}')
    return images, labels


def delete_cache() -> None:
    """Delete the converted data sets, and what was downloaded for them."""
    fetch_svhn.delete()
    fetch_svhn_extra.delete()


class SVHN(ImageDataset):
    """Digits on house numbers: 73,257 for training and validation, 26,032 for testing.

    Parameters and attributes are those of `batchup.datasets.cifar10.CIFAR10`, without
    `class_names`; the label 10 of the files is the digit 0.
    """

    fetch = fetch_svhn


class SVHNExtra(Worded):
    """531,131 more digits on house numbers, which are easier to read.

    Converting them takes 2 GB of memory.

    Parameters
    ----------
    val_lower, val_upper : float
        What pixels of 0 and 255 become.

    Attributes
    ----------
    X : array-like of shape (n, 3, 32, 32), float32
        The images, converted when they are read.
    X_u8 : array of shape (n, 3, 32, 32), uint8
        The images as they are stored.
    y : array of shape (n,), int32
        The digits.
    """

    fetch: ClassVar[FetchedDataset] = fetch_svhn_extra

    def __init__(self, val_lower: float = 0.0, val_upper: float = 1.0) -> None:
        folder = Folder(type(self).fetch())
        self.X_u8: NDArray[np.uint8] = folder['X']
        self.y: NDArray[np.int32] = folder['y']
        self.X = ImageArrayUInt8ToFloat32(self.X_u8, val_lower, val_upper)

    def _words(self) -> str:
        return f'{counted(len(self.y), "sample")}: {kind_of_rows(self.X)}, {kind_of_rows(self.y)}'

    def source(self, **options: Any) -> ArrayDataSource:
        """Return a source of the images and labels."""
        return ArrayDataSource([self.X, self.y], **options)
