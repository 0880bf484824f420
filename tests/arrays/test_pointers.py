"""Who copies, as pointers show: sources of every kind, inline and in pools, and the libraries that batches go to."""

import importlib
import os
from contextlib import suppress
from functools import partial

import numpy as np
import pytest

import batchup
from batchup.data_source import ArrayDataSource, CompositeDataSource, ConcatDataSource

from ..harness.making import Filled, Made, MadeSource, double, file_place, with_place
from ..harness.pools import MAY_FORK, on, shared_pools
from .cases import ONLY_JAX

# The forked workers have nothing to do with JAX, which warns of them.
pytestmark = [MAY_FORK, pytest.mark.filterwarnings(r'ignore:os.fork\(\) was called:RuntimeWarning')]

with_jax = pytest.mark.skipif(not ONLY_JAX, reason='test_jax.py runs it, in an interpreter of its own')

N, WIDTH, BATCH = 64, 5000, 16


def data():
    return np.arange(N * WIDTH, dtype=np.float32).reshape(N, WIDTH)


def mapped(folder):
    np.save(folder / 'array.npy', data())
    return np.load(folder / 'array.npy', mmap_mode='r')


SOURCES = {
    'memory': lambda folder: ArrayDataSource([data()]),
    'subset': lambda folder: ArrayDataSource([data()], indices=np.arange(N)[::-1]),
    'mapped file': lambda folder: ArrayDataSource([mapped(folder)]),
    'take(out=)': lambda folder: ArrayDataSource([Filled(data())]),
    '__getitem__ by empty': lambda folder: ArrayDataSource([Made(data())]),
    "user's source by empty": lambda folder: MadeSource(data()),
    'function by empty': lambda folder: ArrayDataSource([data()]).map(double),
    'concatenated': lambda folder: ConcatDataSource([ArrayDataSource([data()]), ArrayDataSource([data()])]),
    'composite': lambda folder: CompositeDataSource([ArrayDataSource([data()]), ArrayDataSource([Made(data())])]),
}
PLACES = ['fork', 'inline', 'threads']
# For libraries that do not go on in a forked process.
NEW_PROCESSES = pytest.param('spawn', marks=pytest.mark.slow, id='spawn pool')


@pytest.fixture(params=PLACES)
def opened(request, all_by_workers):
    """A function that opens streams: inline, or over a pool."""
    if request.param == 'inline':
        return lambda source: source.batch_iterator(BATCH, shuffle=3)
    return partial(second_epoch, shared_pools.get(request.param))


def second_epoch(pool, source):
    """Open a stream of which workers make all batches: the first epoch has told how large these are."""
    parallel = pool.parallel_data_source(source)
    for _ in parallel.batch_iterator(BATCH):
        pass
    return parallel.batch_iterator(BATCH, shuffle=3)


def batches(opened, folder):
    """Go through the arrays of a source of each kind."""
    for name, make in SOURCES.items():
        for batch in opened(make(folder)):
            for array in batch:
                yield name, array


def test_large_batches_begin_at_cache_lines(opened, tmp_path):
    assert {name for name, array in batches(opened, tmp_path) if array.ctypes.data % 64} == set()


def test_torch_takes_batches_as_they_are(opened, tmp_path):
    torch = pytest.importorskip('torch')
    for name, array in batches(opened, tmp_path):
        assert torch.from_numpy(array).data_ptr() == array.ctypes.data, name


@with_jax
def test_jax_takes_batches_as_they_are(opened, tmp_path):
    jax = pytest.importorskip('jax')
    for name, array in batches(opened, tmp_path):
        if array.dtype == np.float32:  # it has no other floats by default
            assert jax.device_put(array).unsafe_buffer_pointer() == array.ctypes.data, name


def test_arrow_takes_batches_as_they_are(opened, tmp_path):
    arrow = pytest.importorskip('pyarrow')
    for name, array in batches(opened, tmp_path):
        assert arrow.array(array.reshape(-1)).buffers()[1].address == array.ctypes.data, name


@with_jax
@pytest.mark.parametrize('opened', ['inline', 'threads', NEW_PROCESSES], indirect=True)
def test_arrays_of_jax_and_tensors_are_read_straight_into_batches(opened):
    jax = pytest.importorskip('jax')
    makers = [jax.numpy.asarray]
    with suppress(ImportError):
        makers.append(importlib.import_module('torch').from_numpy)
    for kept in (make(data()) for make in makers):
        for (batch,) in opened(ArrayDataSource([kept])):
            assert type(batch) is type(kept)
            assert np.asarray(batch).ctypes.data % 64 == 0


def test_what_a_function_makes_is_the_batch(opened):
    for output, place in opened(ArrayDataSource([data()]).map(with_place)):
        here = file_place(output.ctypes.data) or (os.getpid(), output.ctypes.data)
        assert here == tuple(place[0])


@on(['fork'])
def test_batches_of_processes_lie_in_shared_memory(pool, tmp_path):
    for name, array in batches(partial(second_epoch, pool), tmp_path):
        assert file_place(array.ctypes.data) is not None, name


# Keeping, writing into, converting and dropping batches.

STEPS = 10**5
KEPT = 20


def converters():
    """Functions that make something else of a batch, over its memory."""
    jax, arrow = (pytest.importorskip(name) for name in ('jax', 'pyarrow'))
    found = [
        lambda array: array,
        lambda array: array[2:5],
        lambda array: array.T,
        lambda array: memoryview(array.reshape(-1)),
        jax.device_put,
        lambda array: arrow.array(array.reshape(-1)),
    ]
    with suppress(ImportError):
        found.append(importlib.import_module('torch').from_numpy)
    return found


@with_jax
@pytest.mark.slow
@pytest.mark.parametrize('opened', ['inline', 'threads', NEW_PROCESSES], indirect=True)
def test_random_steps_change_no_byte_that_they_should_not(opened):
    # Just large enough to be in memory that is used again.
    source = ArrayDataSource([data()[:, :2100]]).map(halved)
    rng, convert = np.random.default_rng(1), converters()
    kept, stream = [], opened(source)
    for step in range(STEPS):
        action = rng.integers(4) if kept else 0
        k = int(rng.integers(len(kept))) if kept else 0
        if action == 0:
            batch = next(stream, None)
            if batch is None:
                stream = opened(source)
                continue
            thing = convert[rng.integers(len(convert))](batch[0])
            kept.append((thing, np.asarray(thing).copy()))
            del batch, thing
        elif action == 1 and isinstance(kept[k][0], np.ndarray):
            kept[k][0][...] = step % 1000
            kept[k][1][...] = step % 1000
        elif action == 2 or len(kept) > KEPT:
            kept[k] = kept[-1]
            kept.pop()
        else:
            np.testing.assert_array_equal(np.asarray(kept[k][0]), kept[k][1])
    for thing, copy in kept:
        np.testing.assert_array_equal(np.asarray(thing), copy)


def halved(x):
    output = batchup.empty(x.shape, np.float32)
    np.multiply(x, 0.5, out=output)
    return (output,)
