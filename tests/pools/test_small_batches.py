"""Small batches that are plain copies of memory: the caller makes them, and no worker."""

import os
import signal
import threading
from contextlib import contextmanager, suppress

import numpy as np
import pytest

from batchup.data_source import ArrayDataSource
from batchup.errors import WorkerTimeoutError
from batchup.work_pool import WorkerThreadPool

from ..cases import RANDOM_ACCESS, SHUFFLES, PlainSampler, assert_same_batches, keep, numbers
from ..harness.leftovers import children
from ..harness.pools import MAY_FORK, pids_of, started
from ..harness.waiting import until, warned

LEAST_BYTES = 2**24

pytestmark = MAY_FORK


@pytest.fixture
def pool():
    """A pool whose only worker does nothing."""
    with started(1, 'fork') as pool:
        (pid,) = pids_of(pool)
        os.kill(pid, signal.SIGSTOP)
        pool.timeout = 0.3
        yield pool
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize('shuffle', SHUFFLES)
def test_no_worker_is_waited_for(pool, shuffle):
    expected = numbers(23).batch_iterator(4, **SHUFFLES[shuffle]())
    stream = pool.parallel_data_source(numbers(23)).batch_iterator(4, **SHUFFLES[shuffle]())
    assert len(stream) == 6
    assert_same_batches(stream, expected)


def test_states_are_those_of_the_serial_stream(pool):
    ours = pool.parallel_data_source(numbers(23)).batch_iterator(4, shuffle=1)
    theirs = numbers(23).batch_iterator(4, shuffle=1)
    for stream in (ours, theirs):
        stream.skip(2)
        next(stream)
    assert ours.state_dict() == theirs.state_dict()


def test_a_generator_is_drawn_from_at_the_call(pool):
    ours, theirs = np.random.RandomState(3), np.random.RandomState(3)
    pool.parallel_data_source(numbers(10)).batch_iterator(4, shuffle=ours)
    theirs.permutation(10)
    assert ours.randint(1000) == theirs.randint(1000)


def test_two_streams_draw_in_the_order_of_their_making(pool):
    ours, theirs = np.random.RandomState(4), np.random.RandomState(4)
    parallel = pool.parallel_data_source(numbers(20))
    first, second = (parallel.batch_iterator(4, shuffle=ours) for _ in range(2))
    got = list(second), list(first)
    expected = [list(numbers(20).batch_iterator(4, shuffle=theirs)) for _ in range(2)]
    assert_same_batches(got[1], expected[0])
    assert_same_batches(got[0], expected[1])


class Failing(PlainSampler):
    def shuffled_indices_batch_iterator(self, batch_size, shuffle_rng):
        if batch_size:
            raise OSError('no indices')
        yield np.arange(0)


def test_an_error_in_the_first_draw_arrives_at_the_first_batch(pool):
    source = ArrayDataSource([np.arange(10)], sampler=Failing(10))
    stream = pool.parallel_data_source(source).batch_iterator(4, shuffle=np.random.RandomState(0))
    with pytest.raises(OSError, match='no indices'):
        next(stream)


def test_large_batches_are_made_by_workers(pool, monkeypatch):
    monkeypatch.setattr(
        'batchup._pools.processes.pool.PREPARED_BYTES', 2**60
    )  # else the caller helps while workers map memory
    rows = np.zeros((8, LEAST_BYTES // 4), np.uint8)
    with pytest.raises(WorkerTimeoutError):
        list(pool.parallel_data_source(ArrayDataSource([rows])).batch_iterator(4))


def test_functions_are_called_by_workers(pool):
    with pytest.raises(WorkerTimeoutError):
        list(pool.parallel_data_source(numbers(20).map(keep)).batch_iterator(4))


def test_a_closed_pool_opens_no_streams(forked_as_for_users):
    parallel = forked_as_for_users.parallel_data_source(numbers(20))
    forked_as_for_users.close()
    with pytest.raises(RuntimeError, match='closed'):
        parallel.batch_iterator(4)


def test_all_sources_give_the_serial_batches(forked_as_for_users):
    for make in RANDOM_ACCESS.values():
        stream = forked_as_for_users.parallel_data_source(make()).batch_iterator(4, shuffle=5)
        assert_same_batches(stream, make().batch_iterator(4, shuffle=5))


def test_a_killed_worker_is_told_of_when_the_next_stream_is_opened(forked_as_for_users):
    before, pid = children(), min(pids_of(forked_as_for_users))
    os.kill(pid, signal.SIGKILL)
    assert until(lambda: pid not in children() and len(children() - before) == 1)
    parallel = forked_as_for_users.parallel_data_source(numbers(20))
    with warned('SIGKILL'):
        parallel.batch_iterator(4)


# Threads.


@contextmanager
def busy_threads(count):
    """Make a pool whose threads do something else."""
    release = threading.Event()
    with WorkerThreadPool(count, timeout=0.3) as pool:
        blocked = pool.work_stream(iter([(release.wait,)] * count))
        yield pool
        release.set()
        pool.timeout = None
        list(blocked.retrieve_iter())


threads = pytest.mark.parametrize(('count', 'least'), [(1, 2**20), (2, 2**16)])


@threads
def test_no_thread_is_waited_for(count, least):
    source = ArrayDataSource([np.random.default_rng(0).integers(0, 9, (9, least // 4 - 1), np.uint8)])
    with busy_threads(count) as pool:
        stream = pool.parallel_data_source(source).batch_iterator(4, shuffle=3)
        assert_same_batches(stream, source.batch_iterator(4, shuffle=3))


@threads
def test_threads_make_larger_batches(count, least):
    source = ArrayDataSource([np.zeros((9, least // 4), np.uint8)])
    with busy_threads(count) as pool, pytest.raises(WorkerTimeoutError):
        list(pool.parallel_data_source(source).batch_iterator(4))
