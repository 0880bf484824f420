"""Array-likes of users: what they are asked for, and the memory that they are given."""

from collections import deque

import numpy as np
import pytest

from batchup._arrays.filled import FilledRows
from batchup._arrays.readers import make_reader
from batchup._ground.batch import Destination
from batchup.data_source import ArrayDataSource

from .cases import Filling
from .chunked import Chunked


class Recorder(Filling):
    """Records what it is asked for."""

    def __init__(self, values):
        super().__init__(values)
        self.asked = []

    def take(self, indices, axis=0, out=None):
        self.asked.append((indices, axis, out.shape))
        super().take(indices, axis, out)


@pytest.mark.parametrize('shuffle', [None, 3])
def test_take_is_called_once_for_each_batch(shuffle):
    recorder = Recorder(np.arange(20.0).reshape(10, 2))
    list(ArrayDataSource([recorder], indices=[0, 1, 2, 3, -1]).batch_iterator(2, shuffle))
    assert [(axis, shape) for _, axis, shape in recorder.asked] == [(0, (2, 2)), (0, (2, 2)), (0, (1, 2))]
    assert sorted(np.concatenate([indices for indices, _, _ in recorder.asked])) == [0, 1, 2, 3, 9]


def test_take_writes_into_the_memory_of_a_pool():
    memory = np.zeros((6, 2))
    reader = make_reader(0, Filling(np.arange(20.0).reshape(10, 2)))
    batches = list(reader.batches(np.array([9, 8, 7, 0, 1, 2]), 2, Destination(lambda shape, dtype: memory)))
    assert all(np.shares_memory(batch, memory) for batch in batches)
    assert memory[:, 0].tolist() == [18, 16, 14, 0, 2, 4]


def test_memory_is_recycled_when_a_batch_is_let_go():
    stream = ArrayDataSource([Filling(np.zeros((64, 4096)))]).batch_iterator(16)
    address = next(stream)[0].ctypes.data
    assert next(stream)[0].ctypes.data == address
    kept = next(stream)[0]
    assert next(stream)[0].ctypes.data != kept.ctypes.data


def without_out(self, indices, axis=0):
    """Take rows as pandas does."""


def with_any(self, indices, **kwargs):
    """Take rows with arguments that are not known."""


@pytest.mark.parametrize('take', [without_out, with_any])
def test_another_take_is_not_used(take):
    kind = type('Other', (Filling,), {'take': take})
    reader = make_reader(0, kind(np.arange(10.0)))
    assert not isinstance(reader, FilledRows)
    assert reader.read(np.array([1, 2])).tolist() == [1, 2]


@pytest.mark.parametrize('missing', ['shape', 'dtype'])
def test_take_needs_a_shape_and_a_dtype(missing):
    array = Filling(np.arange(10.0))
    delattr(array, missing)
    assert not isinstance(make_reader(0, array), FilledRows)


@pytest.mark.parametrize(
    ('item', 'advice'),
    [
        ([1, 2, 3], r'np\.asarray\(x\)'),
        ([[1, 2], [3]], r'differ in length: batchup\.padding\.RaggedArray\.from_list\(x\)'),
        ([np.zeros(2), np.zeros(3)], r'RaggedArray\.from_list\(x\)'),
        (['a', 'bc'], r'np\.asarray\(x\)'),
        (range(3), r'np\.asarray\(x\)'),
        (deque([1, 2, 3]), r'np\.asarray\(x\)'),
        ({'x': np.zeros(3)}, r'\[x\[name\] for name in x\]'),
        ({1, 2, 3}, r'no order; np\.asarray\(sorted\(x\)\)'),
        (iter([1, 2, 3]), r'IteratorDataSource\(x\)'),
        (np.float64(3), 'a row for each sample'),
        (None, 'a row for each sample'),
    ],
)
def test_advice_for_what_is_no_array(item, advice):
    with pytest.raises(TypeError, match=rf'data\[1\] must be an array-like.*{advice}'):
        ArrayDataSource([np.arange(3), item])


def test_the_variables_of_a_data_set_are_named():
    xarray = pytest.importorskip('xarray')
    with pytest.raises(TypeError, match=r'got Dataset; put each array .*x\[name\]'):
        ArrayDataSource([xarray.Dataset({'x': ('row', np.arange(3))})])


def test_chunks_of_another_shape_or_dtype_are_not_made_to_fit():
    class Wrong(Chunked):
        def __getitem__(self, rows):
            return self.wrong(super().__getitem__(rows))

    for wrong, error, message in [
        (lambda rows: rows[:1], ValueError, r'gave an array of shape \(1, 2\) for 5 rows'),
        (lambda rows: 7, ValueError, r'gave an array of shape \(\) for 5 rows'),
        (lambda rows: rows + 0.5, TypeError, 'gave an array of dtype float64, but its own dtype is int64'),
    ]:
        array = Wrong(np.arange(20).reshape(10, 2), 5)
        array.wrong = wrong
        for shuffle in (None, 3):
            with pytest.raises(error, match=rf'a Wrong of shape \(10, 2\) {message}'):
                next(ArrayDataSource([array]).batch_iterator(4, shuffle))
