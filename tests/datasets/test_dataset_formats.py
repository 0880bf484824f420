"""Files of data sets that are damaged, or hold what they should not."""

import bz2
import contextlib
import gzip
import io
import pickle
import struct
import tarfile

import numpy as np
import pytest

from batchup.datasets import cifar10, cifar100, mnist, stl, svhn, usps
from batchup.errors import DatasetFormatError

from ..harness import dataset_files as files
from ..harness.homes import files_in

pytestmark = pytest.mark.usefixtures('home')

FETCHERS = {
    'mnist': mnist.fetch_mnist,
    'cifar10': cifar10.fetch_cifar10,
    'cifar100': cifar100.fetch_cifar100,
    'svhn': svhn.fetch_svhn,
    'stl': stl.fetch_stl,
    'usps': usps.fetch_usps,
}


@pytest.fixture
def convert(monkeypatch, tmp_path):
    """Convert files; return the folder."""

    def convert_files(name, contents):
        files.place(monkeypatch, FETCHERS[name], contents, tmp_path / 'files')
        return FETCHERS[name]()

    return convert_files


@pytest.fixture
def refuse(convert, home):
    """Fail to convert files; return the message."""

    def refuse_files(name, contents):
        with pytest.raises(DatasetFormatError) as caught:
            convert(name, contents)
        assert files_in(home) == []
        return str(caught.value)

    return refuse_files


def changed(name, number, change):
    """Make the files of a data set, and change one."""
    contents = getattr(files, name)().files
    key = list(contents)[number]
    return {**contents, key: change(contents[key])}, key


DAMAGES = {
    'empty': lambda content: b'',
    'one byte': lambda content: content[:1],
    'half': lambda content: content[: len(content) // 2],
    'other': lambda content: b'<html>not here</html>' * 100,
    'zeros': lambda content: bytes(len(content)),
    'changed': lambda content: content[:100] + bytes(64) + content[164:],
}


@pytest.mark.parametrize('damage', DAMAGES)
@pytest.mark.parametrize('name', FETCHERS)
def test_damaged_files_are_named(refuse, name, damage):
    contents, key = changed(name, 0, DAMAGES[damage])
    assert f'files/{key}' in refuse(name, contents)


@pytest.mark.parametrize('name', ['mnist', 'svhn', 'usps'])
def test_the_last_byte_is_needed(refuse, name):
    """Archives end with bytes that nobody reads."""
    contents, key = changed(name, 1, lambda content: content[:-1])
    assert f'files/{key}' in refuse(name, contents)


@pytest.mark.parametrize('seed', range(20))
@pytest.mark.parametrize('name', FETCHERS)
def test_flipped_bits_are_no_other_error(convert, name, seed):
    """They are found, or they are in the pixels, where only the checksum of the download tells."""
    rng = np.random.default_rng(seed)

    def flip(content):
        changed = bytearray(content)
        changed[rng.integers(len(content))] ^= 1 << rng.integers(8)
        return bytes(changed)

    contents, _ = changed(name, 0, flip)
    with contextlib.suppress(DatasetFormatError):
        assert convert(name, contents)


# The MNIST family.


def refused_mnist(refuse, number, content):
    return refuse('mnist', changed('mnist', number, lambda _: content)[0])


@pytest.mark.parametrize(
    'header', [(0, 9, 3), (0, 8, 1), (0, 8, 2), (1, 8, 3), (8, 0, 3)], ids=['type', '1-D', '2-D', 'zero', 'order']
)
def test_another_magic_number(refuse, header):
    content = gzip.compress(struct.pack('>HBB3I', *header, 30, 28, 28) + bytes(30 * 784))
    assert 'it should begin with 0, type 8 and 3 dimensions' in refused_mnist(refuse, 0, content)


@pytest.mark.parametrize('count', [31, 2**31, 2**32 - 1])
def test_fewer_images_than_promised(refuse, count):
    content = gzip.compress(struct.pack('>HBB3I', 0, 8, 3, count, 28, 28) + bytes(30 * 784))
    assert 'bytes are missing at its end' in refused_mnist(refuse, 0, content)


def test_more_images_than_promised(refuse):
    content = gzip.compress(struct.pack('>HBB3I', 0, 8, 3, 29, 28, 28) + bytes(30 * 784))
    assert 'there is more in it than its header says' in refused_mnist(refuse, 0, content)


@pytest.mark.parametrize('shape', [(32, 32), (28, 0), (2**32 - 1, 2**32 - 1)])
def test_images_of_another_size(refuse, shape):
    content = gzip.compress(struct.pack('>HBB3I', 0, 8, 3, 30, *shape) + bytes(100))
    assert f'it should hold samples of shape (28, 28), got {shape}' in refused_mnist(refuse, 0, content)


def test_labels_of_other_images(refuse):
    message = refused_mnist(refuse, 1, files.idx(np.zeros(29)))
    assert 'holds 30 images' in message
    assert '29 labels' in message


def test_labels_that_are_no_digits(refuse):
    assert 'labels should be 0 to 9, got 10' in refused_mnist(refuse, 1, files.idx(np.arange(30) % 11))


def test_no_images_at_all(convert):
    made = files.mnist(0, 0)
    convert('mnist', made.files)
    opened = mnist.MNIST(n_val=0)
    assert (opened.train_X.shape, opened.test_y.shape) == ((0, 1, 28, 28), (0,))


# Archives.


def members_of(name):
    return getattr(files, f'{name}_members')()[0]


def archive_of(name, members):
    (key,) = getattr(files, name)().files
    return {key: files.archive(members)}


ARCHIVES = ['cifar10', 'cifar100', 'stl']
NEEDED = [
    (name, member) for name in ARCHIVES for member in members_of(name) if not member.endswith('readme.html')
]  # fmt: skip


@pytest.mark.parametrize(('name', 'member'), NEEDED)
def test_missing_members_are_named(refuse, name, member):
    members = members_of(name)
    del members[member]
    assert f'holds no {member}' in refuse(name, archive_of(name, members))


@pytest.mark.parametrize('kind', [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
@pytest.mark.parametrize('name', ARCHIVES)
def test_only_files_are_read(refuse, name, kind):
    members = members_of(name)
    first = next(iter(members))
    members[first] = files.special(first, kind, '/etc/passwd')
    assert f'holds no {first}' in refuse(name, archive_of(name, members))


TRAPPED = []


class Trap:
    """Unpickling it is noted."""

    def __reduce__(self):
        return TRAPPED.append, (1,)


@pytest.mark.parametrize('name', ARCHIVES)
def test_what_else_is_in_an_archive_is_ignored(convert, home, tmp_path, name):
    members = members_of(name)
    folder = next(iter(members)).partition('/')[0]
    others = {
        '../escaped': b'1',
        f'{tmp_path}/escaped': b'2',
        f'{folder}/../../escaped': b'3',
        f'{folder}/data_batch_1': pickle.dumps(Trap()),
        f'{folder}/sub/train_X.bin': b'4',
        'sub/test_batch.bin': b'5',
        f'{folder}/link': files.special(f'{folder}/link', tarfile.SYMTYPE, '/etc'),
        f'{folder}/link/passwd': b'6',
    }
    before = files_in(tmp_path)
    convert(name, archive_of(name, {**others, **members}))
    added = [file for file in files_in(tmp_path) if file not in before]
    assert all(file.startswith(('home/.batchup/data/', 'files/')) for file in added)
    assert not [file for file in added if not file.endswith(('.npy', '.json', '.gz'))]
    assert TRAPPED == []


@pytest.mark.parametrize('name', ['cifar10', 'cifar100'])
def test_records_that_are_cut(refuse, name):
    members = members_of(name)
    last = [member for member in members if member.endswith('.bin')][-1]
    members[last] = members[last][:-1]
    message = refuse(name, archive_of(name, members))
    assert f'{last} in' in message
    assert 'should hold records of 3,07' in message


@pytest.mark.parametrize(
    ('name', 'member', 'position', 'label'),
    [
        ('cifar10', 'cifar-10-batches-bin/data_batch_2.bin', 0, 10),
        ('cifar10', 'cifar-10-batches-bin/test_batch.bin', 3073, 255),
        ('cifar100', 'cifar-100-binary/train.bin', 0, 20),
        ('cifar100', 'cifar-100-binary/test.bin', 1, 100),
    ],
)
def test_labels_without_a_name(refuse, name, member, position, label):
    members = members_of(name)
    content = bytearray(members[member])
    content[position] = label
    members[member] = bytes(content)
    assert f'has a label {label}, but only' in refuse(name, archive_of(name, members))


def refused_stl(refuse, **contents):
    """Fail to convert STL-10 with other members."""
    others = {f'stl10_binary/{name.replace("__", ".")}': content for name, content in contents.items()}
    return refuse('stl', archive_of('stl', {**members_of('stl'), **others}))


@pytest.mark.parametrize('label', [0, 11])
def test_labels_of_stl_are_1_to_10(refuse, label):
    assert 'labels in train_y.bin should be 1 to 10' in refused_stl(refuse, train_y__bin=bytes([label, *[3] * 19]))


def test_images_of_stl_that_are_cut(refuse):
    assert 'unlabeled_X.bin should hold images of 27,648' in refused_stl(refuse, unlabeled_X__bin=bytes(27_649))


def test_labels_of_stl_for_other_images(refuse):
    assert 'train_X.bin holds 20 images, train_y.bin 19 labels' in refused_stl(refuse, train_y__bin=bytes([3] * 19))


@pytest.mark.parametrize('index', ['20', '-1'])
def test_folds_of_other_images(refuse, index):
    message = refused_stl(refuse, fold_indices__txt=f'0 1 2\n3 {index}\n'.encode())
    assert f'fold_indices.txt names image {index} of 20' in message


def test_folds_that_are_no_numbers(refuse):
    assert 'is damaged, or of another format' in refused_stl(refuse, fold_indices__txt=b'0 one 2\n')


# SVHN.


def refused_svhn(refuse, content):
    return refuse('svhn', changed('svhn', 0, lambda _: content)[0])


@pytest.mark.parametrize('label', [11, 255])
def test_labels_of_svhn_are_1_to_10(refuse, label):
    content = files.mat(np.zeros((3, 3, 32, 32), np.uint8), np.array([1, label, 2]))
    assert f'labels should be 1 to 10, got 1 to {label}' in refused_svhn(refuse, content)


def test_svhn_of_another_shape(refuse):
    content = files.mat(np.zeros((3, 3, 16, 16), np.uint8), np.ones(3))
    assert 'X should be uint8 of shape (32, 32, 3, n), got uint8 (16, 16, 3, 3)' in refused_svhn(refuse, content)


def test_svhn_of_another_type(refuse):
    content = files.mat(np.zeros((3, 3, 32, 32)), np.ones(3))
    assert 'X should be uint8 of shape (32, 32, 3, n), got float64' in refused_svhn(refuse, content)


def test_svhn_with_another_number_of_labels(refuse):
    content = files.mat(np.zeros((3, 3, 32, 32), np.uint8), np.ones(4))
    assert 'got uint8 (32, 32, 3, 3)' in refused_svhn(refuse, content)


@pytest.mark.parametrize('labels', [['a', 'b'], np.array([[1], [[2, 3]]], object)])
def test_svhn_with_labels_that_are_no_numbers(refuse, labels):
    scipy_io = pytest.importorskip('scipy.io')
    file = io.BytesIO()
    scipy_io.savemat(file, {'X': np.zeros((32, 32, 3, 2), np.uint8), 'y': labels})
    assert 'labels should be numbers' in refused_svhn(refuse, file.getvalue())


def test_svhn_without_images(refuse):
    scipy_io = pytest.importorskip('scipy.io')
    file = io.BytesIO()
    scipy_io.savemat(file, {'y': np.ones((3, 1))})
    assert "'X'" in refused_svhn(refuse, file.getvalue())


# USPS.


def refused_usps(refuse, text):
    return refuse('usps', changed('usps', 0, lambda _: bz2.compress(text.encode()))[0])


@pytest.mark.parametrize(
    ('text', 'says'),
    [
        ('1 0:0.5', 'line 1 has a value 0 of 256'),
        ('1 1:0\n2 257:0.5', 'line 2 has a value 257 of 256'),
        ('0 1:0', 'labels should be 1 to 10, got 0 to 0'),
        ('11 1:0', 'labels should be 1 to 10, got 11 to 11'),
        ('one 1:0', 'is damaged, or of another format'),
        ('1 1:', 'is damaged, or of another format'),
        ('1 1', 'is damaged, or of another format'),
        ('1 1:nan', 'not finite'),
        ('1 1:inf', 'not finite'),
        ('1 1:é', 'is damaged, or of another format'),
    ],
)
def test_lines_that_are_wrong(refuse, text, says):
    assert says in refused_usps(refuse, text)


def test_values_that_are_left_out_are_0(convert):
    contents, _ = changed('usps', 0, lambda _: bz2.compress(b'\n3 2:1 256:-1\n\n10\n'))
    convert('usps', contents)
    opened = usps.USPS(n_val=0)
    assert opened.train_y.tolist() == [2, 9]
    expected = np.full((2, 256), 0.5, np.float32)
    expected[0, [1, 255]] = 1, 0
    np.testing.assert_array_equal(opened.train_X[:].reshape(2, 256), expected)
