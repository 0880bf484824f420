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

# How many bytes a second a worker process copies into shared memory, and how many, at the least, come through a pipe.
COPIED_PER_SECOND = 4e9
PIPED_PER_SECOND = 2e8

# If workers make batches for less than this share of their time, while the loop waits, they are busy sending them.
IDLE = 0.3

# If other programs have the processor for this share of the time in which this one wants it, they count.
BUSY = 0.25

# How long a small result may take from a worker, in seconds. One that takes longer was kept by a busy processor.
HANDED_SECONDS = {'threads': 5e-5, 'processes': 2e-4, 'executor': 1e-2}

# If two threads make so many times as many batches as one, they are not in each other's way.
FREE_SPEEDUP = 1.75

# Threads are proposed unless processes are so many times as fast: these take more memory, and time to start.
MUCH_FASTER = 1.2

# How long a thread of Python keeps its global lock from others, in seconds.
SWITCH_SECONDS = 5e-3


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
    at_work : float
        The share of their time in which workers make batches.
    cores : int
        The number of processors.
    busy : float
        The share of the time in which other programs kept this one from the processors.
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
    at_work: float
    cores: int
    busy: float = 0.0

    @property
    def body(self) -> float:
        """How long the body of the loop takes."""
        return self.body_computing if self.locked else self.period - self.waiting

    @property
    def reads_chunks(self) -> bool:
        """Whether most of making is reading chunks of storage. Threads read ahead together; processes cannot."""
        return self.stored and self.stages.get('read', 0.0) > 0.5

    @property
    def locked(self) -> bool:
        """Whether worker threads keep Python's global lock from each other, and from the loop, most of the time."""
        busy = self.making * (self.computing or 0.0) + self.body_computing
        return self.kind == 'threads' and self.alone > 0.5 * self.making and busy > 0.7 * self.period

    @property
    def alone(self) -> float:
        """For how many seconds of making a batch a thread keeps others from making theirs."""
        speedup = self.speedup
        if speedup is None:
            speedup = 2.0 if self.computing is not None and self.computing < 0.3 else 1.0
        return self.making * part_alone(speedup)

    @property
    def sent(self) -> bool:
        """Whether the loop waits for the transport of batches.

        Where processors are busy, small ones come late, too: unless workers have nothing else to do, batches must be
        large enough.
        """
        if self.kind is None:
            return False
        large = self.nbytes / PIPED_PER_SECOND + HANDED_SECONDS[self.kind] > 0.3 * self.waiting
        return (large and self.in_transport > 0.5) or (self.at_work < IDLE and (large or self.busy < BUSY))


class Choice(NamedTuple):
    """Workers, and how long a batch is expected to take with them, in seconds."""

    period: float
    kind: str | None
    workers: int


def part_alone(speedup: float) -> float:
    """Return the part of the work that only one thread can do at a time, by Amdahl's law, from the speed of two.

    >>> part_alone(1.0), part_alone(1.6), part_alone(1.9)
    (1.0, 0.25, 0.0)
    """
    return 0.0 if speedup > FREE_SPEEDUP else 2 / max(1.0, speedup) - 1


def judge(facts: Facts) -> Verdict:
    """Say what a loop waits for, and what to do about it."""
    if facts.batches < LEAST_BATCHES:
        return Verdict('unknown', 0, None, 1.0, f'There is no verdict before {LEAST_BATCHES} batches: go on.')
    if facts.waiting < LITTLE * facts.period and not facts.locked:
        return _of_loop(facts)
    if facts.sent:
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
    return Verdict('transport', choice.workers, choice.kind, gain, begin + _proposal(choice, gain, facts.busy))


def _of_making(facts: Facts) -> Verdict:
    """Judge a loop that waits for batches to be made."""
    computing = 1.0 if facts.computing is None else facts.computing
    waits = facts.stages.get('read', 0.0) > 0.5 and not facts.copied and computing < 0.5
    stored = facts.reads_chunks or waits
    bound = 'storage' if stored else 'making'
    begin = f'{_times(facts)}: it is bound by {"storage" if stored else "the making of batches"}. {_known(facts)} '
    if stored:
        begin += (
            'Each chunk is read fewer times with a BlockShuffle as shuffle, unless it is one, or a larger read_ahead. '
            if facts.reads_chunks
            else 'If it is slow to read single rows, a BlockShuffle as shuffle reads neighbouring ones together. '
        )
    if not facts.planned:
        advice = (
            'No workers are proposed: the batches come from an iterator, or from other streams, which workers cannot '
            'read. They can read a source with random access.'
        )
        return Verdict(bound, 0, None, 1.0, begin + advice)
    choice = _best(choices(facts))
    gain = facts.period / choice.period
    if gain < 1 + LITTLE:
        advice = 'Workers are not expected to help.' if facts.kind is None else 'More workers are not expected to help.'
        return Verdict(bound, facts.count, facts.kind, 1.0, begin + advice)
    return Verdict(bound, choice.workers, choice.kind, gain, begin + _proposal(choice, gain, facts.busy))


def choices(facts: Facts) -> Iterator[Choice]:
    """Go through the workers that there may be: none, threads, and processes, up to as many as make sense."""
    if facts.kind is not None:
        yield Choice(facts.period, facts.kind, facts.count)
    yield Choice(facts.period if facts.kind is None else facts.body + facts.making, None, 0)
    computing = 1.0 if facts.computing is None else facts.computing
    by_waiting = min(MOST_WAITING, round(facts.cores / max(computing, 0.05)))
    for workers in range(1, max(facts.cores, by_waiting) + 1):
        for kind in ('threads',) if facts.reads_chunks else ('threads', 'processes'):
            if facts.copied and facts.nbytes < COPIED_BYTES[kind]:
                continue
            if kind != facts.kind:
                yield Choice(expected_period(facts, kind, workers), kind, workers)
            elif workers > facts.count:
                least = facts.period * facts.count / workers  # of what these workers have not reached, more will not
                yield Choice(max(least, expected_period(facts, kind, workers)), kind, workers)


def expected_period(facts: Facts, kind: str, workers: int) -> float:
    """Return how long a batch is expected to take with workers, in seconds.

    It takes as long as what takes longest: the body of the loop; the workers; the processors, on all that has to be
    computed; with threads, what only one of them can do at a time.
    """
    computing = 1.0 if facts.computing is None else facts.computing
    body, making, alone = facts.body + RECEIVED_SECONDS[kind], facts.making, facts.alone
    computed = making * computing + facts.body_computing
    if kind == 'threads':
        made = alone + (making - alone) / workers
        if alone > 0.5 * making:
            # The body of the loop has to wait for the lock, too.
            body += 0.5 * min(making, SWITCH_SECONDS)
            made += facts.body_computing
    else:
        copied = 0.0 if facts.copied else facts.nbytes / COPIED_PER_SECOND
        made = (making + copied) / workers
        computed += copied
    return max(body, made, computed / facts.cores)


def _best(found: Iterator[Choice] | list[Choice]) -> Choice:
    """Return the least that is almost as fast as the fastest: no workers before threads, and few before many."""
    every = list(found)
    fastest = min(choice.period for choice in every)
    for kind, more in ((None, 1 + LITTLE), ('threads', MUCH_FASTER), ('processes', 1 + LITTLE), ('executor', 1.0)):
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
        if facts.speedup < 1.2 and (facts.computing or 0) > 0.5 and not facts.reads_chunks:
            told += ", as Python's global lock lets only one of them run"
    elif facts.planned:
        told += '; whether threads make more was not measured'
    return told + '.'


def _proposal(choice: Choice, gain: float, busy: float) -> str:
    """Say what to use, and what it is expected to gain."""
    made = {'threads': 'WorkerThreadPool', 'processes': 'WorkerProcessPool'}.get(choice.kind or '')
    what = 'no pool' if made is None else f'a {made}({choice.workers})'
    less = '; less, as long as other programs keep the processors busy' if busy > BUSY else ''
    return (
        f'Use {what}: a batch is expected to take {_in_words(choice.period)}, so the loop is {gain:.1f} times as fast'
        f'{less}.'
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
