"""Nothing is left behind: processes, threads, open files, shared memory."""

import functools
import gc
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psutil
import pytest

from batchup.data_source import ArrayDataSource
from batchup.errors import WorkerPoolError
from batchup.work_pool import WorkerExecutorPool, WorkerProcessPool, WorkerThreadPool

from ..cases import BATCH_SIZE, assert_same_batches
from ..harness.leftovers import added, belongings, nothing_left
from ..harness.pools import MAY_FORK, METHODS, SOME_METHODS, pids_of, serial, wait_for_workers, whole_batches
from ..harness.scripts import run_script
from ..harness.waiting import until, warned
from ..harness.work import Fails

pytestmark = [MAY_FORK, pytest.mark.usefixtures('all_by_workers')]

POOLS = {
    'threads': lambda: WorkerThreadPool(2),
    **{method: lambda method=method: WorkerProcessPool(2, start_method=method) for method in METHODS},
}
IMPORTING = ['forkserver', 'spawn']
FORKSERVER = pytest.param('forkserver', marks=pytest.mark.slow)


@functools.cache
def start_helpers(kind):
    """Have multiprocessing start its own helpers, which stay."""
    with POOLS[kind]() as pool:
        pids_of(pool)


@pytest.fixture(params=['threads', *SOME_METHODS])
def make_pool(request):
    """Return what makes a pool; multiprocessing's own helpers are there already."""
    start_helpers(request.param)
    return POOLS[request.param]


def source():
    return whole_batches(20).map(Fails([], seconds=0.002))


# Pools that end.


@pytest.mark.parametrize('make_pool', ['threads', 'fork', FORKSERVER, 'spawn'], indirect=True)
def test_a_closed_pool_leaves_nothing(make_pool):
    with nothing_left():
        pool = make_pool()
        assert_same_batches(pool.parallel_data_source(source()).batch_iterator(BATCH_SIZE), serial(source()))
        pool.close()


def test_a_pool_that_is_closed_at_once_leaves_nothing(make_pool):
    with nothing_left():
        make_pool().close()


def test_a_pool_closed_in_the_middle_of_an_epoch_leaves_nothing(make_pool):
    with nothing_left():
        with make_pool() as pool:
            pids_of(pool)
            stream = pool.parallel_data_source(source()).batch_iterator(BATCH_SIZE)
            next(stream), next(stream)
        with pytest.raises(WorkerPoolError, match='closed'):
            list(stream)
        del stream, pool


def test_an_exception_in_the_loop_leaves_nothing(make_pool):
    def train():
        with make_pool() as pool:
            for number, _ in enumerate(pool.parallel_data_source(source()).batch_iterator(BATCH_SIZE)):
                if number == 3:
                    raise KeyError('of the user')

    with nothing_left(), pytest.raises(KeyError, match='of the user'):
        train()


def test_a_forgotten_pool_leaves_nothing(make_pool):
    with nothing_left():
        pool = make_pool()
        stream = pool.parallel_data_source(source()).batch_iterator(BATCH_SIZE)
        next(stream)
        del pool, stream


def test_a_pool_forgotten_in_a_cycle_leaves_nothing(make_pool):
    with nothing_left():
        cycle = [make_pool()]
        cycle += [cycle, cycle[0].work_stream([(abs, (1,))] * 9)]
        del cycle


def test_a_pool_lives_as_long_as_its_streams(make_pool):
    with nothing_left():
        stream = make_pool().parallel_data_source(source()).batch_iterator(BATCH_SIZE)
        gc.collect()
        assert_same_batches(stream, serial(source()))
        del stream


def test_batches_outlive_their_pool(make_pool):
    with nothing_left():
        pool = make_pool()
        kept = list(pool.parallel_data_source(source()).batch_iterator(BATCH_SIZE))
        pool.close()
        del pool
        gc.collect()
        assert_same_batches(kept, serial(source()))
        for batch in kept:
            batch[0][:] = -1
        del kept, batch


@pytest.mark.parametrize('make_pool', SOME_METHODS, indirect=True)
def test_a_pool_whose_workers_were_killed_leaves_nothing(make_pool):
    with nothing_left(), make_pool() as pool, warned('SIGKILL'):
        stream = pool.parallel_data_source(source()).batch_iterator(BATCH_SIZE)
        for pid in pids_of(pool):
            os.kill(pid, signal.SIGKILL)
        assert_same_batches(stream, serial(source()))
        assert until(lambda: len(pids_of(pool)) == 2)
        del stream


def test_a_pool_forgotten_by_its_own_thread_leaves_nothing():
    """A pool whose last reference is dropped by a worker thread."""
    with nothing_left():
        pool = WorkerThreadPool(1)
        stream = pool.work_stream([(time.sleep, (0.2,))])
        threading.Thread(target=lambda held: time.sleep(0.1), args=(pool,)).start()
        del pool, stream


# Iterators that are abandoned.


def test_abandoned_iterators_leave_nothing_in_an_open_pool(make_pool):
    with make_pool() as pool:
        shared = pool.parallel_data_source(source())
        for _ in range(2):
            next(shared.batch_iterator(BATCH_SIZE))
        pids_of(pool)
        with nothing_left():
            for _ in range(10):
                stream = shared.batch_iterator(BATCH_SIZE)
                next(stream), next(stream)
                del stream


@pytest.mark.slow
def test_sources_that_are_forgotten_leave_nothing_in_an_open_pool(make_pool):
    with make_pool() as pool:
        pids_of(pool)
        with nothing_left():
            for _ in range(5):
                assert_same_batches(pool.parallel_data_source(source()).batch_iterator(BATCH_SIZE), serial(source()))


def test_workers_let_go_of_forgotten_sources(forked):
    before = {pid: maps_of(pid) for pid in pids_of(forked)}
    for _ in range(5):
        list(forked.parallel_data_source(source()).batch_iterator(BATCH_SIZE))
    gc.collect()
    assert until(lambda: pids_of(forked) and all(maps_of(pid) <= count for pid, count in before.items()))


def maps_of(pid):
    """Count the shared memory that a process maps."""
    return sum('memfd:batchup' in mapped.path for mapped in psutil.Process(pid).memory_maps(grouped=False))


def test_no_batches_are_made_for_an_abandoned_iterator(forked, tmp_path):
    noted = tmp_path / 'calls'
    ds = whole_batches(40).map(Notes(noted))
    stream = forked.parallel_data_source(ds, 30).batch_iterator(BATCH_SIZE)
    next(stream)
    del stream
    time.sleep(0.3)
    made = noted.stat().st_size
    assert made < 30
    time.sleep(0.3)
    assert noted.stat().st_size == made


class Notes:
    """A function that notes in a file that it was called."""

    def __init__(self, path):
        self.path = path

    def __call__(self, *batch):
        time.sleep(0.03)
        with open(self.path, 'a') as file:
            file.write('.')
        return batch


def test_an_iterator_that_is_closed_leaves_nothing(make_pool):
    with make_pool() as pool:
        shared = pool.parallel_data_source(source())
        next(shared.batch_iterator(BATCH_SIZE))
        pids_of(pool)
        with nothing_left(), shared.batch_iterator(BATCH_SIZE) as stream:
            next(stream)
            del stream


def test_an_executor_pool_leaves_nothing():
    with ThreadPoolExecutor(2) as executor:
        list(executor.map(abs, range(4)))
        with nothing_left(), WorkerExecutorPool(executor) as pool:
            assert_same_batches(pool.parallel_data_source(source()).batch_iterator(BATCH_SIZE), serial(source()))


def test_an_error_that_is_kept_keeps_no_pool_alive_once_it_is_gone(forked):
    with nothing_left():
        stream = forked.work_stream([(int, ('x',))])
        with pytest.raises(ValueError, match='invalid literal'):
            stream.retrieve()
        del stream


# Many of them.


def everything():
    """Return what must stay flat: processes, threads, open files, files in shared memory; and memory."""
    gc.collect()
    return belongings(), psutil.Process().memory_info().rss


@pytest.mark.slow
def test_a_thousand_epochs_on_one_pool_stay_flat(make_pool):
    ds = ArrayDataSource([np.arange(64), np.ones((64, 100))])
    with make_pool() as pool:
        if isinstance(pool, WorkerProcessPool):
            wait_for_workers(pool)
        shared = pool.parallel_data_source(ds)
        for epoch in range(100):
            list(shared.batch_iterator(8, shuffle=1, epoch=epoch))
        before, rss = everything()
        for epoch in range(1000):
            list(shared.batch_iterator(8, shuffle=1, epoch=epoch))
        assert until(lambda: gc.collect() >= 0 and not added(before))
        assert everything()[1] < rss + 10e6


@pytest.mark.slow
def test_workers_stay_flat_over_a_thousand_epochs(method):
    ds = ArrayDataSource([np.arange(64), np.ones((64, 100))]).map(Fails([], seconds=1e-3))
    with WorkerProcessPool(2, start_method=method) as pool:
        shared = pool.parallel_data_source(ds)
        warm_up = [list(shared.batch_iterator(8)) for _ in range(100)]
        before = {pid: footprint(pid) for pid in pids_of(pool)}
        del warm_up
        for _ in range(1000):
            list(shared.batch_iterator(8))
        for pid, (files, rss) in before.items():
            assert footprint(pid)[0] <= files + 2
            assert footprint(pid)[1] < rss + 10e6


def footprint(pid):
    """Return how many files a process has open, and the memory it has."""
    process = psutil.Process(pid)
    return process.num_fds(), process.memory_info().rss


@pytest.mark.slow
def test_a_thousand_epochs_of_new_sources_stay_flat(forked):
    def run(n):
        for seed in range(n):
            ds = ArrayDataSource([np.arange(64), np.full((64, 100), seed)])
            list(forked.parallel_data_source(ds).batch_iterator(8))

    run(50)
    (before, rss), pids = everything(), pids_of(forked)
    files = {pid: psutil.Process(pid).num_fds() for pid in pids}
    run(1000)
    assert until(lambda: gc.collect() >= 0 and not added(before))
    assert everything()[1] < rss + 10e6
    assert until(lambda: pids_of(forked) and {pid: psutil.Process(pid).num_fds() for pid in pids} == files)


@pytest.mark.slow
def test_two_hundred_pools_stay_flat(make_pool):
    def run(n):
        for number in range(n):
            pool = make_pool()
            stream = pool.parallel_data_source(whole_batches(6)).batch_iterator(BATCH_SIZE)
            assert len(list(stream)) == 6
            if number % 2:
                pool.close()
            del pool, stream

    run(20)
    before, rss = everything()
    run(200)
    assert until(lambda: gc.collect() >= 0 and not added(before))
    assert everything()[1] < rss + 15e6


# Errors that are kept, and then forgotten.

FORGETTING = """
    import gc, os, time, warnings
    import numpy as np
    from batchup.data_source import ArrayDataSource
    from batchup.work_pool import WorkerProcessPool

    def die(x):
        time.sleep(0.005)
        if x[0] == 20 and os.getpid() != OWNER:
            os._exit(3)
        return (x,)

    OWNER = os.getpid()
    warnings.simplefilter('ignore')
    gc.disable()
    for _ in range(5):
        with WorkerProcessPool(2, start_method='fork') as pool:
            list(pool.work_stream([(abs, (1,))] * 9).retrieve_iter())
            stream = pool.parallel_data_source(ArrayDataSource([np.arange(96)]).map(die), 6).batch_iterator(4)
            try:
                for batch in stream:
                    pass
            except RuntimeError as error:
                kept = error
        del kept, pool, stream
        gc.collect()
    print('done')
"""


@pytest.mark.slow
def test_errors_with_all_they_refer_to_are_collected(tmp_path):
    """They refer to frames, and these to slots of shared memory."""
    assert run_script(tmp_path, FORGETTING) == (0, 'done\n', '')


def test_an_error_of_a_closed_pool_keeps_nothing_alive(forked):
    def run():
        with WorkerProcessPool(2, start_method='fork') as pool:
            pids_of(pool)
            stream = pool.parallel_data_source(source(), 4).batch_iterator(BATCH_SIZE)
            next(stream)
        with pytest.raises(WorkerPoolError, match='closed'):
            list(stream)

    with nothing_left():
        run()


@pytest.mark.slow
@pytest.mark.parametrize('start_method', IMPORTING)
def test_a_pool_that_is_closed_while_it_starts_says_so(start_method):
    """Even though the first batches do not wait for workers."""
    pool = WorkerProcessPool(1, start_method=start_method)
    stream = pool.parallel_data_source(source()).batch_iterator(BATCH_SIZE)
    pool.close()
    with pytest.raises(WorkerPoolError, match='closed'):
        list(stream)
