"""What goes wrong in a worker arrives at its batch; what is wrong from the start, at the call."""

import pickle
import re
import traceback

import numpy as np
import pytest

from batchup.data_source import ArrayDataSource, CallableDataSource, CompositeDataSource
from batchup.errors import WorkerPoolError
from batchup.work_pool import WorkerProcessPool, WorkerThreadPool

from ..cases import (
    SHUFFLES,
    PlainSampler,
    PlainSource,
    assert_same_batch,
    assert_same_batches,
    call_batches,
    keep,
    numbers,
)
from ..harness.pools import (
    BACKENDS,
    CLUSTERS,
    IN_PROCESSES,
    PROCESS_POOLS,
    THREADS,
    local_kinds,
    on,
    open_pool,
    wait_for_workers,
)
from ..harness.waiting import take_until
from ..harness.work import (
    FailingSource,
    FailsUntilSeen,
    Log,
    Raises,
    TwoPartsError,
    error_with_a_lambda,
    interrupt,
    local_error,
    nap,
    stubborn_error,
    system_exit,
    two_parts_error,
    with_a_lambda,
)

# Batches of three: number 14 is in batch 4, which never is the caller's.
BAD = 14


def broken(make_error, number=BAD):
    return numbers(40).map(nap).map(Raises(number, make_error))


def disk_error():
    return OSError('disk gone')


def show_bad(x):
    if BAD in x:
        raise OSError('disk gone', (x,))
    return (x,)


# At its batch.


@on(BACKENDS)
def test_an_error_arrives_after_the_batches_before_it(pool):
    stream = pool.parallel_data_source(broken(disk_error)).batch_iterator(3)
    received, error = take_until(stream, OSError)
    assert_same_batches(received, list(numbers(12).batch_iterator(3)))
    assert str(error) == 'disk gone'
    assert stream.position == 4


@on(BACKENDS)
def test_an_error_arrives_at_its_batch_of_a_group(pool):
    source = numbers(400).map(Raises(333, disk_error))
    parallel = pool.parallel_data_source(source, batch_buffer_size=60)
    for _ in range(2):
        received, _ = take_until(parallel.batch_iterator(1), OSError)
        assert_same_batches(received, numbers(333).batch_iterator(1))


@on(BACKENDS)
def test_an_error_of_a_source_arrives_at_its_batch(pool):
    stream = pool.parallel_data_source(FailingSource(40, BAD)).batch_iterator(3)
    received, _ = take_until(stream, OSError)
    assert len(received) == stream.position == 4


WORKER_NAMES = (
    r'in (worker thread batchup-worker-\d|worker process \d+|process \d+ of \S+, thread [\w-]+, job \w+-\d+(, key .+)?)'
)


@on(BACKENDS)
def test_an_error_has_notes_with_worker_batch_and_indices(pool):
    stream = pool.parallel_data_source(broken(disk_error)).batch_iterator(3, epoch=2)
    _, error = take_until(stream, OSError)
    worker, note = error.__notes__
    assert re.fullmatch(WORKER_NAMES, worker)
    assert note.startswith('in batch 4 of epoch 2, with indices ')
    assert re.findall(r'\d+', note.partition('indices')[2]) in (['12', '13', '14'], ['12', '15'])


@on(BACKENDS)
def test_the_note_has_the_indices_of_a_shuffled_batch(pool):
    source = broken(disk_error)
    _, error = take_until(pool.parallel_data_source(source).batch_iterator(3, shuffle=5), OSError)
    _, expected = take_until(source.batch_iterator(3, shuffle=5), OSError)
    assert error.__notes__[-1:] == expected.__notes__


@on(BACKENDS)
def test_the_batch_of_an_error_is_made_again_by_the_caller(pool):
    source = numbers(40).map(nap).map(show_bad)
    parallel = pool.parallel_data_source(source)
    _, error = take_until(parallel.batch_iterator(3, shuffle=np.random.RandomState(5)), OSError)
    with pytest.raises(OSError, match='disk gone') as caught:
        parallel.replay(error)
    assert traceback.extract_tb(caught.value.__traceback__)[-1].name == 'show_bad'
    assert caught.value.__notes__ == error.__notes__[-1:]
    assert_same_batch(numbers(40).replay(error), caught.value.args[1])


@on(IN_PROCESSES)
def test_the_cause_is_the_traceback_of_the_worker(pool):
    stream = pool.parallel_data_source(broken(disk_error)).batch_iterator(3)
    _, error = take_until(stream, OSError)
    assert 'raise self.make_error()' in str(error.__cause__)
    assert 'in __call__' in ''.join(traceback.format_exception(error))


@on(THREADS)
def test_the_traceback_of_a_thread_leads_to_the_function(pool):
    stream = pool.parallel_data_source(broken(disk_error)).batch_iterator(3)
    _, error = take_until(stream, OSError)
    assert traceback.extract_tb(error.__traceback__)[-1].name == '__call__'


@on(BACKENDS)
def test_an_error_that_stays_arrives_again(pool):
    stream = pool.parallel_data_source(broken(disk_error)).batch_iterator(3)
    take_until(stream, OSError)
    for _ in range(3):  # the batch is made again, in vain
        received, _ = take_until(stream, OSError)
        assert received == []
        assert stream.position == 4


@on(BACKENDS)
def test_next_makes_the_batch_again(pool, tmp_path):
    for name, make in SHUFFLES.items():
        source = numbers(40).map(nap).map(FailsUntilSeen(BAD, Log(tmp_path / name)))
        stream = pool.parallel_data_source(source).batch_iterator(3, **make())
        received, _ = take_until(stream, OSError)
        received += stream
        assert_same_batches(received, numbers(40).batch_iterator(3, **make()))


@on(BACKENDS)
def test_a_tiny_batch_is_made_again(pool, tmp_path):
    for name, make in SHUFFLES.items():
        source = numbers(400).map(FailsUntilSeen(333, Log(tmp_path / name)))
        stream = pool.parallel_data_source(source, batch_buffer_size=60).batch_iterator(1, **make())
        received, _ = take_until(stream, OSError)
        received += stream
        assert_same_batches(received, numbers(400).batch_iterator(1, **make()))


@on(BACKENDS)
def test_a_state_of_a_stream_that_failed_is_that_of_the_batch(pool):
    stream = pool.parallel_data_source(broken(disk_error)).batch_iterator(3, shuffle=5)
    take_until(stream, OSError)
    serial = broken(disk_error).batch_iterator(3, shuffle=5)
    take_until(serial, OSError)
    assert stream.state_dict() == serial.state_dict()


class FailingSampler(PlainSampler):
    """A sampler whose fourth batch cannot be drawn."""

    def in_order_indices_batch_iterator(self, batch_size):
        for number, indices in enumerate(super().in_order_indices_batch_iterator(batch_size)):
            if number == 3:
                raise OSError('disk gone')
            yield indices


@on(BACKENDS)
def test_an_error_of_a_sampler_arrives_at_its_batch(pool):
    source = ArrayDataSource([np.arange(30)], sampler=FailingSampler(30))
    received, error = take_until(pool.parallel_data_source(source).batch_iterator(3), OSError)
    expected, serial_error = take_until(source.batch_iterator(3), OSError)
    assert_same_batches(received, expected)
    assert error.__notes__ == serial_error.__notes__


ERRORS = [
    (two_parts_error, TwoPartsError, 'TwoPartsError'),
    (stubborn_error, Exception, 'StubbornError'),
    (error_with_a_lambda, ValueError, 'ValueError'),
    (local_error, KeyError, 'LocalError'),
    (interrupt, KeyboardInterrupt, 'KeyboardInterrupt'),
    (system_exit, SystemExit, 'SystemExit'),
]


@on(BACKENDS)
def test_any_error_keeps_its_type_and_message(pool):
    for make_error, kind, name in ERRORS:
        stream = pool.parallel_data_source(broken(make_error)).batch_iterator(3)
        received, error = take_until(stream, kind)
        assert type(error).__name__ == name
        assert 'part 5' in str(error)
        assert_same_batches(received, list(numbers(12).batch_iterator(3)))


@on(BACKENDS)
def test_attributes_of_an_error_arrive(pool):
    stream = pool.parallel_data_source(broken(two_parts_error)).batch_iterator(3)
    assert take_until(stream, TwoPartsError)[1].number == 5


@on(BACKENDS)
def test_the_workers_live_on_after_an_error(pool):
    before = wait_for_workers(pool)
    for make_error in (interrupt, system_exit, stubborn_error):
        take_until(pool.parallel_data_source(broken(make_error)).batch_iterator(3), BaseException)
        assert_same_batches(pool.parallel_data_source(numbers(40)).batch_iterator(3), numbers(40).batch_iterator(3))
        assert wait_for_workers(pool) & before


# Which error it is depends on the version of Python, unless a pool of our own says it.
UNPICKLED = {'process_executor': (TypeError, AttributeError, pickle.PicklingError)}


@on([*PROCESS_POOLS, 'process_executor'])
def test_a_batch_that_does_not_pickle_is_an_error_at_its_place(pool, request):
    kind = UNPICKLED.get(request.node.callspec.params['pool'], TypeError)
    parallel = pool.parallel_data_source(numbers(40).map(with_a_lambda), batch_buffer_size=40)
    for batch_size in (1, 1, 3, 3):
        received, error = take_until(parallel.batch_iterator(batch_size), kind)
        assert_same_batches(received, list(numbers(40).batch_iterator(batch_size))[: BAD // batch_size])
        assert 'lambda' in str(error)


@on([*THREADS, *CLUSTERS])
def test_a_batch_that_need_not_pickle_arrives(pool):
    batches = list(pool.parallel_data_source(numbers(40).map(with_a_lambda)).batch_iterator(3))
    assert callable(batches[4][1])


# At the call.


@on(BACKENDS)
def test_what_is_no_source_is_a_type_error(pool):
    for thing in ([np.arange(5)], np.arange(5), None, ArrayDataSource):
        with pytest.raises(TypeError, match='ds must be a data source'):
            pool.parallel_data_source(thing)


@on(BACKENDS)
def test_a_source_without_random_access_is_a_type_error(pool):
    for source in (
        PlainSource(10),
        PlainSource(10).map(keep),
        CallableDataSource(call_batches, 11),
        CompositeDataSource([numbers(10), PlainSource(10)]),
        WorkerThreadPool(1).parallel_data_source(numbers(10)),
    ):
        with pytest.raises(TypeError, match='random access'):
            pool.parallel_data_source(source)


@on(BACKENDS)
def test_a_wrong_buffer_size_is_named(pool):
    for size, error in ((0, ValueError), (-1, ValueError), (2.5, TypeError), (None, TypeError)):
        with pytest.raises(error, match='batch_buffer_size'):
            pool.parallel_data_source(numbers(10), batch_buffer_size=size)
        with pytest.raises(error, match='task_buffer_size'):
            pool.work_stream([], task_buffer_size=size)


@on(BACKENDS)
def test_wrong_arguments_of_a_stream_are_named(pool):
    for kwargs, error in (
        ({'batch_size': 0}, ValueError),
        ({'batch_size': True}, TypeError),
        ({'shuffle': 'yes'}, TypeError),
        ({'shard': (3, 3)}, ValueError),
        ({'epoch': -1}, ValueError),
        ({'shufle': True}, TypeError),
    ):
        with pytest.raises(error, match=next(iter(kwargs))):
            pool.parallel_data_source(numbers(10)).batch_iterator(**{'batch_size': 3, **kwargs})


@pytest.mark.parametrize('kind', [WorkerThreadPool, WorkerProcessPool])
@pytest.mark.parametrize(
    ('kwargs', 'error', 'named'),
    [
        ({'processes': 0}, ValueError, 'processes'),
        ({'processes': -1}, ValueError, 'processes'),
        ({'processes': 2.5}, TypeError, 'processes'),
        ({'processes': True}, TypeError, 'processes'),
        ({'timeout': 0}, ValueError, 'timeout'),
        ({'timeout': float('nan')}, ValueError, 'timeout'),
        ({'timeout': 'a'}, TypeError, 'timeout'),
        ({'timeout': True}, TypeError, 'timeout'),
        ({'timeout': np.True_}, TypeError, 'timeout'),
        ({'prosesses': 2}, TypeError, 'prosesses'),
    ],
)
def test_wrong_arguments_of_a_pool_are_named(kind, kwargs, error, named):
    with pytest.raises(error, match=named):
        kind(**kwargs)


@pytest.mark.parametrize(
    ('kwargs', 'error'),
    [
        ({'start_method': 'clone'}, ValueError),
        ({'max_restarts': -1}, ValueError),
        ({'threads_per_worker': 0}, ValueError),
    ],
)
def test_wrong_arguments_of_a_process_pool_are_named(kwargs, error):
    with pytest.raises(error, match=next(iter(kwargs))):
        WorkerProcessPool(1, **kwargs)


@on(PROCESS_POOLS)
def test_a_function_that_does_not_pickle_is_named_at_the_call(pool):
    with pytest.raises(
        TypeError, match=r'MapDataSource\.fn \(the function of map\) cannot be sent .*lambda.*WorkerThreadPool'
    ):
        pool.parallel_data_source(numbers(10).map(lambda x: (x,)))


@on(PROCESS_POOLS)
def test_an_attribute_that_does_not_pickle_is_named_at_the_call(pool, tmp_path):
    with open(tmp_path / 'file', 'w') as file:
        source = FailingSource(10, 3)
        source.tables = {'left': [1, file]}
        with pytest.raises(TypeError, match=r"FailingSource\.tables\['left'\]\[1\] cannot be sent"):
            pool.parallel_data_source(source)


@on(['process_executor', *CLUSTERS])
def test_an_attribute_that_does_not_pickle_is_named_by_executors(pool, tmp_path):
    with open(tmp_path / 'file', 'w') as file:
        source = FailingSource(10, 3)
        source.file = file
        with pytest.raises(TypeError, match=r'FailingSource\.file cannot be sent'):
            pool.parallel_data_source(source)


@on(THREADS)
def test_threads_take_sources_that_do_not_pickle(pool):
    (result,) = pool.parallel_data_source(numbers(10).map(lambda x: (x + 1,))).batch_map_concat(keep_array, 3)
    np.testing.assert_array_equal(result, np.arange(10) + 1)


def keep_array(x):
    return x


# After the end.


@local_kinds
def test_a_closed_pool_gives_no_more_batches(kind):
    with open_pool(kind) as pool:
        stream = pool.parallel_data_source(numbers(400).map(nap), batch_buffer_size=3).batch_iterator(3)
        next(stream)
        pool.close()
        with pytest.raises(WorkerPoolError, match='closed'):
            list(stream)


@local_kinds
def test_a_closed_pool_takes_nothing_new(kind):
    with open_pool(kind) as pool:
        parallel = pool.parallel_data_source(numbers(40))
    for start in (
        lambda: parallel.batch_iterator(3),
        lambda: pool.parallel_data_source(numbers(40)),
        lambda: pool.work_stream([(pow, (2, 3))]),
    ):
        with pytest.raises(WorkerPoolError, match='closed'):
            start()


@local_kinds
def test_a_closed_pool_gives_no_more_results(kind):
    with open_pool(kind) as pool:
        stream = pool.work_stream(((pow, (2, k)) for k in range(100)), task_buffer_size=2)
        assert stream.retrieve() == 1
        pool.close()
        with pytest.raises(WorkerPoolError, match='closed'):
            list(stream.retrieve_iter())


@local_kinds
def test_close_may_be_called_again(kind):
    with open_pool(kind) as pool:
        pool.close()
        pool.close()
    pool.close()


@local_kinds
def test_streams_of_a_closed_pool_may_be_closed_and_dropped(kind):
    with open_pool(kind) as pool:
        stream = pool.parallel_data_source(numbers(40).map(nap)).batch_iterator(3)
        other = pool.parallel_data_source(numbers(40).map(nap)).batch_iterator(3)
    stream.close()
    del other
    assert next(stream, None) is None


@local_kinds
def test_a_pool_that_was_never_used_is_closed(kind):
    with BACKENDS[kind](2) as pool:
        pass
    with pytest.raises(WorkerPoolError):
        pool.work_stream([])
