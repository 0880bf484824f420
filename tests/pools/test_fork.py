"""Processes that are forked from the user's: batches are each one's own, pools are the parent's."""

import atexit
import multiprocessing
import os
import signal
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from batchup.data_source import ArrayDataSource
from batchup.errors import WorkerPoolError

from ..cases import assert_same_batches
from ..harness.pools import on, wait_for_workers
from ..harness.waiting import PATIENCE

pytestmark = [
    pytest.mark.skipif(not hasattr(os, 'fork'), reason='this system cannot fork'),
    # Python 3.12 and later warn of every fork of a process with threads.
    pytest.mark.filterwarnings('ignore:This process .* is multi-threaded:DeprecationWarning'),
]
process_pools = on(['fork', 'forkserver', 'spawn'], slow=['forkserver', 'spawn'])
kinds = ['threads', 'fork', 'forkserver', 'spawn', 'thread_executor', 'process_executor']
all_pools = on(kinds, slow=['forkserver', 'spawn', 'process_executor'])

DATA = np.arange(300)


def widened(x):
    return (np.repeat(x[:, np.newaxis], 5000, axis=1),)


def source():
    return ArrayDataSource([DATA]).map(widened)


def forked(work):
    """Run a function in a forked process, which ends as programs do; return its id."""
    pid = os.fork()
    if pid:
        return pid
    signal.alarm(int(PATIENCE))
    status = 1
    try:
        work()
        status = 0
    except BaseException:
        traceback.print_exc()
    os._exit(status)


def ended_well(pid):
    return os.waitpid(pid, 0)[1] == 0


@process_pools
def test_batches_that_are_kept_belong_to_each_process(pool):
    stream = pool.parallel_data_source(source(), 4).batch_iterator(3)
    kept = [next(stream) for _ in range(6)]
    expected = list(source().batch_iterator(3))
    waits, goes_on = os.pipe()

    def child():
        os.read(waits, 1)
        assert_same_batches(kept, expected[:6])
        for batch in kept:
            batch[0][:] = -2

    pid = forked(child)
    kept[0][0][:] = -1
    assert_same_batches(stream, expected[6:])
    os.write(goes_on, b'!')
    assert ended_well(pid)
    assert (kept[0][0] == -1).all()
    assert_same_batches(kept[1:], expected[1:6])


@on(['fork'])
def test_what_was_written_is_there_after_many_forks(pool):
    stream = pool.parallel_data_source(source(), 4).batch_iterator(3)
    kept = {}
    for number, batch in enumerate(stream):
        if number % 10 == 5:
            kept[number] = batch
            batch[0][:] = number
            assert ended_well(forked(lambda: kept[number][0].fill(-1)))  # noqa: B023
    assert all((batch[0] == number).all() for number, batch in kept.items())


@on(['fork'])
def test_a_process_of_multiprocessing_has_batches_of_its_own(pool):
    stream = pool.parallel_data_source(source()).batch_iterator(3, shuffle=42)
    stream.skip(5)
    (batch,) = next(stream)
    before = batch.copy()
    process = multiprocessing.get_context('fork').Process(target=batch.fill, args=(-1,))
    process.start()
    process.join()
    assert process.exitcode == 0
    np.testing.assert_array_equal(batch, before)


@process_pools
def test_arrays_of_a_source_belong_to_each_process(pool):
    shared = ArrayDataSource([np.arange(300)]).map(widened)
    parallel = pool.parallel_data_source(shared)
    (array,) = shared.source.data
    assert ended_well(forked(lambda: array.fill(-1)))
    assert array.tolist() == list(range(300))
    array.fill(-2)
    assert {int(batch[0][0, 0]) for batch in list(parallel.batch_iterator(3))[5:]} == set(range(15, 300, 3))


@all_pools
def test_a_forked_process_cannot_go_on_with_what_is_of_a_pool(pool):
    parallel = pool.parallel_data_source(source())
    stream, tasks = parallel.batch_iterator(3), pool.work_stream([(abs, (k,)) for k in range(9)])
    next(stream), tasks.retrieve()
    state = stream.state_dict()
    calls = [
        lambda: next(stream),
        lambda: next(stream),
        lambda: stream.skip(2),
        lambda: stream.load_state_dict(state),
        tasks.retrieve,
        lambda: next(tasks.retrieve_iter()),
        lambda: parallel.batch_iterator(3),
        lambda: pool.parallel_data_source(source()),
        lambda: pool.work_stream([(abs, (1,))]),
        lambda: pool.shared_constant(1),
    ]

    def child():
        for call in calls:
            with pytest.raises(WorkerPoolError, match=f'belongs to process {os.getppid()}.* make a new pool here'):
                call()
        stream.close()
        pool.close()

    assert ended_well(forked(child))
    assert_same_batches(stream, list(source().batch_iterator(3))[1:])
    assert list(tasks.retrieve_iter()) == list(range(1, 9))


@process_pools
def test_workers_live_on_when_a_forked_process_ends(pool):
    before = wait_for_workers(pool)
    stream = pool.parallel_data_source(source()).batch_iterator(3)
    next(stream)
    pid = os.fork()
    if not pid:
        del stream
        # Runs what is to be done when an interpreter ends; not so that pytest goes on in the child.

        atexit._run_exitfuncs()
        os._exit(0)
    assert ended_well(pid)
    assert_same_batches(stream, list(source().batch_iterator(3))[1:])
    assert wait_for_workers(pool) == before


def test_a_stream_without_a_pool_goes_on_in_a_forked_process():
    stream = source().batch_iterator(3, shuffle=42)
    next(stream)
    expected = list(source().batch_iterator(3, shuffle=42))[1:]
    assert ended_well(forked(lambda: assert_same_batches(stream, expected)))
    assert_same_batches(stream, expected)


def test_threads_of_a_forked_process_share_a_stream():
    def slowly(x):
        time.sleep(1e-3)
        return (x,)

    stream = ArrayDataSource([DATA]).map(slowly).batch_iterator(30)

    def child():
        with ThreadPoolExecutor(2) as threads:
            parts = list(threads.map(lambda _: list(stream), range(2)))
        assert sorted(int(batch[0][0]) for part in parts for batch in part) == list(range(0, 300, 30))

    assert ended_well(forked(child))


def test_a_stream_that_another_thread_is_in_is_an_error_in_a_forked_process():
    inside, goes_on = threading.Event(), threading.Event()

    def block(x):
        inside.set()
        assert goes_on.wait(PATIENCE)
        return (x,)

    stream = ArrayDataSource([DATA]).map(block).batch_iterator(3)
    thread = threading.Thread(target=next, args=(stream,))
    thread.start()
    inside.wait(PATIENCE)

    def child():
        with pytest.raises(RuntimeError, match='another thread was making its next batch'):
            next(stream)

    assert ended_well(forked(child))
    goes_on.set()
    thread.join()
