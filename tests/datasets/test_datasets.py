"""The standard data sets, made from small files of their formats."""

import os
from pathlib import Path

import numpy as np
import pytest

from batchup.data_source import ArrayDataSource
from batchup.datasets import cifar10, cifar100, fashion_mnist, mnist, stl, svhn, usps
from batchup.errors import DatasetError, DatasetFormatError, MissingExtraError

from ..cases import assert_same_batches
from ..harness import dataset_files as files
from ..harness.homes import files_in
from ..harness.pools import PROCESS_POOLS, on
from ..harness.work import describe

pytestmark = pytest.mark.usefixtures('home')

# The name of each in the data folder, its files, what fetches them, and what opens them.
WITH_SPLITS = {
    'mnist': (files.mnist, mnist.fetch_mnist, mnist.MNIST, (1, 28, 28)),
    'fashion_mnist': (files.mnist, fashion_mnist.fetch_fashion_mnist, fashion_mnist.FashionMNIST, (1, 28, 28)),
    'cifar10': (files.cifar10, cifar10.fetch_cifar10, cifar10.CIFAR10, (3, 32, 32)),
    'cifar100': (files.cifar100, cifar100.fetch_cifar100, cifar100.CIFAR100, (3, 32, 32)),
    'svhn': (files.svhn, svhn.fetch_svhn, svhn.SVHN, (3, 32, 32)),
    'usps': (files.usps, usps.fetch_usps, usps.USPS, (1, 16, 16)),
}
MODULES = {**{name: globals()[name] for name in WITH_SPLITS}, 'stl': stl}
ALL = {
    **WITH_SPLITS,
    'svhn_extra': (files.svhn_extra, svhn.fetch_svhn_extra, svhn.SVHNExtra, (3, 32, 32)),
    'stl': (files.stl, stl.fetch_stl, stl.STL, (3, 96, 96)),
}
# Arguments, since small data sets have no ten thousand images for validation.
SMALL = {name: {'n_val': 4} if name in WITH_SPLITS else {} for name in ALL}
PARTS = ['train', 'val', 'test']


def placed(name, monkeypatch, tmp_path):
    """Place the files of a data set; return what opens it, and what it should hold."""
    make, fetch, opens, shape = ALL[name]
    made = make()
    files.place(monkeypatch, fetch, made.files, tmp_path / 'files')
    return opens, made.expected, shape


@pytest.fixture(params=WITH_SPLITS)
def split_dataset(request, monkeypatch, tmp_path):
    return placed(request.param, monkeypatch, tmp_path)


@pytest.fixture
def opened_stl(monkeypatch, tmp_path):
    """Open STL-10 with some options; return it, and what it should hold."""
    opens, expected, _ = placed('stl', monkeypatch, tmp_path)
    return lambda **options: (opens(**options), expected)


# What all have in common.


def test_values_and_splits(split_dataset):
    opens, expected, _ = split_dataset
    opened = opens(n_val=4)
    for part, slice_of in (('train', slice(None, -4)), ('val', slice(-4, None))):
        images, labels = expected['train_X'][slice_of], expected['train_y'][slice_of]
        check_images(opened, part, images)
        np.testing.assert_array_equal(getattr(opened, f'{part}_y'), labels)
    check_images(opened, 'test', expected['test_X'])
    np.testing.assert_array_equal(opened.test_y, expected['test_y'])


def check_images(opened, part, images):
    found = getattr(opened, f'{part}_X')[:]
    if images.dtype == np.uint8:
        np.testing.assert_array_equal(getattr(opened, f'{part}_X_u8'), images)
        images = images / np.float32(255)
    np.testing.assert_allclose(found, images, atol=1e-6)


@pytest.mark.parametrize('n_val', [0, None, 1, 12])
def test_shapes_and_types(split_dataset, n_val):
    opens, expected, shape = split_dataset
    opened = opens(n_val=n_val)
    counts = [len(expected['train_y']) - (n_val or 0), n_val or 0, len(expected['test_y'])]
    for part, count in zip(PARTS, counts):
        images, labels = getattr(opened, f'{part}_X'), getattr(opened, f'{part}_y')
        assert (images.shape, images.dtype, images[:].dtype) == ((count, *shape), np.float32, np.float32)
        assert (labels.shape, labels.dtype) == ((count,), np.int32)


def test_all_samples_can_be_for_validation(split_dataset):
    opens, expected, _ = split_dataset
    opened = opens(n_val=len(expected['train_y']))
    assert (len(opened.train_X), len(opened.val_X)) == (0, len(expected['train_y']))


def test_wrong_n_val(split_dataset):
    opens, expected, _ = split_dataset
    n_train = len(expected['train_y'])
    with pytest.raises(ValueError, match=f'n_val must be at most {n_train}, .* got {n_train + 1}'):
        opens(n_val=n_train + 1)
    for wrong, error in ((-1, ValueError), (1.5, TypeError), (True, TypeError), ('4', TypeError)):
        with pytest.raises(error, match='n_val'):
            opens(n_val=wrong)
    with pytest.raises(TypeError, match='n_vla'):
        opens(n_vla=3)


def test_arrays_are_mapped_not_read(split_dataset):
    opened = split_dataset[0](n_val=4)
    names = ('train_X_u8', 'val_X_u8', 'test_X_u8', 'train_y', 'val_y', 'test_y')
    arrays = [getattr(opened, name) for name in names if getattr(opened, name, None) is not None]
    assert len(arrays) >= 3
    for array in arrays:
        assert isinstance(array, np.memmap)
        assert not array.flags.writeable


def test_sources(split_dataset):
    opened = split_dataset[0](n_val=4)
    for source, part in (
        (opened.train_source(), 'train'),
        (opened.val_source(), 'val'),
        (opened.test_source(), 'test'),
    ):
        ((images, labels),) = source.batch_iterator(1000)
        np.testing.assert_array_equal(images, getattr(opened, f'{part}_X')[:])
        np.testing.assert_array_equal(labels, getattr(opened, f'{part}_y'))
    assert opened.train_source(indices=[1, 2], repeats=3).num_samples() == 6


@pytest.mark.parametrize('name', [name for name in ALL if name != 'usps'])
def test_bounds_of_pixels(name, monkeypatch, tmp_path):
    opens, _, _ = placed(name, monkeypatch, tmp_path)
    opened = opens(val_lower=-1, val_upper=3, **SMALL[name])
    images = (opened.X if name == 'svhn_extra' else opened.test_X)[:]
    assert (images.dtype, images.min(), images.max()) == (np.float32, -1, 3)


@pytest.mark.parametrize('name', ALL)
def test_files_are_fetched_once_and_deleted(name, monkeypatch, server, home):
    make, fetch, opens, _ = ALL[name]
    made = make()
    files.serve(monkeypatch, fetch, made.files, server)
    for _ in range(2):
        opens(**SMALL[name])
    assert [asked.path[1:] for asked in server.requests] == list(made.files)
    assert os.listdir(home / '.batchup' / 'data' / name) != []
    assert all(file.startswith(f'{name}/') for file in files_in(home / '.batchup' / 'data'))
    MODULES[name.removesuffix('_extra')].delete_cache()
    assert files_in(home) == []


@pytest.mark.parametrize('name', ALL)
def test_what_was_converted_is_whole(name, monkeypatch, tmp_path):
    from batchup.datasets._store import Folder

    placed(name, monkeypatch, tmp_path)
    path = Path(ALL[name][1]())
    assert Folder(str(path)).damaged_files() == []
    largest = max(path.glob('*.npy'), key=os.path.getsize)
    with open(largest, 'r+b') as file:
        file.seek(-1, os.SEEK_END)
        last = file.read()
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last[0] ^ 1]))
    assert Folder(str(path)).damaged_files() == [largest.name]


@pytest.mark.parametrize('name', ALL)
def test_the_files_are_those_of_the_table(name):
    """By checksum, and from addresses that end in their names."""
    for file in ALL[name][1].source_files:
        assert len(file.checksum.digest) == (32 if name == 'usps' else 64)
        assert all(url.endswith(f'/{file.filename}') for url in file.urls)


@pytest.mark.parametrize('damage', ['no facts', 'no json', 'a list', 'version', 'no array', 'cut', 'pickle'])
def test_a_folder_that_is_damaged(damage, monkeypatch, tmp_path):
    opens, _, _ = placed('mnist', monkeypatch, tmp_path)
    opens(n_val=0)
    folder = Path(mnist.fetch_mnist())
    facts = folder / 'dataset.json'
    if damage == 'no facts':
        facts.unlink()
    elif damage == 'no array':
        (folder / 'train_X.npy').unlink()
    elif damage == 'cut':
        os.truncate(folder / 'train_X.npy', 1000)
    elif damage == 'pickle':
        np.save(folder / 'train_X.npy', np.array([{}]))
    else:
        facts.write_text({'no json': '{', 'a list': '[]', 'version': '{"version": 0}'}[damage])
    with pytest.raises(DatasetFormatError, match=r'/mnist cannot be used: .*; delete the folder to have it made again'):
        opens(n_val=0)


# What some have.


@pytest.mark.parametrize('name', ['cifar10', 'cifar100', 'stl'])
def test_class_names(name, monkeypatch, tmp_path):
    opens, expected, _ = placed(name, monkeypatch, tmp_path)
    opened = opens(**SMALL[name])
    assert opened.class_names == expected['class_names']


def test_fashion_mnist_has_a_name_for_each_label():
    names = fashion_mnist.FashionMNIST.class_names
    assert (len(names), names[0], names[9]) == (10, 'T-shirt/top', 'ankle boot')


def test_cifar100_has_coarse_labels(monkeypatch, tmp_path):
    opens, expected, _ = placed('cifar100', monkeypatch, tmp_path)
    opened = opens(n_val=4)
    assert opened.class_names_coarse == expected['class_names_coarse']
    for part, values in (('train', expected['train_y_coarse'][:-4]), ('val', expected['train_y_coarse'][-4:])):
        found = getattr(opened, f'{part}_y_coarse')
        assert found.dtype == np.int32
        np.testing.assert_array_equal(found, values)
    np.testing.assert_array_equal(opened.test_y_coarse, expected['test_y_coarse'])


def test_svhn_extra(monkeypatch, tmp_path):
    opens, expected, _ = placed('svhn_extra', monkeypatch, tmp_path)
    opened = opens()
    np.testing.assert_array_equal(opened.X_u8, expected['X'])
    np.testing.assert_array_equal(opened.y, expected['y'])
    assert (opened.X.dtype, opened.y.dtype) == (np.float32, np.int32)
    ((images, labels),) = opened.source().batch_iterator(100)
    assert (images.shape, labels.shape) == ((9, 3, 32, 32), (9,))


def test_svhn_without_scipy(monkeypatch, server):
    files.serve(monkeypatch, svhn.fetch_svhn, {'train_32x32.mat': b''}, server)
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install '\.\[svhn\]' in a copy"):
        svhn.SVHN()
    assert server.requests == []


def test_svhn_that_is_converted_needs_no_scipy(monkeypatch, tmp_path):
    opens, _, _ = placed('svhn', monkeypatch, tmp_path)
    opens(n_val=4)
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    assert len(opens(n_val=4).val_X) == 4


# STL-10.


def test_the_first_folds_are_for_validation(opened_stl):
    for count in (1, 3):
        opened, expected = opened_stl(n_val_folds=count)
        val = sorted(set().union(*expected['folds'][:count]))
        train = [number for number in range(20) if number not in val]
        np.testing.assert_array_equal(opened.val_X_u8[:], expected['train_X'][val])
        np.testing.assert_array_equal(opened.val_y, expected['train_y'][val])
        np.testing.assert_array_equal(opened.train_X_u8[:], expected['train_X'][train])
        np.testing.assert_array_equal(opened.train_y, expected['train_y'][train])


@pytest.mark.parametrize('count', [0, None])
def test_no_folds_for_validation(opened_stl, count):
    opened, expected = opened_stl(n_val_folds=count)
    assert (opened.val_X.shape, opened.val_y.shape) == ((0, 3, 96, 96), (0,))
    assert (opened.val_X[:].dtype, opened.val_X_u8.dtype, opened.val_y.dtype) == (np.float32, np.uint8, np.int32)
    np.testing.assert_array_equal(opened.train_X_u8[:], expected['train_X'])


def test_what_else_stl_holds(opened_stl):
    opened, expected = opened_stl()
    assert [fold.tolist() for fold in opened.tr_folds] == expected['folds']
    np.testing.assert_array_equal(opened.test_X_u8, expected['test_X'])
    np.testing.assert_array_equal(opened.test_y, expected['test_y'])
    np.testing.assert_array_equal(opened.unl_X_u8, expected['unl_X'])
    np.testing.assert_allclose(opened.unl_X[:], expected['unl_X'] / 255, atol=1e-6)
    assert isinstance(opened.unl_X_u8, np.memmap)
    ((unlabelled,),) = opened.unl_source().batch_iterator(100)
    assert unlabelled.shape == (3, 3, 96, 96)


@pytest.mark.parametrize(('count', 'error'), [(11, ValueError), (-1, ValueError), (1.5, TypeError), (True, TypeError)])
def test_wrong_folds(opened_stl, count, error):
    with pytest.raises(error, match='n_val_folds'):
        opened_stl(n_val_folds=count)


INDICES = [
    3, -1, np.int64(2), slice(2, 9, 3), slice(None), [4, 0, 4], np.array([], np.intp), np.arange(16) % 3 == 0,
    (2, 1), (slice(3), 1), (slice(None), [0, 2]), ([1, 2], [0, 2]), (Ellipsis, 0), (3, Ellipsis, 5), (None, 2), (),
    (slice(2), Ellipsis, slice(3)), (slice(None), None, 1), np.array([[0, 1], [2, 3]]), Ellipsis,
]  # fmt: skip


@pytest.mark.parametrize('index', INDICES, ids=str)
def test_chosen_images_are_indexed_as_an_array(opened_stl, index):
    images = opened_stl()[0].train_X_u8
    found, expected = images[index], np.asarray(images)[index]
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.uint8


def test_chosen_images_look_like_an_array(opened_stl):
    images = opened_stl()[0].train_X_u8
    assert (len(images), images.shape, images.ndim, images.dtype) == (16, (16, 3, 96, 96), 4, np.uint8)
    assert np.asarray(images, np.float64).dtype == np.float64
    with pytest.raises(IndexError):
        images[16]


def test_an_archive_without_unlabelled_images_in_it(monkeypatch, tmp_path):
    made = files.stl(n_unlabelled=0)
    files.place(monkeypatch, stl.fetch_stl, made.files, tmp_path / 'files')
    assert stl.STL().unl_X.shape == (0, 3, 96, 96)


# In pools.


@on(PROCESS_POOLS)
@pytest.mark.parametrize('name', ['mnist', 'stl'])
def test_worker_processes_read_the_same_batches(pool, name, monkeypatch, tmp_path):
    opens, _, _ = placed(name, monkeypatch, tmp_path)
    opened = opens(**SMALL[name])
    ds = opened.train_source()
    assert isinstance(ds, ArrayDataSource)
    expected = list(ds.batch_iterator(5, shuffle=3))
    assert_same_batches(pool.parallel_data_source(ds).batch_iterator(5, shuffle=3), expected)


def filename_of(images):
    """Return the kind of memory that images lie in, and its file."""
    kind, filename, _ = describe(getattr(images.arr_u8, 'array', images.arr_u8))
    return kind, str(filename)


@on(['spawn'])
@pytest.mark.parametrize('name', ['mnist', 'stl'])
def test_nothing_is_sent_to_worker_processes(pool, name, monkeypatch, tmp_path):
    opens, _, _ = placed(name, monkeypatch, tmp_path)
    images = opens(**SMALL[name]).train_X
    found = pool.work_stream([(filename_of, (pool.shared_constant(images),))]).retrieve()
    assert found == ('memmap', f'{ALL[name][1]()}/train_X.npy')


def test_every_failure_is_a_dataset_error(server, monkeypatch):
    files.serve(monkeypatch, mnist.fetch_mnist, {}, server)
    missing = files.DownloadSourceFile('missing', base_url=server.url)
    monkeypatch.setattr(mnist.fetch_mnist, 'source_files', [missing])
    with pytest.raises(DatasetError, match='HTTP 404'):
        mnist.MNIST()
