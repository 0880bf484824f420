"""What goes to worker processes once: no more memory than is needed, and nothing twice."""

import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided, sliding_window_view

from batchup._pools.packing import unpack_whole
from batchup._pools.shipping import Shipment
from batchup.data_source import ArrayDataSource, ConcatDataSource, RandomAccessDataSource

from ..harness.pools import BACKENDS, SLOW, on
from .test_batches import assert_all_read

SERIES = np.arange(20_000.0)
WIDE = SERIES.reshape(200, 100)

# What of the pickle, and of room between arrays, comes on top.
EXTRA = 6000

# Arrays, and how many bytes of them have to be shipped.
SHIPPED = {
    'windows': ([sliding_window_view(SERIES, 200)], SERIES.nbytes),
    'windows of two lengths': ([sliding_window_view(SERIES, 200), sliding_window_view(SERIES, 7)], SERIES.nbytes),
    'windows beside the series': ([SERIES, sliding_window_view(SERIES, 200)], SERIES.nbytes),
    'windows of a part': ([sliding_window_view(SERIES[:5000], 200)], 5000 * 8),
    'overlapping by strides': ([as_strided(SERIES, (190, 200), (800, 8))], (189 * 100 + 200) * 8),
    'the first rows': ([WIDE[:10]], 10 * 800),
    'overlapping rows': ([WIDE[:120], WIDE[60:180]], 180 * 800),
    'one column': ([WIDE[:, 0]], 1600),
    'columns': ([WIDE[:, 3], WIDE[:, 50:60]], 11 * 1600),
    'all columns': ([WIDE[:, k] for k in range(100)], WIDE.nbytes),
    'every other row, both': ([WIDE[::2], WIDE[1::2]], WIDE.nbytes),
    'every tenth row': ([WIDE[::10]], WIDE.nbytes // 10),
    'every tenth row beside all': ([WIDE[::10], WIDE], WIDE.nbytes),
    'a column, and two parts of rows': ([WIDE[:, 0], WIDE[:20], WIDE[10:30]], 1600 + 30 * 800),
    'backwards': ([WIDE[::-1], SERIES[::-1]], WIDE.nbytes),
    'transposed': ([WIDE.T, WIDE], WIDE.nbytes),
    'other types': ([WIDE.view('u1'), WIDE.view('>i4'), WIDE], WIDE.nbytes),
    'axes in another order': ([SERIES.reshape(20, 50, 20).transpose(1, 2, 0)], SERIES.nbytes),
    'column by column': ([np.asfortranarray(WIDE)], WIDE.nbytes),
    'broadcast': ([np.broadcast_to(SERIES[:10], (1000, 10))], 80),
    'of bytes': ([np.frombuffer(bytearray(80_000))[::-1]], 80_000),
    'the same twice': ([WIDE, WIDE], WIDE.nbytes),
    'two of their own': ([WIDE.copy(), WIDE.copy()], 2 * WIDE.nbytes),
}


def arrived(shipment):
    """Unpack a value as a worker does."""
    return unpack_whole(shipment.segment.view, shipment.spans)


def assert_arrives(arrays):
    shipment = Shipment(arrays)
    for one, other in zip(arrived(shipment), arrays, strict=True):
        assert (one.dtype, one.shape, one.flags.writeable) == (other.dtype, other.shape, other.flags.writeable)
        np.testing.assert_array_equal(one, other)
    assert shipment.fits(arrays)
    return shipment


@pytest.mark.parametrize('name', SHIPPED)
def test_no_more_is_shipped_than_is_needed(name):
    arrays, nbytes = SHIPPED[name]
    assert nbytes <= assert_arrives(arrays).segment.size <= nbytes + EXTRA


def saved(path, mode):
    np.save(path, SERIES)
    return np.load(f'{path}.npy', mmap_mode=mode)


VIEWS = {
    'windows': lambda array: sliding_window_view(array, 200),
    'windows of windows': lambda array: sliding_window_view(sliding_window_view(array, 50)[5:, ::2], 3, 0),
    'by strides': lambda array: as_strided(array[10:], (100, 5), (-8 * 5 + 80, 8)),
    'backwards': lambda array: array[::-3],
    'transposed': lambda array: array.reshape(10, -1).T[2:],
    'bytes': lambda array: np.asarray(array).view('u1')[5:-3],
}


@pytest.mark.parametrize('name', VIEWS)
@pytest.mark.parametrize('mode', ['r', 'r+'])
def test_nothing_is_shipped_of_a_mapped_file(name, mode, tmp_path):
    view = VIEWS[name](saved(tmp_path / 'file', mode))
    assert assert_arrives([view, view[1:]]).segment.size <= EXTRA


@pytest.mark.parametrize('name', VIEWS)
def test_a_mapped_file_with_changes_is_shipped_once(name, tmp_path):
    array = saved(tmp_path / 'file', 'c')
    array[50:200] = -1
    view = VIEWS[name](array)
    assert assert_arrives([view, view[1:]]).segment.size <= SERIES.nbytes + EXTRA


def test_views_share_memory_where_they_arrive():
    whole, windows, rows = arrived(Shipment((WIDE, sliding_window_view(WIDE, 5, 0, writeable=True), WIDE[::2])))
    whole[10] = -1
    assert (windows[10, :, 0] == -1).all()
    assert (rows[5] == -1).all()


def test_an_array_beside_a_view_of_it_stays_where_it_is():
    source = ArrayDataSource([WIDE.copy()])
    source.windows = sliding_window_view(source.data[0], 5, 0)
    before = source.data[0]
    shipment = Shipment(source)
    assert source.data[0] is before
    assert np.shares_memory(source.data[0], source.windows)
    assert shipment.segment.size <= WIDE.nbytes + EXTRA


def test_an_array_with_axes_in_another_order_moves_to_shared_memory():
    source = ArrayDataSource([SERIES.reshape(20, 50, 20).transpose(1, 2, 0).copy('K')])
    shipment = Shipment(source)
    assert np.shares_memory(source.data[0], np.frombuffer(shipment.segment.view, np.uint8))
    assert shipment.fits(source)


class Windows:
    """An array-like that holds an array inside."""

    def __init__(self, series):
        self.windows = sliding_window_view(series, 100)

    def __len__(self):
        return len(self.windows)

    def __getitem__(self, indices):
        return self.windows[indices] * 2


class Series(RandomAccessDataSource):
    """A user's source over views of one array."""

    def __init__(self, series):
        super().__init__(len(series) - 99)
        self.views = {'windows': sliding_window_view(series, 100), 'ends': series[99:]}

    def samples_by_indices_nomapping(self, indices):
        return self.views['windows'][indices], self.views['ends'][indices]


def sources(series):
    yield ArrayDataSource([sliding_window_view(series, 100), series[:-99], series[99:][::-1]])
    yield ArrayDataSource([Windows(series)])
    yield Series(series)


@on(BACKENDS, slow=SLOW)
def test_views_are_read(pool, tmp_path):
    for series in (SERIES[:1500].astype('>f4'), saved(tmp_path / 'file', 'r')[7:1500]):
        for source in sources(series):
            assert_all_read(pool, source, 500)


def test_views_inside_array_likes_are_shipped_once():
    for source in sources(SERIES):
        assert Shipment(source).segment.size <= SERIES.nbytes + EXTRA


def test_a_source_that_was_read_is_shipped_as_before():
    source = ConcatDataSource([ArrayDataSource([Windows(SERIES)])] * 2)
    shipment = Shipment(source)
    for shuffle in (None, 42):
        next(source.batch_iterator(5, shuffle))
    assert shipment.fits(source)
