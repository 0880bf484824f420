"""Pools over executors: what is special about them."""

import itertools
import os
import sys
import threading
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pytest

from batchup.data_source import RandomAccessDataSource
from batchup.work_pool import RayExecutor, WorkerExecutorPool

from ..cases import RANDOM_ACCESS, SHUFFLES, PlainRandomAccess, assert_same_batches, jitter, numbers
from ..harness.pools import EXECUTORS, IN_PROCESSES, on, on_clusters
from ..harness.scripts import run_script
from ..harness.work import RESULTS, Log, Raises, Traveller, TwoPartsError, add, nap, two_parts_error


class TravellingSource(PlainRandomAccess):
    """A source that notes down in which process it arrives."""

    def __init__(self, n, log):
        super().__init__(n)
        self.traveller = Traveller(log)


class OneThread:
    """The least that an executor may be: a function runs when it is handed over."""

    def __init__(self):
        self.submitted = 0

    def submit(self, fn, *args):
        self.submitted += 1
        future = Future()
        future.set_result(fn(*args))
        return future


class Later:
    """An executor that does nothing until a result is asked for, and whose futures cannot be cancelled."""

    def submit(self, fn, *args):
        future = type('Lazy', (), {})()
        future.result = lambda timeout=None: fn(*args)
        return future


@on(IN_PROCESSES)
def test_the_source_is_sent_to_each_worker_once(pool, tmp_path):
    log = Log(tmp_path / 'arrived')
    source = TravellingSource(60, log)
    parallel = pool.parallel_data_source(source)
    for epoch in range(3):
        expected = source.batch_iterator(4, shuffle=1, epoch=epoch)
        assert_same_batches(parallel.batch_iterator(4, shuffle=1, epoch=epoch), expected)
    arrivals = log.lines()
    assert len(arrivals) == len(set(arrivals)) >= 1
    assert str(os.getpid()) not in arrivals


@on(IN_PROCESSES)
def test_a_mapped_function_is_sent_to_each_worker_once(pool, tmp_path):
    log = Log(tmp_path / 'arrived')
    parallel = pool.parallel_data_source(numbers(60).map(nap).map(Traveller(log)))
    for batch_size in (2, 3):
        assert_same_batches(parallel.batch_iterator(batch_size), numbers(60).batch_iterator(batch_size))
    assert len(log.lines()) == len(set(log.lines())) >= 1


@on(IN_PROCESSES)
def test_many_sources_may_be_read_in_turns(pool):
    parallel = [pool.parallel_data_source(numbers(40, 100 * k)) for k in range(12)]
    for _ in range(2):
        streams = [source.batch_iterator(8) for source in parallel]
        for batches in zip(*streams):
            assert [int(x[0]) // 100 for (x,) in batches] == list(range(12))


@on(EXECUTORS)
def test_the_executor_stays_open(pool):
    executor = pool._executor
    with WorkerExecutorPool(executor, 2) as other:
        assert_same_batches(other.parallel_data_source(numbers(20)).batch_iterator(3), numbers(20).batch_iterator(3))
    assert executor.submit(add, 1, 2).result() == 3


# Sources, one of each kind, for clusters: there a batch takes some milliseconds.
FEW = ['plain_sampler', 'composite_nested', 'choice_stratified', 'map_of_composite']


@pytest.mark.slow
@on_clusters
@pytest.mark.parametrize('name', FEW)
def test_clusters_make_the_serial_batches_and_go_on_from_their_states(pool, name):
    source, parallel = RANDOM_ACCESS[name](), pool.parallel_data_source(RANDOM_ACCESS[name]())
    for make in SHUFFLES.values():
        serial, saved, resumed = (each.batch_iterator(4, **make()) for each in (source, parallel, parallel))
        assert_same_batches(itertools.islice(saved, 2), itertools.islice(serial, 2))
        resumed.load_state_dict(serial.state_dict())
        assert_same_batches(resumed, serial)


@on_clusters
def test_clusters_give_back_anything(pool):
    for name in ('nested', 'dictionary', 'scalars', 'growing'):
        source = numbers(9).map(RESULTS[name], same_length=False)
        assert_same_batches(pool.parallel_data_source(source).batch_iterator(2), source.batch_iterator(2))


@on_clusters
def test_an_error_arrives_from_a_cluster(pool):
    stream = pool.parallel_data_source(numbers(40).map(nap).map(Raises(14, two_parts_error))).batch_iterator(3)
    assert_same_batches(itertools.islice(stream, 4), list(numbers(12).batch_iterator(3)))
    with pytest.raises(TwoPartsError, match='part 5') as caught:
        next(stream)
    assert 'in __call__' in str(caught.value.__cause__)
    worker, batch = caught.value.__notes__
    assert worker.startswith('in process ')
    assert batch.startswith('in batch 4')


@on_clusters
def test_tasks_run_on_a_cluster_in_order(pool):
    tasks = [(add, (pool.shared_constant(3), k)) for k in range(20)]
    assert list(pool.work_stream(tasks).retrieve_iter()) == list(range(3, 23))


@on_clusters
def test_functions_that_workers_cannot_import_travel_to_clusters(pool):
    def triple(x):
        return (factor * x,)

    class Own(RandomAccessDataSource):
        def samples_by_indices_nomapping(self, indices):
            return (indices + factor,)

    factor, triple.__module__, triple.__qualname__ = 3, '__main__', 'triple'  # as if a script had defined it
    for source in (numbers(20).map(triple), numbers(20).map(lambda x: (x + factor,)), Own(20)):
        assert_same_batches(pool.parallel_data_source(source).batch_iterator(8), source.batch_iterator(8))
    assert list(pool.work_stream([(triple, (2,)), (lambda: factor,)]).retrieve_iter()) == [(6,), 3]


@on_clusters
def test_a_task_that_does_not_pickle_is_told_before_a_cluster_gets_it(pool, caplog):
    with pytest.raises(TypeError, match=r'a job cannot be sent to a worker process: .*lock.*top level of a module'):
        pool.work_stream([(add, (1, threading.Lock()))]).retrieve()
    assert not caplog.records


@on(EXECUTORS)
def test_two_pools_may_share_an_executor(pool):
    source = numbers(30).map(jitter, rng=True)
    with WorkerExecutorPool(pool._executor, 2) as other:
        streams = [each.parallel_data_source(source).batch_iterator(3, shuffle=1) for each in (pool, other)]
        one, other_one = zip(*zip(*streams))
        assert_same_batches(one, source.batch_iterator(3, shuffle=1))
        assert_same_batches(other_one, one)


@pytest.mark.parametrize('executor', [OneThread, Later])
def test_anything_with_submit_will_do(executor):
    source = numbers(100).map(jitter, rng=True)
    with WorkerExecutorPool(executor()) as pool:
        parallel = pool.parallel_data_source(source)
        for epoch in range(2):
            assert_same_batches(
                parallel.batch_iterator(3, shuffle=1, epoch=epoch), source.batch_iterator(3, shuffle=1, epoch=epoch)
            )


@pytest.mark.parametrize('executor', [OneThread, Later])
def test_anything_with_submit_runs_work_streams(executor):
    with WorkerExecutorPool(executor()) as pool:
        constant = pool.shared_constant(5)
        assert list(pool.work_stream((add, (constant, k)) for k in range(4)).retrieve_iter()) == [5, 6, 7, 8]


def test_small_batches_are_submitted_in_groups():
    executor = OneThread()
    with WorkerExecutorPool(executor, 2) as pool:
        list(pool.parallel_data_source(numbers(1000), batch_buffer_size=100).batch_iterator(1))
    assert executor.submitted < 500


@pytest.mark.parametrize('thing', [None, 5, 'threads', object()], ids=range(4))
def test_what_is_no_executor_is_a_type_error(thing):
    with pytest.raises(TypeError, match='executor'):
        WorkerExecutorPool(thing)


@pytest.mark.parametrize(('kwargs', 'error'), [({'processes': 0}, ValueError), ({'max_restarts': -1}, ValueError)])
def test_wrong_arguments_are_named(kwargs, error):
    with ThreadPoolExecutor(1) as executor, pytest.raises(error, match=next(iter(kwargs))):
        WorkerExecutorPool(executor, **kwargs)


def test_the_number_of_workers_is_that_of_the_executor():
    with ThreadPoolExecutor(3) as threads, ProcessPoolExecutor(5) as processes:
        assert WorkerExecutorPool(threads).processes == 3
        assert WorkerExecutorPool(processes).processes == 5
        assert WorkerExecutorPool(threads, 2).processes == 2
    assert WorkerExecutorPool(OneThread()).processes >= 1


def test_an_executor_that_was_shut_down_is_an_error():
    executor = ThreadPoolExecutor(1)
    executor.shutdown()
    with WorkerExecutorPool(executor) as pool, pytest.raises(RuntimeError):
        list(pool.parallel_data_source(numbers(10).map(nap)).batch_iterator(3))


def test_without_ray_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, 'ray', None)
    with pytest.raises(ImportError, match=r"RayExecutor needs Ray: pip install '\.\[ray\]' in a copy of batchup's"):
        RayExecutor()


@pytest.mark.slow
def test_ray_must_be_running(tmp_path):
    pytest.importorskip('ray')
    _, _, errors = run_script(tmp_path, 'from batchup.work_pool import RayExecutor; RayExecutor()')
    assert 'WorkerPoolError: Ray is not running; call ray.init() first' in errors


@on(['ray'])
def test_options_of_ray_are_handed_on(pool):
    executor = RayExecutor(num_cpus=1, max_retries=0)
    with WorkerExecutorPool(executor, 2) as other:
        assert_same_batches(other.parallel_data_source(numbers(20)).batch_iterator(3), numbers(20).batch_iterator(3))
    assert executor.submit(add, 1).result(timeout=20) == 2


@on(['thread_executor'])
def test_threads_share_the_source(pool):
    seen = []

    def look(x):
        seen.append((os.getpid(), threading.get_ident()))
        return (x,)

    (result,) = pool.parallel_data_source(numbers(20).map(look)).batch_map_concat(lambda x: x, 3)
    np.testing.assert_array_equal(result, np.arange(20))
    assert {pid for pid, _ in seen} == {os.getpid()}
