"""Statistics of streams: what they count, and how long things took, as far as sleeping is sure to take time."""

import dataclasses
import pickle
import time

import numpy as np
import pytest

from batchup._ground.stages import Stages
from batchup._streams.clock import PAUSE, STRETCH
from batchup._streams.stream import Phase
from batchup.data_source import ArrayDataSource, CallableDataSource, CompositeDataSource

from ..harness.pools import BACKENDS, SLOW, on
from ..harness.work import nap

DATA = np.arange(20)
NAP_SECONDS = 0.01


def short_nap(*batch):
    time.sleep(NAP_SECONDS)
    return batch


def after(stream):
    """Go through a stream, and return its statistics."""
    for _ in stream:
        pass
    return stream.statistics()


def test_statistics_are_a_frozen_object():
    stream = ArrayDataSource([DATA]).batch_iterator(3)
    assert stream.statistics().phase is Phase.FRESH
    stream.skip(2)
    next(stream)
    statistics = stream.statistics()
    assert (statistics.position, statistics.length, statistics.batches) == (3, 7, 1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        statistics.position = 3
    stream.close()
    assert stream.statistics().phase is Phase.CLOSED


def test_statistics_are_equal_that_count_the_same():
    streams = [ArrayDataSource([DATA]).batch_iterator(3) for _ in range(2)]
    for stream in streams:
        next(stream)
    first, second = [stream.statistics() for stream in streams]
    assert first == second == pickle.loads(pickle.dumps(first))
    next(streams[1])
    assert first != streams[1].statistics()


def test_there_is_nothing_before_the_first_batch():
    statistics = ArrayDataSource([DATA]).batch_iterator(3).statistics()
    counts = (statistics.batches, statistics.samples, statistics.nbytes, statistics.seconds, statistics.making_seconds)
    assert counts == (0, 0, 0, 0, 0)
    assert (statistics.stages, statistics.workers, statistics.buffer_fill) == ({}, (), None)


SOURCES = {
    'arrays': (ArrayDataSource([DATA, np.zeros((20, 3), np.float32)]), 20, 20 * (8 + 12)),
    'indices': (ArrayDataSource([DATA], include_indices=True), 20, 20 * 16),
    'mapped': (ArrayDataSource([DATA]).map(lambda x: (x.astype(np.int8), x)), 20, 20 * 9),
    'nested': (CompositeDataSource([ArrayDataSource([DATA]), ArrayDataSource([DATA])], flatten=False), 20, 20 * 16),
    'function': (CallableDataSource(lambda batch_size: iter([(DATA[:5],), (DATA[:2],)])), 7, 7 * 8),
    'no arrays': (CallableDataSource(lambda batch_size: iter([('a', None)])), 0, 0),
    'repeated': (ArrayDataSource([DATA], repeats=3), 60, 60 * 8),
}


@pytest.mark.parametrize('name', SOURCES)
def test_samples_and_bytes_are_counted(name):
    source, samples, nbytes = SOURCES[name]
    statistics = after(source.batch_iterator(3))
    assert (statistics.samples, statistics.nbytes) == (samples, nbytes)


@pytest.mark.parametrize('map_too', [False, True], ids=['plain', 'mapped'])
def test_samples_are_counted_where_not_every_batch_is_timed(map_too, monkeypatch):
    monkeypatch.setattr('batchup._streams.clock.FAST_SECONDS', 1.0)
    count = STRETCH + PAUSE // 2
    source = ArrayDataSource([np.zeros((2 * count + 1, 4), np.uint8)])
    stream = (source.map(lambda x: (x,)) if map_too else source).batch_iterator(2)
    for _ in range(count):
        next(stream)
        statistics = stream.statistics() if stream.position % 100 == 0 else None
        assert statistics is None or statistics.samples == 2 * stream.position
    assert after(stream).samples == 2 * count + 1
    assert stream.statistics().nbytes == 4 * (2 * count + 1)


def test_waiting_and_the_body_of_the_loop_are_told_apart():
    stream = ArrayDataSource([DATA]).map(short_nap).batch_iterator(4)
    for _ in stream:
        time.sleep(2 * NAP_SECONDS)
    statistics = stream.statistics()
    assert statistics.waiting_seconds >= 5 * NAP_SECONDS
    assert statistics.body_seconds >= 4 * 2 * NAP_SECONDS
    assert statistics.waiting_seconds + statistics.body_seconds == pytest.approx(statistics.seconds)
    assert statistics.first_seconds >= NAP_SECONDS <= statistics.making_median <= statistics.making_95
    (worker,) = statistics.workers
    assert (worker.name, worker.batches, worker.seconds) == ('caller', 5, statistics.making_seconds)


def test_what_comes_after_an_error_and_a_skip_counts_once():
    stream = ArrayDataSource([DATA]).map(lambda x: (1 / 0,) if x[0] == 4 else (x,)).batch_iterator(4)
    next(stream)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            next(stream)
    stream.skip(2)
    assert (after(stream).batches, stream.statistics().samples) == (3, 12)


def doubled(x):
    return (2 * x,)


def doubled_first(x, y):
    return 2 * x, y


def test_each_function_and_each_member_is_timed():
    part = ArrayDataSource([DATA]).map(short_nap).map(doubled)
    whole = CompositeDataSource([ArrayDataSource([DATA]), part]).map(short_nap)
    statistics = after(whole.batch_iterator(4))
    stages = statistics.stages
    assert sorted(stages) == [
        'map(short_nap)', 'member 0', 'member 1', 'member 1: map(doubled)', 'member 1: map(short_nap)', 'read'
    ]  # fmt: skip
    assert stages['map(short_nap)'] >= 5 * NAP_SECONDS <= stages['member 1: map(short_nap)'] <= stages['member 1']
    own = sum(seconds for name, seconds in stages.items() if name.endswith(')'))
    assert own + stages['read'] == pytest.approx(statistics.making_seconds)


def test_functions_over_iterators_are_timed():
    part = CallableDataSource(lambda batch_size: iter([(DATA,)] * 5)).map(short_nap)
    whole = CompositeDataSource([part, ArrayDataSource([DATA], repeats=-1)]).map(doubled_first)
    stages = after(whole.batch_iterator(4)).stages
    assert sorted(stages) == ['map(doubled_first)', 'member 0', 'member 0: map(short_nap)', 'member 1', 'read']
    assert 5 * NAP_SECONDS <= stages['member 0: map(short_nap)'] <= stages['member 0']


def test_short_functions_are_timed_in_some_windows_only():
    stages = Stages()
    for _ in range(32):
        stage = stages.function((), 'short', 256)
        if stage is not None:
            stage.timed += 256
            stage.seconds += 256 * 1e-6
    assert (stages['map(short)'].timed, stages['map(short)'].others) == (3 * 256, 29 * 256)
    assert stages.totals() == {'map(short)': pytest.approx(32 * 256 * 1e-6)}


@on(BACKENDS, slow=SLOW)
def test_workers_tell_what_they_have_made(pool):
    stream = pool.parallel_data_source(ArrayDataSource([DATA]).map(nap)).batch_iterator(2)
    statistics = after(stream)
    assert sum(worker.batches for worker in statistics.workers) == statistics.batches == 10
    assert sum(worker.seconds for worker in statistics.workers) == pytest.approx(statistics.making_seconds)
    assert all(worker.cpu_seconds >= 0 for worker in statistics.workers)
    assert all(worker.median <= worker.percentile_95 for worker in statistics.workers)
    assert statistics.stages['map(nap)'] <= statistics.making_seconds
    assert statistics.transport_seconds <= statistics.waiting_seconds
    assert statistics.buffer_fill is None or 0 <= statistics.buffer_fill <= 1


def test_the_buffer_is_full_when_workers_are_ahead(threads):
    stream = threads.parallel_data_source(ArrayDataSource([DATA]).map(short_nap), 3).batch_iterator(2)
    for _ in stream:
        time.sleep(5 * NAP_SECONDS)
    assert stream.statistics().buffer_fill > 0.3
    assert {worker.name for worker in stream.statistics().workers} <= {'thread 0', 'thread 1'}
