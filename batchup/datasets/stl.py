"""STL-10: colour images of animals and vehicles in 10 classes, 96 x 96 pixels.

"An Analysis of Single Layer Networks in Unsupervised Feature Learning", A. Coates, H. Lee
and A. Y. Ng, 2011.
"""

from __future__ import annotations

import itertools
import tarfile
from collections.abc import Callable
from typing import IO, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from .._ground.arguments import check_non_negative
from ..data_source import ArrayDataSource
from ..errors import DatasetFormatError
from ..image.utils import ImageArrayUInt8ToFloat32
from ._images import SplitDataset
from ._store import Folder, FolderWriter, pieces_of, reading
from .dataset import DownloadSourceFile, FetchedDataset, fetch_and_convert_dataset

MIRRORS = ['http://ai.stanford.edu/~acoates/stl10/']
ARCHIVE = 'stl10_binary.tar.gz'
SHA256 = 'f31fd99273a1acb8609c8db427cebb1de3f71de77758cdc0e22956e1289b9866'
FOLDER = 'stl10_binary'
SHAPE = (3, 96, 96)
PIXELS = 3 * 96 * 96


@fetch_and_convert_dataset([DownloadSourceFile(ARCHIVE, base_url=MIRRORS, sha256=SHA256)], 'stl')
def fetch_stl(source_paths: list[str], target_path: str) -> None:
    """Fetch the data set, and return its folder."""
    _Converter(source_paths[0], FolderWriter(target_path)).run()


class _Converter:
    """Goes through the archive once, and converts every file as it comes: little is in memory."""

    def __init__(self, path: str, folder: FolderWriter) -> None:
        self._path = path
        self._folder = folder
        self._facts: dict[str, Any] = {}
        self._counts: dict[str, int] = {}
        self._steps: dict[str, Callable[[str, IO[bytes], int], None]] = {
            'train_X': self._images,
            'train_y': self._labels,
            'test_X': self._images,
            'test_y': self._labels,
            'unlabeled_X': self._images,
        }

    def run(self) -> None:
        with reading(self._path), tarfile.open(self._path, 'r|gz') as archive:
            for member in archive:
                folder, _, filename = member.name.rpartition('/')
                file = archive.extractfile(member) if folder == FOLDER and member.isfile() else None
                if file is not None:
                    self._convert(filename, file, member.size)
            self._check()
        self._folder.finish(**self._facts)

    def _convert(self, filename: str, file: IO[bytes], size: int) -> None:
        name, _, suffix = filename.rpartition('.')
        if suffix == 'bin' and name in self._steps:
            self._steps.pop(name)(name, file, size)
        elif filename == 'class_names.txt':
            self._facts['class_names'] = file.read().decode('utf-8').split()
        elif filename == 'fold_indices.txt':
            lines = file.read().decode('ascii').splitlines()
            self._facts['folds'] = [[int(index) for index in line.split()] for line in lines if line.strip()]

    def _images(self, name: str, file: IO[bytes], size: int) -> None:
        count, rest = divmod(size, PIXELS)
        if rest:
            raise DatasetFormatError(f'{name}.bin should hold images of {PIXELS:,} bytes, it has {size:,} bytes')
        # Stored column by column.
        pieces = (piece.swapaxes(-1, -2) for piece in pieces_of(file, (count, *SHAPE)))
        self._folder.write(name, (count, *SHAPE), np.uint8, pieces)
        self._counts[name] = count

    def _labels(self, name: str, file: IO[bytes], size: int) -> None:
        labels = np.frombuffer(file.read(), np.uint8)
        if size and not 1 <= labels.min() <= labels.max() <= 10:
            raise DatasetFormatError(f'labels in {name}.bin should be 1 to 10, got {labels.min()} to {labels.max()}')
        self._folder.write_array(name, labels.astype(np.int32) - 1)
        self._counts[name] = size

    def _check(self) -> None:
        """Raise an error unless all files were there, and fit together."""
        missing = [f'{name}.bin' for name in self._steps]
        texts = {'class_names': 'class_names.txt', 'folds': 'fold_indices.txt'}
        missing += [filename for fact, filename in texts.items() if fact not in self._facts]
        if missing:
            raise DatasetFormatError(f'it holds no {FOLDER}/{missing[0]}')
        for part in ('train', 'test'):
            if self._counts[f'{part}_X'] != self._counts[f'{part}_y']:
                counts = self._counts[f'{part}_X'], self._counts[f'{part}_y']
                raise DatasetFormatError(f'{part}_X.bin holds {counts[0]:,} images, {part}_y.bin {counts[1]:,} labels')
        for index in itertools.chain.from_iterable(self._facts['folds']):
            if not 0 <= index < self._counts['train_y']:
                raise DatasetFormatError(f'fold_indices.txt names image {index} of {self._counts["train_y"]:,}')


def delete_cache() -> None:
    """Delete the converted data set, and what was downloaded for it."""
    fetch_stl.delete()


class _Chosen:
    """Chosen samples of an array, read when they are asked for."""

    def __init__(self, array: NDArray[Any], indices: NDArray[np.intp]) -> None:
        self.array = array
        self.indices = indices
        self.shape = (len(indices), *array.shape[1:])
        self.ndim = array.ndim
        self.dtype = array.dtype

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: Any) -> NDArray[Any]:
        samples, *others = index if isinstance(index, tuple) and index else (index,)
        chosen: NDArray[Any]
        if isinstance(samples, slice):
            # First the samples, then the other axes: NumPy would pair an array of indices with arrays among `others`.
            chosen = self.array[self.indices[samples]][(slice(None), *others)]
        elif isinstance(samples, (int, np.integer)) or np.ndim(samples) == 1:
            chosen = self.array[(self.indices[samples], *others)]
        else:
            chosen = self[:][index]
        return chosen

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError('the samples are copied when they are read: an array of them is a copy')
        return self[:].astype(self.dtype if dtype is None else dtype, copy=False)


class STL(SplitDataset):
    """Colour images: 5,000 for training and validation, 8,000 for testing, 100,000 without labels.

    Downloaded (2.6 GB) and converted the first time, then opened through memory maps.

    Parameters
    ----------
    n_val_folds : int or None
        The data set names ten overlapping folds of 1,000 images for training. So many of
        them, the first ones, are for validation, and the images in none of these for training;
        0 or `None` for no validation.
    val_lower, val_upper : float
        What pixels of 0 and 255 become.

    Attributes
    ----------
    train_X, val_X, test_X : array-likes of shape (n, 3, 96, 96), float32
        The images, converted when they are read; channels are red, green and blue.
    train_X_u8, val_X_u8, test_X_u8 : array-likes of shape (n, 3, 96, 96), uint8
        The images as they are stored.
    train_y, val_y, test_y : arrays of shape (n,), int32
        The classes.
    unl_X, unl_X_u8 : array-likes of shape (n, 3, 96, 96), float32 and uint8
        The images without labels.
    tr_folds : list of arrays of integers
        The folds, as indices into all images for training.
    class_names : list of str
        What the classes are.
    """

    fetch: ClassVar[FetchedDataset] = fetch_stl

    def __init__(self, n_val_folds: int | None = 1, val_lower: float = 0.0, val_upper: float = 1.0) -> None:
        n_val_folds = check_non_negative('n_val_folds', 0 if n_val_folds is None else n_val_folds)
        folder = Folder(type(self).fetch())
        self.class_names: list[str] = list(folder.facts['class_names'])
        self.tr_folds = [np.array(fold, np.intp) for fold in folder.facts['folds']]
        if n_val_folds > len(self.tr_folds):
            raise ValueError(f'n_val_folds must be at most {len(self.tr_folds)}, got {n_val_folds}')
        images, labels = folder['train_X'], folder['train_y']
        for_val = np.zeros(len(labels), np.bool_)
        for fold in self.tr_folds[:n_val_folds]:
            for_val[fold] = True
        train, val = np.flatnonzero(~for_val), np.flatnonzero(for_val)
        self.train_X_u8, self.train_y = _Chosen(images, train), labels[train]
        self.val_X_u8, self.val_y = _Chosen(images, val), labels[val]
        self.test_X_u8, self.test_y = folder['test_X'], folder['test_y']
        self.unl_X_u8 = folder['unlabeled_X']
        self.train_X = ImageArrayUInt8ToFloat32(self.train_X_u8, val_lower, val_upper)
        self.val_X = ImageArrayUInt8ToFloat32(self.val_X_u8, val_lower, val_upper)
        self.test_X = ImageArrayUInt8ToFloat32(self.test_X_u8, val_lower, val_upper)
        self.unl_X = ImageArrayUInt8ToFloat32(self.unl_X_u8, val_lower, val_upper)

    def unl_source(self, **options: Any) -> ArrayDataSource:
        """Return a source of the images without labels."""
        return ArrayDataSource([self.unl_X], **options)
