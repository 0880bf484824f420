"""Pools that try which workers are best for a loop."""

import itertools
import threading
import time

import numpy as np
import pytest

from batchup._pools import calibration
from batchup._pools.calibration import Meter, Timing, best_way, untried
from batchup.data_source import ArrayDataSource
from batchup.errors import WorkerPoolError
from batchup.work_pool import WorkerAutoPool

from ..cases import BATCH_SIZE, RANDOM_ACCESS, SHUFFLES, assert_same_batches, jitter, keep, numbers
from ..harness.leftovers import children, nothing_left
from ..harness.pools import MAY_FORK
from ..harness.scripts import run_script
from ..harness.work import nap

pytestmark = MAY_FORK

LOCK = threading.Lock()
WAYS = ['inline', 'threads', 'processes']


def locked_nap(*batch):
    """Take time in which no other thread of the process can do so, too."""
    with LOCK:
        time.sleep(0.015)
    return batch


def make_pool():
    # Of four: with sleeping workers, a loop is so much faster that a busy machine does not hide it.
    return WorkerAutoPool(4, start_method='fork')


@pytest.fixture
def auto(all_by_workers, monkeypatch):
    """A pool whose trials are short, so that they are over in a few batches."""
    monkeypatch.setattr(calibration, 'TRIAL_SECONDS', 0.1)
    with make_pool() as pool:
        yield pool


def calibrate(parallel, seconds=0.0, **kwargs):
    """Take batches until it is decided how they are made; return them."""
    received = []
    for batch in parallel.batch_iterator(BATCH_SIZE, **kwargs):
        received.append(batch)
        time.sleep(seconds)
        if parallel.decided:
            break
    return received


# What is decided.


@pytest.mark.slow
@pytest.mark.parametrize(('function', 'ways'), [(nap, {'threads', 'processes'}), (locked_nap, {'processes'})])
def test_workers_are_found_that_help_and_the_batches_are_those_of_the_source(auto, monkeypatch, function, ways):
    monkeypatch.setattr(calibration, 'TRIAL_SECONDS', 0.2)
    found = set()
    for _ in range(3):  # a very busy machine may hide it
        parallel = auto.parallel_data_source(numbers(4000).map(function).map(jitter, rng=True))
        received = calibrate(parallel, shuffle=3, epoch=1)
        found |= set(parallel.decided.values())
        expected = numbers(4000).map(jitter, rng=True).batch_iterator(BATCH_SIZE, shuffle=3, epoch=1)
        assert_same_batches(received, [next(expected) for _ in received])
        if found & ways:
            return
    raise AssertionError(f'{found} in place of {ways}')


def test_no_workers_are_used_by_a_loop_that_waits_for_nothing(auto):
    parallel = auto.parallel_data_source(numbers(4000).map(keep))
    calibrate(parallel, seconds=0.005)
    assert parallel.decided == {BATCH_SIZE: 'inline'}


def test_what_was_decided_holds_in_later_epochs_and_for_one_batch_size(auto):
    parallel = auto.parallel_data_source(numbers(4000).map(nap))
    calibrate(parallel)
    stream = parallel.batch_iterator(BATCH_SIZE, epoch=1)
    list(itertools.islice(stream, 40))
    makers = {worker.name.split()[0] for worker in stream.statistics().workers}
    assert makers - {'caller'} == {'threads': {'thread'}, 'processes': {'process'}}[parallel.decided[BATCH_SIZE]]
    next(parallel.batch_iterator(5))
    assert set(parallel.decided) == {BATCH_SIZE}


def test_a_calibration_goes_on_in_the_next_epoch(auto):
    parallel = auto.parallel_data_source(numbers(5 * BATCH_SIZE).map(nap))
    epochs = 0
    while not parallel.decided:
        assert len(list(parallel.batch_iterator(BATCH_SIZE, epoch=epochs))) == 5
        epochs += 1
    assert epochs > 1


@pytest.mark.slow
def test_a_source_that_cannot_be_sent_to_processes_does_without(auto):
    parallel = auto.parallel_data_source(numbers(4000).map(locked_nap).map(lambda *batch: batch))
    calibrate(parallel)
    assert parallel.decided[BATCH_SIZE] in {'inline', 'threads'}
    assert '(the function of map) cannot be sent to worker processes' in parallel.left_out


def test_no_process_is_started_for_copies_of_memory(auto):
    before = children()
    parallel = auto.parallel_data_source(ArrayDataSource([np.ones((4000, 100))]))
    while not parallel.decided:
        list(parallel.batch_iterator(50))
    assert children() == before


# What all pools promise; the slow run has all of it.


@pytest.mark.parametrize('name', ['array', 'subset', 'plain_sampler', 'composite_nested', 'choice'])
def test_batches_are_the_same_while_ways_change(auto, monkeypatch, name):
    monkeypatch.setattr(calibration, 'TRIAL_SECONDS', 0.0)
    for shuffle in ('seed', 'random_state'):
        source, parallel = RANDOM_ACCESS[name](), auto.parallel_data_source(RANDOM_ACCESS[name](), 3)
        for _ in range(3):
            expected = source.batch_iterator(1, **SHUFFLES[shuffle]())
            assert_same_batches(parallel.batch_iterator(1, **SHUFFLES[shuffle]()), expected)


def test_a_state_fits_with_a_pool_and_without(auto):
    source = numbers(400).map(nap)
    parallel, expected = auto.parallel_data_source(source), list(numbers(400).batch_iterator(BATCH_SIZE, shuffle=3))
    saved, resumed = (parallel.batch_iterator(BATCH_SIZE, shuffle=3) for _ in range(2))
    for position in (0, 7, 30, 80):
        saved.skip(position - 1 - saved.position) if position else None
        next(saved, None) if position else None
        resumed.load_state_dict(saved.state_dict())
        assert_same_batches(itertools.islice(resumed, 2), expected[position : position + 2])


def test_an_error_arrives_at_its_batch_in_every_way(auto):
    stream = auto.parallel_data_source(numbers(1000).map(nap).map(FailsAtTens())).batch_iterator(BATCH_SIZE)
    failed = []
    while True:
        try:
            if next(stream, None) is None:
                break
        except OSError:
            failed.append(stream.position)
            stream.skip(1)
    assert failed == list(range(0, 250, 10))


class FailsAtTens:
    """A function to map, which fails at every tenth batch."""

    def __call__(self, x):
        if x[0] % (10 * BATCH_SIZE) == 0:
            raise OSError('disk gone')
        return (x,)


@pytest.mark.slow
def test_a_pool_leaves_nothing_in_whatever_way_it_was_used(all_by_workers, monkeypatch):
    monkeypatch.setattr(calibration, 'TRIAL_SECONDS', 0.0)
    for count in (1, 6, 18, 60):
        with nothing_left():
            with make_pool() as pool:
                stream = pool.parallel_data_source(numbers(400).map(locked_nap)).batch_iterator(BATCH_SIZE)
                list(itertools.islice(stream, count))
            del stream, pool


@pytest.mark.slow
def test_a_forgotten_pool_leaves_nothing(auto):
    with nothing_left():
        pool = make_pool()
        calibrate(pool.parallel_data_source(numbers(4000).map(locked_nap)))
        del pool


def test_a_closed_pool_gives_no_streams(auto):
    parallel = auto.parallel_data_source(numbers(40))
    auto.close()
    with pytest.raises(WorkerPoolError, match='the pool is closed'):
        parallel.batch_iterator(BATCH_SIZE)


def test_arguments_are_checked_at_the_call():
    for kwargs in ({'processes': 0}, {'start_method': 'nonsense'}, {'timeout': -1}):
        with pytest.raises(ValueError, match=next(iter(kwargs))):
            WorkerAutoPool(**kwargs)


def test_work_streams_run_in_its_threads(auto):
    threads = set(auto.work_stream([(threading.get_ident,)] * 4).retrieve_iter())
    assert threading.get_ident() not in threads


SCRIPT = """
    import threading, time, numpy as np
    from batchup.data_source import ArrayDataSource
    from batchup.work_pool import WorkerAutoPool

    LOCK = threading.Lock()

    def slow(x):
        with LOCK:
            time.sleep(0.005)
        return (x,)

    print('begins')
    with WorkerAutoPool(2) as pool:
        parallel = pool.parallel_data_source(ArrayDataSource([np.arange(6000)]).map(slow))
        count = 0
        while not parallel.decided:
            count = sum(1 for _ in parallel.batch_iterator(10))
        print(count, parallel.decided)
"""


@pytest.mark.slow
def test_a_script_without_a_guard_goes_on_without_processes(tmp_path):
    code, out, err = run_script(tmp_path, SCRIPT)
    assert code == 0
    assert out.count('600 {10: ') == 1
    assert 'processes' not in out
    assert 'worker processes are not used: worker processes cannot start: the script starts a pool' in err


# How it is decided.


def test_what_is_measured_is_the_whole_loop():
    meter = Meter(seconds=0.02)
    for _batch in meter.measure(itertools.repeat(())):
        time.sleep(0.004)
        if meter.enough:
            break
    assert meter.timing.body >= 0.004
    assert meter.timing.waiting < 0.004
    assert meter.batches >= 2


@pytest.mark.parametrize(
    ('timings', 'found'),
    [
        ({}, 'inline'),
        ({'inline': Timing(0.0001, 0.01)}, None),  # bound by the loop
        ({'inline': Timing(0.01, 0.001)}, 'threads'),
        ({'inline': Timing(0.01, 0.001), 'threads': Timing(0.0042, 0.001)}, None),  # as fast as two workers can be
        ({'inline': Timing(0.01, 0.001), 'threads': Timing(0.01, 0.001)}, 'processes'),
        ({way: Timing(0.01, 0.001) for way in WAYS}, None),
    ],
)
def test_a_way_is_tried_only_if_it_can_be_much_faster(timings, found):
    assert untried(WAYS, timings, workers=2) == found


def test_the_cheapest_of_ways_that_are_about_as_fast_is_best():
    seconds = {'inline': 0.01, 'threads': 0.0052, 'processes': 0.005}
    assert best_way(WAYS, {way: Timing(value, 0.0) for way, value in seconds.items()}) == 'threads'
