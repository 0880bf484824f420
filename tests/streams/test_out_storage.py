"""Results go into data sets of h5py and arrays of zarr, each chunk as a whole."""

import collections

import numpy as np
import pytest

from batchup._streams import gatherer
from batchup.data_source import ArrayDataSource, batch_map_concat, merge
from batchup.sampling import BlockShuffle

from ..harness.pools import on
from ..harness.ranks import SHUFFLE_KINDS, SOURCE, N, X, assert_same_results, double, first_array, take_parts

h5py = pytest.importorskip('h5py')
zarr = pytest.importorskip('zarr')


@pytest.fixture
def h5(tmp_path):
    with h5py.File(tmp_path / 'x.h5', 'w') as file:
        yield file


@pytest.fixture
def little_memory(monkeypatch):
    """Have so little memory for rows that wait that they are often written."""
    monkeypatch.setattr(gatherer, 'WAITING_BYTES', 100)
    monkeypatch.setattr(gatherer, 'WRITTEN_BYTES', 30)


def make_h5(h5, n_rows=N, **kwargs):
    """Make data sets for two arrays of results: one in chunks, and one without."""
    return (
        h5.create_dataset('x', (n_rows, 3), 'f4', chunks=(5, 2), compression='gzip', **kwargs),
        h5.create_dataset('y', (n_rows,), 'i8', **kwargs),
    )


def make_zarr(store, n_rows=N):
    """Make arrays for two arrays of results: one in chunks, and one in shards."""
    group = zarr.open_group(store, mode='w')
    return (
        group.create_array('x', shape=(n_rows, 3), chunks=(5, 2), dtype='f4'),
        group.create_array('y', shape=(n_rows,), chunks=(2,), shards=(6,), dtype='i8'),
    )


@pytest.fixture(params=['h5', 'zarr'])
def stored(request, h5, tmp_path):
    return make_h5(h5) if request.param == 'h5' else make_zarr(tmp_path / 'x.zarr')


def contents(arrays):
    return tuple(array[:] for array in arrays)


@pytest.mark.parametrize('memory', ['much', 'little'])
@pytest.mark.parametrize('shuffle', SHUFFLE_KINDS)
def test_rows_are_written_where_they_belong(shuffle, stored, memory, request):
    if memory == 'little':
        request.getfixturevalue('little_memory')
    results = SOURCE.batch_map_concat(double, 4, out=stored, **SHUFFLE_KINDS[shuffle]())
    assert all(result is array for result, array in zip(results, stored))
    assert_same_results(contents(stored), (X * 2, np.arange(N)))


@on(['threads', 'spawn'])
def test_batches_of_pools_are_written_where_they_belong(pool, stored):
    pool.parallel_data_source(SOURCE).batch_map_concat(double, 4, out=stored, shuffle=1)
    assert_same_results(contents(stored), (X * 2, np.arange(N)))


def test_parts_are_merged(stored):
    merge(take_parts(SOURCE, 3, shuffle=1), out=stored)
    assert_same_results(contents(stored), (X * 2, np.arange(N)))


@pytest.mark.usefixtures('little_memory')
def test_a_resumed_stream_writes_what_is_left(stored):
    saved = SOURCE.batch_iterator(4, 42)
    batch_map_concat(double, saved, n_batches=3, out=stored)
    resumed = SOURCE.batch_iterator(4, 42)
    resumed.load_state_dict(saved.state_dict())
    batch_map_concat(double, resumed, out=stored)
    assert_same_results(contents(stored), (X * 2, np.arange(N)))


def test_rows_of_the_batches_before_an_error_are_written(stored):
    def fails(x, y):
        return (x, y + 1) if y[0] < 12 else 'no array'

    with pytest.raises(TypeError, match='func must return an array'):
        SOURCE.batch_map_concat(fails, 4, out=stored)
    np.testing.assert_array_equal(stored[0][:12], X[:12])
    assert stored[1][:].tolist() == [*range(1, 13), *[0] * 11]


class Counting(zarr.storage.MemoryStore):
    """A store that counts how often each chunk is written."""

    def __init__(self):
        super().__init__()
        self.written = collections.Counter()

    async def set(self, key, value, *args, **kwargs):
        self.written[key] += 1
        await super().set(key, value, *args, **kwargs)


@pytest.mark.parametrize('shuffle', [None, BlockShuffle(1, 128, window=4)])
@pytest.mark.parametrize('sharded', [False, True])
def test_each_chunk_is_written_once(shuffle, sharded, monkeypatch):
    monkeypatch.setattr(gatherer, 'WAITING_BYTES', 2**16)
    monkeypatch.setattr(gatherer, 'WRITTEN_BYTES', 2**10)
    store = Counting()
    array = zarr.create_array(store, shape=(5000,), chunks=(64,), shards=(128,) if sharded else None, dtype='i8')
    store.written.clear()
    ArrayDataSource([np.arange(1, 5001)]).batch_map_concat(first_array, 50, out=array, shuffle=shuffle)
    assert array[:].tolist() == list(range(1, 5001))
    assert store.written == {f'c/{k}': 1 for k in range(-(-5000 // (128 if sharded else 64)))}


def test_chunks_are_written_in_order(monkeypatch):
    monkeypatch.setattr(gatherer, 'WRITTEN_BYTES', 1)
    store = Counting()
    array = zarr.create_array(store, shape=(0,), chunks=(50,), dtype='i8')
    batch_map_concat(first_array, ((np.ones(40, int),) for _ in range(20)), out=array)
    keys = [int(key[2:]) for key in store.written if key.startswith('c/')]
    assert keys == sorted(keys) == list(range(16))


def test_data_sets_grow_as_far_as_they_may(h5):
    for most in (None, N):
        growing = h5.create_dataset(f'{most}', (4,), 'i8', maxshape=(most,))
        SOURCE.batch_map_concat(lambda x, y: y, 4, out=growing, shuffle=1)
        assert growing[:].tolist() == list(range(N))


def test_empty_arrays_of_zarr_grow(tmp_path):
    growing = make_zarr(tmp_path / 'x.zarr', 0)
    SOURCE.batch_map_concat(double, 4, out=growing, shuffle=1)
    assert_same_results(contents(growing), (X * 2, np.arange(N)))


def test_they_grow_with_batches_of_unknown_number(h5, tmp_path):
    for growing in (h5.create_dataset('y', (0,), 'i8', maxshape=(None,)), make_zarr(tmp_path / 'x.zarr', 0)[1]):
        batch_map_concat(first_array, iter([(np.arange(9),), (np.arange(14),)]), out=growing)
        assert growing[:].tolist() == [*range(9), *range(14)]


def test_another_number_of_rows_is_found_at_the_call(h5, tmp_path):
    arrays = [*make_h5(h5, N - 1), *make_zarr(tmp_path / 'a', N - 1), *make_zarr(tmp_path / 'b', N + 1)]
    for array in [*arrays, h5.create_dataset('z', (4,), 'i8', maxshape=(N - 1,))]:
        with pytest.raises(ValueError, match=r'out \((data set|zarr array) .* must have a row for each of 23 samples'):
            SOURCE.batch_map_concat(lambda x, y: pytest.fail('called'), 4, out=array)


def test_more_rows_than_there_are(stored):
    with pytest.raises(ValueError, match=r'the results have a row 29, but .* has 23 rows') as error:
        batch_map_concat(first_array, [(np.arange(15),)] * 2, out=stored[1])
    assert error.value.__notes__ == ['in batch 1']
    assert stored[1][:15].tolist() == list(range(15))


def test_results_that_do_not_fit_are_found_at_their_batch(stored):
    for values, error, message in (
        (np.zeros((2, 4)), ValueError, r'has rows of shape \(4,\) for out .* of shape \(23, 3\)'),
        (np.full((2, 3), 1e300), ValueError, 'has the value 1e[+]300, which out .* of dtype float32 cannot hold'),
        (np.full((2, 3), 'a'), TypeError, 'has results of dtype <U1 for out'),
    ):
        with pytest.raises(error, match=message) as raised:
            batch_map_concat(first_array, [(np.zeros((2, 3)),), (values,)], out=stored[0])
        assert raised.value.__notes__ == ['in batch 1']


def test_read_only_and_closed_storage_is_found_at_the_call(tmp_path):
    make_zarr(tmp_path / 'x.zarr')
    with h5py.File(tmp_path / 'x.h5', 'w') as file:
        make_h5(file)
    with h5py.File(tmp_path / 'x.h5') as file:
        data_set = file['x']
        for array in (data_set, zarr.open_array(tmp_path / 'x.zarr' / 'x', mode='r')):
            with pytest.raises(ValueError, match='is read-only; open'):
                SOURCE.batch_map_concat(lambda x, y: pytest.fail('called'), 4, out=array)
    with pytest.raises(ValueError, match='out is a data set of a closed h5py file'):
        SOURCE.batch_map_concat(lambda x, y: pytest.fail('called'), 4, out=data_set)


def test_what_is_no_array_of_rows_is_found_at_the_call(h5, tmp_path):
    scalar = h5.create_dataset('scalar', (), 'f4')
    lists = h5.create_dataset('lists', (N,), h5py.vlen_dtype('i4'))
    views = make_h5(h5)[0].astype('f8')
    for array in (scalar, lists, views, h5, zarr.create_array({}, shape=(), dtype='f4'), zarr.group({})):
        with pytest.raises(TypeError, match=r'out .*must |only strings can be written'):
            SOURCE.batch_map_concat(lambda x, y: pytest.fail('called'), 4, out=array)


def test_a_file_that_is_closed_meanwhile(tmp_path):
    with h5py.File(tmp_path / 'x.h5', 'w') as file:
        data_set = file.create_dataset('y', (N,), 'i8', chunks=(4,))

        def closes(x, y):
            if y[0] == 8:
                file.close()
            return y

        with pytest.raises(ValueError, match='was closed before all rows were written') as error:
            SOURCE.batch_map_concat(closes, 4, out=data_set)
    assert 'in batch 2 of epoch 0' in error.value.__notes__[0]


def test_strings_of_any_length(h5):
    names = np.array(['a', 'größer', ''] * 5)
    arrays = [
        zarr.create_array({}, shape=(15,), chunks=(4,), dtype=str),
        h5.create_dataset('s', 15, h5py.string_dtype()),
    ]
    for array in arrays:
        for values in (names, names.astype(object)):
            ArrayDataSource([values]).batch_map_concat(first_array, 4, out=array, shuffle=1)
            read = array.asstr()[:] if array is arrays[1] else array[:]
            assert read.tolist() == names.tolist()
        with pytest.raises(TypeError, match='has results of dtype') as error:
            batch_map_concat(first_array, [(np.arange(3),)], out=array)
        assert error.value.__notes__ == ['in batch 0']


def test_ranks_do_not_overwrite_chunks_of_each_other(h5, tmp_path):
    single = zarr.create_array(tmp_path / 'single', shape=(N,), chunks=(1,), dtype='i8')
    for array in (single, h5.create_dataset('y', (N,), 'i8', chunks=(4,))):
        for rank in range(3):
            SOURCE.batch_map_concat(lambda x, y: y, 4, out=array, shuffle=1, shard=(rank, 3))
        assert array[:].tolist() == list(range(N))
    with pytest.raises(ValueError, match='has chunks of 6 rows, in which 3 ranks would overwrite the rows'):
        SOURCE.batch_map_concat(lambda x, y: y, 4, out=make_zarr(tmp_path / 'x')[1], shard=(0, 3))


def test_a_file_an_array_and_a_data_set_side_by_side(h5, tmp_path):
    outputs = [tmp_path / 'x.npy', np.zeros(N), make_h5(h5)[1]]
    file, *_ = SOURCE.batch_map_concat(lambda x, y: (x, y, y), 4, out=outputs, shuffle=1)
    assert_same_results((np.array(file), outputs[2][:]), (X, np.arange(N)))
    assert outputs[1].tolist() == list(range(N))


def test_a_full_disk_names_the_array_and_the_rows(mounted, monkeypatch):
    monkeypatch.setattr(gatherer, 'WRITTEN_BYTES', 1)
    array = zarr.create_array(mounted(256) / 'x', shape=(64, 2**12), chunks=(4, 2**12), dtype='f8', compressors=None)
    with pytest.raises(OSError, match='No space left on device') as error:
        ArrayDataSource([np.ones((64, 2**12))]).batch_map_concat(first_array, 4, out=array)
    assert 'while writing rows 4 to 7 of out (zarr array' in error.value.__notes__[0]
