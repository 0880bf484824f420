"""Little memory, threads and random numbers of workers, and files that are mapped."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from batchup._pools import memory, rings
from batchup._pools.processes.worker import THREAD_VARIABLES
from batchup.data_source import ArrayDataSource

from ..cases import BATCH_SIZE, assert_same_batch, assert_same_batches
from ..harness.pools import (
    MAY_FORK,
    interpreters_first,
    parallel,
    pids_of,
    serial,
    started,
    wait_for_workers,
    whole_batches,
)
from ..harness.scripts import run_script
from ..harness.waiting import warned
from ..harness.work import Fails, blas_threads, describe, draw, limit_memory, memory_of_this

pytestmark = [MAY_FORK, pytest.mark.usefixtures('all_by_workers')]


# Shared memory that is too small.


@pytest.fixture
def small_folder(tmp_path, monkeypatch):
    """Have shared memory come from a folder of 1 MB, and then from an ordinary one."""
    small, large = tmp_path / 'small', tmp_path / 'large'
    small.mkdir()
    large.mkdir()
    command = ['mount', '-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', str(small)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f'a small file system cannot be mounted here: {error}')
    monkeypatch.delattr(os, 'memfd_create')
    monkeypatch.setattr(memory, 'FOLDERS', (str(small), str(large)))
    monkeypatch.setattr(memory, '_warned', set())
    yield small
    subprocess.run(['umount', '-l', str(small)], check=True)


def large_samples(n_samples, seed=0):
    """Make samples of 100 kB each."""
    return ArrayDataSource([np.random.default_rng(seed).normal(size=(n_samples, 12_500)), np.arange(n_samples)])


def test_shared_memory_that_is_too_small_is_taken_elsewhere(small_folder, method):
    ds = large_samples(60)
    with started(2, method) as pool, warned('no room') as caught:
        shared = pool.parallel_data_source(ds)
        for epoch in range(2):
            stream = shared.batch_iterator(BATCH_SIZE, shuffle=3, epoch=epoch)
            assert_same_batches(stream, serial(ds, shuffle=3, epoch=epoch))
    assert len(caught) == 1
    assert str(small_folder) in str(caught[0].message)


def test_a_small_source_with_large_batches_warns_once(small_folder):
    ds = ArrayDataSource([np.arange(40)]).map(widen)
    with started(2, 'fork') as pool, warned('no room') as caught:
        assert_same_batches(parallel(pool, ds), serial(ds))
    assert len(caught) == 1


def widen(numbers):
    return (np.repeat(numbers[:, None] * 1.0, 100_000, axis=1),)


def test_batches_that_fit_into_small_shared_memory_warn_of_nothing(small_folder, monkeypatch):
    monkeypatch.setattr('batchup._pools.processes.pool.GROUP_BYTES', 2**12)
    ds = whole_batches(10)
    with started(2, 'fork') as pool:
        assert_same_batches(parallel(pool, ds, 4), serial(ds))


def test_nothing_is_left_in_small_shared_memory(small_folder, monkeypatch):
    monkeypatch.setattr('batchup._pools.processes.pool.GROUP_BYTES', 2**12)
    with started(2, 'fork') as pool:
        stream = parallel(pool, whole_batches(4))
        next(stream)
        assert os.listdir(small_folder) == []


def test_no_room_anywhere_is_an_error(small_folder, monkeypatch):
    monkeypatch.setattr(memory, 'FOLDERS', (str(small_folder),))
    with (
        started(2, 'fork') as pool,
        warned('no room'),
        pytest.raises(MemoryError, match='shared memory'),
    ):
        pool.parallel_data_source(large_samples(60))


@pytest.fixture
def little_memory(monkeypatch):
    monkeypatch.setattr(rings, 'available_memory', lambda: 20e6)
    monkeypatch.setattr(memory, '_warned', set())


def test_a_ring_takes_half_of_the_memory_at_most(little_memory, method):
    ds = large_samples(80)
    with started(2, method) as pool, warned('memory is short') as caught:
        shared = pool.parallel_data_source(ds, 60)
        for epoch in range(2):
            stream = shared.batch_iterator(BATCH_SIZE, shuffle=3, epoch=epoch)
            assert_same_batches(stream, serial(ds, shuffle=3, epoch=epoch))
    assert len(caught) == 1


def test_a_small_ring_serves_users_who_keep_batches(little_memory):
    ds = large_samples(80)
    with started(2, 'fork') as pool, warned('memory is short'):
        kept = list(parallel(pool, ds, 60, shuffle=3))
        again = list(parallel(pool, ds, 60, shuffle=4))
    assert_same_batches(kept, serial(ds, shuffle=3))
    assert_same_batches(again, serial(ds, shuffle=4))


@pytest.mark.slow
def test_the_most_batches_wait_that_memory_allows(little_memory):
    ds = large_samples(80).map(Fails([], seconds=0))
    with started(2, 'fork') as pool, warned('memory is short'):
        stream = parallel(pool, ds, 60)
        next(stream)
        ring = stream.feed.mapper._channel._ring
    assert ring.segment.size <= 10e6 + 8 * ring.slot_bytes


# Processes that may not address more memory (ulimit -v).

LIMITED = """
    import sys
    import numpy as np
    from batchup.data_source import ArrayDataSource
    from batchup.work_pool import WorkerProcessPool
    from tests.harness.pools import wait_for_workers
    from tests.harness.work import Fails, limit_memory

    if __name__ == '__main__':
        ds = ArrayDataSource([np.random.default_rng(0).normal(size=(800, 12_500)), np.arange(800)]).map(Fails([]))
        with WorkerProcessPool(2, start_method=sys.argv[1]) as pool:
            wait_for_workers(pool)
            shared = pool.parallel_data_source(ds)
            limit_memory(int(sys.argv[2]))
            for epoch in range(2):
                stream, serial = (one.batch_iterator(40, shuffle=3, epoch=epoch) for one in (shared, ds))
                for batch, expected in zip(stream, serial):
                    assert all(map(np.array_equal, batch, expected))
                print(stream.position)
"""


@pytest.mark.parametrize(
    ('spare', 'says'),
    [pytest.param(80_000_000, 'memory is short: ', marks=pytest.mark.slow), (25_000_000, 'through pipes')],
)
@pytest.mark.parametrize('start_method', ['fork', pytest.param('spawn', marks=pytest.mark.slow)])
def test_a_process_with_little_memory_has_fewer_batches_wait(start_method, spare, says, tmp_path, monkeypatch):
    monkeypatch.setenv('PYTHONPATH', os.pathsep.join(sys.path))
    code, out, err = run_script(tmp_path, LIMITED, start_method, str(spare))
    assert (code, out) == (0, '20\n20\n')
    assert err.count('Warning: ') == err.count(says) == 1


def by_process(*batch):
    return (*batch, os.getpid())


def makers_beside_a_limited_worker(spare):
    """Check an epoch, all but the source of which comes after a limit; return the worker, and who made the batches."""
    ds = large_samples(400).map(by_process)
    with started(1, 'fork') as pool:
        shared = pool.parallel_data_source(ds)
        list(shared.batch_iterator(100))
        (worker,) = pids_of(pool)
        pool.work_stream([(limit_memory, (spare,))]).retrieve()
        batches = list(shared.batch_iterator(40))
    assert_same_batches([batch[:2] for batch in batches], [batch[:2] for batch in ds.batch_iterator(40)])
    return worker, {batch[2] for batch in batches[1:]}


def test_a_worker_with_little_memory_maps_what_it_needs():
    worker, makers = makers_beside_a_limited_worker(60_000_000)
    assert makers == {worker}


def test_batches_of_a_worker_without_memory_are_made_by_the_caller(monkeypatch):
    monkeypatch.setattr(memory, '_warned', set())
    with warned('your own process makes batches') as caught:
        _, makers = makers_beside_a_limited_worker(2_000_000)
    assert os.getpid() in makers  # the worker has made the first ones, which had no slots yet
    assert len(caught) == 1


NO_ROOM = r'your own process makes batches: in worker process \d+, at batch 1 of epoch 0, with indices .*, 38 MiB'


def test_a_source_that_a_worker_cannot_map_is_read_by_the_caller(monkeypatch):
    monkeypatch.setattr(memory, '_warned', set())
    ds = large_samples(400)
    with started(1, 'fork') as pool, warned(NO_ROOM) as caught:
        pool.work_stream([(limit_memory, (30_000_000,))]).retrieve()
        assert_same_batches(parallel(pool, ds), serial(ds))
    assert len(caught) == 1


# Threads, random numbers and mapped files of workers.


@pytest.mark.slow
@interpreters_first
@pytest.mark.parametrize('threads', [1, 2])
def test_numerical_libraries_have_few_threads(method, threads):
    pytest.importorskip('threadpoolctl')
    blas_threads()
    with started(2, method, threads_per_worker=threads) as pool:
        found = list(pool.work_stream([(blas_threads,)] * 8).retrieve_iter())
    assert {pid for pid, _ in found} != {os.getpid()}
    assert [counts for _, counts in found] == [{threads}] * 8


@interpreters_first
def test_without_a_limit_threads_are_as_many_as_ever(method, monkeypatch):
    pytest.importorskip('threadpoolctl')
    for variable in THREAD_VARIABLES:  # Dask sets some
        monkeypatch.delenv(variable, raising=False)
    _, here = blas_threads()
    with started(1, method, threads_per_worker=None) as pool:
        _, there = pool.work_stream([(blas_threads,)]).retrieve()
    assert there == here
    assert here == blas_threads()[1]


@interpreters_first
def test_the_limit_leaves_the_threads_of_this_process(method):
    pytest.importorskip('threadpoolctl')
    before = blas_threads()[1], dict(os.environ)
    with started(1, method) as pool:
        pids_of(pool)
        assert (blas_threads()[1], dict(os.environ)) == before


@pytest.mark.parametrize('kind', ['numpy', 'random'])
def test_workers_draw_different_numbers(method, kind):
    with started(2, method) as pool:
        drawn = list(pool.work_stream([(draw, (kind,))] * 8).retrieve_iter())
    assert len({pid for pid, _ in drawn}) == 2
    assert len({number for _, number in drawn}) == 8


def test_a_worker_that_takes_over_draws_other_numbers(forked):
    with warned('SIGKILL'):
        before = list(forked.work_stream([(draw, ('numpy',))] * 8).retrieve_iter())
        for pid in {pid for pid, _ in before}:
            os.kill(pid, signal.SIGKILL)
        wait_for_workers(forked)
        after = list(forked.work_stream([(draw, ('numpy',))] * 8).retrieve_iter())
    assert len({number for _, number in before + after}) == 16


@pytest.fixture
def mapped(tmp_path):
    path = tmp_path / 'values.npy'
    np.save(path, np.arange(1000) * 1.5)
    return np.load(path, mmap_mode='r')


@interpreters_first
def test_mapped_files_are_mapped_again(method, mapped):
    with started(1, method) as pool:
        kind, filename, values = pool.work_stream([(describe, (pool.shared_constant(mapped),))]).retrieve()
    assert (kind, str(filename)) == ('memmap', str(mapped.filename))
    assert_same_batch(values, np.arange(3) * 1.5)


def test_a_view_of_a_mapped_file_is_mapped_again(mapped):
    view = mapped.reshape(100, 10)[5:50:3, ::-1]
    with started(1, 'spawn') as pool:
        kind, _, values = pool.work_stream([(describe, (pool.shared_constant(view),))]).retrieve()
    assert kind == 'memmap'
    assert_same_batch(values, np.array(view[:3]))


@pytest.mark.parametrize('change', ['replace', 'remove'])
@pytest.mark.parametrize('when', ['before', 'after'])
def test_a_mapped_file_that_has_changed_keeps_its_values(method, mapped, change, when, tmp_path):
    """Whether before or after the pool is given the array."""
    ds = ArrayDataSource([mapped])
    expected = serial(ds)
    with started(2, method) as pool:
        if when == 'before':
            alter(mapped.filename, change)
        shared = pool.parallel_data_source(ds)
        if when == 'after':
            alter(mapped.filename, change)
        assert_same_batches(shared.batch_iterator(BATCH_SIZE), expected)


def alter(path, change):
    """Remove a file, or put another one in its place."""
    if change == 'remove':
        os.remove(path)
    else:
        np.save(f'{path}.new.npy', np.zeros(1000))
        os.replace(f'{path}.new.npy', path)


@pytest.mark.slow
def test_workers_do_not_copy_an_array():
    array = np.ones(12_500_000)  # 100 MB
    with started(2, 'spawn') as pool:
        constant = pool.shared_constant(array)
        before = list(pool.work_stream([(memory_of_this, (array[:10],))] * 6).retrieve_iter())
        readers = set()
        while len(readers) < 2:  # what one process alone has read counts as its own
            after = list(pool.work_stream([(memory_of_this, (constant,))] * 6).retrieve_iter())
            readers.update(pid for pid, *_ in after)
        after = list(pool.work_stream([(memory_of_this, (constant,))] * 6).retrieve_iter())
    assert {total for *_, total in after} == {12.5e6}
    assert max(uss for _, uss, *_ in after) < max(uss for _, uss, *_ in before) + 40e6
    # Three processes share what the array takes; each counts its part.
    assert max(pss for _, _, pss, _ in after) < 120e6
