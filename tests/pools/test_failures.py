"""Workers that are killed, that crash, or cannot start: faults made for real."""

import os
import random
import re
import signal
import time
from multiprocessing import forkserver

import psutil
import pytest

from batchup.errors import WorkerLostError
from batchup.work_pool import WorkerProcessPool

from ..cases import BATCH_SIZE, assert_same_batches
from ..harness.pools import (
    MAY_FORK,
    parallel,
    pids_of,
    serial,
    shared_pools,
    started,
    wait_for_workers,
    whole_batches,
)
from ..harness.scripts import run_script
from ..harness.waiting import take_until, take_until_seconds, until, warned
from ..harness.work import DEATHS, Fails, large_and_dying, slow

pytestmark = [MAY_FORK, pytest.mark.usefixtures('all_by_workers')]


SEEDS = [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)]


def some_batches(seed, n_batches, count):
    """Choose batches, but not the first."""
    return random.Random(seed).sample(range(1, n_batches), count)


# Workers that die.


@pytest.mark.parametrize('seed', SEEDS)
def test_batches_whose_workers_are_killed_are_made_again(method, seed, tmp_path):
    ds = whole_batches(24).map(Fails(some_batches(seed, 24, 4), 'kill', tmp_path))
    with started(2, method) as pool, warned('SIGKILL'):
        assert_same_batches(parallel(pool, ds), serial(ds))


@pytest.mark.parametrize('death', DEATHS)
def test_the_warning_says_how_a_worker_ended(method, death, tmp_path):
    ds = whole_batches(10).map(Fails([4], death, tmp_path))
    with started(2, method) as pool:
        pids = pids_of(pool)
        with warned('ended unexpectedly') as caught:
            assert_same_batches(parallel(pool, ds), serial(ds))
    messages = [str(warning.message) for warning in caught if warning.category is not DeprecationWarning]
    batch = f'while it was at batch 4 of epoch 0, with indices {range(4 * BATCH_SIZE, 5 * BATCH_SIZE)}'
    ended = f'ended unexpectedly ({DEATHS[death][2]}) {batch}; another one takes over'
    assert messages in [[f'worker process {pid} {ended}'] for pid in pids]


@pytest.mark.parametrize('seed', SEEDS)
def test_workers_killed_from_outside_lose_nothing(method, seed):
    ds = whole_batches(40).map(Fails([], seconds=0.01))
    rng, received = random.Random(seed), []
    with started(2, method) as pool, warned('signal 9, SIGKILL'):
        kills = set(some_batches(seed, 30, 4))
        for number, batch in enumerate(parallel(pool, ds)):
            received.append(batch)
            if number in kills:
                os.kill(rng.choice(sorted(pids_of(pool))), signal.SIGKILL)
        assert_same_batches(received, serial(ds))
        wait_for_workers(pool)


def test_all_workers_killed_at_once(method):
    ds = whole_batches(20).map(Fails([], seconds=0.01))
    with started(3, method) as pool, warned('SIGKILL') as caught:
        pids, stream = pids_of(pool), parallel(pool, ds)
        first = [next(stream) for _ in range(4)]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        assert_same_batches([*first, *stream], serial(ds))
        wait_for_workers(pool)
    assert {f'worker process {pid} ' in ''.join(str(w.message) for w in caught) for pid in pids} == {True}


@pytest.mark.slow
def test_idle_workers_killed_between_epochs(method):
    ds = whole_batches(10)
    with started(2, method) as pool, warned('SIGKILL'):
        shared = pool.parallel_data_source(ds)
        for epoch in range(3):
            stream = shared.batch_iterator(BATCH_SIZE, shuffle=7, epoch=epoch)
            assert_same_batches(stream, serial(ds, shuffle=7, epoch=epoch))
            for pid in pids_of(pool):
                os.kill(pid, signal.SIGKILL)
            wait_for_workers(pool)


def test_two_streams_of_a_pool_both_survive(forked, tmp_path):
    one = whole_batches(12).map(Fails([3, 9], 'kill', tmp_path))
    other = whole_batches(12).map(Fails([], seconds=0.005))
    with warned('SIGKILL'):
        pairs = list(zip(parallel(forked, one), parallel(forked, other, shuffle=1)))
    assert_same_batches([pair[0] for pair in pairs], serial(one))
    assert_same_batches([pair[1] for pair in pairs], serial(other, shuffle=1))


def test_an_epoch_that_is_resumed_survives_too(forked, tmp_path):
    ds = whole_batches(20).map(Fails([13], 'kill', tmp_path))
    stream = parallel(forked, ds, shuffle=None)
    state = [next(stream) for _ in range(8)] and stream.state_dict()
    resumed = parallel(forked, ds)
    resumed.load_state_dict(state)
    with warned('SIGKILL'):
        assert_same_batches(resumed, serial(ds)[8:])
        stream.close()


def test_the_tasks_of_a_killed_worker_run_again(method, tmp_path):
    mark = str(tmp_path / 'mark')
    tasks = [(slow, (number,)) for number in range(8)]
    tasks.insert(4, (large_and_dying, (30_000_000, mark)))
    with started(2, method) as pool, warned('SIGKILL'):
        results = list(pool.work_stream(tasks).retrieve_iter())
        wait_for_workers(pool)
    assert results.pop(4) == bytes(30_000_000)
    assert results == list(range(8))


# Batches that always kill.


def test_a_batch_that_always_kills_raises_at_its_place(method):
    ds = whole_batches(12).map(Fails([5]))
    start = time.monotonic()
    with started(2, method) as pool, warned('SIGKILL'):
        stream = parallel(pool, ds)
        received, error = take_until(stream, WorkerLostError)
        stream.close()
    assert_same_batches(received, serial(ds)[:5])
    assert 'Likely causes: too little memory' in str(error)
    assert 'SIGKILL' in str(error)
    assert time.monotonic() - start < 60


@pytest.mark.parametrize('death', DEATHS)
def test_a_function_that_ends_its_process_does_not_end_the_users(method, death):
    with WorkerProcessPool(1, start_method=method, max_restarts=0) as pool, warned(DEATHS[death][2]):
        stream = parallel(pool, whole_batches(3).map(Fails([0], death)))
        with pytest.raises(WorkerLostError):  # `Fails` does no harm in this process
            next(stream)
        stream.skip(1)
        assert len(list(stream)) == 2


def test_the_error_of_a_lost_batch_says_which_batch(forked):
    with warned('SIGKILL'):
        stream = parallel(forked, whole_batches(12).map(Fails([5])))
        _, error = take_until(stream, WorkerLostError)
        stream.close()
    assert error.__notes__ == [f'in batch 5 of epoch 0, with indices {range(5 * BATCH_SIZE, 6 * BATCH_SIZE)}']
    assert re.search(r'the last one, process \d+ by signal 9, SIGKILL', str(error))


def test_a_pool_serves_other_streams_after_a_batch_that_always_kills(method):
    good = whole_batches(10).map(Fails([]))
    with started(2, method) as pool, warned('SIGKILL'):
        stream = parallel(pool, whole_batches(6).map(Fails([3])))
        take_until(stream, WorkerLostError)
        assert_same_batches(parallel(pool, good), serial(good))
        stream.close()


@pytest.mark.slow
def test_a_stream_that_always_kills_leaves_other_streams_alone(forked):
    bad, good = whole_batches(12).map(Fails([5])), whole_batches(40).map(Fails([]))
    with warned('SIGKILL'):
        stream, other = parallel(forked, bad), parallel(forked, good)
        first = [next(other) for _ in range(3)]
        take_until(stream, WorkerLostError)
        stream.close()
        assert_same_batches([*first, *other], serial(good))


def test_a_stream_goes_on_after_the_batch_that_always_kills(forked):
    ds = whole_batches(12).map(Fails([5]))
    with warned('SIGKILL'):
        stream = parallel(forked, ds)
        take_until(stream, WorkerLostError)
        stream.skip(1)
        assert_same_batches(stream, serial(ds)[6:])


@pytest.mark.parametrize('max_restarts', [0, 1, 5])
def test_max_restarts_counts_the_workers_that_one_batch_may_lose(max_restarts):
    made = started(1, 'fork', max_restarts=max_restarts)
    with made as pool, warned('SIGKILL') as caught:
        stream = parallel(pool, whole_batches(6).map(Fails([3])), 3)
        _, error = take_until(stream, WorkerLostError)
        assert str(error).startswith(f'{max_restarts + 1} worker process')
        assert len(caught) >= max_restarts + 1
        stream.close()


@pytest.mark.slow
def test_batches_that_kill_once_each_never_add_up(forked, tmp_path):
    ds = whole_batches(40).map(Fails(range(1, 40), 'exit', tmp_path, seconds=5e-4))
    with warned('exit code 3'):
        assert_same_batches(parallel(forked, ds, 40), serial(ds))
        wait_for_workers(forked)


def test_a_task_that_always_kills_raises_in_its_place(forked):
    tasks = [(slow, (0,)), DEATHS['exit'][:2], (slow, (2,))]
    stream = forked.work_stream(tasks)
    with warned('exit code 3'):
        assert stream.retrieve() == 0
        with pytest.raises(WorkerLostError, match='exit code 3'):
            stream.retrieve()
        assert stream.retrieve() == 2


# Workers that cannot start.

FAILS_IN_WORKERS = """
    from batchup.work_pool import WorkerProcessPool
    if __name__ == '__main__':
        with WorkerProcessPool(2, start_method={method!r}) as pool:
            print(pool.work_stream([(abs, (-1,))]).retrieve())
    else:
        {fault}
"""


@pytest.mark.parametrize('start_method', ['forkserver', pytest.param('spawn', marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    'fault', ["raise RuntimeError('no licence')", pytest.param('import os; os._exit(9)', marks=pytest.mark.slow)]
)
@pytest.mark.slow
def test_workers_that_end_before_they_are_ready_give_an_error(start_method, fault, tmp_path):
    code, out, err = run_script(tmp_path, FAILS_IN_WORKERS.format(method=start_method, fault=fault))
    assert (code, out) == (1, '')
    assert 'PoolError' in err or 'WorkerLostError' in err


@pytest.mark.slow
@pytest.mark.parametrize('start_method', ['forkserver', pytest.param('spawn', marks=pytest.mark.slow)])
def test_workers_killed_while_they_start_give_an_error(start_method, tmp_path):
    fault = 'import os; os.kill(os.getpid(), 9)'
    code, _, err = run_script(tmp_path, FAILS_IN_WORKERS.format(method=start_method, fault=fault))
    assert code == 1
    assert 'WorkerLostError: worker processes end before they are ready' in err
    assert 'SIGKILL' in err
    assert 'main part' not in err


DIES = """
import os, pathlib
def die():
    for mark in ('first', 'second'):
        try:
            pathlib.Path({folder!r}, mark).touch(exist_ok=False)
        except FileExistsError:
            continue
        os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize('start_method', ['forkserver', pytest.param('spawn', marks=pytest.mark.slow)])
def test_others_take_over_from_workers_killed_while_they_start(start_method, tmp_path):
    (tmp_path / 'dying.py').write_text(DIES.format(folder=str(tmp_path)) + 'die()')
    text = FAILS_IN_WORKERS.format(method=start_method, fault='import dying')
    assert_two_were_replaced(*run_script(tmp_path, text))


@pytest.mark.slow
def test_others_take_over_from_workers_killed_as_they_are_forked(tmp_path):
    (tmp_path / 'dying.py').write_text(DIES.format(folder=str(tmp_path)) + 'os.register_at_fork(after_in_child=die)')
    text = """
        import multiprocessing, os, sys
        from batchup.work_pool import WorkerProcessPool
        if __name__ == '__main__':
            os.environ['PYTHONPATH'] = os.pathsep.join(sys.path)
            multiprocessing.set_forkserver_preload(['dying'])
            with WorkerProcessPool(2, start_method='forkserver') as pool:
                print(pool.work_stream([(abs, (-1,))]).retrieve())
    """
    assert_two_were_replaced(*run_script(tmp_path, text))


def assert_two_were_replaced(code, out, err):
    assert (code, out) == (0, '1\n')
    assert err.count('UserWarning: ') == 2
    assert 'Traceback' not in err


def kill_server():
    """Kill the process that starts workers by forkserver."""
    os.kill(forkserver._forkserver._forkserver_pid, signal.SIGKILL)


@pytest.fixture
def _no_other_workers_of_the_server():
    shared_pools.close(['forkserver', 'process_executor'])


@pytest.mark.slow
@pytest.mark.usefixtures('_no_other_workers_of_the_server')
def test_workers_whose_server_is_killed_are_replaced():
    ds = whole_batches(40).map(Fails([], seconds=0.01))
    with started(2, 'forkserver') as pool, warned('the server that'):
        stream, before = parallel(pool, ds), pids_of(pool)
        first = [next(stream) for _ in range(3)]
        kill_server()
        assert_same_batches([*first, *stream], serial(ds))
        wait_for_workers(pool)
        assert not before & pids_of(pool)
        assert until(lambda: not any(psutil.pid_exists(pid) for pid in before))


@pytest.mark.slow
@pytest.mark.usefixtures('_no_other_workers_of_the_server')
def test_a_server_that_is_killed_between_streams_is_started_again():
    with started(1, 'forkserver', max_restarts=1) as pool, warned('the server that') as caught:
        for _ in range(2):  # more than `max_restarts`, which counts those that do not become ready
            kill_server()
            assert until(lambda: pool._supervisor.warnings)
            wait_for_workers(pool)
    assert sum('had started it ended' in str(warning.message) for warning in caught) == 2


MODULE = """
import multiprocessing, os
from batchup.data_source import RandomAccessDataSource
if multiprocessing.parent_process() is not None:
    {fault}
class Custom(RandomAccessDataSource):
    def samples_by_indices_nomapping(self, indices):
        return (indices * 2,)
"""


@pytest.fixture
def custom(request, tmp_path, monkeypatch):
    """Make a source whose module fails when a worker imports it."""
    name = f'custom_{os.urandom(4).hex()}'
    (tmp_path / f'{name}.py').write_text(MODULE.format(fault=request.param))
    monkeypatch.syspath_prepend(tmp_path)
    return __import__(name).Custom(40)


@pytest.mark.slow
@pytest.mark.parametrize('custom', ["raise ImportError('no such device')"], indirect=True)
def test_a_source_whose_module_fails_in_workers_gives_its_error(custom):
    with started(2, 'spawn') as pool:
        error = take_until_seconds(parallel(pool, custom), Exception)
        assert 'no such device' in str(error)
        assert pool.work_stream([(abs, (-1,))]).retrieve() == 1


@pytest.mark.slow
@pytest.mark.parametrize('custom', ['os._exit(9)'], indirect=True)
def test_a_source_whose_module_ends_workers_gives_an_error(custom):
    with started(2, 'spawn') as pool, warned('exit code 9'):
        error = take_until_seconds(parallel(pool, custom), WorkerLostError)
        assert 'exit code 9' in str(error)
