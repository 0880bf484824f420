"""CIFAR-100: 60,000 colour images in 100 classes of 20 kinds, 32 x 32 pixels.

"Learning Multiple Layers of Features from Tiny Images", A. Krizhevsky, 2009.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from . import _cifar
from ._images import ImageDataset, split_off
from ._store import Folder, FolderWriter
from .dataset import DownloadSourceFile, fetch_and_convert_dataset

ARCHIVE = 'cifar-100-binary.tar.gz'
SHA256 = '58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec'
FOLDER = 'cifar-100-binary'
FINE_NAMES = f'{FOLDER}/fine_label_names.txt'
COARSE_NAMES = f'{FOLDER}/coarse_label_names.txt'
PARTS = {'train': f'{FOLDER}/train.bin', 'test': f'{FOLDER}/test.bin'}


@fetch_and_convert_dataset([DownloadSourceFile(ARCHIVE, base_url=_cifar.MIRRORS, sha256=SHA256)], 'cifar100')
def fetch_cifar100(source_paths: list[str], target_path: str) -> None:
    """Fetch the data set, and return its folder."""
    (path,) = source_paths
    members = _cifar.read_members(path, [*PARTS.values(), FINE_NAMES, COARSE_NAMES])
    folder = FolderWriter(target_path)
    for part, name in PARTS.items():
        images, labels = _cifar.split_records(path, members, [name], 2)
        coarse_names = _cifar.read_names(path, members[COARSE_NAMES], labels[:, 0])
        class_names = _cifar.read_names(path, members[FINE_NAMES], labels[:, 1])
        folder.write_array(f'{part}_X', images)
        folder.write_array(f'{part}_y_coarse', labels[:, 0].astype(np.int32))
        folder.write_array(f'{part}_y', labels[:, 1].astype(np.int32))
    folder.finish(class_names=class_names, class_names_coarse=coarse_names)


def delete_cache() -> None:
    """Delete the converted data set, and what was downloaded for it."""
    fetch_cifar100.delete()


class CIFAR100(ImageDataset):
    """Colour images in 100 classes: 50,000 for training and validation, 10,000 for testing.

    Parameters and attributes are those of `batchup.datasets.cifar10.CIFAR10`, and these:

    Attributes
    ----------
    train_y_coarse, val_y_coarse, test_y_coarse : arrays of shape (n,), int32
        The kinds that the classes belong to.
    class_names_coarse : list of str
        What the 20 kinds are.
    """

    fetch = fetch_cifar100
    class_names: list[str]
    class_names_coarse: list[str]
    train_y_coarse: NDArray[np.int32]
    val_y_coarse: NDArray[np.int32]
    test_y_coarse: NDArray[np.int32]

    def _open(self, folder: Folder, n_val: int) -> None:
        self.class_names = list(folder.facts['class_names'])
        self.class_names_coarse = list(folder.facts['class_names_coarse'])
        self.train_y_coarse, self.val_y_coarse = split_off(folder['train_y_coarse'], n_val)
        self.test_y_coarse = folder['test_y_coarse']
