"""Arrays that users' functions make by `batchup.empty`, in pools: the batches are as ever, and not copied."""

import pickle

import numpy as np
import pytest

import batchup
from batchup.data_source import ArrayDataSource

from ..cases import assert_same_batches
from ..harness.making import MAKING, double, file_place, with_place
from ..harness.pools import BACKENDS, PROCESS_POOLS, SLOW, on

WIDTH = 5000


def source(n=60):
    return ArrayDataSource([np.arange(n * WIDTH, dtype=np.int32).reshape(n, WIDTH)])


@on(BACKENDS, slow=SLOW)
def test_batches_are_the_same_whatever_functions_do(pool):
    for function in MAKING:
        made = source().map(pickle.loads(pickle.dumps(function)), same_length=False)
        parallel = pool.parallel_data_source(made, batch_buffer_size=4)
        for _ in range(2):
            batches, expected = (list(one.batch_iterator(7)) for one in (parallel, made))
            assert_same_batches(batches, expected)


def batches_of_known_size(parallel):
    """Return the batches of an epoch that comes after another one: until a size is known, there are no slots."""
    for _ in parallel.batch_iterator(7):
        pass
    return list(parallel.batch_iterator(7))


@on(PROCESS_POOLS, slow=SLOW)
def test_what_a_worker_makes_is_what_the_user_gets(pool):
    parallel = pool.parallel_data_source(source().map(with_place))
    for output, place in batches_of_known_size(parallel):
        assert file_place(output.ctypes.data) == tuple(place[0])


@on(PROCESS_POOLS, slow=SLOW)
def test_what_is_made_on_the_way_leaves_its_place_to_the_result(pool):
    """The inner function makes its arrays elsewhere, as they are no batch of the user's."""
    parallel = pool.parallel_data_source(source().map(double).map(with_place))
    for output, place in batches_of_known_size(parallel):
        assert file_place(output.ctypes.data) == tuple(place[0])


def test_memory_is_used_again_once_nothing_refers_to_it():
    made = source(n=600).map(double)
    addresses = {batch[0].ctypes.data for batch in made.batch_iterator(20)}
    assert len(addresses) == 2
    kept = list(made.batch_iterator(20))
    assert len({batch[0].ctypes.data for batch in kept}) == len(kept)


ASKED = [
    (np.int64(40_000), 'f4'),
    ([np.int32(40), 1000], np.dtype('>i8')),
    ((5000,), '(2,3)f4'),
    ((), 'f8'),
    ((0, 3), 'f8'),
    (50_000, object),
    (3, 'S'),
    ((40_000,), 'm8[s]'),
    ((3, -1), 'f8'),
    ('a', 'f8'),
    (2.5, 'f8'),
    (3, 'nonsense'),
    (2**62, 'f8'),
]


def told(make, shape, dtype):
    """Return the shape and dtype of an array, or the error of its making."""
    try:
        array = make(shape, dtype)
    except Exception as error:
        return type(error), str(error)
    return array.shape, array.dtype, array.flags.c_contiguous, array.flags.writeable


@pytest.mark.parametrize('inside', [False, True])
def test_it_takes_what_numpy_takes(inside):
    def compare(*batch):
        for shape, dtype in ASKED:
            assert told(batchup.empty, shape, dtype) == told(np.empty, shape, dtype), (shape, dtype)
        return batch

    if inside:
        list(source().map(compare).batch_iterator(20))
    else:
        compare()
