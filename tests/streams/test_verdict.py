"""The verdict on a loop: by facts that are given, and by loops whose bottleneck is known."""

import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from batchup._streams.verdict import Facts, judge
from batchup.data_source import ArrayDataSource, CallableDataSource
from batchup.work_pool import WorkerThreadPool

from ..cases import assert_same_batches

# Half of the time, the loop waits for a batch to be computed, without Python's lock.
FACTS = Facts(
    batches=100,
    period=0.02,
    waiting=0.01,
    making=0.01,
    computing=1.0,
    speedup=2.0,
    body_computing=0.0,
    stages={'read': 0.1, 'map(f)': 0.9},
    nbytes=10_000,
    copied=False,
    stored=False,
    planned=True,
    kind=None,
    count=0,
    in_transport=0.0,
    at_work=0.0,
    cores=4,
)
LOCKED = replace(FACTS, speedup=1.0)
READ = {'read': 1.0}
# Two threads that have all to do.
THREADS = replace(FACTS, kind='threads', count=2, at_work=0.9, period=0.01, waiting=0.009, making=0.02)
PROCESSES = replace(THREADS, kind='processes')

# What is known, and the verdict on it: the bound, the workers, their kind, and the gain.
VERDICTS = {
    'too early': (replace(FACTS, batches=2), ('unknown', 0, None, 1)),
    'loop': (replace(FACTS, waiting=0.001), ('loop', 0, None, 1)),
    'hidden by threads': (replace(THREADS, waiting=0.0, making=0.008), ('loop', 1, 'threads', 1)),
    'nothing to hide': (replace(THREADS, waiting=0.0, making=0.0005), ('loop', 0, None, 1)),
    'without the lock': (FACTS, ('making', 1, 'threads', 2)),
    'no body': (replace(FACTS, period=0.01), ('making', 4, 'threads', 4)),
    'with the lock': (LOCKED, ('making', 1, 'processes', 2)),
    'waits': (replace(FACTS, period=0.01, computing=0.0), ('making', 8, 'threads', 8)),
    'one processor': (replace(FACTS, period=0.01, cores=1), ('making', 0, None, 1)),
    'not measured': (replace(FACTS, speedup=None), ('making', 1, 'processes', 2)),
    'not measured, waits': (replace(FACTS, speedup=None, computing=0.1), ('making', 1, 'threads', 2)),
    'iterator': (replace(FACTS, planned=False), ('making', 0, None, 1)),
    'small copies': (replace(FACTS, copied=True), ('making', 0, None, 1)),
    'large copies': (replace(FACTS, copied=True, nbytes=10**6), ('making', 1, 'threads', 2)),
    'body computes': (replace(FACTS, body_computing=0.01, cores=1), ('making', 0, None, 1)),
    'waits for storage': (replace(FACTS, stages=READ, computing=0.1), ('storage', 1, 'threads', 2)),
    'decodes storage': (replace(FACTS, stages=READ, stored=True), ('storage', 1, 'threads', 2)),
    'decodes with a lock': (replace(FACTS, stages=READ, stored=True, speedup=1.0), ('storage', 1, 'threads', 1.6)),
    'reads memory': (replace(FACTS, stages=READ), ('making', 1, 'threads', 2)),
    'too few threads': (THREADS, ('making', 4, 'threads', 2)),
    'threads keep the lock': (
        replace(THREADS, speedup=1.0, period=0.02, waiting=0.0, body_computing=0.001),
        ('making', 4, 'processes', 4),
    ),
    'processors are all busy': (replace(PROCESSES, cores=2, speedup=1.0), ('making', 2, 'processes', 1)),
    'pipes are busy': (
        replace(PROCESSES, in_transport=0.9, at_work=0.1, period=0.1, waiting=0.1, making=0.01),
        ('transport', 4, 'threads', 40),
    ),
    'workers are busy with pipes': (
        replace(PROCESSES, in_transport=0.1, at_work=0.1, period=0.1, waiting=0.1, making=0.01),
        ('transport', 4, 'threads', 40),
    ),
}


@pytest.mark.parametrize('name', VERDICTS)
def test_facts_lead_to_a_verdict(name):
    facts, (bound, workers, kind, gain) = VERDICTS[name]
    verdict = judge(facts)
    assert (verdict.bound, verdict.workers, verdict.kind) == (bound, workers, kind)
    assert verdict.gain == pytest.approx(gain, rel=0.05)


def test_a_verdict_is_a_paragraph_with_its_figures():
    verdict = judge(FACTS)
    assert str(verdict) == repr(verdict) == verdict.reason == (
        "Of each batch's 20 ms, your loop works for 10 ms and waits for 10 ms: it is bound by the making of batches. "
        'To make one takes 10 ms (90% in map(f)), of which the processor is needed for 100%; two threads make 2.0 '
        'times as many as one. Use a WorkerThreadPool(1): a batch is expected to take 10 ms, so the loop is 2.0 times '
        'as fast.'
    )  # fmt: skip


def test_less_is_promised_while_other_programs_keep_the_processors_busy():
    assert 'as long as other programs' in judge(replace(FACTS, busy=0.5)).reason
    assert 'as long as other programs' not in judge(FACTS).reason


def add_noise(x, rng):
    return (x + rng.random(len(x)),)


@pytest.mark.parametrize('seed', [42, None], ids=['seed', 'RandomState'])
def test_a_verdict_changes_no_batch(seed):
    streams = []
    for _ in range(2):
        shuffle = np.random.RandomState(3) if seed is None else seed
        streams.append(ArrayDataSource([np.arange(50)]).map(add_noise, rng=True).batch_iterator(4, shuffle=shuffle))
    asked, other = streams
    for _ in range(6):
        assert_same_batches([next(asked)], [next(other)])
        asked.verdict()
        assert asked.statistics() == other.statistics()
    assert_same_batches(asked, other)


def test_a_batch_is_made_again_by_two_threads_at_a_time():
    makers = []

    def note(x):
        makers.append(threading.get_ident())
        time.sleep(0.01)
        return (x,)

    stream = ArrayDataSource([np.arange(50)]).map(note).batch_iterator(10)
    list(stream)
    del makers[:]
    verdict = stream.verdict()
    assert len(set(makers)) >= 3
    assert verdict.kind == 'threads'


def test_an_error_of_a_batch_that_is_made_again_is_no_error_of_the_verdict():
    calls = []

    def fail_later(x):
        calls.append(x)
        time.sleep(0.002)
        assert len(calls) <= 5
        return (x,)

    stream = ArrayDataSource([np.arange(50)]).map(fail_later).batch_iterator(10)
    list(stream)
    assert 'was not measured' in stream.verdict().reason


def test_batches_of_an_iterator_are_not_made_again():
    def slowly(batch_size):
        for k in range(5):
            time.sleep(0.005)
            yield (np.full(batch_size, k),)

    stream = CallableDataSource(slowly).batch_iterator(4)
    assert len(list(stream)) == 5
    assert 'the batches come from an iterator' in stream.verdict().reason


def wait(x):
    time.sleep(0.02)
    return (x,)


def count_up(x):
    sum(k * k for k in range(300_000))
    return (x,)


class SlowReads:
    def __len__(self):
        return 120

    def __getitem__(self, indices):
        time.sleep(0.02)
        return np.zeros(len(indices))


# Sources, what the loop sleeps for, the number of threads, and the verdict.
LOOPS = {
    'memory': (ArrayDataSource([np.zeros(120)]), 0.02, 0, ('loop', None)),
    'waits': (ArrayDataSource([np.zeros(120)]).map(wait), 0, 0, ('making', 'threads')),
    'computes': (ArrayDataSource([np.zeros(120)]).map(count_up), 0, 0, ('making', 'processes')),
    'reads': (ArrayDataSource([SlowReads()]), 0.001, 0, ('storage', 'threads')),
    'threads are enough': (ArrayDataSource([np.zeros(120)]).map(wait), 0.05, 2, ('loop', 'threads')),
    'threads read': (ArrayDataSource([SlowReads()]), 0.001, 2, ('storage', 'threads')),
}


@pytest.mark.slow
@pytest.mark.parametrize('name', LOOPS)
def test_loops_are_judged_rightly(name):
    source, seconds, workers, expected = LOOPS[name]
    with WorkerThreadPool(workers or 1) as pool:
        stream = (pool.parallel_data_source(source) if workers else source).batch_iterator(4)
        for _ in stream:
            time.sleep(seconds)
        verdict = stream.verdict()
    assert (verdict.bound, verdict.kind) == expected
