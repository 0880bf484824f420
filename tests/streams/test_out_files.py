"""Results go into new files `.npy`, which appear whole or not at all."""

import os
import re
import resource
import signal
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest

from batchup._streams import gatherer, npy_files
from batchup.data_source import ArrayDataSource, CompositeDataSource, IteratorDataSource, batch_map_concat, merge
from batchup.errors import StorageError
from batchup.sampling import WeightedSampler

from ..cases import numbers
from ..harness.homes import make_read_only
from ..harness.pools import on
from ..harness.ranks import SHUFFLE_KINDS, SOURCE, N, X, assert_same_results, double, first_array, take_parts


@pytest.fixture(params=['large', 'small'])
def memory(request, monkeypatch):
    """Have rows wait in memory that is large, or so small that they are often written."""
    if request.param == 'small':
        monkeypatch.setattr(gatherer, 'WAITING_BYTES', 100)
        monkeypatch.setattr(gatherer, 'WRITTEN_BYTES', 30)
        monkeypatch.setattr(npy_files, 'PART_BYTES', 40)


@pytest.fixture
def paths(tmp_path):
    return tmp_path / 'x.npy', str(tmp_path / 'y.npy')


@pytest.fixture
def path(tmp_path):
    """A path at which there is a file, which only a whole one may replace."""
    np.save(tmp_path / 'x.npy', 'old')
    return tmp_path / 'x.npy'


def assert_untouched(path):
    """Assert that the old file is the only one."""
    assert os.listdir(path.parent) == [path.name]
    assert np.load(path) == 'old'


@pytest.mark.usefixtures('memory')
@pytest.mark.parametrize('shuffle', SHUFFLE_KINDS)
def test_rows_are_written_where_they_belong(shuffle, paths, tmp_path):
    results = SOURCE.batch_map_concat(double, 4, out=paths, **SHUFFLE_KINDS[shuffle]())
    assert_same_results(results, (X * 2, np.arange(N)))
    assert_same_results(tuple(map(np.load, paths)), results)
    assert sorted(os.listdir(tmp_path)) == ['x.npy', 'y.npy']


def test_rows_wait_in_bounded_memory(path, monkeypatch):
    monkeypatch.setattr(gatherer, 'WAITING_BYTES', 2**20)
    rows = np.arange(2**22).reshape(-1, 16)
    source = ArrayDataSource([rows])
    tracemalloc.start()
    source.batch_map_concat(first_array, 256, out=path, shuffle=1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < rows.nbytes / 2
    np.testing.assert_array_equal(np.load(path), rows)


@on(['threads', 'fork'])
def test_batches_of_pools_are_written_where_they_belong(pool, paths):
    for shuffle in (None, 42):
        results = pool.parallel_data_source(SOURCE).batch_map_concat(double, 4, out=paths, shuffle=shuffle)
        assert_same_results(results, (X * 2, np.arange(N)))


def test_what_is_returned_is_a_read_only_map(path):
    (result,) = SOURCE.batch_map_concat(lambda x, y: x, 4, out=path)
    assert isinstance(result, np.memmap)
    assert not result.flags.writeable


@pytest.mark.usefixtures('memory')
@pytest.mark.parametrize('kwargs', [{'n_batches': 3}, {'drop_last': True}, {'shuffle': 42, 'n_batches': 2}])
def test_rows_of_some_batches_have_no_gaps(kwargs, paths):
    kwargs = {'shuffle': 1, **kwargs}
    results = SOURCE.batch_map_concat(double, 4, out=paths, **kwargs)
    assert_same_results(results, merge([SOURCE.batch_map_concat(double, 4, shard=(0, 1), **kwargs)]))


def test_the_rest_of_a_stream_is_written(paths):
    for shuffle in (None, 42):
        stream = SOURCE.batch_iterator(4, shuffle)
        stream.skip(3)
        _, y = batch_map_concat(double, stream, out=paths)
        indices = [np.array(request.indices) for request in SOURCE.plan(4, shuffle)]
        np.testing.assert_array_equal(y, np.sort(np.concatenate(indices[3:])))


def test_a_function_may_change_the_number_of_rows_in_order(path):
    def odd(x, y):
        return (y[y % 2 == 1],)

    for source, func in ((SOURCE, odd), (SOURCE.map(odd), first_array)):
        (result,) = source.batch_map_concat(func, 4, out=path)
        assert result.tolist() == list(range(1, N, 2))


def test_shuffled_results_have_a_row_for_each_sample(path):
    with pytest.raises(ValueError, match='func must return a row for each sample'):
        SOURCE.batch_map_concat(lambda x, y: y[y > 3], 4, out=path, shuffle=1)
    assert_untouched(path)


def test_rows_without_a_place_of_their_own_are_written_as_they_come(path):
    weighted = ArrayDataSource([np.arange(N)], sampler=WeightedSampler(np.ones(N)))
    both = CompositeDataSource([numbers(7), numbers(7)])
    for source, n_batches in ((weighted, 5), (both, None)):
        (result,) = source.batch_map_concat(first_array, 4, n_batches=n_batches, shuffle=1, out=path)
        (expected,) = source.batch_map_concat(first_array, 4, n_batches=n_batches, shuffle=1)
        assert result.tolist() == expected.tolist()


def test_batches_of_unknown_number_are_written_one_after_the_other(path):
    batches = [(np.arange(9),), (np.arange(14),)]
    for iterable in (batches, iter(batches), IteratorDataSource(iter(batches)).batch_iterator(4)):
        (result,) = batch_map_concat(first_array, iterable, out=path)
        assert result.tolist() == [*range(9), *range(14)]


FIELDS = [[('a', 'i4'), ('b', 'f8', (2,))], [('größe', 'i4')], [('日', 'i4')]]


@pytest.mark.parametrize('dtype', ['?', '<u2', '>f8', 'c8', 'U3', 'S2', 'M8[ms]', 'm8', *FIELDS])
def test_dtypes_are_kept(dtype, path):
    rows = np.zeros((5, 2), dtype)
    results = batch_map_concat(first_array, [(rows[:3],), (rows[3:],)], out=path)
    assert_same_results(results, (rows,))
    assert_same_results((np.load(path),), (rows,))


def test_a_table_of_many_fields_has_a_long_header(path):
    rows = np.ones(3, [(f'field {k}', 'u1') for k in range(5000)])
    (result,) = batch_map_concat(first_array, [(rows,)], out=path)
    assert result.tobytes() == rows.tobytes()
    with open(path, 'rb') as file:
        assert np.lib.format.read_magic(file) == (3, 0)


def test_shape_and_dtype_are_those_of_the_first_rows(path):
    batches = [(np.zeros((0, 5)),), (np.ones((2, 3), 'f4'),), (np.zeros((0, 3), int),), (np.ones((1, 3)),)]
    (result,) = batch_map_concat(first_array, batches, out=path)
    assert (result.dtype, result.tolist()) == (np.float32, [[1, 1, 1]] * 3)


def test_there_may_be_no_rows_but_not_no_batches(path):
    with pytest.raises(ValueError, match='there are no results: the shape and dtype of out'):
        batch_map_concat(first_array, [], out=path)
    assert_untouched(path)
    batch_map_concat(first_array, [(np.zeros((0, 3), 'i2'),)], out=path)
    assert (np.load(path).shape, np.load(path).dtype) == ((0, 3), np.int16)


@pytest.mark.parametrize(
    ('values', 'error', 'message'),
    [
        (np.array([2.5]), TypeError, 'has results of dtype float64 for out'),
        (np.array([2**40]), ValueError, 'has the value 1099511627776, which .*; the first batch has set it'),
        (np.array([[2]]), ValueError, r'with rows of shape \(\) and dtype int16, as in the first batch'),
        (None, TypeError, 'func must return arrays to write into out, got None'),
    ],
)
def test_results_that_do_not_fit_the_first_ones(values, error, message, path):
    results = [np.array([1, 2], 'i2'), values]
    with pytest.raises(error, match=message) as raised:
        batch_map_concat(lambda k: results[k[0]], [(np.array([0]),), (np.array([1]),)], out=path)
    assert raised.value.__notes__ == ['in batch 1']
    assert_untouched(path)


def test_objects_are_refused_at_their_batch(path):
    for values in (np.array([None]), np.array([(1, 'a')], [('a', int), ('b', object)])):
        with pytest.raises(TypeError, match='which have no fixed size; convert them in the function'):
            batch_map_concat(first_array, [(values,)] * 2, out=path)
        assert_untouched(path)


@pytest.mark.parametrize(
    ('name', 'error', 'message'),
    [
        ('x.h5', ValueError, 'out must be a path that ends in .npy, got .*x.h5'),
        ('x', ValueError, 'open its data set and give that'),
        ('nowhere/x.npy', FileNotFoundError, 'there is no folder .*nowhere; make it first'),
        ('folder.npy', IsADirectoryError, 'is a folder'),
    ],
)
def test_paths_that_cannot_be_written_are_found_at_the_call(name, error, message, tmp_path):
    (tmp_path / 'folder.npy').mkdir()
    with pytest.raises(error, match=message):
        SOURCE.batch_map_concat(lambda x, y: pytest.fail('called'), 4, out=tmp_path / name)


def test_a_path_is_given_once(path):
    with pytest.raises(ValueError, match='out has the same path twice'):
        SOURCE.batch_map_concat(double, 4, out=[path, path.parent / '.' / 'x.npy'])


def test_a_link_is_followed(path):
    link = path.parent / 'link.npy'
    link.symlink_to(path)
    SOURCE.batch_map_concat(lambda x, y: y, 4, out=link)
    assert link.is_symlink()
    assert np.load(path).tolist() == list(range(N))


def test_the_source_may_be_the_file_that_is_replaced(path):
    np.save(path, X)
    source = ArrayDataSource([np.load(path, mmap_mode='r')])
    for _ in range(2):
        source.batch_map_concat(lambda x: x * 2, 4, out=path, shuffle=1)
    np.testing.assert_array_equal(np.load(path), X * 2)


@pytest.mark.usefixtures('memory')
@pytest.mark.parametrize('shuffle', [None, 1])
def test_after_an_error_or_an_interrupt_nothing_has_changed(shuffle, path):
    def fails(x, y):
        if len(y) < 4:
            os.kill(os.getpid(), signal.SIGINT)
        return x, y

    with pytest.raises(KeyboardInterrupt):
        SOURCE.batch_map_concat(fails, 4, out=(path, path.parent / 'y.npy'), shuffle=shuffle)
    assert_untouched(path)
    with pytest.raises(TypeError):
        SOURCE.batch_map_concat(lambda x, y: (x, y if y[0] < 8 else 'no array'), 4, out=(path, path.parent / 'y.npy'))
    assert_untouched(path)


KILLED = """
import os, signal, sys
import numpy as np
from batchup.data_source import ArrayDataSource
def func(x):
    return x if x[0, 0] < 40 else os.kill(os.getpid(), signal.SIGKILL)
ArrayDataSource([np.repeat(np.arange(50.0), 2**15).reshape(50, -1)]).batch_map_concat(func, 4, out=sys.argv[1])
"""


def test_a_process_that_is_killed_leaves_the_old_file(path):
    done = subprocess.run([sys.executable, '-c', KILLED, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert np.load(path) == 'old'
    (partial,) = set(os.listdir(path.parent)) - {path.name}
    assert re.fullmatch(r'x\.npy\.\w+\.partial', partial)


def large_batches(calls):
    """Give 32 batches of 128 kB, and count them."""
    for number in range(32):
        calls.append(number)
        yield (np.full((2, 2**13), float(number)),)


def test_a_file_that_would_not_fit_is_refused_at_the_first_batch(mounted, monkeypatch):
    path, calls = mounted(1024) / 'x.npy', []
    source = ArrayDataSource([np.zeros((64, 2**13))])
    with pytest.raises(
        StorageError, match=rf'cannot write {path}: .*; it needs 4,194,432 bytes, and 1,\d\d\d,\d'
    ) as error:
        source.batch_map_concat(lambda x: calls.append(1) or x, 2, out=path)
    assert (len(calls), error.value.__notes__[0][:10], os.listdir(path.parent)) == (1, 'in batch 0', [])


def test_a_disk_that_becomes_full(mounted, monkeypatch):
    monkeypatch.setattr(gatherer, 'WRITTEN_BYTES', 2**17)
    path, calls = mounted(1024) / 'x.npy', []
    np.save(path, 'old')
    with pytest.raises(
        StorageError, match=rf'cannot write {path}: No space left on device; it needs more than [\d,]+ b'
    ):
        batch_map_concat(first_array, large_batches(calls), out=path)
    assert 4 < len(calls) < 12
    assert_untouched(path)


def test_a_limit_of_the_size_of_files(path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, limits[1]))
    try:
        with pytest.raises(StorageError, match=f'cannot write {path}: File too large; it needs more than'):
            batch_map_concat(first_array, large_batches([]), out=path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert_untouched(path)


def test_a_read_only_folder_is_found_at_the_call(mounted):
    folder = mounted()
    make_read_only(folder)
    with pytest.raises(StorageError, match='the folder is not writable'):
        SOURCE.batch_map_concat(lambda x, y: pytest.fail('called'), 4, out=folder / 'x.npy')


def test_several_ranks_cannot_write_one_file_but_merge_can(paths):
    with pytest.raises(ValueError, match='cannot be written by 3 ranks'):
        SOURCE.batch_map_concat(double, 4, out=paths, shard=(0, 3))
    results = merge(take_parts(SOURCE, 3, shuffle=1), out=paths)
    assert_same_results(results, (X * 2, np.arange(N)))


def test_merged_rows_have_a_dtype_for_all_ranks(path):
    parts = take_parts(SOURCE, 2, func=lambda x, y: y.astype('f4' if y[0] % 8 else 'f8'))
    (result,) = merge(parts, out=path)
    assert (result.dtype, result.tolist()) == (np.float64, list(range(N)))
