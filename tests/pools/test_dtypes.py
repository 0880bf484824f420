"""Arrays come from workers as they come without: their types, dtypes with byte orders, masks, flags."""

import numpy as np

from batchup.data_source import ArrayDataSource

from ..cases import numbers
from ..harness.pools import BACKENDS, on

RECORD = np.dtype(
    {'names': ['a', 'b', 'c'], 'formats': ['>i4', ('<f8', (2,)), '>U3'], 'offsets': [0, 8, 24], 'itemsize': 40}
)
TITLED = np.dtype([(('the number', 'n'), '>i2'), ('t', '>M8[ms]')], align=True)
WITH_METADATA = np.dtype('>f4', metadata={'unit': 'm'})

DTYPES = ['>i4', '<i4', '>u8', '>f2', '>f8', '>c16', '?', 'S3', '>U5', '<U5', '>M8[us]', '>m8[10s]', 'u1', 'longdouble']
DTYPES += [RECORD, TITLED, WITH_METADATA]


class Tagged(np.ndarray):
    """A subclass without anything of its own."""


class Named(np.ndarray):
    """A subclass that pickles an attribute, as NumPy's documentation says."""

    def __array_finalize__(self, obj):
        self.name = getattr(obj, 'name', None)

    def __reduce__(self):
        make, args, state = super().__reduce__()
        return make, args, (*state, self.name)

    def __setstate__(self, state):
        super().__setstate__(state[:-1])
        self.name = state[-1]


def layouts(array):
    """Give an array of shape (8, 6) in every layout."""
    frozen = array.copy()
    frozen.flags.writeable = False
    cube = array.reshape(8, 2, 3)
    return [
        *(array, array[::2], array[:, ::2], array[::-1], array[:, 0], array.T, np.asfortranarray(array)),
        *(array[:0], array[3:4, 2].reshape(()), cube.transpose(0, 2, 1), cube[::2].T, cube.transpose(2, 0, 1), frozen),
        np.broadcast_to(array[0], (4, 6)),
    ]


def kinds(array):
    """Give an array as every type of array."""
    named = array.view(Named)
    named.name = 'width'
    masked = np.ma.masked_array(array[::2], array[::2] == array[0], fill_value=array[2, 2])
    return [array.view(np.matrix), array[::2].view(Tagged), named, masked, masked[:, 1]]


def of_dtype(x, dtype):
    """Give an array of shape (8, 6) of a dtype, with bytes that depend on a batch."""
    drawn = np.random.default_rng(int(x[0])).integers(0, 2, (8, 6))
    return drawn.astype(dtype if np.dtype(dtype).fields is None else 'i4').astype(dtype)


def arrays_of_every_kind(x):
    """Return arrays of all dtypes, in all layouts and of all types."""
    simple = [of_dtype(x, dtype) for dtype in DTYPES]
    plain = [array for each in simple for array in layouts(each)]
    return (*plain, *(array for each in simple if each.dtype.kind not in 'V' for array in kinds(each)))


def assert_alike(one, other):
    """Assert that two arrays are equal in all that a user can see, but for where they lie."""
    assert type(one) is type(other)
    assert (one.dtype, one.dtype.byteorder, one.dtype.str) == (other.dtype, other.dtype.byteorder, other.dtype.str)
    assert (one.dtype.metadata or None) == (other.dtype.metadata or None)  # NumPy 1.22 makes {} of None
    assert one.shape == other.shape
    np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(np.ma.getmaskarray(one), np.ma.getmaskarray(other))
    assert getattr(one, 'fill_value', None) == getattr(other, 'fill_value', None)
    assert getattr(one, 'name', None) == getattr(other, 'name', None)


def assert_all_alike(batches, others):
    for batch, other in zip(batches, others, strict=True):
        for one, other_one in zip(batch, other, strict=True):
            assert_alike(one, other_one)
            assert one.flags.writeable
            assert other_one.flags.writeable


@on(BACKENDS)
def test_arrays_of_every_kind_come_from_functions(pool):
    source = numbers(12).map(arrays_of_every_kind, same_length=False)
    assert_all_alike(pool.parallel_data_source(source).batch_iterator(3), source.batch_iterator(3))


@on(BACKENDS)
def test_arrays_of_every_kind_are_read(pool):
    data = [array for array in arrays_of_every_kind(np.arange(3)) if array.ndim and len(array) == 8]
    source = ArrayDataSource(data)
    for shuffle in (None, 5):
        pooled = pool.parallel_data_source(source).batch_iterator(3, shuffle)
        assert_all_alike(pooled, source.batch_iterator(3, shuffle))


def handed_back(arrays):
    """Return the arrays that a task was given, and their dtypes as it saw them."""
    return arrays, [array.dtype.str for array in arrays]


@on(BACKENDS)
def test_arrays_of_every_kind_go_to_tasks_and_back(pool):
    arrays = arrays_of_every_kind(np.arange(3))
    tasks = [(handed_back, (arrays,)), (handed_back, (pool.shared_constant(arrays),))]
    for result, seen in pool.work_stream(tasks).retrieve_iter():
        assert seen == [array.dtype.str for array in arrays]
        for one, other in zip(result, arrays, strict=True):
            assert_alike(one, other)
