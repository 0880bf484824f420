"""What users' code returns becomes batches of the user's own, without a copy of what is new."""

import copy
import itertools
from collections import namedtuple

import numpy as np
import pytest

from batchup.data_source import (
    AbstractDataSource,
    ArrayDataSource,
    CallableDataSource,
    CompositeDataSource,
    ConcatDataSource,
    IteratorDataSource,
    RandomAccessDataSource,
)

from ..cases import keep
from ..harness.pools import LOCAL, SLOW, on

TABLE = np.arange(60.0).reshape(20, 3)
MASKED = np.ma.masked_array(TABLE.copy(), TABLE % 2 == 0)
CACHED = (TABLE.copy(), [TABLE.copy()])

Pair = namedtuple('Pair', 'x y')


def new(x):
    return x * 2, {'also': x + 1}


def part_of_new(x):
    return (x * 2)[:, ::-1], [(x + 1).reshape(-1), (x + 2).T]


def masked_new(x):
    return np.ma.masked_array(x * 2, x > 5), np.ma.masked_array(x + 1)


def parts_of_one(x):
    doubled = x * 2
    return doubled[:, :2], doubled[:, 1:]


def as_given(x):
    return (x,)


def part_of_given(x):
    return (x[:, 1:],)


def given_twice(x):
    return x, Pair(x, x[::-1]), {'x': x}


def table(x):
    return (TABLE,)


def parts_of_table(x):
    return TABLE[: len(x)], {'x': TABLE[1:]}, [TABLE.T], Pair(TABLE.reshape(-1), TABLE[:0])


def cached(x):
    return CACHED


def masked_table(x):
    return MASKED[:5], MASKED, np.ma.masked_array(x * 2, MASKED.mask[0, :1])


def spread(x):
    return np.broadcast_to(x[:1], x.shape), *np.broadcast_arrays(x[:1] * 2, x + 1)


def frozen(x):
    x = x * 2
    x.flags.writeable = False
    return (x,)


def windows(x):
    return (np.lib.stride_tricks.sliding_window_view(x * 2, 2, 0, writeable=True),)


def of_buffer(x):
    return (np.frombuffer(bytearray(x.tobytes())),)


class FromFile:
    """A function that returns parts of a file."""

    def __init__(self, path, mode):
        TABLE.tofile(path)
        self.path = path
        self.file = np.memmap(path, TABLE.dtype, mode, shape=TABLE.shape)

    def __call__(self, x):
        return self.file[1:], np.asarray(self.file)[::2], np.memmap(self.path, mode='r+')[:9]


FUNCTIONS = {
    function.__name__: lambda path, function=function: function
    for function in (
        *(new, part_of_new, masked_new, parts_of_one, as_given, part_of_given, given_twice, table, parts_of_table),
        *(cached, masked_table, spread, frozen, windows, of_buffer),
    )
}
FUNCTIONS['part of a file'] = lambda path: FromFile(path, 'r')
FUNCTIONS['part of a file to write'] = lambda path: FromFile(path, 'r+')

# Two samples of 24 bytes, which come in blocks; or of 72 KB, in memory that is used again.
shapes = pytest.mark.parametrize('shape', [(12, 3), (12, 9_000)], ids=['small', 'large'])


def arrays_in(value):
    """Go through the arrays of a batch."""
    if isinstance(value, (tuple, list, dict)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from arrays_in(part)
    else:
        yield value


def assert_own(open_stream):
    """Assert that batches that are written into change neither each other nor batches to come."""
    expected = [copy.deepcopy(batch) for batch in open_stream()]
    for _ in range(2):
        # All are kept before the first is written into.
        arrays, others = list(arrays_in(list(open_stream()))), list(arrays_in(expected))
        for array, other in zip(arrays, others, strict=True):
            assert type(array) is (np.ma.MaskedArray if isinstance(other, np.ma.MaskedArray) else np.ndarray)
            np.testing.assert_array_equal(array, other)
            assert array.flags.writeable
            array[...] = 77


def mapped_sources(shape, folder):
    """Go through sources, one for each of the functions."""
    source = ArrayDataSource([np.arange(np.prod(shape), dtype=float).reshape(shape)])
    for name, make in FUNCTIONS.items():
        yield source.map(make(folder / name), same_length=False)


@shapes
def test_results_of_functions(shape, tmp_path):
    for source in mapped_sources(shape, tmp_path):
        assert_own(lambda: source.batch_iterator(2))  # noqa: B023


@on(LOCAL, slow=SLOW)
@shapes
def test_results_of_functions_in_workers(pool, shape, tmp_path):
    for source in mapped_sources(shape, tmp_path):
        parallel = pool.parallel_data_source(source)
        assert_own(lambda: parallel.batch_iterator(2))  # noqa: B023


# What sources of users give.


class OwnTable(RandomAccessDataSource):
    """A source that returns parts of a table of its own, and the indices that it was given."""

    def __init__(self, n):
        super().__init__(n)
        self.table = np.arange(float(n))

    def samples_by_indices_nomapping(self, indices):
        return indices, self.table[: len(indices)], np.broadcast_to(self.table[0], len(indices))


class Window:
    """An array-like that reads into an array of its own, or finds what is asked for in it."""

    def __init__(self, n):
        self.rows = np.arange(float(n))
        self.window = np.empty(n)

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, indices):
        return self.rows.take(indices, 0, self.window[: len(indices)], 'clip')


class OneBuffer(AbstractDataSource):
    """A source that makes all its batches in one array."""

    def num_samples(self, **kwargs):
        return 12

    def batch_iterator(self, batch_size, **kwargs):
        buffer = np.empty(batch_size)
        for start in range(0, 12, batch_size):
            buffer[:] = np.arange(start, start + batch_size)
            yield buffer, buffer[::-1]


def in_order(batch_size, **kwargs):
    return OneBuffer().batch_iterator(batch_size)


READ_BY_INDEX = {
    'source': lambda: OwnTable(12),
    'array-like': lambda: ArrayDataSource([Window(12)]),
    'composite': lambda: CompositeDataSource([OwnTable(12), ArrayDataSource([Window(12)])]),
    'concat': lambda: ConcatDataSource([OwnTable(5), OwnTable(7)]),
}
READ_IN_ORDER = {
    'function': lambda: CallableDataSource(in_order),
    'iterator': lambda: IteratorDataSource(iter([(TABLE[start:], TABLE) for start in range(6)])),
    'mapped': lambda: OneBuffer().map(given_twice_of_two, same_length=False),
    'composite': lambda: CompositeDataSource([OneBuffer(), ArrayDataSource([np.arange(12)])]),
}


def given_twice_of_two(x, first):
    return x, x, first


@pytest.mark.parametrize('name', READ_BY_INDEX)
def test_batches_of_sources_of_users(name):
    for shuffle in (None, 4):
        assert_own(lambda: READ_BY_INDEX[name]().batch_iterator(2, shuffle))  # noqa: B023


@on(LOCAL, slow=SLOW)
@pytest.mark.parametrize('name', READ_BY_INDEX)
def test_batches_of_sources_of_users_in_workers(pool, name):
    # Two workers at a time would use the one window of the array-like.
    assert_own(lambda: pool.parallel_data_source(READ_BY_INDEX[name](), batch_buffer_size=1).batch_iterator(2, 4))


@pytest.mark.parametrize('name', READ_IN_ORDER)
def test_batches_of_iterators_of_users(name):
    assert_own(lambda: READ_IN_ORDER[name]().batch_iterator(2))


# What is new stays where it is.


class Notes:
    """A function that notes down where the arrays are that another one returns."""

    def __init__(self, fn):
        self.fn = fn
        self.places = []

    def __call__(self, *batch):
        result = self.fn(*batch)
        self.places += [array.ctypes.data for array in arrays_in(result)]
        return result


@pytest.mark.parametrize('fn', [new, part_of_new, masked_new, as_given, part_of_given])
@pytest.mark.parametrize('shuffle', [None, 4])
def test_what_is_new_is_not_copied(fn, shuffle):
    notes, source = Notes(fn), ArrayDataSource([np.arange(240_000.0).reshape(12, -1)])
    batches = list(source.map(notes, same_length=False).batch_iterator(2, shuffle))
    assert [array.ctypes.data for array in arrays_in(batches)] == notes.places


@on(['threads', 'fork'])
def test_what_a_function_over_a_pool_returns_as_it_is_is_not_copied(pool):
    source = pool.parallel_data_source(ArrayDataSource([np.arange(240_000.0).reshape(12, -1)]))
    notes = Notes(as_given)
    batches = list(source.map(notes, same_length=False).batch_iterator(2))
    assert [array.ctypes.data for array in arrays_in(batches)] == notes.places


# What functions keep.


class Keeps:
    """A function that returns what it is given, and keeps it, or a part of it.

    It says how often something that it has kept is no longer what it was.
    """

    def __init__(self, part=slice(None)):
        self.kept = []
        self.part = part

    def __call__(self, *batch):
        changed = sum(not np.array_equal(array, before) for array, before in self.kept)
        parts = [array[self.part] for array in arrays_in(batch)]
        self.kept += [(part, part.copy()) for part in parts]
        return (*batch, np.array([changed]))


def numbered(shape, **kwargs):
    return ArrayDataSource([np.arange(np.prod(shape), dtype=float).reshape(shape)], include_indices=True, **kwargs)


class Rows(RandomAccessDataSource):
    """A user's source that keeps the indices that it is given, and returns them."""

    def __init__(self, n):
        super().__init__(n)
        self.keeps = Keeps()

    def samples_by_indices_nomapping(self, indices):
        return self.keeps(indices)


# Sources whose batches are written to a worker's memory if no function sees them.
SOURCES = {
    'array': numbered,
    'composite': lambda shape: CompositeDataSource([numbered(shape), numbered(shape)], trim=False),
    'concat': lambda shape: ConcatDataSource([numbered(shape), numbered(shape)], include_indices=True),
    'run of a concat': lambda shape: ConcatDataSource([numbered(shape), numbered(shape).map(keep)]),
    'source of a user': lambda shape: Rows(len(shape)),
}


def changed_in(stream):
    """Write into every batch at once; return how often a function saw something changed."""
    changed = 0
    for *arrays, count in stream:
        changed += int(count[0])
        for array in arrays_in(arrays):
            array[...] = 77
    return changed


def keeping(source):
    """Map functions to a source that keep batches whole, or a part of each."""
    return [source.map(Keeps(part), same_length=False) for part in (slice(None), slice(1))]


@pytest.mark.parametrize('name', SOURCES)
@shapes
def test_what_a_function_keeps_never_changes(name, shape):
    for source, shuffle in itertools.product(keeping(SOURCES[name]((32, *shape[1:]))), (None, 3)):
        assert changed_in(source.batch_iterator(4, shuffle)) == 0


@on(LOCAL, slow=SLOW)
@pytest.mark.parametrize('name', SOURCES)
@shapes
def test_what_a_function_keeps_never_changes_in_workers(pool, name, shape):
    for source in keeping(SOURCES[name]((32, *shape[1:]))):
        parallel = pool.parallel_data_source(source, batch_buffer_size=2)
        for shuffle in (None, 3):
            assert changed_in(parallel.batch_iterator(4, shuffle)) == 0


@on(LOCAL, slow=SLOW)
@shapes
def test_what_a_function_over_a_pool_keeps_never_changes(pool, shape):
    parallel = pool.parallel_data_source(numbered((32, *shape[1:])), batch_buffer_size=2)
    for source, shuffle in itertools.product(keeping(parallel), (None, 3)):
        assert changed_in(source.batch_iterator(4, shuffle)) == 0
