"""Workers that hang, and those of executors and clusters that are lost: faults made for real."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import psutil
import pytest

from batchup.errors import WorkerLostError, WorkerPoolError, WorkerTimeoutError
from batchup.work_pool import RayExecutor, WorkerExecutorPool, WorkerProcessPool, WorkerThreadPool

from ..cases import BATCH_SIZE, assert_same_batches
from ..harness.pools import MAY_FORK, parallel, pids_of, serial, started, wait_for_workers, whole_batches
from ..harness.scripts import run_script
from ..harness.waiting import take_until, take_until_seconds, warned
from ..harness.work import Fails, sleep_for_ever, sleep_in_native_code, slow

pytestmark = [MAY_FORK, pytest.mark.usefixtures('all_by_workers')]


# Workers that hang.


@pytest.mark.parametrize('hang', [sleep_for_ever, pytest.param(sleep_in_native_code, marks=pytest.mark.slow)])
def test_a_process_that_hangs_gives_an_error_with_its_stack(method, hang):
    with started(2, method, timeout=1) as pool:
        stream = parallel(pool, whole_batches(8).map(Fails([5], hang)))
        start = time.monotonic()
        received, error = take_until(stream, TimeoutError)
        assert 0.9 < time.monotonic() - start < 60
        stream.close()
    assert len(received) == 5
    assert isinstance(error, WorkerTimeoutError)
    assert hang.__name__ in str(error)


SLOW_TO_START = """
    import time
    import numpy as np
    from batchup.data_source import ArrayDataSource
    from batchup.work_pool import WorkerProcessPool

    def double(x):
        return (2 * x,)

    if __name__ == '__main__':
        with WorkerProcessPool(1, timeout=2) as pool:
            stream = pool.parallel_data_source(ArrayDataSource([np.arange(8)]).map(double)).batch_iterator(4)
            print(*[x.tolist() for (x,) in stream])
    else:
        time.sleep(4)
"""


@pytest.mark.slow
def test_the_start_of_workers_does_not_count_as_time_for_a_batch(tmp_path):
    assert run_script(tmp_path, SLOW_TO_START) == (0, '[0, 2, 4, 6] [8, 10, 12, 14]\n', '')


@pytest.mark.slow
def test_a_pool_works_on_after_a_timeout(method):
    ds = whole_batches(10).map(Fails([]))
    with started(2, method, timeout=1) as pool:
        stream = pool.work_stream([(sleep_for_ever,)])
        with pytest.raises(WorkerTimeoutError):
            stream.retrieve()
        assert_same_batches(parallel(pool, ds), serial(ds))
        wait_for_workers(pool)


@pytest.mark.slow
def test_a_pool_with_hanging_workers_closes_soon(method):
    pool = WorkerProcessPool(2, start_method=method)
    wait_for_workers(pool)
    pids = pids_of(pool)
    stream = pool.work_stream([(sleep_for_ever,)] * 6)
    time.sleep(0.2)
    start = time.monotonic()
    pool.close()
    assert time.monotonic() - start < 60
    assert not any(psutil.pid_exists(pid) for pid in pids)
    with pytest.raises(WorkerPoolError, match='closed'):
        stream.retrieve()


@pytest.mark.slow
def test_other_streams_keep_their_batches_when_a_hanging_worker_is_ended(forked):
    forked.timeout = 1
    ds = whole_batches(60).map(Fails([], seconds=0.02))
    stream, other = forked.work_stream([(sleep_for_ever,)]), parallel(forked, ds)
    with pytest.raises(WorkerTimeoutError):
        stream.retrieve()
    assert_same_batches(other, serial(ds))


@pytest.mark.slow
def test_a_stopped_worker_is_a_timeout_that_says_so(forked):
    forked.timeout = 0.5
    stream = forked.work_stream([(slow, (1, 0.3))] * 2)
    for pid in pids_of_running(forked):
        os.kill(pid, signal.SIGSTOP)
    with pytest.raises(WorkerTimeoutError, match=r'worker process \d+ did not answer; its state is T \(stopped\)'):
        stream.retrieve()


def pids_of_running(pool):
    return [worker.process.pid for worker in pool._supervisor._workers]


@pytest.mark.slow
def test_slow_batches_are_no_timeout():
    ds = whole_batches(8).map(Fails([], seconds=0.3))
    with started(1, 'fork', timeout=1) as pool:
        assert_same_batches(parallel(pool, ds), serial(ds))


def test_a_timeout_says_at_which_batch(forked):
    forked.timeout = 0.5
    stream = parallel(forked, whole_batches(8).map(Fails([5], sleep_for_ever)))
    _, error = take_until(stream, WorkerTimeoutError)
    stream.close()
    assert 'batch 5' in ''.join(error.__notes__)


# Batches that are waited for.


def slow_at(*numbers, seconds=1.0):
    """Return a function to map, which takes long in workers at some batches."""
    return Fails(numbers, partial(time.sleep, seconds), seconds=0)


def test_a_batch_that_takes_long_is_told_once_with_stacks(method):
    with started(2, method, warn_after=0.2) as pool:
        stream = parallel(pool, whole_batches(20).map(slow_at(5, 15)), shuffle=None, epoch=3)
        with warned('still waits') as caught:
            assert_same_batches(stream, serial(whole_batches(20)))
        pids = pids_of(pool)
    (message,) = [str(each.message) for each in caught if each.category is UserWarning]
    start = f'a stream still waits, after 0.2 seconds (warn_after), for {BATCH_5}\n'
    assert message.startswith(start.replace('epoch 0', 'epoch 3'))
    assert {int(pid) for pid in re.findall(r'worker process (\d+)', message)} == pids
    assert re.search(
        r'worker process \d+, at batch 5 .*, was at:\n(.*\n)+?  File ".*work.py", line \d+ in __call__', message
    )


BATCH_5 = f'batch 5 of epoch 0, with indices {range(5 * BATCH_SIZE, 6 * BATCH_SIZE)}'


@pytest.mark.slow
def test_every_stream_tells_of_its_own_batch(forked):
    forked.warn_after = 0.2
    for number in (5, 2):
        with warned(f'for batch {number} '):
            assert_same_batches(parallel(forked, whole_batches(8).map(slow_at(number))), serial(whole_batches(8)))


@pytest.mark.slow
def test_stopped_workers_are_told_of_and_go_on(forked):
    forked.warn_after = 0.2
    stream = parallel(forked, whole_batches(8).map(slow_at(3, 4, seconds=0.3)))
    first = [next(stream) for _ in range(3)]
    pids = pids_of_running(forked)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    threading.Timer(2, lambda: [os.kill(pid, signal.SIGCONT) for pid in pids]).start()
    with warned(r'did not answer; its state is T \(stopped\)'):
        assert_same_batches([*first, *stream], serial(whole_batches(8)))


@pytest.mark.slow
def test_workers_that_are_starting_are_asked_for_nothing():
    # A signal would end them, with a warning.
    with WorkerProcessPool(2, start_method='spawn') as pool:
        stream = pool.work_stream([(slow, (number, 0.1)) for number in range(3)])
        told = {line for _ in iter(lambda: pool._supervisor.starting, False) for line in [pool._supervisor.stacks()]}
        assert any(re.search('was starting|no worker process has started yet', text) for text in told)
        assert list(stream.retrieve_iter()) == [0, 1, 2]
        assert re.fullmatch(r'(worker process \d+ had nothing to do\n?){2}', pool._supervisor.stacks())


@pytest.mark.slow
def test_a_warning_that_is_an_error_loses_no_batch(forked):
    forked.warn_after = 0.1
    stream = parallel(forked, whole_batches(8).map(slow_at(5, seconds=0.5)))
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        received, error = take_until(stream, UserWarning)
        assert f'for {BATCH_5}' in str(error)
        assert_same_batches([*received, *stream], serial(whole_batches(8)))


def test_a_thread_that_takes_long_is_told_with_its_stack(all_by_workers):
    def sleep_at_5(x, y):
        time.sleep(0.5 * (x[0] == 5 * BATCH_SIZE))
        return x, y

    with (
        WorkerThreadPool(2, warn_after=0.1) as pool,
        warned(rf'for {re.escape(BATCH_5)}\n(.*\n)+.*sleep_at_5') as caught,
    ):
        assert_same_batches(parallel(pool, whole_batches(8).map(sleep_at_5)), serial(whole_batches(8)))
    assert len(caught) == 1


def call(function):
    return function()


class Future:
    """A future that can only be waited for by `result`, as those of Ray."""

    def __init__(self, future, takes_seconds):
        self.result = future.result if takes_seconds else partial(call, future.result)


class Executor:
    """An executor that gives such futures."""

    def __init__(self, executor, takes_seconds):
        self.submit = lambda *args: Future(executor.submit(*args), takes_seconds)


@pytest.mark.slow
def test_an_executor_that_takes_long_is_told():
    ds = whole_batches(8).map(slow_at(5, seconds=0.6))
    with ProcessPoolExecutor(1, get_context('fork')) as executor:
        for made in (executor, Executor(executor, True)):
            with WorkerExecutorPool(made, warn_after=0.2) as pool, warned(f'for {re.escape(BATCH_5)}') as caught:
                assert_same_batches(parallel(pool, ds), serial(whole_batches(8)))
            assert len(caught) == 1
        with WorkerExecutorPool(Executor(executor, False), warn_after=0.2) as pool:
            assert_same_batches(parallel(pool, ds), serial(whole_batches(8)))


def test_without_warn_after_nothing_is_told(forked):
    forked.warn_after = None
    assert_same_batches(parallel(forked, whole_batches(8).map(slow_at(5, seconds=0.3))), serial(whole_batches(8)))


@pytest.mark.parametrize('kind', [WorkerThreadPool, WorkerProcessPool])
def test_warn_after_is_a_time(kind):
    for wrong, error in [('3', TypeError), (True, TypeError), (0, ValueError), (float('nan'), ValueError)]:
        with pytest.raises(error, match='warn_after must be a'):
            kind(1, warn_after=wrong)


# Threads that hang.

hanging, released = threading.Event(), threading.Event()


def wait_until_released():
    hanging.set()
    released.wait(20)


def test_a_thread_that_hangs_gives_an_error_with_its_stack():
    released.clear()
    with WorkerThreadPool(2, timeout=0.5) as pool:
        stream = pool.work_stream([(wait_until_released,), (abs, (-3,))])
        try:
            with pytest.raises(WorkerTimeoutError, match='wait_until_released') as caught:
                stream.retrieve()
            assert isinstance(caught.value, TimeoutError)
            assert stream.retrieve() == 3
        finally:
            released.set()


@pytest.mark.slow
def test_closing_a_pool_with_a_hanging_thread_warns():
    released.clear()
    hanging.clear()
    pool = WorkerThreadPool(1)
    stream = pool.work_stream([(wait_until_released,)])
    hanging.wait(5)
    try:
        with warned('still at work.*batchup-worker-0 at wait_until_released'):
            pool.close()
    finally:
        released.set()
    assert stream.retrieve() is None


@pytest.mark.slow
def test_a_script_with_a_hanging_thread_ends(tmp_path):
    text = """
        import time
        from batchup.work_pool import WorkerThreadPool
        pool = WorkerThreadPool(2, timeout=0.3)
        try:
            pool.work_stream([(time.sleep, (1000,))]).retrieve()
        except TimeoutError:
            print('late')
    """
    code, out, _ = run_script(tmp_path, text)
    assert (code, out) == (0, 'late\n')


# Executors and clusters.


@pytest.mark.parametrize('fault', ['kill', 'exit'])
def test_an_executor_that_breaks_gives_an_error(fault):
    ds = whole_batches(12).map(Fails([5], fault))
    with ProcessPoolExecutor(2) as executor, WorkerExecutorPool(executor) as pool:
        error = take_until_seconds(parallel(pool, ds), WorkerLostError)
    assert isinstance(error.__cause__, BrokenProcessPool)


@pytest.mark.slow
def test_an_executor_that_takes_too_long_gives_an_error():
    with ProcessPoolExecutor(1) as executor, WorkerExecutorPool(executor, timeout=0.5) as pool:
        stream = pool.work_stream([(time.sleep, (2,))])
        with pytest.raises(WorkerTimeoutError):
            stream.retrieve()


ignore_dask = pytest.mark.filterwarnings('ignore::ResourceWarning', 'ignore::pytest.PytestUnraisableExceptionWarning')


@contextlib.contextmanager
def quiet_logs():
    import logging

    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


@pytest.fixture
def cluster():
    distributed = pytest.importorskip('distributed')
    made = distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=':0')
    with quiet_logs(), made as cluster, distributed.Client(cluster) as client:
        yield client


def dask_epoch_with_kills(client, pids):
    """Go through an epoch on a cluster, some of whose processes are killed."""
    ds = whole_batches(60).map(Fails([], seconds=0.02))
    pool = WorkerExecutorPool(client.get_executor(), processes=2, max_restarts=5, timeout=60)
    received = []
    with pool:
        for number, batch in enumerate(parallel(pool, ds, shuffle=5)):
            received.append(batch)
            if number == 6:
                for pid in pids:
                    os.kill(pid, signal.SIGKILL)
    assert_same_batches(received, serial(ds, shuffle=5))


@pytest.mark.slow
@ignore_dask
@pytest.mark.filterwarnings('ignore:the executor lost a job')
@pytest.mark.parametrize('count', [pytest.param(1, marks=pytest.mark.slow), 2])
def test_killed_dask_workers_lose_nothing(cluster, count):
    pids = [pid for _, pid in sorted(cluster.run(os.getpid).items())]
    dask_epoch_with_kills(cluster, pids[:count])


@ignore_dask
@pytest.mark.filterwarnings('ignore:the executor lost a job')
@pytest.mark.slow
def test_killed_dask_workers_without_a_nanny_lose_nothing():
    distributed = pytest.importorskip('distributed')
    made = distributed.LocalCluster(n_workers=0, processes=False, dashboard_address=':0', protocol='tcp://')
    with quiet_logs(), made as cluster, distributed.Client(cluster) as client:
        command = [sys.executable, '-m', 'distributed.cli.dask_worker', cluster.scheduler_address]
        command += ['--no-nanny', '--nthreads', '1', '--no-dashboard']
        # They import these tests from here, and write their files elsewhere.
        folder, env = tempfile.gettempdir(), {**os.environ, 'PYTHONPATH': str(Path(__file__).parents[2])}
        workers = [
            subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder, env=env)
            for _ in range(2)
        ]
        try:
            client.wait_for_workers(2, timeout=90)
            dask_epoch_with_kills(client, [workers[0].pid])
        finally:
            for worker in workers:
                worker.kill()
                worker.wait()


@pytest.mark.slow
@ignore_dask
@pytest.mark.filterwarnings('ignore:the executor lost a job', 'ignore::FutureWarning', 'ignore::DeprecationWarning')
def test_killed_ray_workers_lose_nothing():
    ray = pytest.importorskip('ray')
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level='critical')
    try:
        ds = whole_batches(60).map(Fails([], seconds=0.02))
        received = []
        with WorkerExecutorPool(RayExecutor(max_retries=0), processes=2, max_restarts=5, timeout=60) as pool:
            pids = sorted(pids_of(pool))
            for number, batch in enumerate(parallel(pool, ds, shuffle=5)):
                received.append(batch)
                if number in (6, 20) and pids:
                    os.kill(pids.pop(), signal.SIGKILL)
        assert_same_batches(received, serial(ds, shuffle=5))
    finally:
        ray.shutdown()
