"""Files in the formats of the standard data sets, with random images, as small as tests want them."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import struct
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from batchup.datasets.dataset import DownloadSourceFile, ExistingSourceFile, FetchedDataset

from .servers import Server


class Made(NamedTuple):
    """The files of a data set, and what should come out of them, by the names of attributes."""

    files: dict[str, bytes]
    expected: dict[str, Any]


def samples(shape: tuple[int, ...], n_classes: int, seed: int) -> tuple[Any, Any]:
    """Make images, the first with pixels of 0 and 255, and labels, the highest one among them."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, shape, np.uint8)
    images.reshape(-1)[:2] = [0, 255][: images.size]
    labels = rng.integers(0, n_classes, shape[0]).astype(np.int32)
    labels[-1:] = n_classes - 1
    return images, labels


def split_samples(shape: tuple[int, ...], n_train: int, n_test: int, n_classes: int, seed: int = 0) -> dict[str, Any]:
    train_X, train_y = samples((n_train, *shape), n_classes, seed)
    test_X, test_y = samples((n_test, *shape), n_classes, seed + 1)
    return {'train_X': train_X, 'train_y': train_y, 'test_X': test_X, 'test_y': test_y}


def idx(values: Any) -> bytes:
    """Write an array in the IDX format, compressed."""
    header = struct.pack(f'>HBB{values.ndim}I', 0, 8, values.ndim, *values.shape)
    return gzip.compress(header + values.astype(np.uint8).tobytes(), 1)


def mnist(n_train: int = 30, n_test: int = 7, seed: int = 0) -> Made:
    expected = split_samples((1, 28, 28), n_train, n_test, 10, seed)
    files = {}
    for prefix, part in (('train', 'train'), ('t10k', 'test')):
        files[f'{prefix}-images-idx3-ubyte.gz'] = idx(expected[f'{part}_X'][:, 0])
        files[f'{prefix}-labels-idx1-ubyte.gz'] = idx(expected[f'{part}_y'])
    return Made(files, expected)


def archive(members: Mapping[str, bytes | tarfile.TarInfo], level: int = 1) -> bytes:
    """Pack files into a compressed archive; a TarInfo is a member of another kind."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode='w:gz', compresslevel=level) as tar:
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                tar.addfile(content)
            else:
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return packed.getvalue()


def special(name: str, kind: bytes, target: str = '') -> tarfile.TarInfo:
    """Make a member that is no file: a link to a target, a folder or a device."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def records(images: Any, *labels: Any) -> bytes:
    columns = [np.asarray(label, np.uint8)[:, np.newaxis] for label in labels]
    return np.concatenate([*columns, images.reshape(len(images), -1)], axis=1).tobytes()


CIFAR10_NAMES = ['airplane', 'automobile', 'bird', 'cat', 'deer', 'dog', 'frog', 'horse', 'ship', 'truck']


def cifar10_members(each: int = 4, n_test: int = 5) -> tuple[dict[str, bytes], dict[str, Any]]:
    expected = split_samples((3, 32, 32), 5 * each, n_test, 10)
    folder = 'cifar-10-batches-bin'
    # With what else the real archive holds, and the empty line at the end of the names.
    members = {
        f'{folder}/batches.meta.txt': '\n'.join([*CIFAR10_NAMES, '', '']).encode(),
        f'{folder}/readme.html': b'<a>',
    }
    for number in range(5):
        part = slice(number * each, (number + 1) * each)
        members[f'{folder}/data_batch_{number + 1}.bin'] = records(expected['train_X'][part], expected['train_y'][part])
    members[f'{folder}/test_batch.bin'] = records(expected['test_X'], expected['test_y'])
    return members, {**expected, 'class_names': CIFAR10_NAMES}


def cifar10(each: int = 4, n_test: int = 5) -> Made:
    members, expected = cifar10_members(each, n_test)
    return Made({'cifar-10-binary.tar.gz': archive(members)}, expected)


def cifar100_members(n_train: int = 20, n_test: int = 5) -> tuple[dict[str, bytes], dict[str, Any]]:
    expected = split_samples((3, 32, 32), n_train, n_test, 100)
    members = {}
    for part in ('train', 'test'):
        expected[f'{part}_y_coarse'] = expected[f'{part}_y'] // 5
        values = [expected[f'{part}_{name}'] for name in ('X', 'y_coarse', 'y')]
        members[f'cifar-100-binary/{part}.bin'] = records(*values)
    for kind, count in (('fine', 100), ('coarse', 20)):
        names = [f'{kind} {number}' for number in range(count)]
        members[f'cifar-100-binary/{kind}_label_names.txt'] = '\n'.join([*names, '']).encode()
        expected['class_names' if kind == 'fine' else 'class_names_coarse'] = names
    return members, expected


def cifar100(n_train: int = 20, n_test: int = 5) -> Made:
    members, expected = cifar100_members(n_train, n_test)
    return Made({'cifar-100-binary.tar.gz': archive(members)}, expected)


def mat(images: Any, labels: Any, **others: Any) -> bytes:
    """Write a MATLAB file of images of shape (n, 3, 32, 32)."""
    scipy_io = pytest.importorskip('scipy.io')
    file = io.BytesIO()
    # Digits as uint8 in a column, 0 as 10.
    column = np.where(labels == 0, 10, labels).astype(np.uint8)[:, np.newaxis]
    scipy_io.savemat(file, {'X': images.transpose(2, 3, 1, 0), 'y': column, **others}, do_compression=True)
    return file.getvalue()


def svhn(n_train: int = 12, n_test: int = 5) -> Made:
    expected = split_samples((3, 32, 32), n_train, n_test, 10)
    expected['train_y'][:1] = 0
    files = {f'{part}_32x32.mat': mat(expected[f'{part}_X'], expected[f'{part}_y']) for part in ('train', 'test')}
    return Made(files, expected)


def svhn_extra(n: int = 9) -> Made:
    images, labels = samples((n, 3, 32, 32), 10, 5)
    return Made({'extra_32x32.mat': mat(images, labels)}, {'X': images, 'y': labels})


STL_NAMES = ['airplane', 'bird', 'car', 'cat', 'deer', 'dog', 'horse', 'monkey', 'ship', 'truck']


def stl_members(n_train: int = 20, n_test: int = 4, n_unlabelled: int = 3) -> tuple[dict[str, bytes], dict[str, Any]]:
    expected = split_samples((3, 96, 96), n_train, n_test, 10)
    expected['unl_X'], _ = samples((n_unlabelled, 3, 96, 96), 10, 7)
    rng = np.random.default_rng(3)
    folds = [rng.choice(n_train, max(1, n_train // 5), replace=False).tolist() for _ in range(10)]
    folder = 'stl10_binary'
    members = {
        f'{folder}/test_X.bin': by_columns(expected['test_X']),
        f'{folder}/test_y.bin': (expected['test_y'] + 1).astype(np.uint8).tobytes(),
        f'{folder}/train_X.bin': by_columns(expected['train_X']),
        f'{folder}/train_y.bin': (expected['train_y'] + 1).astype(np.uint8).tobytes(),
        f'{folder}/unlabeled_X.bin': by_columns(expected['unl_X']),
        f'{folder}/class_names.txt': '\n'.join([*STL_NAMES, '']).encode(),
        f'{folder}/fold_indices.txt': ''.join(' '.join(map(str, fold)) + ' \n' for fold in folds).encode(),
    }
    return members, {**expected, 'class_names': STL_NAMES, 'folds': folds}


def by_columns(images: Any) -> bytes:
    data: bytes = images.swapaxes(-1, -2).tobytes()
    return data


def stl(n_train: int = 20, n_test: int = 4, n_unlabelled: int = 3) -> Made:
    members, expected = stl_members(n_train, n_test, n_unlabelled)
    return Made({'stl10_binary.tar.gz': archive(members)}, expected)


def usps_line(values: Any, label: int) -> str:
    return ' '.join([str(label + 1), *(f'{number}:{value:g}' for number, value in enumerate(values, 1))])


def usps(n_train: int = 15, n_test: int = 6) -> Made:
    expected = split_samples((1, 16, 16), n_train, n_test, 10)
    files = {}
    for part, name in (('train', 'usps.bz2'), ('test', 'usps.t.bz2')):
        values = np.round(expected[f'{part}_X'] / 127.5 - 1, 3)
        expected[f'{part}_X'] = ((values + 1) / 2).astype(np.float32)
        lines = [usps_line(row.ravel(), label) for row, label in zip(values, expected[f'{part}_y'])]
        files[name] = bz2.compress('\n'.join([*lines, '']).encode(), 1)
    return Made(files, expected)


def place(monkeypatch: pytest.MonkeyPatch, fetch: FetchedDataset, files: Mapping[str, bytes], folder: Path) -> None:
    """Have a data set made from files in a folder."""
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    monkeypatch.setattr(fetch, 'source_files', [ExistingSourceFile(folder / name) for name in files])


def serve(monkeypatch: pytest.MonkeyPatch, fetch: FetchedDataset, files: Mapping[str, bytes], server: Server) -> None:
    """Have the files of a data set downloaded from a server."""
    for name, content in files.items():
        server.give(name, content)
    sources = [
        DownloadSourceFile(name, base_url=server.url, sha256=hashlib.sha256(content).hexdigest())
        for name, content in files.items()
    ]
    monkeypatch.setattr(fetch, 'source_files', sources)
