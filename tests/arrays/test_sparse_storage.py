"""Sparse matrices in groups of HDF5 and Zarr: how often blocks are decoded, memory, threads, and bad input."""

import functools
import itertools
import pickle
import subprocess
import sys

import numpy as np
import pytest

from batchup._arrays import sparse_groups
from batchup._arrays.sparse_ahead import SparseAhead
from batchup._arrays.sparse_groups import SparseStorage
from batchup._plans.plan import Request
from batchup.data_source import ArrayDataSource, ChoiceDataSource, ConcatDataSource
from batchup.sampling import BlockShuffle, WeightedSampler
from batchup.work_pool import WorkerThreadPool

from .cases import sparse_group, sparse_in_h5
from .chunked import Chunked

h5py = pytest.importorskip('h5py')
scipy = pytest.importorskip('scipy.sparse')

N, COLUMNS, ROWS = 200, 11, 10
# Rows of 0 to 11 values.
DENSE = np.random.RandomState(1).rand(N, COLUMNS)
DENSE[np.random.RandomState(2).rand(N, COLUMNS) < np.linspace(0, 1, N)[:, None]] = 0


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Have blocks of about ten rows."""
    monkeypatch.setattr(SparseStorage, '_choose_chunk_rows', lambda self: min(ROWS, max(1, self.shape[0])))


@pytest.fixture
def decoded(monkeypatch):
    """List the blocks that are decoded."""
    blocks, read = [], SparseStorage.read

    def note(self, block, *memory):
        blocks.append(block)
        return read(self, block, *memory)

    monkeypatch.setattr(SparseStorage, 'read', note)
    return blocks


def memory_of(group, n_blocks):
    """Return how many bytes so many blocks take."""
    storage = SparseStorage(group)
    return n_blocks * storage.most_values * storage.value_bytes


def check(batches, expected=DENSE):
    for rows, numbers in batches:
        np.testing.assert_array_equal(rows.toarray(), expected[numbers])


def since(request, number):
    return request.since(number) if number < request.end else None


def source_over(group, n_blocks):
    return ArrayDataSource([group, np.arange(N)], read_ahead=memory_of(group, n_blocks))


# Blocks.


def test_each_block_is_decoded_once_where_blocks_are_shuffled(tmp_path, decoded):
    source = source_over(sparse_in_h5(h5py, DENSE, tmp_path), 12)
    check(source.batch_iterator(8, BlockShuffle(3, ROWS, window=4)))
    assert sorted(decoded) == list(range(20))


def test_the_default_block_of_a_shuffle_is_that_of_the_storage(tmp_path):
    source = source_over(sparse_in_h5(h5py, DENSE, tmp_path), 12)
    _, numbers = next(source.batch_iterator(N, BlockShuffle(3, window=1)))
    assert {len(set(part // ROWS)) for part in numbers.reshape(-1, ROWS)} == {1}


def test_each_block_is_decoded_once_if_there_is_room_for_all(tmp_path, decoded):
    check(source_over(sparse_in_h5(h5py, DENSE, tmp_path), 20).batch_iterator(8, 3))
    assert sorted(decoded) == list(range(20))


def test_a_full_shuffle_of_much_data_decodes_each_block_once_for_many_batches(tmp_path, decoded):
    check(source_over(sparse_in_h5(h5py, DENSE, tmp_path), 6).batch_iterator(8, 3))
    assert len(decoded) < 8 + 20 * 5  # the first batch; the rows of twenty blocks at a time in memory for six


def test_any_room_is_enough(tmp_path):
    group = sparse_in_h5(h5py, DENSE, tmp_path)
    for n_blocks in (0, 1, 2, 5, 9, 19):
        for shuffle in (None, 3, BlockShuffle(3, ROWS, window=4)):
            source = source_over(group, n_blocks)
            check(source.batch_iterator(30, shuffle))
            check(source.batch_iterator(1, shuffle))


def test_no_more_memory_than_read_ahead(tmp_path, monkeypatch):
    taken, make = [], SparseStorage.memory

    def note(self, n_values):
        taken.append(n_values * self.value_bytes)
        return make(self, n_values)

    group = sparse_in_h5(h5py, DENSE, tmp_path)
    monkeypatch.setattr(SparseStorage, 'memory', note)
    for shuffle in (3, BlockShuffle(3, ROWS, window=4)):
        check(source_over(group, 6).batch_iterator(8, shuffle))
    assert max(taken) == memory_of(group, 6)


def test_threads(tmp_path):
    group = sparse_in_h5(h5py, DENSE, tmp_path)
    with WorkerThreadPool(3) as pool:
        for n_blocks in (3, 8, 20):
            for shuffle in (3, BlockShuffle(3, ROWS, window=4)):
                batches = pool.parallel_data_source(source_over(group, n_blocks)).batch_iterator(7, shuffle)
                check(batches)


@pytest.mark.parametrize('n_blocks', [6, 20])
def test_threads_that_are_late_do_not_have_blocks_decoded_again(tmp_path, decoded, n_blocks):
    group = sparse_in_h5(h5py, DENSE, tmp_path)
    order, counts = np.random.RandomState(0).permutation(N), []
    whole = Request(0, 25, order)
    for numbers in (range(25), [*np.arange(24).reshape(-1, 2)[:, ::-1].reshape(-1), 24]):
        window = functools.partial(since, whole)
        ahead = SparseAhead(SparseStorage(group), memory_of(group, n_blocks), 0, window, first_alone=False)
        for number in numbers:
            rows = order[8 * number : 8 * number + 8]
            np.testing.assert_array_equal(ahead.read(number).toarray(), DENSE[rows])
        counts.append(len(decoded))
    assert counts[1] == 2 * counts[0]


def test_a_choice_of_sources(tmp_path):
    groups = [sparse_in_h5(h5py, DENSE, tmp_path) for _ in range(2)]
    source = ChoiceDataSource([source_over(group, 6) for group in groups])
    check(source.batch_iterator(8, 3))


def test_weighted_samples(tmp_path):
    group = sparse_in_h5(h5py, DENSE, tmp_path)
    sampler = WeightedSampler(np.arange(N) + 1)
    for n_blocks in (6, 20):
        source = ArrayDataSource([group, np.arange(N)], sampler=sampler, read_ahead=memory_of(group, n_blocks))
        check(batch for batch, _ in zip(source.batch_iterator(8, 3), range(50)))


# Several groups, one after the other.


def concatenated(folder, n_blocks):
    cuts = 0, 37, 37, 100, N
    groups = [sparse_in_h5(h5py, DENSE[a:b], folder) for a, b in itertools.pairwise(cuts)]
    members = [ArrayDataSource([group, np.arange(a, b)]) for group, a, b in zip(groups, cuts, cuts[1:])]
    return ConcatDataSource(members, read_ahead=2 * memory_of(groups[0], n_blocks))


def test_rows_of_several_groups(tmp_path):
    for n_blocks in (0, 3, 21):
        source = concatenated(tmp_path, n_blocks)
        for shuffle in (None, 3, BlockShuffle(3, ROWS, window=4)):
            check(source.batch_iterator(8, shuffle))
        check(pickle.loads(pickle.dumps(source)).batch_iterator(30, 3))
        check([source.samples_by_indices([-1, 0, 36, 37, 99, 100]), source.samples_by_indices([])])


def test_each_block_of_several_groups_is_decoded_once(tmp_path, decoded):
    batches = list(concatenated(tmp_path, 21).batch_iterator(8, 3))
    assert len(decoded) == 4 + 7 + 10
    check(batches)


def test_parts_of_several_groups(tmp_path):
    groups = [sparse_in_h5(h5py, DENSE, tmp_path) for _ in range(2)]
    chosen = [5, -1, 77, 5], [-N, 13]
    source = ConcatDataSource([ArrayDataSource([group], part) for group, part in zip(groups, chosen)])
    rows = DENSE[np.concatenate(chosen)]
    for (batch,), indices in zip(source.batch_iterator(4, 3), source.batch_indices_iterator(4, 3), strict=True):
        np.testing.assert_array_equal(batch.toarray(), rows[indices])


def test_groups_whose_numbers_differ_in_size(tmp_path):
    with h5py.File(tmp_path / 'x', 'w') as file:
        one, other = (sparse_group(DENSE, file.create_group(name)) for name in 'ab')
        indices = other['indices'][:].astype(np.int64)
        del other['indices']
        other['indices'] = indices
        source = ConcatDataSource([source_over(one, 20), source_over(other, 20)])
        check(source.batch_iterator(8, 3))


def test_groups_that_do_not_go_together(tmp_path):
    for values, error, message in [
        (DENSE[:, :4], ValueError, r'shape \(11,\) in data source 0, but \(4,\) in data source 1'),
        (DENSE.astype('f4'), TypeError, 'array 0 is float64 in data source 0, but float32 in data source 1'),
    ]:
        groups = [sparse_in_h5(h5py, each, tmp_path) for each in (DENSE, values)]
        with pytest.raises(error, match=message):
            ConcatDataSource([ArrayDataSource([group]) for group in groups])


def test_groups_and_arrays_do_not_go_together(tmp_path):
    zarr = pytest.importorskip('zarr')
    group = ArrayDataSource([sparse_in_h5(h5py, DENSE, tmp_path)])
    for dense in (DENSE, zarr.create_array(tmp_path / 'x.zarr', data=DENSE), Chunked(DENSE, 10)):
        with pytest.raises(TypeError, match=r'array 0 is a scipy.csr_matrix in data source 0, but a numpy.ndarray in'):
            ConcatDataSource([group, ArrayDataSource([dense])])


# Dtypes and layouts.


@pytest.mark.parametrize('dtype', ['bool', 'u1', 'f4', 'i8', 'c16'])
def test_dtypes(tmp_path, dtype):
    values = DENSE.astype(dtype)
    ((rows, _),) = source_over(sparse_in_h5(h5py, values, tmp_path), 20).batch_iterator(N)
    assert rows.dtype == dtype
    np.testing.assert_array_equal(rows.toarray(), values)


@pytest.mark.parametrize('layout', [{'chunks': (50,)}, {'chunks': (50,), 'compression': 'gzip', 'shuffle': True}])
def test_layouts(tmp_path, layout):
    check(source_over(sparse_in_h5(h5py, DENSE, tmp_path, **layout), 20).batch_iterator(8, 3))


def test_dtypes_that_scipy_does_not_have(tmp_path):
    with h5py.File(tmp_path / 'x', 'w') as file:
        group = sparse_group(DENSE, file)
        for name, dtype in (('data', '>f8'), ('indices', '>u4')):
            values = group[name][:].astype(dtype)
            del group[name]
            group[name] = values
        check(source_over(group['/'], 6).batch_iterator(8, 3))


def test_a_block_has_about_so_many_bytes(tmp_path, monkeypatch):
    monkeypatch.undo()
    storage = SparseStorage(sparse_in_h5(h5py, DENSE, tmp_path))
    assert storage.chunk_rows == N
    monkeypatch.setattr(sparse_groups, 'BLOCK_BYTES', storage.row_bytes * 50)
    assert SparseStorage(storage.group).chunk_rows in (49, 50, 51)


def test_groups_without_an_encoding(tmp_path):
    with h5py.File(tmp_path / 'x', 'w') as file:
        group = sparse_group(DENSE, file.create_group('X'))
        del group.attrs['encoding-type']
        check(source_over(group, 6).batch_iterator(8, 3))
        group.attrs['shape'] = [COLUMNS, N]
        with pytest.raises(TypeError, match='in CSC format'):
            ArrayDataSource([group])


# Bad input.


@pytest.fixture
def group(tmp_path):
    with h5py.File(tmp_path / 'x.h5', 'w') as file:
        yield sparse_group(DENSE, file.create_group('X'))


def check_error(group, message, n_blocks=20):
    """Read batches of a block each, until the error of block 7 comes, where it belongs."""
    stream = source_over(group, n_blocks).batch_iterator(ROWS)
    for _ in range(7):
        next(stream)
    for _ in range(2):
        with pytest.raises(ValueError, match=message) as caught:
            next(stream)
        assert any("in rows 70 to 79 of the sparse matrix of data set '/X/data'" in x for x in caught.value.__notes__)


@pytest.mark.parametrize('n_blocks', [0, 4, 20])
def test_damaged_numbers(group, n_blocks):
    kept = group['indptr'][75], group['indices'][group['indptr'][71]]
    group['indptr'][75] = -5
    check_error(group, r'x\.h5 is damaged: its indptr decreases', n_blocks)
    group['indptr'][75] = kept[0]
    group['indices'][group['indptr'][71]] = COLUMNS
    check_error(group, r'x\.h5 is damaged: its indices name columns that are none of 11', n_blocks)


def test_the_end_of_the_values_is_missing(group):
    values = group['data'][: group['indptr'][75]]
    del group['data']
    group['data'] = values
    check_error(group, r'x\.h5 is damaged: its indptr .* numbers beyond')


def test_indptr_of_another_length(group):
    group.attrs['shape'] = [N + 1, COLUMNS]
    with pytest.raises(
        ValueError, match=r"of data set '/X/data' of .*x.h5 has 201 rows, but indptr has shape \(201,\)"
    ):
        ArrayDataSource([group])


def test_columns_are_refused(group):
    group.attrs['encoding-type'] = 'csc_matrix'
    with pytest.raises(TypeError, match=r'data\[0\] is a group with a sparse matrix in CSC format.*convert it once'):
        ArrayDataSource([group])


def test_other_groups_are_refused_and_their_arrays_are_named(tmp_path, group):
    zarr = pytest.importorskip('zarr')
    del group['indptr']
    for other, message in [
        (group, r"group '/X' of h5py, .*; give an array, as x\[name\]: it has 'data', 'indices'$"),
        (group.file, r"group '/' of h5py, .*: it has 'X/data', 'X/indices'$"),
        (zarr.create_group(tmp_path / 'x.zarr').create_group('X'), r"group '/X' of zarr, .*: it has none$"),
    ]:
        with pytest.raises(TypeError, match=rf'^data\[0\] is the {message}'):
            ArrayDataSource([other])


def test_a_file_that_is_closed(tmp_path):
    group = sparse_in_h5(h5py, DENSE, tmp_path)
    stream = ArrayDataSource([group]).batch_iterator(8, 3)
    next(stream)
    group.file.close()
    for _ in range(2):
        with pytest.raises(ValueError, match=r"data set '/X/data' of .*: the h5py file is closed; keep .* are read\n"):
            next(stream)
    with pytest.raises(ValueError, match=r'data\[0\] is a group of an h5py file that is closed'):
        ArrayDataSource([group])


def test_without_scipy(tmp_path):
    group = sparse_in_h5(h5py, DENSE, tmp_path)
    program = f"""
import sys, h5py
sys.modules['scipy'] = None
from batchup.data_source import ArrayDataSource
ArrayDataSource([h5py.File({group.file.filename!r})['X']])
"""
    done = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True, check=False)
    assert 'ImportError: batches of a sparse matrix in a file are matrices of SciPy: pip install scipy' in done.stderr
