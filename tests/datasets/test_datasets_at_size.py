"""The standard data sets from files of their real sizes."""

import io
import os
import shutil
import tarfile

import numpy as np
import pytest

from batchup.datasets import cifar10, cifar100, mnist, stl, svhn, usps

from ..harness import dataset_files as files
from ..harness.homes import finish, start_script

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('home')]

# The module of each, the name of its class, its files, how many samples are in each part, and how many classes.
REAL = {
    'mnist': (mnist, 'MNIST', lambda: files.mnist(60_000, 10_000), (50_000, 10_000, 10_000), 10),
    'cifar10': (cifar10, 'CIFAR10', lambda: files.cifar10(10_000, 10_000), (40_000, 10_000, 10_000), 10),
    'cifar100': (cifar100, 'CIFAR100', lambda: files.cifar100(50_000, 10_000), (40_000, 10_000, 10_000), 100),
    'svhn': (svhn, 'SVHN', lambda: files.svhn(73_257, 26_032), (63_257, 10_000, 26_032), 10),
    'usps': (usps, 'USPS', lambda: files.usps(7_291, 2_007), (6_562, 729, 2_007), 10),
}


@pytest.fixture(autouse=True)
def folder(tmp_path):
    """A folder for gigabytes, which do not stay."""
    yield tmp_path
    shutil.rmtree(tmp_path)


@pytest.mark.parametrize('name', REAL)
def test_real_sizes(name, monkeypatch, folder):
    module, class_name, make, counts, n_classes = REAL[name]
    made, opens = make(), getattr(module, class_name)
    files.place(monkeypatch, opens.fetch, made.files, folder / 'files')
    opened = opens()
    assert (len(opened.train_X), len(opened.val_X), len(opened.test_X)) == counts
    labels = np.concatenate([opened.train_y, opened.val_y, opened.test_y])
    assert np.unique(labels).tolist() == list(range(n_classes))
    np.testing.assert_array_equal(opened.train_y, made.expected['train_y'][: counts[0]])
    np.testing.assert_allclose(opened.val_X[-1], pixels(made.expected['train_X'][-1]), atol=1e-6)


def pixels(images):
    return images / np.float32(255) if images.dtype == np.uint8 else images


# Most of the memory that a process has had. Not as the system says for processes that have
# ended: that counts the process which has started it.
MOST_MEMORY = """
    import re
    from pathlib import Path
    from batchup.datasets.dataset import ExistingSourceFile
    from batchup.datasets.stl import fetch_stl

    def most_memory():
        return int(re.search(r'VmHWM:\\s+(\\d+) kB', Path('/proc/self/status').read_text())[1]) * 1024
"""
FETCH = """
    import sys
    before = most_memory()
    fetch_stl.source_files[:] = [ExistingSourceFile(sys.argv[1])]
    fetch_stl()
    print(most_memory() - before)
"""


class Repeated(io.RawIOBase):
    """A file that repeats a block."""

    def __init__(self, block):
        self.block = block
        self.at = 0

    def read(self, size=-1):
        data = self.block[self.at : self.at + size]
        self.at = (self.at + len(data)) % len(self.block)
        return data + self.read(size - len(data)) if len(data) < size else data


def write_stl(path):
    """Write the archive with its 100,000 images without labels, of which every hundredth is the same."""
    members, expected = files.stl_members(5_000, 8_000, 0)
    block = np.repeat(np.arange(100, dtype=np.uint8), stl.PIXELS).tobytes()
    with tarfile.open(path, 'w:gz', compresslevel=1) as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            unlabelled = name.endswith('unlabeled_X.bin')
            info.size = 100_000 * stl.PIXELS if unlabelled else len(content)
            tar.addfile(info, Repeated(block) if unlabelled else io.BytesIO(content))
    return expected


@pytest.mark.skipif(not os.path.exists('/proc/self/status'), reason='only Linux says how much memory was in use')
def test_stl_is_converted_within_300_mb(folder):
    path = folder / 'stl10_binary.tar.gz'
    expected = write_stl(path)
    used = int(finish(start_script(MOST_MEMORY + FETCH, path), seconds=300))
    print(f'{used / 1e6:.1f} MB')
    assert used < 300e6
    opened = stl.STL()
    assert opened.unl_X.shape == (100_000, 3, 96, 96)
    assert (opened.unl_X_u8[54_321] == 21).all()
    assert len(opened.train_y) + len(opened.val_y) == 5_000
    assert [fold.tolist() for fold in opened.tr_folds] == expected['folds']
    np.testing.assert_array_equal(opened.test_X_u8[7_999], expected['test_X'][7_999])
