"""Slots of worker processes: few are used, by those who have mapped them, and none that somebody still writes to."""

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from batchup._pools import rings
from batchup.data_source import ArrayDataSource
from batchup.work_pool import WorkerProcessPool

from ..cases import BATCH_SIZE, assert_same_batches
from ..harness.making import Keeps
from ..harness.pools import MAY_FORK, on, pids_of, started, wait_for_workers, whole_batches
from ..harness.waiting import until, wait_until, warned
from ..harness.work import Log, Logged

pytestmark = MAY_FORK


# Rings.


@pytest.fixture
def ring():
    return rings.Ring(6, 100, 6, lambda segment: None)


def starts(slots):
    return [slot.start // 4096 for slot in slots]


def test_a_worker_gets_the_slots_that_it_has_mapped(ring):
    first, second, third = (ring.take(writer) for writer in (1, 2, 1))
    assert starts([first, second, third]) == [0, 1, 2]
    del first, second, third
    again = [ring.take(writer) for writer in (2, 1, 1)]
    assert (starts(again)[0], sorted(starts(again)[1:])) == (1, [0, 2])


def test_the_slot_that_was_left_last_is_used_first(ring):
    slots = [ring.take(1) for _ in range(4)]
    for number in (2, 0, 3, 1):
        slots[number] = None
    again = [ring.take(1) for _ in range(4)]
    assert starts(again) == [1, 3, 0, 2]


def test_new_memory_comes_last(ring):
    slot = ring.take(1)
    del slot
    slots = [ring.take(2), ring.take(2)]
    assert starts(slots) == [0, 1]


def test_a_slot_that_was_mapped_beforehand_is_used_by_who_did_it(ring):
    ring.note_mapped(ring.segment.id, [1, 3], 2)
    slots = [ring.take(2), ring.take(2), ring.take(2)]
    assert sorted(starts(slots[:2])) == [1, 3]


def test_a_ring_has_no_more_slots_than_it_has(ring):
    slots = [ring.take(writer % 2) for writer in range(7)]
    assert sorted(starts(slots[:6])) == list(range(6))
    assert slots[6] is None


def test_a_lost_slot_is_never_used_again(ring):
    slot = ring.take(1)
    ring.lose(slot)
    del slot
    slots = [ring.take(1) for _ in range(6)]
    assert starts(slots[:5]) == [1, 2, 3, 4, 5]
    assert slots[5] is None


# How far ahead workers go.


def ring_of(stream):
    return stream.feed.mapper._channel._ring


def slowly(*batch):
    time.sleep(0.05)  # longer than the loop takes to go through what waits, and than jobs of several batches take
    return batch


def make_slots(parallel, log):
    """Have a first batch made, which tells how large slots must be."""
    stream = parallel.batch_iterator(BATCH_SIZE)
    next(stream)
    stream.close()
    wait_until_idle(log)
    Path(log.path).unlink()


def begun(log, count):
    """Wait until so many batches have been made; return how many there are a little later."""
    wait_until(lambda: len(log.lines()) >= count)
    return len(log.lines())


def test_workers_go_no_further_ahead_than_is_needed(forked, tmp_path):
    log = Log(tmp_path / 'log')
    parallel = forked.parallel_data_source(whole_batches(20).map(slowly).map(Logged(log)), 20)
    make_slots(parallel, log)
    stream = parallel.batch_iterator(BATCH_SIZE)
    next(stream)
    assert begun(log, 5) == 5
    assert len(ring_of(stream)._uses) <= 5
    assert_same_batches(stream, list(whole_batches(20).batch_iterator(BATCH_SIZE))[1:])


def wait_until_idle(log):
    """Wait until no more batches are made."""
    before = -1
    while before < len(log.lines()):
        before = len(log.lines())
        time.sleep(0.3)


@pytest.mark.slow
def test_workers_go_further_for_a_loop_that_has_to_wait(forked, tmp_path):
    log = Log(tmp_path / 'log')
    parallel = forked.parallel_data_source(whole_batches(60).map(slowly).map(Logged(log)), 8)
    make_slots(parallel, log)
    stream = parallel.batch_iterator(BATCH_SIZE)
    ahead = []
    taken = 1
    next(stream)
    for _ in range(6):
        # All that may be made ahead is there; the loop takes it, and waits for one more.
        wait_until_idle(log)
        n_ahead = len(log.lines()) - taken
        ahead.append(n_ahead)
        taken += len([next(stream) for _ in range(n_ahead + 1)])
    assert ahead[:2] == [4, 4]
    assert ahead[-1] == 8


def test_a_stream_that_nobody_reads_leaves_the_workers_to_others(forked):
    source = whole_batches(30)
    waiting, read = (forked.parallel_data_source(source).batch_iterator(BATCH_SIZE) for _ in range(2))
    next(waiting)
    assert_same_batches(read, source.batch_iterator(BATCH_SIZE))
    assert_same_batches(waiting, list(source.batch_iterator(BATCH_SIZE))[1:])


def test_a_result_that_nobody_takes_does_not_stop_the_others(forked):
    """As one that the traceback of an interrupt refers to."""
    source = whole_batches(12)
    stream = forked.parallel_data_source(source, 1).batch_iterator(BATCH_SIZE)
    next(stream)
    forgotten = stream.feed.mapper._under_way[0]
    wait_until(lambda: forgotten.done.up)
    stream.skip(1)
    assert_same_batches(stream, list(source.batch_iterator(BATCH_SIZE))[2:])


def test_epochs_and_other_streams_use_the_same_slots(forked):
    source = ArrayDataSource([np.arange(4 * 11 + 2)]).map(widened)
    parallel = forked.parallel_data_source(source)
    used = set()
    for epoch in range(4):
        stream = parallel.batch_iterator(4, shuffle=3, epoch=epoch)
        assert_same_batches(stream, source.batch_iterator(4, shuffle=3, epoch=epoch))
        used.add(ring_of(stream).segment.id)
    assert len(used) == 1


def widened(numbers):
    return (np.repeat(numbers[:, None] * 1.0, 70_000, axis=1),)


@on(['fork'])
def test_a_slot_that_a_function_goes_on_using_is_not_used_for_batches(pool):
    """The function sees whether what it keeps changes."""
    source = ArrayDataSource([np.arange(200_000).reshape(400, 500)])
    parallel = pool.parallel_data_source(source.map(Keeps()))
    kept = [batch for epoch in range(2) for batch in parallel.batch_iterator(10)]
    for (array,) in kept:
        array[:] = -1
    assert_same_batches(parallel.batch_iterator(10), source.map(Keeps()).batch_iterator(10))


# Slots that are mapped beforehand: those of large batches, which take workers long to use for the first time.


def large_source():
    """Make batches of 2.2 MB, with the process that made them."""
    return ArrayDataSource([np.arange(200)]).map(widened).map(with_process)


def with_process(wide):
    return wide, np.full(len(wide), os.getpid())


def makers(batches):
    return {int(pid) for _, pids in batches for pid in pids}


def test_workers_that_have_mapped_their_slots_make_the_batches(forked_as_for_users):
    parallel, expected = forked_as_for_users.parallel_data_source(large_source(), 6), large_source().batch_iterator(4)
    assert_same_batches([x for x, _ in parallel.batch_iterator(4)], [x for x, _ in expected])
    assert until(lambda: makers(parallel.batch_iterator(4, drop_last=True)) - {os.getpid()} != set())
    preparation = parallel._idle[4][0].preparation
    assert not preparation.is_awaited


def test_workers_that_die_before_they_have_mapped_their_slots_are_replaced(forked_as_for_users):
    pool = forked_as_for_users
    stream = pool.parallel_data_source(large_source(), 6).batch_iterator(4)
    next(stream)
    for pid in pids_of(pool):
        os.kill(pid, signal.SIGKILL)
    with warned('SIGKILL'):
        rest = [x for x, _ in stream]
        wait_for_workers(pool)
    assert_same_batches(rest, [x for x, _ in large_source().batch_iterator(4)][1:])


def test_larger_batches_have_larger_slots_mapped(forked_as_for_users):
    source = ArrayDataSource([np.arange(24)]).map(growing)
    parallel = forked_as_for_users.parallel_data_source(source)
    for _ in range(2):
        assert_same_batches(parallel.batch_iterator(4), source.batch_iterator(4))


def growing(numbers):
    return (np.repeat(numbers[:, None] * 1.0, 70_000 + 10_000 * numbers[0], axis=1),)


@pytest.mark.slow
def test_new_interpreters_start_one_after_the_other_where_there_are_few_cores(monkeypatch):
    """The caller has a core for its batches."""
    monkeypatch.setattr('batchup._pools.processes.supervisor.count_cores', lambda: 2)
    with WorkerProcessPool(3, start_method='spawn') as pool:
        supervisor = pool._supervisor
        most = 0
        while sum(worker.ready for worker in list(supervisor._workers)) < 3:
            most = max(most, sum(not worker.ready for worker in list(supervisor._workers)))
            time.sleep(1e-3)
    assert most == 1


def test_batches_of_many_indices_are_requested_through_slots():
    """More than a pipe takes at once."""
    source = ArrayDataSource([np.arange(200_000), np.arange(400_000).reshape(200_000, 2)])
    with started(2, 'fork') as pool:
        for epoch in range(3):
            batches = pool.parallel_data_source(source.map(same)).batch_iterator(20_000, shuffle=1, epoch=epoch)
            assert_same_batches(batches, source.batch_iterator(20_000, shuffle=1, epoch=epoch))


def same(*batch):
    return batch
