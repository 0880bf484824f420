"""Images, and the digits that ship inside the package."""

import numpy as np
import pytest

from batchup.data_source import ArrayDataSource
from batchup.datasets.digits import Digits
from batchup.image.utils import ImageArrayUInt8ToFloat32

LEVELS = np.arange(256, dtype=np.uint8).reshape(16, 4, 4)


@pytest.mark.parametrize(('lower', 'upper'), [(0.0, 1.0), (-1.0, 1.0), (0, 255), (1.0, 0.0)])
def test_bounds(lower, upper):
    images = ImageArrayUInt8ToFloat32(LEVELS, lower, upper)
    np.testing.assert_allclose(images[:].ravel(), np.linspace(lower, upper, 256), atol=1e-6)
    assert images[0, 0, 0] == np.float32(lower)
    assert images[15, 3, 3] == np.float32(upper)


@pytest.mark.parametrize('index', [3, slice(2, 9, 2), np.array([5, 0, 5]), (slice(None), 1), -1])
def test_indexing(index):
    values = ImageArrayUInt8ToFloat32(LEVELS)[index]
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values, LEVELS[index].astype(np.float32) / np.float32(255))


def test_it_looks_like_an_array():
    images = ImageArrayUInt8ToFloat32(LEVELS)
    assert (len(images), images.shape, images.ndim, images.dtype) == (16, (16, 4, 4), 3, np.float32)
    np.testing.assert_array_equal(np.asarray(images), images[:])
    assert np.asarray(images, np.float64).dtype == np.float64


@pytest.mark.parametrize('wrong', [np.zeros((2, 2)), [1, 2], np.zeros(3, np.int8)])
def test_only_uint8(wrong):
    with pytest.raises(TypeError, match='must be an array of uint8, got'):
        ImageArrayUInt8ToFloat32(wrong)


def test_bounds_must_differ():
    with pytest.raises(ValueError, match='must differ, got 1'):
        ImageArrayUInt8ToFloat32(LEVELS, 1, 1)


def test_memory_maps_stay_on_disk(tmp_path):
    np.save(tmp_path / 'images.npy', LEVELS)
    images = ImageArrayUInt8ToFloat32(np.load(tmp_path / 'images.npy', mmap_mode='r'))
    np.testing.assert_array_equal(images[[0, 15]], ImageArrayUInt8ToFloat32(LEVELS)[[0, 15]])


def test_the_digits_are_those_of_the_uci_test_set():
    digits = Digits(n_val=0)
    images = np.concatenate([digits.train_X_u8, digits.test_X_u8])
    labels = np.concatenate([digits.train_y, digits.test_y])
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert (images.shape, images.min(), images.max()) == ((1797, 1, 8, 8), 0, 16)
    assert images.sum() == 561718


@pytest.mark.parametrize(
    ('n_val', 'sizes'), [(200, (1238, 200, 359)), (0, (1438, 0, 359)), (None, (1438, 0, 359)), (1438, (0, 1438, 359))]
)
def test_parts_of_the_digits(n_val, sizes):
    digits = Digits(n_val=n_val)
    parts = [(digits.train_X, digits.train_y), (digits.val_X, digits.val_y), (digits.test_X, digits.test_y)]
    for (images, labels), size in zip(parts, sizes):
        assert (images.shape, images.dtype) == ((size, 1, 8, 8), np.float32)
        assert (labels.shape, labels.dtype) == ((size,), np.int32)


def test_pixels_of_the_digits_are_exact():
    digits = Digits()
    np.testing.assert_array_equal(digits.train_X[:], digits.train_X_u8.astype(np.float32) / 16)
    assert Digits(val_lower=-1).test_X[:].min() == -1


@pytest.mark.parametrize(('n_val', 'error'), [(1439, ValueError), (-1, ValueError), (1.5, TypeError)])
def test_wrong_n_val(n_val, error):
    with pytest.raises(error, match='n_val'):
        Digits(n_val=n_val)


def test_digits_make_batches():
    digits = Digits()
    images, labels = next(ArrayDataSource([digits.train_X, digits.train_y]).batch_iterator(64, shuffle=3))
    assert (images.shape, labels.shape) == ((64, 1, 8, 8), (64,))
