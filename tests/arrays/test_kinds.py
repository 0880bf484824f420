"""The contract of arrays of every kind: their samples arrive as those of a NumPy array with the same values."""

import importlib.util
import os
import pickle

import numpy as np
import pytest

from batchup.data_source import ArrayDataSource, CompositeDataSource, ConcatDataSource
from batchup.sampling import WeightedSampler
from batchup.work_pool import WorkerThreadPool

from ..harness.pools import started
from .cases import CASES

N = 10


def by_library():
    """Go through the cases: by default the first of each library, and in the slow run all others."""
    seen = set()
    for name, case in CASES.items():
        late = case.library in seen or 'sparse rows' in name  # which have tests of their own
        yield pytest.param(name, marks=[pytest.mark.slow] * late)
        if not late:
            seen.add(case.library)


@pytest.fixture(params=by_library())
def case(request):
    case = CASES[request.param]
    pytest.importorskip(case.library.partition('.')[0])
    for word, library in (('dask', 'dask'), ('sparse', 'scipy')):
        if word in request.param:
            pytest.importorskip(library)
    return case


def assert_same(case, batches, expected):
    """Compare batches with those of a NumPy array, once all of them are there."""
    batches = [batch[0] for batch in batches]
    assert {type(batch).__name__ for batch in batches} == {case.kind}
    for batch, (values,) in zip(batches, expected, strict=True):
        assert case.back(batch).dtype == values.dtype
        np.testing.assert_array_equal(case.back(batch), values)


def sources(case, folder, n=N, **kwargs):
    """Make a source of a kind, and one of a NumPy array with the same values."""
    return ArrayDataSource([case.array(n, folder)], **kwargs), ArrayDataSource([case.values(n)], **kwargs)


@pytest.mark.parametrize('shuffle', [None, 3])
@pytest.mark.parametrize('kwargs', [{}, {'indices': [5, -1, 5, 0, 2]}, {'repeats': 2}])
def test_batches_are_those_of_a_numpy_array(case, tmp_path, kwargs, shuffle):
    source, expected = sources(case, tmp_path, **kwargs)
    assert_same(case, source.batch_iterator(4, shuffle), expected.batch_iterator(4, shuffle))


def test_weighted_batches(case, tmp_path):
    source, expected = sources(case, tmp_path, sampler=WeightedSampler(np.arange(N) + 1))
    batches = [stream.batch_iterator(4, 3) for stream in (source, expected)]
    assert_same(case, *([next(stream) for _ in range(3)] for stream in batches))


@pytest.mark.parametrize('indices', [[2, -1, 2], [7], []])
def test_samples_by_indices(case, tmp_path, indices):
    source, expected = sources(case, tmp_path)
    assert_same(case, [source.samples_by_indices(indices)], [expected.samples_by_indices(indices)])


@pytest.mark.parametrize('n', [0, 1])
def test_hardly_any_samples(case, tmp_path, n):
    source, expected = sources(case, tmp_path, n)
    assert source.num_samples() == n
    assert_same(
        case,
        [*source.batch_iterator(4), source.samples_by_indices([])],
        [*expected.batch_iterator(4), expected.samples_by_indices([])],
    )


def test_batches_share_no_memory_with_the_data(case, tmp_path):
    array = case.array(N, tmp_path)
    data = None
    if (isinstance(array, np.ndarray) or case.kind != 'ndarray') and type(array).__name__ != 'Group':
        data = case.back(getattr(array, 'halves', array))
    for size in (4, N):
        for (batch,) in ArrayDataSource([array]).batch_iterator(size):
            assert data is None or not np.shares_memory(case.back(batch), data)


def test_a_stream_resumes(case, tmp_path):
    source, expected = sources(case, tmp_path)
    stream = source.batch_iterator(4, 3)
    next(stream)
    resumed = source.batch_iterator(4, 3)
    resumed.load_state_dict(stream.state_dict())
    assert_same(case, resumed, list(expected.batch_iterator(4, 3))[1:])


def test_a_source_pickles(case, tmp_path):
    source, expected = sources(case, tmp_path)
    assert_same(case, pickle.loads(pickle.dumps(source)).batch_iterator(4, 3), expected.batch_iterator(4, 3))


@pytest.mark.parametrize('shuffle', [None, 3])
def test_concatenated(case, tmp_path, shuffle):
    parts = [sources(case, tmp_path, n) for n in (7, 3)]
    source, expected = (ConcatDataSource(list(members)) for members in zip(*parts, strict=True))
    assert_same(case, source.batch_iterator(4, shuffle), expected.batch_iterator(4, shuffle))


def test_trimmed(case, tmp_path):
    sizes = 10, 7
    source, expected = (
        CompositeDataSource(list(members)) for members in zip(*(sources(case, tmp_path, n) for n in sizes), strict=True)
    )
    assert_same(case, source.batch_iterator(4), [batch[:1] for batch in expected.batch_iterator(4)])


def test_in_threads(case, tmp_path):
    source, expected = sources(case, tmp_path)
    with WorkerThreadPool(2) as pool:
        assert_same(case, pool.parallel_data_source(source).batch_iterator(4, 3), expected.batch_iterator(4, 3))


# Those whose libraries take a worker a second or more to import, together.
SLOW = ['torch', 'jax', 'xarray', 'pandas', 'pyarrow', 'zarr', 'Parquet']


@pytest.mark.parametrize('slow', [False, pytest.param(True, marks=pytest.mark.slow)])
def test_in_processes(tmp_path, slow):
    cases = [case for name, case in CASES.items() if any(library in name for library in SLOW) == slow]
    with started(1, 'spawn') as pool:
        for case in cases:
            if importlib.util.find_spec(case.library.partition('.')[0]) is not None:
                source, expected = sources(case, tmp_path, 40)
                read = list(pool.parallel_data_source(source).batch_iterator(16, 3))
                mapped = list(pool.parallel_data_source(source.map(with_process)).batch_iterator(16, 3))
                assert mapped[-1][1] != os.getpid()
                assert_same(case, [*read, *mapped], [*expected.batch_iterator(16, 3)] * 2)


def with_process(batch):
    """Return a batch, and the process that has read it."""
    return batch, os.getpid()
