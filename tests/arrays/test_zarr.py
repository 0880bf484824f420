"""Arrays of zarr: every layout is read, mostly without zarr, and what is damaged is named."""

import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from batchup._arrays import zarrs
from batchup._arrays.zarrs import ZarrStorage
from batchup.data_source import ArrayDataSource

zarr = pytest.importorskip('zarr')

X = np.random.RandomState(0).poisson(0.3, (101, 7, 5)).astype(np.float32)

BLOSC = zarr.codecs.BloscCodec(cname='zstd', clevel=3)
GZIP = zarr.codecs.GzipCodec()
FAST = {
    'chunks of rows': {'chunks': (10, 7, 5), 'compressors': BLOSC},
    'chunks of parts of rows': {'chunks': (10, 3, 2)},
    'one chunk, larger than the array': {'chunks': (200, 7, 5)},
    'gzip': {'chunks': (10, 7, 5), 'compressors': GZIP},
    'not compressed': {'chunks': (10, 3, 5), 'compressors': None},
    'the other byte order': {'chunks': (10, 7, 5), 'serializer': zarr.codecs.BytesCodec(endian='big')},
    'format 2': {'chunks': (10, 3, 5), 'zarr_format': 2},
    'format 2, not compressed': {'chunks': (10, 3, 5), 'zarr_format': 2, 'compressors': None},
    'shards': {'chunks': (4, 3, 5), 'shards': (20, 6, 5), 'compressors': BLOSC},
    'one shard, larger than the array': {'chunks': (1, 7, 5), 'shards': (200, 7, 5)},
}
BY_ZARR = {
    'two compressors': {'chunks': (10, 7, 5), 'compressors': [GZIP, BLOSC]},
    'transposed': {'chunks': (10, 7, 5), 'filters': zarr.codecs.TransposeCodec(order=(2, 1, 0))},
    'format 2, in order of columns': {'chunks': (10, 7, 5), 'zarr_format': 2, 'order': 'F'},
}
LAYOUTS = {**FAST, **BY_ZARR}


def stored(path, values=X, **layout):
    """Store an array, and open it again."""
    array = zarr.create_array(path, shape=values.shape, dtype=values.dtype, overwrite=True, **layout)
    array[:] = values
    return zarr.open_array(path, mode='r')


def read(storage, start, stop):
    output = np.empty((stop - start, *storage.shape[1:]), storage.dtype)
    storage.read(start, stop, output)
    return output


def chunk_files(path):
    return sorted((file for file in path.rglob('0') if file.is_file()), key=lambda file: int(file.parts[-3]))


@pytest.mark.parametrize('layout', LAYOUTS)
def test_rows_of_every_layout(tmp_path, layout):
    storage = ZarrStorage(stored(tmp_path, **LAYOUTS[layout]))
    for start, stop in [(0, 101), (0, 1), (3, 11), (9, 10), (40, 60), (33, 51), (100, 101)]:
        np.testing.assert_array_equal(read(storage, start, stop), X[start:stop])


@pytest.mark.filterwarnings('ignore:The data type')
@pytest.mark.parametrize('zarr_format', [2, 3])
def test_dtypes(tmp_path, zarr_format):
    whole = np.arange(33).reshape(11, 3)
    for dtype in ['bool', 'u1', '>f8', 'f2', 'c8', 'S3', 'U4', 'M8[ns]', 'm8[s]']:
        values = whole.astype(dtype)
        storage = ZarrStorage(stored(tmp_path, values, chunks=(4, 2), zarr_format=zarr_format))
        np.testing.assert_array_equal(read(storage, 0, 11), values)


def test_strings_of_any_length(tmp_path):
    values = np.array([f'text {k**k}' for k in range(11)], dtype=object)
    array = zarr.create_array(tmp_path, shape=(11,), chunks=(4,), dtype='string')
    array[:] = values
    batches = [batch for (batch,) in ArrayDataSource([array]).batch_iterator(4)]
    assert np.concatenate(batches).tolist() == values.tolist()


@pytest.mark.parametrize('layout', FAST)
def test_local_chunks_are_decoded_without_zarr(tmp_path, monkeypatch, layout):
    array = stored(tmp_path, **FAST[layout])
    monkeypatch.setattr(zarr.Array, '__getitem__', None)
    np.testing.assert_array_equal(read(ZarrStorage(array), 0, 101), X)


@pytest.mark.parametrize('layout', ['chunks of parts of rows', 'shards', 'two compressors'])
def test_chunks_that_were_never_written_have_the_fill_value(tmp_path, layout):
    array = zarr.create_array(tmp_path, shape=X.shape, dtype='f4', fill_value=7, **LAYOUTS[layout])
    array[30:33] = X[30:33]
    expected = np.full_like(X, 7)
    expected[30:33] = X[30:33]
    np.testing.assert_array_equal(read(ZarrStorage(array), 0, 101), expected)


def test_a_shard_is_a_chunk_unless_it_is_large(tmp_path, monkeypatch):
    array = stored(tmp_path, chunks=(2, 7, 5), shards=(60, 7, 5))
    assert ZarrStorage(array).chunk_rows == 60
    row = 7 * 5 * 4
    monkeypatch.setattr(zarrs, 'SHARD_BYTES', 59 * row)
    for rows, expected in [(60, 60), (59, 30), (13, 12), (3, 2), (1, 2)]:
        monkeypatch.setattr(zarrs, 'PART_BYTES', rows * row)
        assert ZarrStorage(array).chunk_rows == expected


def test_threads(tmp_path):
    storage = ZarrStorage(stored(tmp_path, **LAYOUTS['shards']))
    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(lambda start: read(storage, start, start + 10), list(range(0, 100, 10)) * 5))
    for part, start in zip(parts, list(range(0, 100, 10)) * 5):
        np.testing.assert_array_equal(part, X[start : start + 10])


@pytest.mark.parametrize('layout', ['chunks of rows', 'not compressed', 'gzip', 'shards'])
def test_a_truncated_file_is_an_error_that_names_array_and_rows(tmp_path, layout):
    array = stored(tmp_path / 'x', **LAYOUTS[layout])
    file = chunk_files(tmp_path / 'x')[-1]
    file.write_bytes(file.read_bytes()[:-7])
    stream = ArrayDataSource([array]).batch_iterator(20)
    for _ in range(5):
        next(stream)
    with pytest.raises((ValueError, EOFError)) as error:
        next(stream)
    assert f'to 100 of zarr array {tmp_path / "x"}' in str(error.value) + str(getattr(error.value, '__notes__', ''))
    assert stream.position == 5


def test_a_chunk_of_another_size_is_an_error(tmp_path):
    storage = ZarrStorage(stored(tmp_path, **LAYOUTS['chunks of rows']))
    other = stored(tmp_path / 'other', X[:, :6], chunks=(10, 6, 5), compressors=BLOSC)
    assert other.shape == (101, 6, 5)
    shutil.copy(chunk_files(tmp_path / 'other')[0], chunk_files(tmp_path)[0])
    with pytest.raises(ValueError, match='has 1200 bytes in place of 1400'):
        read(storage, 0, 10)


@pytest.mark.parametrize('layout', ['chunks of rows', 'shards', 'two compressors'])
def test_an_array_that_is_gone(tmp_path, layout):
    group = zarr.open_group(tmp_path / 'group', mode='w')
    array = group.create_array('inner/x', shape=X.shape, dtype='f4', **LAYOUTS[layout])
    source = ArrayDataSource([array])
    next(source.batch_iterator(5))
    shutil.rmtree(tmp_path / 'group')
    with pytest.raises(ValueError, match=r"zarr array 'inner/x' of .*group is gone: there is no zarr.json in"):
        next(source.batch_iterator(5))
    with pytest.raises(ValueError, match='is gone'):
        read(source._readers[0].storage, 0, 5)


@pytest.mark.parametrize('layout', ['chunks of rows', 'format 2'])
def test_a_length_that_changed(tmp_path, layout):
    array = stored(tmp_path, **LAYOUTS[layout])
    stream = ArrayDataSource([array]).batch_iterator(20, 42)
    next(stream)
    zarr.open_array(tmp_path).resize((90, 7, 5))
    for _ in range(2):
        with pytest.raises(ValueError, match='now has length 90, not 101'):
            list(stream)


def test_an_array_in_memory():
    array = zarr.create_array(zarr.storage.MemoryStore(), data=X, chunks=(10, 7, 5))
    storage = pickle.loads(pickle.dumps(ZarrStorage(array)))
    np.testing.assert_array_equal(read(storage, 15, 35), X[15:35])
