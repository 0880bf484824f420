"""Data sets of HDF5 files: every layout and dtype, views, files that end too early, other processes."""

import os
import pickle
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pytest

from batchup._arrays.h5 import h5_storage
from batchup.arrays import H5Array
from batchup.data_source import ArrayDataSource, CompositeDataSource, ConcatDataSource
from batchup.work_pool import WorkerExecutorPool, WorkerProcessPool

from .h5_cases import CASES

h5py = pytest.importorskip('h5py')

N = 23
GZIP = {'chunks': (5, 2), 'compression': 'gzip', 'shuffle': True}


@pytest.fixture
def path(tmp_path):
    return tmp_path / 'data.h5'


@pytest.fixture
def file(path):
    with h5py.File(path, 'w') as file:
        yield file


def floats():
    return np.random.RandomState(0).poisson(0.3, (N, 3)).astype(np.float32)


def rows(array, start=0, stop=N):
    storage = h5_storage(array)
    output = np.empty((stop - start, *storage.shape[1:]), storage.dtype)
    storage.read(start, stop, output)
    return output


def check_rows(array, expected):
    for start, stop in [(0, N), (1, N), (7, 8), (4, 16), (5, 10)]:
        read = rows(array, start, stop)
        assert read.dtype == expected.dtype
        np.testing.assert_array_equal(read, expected[start:stop])


# Layouts and dtypes.


def test_every_layout(file):
    layouts = [
        {},
        {'chunks': (5, 3)},
        {'chunks': (5, 2)},
        {'chunks': (40, 3), 'maxshape': (None, 3)},
        GZIP,
        {'chunks': (5, 3), 'compression': 'gzip'},
        {'chunks': (1, 1), 'compression': 'gzip'},
        {'chunks': (5, 3), 'shuffle': True},
        {'chunks': (5, 3), 'compression': 'lzf', 'shuffle': True},
        {'chunks': (5, 3), 'compression': 'gzip', 'fletcher32': True},
    ]
    for number, options in enumerate(layouts):
        check_rows(file.create_dataset(str(number), data=floats(), **options), floats())


def test_a_compact_layout(file):
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_layout(h5py.h5d.COMPACT)
    space, kind = h5py.h5s.create_simple((N, 3)), h5py.h5t.NATIVE_FLOAT
    data = h5py.Dataset(h5py.h5d.create(file.id, b'x', kind, space, properties))
    data[...] = floats()
    check_rows(data, floats())


def test_other_filters_are_left_to_h5py(file):
    hdf5plugin = pytest.importorskip('hdf5plugin')
    check_rows(file.create_dataset('x', data=floats(), chunks=(5, 3), **hdf5plugin.Zstd()), floats())


DTYPES = {
    'bool': np.arange(N) % 3 == 0,
    'int64': np.arange(N) - 7,
    'big endian': np.arange(N, dtype='>f8'),
    'half': np.arange(N, dtype=np.float16),
    'complex': np.arange(N) * 1j,
    'bytes': np.array([b'%d' % k for k in range(N)]),
    'times': np.arange(N).astype('M8[s]').astype(h5py.opaque_dtype('M8[s]')),
    'compound': np.array([(k, (k, k)) for k in range(N)], [('a', '>i2'), ('b', 'f4', (2,))]),
    'enum': (np.arange(N) % 2).astype(h5py.enum_dtype({'no': 0, 'yes': 1}, 'u2')),
    'text': np.array([f'text {k}' for k in range(N)], h5py.string_dtype()),
    'more dimensions': np.arange(N * 12).reshape(N, 3, 2, 2),
}


@pytest.mark.parametrize('dtype', DTYPES)
def test_every_dtype(file, dtype):
    values = DTYPES[dtype]
    chunks = (5, *values.shape[1:-1], 2)[: values.ndim]
    for name, options in {'contiguous': {}, 'gzip': {**GZIP, 'chunks': chunks}}.items():
        data = file.create_dataset(name, data=values, **options)
        check_rows(data, data[...])


def test_an_array_dtype(file):
    data = file.create_dataset('x', (N,), np.dtype(('f4', (3,))), chunks=(5,), compression='gzip')
    data[...] = floats()
    check_rows(data, floats())


def test_views(file):
    data = file.create_dataset('x', data=floats(), **GZIP)
    check_rows(data.astype('f8'), floats().astype('f8'))
    check_rows(data.astype('i2'), floats().astype('i2'))
    texts = file.create_dataset('text', data=DTYPES['text'])
    check_rows(texts.asstr(), texts.asstr()[...])
    compound = file.create_dataset('compound', data=DTYPES['compound'], chunks=(5,))
    check_rows(compound.fields('b'), DTYPES['compound']['b'])
    check_rows(compound.fields(['b']), compound.fields(['b'])[...])


def test_numbers_that_do_not_fit_are_converted_as_by_h5py(file):
    data = file.create_dataset('x', data=np.linspace(-1e9, 1e9, N), chunks=(5,), compression='gzip')
    check_rows(data.astype('i2'), data.astype('i2')[...])


def test_chunks_that_were_never_written(file):
    data = file.create_dataset('x', (N, 3), 'f4', fillvalue=7, **GZIP)
    data[6:8] = 1
    check_rows(data, data[...])
    file.flush()
    with h5py.File(file.filename, 'r') as again:
        check_rows(again['x'], data[...])


def test_filters_that_were_skipped_for_a_chunk(file):
    data = file.create_dataset('x', data=floats(), chunks=(5, 3), compression='gzip', shuffle=True)
    plain = np.arange(15, dtype=np.float32)
    data.id.write_direct_chunk((5, 0), plain.tobytes(), filter_mask=0b11)
    shuffled = plain.view(np.uint8).reshape(15, 4).T.tobytes()
    data.id.write_direct_chunk((10, 0), shuffled, filter_mask=0b10)
    expected = floats()
    expected[5:10] = expected[10:15] = plain.reshape(5, 3)
    check_rows(data, expected)


def test_what_is_written_is_read_before_it_is_in_the_file(file):
    data = file.create_dataset('x', data=floats(), **GZIP)
    for value in (1, 2):
        data[3:9] = value
        check_rows(data, data[...])


def test_threads(file):
    data = file.create_dataset('x', data=floats(), **GZIP)
    with ThreadPoolExecutor(4) as pool:
        for read in pool.map(rows, [data] * 50):
            np.testing.assert_array_equal(read, floats())


def test_chunks_are_told(file):
    plain = h5_storage(file.create_dataset('plain', data=floats()))
    gzip = h5_storage(file.create_dataset('gzip', data=floats(), **GZIP))
    assert (plain.chunk_rows, plain.whole_chunks) == (N, False)
    assert (gzip.chunk_rows, gzip.whole_chunks) == (5, True)


# Batches.


@pytest.mark.parametrize('name', CASES)
@pytest.mark.parametrize('indices', [None, [5, -1, 5, 0, 2]])
def test_batches_are_those_of_a_numpy_array(tmp_path, name, indices):
    _, make, _, _, values = CASES[name]
    source = ArrayDataSource([make(h5py, values(N), tmp_path)], indices)
    expected = ArrayDataSource([values(N)], indices)
    for shuffle in (None, 3):
        streams = (each.batch_iterator(4, shuffle=shuffle) for each in (source, expected))
        for (batch,), (other,) in zip(*streams, strict=True):
            np.testing.assert_array_equal(batch, other)
            assert batch.dtype == other.dtype


# Bad input.


def check_error(data, chunk, error, message):
    """Read batches until the error of a chunk comes, where it belongs."""
    stream = ArrayDataSource([data]).batch_iterator(5)
    for _ in range(chunk):
        next(stream)
    for _ in range(2):
        with pytest.raises(error, match=message) as caught:
            next(stream)
        assert any(f'in rows {5 * chunk} to' in note for note in caught.value.__notes__)


def test_a_chunk_that_does_not_decode(file):
    for name, raw in [('noise', b'noise'), ('short', b'x\x9c\x03\x00\x00\x00\x00\x01')]:
        data = file.create_dataset(name, data=floats(), chunks=(5, 3), compression='gzip')
        data.id.write_direct_chunk((10, 0), raw)
        check_error(data, 2, OSError, rf"data set '/{name}' of .*data.h5 could not be read: ")


def test_a_file_that_has_become_shorter(path):
    with h5py.File(path, 'w') as file:
        file.create_dataset('x', data=floats(), chunks=(5, 3), compression='gzip')
    with h5py.File(path) as file:
        os.truncate(path, file['x'].id.get_chunk_info_by_coord((15, 0)).byte_offset + 1)
        check_error(file['x'], 3, OSError, "data set '/x' of .*data.h5 could not be read")


def test_a_length_that_changed(file):
    data = file.create_dataset('x', data=floats(), chunks=(5, 3), maxshape=(None, 3))
    stream = ArrayDataSource([data]).batch_iterator(5)
    next(stream)
    data.resize(99, 0)
    with pytest.raises(ValueError, match=r"data set '/x' of .*data.h5 now has length 99, not 23"):
        next(stream)


def test_a_file_that_is_closed_meanwhile(path):
    with h5py.File(path, 'w') as file:
        storage = h5_storage(file.create_dataset('x', data=floats()))
    for read in (storage.check, lambda: storage.read(0, N, np.empty((N, 3), np.float32))):
        with pytest.raises(ValueError, match=r"data set '/x' of .*data.h5: the h5py file is closed; keep"):
            read()


def test_data_sets_without_rows(file):
    file['number'], file['empty'] = 3, h5py.Empty('f4')
    for name in ('number', 'empty'):
        with pytest.raises(TypeError, match=r'data\[0\] is an array with no dimensions'):
            ArrayDataSource([file[name]])


# H5Array.


@pytest.fixture
def array(path):
    with h5py.File(path, 'w') as file:
        file.create_dataset('group/x', data=floats(), **GZIP)
    return H5Array(path, 'group/x')


def opened(path):
    """Say how often this process has opened a file."""
    return sum(os.path.realpath(f'/proc/self/fd/{fd}') == str(path) for fd in os.listdir('/proc/self/fd'))


def test_an_h5_array_is_an_array_like(array, path):
    assert (array.shape, array.dtype, array.ndim, array.chunks) == ((N, 3), np.float32, 2, (5, 2))
    assert len(array) == N
    assert repr(array) == f"H5Array('{path}', 'group/x')"
    for key in [4, -1, slice(3, 9), [7, -1, 7, 0], np.uint8([3, 1]), [], floats()[:, 0] > 0, (2, slice(0, 2))]:
        np.testing.assert_array_equal(array[key], floats()[key])
    with pytest.raises(IndexError, match='index 23 is out of range for 23 samples'):
        array[[0, N]]


@pytest.mark.skipif(not os.path.exists('/proc/self/fd'), reason='this system does not list open files')
def test_an_h5_array_opens_its_file_when_it_is_read(array, path):
    own = H5Array(array.path, array.name)
    source = ArrayDataSource([own])
    assert opened(path) == 0
    source.samples_by_indices([1])
    assert own[0] is not None
    assert opened(path) == 1
    del own, source
    assert opened(path) == 0


@pytest.mark.skipif(not hasattr(os, 'fork'), reason='this system cannot fork')
@pytest.mark.filterwarnings('ignore:This process .* is multi-threaded:DeprecationWarning')
def test_a_forked_process_opens_the_file_itself(array):
    before = array.dataset
    pid = os.fork()
    if not pid:
        try:
            os._exit(array.dataset is not before and np.array_equal(array[:], floats()))
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
    assert array.dataset is before


def test_an_h5_array_pickles_by_its_absolute_path(array, path, monkeypatch):
    monkeypatch.chdir(path.parent)
    pickled = pickle.dumps(ArrayDataSource([H5Array('data.h5', 'group/x')]))
    monkeypatch.chdir('/')
    np.testing.assert_array_equal(pickle.loads(pickled).samples_by_indices([3, 1])[0], floats()[[3, 1]])


def test_an_h5_array_that_has_got_another_shape_does_not_unpickle(array, path):
    pickled = pickle.dumps(array)
    with h5py.File(path, 'w') as file:
        file['group/x'] = floats()[1:]
    with pytest.raises(ValueError, match=r"'group/x' of .*data.h5 now has shape \(22, 3\), not \(23, 3\)"):
        pickle.loads(pickled)


def test_what_an_h5_array_cannot_be(path):
    with pytest.raises(FileNotFoundError, match=r'there is no file .*data.h5'):
        H5Array(path, 'x')
    path.write_bytes(b'text')
    with pytest.raises(OSError, match=r'data.h5 cannot be opened as an HDF5 file'):
        H5Array(path, 'x')
    with h5py.File(path, 'w') as file:
        file['a/b'], file['number'] = floats(), 3
    for name in ('x', 'a'):
        with pytest.raises(KeyError, match=rf"data.h5 has no data set '{name}'; it has 'a/b', 'number'"):
            H5Array(path, name)
    with pytest.raises(TypeError, match=r"'number' of .*data.h5 has no dimensions"):
        H5Array(path, 'number')


# Other processes.


def keep(*batch):
    """Return a batch as it is: a function, for which workers make all batches."""
    return batch


def test_sources_pickle_by_the_names_of_files(tmp_path):
    arrays = [make(h5py, values(N), tmp_path) for _, make, _, _, values in CASES.values()]
    source = ArrayDataSource(arrays)
    source = pickle.loads(pickle.dumps(CompositeDataSource([source, ConcatDataSource([source, source])])))
    opened = source.datasets[0]
    assert opened._readers[0].array is opened.data[0]
    expected = [values(N) for _, _, _, _, values in CASES.values()] * 2
    ((*batch,),) = source.batch_iterator(N)
    for part, values in zip(batch, expected, strict=True):
        np.testing.assert_array_equal(part, values)


def test_sources_that_do_not_pickle(file):
    source = ArrayDataSource([file.create_dataset('x', data=floats())])
    with pytest.raises(ValueError, match=r"data.h5 is open for writing, .*: close it, and open it with mode 'r'"):
        pickle.dumps(source)
    file.close()
    with pytest.raises(ValueError, match=r'Closed HDF5 dataset> is closed, .*: keep its file open, or give'):
        pickle.dumps(source)


def test_worker_processes_open_files_by_name(tmp_path):
    makers = {name: (make, values) for name, (_, make, _, _, values) in CASES.items()}
    arrays = [make(h5py, values(N), tmp_path) for make, values in makers.values()]
    expected = ArrayDataSource([values(N) for _, values in makers.values()])
    with WorkerProcessPool(1, start_method='spawn') as pool:
        batches = pool.parallel_data_source(ArrayDataSource(arrays).map(keep)).batch_iterator(8, 3)
        for batch, other in zip(batches, expected.batch_iterator(8, 3), strict=True):
            for part, values in zip(batch, other, strict=True):
                np.testing.assert_array_equal(part, values)


@pytest.mark.slow
def test_executors_open_files_by_name(tmp_path):
    data = CASES['h5py, gzip'][1](h5py, floats(), tmp_path)
    with ProcessPoolExecutor(1) as executor, WorkerExecutorPool(executor) as pool:
        ((batch,),) = pool.parallel_data_source(ArrayDataSource([data]).map(keep)).batch_iterator(N)
    np.testing.assert_array_equal(batch, floats())


def test_what_workers_cannot_open(file, path):
    written = file.create_dataset('x', data=floats())
    memory = h5py.File('memory.h5', 'w', driver='core', backing_store=False).create_dataset('x', data=floats())
    with WorkerProcessPool(1, start_method='spawn') as pool:
        for data, message in [(written, 'data.h5 is open for writing, .*: close it'), (memory, 'is in no file that')]:
            with pytest.raises(TypeError, match=rf'data\[0\] cannot be sent to worker processes: .*{message}'):
                pool.parallel_data_source(ArrayDataSource([data]).map(keep))


def test_a_file_that_has_got_another_in_its_place_is_not_sent(path):
    with h5py.File(path, 'w') as file:
        file['x'] = floats()
    with h5py.File(path) as file, WorkerProcessPool(1, start_method='spawn') as pool:
        source = ArrayDataSource([file['x']]).map(keep)
        path.rename(f'{path}.old')
        path.write_bytes(b'another')
        with pytest.raises(TypeError, match='is in no file that other processes can open'):
            pool.parallel_data_source(source)


def test_a_file_with_one_writer_and_many_readers(path):
    with h5py.File(path, 'w', libver='latest') as file, WorkerProcessPool(1, start_method='spawn') as pool:
        data = file.create_dataset('x', data=floats(), chunks=(5, 3))
        file.swmr_mode = True
        ((batch,),) = pool.parallel_data_source(ArrayDataSource([data]).map(keep)).batch_iterator(N)
    np.testing.assert_array_equal(batch, floats())
