"""CIFAR-10: 60,000 colour images of animals and vehicles in 10 classes, 32 x 32 pixels.

"Learning Multiple Layers of Features from Tiny Images", A. Krizhevsky, 2009.
"""

from __future__ import annotations

import numpy as np

from . import _cifar
from ._images import ImageDataset
from ._store import Folder, FolderWriter
from .dataset import DownloadSourceFile, fetch_and_convert_dataset

ARCHIVE = 'cifar-10-binary.tar.gz'
SHA256 = 'c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd'
FOLDER = 'cifar-10-batches-bin'
TRAIN = [f'{FOLDER}/data_batch_{number}.bin' for number in range(1, 6)]
TEST = [f'{FOLDER}/test_batch.bin']
NAMES = f'{FOLDER}/batches.meta.txt'


@fetch_and_convert_dataset([DownloadSourceFile(ARCHIVE, base_url=_cifar.MIRRORS, sha256=SHA256)], 'cifar10')
def fetch_cifar10(source_paths: list[str], target_path: str) -> None:
    """Fetch the data set, and return its folder."""
    (path,) = source_paths
    members = _cifar.read_members(path, [*TRAIN, *TEST, NAMES])
    folder = FolderWriter(target_path)
    for part, names in (('train', TRAIN), ('test', TEST)):
        images, labels = _cifar.split_records(path, members, names, 1)
        class_names = _cifar.read_names(path, members[NAMES], labels)
        folder.write_array(f'{part}_X', images)
        folder.write_array(f'{part}_y', labels[:, 0].astype(np.int32))
    folder.finish(class_names=class_names)


def delete_cache() -> None:
    """Delete the converted data set, and what was downloaded for it."""
    fetch_cifar10.delete()


class CIFAR10(ImageDataset):
    """Colour images in 10 classes: 50,000 for training and validation, 10,000 for testing.

    Downloaded and converted the first time, then opened through memory maps.

    Parameters
    ----------
    n_val : int or None
        How many of the images for training, the last ones, are for validation instead; 0 or
        `None` for none.
    val_lower, val_upper : float
        What pixels of 0 and 255 become.

    Attributes
    ----------
    train_X, val_X, test_X : array-likes of shape (n, 3, 32, 32), float32
        The images, converted when they are read; channels are red, green and blue.
    train_X_u8, val_X_u8, test_X_u8 : arrays of shape (n, 3, 32, 32), uint8
        The images as they are stored.
    train_y, val_y, test_y : arrays of shape (n,), int32
        The classes.
    class_names : list of str
        What the classes are.

    Raises
    ------
    DatasetError
        If the data set cannot be downloaded or stored.
    """

    fetch = fetch_cifar10
    class_names: list[str]

    def _open(self, folder: Folder, n_val: int) -> None:
        self.class_names = list(folder.facts['class_names'])
