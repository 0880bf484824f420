"""The verdict on a loop: what it waits for, which workers are best for it, and what is gained by them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

# What takes less than this share of the time of a batch is not worth workers.
LITTLE = 0.1

# With so many batches or more, there is a verdict.
LEAST_BATCHES = 3

# At most so many workers are proposed where they mostly wait, for disks or networks. Larger: more is promised than
# storage may hold. Smaller: storage that serves many at a time is not used.
MOST_WAITING = 8

# Smaller batches that are plain copies of memory are made by the user's own thread, whatever the pool: in bytes,
# those of threads and of processes.
COPIED_BYTES = {'threads': 2**16, 'processes': 2**20}

# What it takes the user's thread to receive a batch, in seconds.
RECEIVED_SECONDS = {'threads': 1e-5, 'processes': 1e-4}

# How many bytes a second a worker process copies into shared memory.
COPIED_PER_SECOND = 4e9


@dataclass(frozen=True, repr=False)
class Verdict:
    """What bounds the speed of a loop, and which workers are best for it; printed, it is a paragraph.

    Attributes
    ----------
    bound : str
        What the loop waits for: `'loop'`, its own body; `'making'`, the making of batches; `'storage'`, files or
        other storage that batches are read from; `'transport'`, the way of finished batches from workers to the user.
        `'unknown'` as long as there were too few batches.
    workers : int
        The number of workers that are best: 0 for no pool.
    kind : str or None
        `'threads'` or `'processes'`, or `'executor'` for the executor that is used already; `None` for no pool.
    gain : float
        How many times as fast the loop is expected to be with these workers.
    reason : str
        The paragraph.
    """

    bound: str
    workers: int
    kind: str | None
    gain: float
    reason: str

    def __str__(self) -> str:
        return self.reason

    __repr__ = __str__


@dataclass(frozen=True)
class Facts:
    """What is known of a loop. Times are seconds for a batch, the first one left out.

    Attributes
    ----------
    batches : int
        The number of batches it has received.
    period : float
        From one batch to the next.
    waiting : float
        For how much of that the user waits.
    making : float
        How long it takes to make a batch, if nothing else is done.
    computing : float or None
        For what share of that the processor is needed; `None` if it is not known.
    speedup : float or None
        How many times as many batches two threads make as one; `None` if it is not known.
    body_computing : float
        How long the body of the loop needs the processor.
    stages : mapping
        The share of making that each stage takes.
    nbytes : float
        The bytes of a batch.
    copied : bool
        Whether batches are plain copies of memory.
    stored : bool
        Whether they are read from chunks that are decoded.
    planned : bool
        Whether workers can make them.
    kind : str or None
        The workers that there are: 'threads', 'processes' or 'executor'; `None` if the user's thread makes batches.
    count : int
        How many.
    in_transport : float
        The share of waiting in which the batch was already made.
    cores : int
        The number of processors.
    """

    batches: int
    period: float
    waiting: float
    making: float
    computing: float | None
    speedup: float | None
    body_computing: float
    stages: Mapping[str, float]
    nbytes: float
    copied: bool
    stored: bool
    planned: bool
    kind: str | None
    count: int
    in_transport: float
    cores: int

    @property
    def body(self) -> float:
        """How long the body of the loop takes."""
        return self.period - self.waiting


class Choice(NamedTuple):
    """Workers, and how long a batch is expected to take with them, in seconds."""

    period: float
    kind: str | None
    workers: int


def judge(facts: Facts) -> Verdict:
    """Say what a loop waits for, and what to do about it."""
    if facts.batches < LEAST_BATCHES:
        return Verdict('unknown', 0, None, 1.0, f'There is no verdict before {LEAST_BATCHES} batches: go on.')
    if facts.waiting < LITTLE * facts.period:
        return _of_loop(facts)
    if facts.kind is not None and facts.in_transport > 0.5:
        return _of_transport(facts)
    return _of_making(facts)


def _of_loop(facts: Facts) -> Verdict:
    """Judge a loop that waits for nothing but itself."""
    begin = f'{_times(facts)}: it is bound by its own body. '
    if facts.kind is None:
        end = 'Workers would only cost memory: use none.'
        return Verdict('loop', 0, None, 1.0, begin + end)
    if facts.making < LITTLE * facts.body:
        end = f'A batch is made in {_in_words(facts.making)}, so workers only cost memory: use none.'
        return Verdict('loop', 0, None, 1.0, begin + end)
    needed = min(facts.count, math.ceil(1.1 * facts.making / facts.body))
    enough = f'{_name(needed, facts.kind)} would be enough' if needed < facts.count else 'more workers would not help'
    end = f'A batch is made in {_in_words(facts.making)}, which the workers hide; {enough}.'
    return Verdict('loop', needed, facts.kind, 1.0, begin + end)


def _of_transport(facts: Facts) -> Verdict:
    """Judge a loop that waits for batches which workers have made."""
    advice = (
        'Send less: a smaller dtype, converted in the loop, or fewer arrays; functions that make their result in '
        'batchup.empty(shape, dtype) save a copy. '
    )
    begin = (
        f'{_times(facts)}, most of it for {_in_bytes(facts.nbytes)} that are already made to come from a worker: it is '
        f'bound by transport. {advice}'
    )
    choice = _best([each for each in choices(facts) if each.kind != facts.kind])
    gain = facts.period / choice.period
    if gain < 1 + LITTLE:
        return Verdict('transport', facts.count, facts.kind, 1.0, begin.rstrip())
    return Verdict('transport', choice.workers, choice.kind, gain, begin + _proposal(choice, gain))


def _of_making(facts: Facts) -> Verdict:
    """Judge a loop that waits for batches to be made."""
    computing = 1.0 if facts.computing is None else facts.computing
    reading = facts.stages.get('read', 0.0)
    stored = reading > 0.5 and (computing < 0.5 or facts.stored)
    bound = 'storage' if stored else 'making'
    begin = f'{_times(facts)}: it is bound by {"storage" if stored else "the making of batches"}. {_known(facts)} '
    if stored:
        begin += (
            'Each chunk is read fewer times with a BlockShuffle as shuffle, or with a larger read_ahead. '
            if facts.stored
            else 'If it is slow to read single rows, a BlockShuffle as shuffle reads neighbouring ones together. '
        )
    if not facts.planned:
        advice = 'Workers cannot help: the batches come from an iterator. They can with a source of random access.'
        return Verdict(bound, 0, None, 1.0, begin + advice)
    choice = _best(choices(facts))
    gain = facts.period / choice.period
    if gain < 1 + LITTLE:
        advice = 'No number of workers is expected to help.' if facts.kind is None else 'More workers would not help.'
        return Verdict(bound, facts.count, facts.kind, 1.0, begin + advice)
    return Verdict(bound, choice.workers, choice.kind, gain, begin + _proposal(choice, gain))


def choices(facts: Facts) -> Iterator[Choice]:
    """Go through the workers that there may be: none, threads, and processes, up to as many as make sense."""
    yield Choice(facts.body + facts.making, None, 0)
    computing = 1.0 if facts.computing is None else facts.computing
    by_waiting = min(MOST_WAITING, round(facts.cores / max(computing, 0.05)))
    for workers in range(1, max(facts.cores, by_waiting) + 1):
        for kind in ('threads', 'processes'):
            if not facts.copied or facts.nbytes >= COPIED_BYTES[kind]:
                yield Choice(expected_period(facts, kind, workers), kind, workers)


def expected_period(facts: Facts, kind: str, workers: int) -> float:
    """Return how long a batch is expected to take with workers, in seconds.

    It takes as long as what takes longest: the body of the loop; the workers; the processors, on all that has to be
    computed; with threads, what only one of them can do at a time.
    """
    computing = 1.0 if facts.computing is None else facts.computing
    speedup = facts.speedup
    if speedup is None:
        speedup = 2.0 if computing < 0.3 else 1.0
    making, computed = facts.making, facts.making * computing + facts.body_computing
    if kind == 'threads':
        # By Amdahl's law: what one thread keeps from the other.
        alone = making * min(1.0, max(0.0, 2 / max(1.0, speedup) - 1))
        made = alone + (making - alone) / workers
        locked = alone + facts.body_computing if alone > 0.5 * making else 0.0
    else:
        copied = 0.0 if facts.copied else facts.nbytes / COPIED_PER_SECOND
        made, locked = (making + copied) / workers, 0.0
        computed += copied
    return max(facts.body + RECEIVED_SECONDS[kind], made, locked, computed / facts.cores)


def _best(found: Iterator[Choice] | list[Choice]) -> Choice:
    """Return the least that is almost as fast as the fastest: no workers before threads, and few before many."""
    every = list(found)
    fastest = min(choice.period for choice in every)
    for kind, more in ((None, 1 + LITTLE), ('threads', 1 + LITTLE), ('processes', 1 + LITTLE)):
        good = [choice for choice in every if choice.kind == kind and choice.period <= more * fastest]
        if good:
            quickest = min(choice.period for choice in good)
            return min((each for each in good if each.period <= 1.05 * quickest), key=lambda each: each.workers)
    raise AssertionError('one of them is the fastest')


def _times(facts: Facts) -> str:
    """Say how long a batch takes."""
    return (
        f"Of each batch's {_in_words(facts.period)}, your loop works for {_in_words(facts.body)} and waits for "
        f'{_in_words(facts.waiting)}'
    )


def _known(facts: Facts) -> str:
    """Say how batches are made."""
    parts = sorted(((share, name) for name, share in facts.stages.items() if share > LITTLE), reverse=True)
    stages = ', '.join(f'{share:.0%} in {name}' for share, name in parts)
    told = f'To make one takes {_in_words(facts.making)}' + (f' ({stages})' if stages else '')
    if facts.computing is not None:
        told += f', of which the processor is needed for {facts.computing:.0%}'
    if facts.speedup is not None:
        told += f'; two threads make {facts.speedup:.1f} times as many as one'
        if facts.speedup < 1.5 and (facts.computing or 0) > 0.5 and facts.cores > 1:
            told += ", as Python's global lock lets only one of them run"
    elif facts.planned:
        told += '; whether threads make more was not measured'
    return told + '.'


def _proposal(choice: Choice, gain: float) -> str:
    """Say what to use, and what it is expected to gain."""
    made = {'threads': 'WorkerThreadPool', 'processes': 'WorkerProcessPool'}.get(choice.kind or '')
    what = 'no pool' if made is None else f'a {made}({choice.workers})'
    return (
        f'Use {what}: a batch is expected to take {_in_words(choice.period)}, so the loop is {gain:.1f} times as fast.'
    )


def _name(count: int, kind: str) -> str:
    """Name workers."""
    singular = {'threads': 'thread', 'processes': 'process'}.get(kind, 'worker')
    plural = {'threads': 'threads', 'processes': 'processes'}.get(kind, 'workers')
    return f'{count} {singular if count == 1 else plural}'


def _in_words(seconds: float) -> str:
    """Write a time.

    >>> _in_words(0.01234), _in_words(2.5), _in_words(3.4e-5)
    ('12.3 ms', '2.5 s', '0.034 ms')
    """
    return f'{seconds:.3g} s' if seconds >= 1 else f'{seconds * 1e3:.3g} ms'


def _in_bytes(nbytes: float) -> str:
    """Write a number of bytes.

    >>> _in_bytes(38_500_000), _in_bytes(2048)
    ('38.5 MB', '2.05 KB')
    """
    return f'{nbytes / 1e6:.3g} MB' if nbytes >= 1e6 else f'{nbytes / 1e3:.3g} KB'
