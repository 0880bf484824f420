"""Columns of Parquet files as one array, of which row groups are the chunks."""

import datetime
import os
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import numpy as np
import pytest

from batchup._arrays import parquet
from batchup.arrays import ParquetArray
from batchup.data_source import ArrayDataSource, ConcatDataSource

pa = pytest.importorskip('pyarrow')
pq = pytest.importorskip('pyarrow.parquet')

N = 25
X = np.random.RandomState(0).poisson(0.3, (N, 4)).astype(np.float32)
LABELS = np.arange(N) % 3
NAMES = [f'name {k}' for k in range(N)]
VECTORS = pa.FixedSizeListArray.from_arrays(X.reshape(-1), 4)
TABLE = pa.table({**{f'x{k}': X[:, k] for k in range(4)}, 'label': LABELS, 'name': NAMES, 'vector': VECTORS})


@pytest.fixture
def path(tmp_path):
    return write(tmp_path / 'table.parquet', TABLE, 10)


def write(path, table, group_rows=1000):
    pq.write_table(table, path, row_group_size=group_rows, compression='zstd')
    return path


def column(tmp_path, values, **kwargs):
    """Return a column of these values alone, as an array."""
    return ParquetArray(write(tmp_path / 'column.parquet', pa.table({'c': values}), **kwargs), 'c')


def test_one_column_has_one_dimension(path):
    array = ParquetArray(path, 'label')
    assert (array.shape, array.ndim, len(array), array.dtype) == ((N,), 1, N, LABELS.dtype)
    np.testing.assert_array_equal(array[:], LABELS)


def test_columns_of_one_dtype_are_side_by_side(path):
    array = ParquetArray(path, ['x2', 'x0'])
    assert (array.shape, array.dtype, array.columns) == ((N, 2), np.float32, ('x2', 'x0'))
    np.testing.assert_array_equal(array[:], X[:, [2, 0]])
    np.testing.assert_array_equal(ParquetArray(path, ['x1'])[:], X[:, [1]])


def test_columns_of_several_dtypes_are_fields(path):
    rows = ParquetArray(path)[:]
    assert rows.shape == (N,)
    assert rows.dtype.names == tuple(TABLE.column_names)
    np.testing.assert_array_equal(rows['x3'], X[:, 3])
    np.testing.assert_array_equal(rows['label'], LABELS)
    np.testing.assert_array_equal(rows['vector'], X)
    assert rows['name'].tolist() == NAMES


def test_lists_of_fixed_size_are_dimensions(tmp_path, path):
    np.testing.assert_array_equal(ParquetArray(path, 'vector')[7:23], X[7:23])
    np.testing.assert_array_equal(ParquetArray(path, ['vector', 'vector'])[7:23], np.stack([X, X], axis=1)[7:23])
    nested = pa.FixedSizeListArray.from_arrays(VECTORS[:24], 2)
    np.testing.assert_array_equal(column(tmp_path, nested, group_rows=5)[3:11], X[6:22].reshape(8, 2, 4))


def test_strings_are_objects(path):
    array = ParquetArray(path, 'name')
    assert array.dtype == object
    assert array[8:13].tolist() == NAMES[8:13]


def test_dtypes(tmp_path):
    day = datetime.date(2020, 1, 31)
    moment = datetime.datetime(2020, 1, 31, 12, 30)
    for values, expected in [
        (pa.array([1, 2], pa.uint8()), np.array([1, 2], np.uint8)),
        (pa.array([True, False]), np.array([True, False])),
        (pa.array([0.5, None], pa.float64()), np.array([0.5, np.nan])),
        (pa.array([day, None]), np.array([day, 'NaT'], 'M8[D]')),
        (pa.array([moment, None], pa.timestamp('us')), np.array([moment, 'NaT'], 'M8[us]')),
        (pa.array([5, None], pa.duration('ms')), np.array([5, 'NaT'], 'm8[ms]')),
        (pa.array(['a', None]), np.array(['a', None])),
        (pa.array(['a', 'b']).dictionary_encode(), np.array(['a', 'b'], object)),
        (pa.array([b'a', b'b']), np.array([b'a', b'b'], object)),
        (pa.array([Decimal('1.5'), None]), np.array([Decimal('1.5'), None])),
    ]:
        array = column(tmp_path, values)
        assert (array.dtype, array[:].dtype) == (expected.dtype, expected.dtype)
        np.testing.assert_array_equal(array[:], expected)


def test_rows_and_their_groups_may_differ_in_number(tmp_path):
    files, rows = [], 0
    for size, group_rows in [(7, 3), (0, 3), (1, 1), (12, 5), (5, 100)]:
        files.append(write(tmp_path / f'{len(files)}.parquet', TABLE.slice(rows, size), group_rows))
        rows += size
    array = ParquetArray(files, ['x0', 'x1', 'x2', 'x3'])
    assert array.shape == X.shape
    for start in range(0, N, 3):
        for stop in range(start, N + 1, 2):
            np.testing.assert_array_equal(array[start:stop], X[start:stop])
    batches = [batch for (batch,) in ArrayDataSource([array]).batch_iterator(4, 42)]
    expected = [batch for (batch,) in ArrayDataSource([X]).batch_iterator(4, 42)]
    np.testing.assert_array_equal(np.concatenate(batches), np.concatenate(expected))


def test_concatenated_sources_may_have_row_groups_of_any_sizes(tmp_path):
    arrays, rows = [], 0
    for k, (size, group_rows) in enumerate([(7, 3), (5, 2), (13, 4)]):
        files = [
            write(tmp_path / f'{k}.parquet', TABLE.slice(rows, 4), group_rows),
            write(tmp_path / f'{k}b.parquet', TABLE.slice(rows + 4, size - 4), group_rows),
        ]
        arrays.append(ParquetArray(files, 'vector'))
        rows += size
    source = ConcatDataSource([ArrayDataSource([array]) for array in arrays])
    expected = ConcatDataSource([ArrayDataSource([array[:]]) for array in arrays])
    for (batch,), (values,) in zip(source.batch_iterator(4, 42), expected.batch_iterator(4, 42), strict=True):
        np.testing.assert_array_equal(batch, values)


def test_rows_are_chosen_as_those_of_an_array(path):
    array = ParquetArray(path, ['x0', 'x1', 'x2', 'x3'])
    for key in [3, -1, slice(20, 3, -4), slice(30, 40), [24, 0, -25, 0], np.array([], int), X[:, 0] > 0, ...]:
        if key is ...:
            np.testing.assert_array_equal(np.asarray(array, np.float64), X)
        else:
            np.testing.assert_array_equal(array[key], X[key])


def test_rows_that_there_are_not(path):
    array = ParquetArray(path, 'label')
    for key in [N, -N - 1, [0, N]]:
        with pytest.raises(IndexError, match='there are 25'):
            array[key]
    for key in ['label', 1.5, [[1]], (1, 2), X[:3, 0] > 0]:
        with pytest.raises((TypeError, IndexError), match='rows'):
            array[key]


def test_row_groups_are_the_chunks_and_each_is_decoded_once(tmp_path, monkeypatch):
    table = TABLE.slice(0, 24)
    files = [write(tmp_path / f'{k}.parquet', part, 5) for k, part in enumerate([table.slice(0, 7), table.slice(7)])]
    array = ParquetArray(files, 'label')
    assert array.group_starts.tolist() == [0, 5, 7, 12, 17, 22, 24]
    groups, read = [], pq.ParquetFile.read_row_group
    monkeypatch.setattr(
        pq.ParquetFile, 'read_row_group', lambda file, k, *args, **how: groups.append(k) or read(file, k, *args, **how)
    )
    list(ArrayDataSource([array]).batch_iterator(4))
    assert groups == [0, 1, 0, 1, 2, 3]
    groups.clear()
    list(ArrayDataSource([array]).batch_iterator(4, 42))
    assert sorted(groups) == [0, 0, 1, 1, 2, 3]


def test_wide_row_groups_are_decoded_some_columns_at_a_time(path, monkeypatch):
    for columns, expected in [(['x0', 'x1', 'x2', 'x3'], X), (None, ParquetArray(path)[:])]:
        for nbytes in [1, 10 * 4 * 3]:
            monkeypatch.setattr(parquet, 'TOGETHER_BYTES', nbytes)
            np.testing.assert_array_equal(ParquetArray(path, columns)[:], expected)


def test_a_folder_is_read_in_the_order_of_paths(tmp_path):
    (tmp_path / 'b').mkdir()
    for name, start, count in [('b/0.parquet', 10, 5), ('a.parquet', 0, 10), ('c.parquet', 15, 10)]:
        write(tmp_path / name, TABLE.slice(start, count))
    (tmp_path / '_hidden.parquet').write_text('')
    (tmp_path / 'notes.txt').write_text('')
    assert ParquetArray(tmp_path, 'name')[:].tolist() == NAMES
    (tmp_path / 'empty').mkdir()
    with pytest.raises(FileNotFoundError, match=r'no file \*.parquet in .*empty'):
        ParquetArray(tmp_path / 'empty')


def test_integers_that_are_missing_are_an_error_with_file_column_and_rows(tmp_path):
    missing = [None if k in (12, 13, 17) else k for k in range(N)]
    lists = pa.array([None if k == 12 else [k, k] for k in range(N)], pa.list_(pa.int8(), 2))
    numbers = pa.array([[k, None if k == 12 else k] for k in range(N)], pa.list_(pa.int8(), 2))
    for values, rows in [
        (pa.array(missing), '12, 13'),
        (pa.array([None if value is None else value > 0 for value in missing]), '12, 13'),
        (lists, '12'),
        (numbers, '12'),
    ]:
        array = column(tmp_path, values, group_rows=5)
        np.testing.assert_array_equal(array[18:20].astype(bool), True)
        with pytest.raises(ValueError, match=rf"column.parquet: column 'c' has no values in rows {rows}[, ;]"):
            array[11:]


def test_bad_columns_are_errors_that_name_them(tmp_path, path):
    with pytest.raises(KeyError, match=r"table.parquet: there is no column 'y'; the columns are 'x0', "):
        ParquetArray(path, ['x0', 'y'])
    with pytest.raises(ValueError, match='at least one column'):
        ParquetArray(path, [])
    with pytest.raises(TypeError, match=r"column.parquet: column 'c' has type list"):
        column(tmp_path, [[1], [2, 3]])
    other = write(tmp_path / 'other.parquet', pa.table({'label': LABELS.astype(np.int8)}))
    with pytest.raises(TypeError, match=r'other.parquet: rows have dtype int8 .*table.parquet have int64'):
        ParquetArray([path, other], 'label')


def test_files_that_are_no_parquet_files(tmp_path, path):
    with pytest.raises(FileNotFoundError, match=r'nowhere.parquet'):
        ParquetArray(tmp_path / 'nowhere.parquet')
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r'table.parquet is no Parquet file, or is truncated'):
        ParquetArray(path)


def test_a_file_that_has_changed_is_an_error_at_the_next_row_group(path):
    stream = ArrayDataSource([ParquetArray(path, 'label')]).batch_iterator(10)
    next(stream)
    write(path, TABLE.slice(0, 20), 10)
    for _ in range(2):
        with pytest.raises(ValueError, match=r'table.parquet has changed since it was opened'):
            next(stream)
    assert stream.position == 1


def test_a_row_group_that_does_not_decode(path):
    array = ParquetArray(path, 'vector')
    group = pq.read_metadata(path).row_group(1).column(6)
    start = group.dictionary_page_offset or group.data_page_offset
    before = os.stat(path)
    with path.open('r+b') as file:
        file.seek(start)
        file.write(b'\xff' * group.total_compressed_size)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    stream = ArrayDataSource([array]).batch_iterator(10)
    next(stream)
    with pytest.raises(OSError, match=r'table.parquet: row group 1 could not be read') as caught:
        next(stream)
    assert f'in rows 10 to 19 of Parquet file {path}' in str(caught.value) + str(getattr(caught.value, '__notes__', ''))


def test_an_array_pickles_and_finds_its_files_from_anywhere(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    array = ParquetArray('table.parquet', 'name')
    array[3:5]
    state = pickle.dumps(array)
    monkeypatch.chdir('/')
    assert pickle.loads(state)[:].tolist() == array[:].tolist() == NAMES
    assert repr(array) == f'<ParquetArray of {str(path)!r}: shape (25,), dtype object>'


def test_threads(path):
    array = ParquetArray(path, ['x0', 'x1', 'x2', 'x3'])
    starts = list(range(20)) * 10
    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(lambda start: array[start : start + 5], starts))
    for start, part in zip(starts, parts, strict=True):
        np.testing.assert_array_equal(part, X[start : start + 5])


def test_pyarrow_is_asked_for(path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'pyarrow.parquet', None)
    with pytest.raises(ImportError, match=r"needs pyarrow: pip install '\.\[parquet\]'"):
        ParquetArray(path)
