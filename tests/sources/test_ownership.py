"""Batches belong to the user: kept or written into, they and the data stay as they are."""

import gc
import itertools
import threading

import numpy as np
import pytest

from batchup._arrays import rows
from batchup.data_source import ArrayDataSource

from ..cases import assert_same_batch

N = 150
RNG = np.random.RandomState(0)

STRUCTURE = np.dtype([('a', 'f4'), ('b', 'i2', (2,)), ('c', 'S3')])


def structured():
    data = np.zeros(N, STRUCTURE)
    data['a'], data['b'], data['c'] = RNG.rand(N), RNG.randint(0, 9, (N, 2)), b'xyz'
    return data


def read_only():
    data = RNG.rand(N, 3)
    data.flags.writeable = False
    return data


DATA = {
    'float32': lambda: RNG.rand(N, 5).astype(np.float32),
    'wide rows': lambda: RNG.rand(N, 4000),
    'uint8': lambda: RNG.randint(0, 255, (N, 3, 4, 4)).astype(np.uint8),
    'bool': lambda: RNG.rand(N) > 0.5,
    'complex': lambda: RNG.rand(N) + 1j,
    'big endian': lambda: RNG.rand(N, 2).astype('>f8'),
    'structured': structured,
    'object': lambda: np.array([{'n': k} for k in range(N)], dtype=object),
    'strings': lambda: np.array([f'name {k}' for k in range(N)]),
    'bytes': lambda: np.array([b'%d' % k for k in range(N)]),
    'datetime': lambda: np.datetime64('2020-01-01', 'ns') + np.arange(N),
    'timedelta': lambda: np.arange(N).astype('m8[s]'),
    'zero width': lambda: np.zeros((N, 0)),
    'zero width inside': lambda: np.zeros((N, 2, 0, 3), np.int16),
    'empty strings': lambda: np.zeros(N, 'U0'),
    'transposed': lambda: RNG.rand(6, N).T,
    'strided': lambda: RNG.rand(2 * N, 6)[::2, ::3],
    'reversed': lambda: RNG.rand(N, 3)[::-1],
    'broadcast': lambda: np.broadcast_to(np.arange(3), (N, 3)),
    'unaligned': lambda: np.frombuffer(RNG.bytes(N * 8 + 1), np.uint8)[1:].view('<i8'),
    'read-only': read_only,
    'masked': lambda: np.ma.masked_array(np.arange(N), np.arange(N) % 3 == 0),
}


if hasattr(np.dtypes, 'StringDType'):  # since NumPy 2
    DATA['variable strings'] = lambda: np.array(['x' * k for k in range(N)], np.dtypes.StringDType())


@pytest.fixture(params=[1, 2**40], ids=['recycled', 'fresh'])
def _memory(request, monkeypatch):
    """Let memory of any size be recycled, or none."""
    monkeypatch.setattr(rows, 'RECYCLED_BYTES', request.param)


@pytest.mark.usefixtures('_memory')
@pytest.mark.parametrize('kind', DATA)
@pytest.mark.parametrize('batch_size', [1, 7, 64, 150, 400])
def test_kept_and_overwritten_batches(kind, batch_size):
    data = DATA[kind]()
    original = data.copy()
    source = ArrayDataSource([data, np.arange(N)], repeats=2)
    for shuffle in (None, 42):
        kept = [batch for epoch in range(2) for batch in source.batch_iterator(batch_size, shuffle, epoch=epoch)]
        for array, indices in kept:
            assert_same_batch(array, original[indices])
        for array, indices in kept[::3]:
            array[:] = original[:1]
            indices[:] = -1
        for array, indices in itertools.compress(kept, [number % 3 for number in range(len(kept))]):
            assert_same_batch(array, original[indices])
        np.testing.assert_array_equal(data, original)


@pytest.mark.usefixtures('_memory')
@pytest.mark.parametrize('kind', DATA)
def test_no_rows(kind):
    data = DATA[kind]()[:0]
    source = ArrayDataSource([data], repeats=-1)
    assert list(source.batch_iterator(4, shuffle=1)) == []
    (shard,) = next(ArrayDataSource([DATA[kind]()]).batch_iterator(1, shard=(0, 2)))
    assert (shard.shape, shard.dtype) == (data.shape, data.dtype)


@pytest.mark.usefixtures('_memory')
@pytest.mark.parametrize('kind', ['float32', 'wide rows', 'structured', 'object', 'transposed'])
def test_batches_share_memory_with_nothing(kind):
    data = DATA[kind]()
    source = ArrayDataSource([data])
    kept = [batch[0] for shuffle in (None, 1, 2) for batch in source.batch_iterator(40, shuffle=shuffle)]
    for one, other in itertools.combinations([data, *kept], 2):
        assert not np.shares_memory(one, other)


@pytest.mark.usefixtures('_memory')
@pytest.mark.parametrize(
    'view',
    [
        lambda array: array[3:5],
        lambda array: array.T,
        lambda array: array.reshape(-1)[::7],
        memoryview,
        lambda array: memoryview(array)[2:],
        lambda array: array.view(np.uint8),
        lambda array: np.asarray(memoryview(array[1:])),
        lambda array: [array[0]],
        np.nditer,
        lambda array: array.flat,
    ],
)
def test_memory_is_not_recycled_while_a_view_is_left(view):
    source = ArrayDataSource([np.arange(N * 10).reshape(N, 10)])
    views = [(view(array), array.copy()) for (array,) in source.batch_iterator(20)]
    for _ in source.batch_iterator(20, shuffle=1):
        pass
    for left, copy in views:
        np.testing.assert_array_equal(np.array(flat(left)), np.array(flat(view(copy))))


def flat(view):
    if isinstance(view, memoryview):
        return view.tolist()
    return [value.tolist() if hasattr(value, 'tolist') else value for value in view]


def test_large_memory_is_used_again_once_nothing_refers_to_it():
    source = ArrayDataSource([np.zeros((64, 2**17))])
    addresses = [array.ctypes.data for _ in range(5) for (array,) in source.batch_iterator(8)]
    assert len(set(addresses)) <= 3


def test_large_memory_is_let_go_with_the_source():
    source = ArrayDataSource([np.zeros((64, 2**17))])
    (array,) = next(source.batch_iterator(64))
    array[:] = 5
    del source
    gc.collect()
    assert (array == 5).all()


def test_threads_share_a_source_but_no_memory(monkeypatch):
    monkeypatch.setattr(rows, 'RECYCLED_BYTES', 1)
    source = ArrayDataSource([np.repeat(np.arange(2000), 50).reshape(2000, 50), np.arange(2000)])
    wrong = []

    def read(seed):
        for epoch in range(10):
            for array, index in source.batch_iterator(16, shuffle=seed, epoch=epoch):
                if not (array == index[:, np.newaxis]).all():
                    wrong.append(seed)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_index_batches_are_copies_of_the_order():
    plan_source = ArrayDataSource([np.arange(10)], indices=[4, 5, 6], include_indices=True)
    for indices, _ in plan_source.batch_iterator(2):
        indices[:] = -9
    assert [batch[0].tolist() for batch in plan_source.batch_iterator(2)] == [[4, 5], [6]]


def test_masks_are_kept():
    source = ArrayDataSource([DATA['masked']()])
    masked = np.ma.concatenate([batch[0] for batch in source.batch_iterator(7)])
    assert masked.mask.sum() == 50


def test_a_memory_map_gives_plain_arrays(tmp_path):
    path = tmp_path / 'data.npy'
    np.save(path, np.arange(30).reshape(10, 3))
    source = ArrayDataSource([np.load(path, mmap_mode='r')])
    for shuffle in (None, 3):
        (array,) = next(source.batch_iterator(4, shuffle=shuffle))
        assert type(array) is np.ndarray
        assert array.flags.writeable
