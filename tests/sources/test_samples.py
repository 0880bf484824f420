"""Functions over single samples: what they get, how their results are stacked, and errors."""

from collections import namedtuple

import numpy as np
import pandas as pd
import pytest

from batchup._ground.batch import leaves
from batchup.data_source import ArrayDataSource, CallableDataSource, CompositeDataSource

from ..cases import assert_same_batch, assert_same_batches
from ..harness.pools import on

X = np.random.RandomState(0).rand(20, 3, 2).astype(np.float32)
Y = np.arange(20, dtype=np.int16)
SOURCE = ArrayDataSource([X, Y])

Pair = namedtuple('Pair', 'image label')


def batch_of(fn, source=SOURCE, batch_size=4, **kwargs):
    return next(source.map_samples(fn).batch_iterator(batch_size, **kwargs))


def notes_of(error):
    return '\n'.join(error.value.__notes__)


# What functions get and return.


def doubled(x, y):
    return x[:, ::-1] * 2, y


def test_results_are_stacked():
    batches = SOURCE.map_samples(doubled).batch_iterator(7, shuffle=3)
    assert_same_batches(batches, [(x[:, :, ::-1] * 2, y) for x, y in SOURCE.batch_iterator(7, shuffle=3)])


@pytest.mark.parametrize(
    ('fn', 'expected'),
    [
        (lambda x, y: x, (X[:4],)),
        (lambda x, y: y, (Y[:4],)),
        (lambda x, y: 2.5, (np.full(4, 2.5),)),
        (lambda x, y: y > 1, (Y[:4] > 1,)),
        (lambda x, y: [1, 2], (np.array([[1, 2]] * 4),)),
        (lambda x, y: [x, y], (X[:4], Y[:4])),
        (Pair, Pair(X[:4], Y[:4])),
        (lambda x, y: 'ab' * y, (np.array(['', 'ab', 'abab', 'ababab']),)),
        (lambda x, y: x.astype('>f8'), (X[:4].astype('>f8'),)),
    ],
)
def test_what_functions_may_return(fn, expected):
    batch = batch_of(fn)
    assert_same_batch(batch, expected)
    assert type(batch) is type(expected)


def test_parts_may_be_nested():
    y, parts = batch_of(lambda x, y: (y, {'x': [x, Pair(y, (x,))]}))
    assert type(parts['x'][1]) is Pair
    assert_same_batch((y, *leaves(parts)), (Y[:4], X[:4], Y[:4], X[:4]))
    (alone,) = batch_of(lambda x, y: {'x': x})
    assert_same_batch((alone['x'],), (X[:4],))


def test_objects_are_stacked_as_they_are():
    (objects,) = batch_of(lambda x, y: np.array({int(y)}, object))
    assert objects.tolist() == [{0}, {1}, {2}, {3}]


def test_a_sample_is_nested_as_the_batch_is():
    nested = CompositeDataSource([SOURCE, ArrayDataSource([Y * 2], include_indices=True)], flatten=False)
    batch = batch_of(lambda one, other: (one[0], other[0] + other[1]), nested)
    assert_same_batch(batch, (X[:4], Y[:4].astype(np.int64) * 3))


def test_rows_of_lists_and_tables_are_samples():
    table = pd.DataFrame({'a': Y * 2, 'b': Y * 3}, index=Y[::-1])
    source = ArrayDataSource([table, Y]).map(lambda rows, y: (rows, [int(each) for each in y], 'same for all'))
    batch = batch_of(lambda row, y, text: (row.a + row.b, y, text), source)
    assert_same_batch(batch, (Y[:4] * 5, np.arange(4), np.array(['same for all'] * 4)))


def test_rows_of_arrow_tables_are_tables():
    pa = pytest.importorskip('pyarrow')
    batch = batch_of(lambda row: row['a'][0].as_py(), ArrayDataSource([pa.table({'a': Y, 'b': Y})]))
    assert batch[0].tolist() == [0, 1, 2, 3]


def test_tensors_become_arrays():
    torch = pytest.importorskip('torch')
    assert_same_batch(batch_of(lambda x: x * 2, ArrayDataSource([torch.from_numpy(X)])), (X[:4] * 2,))


def test_memory_is_used_again_once_nothing_refers_to_it():
    made = ArrayDataSource([np.ones((200, 10_000))]).map_samples(np.negative)
    assert len({batch[0].ctypes.data for batch in made.batch_iterator(10)}) == 2


def test_results_are_gathered():
    (sums,) = SOURCE.map_samples(doubled).batch_map_concat(lambda x, y: y, 7)
    np.testing.assert_array_equal(sums, Y)


def test_samples_of_a_source_without_plan():
    source = CallableDataSource(lambda batch_size, **kwargs: SOURCE.batch_iterator(batch_size))
    assert_same_batches(source.map_samples(doubled).batch_iterator(7), SOURCE.map_samples(doubled).batch_iterator(7))


# Random functions.


def noisy(x, y, rng):
    """Draw more for some samples than for others."""
    return x + rng.random(x.shape, np.float32), rng.integers(100, size=1 + y % 3)[0]


def drawing_once(x, y, rng):
    return x + rng.random(x.shape, np.float32)


def test_draws_do_not_depend_on_those_of_other_samples():
    batches = [next(SOURCE.map_samples(fn, rng=True).batch_iterator(5, shuffle=3)) for fn in (noisy, drawing_once)]
    np.testing.assert_array_equal(batches[0][0], batches[1][0])
    noise = batches[1][0] - X[SOURCE.plan(5, shuffle=3)[0].indices]
    assert len(np.unique(noise[:, 0, 0])) == 5


def test_draws_belong_to_batch_and_epoch():
    source = SOURCE.map_samples(noisy, rng=True)
    batches = list(source.batch_iterator(5, shuffle=3, epoch=2))
    stream = source.batch_iterator(5, shuffle=3, epoch=2)
    stream.skip(2)
    assert_same_batch(next(stream), batches[2])
    assert not np.array_equal(next(source.batch_iterator(5, shuffle=3))[0], batches[0][0])


@on(['threads', 'fork', 'spawn'])
def test_workers_stack_the_same(pool):
    for source in (SOURCE.map_samples(doubled), SOURCE.map_samples(noisy, rng=True)):
        parallel = pool.parallel_data_source(source)
        assert_same_batches(parallel.batch_iterator(3, shuffle=1), source.batch_iterator(3, shuffle=1))
    assert_same_batches(parallel.map_samples(doubled).batch_iterator(3), source.map_samples(doubled).batch_iterator(3))


# Errors.


def fails_at_7(x, y):
    if y == 7:
        raise KeyError('no such label')
    return x


def test_an_error_says_which_sample_it_was():
    for shuffle in (None, 3):
        stream = SOURCE.map_samples(fails_at_7).batch_iterator(4, shuffle)
        with pytest.raises(KeyError, match='no such label') as error:
            list(stream)
        place = next(k for k, y in enumerate(SOURCE.plan(4, shuffle)[stream.position].indices) if y == 7)
        assert f'at sample {place} of the batch, which has index 7 in the source' in notes_of(error)


def test_the_sample_of_a_composite_has_an_index_in_each_member():
    both = CompositeDataSource([SOURCE, ArrayDataSource([Y], indices=[9, 8, 7])])
    with pytest.raises(KeyError) as error:
        batch_of(lambda x, y, z: fails_at_7(x, z), both)
    assert 'at sample 2 of the batch, which has index (2, 7)' in notes_of(error)


def test_the_index_is_not_known_where_rows_were_left_out():
    with pytest.raises(KeyError) as error:
        batch_of(fails_at_7, SOURCE.map(lambda x, y: (x[y > 5], y[y > 5])), 10)
    assert notes_of(error).splitlines()[0] == 'at sample 1 of the batch'


@on(['threads', 'spawn'])
def test_workers_say_which_sample_it_was(pool):
    with pytest.raises(KeyError) as error:
        list(pool.parallel_data_source(SOURCE.map_samples(fails_at_7)).batch_iterator(4))
    assert 'at sample 3 of the batch, which has index 7 in the source' in notes_of(error)


@pytest.mark.parametrize(
    ('other', 'error', 'message'),
    [
        (lambda x: x[1:], ValueError, r'shape \(2, 2\) for sample 2 of the batch, but of shape \(3, 2\).*pad_batch'),
        (lambda x: x.astype(float), TypeError, 'float64 for sample 2 of the batch, but float32 for sample 0'),
        (lambda x: 'text', TypeError, '<U4 for sample 2 of the batch, but float32'),
        (lambda x: (x, x), TypeError, 'same structure'),
        (lambda x: {'x': x}, TypeError, 'same structure'),
        (lambda x: None, TypeError, 'must return an array, a number, or a tuple of them, got NoneType'),
        (np.ma.array, TypeError, r'no masked arrays; return x\.filled'),
    ],
)
def test_all_samples_give_the_same(other, error, message):
    with pytest.raises(error, match=message) as raised:
        batch_of(lambda x, y: other(x) if y == 2 else x)
    assert 'at sample 2 of the batch, which has index 2' in notes_of(raised)


def test_names_in_another_order_are_found():
    with pytest.raises(TypeError, match='same structure'):
        batch_of(lambda x, y: {'a': y, 'b': y} if y else {'b': y, 'a': y})


@pytest.mark.parametrize(
    ('source', 'batch_size', 'message'),
    [
        (SOURCE.map(lambda x, y: (x[:0], y[:0])), 4, 'has no samples'),
        (CompositeDataSource([SOURCE, SOURCE]), (4, 8), r'one length, got lengths \[4, 8\]'),
    ],
)
def test_batches_that_cannot_be_taken_apart(source, batch_size, message):
    with pytest.raises(ValueError, match=message):
        batch_of(lambda *sample: sample[0], source, batch_size)


def test_arguments_are_checked_at_the_call():
    with pytest.raises(TypeError, match='fn must be a function of the arrays of a sample, got int'):
        SOURCE.map_samples(3)
    with pytest.raises(TypeError, match='rng'):
        SOURCE.map_samples(doubled, rng=42)
