"""Batches that come from workers belong to the user, and may be anything that sources give."""

import itertools

import numpy as np
import pytest

from batchup._ground.batch import leaves
from batchup.data_source import ArrayDataSource
from batchup.image.utils import ImageArrayUInt8ToFloat32

from ..cases import assert_same_batches, numbers
from ..harness.pools import BACKENDS, IN_PROCESSES, PROCESS_POOLS, SLOW, local_kinds, on, open_pool
from ..harness.work import RESULTS, nap


def table(n, width):
    return np.arange(n * width, dtype=np.int64).reshape(n, width)


# One sample of 80 bytes, and one of 80 KB: small batches come in groups, large ones fill slots of their own.
widths = pytest.mark.parametrize('width', [10, 10_000])

STRUCTURE = np.dtype([('name', 'U3'), ('place', 'f4', (2,)), ('flag', '?')])

DATA = {
    'structured': lambda: np.array([(f'n{k}', (k, -k), k % 2) for k in range(10)], STRUCTURE),
    'aligned': lambda: np.zeros(10, np.dtype('u1,f8', align=True)),
    'bool': lambda: np.arange(10) % 3 == 0,
    'object': lambda: np.array([[k, {'k': k}] for k in range(10)], dtype=object),
    'structured with objects': lambda: np.array([(k, [k]) for k in range(10)], [('k', int), ('o', object)]),
    'strings': lambda: np.array([f'text {k}' for k in range(10)]),
    'bytes': lambda: np.array([b'%d' % k for k in range(10)]),
    'datetime64': lambda: np.datetime64('2020-02-28') + np.arange(10),
    'timedelta64': lambda: np.arange(10).astype('m8[s]'),
    'half': lambda: np.arange(30).reshape(10, 3).astype(np.float16),
    'complex': lambda: np.arange(10) * 1j,
    'longdouble': lambda: np.arange(10).astype(np.longdouble),
    'other byte order': lambda: np.arange(10).astype('>i4'),
    'no rows': lambda: np.zeros((0, 3)),
    'no columns': lambda: np.zeros((10, 0)),
    'four dimensions': lambda: np.arange(10 * 24).reshape(10, 2, 3, 4),
    'every second row': lambda: table(20, 3)[::2],
    'every second column': lambda: table(10, 6)[:, ::2],
    'backwards': lambda: table(10, 3)[::-1],
    'column by column': lambda: np.asfortranarray(table(10, 3)),
    'transposed': lambda: table(3, 10).T,
    'broadcast': lambda: np.broadcast_to(np.arange(3), (10, 3)),
    'read-only': lambda: as_read_only(table(10, 3)),
    'unaligned': lambda: np.zeros(81, np.uint8)[1:].view(np.float64),
    'masked': lambda: np.ma.masked_array(np.arange(10), np.arange(10) % 2 == 0),
    'array-like': lambda: ImageArrayUInt8ToFloat32(np.arange(90, dtype=np.uint8).reshape(10, 9)),
}


def as_read_only(array):
    array.flags.writeable = False
    return array


def mapped(path, mode='r'):
    """Map a file of 12 rows with 5 numbers each, behind a header of 100 bytes."""
    if not path.exists():
        path.write_bytes(bytes(100) + table(12, 5).tobytes())
    return np.memmap(path, np.int64, mode, 100, (12, 5))


def mapped_with_changes(path, mode):
    array = mapped(path, mode)
    array[3] = -1
    return array


def saved(path):
    np.save(path, np.asfortranarray(table(12, 5)))
    return np.load(f'{path}.npy', mmap_mode='r')


def without_file(path):
    array = mapped(path)
    path.unlink()
    return array


def with_another_file(path):
    array = mapped(path)
    path.rename(f'{path}.old')
    path.write_bytes(bytes(2000))
    return array


MAPPED = {
    'whole': mapped,
    'writable': lambda path: mapped(path, 'r+'),
    'rows': lambda path: mapped(path)[3:],
    'every second row': lambda path: mapped(path)[1::2],
    'rows of rows': lambda path: mapped(path)[2:][::3][1:],
    'backwards': lambda path: mapped(path)[::-1],
    'columns backwards': lambda path: mapped(path)[::-2, 3:0:-1],
    'one column': lambda path: mapped(path)[:, 2],
    'transposed': lambda path: mapped(path).T,
    'plain view': lambda path: np.asarray(mapped(path))[4:],
    'other type': lambda path: mapped(path)[:].view(np.uint8)[:, 8:],
    'no rows': lambda path: mapped(path)[:0],
    'changed in private': lambda path: mapped_with_changes(path, 'c'),
    'part, changed in private': lambda path: np.asarray(mapped_with_changes(path, 'c')[2:8]),
    'changed in the file': lambda path: mapped_with_changes(path, 'r+'),
    'by numpy.load': saved,
    'deleted': without_file,
    'replaced': with_another_file,
}


def assert_all_read(pool, source, batch_size=4):
    """Assert that a pool gives the batches of a source, with their types, to be written into."""
    parallel = pool.parallel_data_source(source)
    for kwargs in ({}, {'shuffle': 3}, {'shuffle': 4}):
        batches = list(parallel.batch_iterator(batch_size, **kwargs))
        expected = list(source.batch_iterator(batch_size, **kwargs))
        assert_same_batches(batches, expected)
        for array, other in zip(leaves(tuple(batches)), leaves(tuple(expected))):
            assert (array.dtype, array.shape) == (other.dtype, other.shape)
            assert array.flags.writeable


# What sources hold.


@on(BACKENDS, slow=SLOW)
def test_every_array_is_read(pool):
    for make in DATA.values():
        assert_all_read(pool, ArrayDataSource([make()]))


@on(BACKENDS)
def test_arrays_of_all_types_are_read_at_once(pool):
    names = [name for name in DATA if name != 'no rows']
    assert_all_read(pool, ArrayDataSource([DATA[name]() for name in names], include_indices=True))


@on(BACKENDS, slow=SLOW)
def test_every_mapped_file_is_read(pool, tmp_path):
    for number, make in enumerate(MAPPED.values()):
        assert_all_read(pool, ArrayDataSource([make(tmp_path / str(number))]))


@on(PROCESS_POOLS)
def test_a_mapped_file_is_not_copied(pool, tmp_path):
    array = mapped(tmp_path / 'file', 'r+')
    parallel = pool.parallel_data_source(ArrayDataSource([array[2:]]).map(nap))
    list(parallel.batch_iterator(3))
    array[5:] = 77  # workers see what becomes of the file
    assert [int(x[-1, -1]) for (x,) in parallel.batch_iterator(3)][1:] == [77, 77, 77]


# What functions return.


@on(BACKENDS, slow=SLOW)
@pytest.mark.parametrize('name', RESULTS)
def test_functions_may_return_anything(pool, name):
    source = numbers(15).map(RESULTS[name], same_length=False)
    parallel = pool.parallel_data_source(source, batch_buffer_size=4)
    for batch_size in (1, 1, 3, 3):
        assert_same_batches(parallel.batch_iterator(batch_size), source.batch_iterator(batch_size))


@on(IN_PROCESSES)
def test_arrays_that_functions_return_are_writable(pool):
    for name in ('nested', 'columns_first', 'twice', 'masked', 'growing'):
        parallel = pool.parallel_data_source(numbers(12).map(RESULTS[name], same_length=False))
        for batch in [*parallel.batch_iterator(3), *parallel.batch_iterator(3)]:
            assert all(array.flags.writeable for array in leaves(batch))


# Whose they are.


@on(BACKENDS)
@widths
def test_batches_that_are_kept_never_change(pool, width):
    source = ArrayDataSource([table(80, width), table(80, 3)])
    parallel = pool.parallel_data_source(source, batch_buffer_size=3)
    for batch_size, shuffle in itertools.product((1, 8), (None, 1)):
        kept, expected = [], []
        for epoch in range(2):
            kept += parallel.batch_iterator(batch_size, shuffle, epoch=epoch)
            expected += source.batch_iterator(batch_size, shuffle, epoch=epoch)
        for array in leaves(tuple(kept[::2])):
            array[...] = -1
        assert_same_batches(kept[1::2], expected[1::2])


@on(BACKENDS, slow=SLOW)
@widths
def test_batches_may_be_kept_for_a_while(pool, width):
    source = ArrayDataSource([table(300, width)])
    parallel = pool.parallel_data_source(source, batch_buffer_size=4)
    kept = []
    for number, batch in enumerate(itertools.chain(*(parallel.batch_iterator(3) for _ in range(2)))):
        kept.append((number % 100, batch))
        if number % 7 == 0:
            for k, (x,) in kept:
                np.testing.assert_array_equal(x, source.data[0][3 * k : 3 * k + 3])
            kept = kept[number % 5 :: 3]


@on(BACKENDS, slow=SLOW)
@widths
def test_a_part_of_a_batch_keeps_it(pool, width):
    parallel = pool.parallel_data_source(ArrayDataSource([table(200, width)]), batch_buffer_size=2)
    for hold in (lambda x: x[1:2], memoryview, lambda x: x.reshape(-1)[5:], np.ravel):
        first = [hold(x) for (x,) in parallel.batch_iterator(4, shuffle=1)]
        before = [np.array(part) for part in first]
        list(parallel.batch_iterator(4, shuffle=2))
        for part, copy in zip(first, before, strict=True):
            np.testing.assert_array_equal(part, copy)


@on(BACKENDS)
@widths
def test_writing_into_batches_leaves_the_data_alone(pool, width):
    data, untouched = table(60, width), ArrayDataSource([table(60, width)])
    parallel = pool.parallel_data_source(ArrayDataSource([data]))
    for shuffle in (None, 1):
        for (x,) in itertools.chain(*(parallel.batch_iterator(5, shuffle) for _ in range(2))):
            x[...] = -1
        np.testing.assert_array_equal(data, table(60, width))
        assert_same_batches(parallel.batch_iterator(5, shuffle), untouched.batch_iterator(5, shuffle))


@on(BACKENDS)
@widths
def test_no_two_batches_share_memory(pool, width):
    parallel = pool.parallel_data_source(ArrayDataSource([table(40, width), table(40, 2)]))
    arrays = list(leaves(tuple(parallel.batch_iterator(5)) + tuple(parallel.batch_iterator(5))))
    for one, other in itertools.combinations(arrays, 2):
        assert not np.may_share_memory(one, other)


@local_kinds
def test_batches_outlive_their_pool(kind):
    source = ArrayDataSource([table(40, 10_000), table(40, 10)])
    with open_pool(kind) as pool:
        batches = list(pool.parallel_data_source(source).batch_iterator(5, shuffle=1))
    assert_same_batches(batches, source.batch_iterator(5, shuffle=1))
    for array in leaves(tuple(batches)):
        array[...] = 1
