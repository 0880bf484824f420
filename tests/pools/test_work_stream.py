"""Work streams: functions that run in the workers of any pool, with their results in order."""

import gc
import os
import threading
import time
import weakref
from functools import partial

import numpy as np
import pytest

from batchup.work_pool import SharedConstant, WorkerThreadPool

from ..cases import numbers
from ..harness.pools import BACKENDS, IN_PROCESSES, PROCESS_POOLS, THREADS, on
from ..harness.waiting import wait_until
from ..harness.work import (
    Log,
    Traveller,
    TwoPartsError,
    add,
    fail,
    interrupt,
    log_worker,
    random_bytes,
    this_worker,
    two_parts_error,
    value_of,
)


def results(stream):
    return list(stream.retrieve_iter())


def raise_made(make_error):
    raise make_error()


def give_lambda():
    return lambda: None


def sleep_backwards(k):
    """Take the longer the earlier the task is."""
    time.sleep(0.001 * (12 - k))
    return k


# Results.


@on(BACKENDS)
def test_results_are_in_order(pool):
    for buffer_size in (1, 3, 100):
        stream = pool.work_stream(((sleep_backwards, (k,)) for k in range(12)), task_buffer_size=buffer_size)
        assert results(stream) == list(range(12))


@on(BACKENDS)
def test_tasks_have_arguments_and_keywords(pool):
    tasks = [(random_bytes,), (add, (2,)), (add, (2, 3)), (add, (2, 3), {'c': 10}), (add, [2], {'b': 7}), [add, (5,)]]
    first, *others = results(pool.work_stream(tasks))
    assert len(first) == 8
    assert others == [3, 5, 15, 9, 6]


@on(BACKENDS)
def test_the_result_after_the_last_is_none(pool):
    stream = pool.work_stream([(add, (1,)), (add, (2,))])
    assert [stream.retrieve() for _ in range(4)] == [2, 3, None, None]


@on(BACKENDS)
def test_none_is_a_result(pool):
    assert results(pool.work_stream([(time.sleep, (0,)), (add, (1,)), (time.sleep, (0,))])) == [None, 2, None]


@on(BACKENDS)
def test_no_tasks_have_no_results(pool):
    stream = pool.work_stream([])
    assert stream.retrieve() is None
    assert results(stream) == []


@on(BACKENDS)
def test_both_ways_to_retrieve_may_be_mixed(pool):
    stream = pool.work_stream((add, (k, 0)) for k in range(10))
    assert stream.retrieve() == 0
    iterator = stream.retrieve_iter()
    assert [next(iterator), stream.retrieve(), next(iterator)] == [1, 2, 3]
    assert results(stream) == [4, 5, 6, 7, 8, 9]


@on(BACKENDS)
def test_tasks_may_return_large_arrays(pool):
    arrays = results(pool.work_stream((np.full, (400_000, k)) for k in range(6)))
    for k, array in enumerate(arrays):
        np.testing.assert_array_equal(array, np.full(400_000, k))
        array[0] = -1  # and they may be written into


@on(BACKENDS)
def test_tasks_may_take_large_arrays(pool):
    tasks = ((np.sum, (np.full(400_000, k),)) for k in range(6))
    assert results(pool.work_stream(tasks)) == [400_000 * k for k in range(6)]


@on(BACKENDS)
def test_equal_tasks_all_run(pool):
    drawn = [value for _ in range(10) for value in results(pool.work_stream([(random_bytes, (1,))] * 5))]
    assert len(set(drawn)) == 50


# Where they run.


@on(BACKENDS)
def test_tasks_run_in_workers_and_never_in_the_caller(pool):
    makers = set(results(pool.work_stream([(this_worker, (0.003,))] * 30)))
    assert this_worker() not in makers
    assert len(makers) >= 2


@on(BACKENDS)
def test_a_stream_of_one_task_runs_in_a_worker(pool):
    for _ in range(5):
        assert pool.work_stream([(this_worker,)]).retrieve() != this_worker()


@on(THREADS)
def test_threads_take_functions_that_do_not_pickle(pool):
    seen = []
    results(pool.work_stream([(lambda: seen.append(threading.get_ident()),)] * 3))
    assert len(seen) == 3
    assert threading.get_ident() not in seen


@on(BACKENDS)
def test_tasks_start_before_a_result_is_asked_for(pool, tmp_path):
    log = Log(tmp_path / 'ran')
    stream = pool.work_stream(((log_worker, (log, k)) for k in range(9)), task_buffer_size=4)
    wait_until(lambda: len(log.lines()) >= 4)
    assert len(log.lines()) == 4
    assert len(results(stream)) == len(log.lines()) == 9


@on(BACKENDS)
def test_tasks_are_asked_for_only_as_far_as_they_may_wait(pool):
    asked = []
    tasks = (asked.append(k) or (add, (k,)) for k in range(30))
    stream = pool.work_stream(tasks, task_buffer_size=5)
    assert len(asked) == 5
    for received in range(1, 20):
        stream.retrieve()
        assert len(asked) == received + 5


@on(BACKENDS)
def test_work_and_batches_share_the_workers(pool):
    stream = pool.work_stream((add, (k, 0)) for k in range(30))
    batches = pool.parallel_data_source(numbers(30)).batch_iterator(1)
    assert [(k, int(x[0])) for k, (x,) in zip(stream.retrieve_iter(), batches)] == [(k, k) for k in range(30)]


@on(BACKENDS)
def test_threads_may_have_streams_of_their_own(pool):
    received = {}

    def run(number):
        received[number] = results(pool.work_stream((add, (k, number)) for k in range(40)))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert received == {number: [k + number for k in range(40)] for number in range(3)}


@on(BACKENDS)
def test_a_stream_that_is_dropped_leaves_the_pool_in_order(pool):
    for _ in range(5):
        pool.work_stream(((this_worker, (0.001,)) for _ in range(50)), task_buffer_size=8).retrieve()
    assert results(pool.work_stream([(add, (1,))])) == [2]


# Errors.


@on(BACKENDS)
def test_errors_come_at_their_place_and_the_stream_goes_on(pool):
    stream = pool.work_stream([(add, (1,)), (fail, ('first',)), (add, (2,)), (fail, ('second',)), (add, (3,))])
    assert stream.retrieve() == 2
    with pytest.raises(OSError, match='first'):
        stream.retrieve()
    assert stream.retrieve() == 3
    with pytest.raises(OSError, match='second'):
        stream.retrieve()
    assert results(stream) == [4]


@on(IN_PROCESSES)
def test_the_cause_is_the_traceback_of_the_worker(pool):
    with pytest.raises(OSError, match='gone') as caught:
        pool.work_stream([(fail, ('gone',))]).retrieve()
    assert 'in fail' in str(caught.value.__cause__)


@on(BACKENDS)
def test_errors_keep_their_type(pool):
    for make_error, kind in ((two_parts_error, TwoPartsError), (interrupt, KeyboardInterrupt)):
        stream = pool.work_stream([(raise_made, (make_error,)), (add, (1,))])
        with pytest.raises(kind, match='part 5'):
            stream.retrieve()
        assert stream.retrieve() == 2


@on(PROCESS_POOLS)
def test_a_result_that_does_not_pickle_is_a_type_error_at_its_place(pool):
    stream = pool.work_stream([(add, (1,)), (give_lambda,), (add, (2,))])
    assert stream.retrieve() == 2
    with pytest.raises(TypeError, match='lambda'):
        stream.retrieve()
    assert results(stream) == [3]


@on(PROCESS_POOLS)
def test_a_task_that_does_not_pickle_is_a_type_error_at_its_place(pool):
    stream = pool.work_stream([(add, (1,)), (lambda: 1,), (add, (2,))])
    assert stream.retrieve() == 2
    with pytest.raises(TypeError, match='lambda'):
        stream.retrieve()
    assert results(stream) == [3]


@on(BACKENDS)
def test_a_malformed_task_is_a_type_error_at_its_place(pool):
    for task in (add, (), (add, 3), (add, (3,), 4), (add, (3,), {}, 5), 'add', None):
        stream = pool.work_stream([(add, (1,)), task, (add, (2,))])
        assert stream.retrieve() == 2
        with pytest.raises(TypeError, match='task 1 must be'):
            stream.retrieve()
        assert results(stream) == [3]


@on(BACKENDS)
def test_a_task_without_a_function_is_a_type_error_at_its_place(pool):
    stream = pool.work_stream([(add, (1,)), (5, (1,)), (add, (2,))])
    assert stream.retrieve() == 2
    with pytest.raises(TypeError):
        stream.retrieve()
    assert results(stream) == [3]


def test_an_error_of_the_generator_is_not_kept_once_it_has_arrived():
    def tasks():
        yield add, (1,)
        error = two_parts_error()
        errors.append(weakref.ref(error))
        raise error

    errors = []
    with WorkerThreadPool(1) as pool:
        stream = pool.work_stream(tasks())
        assert stream.retrieve() == 2
        with pytest.raises(TwoPartsError):
            stream.retrieve()
        gc.collect()
        assert errors[0]() is None


@on(BACKENDS)
def test_an_error_of_the_generator_comes_after_the_results_before_it(pool):
    def tasks():
        yield add, (1,)
        yield add, (2,)
        raise OSError('no more tasks')

    stream = pool.work_stream(tasks())
    assert [stream.retrieve(), stream.retrieve()] == [2, 3]
    with pytest.raises(OSError, match='no more tasks'):
        stream.retrieve()
    with pytest.raises(RuntimeError, match='the task generator has ended with an error, OSError'):
        stream.retrieve()
    assert stream.retrieve() is None


@on(BACKENDS)
def test_tasks_that_are_not_iterable_are_a_type_error(pool):
    for tasks in (5, None, add):
        with pytest.raises(TypeError, match='task_generator'):
            pool.work_stream(tasks)


# Shared constants.


@on(BACKENDS)
def test_functions_get_the_value_of_a_constant(pool):
    three, keyword = pool.shared_constant(3), pool.shared_constant(np.arange(4))
    assert isinstance(three, SharedConstant)
    assert three.value == 3
    first, second = results(pool.work_stream([(add, (three,)), (add, (three,), {'c': keyword})]))
    assert first == 4
    np.testing.assert_array_equal(second, [4, 5, 6, 7])


@on(BACKENDS)
def test_a_function_may_be_a_constant(pool):
    function = pool.shared_constant(partial(add, 3, c=5))
    assert results(pool.work_stream([(function,), (function, (2,))])) == [9, 10]


@on(BACKENDS)
def test_a_constant_is_sent_to_each_worker_once(pool, tmp_path):
    log = Log(tmp_path / 'arrived')
    constant = pool.shared_constant(Traveller(log))
    for _ in range(3):
        assert {value for value, _ in results(pool.work_stream([(value_of, (constant, 0.003))] * 12))} == {7}
    arrivals = log.lines()
    assert len(arrivals) == len(set(arrivals))
    assert str(os.getpid()) not in arrivals


@on(IN_PROCESSES)
def test_a_constant_is_sent_to_the_workers_that_need_it(pool, tmp_path):
    log = Log(tmp_path / 'arrived')
    constant = pool.shared_constant(Traveller(log))
    users = {str(pid) for _, pid in results(pool.work_stream([(value_of, (constant, 0.003))] * 30))}
    assert set(log.lines()) == users


@on(IN_PROCESSES)
def test_many_constants_may_be_used_in_turns(pool):
    constants = [pool.shared_constant(np.full(1000, k)) for k in range(6)]
    tasks = ((np.sum, (constants[k % 6],)) for k in range(30))
    assert results(pool.work_stream(tasks)) == [1000 * (k % 6) for k in range(30)]


@on(PROCESS_POOLS)
def test_a_constant_that_does_not_pickle_is_named(pool):
    traveller = Traveller(Log('nowhere'))
    traveller.lock = threading.Lock()
    with pytest.raises(TypeError, match=r'Traveller\.lock cannot be sent'):
        pool.shared_constant(traveller)


@on(PROCESS_POOLS)
def test_a_constant_of_another_pool_is_a_type_error(pool):
    with BACKENDS['threads'](1) as other:
        constant = other.shared_constant(3)
    with pytest.raises(TypeError, match='another pool'):
        pool.work_stream([(add, (constant,))]).retrieve()
