"""Pools of every kind, and what runs in their workers, for the contracts that all pools keep."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from batchup.data_source import RandomAccessDataSource
from batchup.work_pool import RayExecutor, WorkerExecutorPool, WorkerPool, WorkerProcessPool, WorkerThreadPool

# What a test waits for comes at once, or it never does.
PATIENCE_SECONDS = 20.0


@contextlib.contextmanager
def thread_executor(processes: int) -> Iterator[WorkerPool]:
    with ThreadPoolExecutor(processes) as executor, WorkerExecutorPool(executor) as pool:
        yield pool


@contextlib.contextmanager
def process_executor(processes: int) -> Iterator[WorkerPool]:
    context = get_context('forkserver')
    with ProcessPoolExecutor(processes, context) as executor, WorkerExecutorPool(executor) as pool:
        yield pool


@contextlib.contextmanager
def dask(processes: int) -> Iterator[WorkerPool]:
    distributed = pytest.importorskip('distributed')
    cluster = distributed.LocalCluster(
        n_workers=processes, threads_per_worker=1, processes=True, dashboard_address=':0'
    )
    with cluster, distributed.Client(cluster) as client, WorkerExecutorPool(client.get_executor(), processes) as pool:
        yield pool


@contextlib.contextmanager
def ray(processes: int) -> Iterator[WorkerPool]:
    library = pytest.importorskip('ray')
    library.init(num_cpus=processes, include_dashboard=False, log_to_driver=False, logging_level='error')
    try:
        with WorkerExecutorPool(RayExecutor(num_cpus=1), processes) as pool:
            yield pool
    finally:
        library.shutdown()


def process_pool(start_method: str) -> Callable[[int], WorkerPool]:
    return lambda processes: WorkerProcessPool(processes, start_method=start_method)


BACKENDS: dict[str, Callable[[int], contextlib.AbstractContextManager[WorkerPool]]] = {
    'threads': WorkerThreadPool,
    'fork': process_pool('fork'),
    'forkserver': process_pool('forkserver'),
    'spawn': process_pool('spawn'),
    'thread_executor': thread_executor,
    'process_executor': process_executor,
    'dask': dask,
    'ray': ray,
}
THREADS = ['threads', 'thread_executor']
PROCESS_POOLS = ['fork', 'forkserver', 'spawn']
EXECUTORS = ['thread_executor', 'process_executor', 'dask', 'ray']
CLUSTERS = ['dask', 'ray']
LOCAL = [name for name in BACKENDS if name not in CLUSTERS]
# Kinds that take long, in tests with many cases: not by default.
SLOW = ['forkserver', 'spawn']
# Kinds that take long to start.
STARTED_ONCE = ['forkserver', 'spawn', 'process_executor', *CLUSTERS]
IN_PROCESSES = [name for name in BACKENDS if name not in THREADS]


def local_kinds(test: Any) -> Any:
    """Run a test that starts a pool of its own: where that takes long, not by default."""
    late = ('forkserver', 'spawn', 'process_executor')
    kinds = [pytest.param(name, marks=[pytest.mark.slow] * (name in late)) for name in LOCAL]
    return pytest.mark.usefixtures('all_by_workers')(pytest.mark.parametrize('kind', kinds)(test))


# What libraries warn of in their own code: Dask does when a task is taken back.
OWN_WARNINGS = {'dask': [pytest.mark.filterwarnings("ignore:coroutine 'Client._cancel' was never awaited")]}


class SharedPools:
    """Pools that all tests of a session share, unless they break them; each is opened when one first needs it."""

    def __init__(self) -> None:
        self._opened: dict[tuple[str, int], tuple[WorkerPool, contextlib.ExitStack]] = {}

    def get(self, name: str) -> WorkerPool:
        """Return a pool whose workers are at work: of a kind, or 'of 5' of that kind."""
        kind, _, count = name.partition(' of ')
        key = kind, int(count or 2)
        if key not in self._opened:
            if kind in CLUSTERS:  # a process has one Ray
                self.close([kind])
            stack = contextlib.ExitStack()
            self._opened[key] = stack.enter_context(open_pool(*key)), stack
        return self._opened[key][0]

    def close(self, kinds: Iterable[str] = BACKENDS) -> None:
        """Close the pools of some kinds."""
        for key in [key for key in self._opened if key[0] in kinds]:
            self._opened.pop(key)[1].close()


shared_pools = SharedPools()


@contextlib.contextmanager
def open_pool(kind: str, count: int = 2) -> Iterator[WorkerPool]:
    """Open a pool, and wait until its workers are at work: all batches will be theirs."""
    with BACKENDS[kind](count) as opened:
        wait_for_workers(opened)
        yield opened


def on(names: Any, slow: Any = ()) -> Any:
    """Run a test on pools of these kinds; on the `slow` ones, and on clusters, not by default."""
    late = {*slow, *CLUSTERS}
    return pytest.mark.parametrize('pool', [marked(name, name.split()[0] in late) for name in names], indirect=True)


def marked(name: str, slow: bool = False) -> Any:
    kind = name.partition(' of ')[0]
    marks = [*OWN_WARNINGS.get(kind, []), *[pytest.mark.slow] * slow]
    # Tests of one group share a process of pytest-xdist, so that these start once.
    return pytest.param(name, marks=[*marks, *[pytest.mark.xdist_group(kind)] * (kind in STARTED_ONCE)])


# What clusters are tested for by default: all else that pools promise, in the slow run.
on_clusters = pytest.mark.parametrize('pool', [marked(name) for name in CLUSTERS], indirect=True)


def wait_for_workers(pool: WorkerPool) -> set[tuple[int, int]]:
    """Wait until every worker has run a task; return which those are."""
    seen: set[tuple[int, int]] = set()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while len(seen) < pool.processes:
        assert time.monotonic() < deadline, f'only {len(seen)} of {pool.processes} workers run tasks'
        seen.update(pool.work_stream([(this_worker, (0.01,))] * 2 * pool.processes).retrieve_iter())
    return seen


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds, and a little longer."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)
    time.sleep(0.05)


def this_worker(seconds: float = 0.0) -> tuple[int, int]:
    """Say which process and thread this is, after some time."""
    time.sleep(seconds)
    return os.getpid(), threading.get_ident()


class Log:
    """Lines that any process of this machine may append."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def append(self, line: Any) -> None:
        with open(self.path, 'a') as file:
            file.write(f'{line}\n')

    def lines(self) -> list[str]:
        return Path(self.path).read_text().splitlines() if os.path.exists(self.path) else []


class Logged:
    """A function to map, which notes down the first number of each batch that it sees."""

    def __init__(self, log: Log) -> None:
        self.log = log

    def __call__(self, x: Any, *others: Any) -> tuple[Any, ...]:
        self.log.append(x[0])
        return (x, *others)


class Traveller:
    """A value that notes down in which process it arrives."""

    def __init__(self, log: Log, value: int = 7) -> None:
        self.log = log
        self.value = value

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.log.append(os.getpid())

    def __call__(self, *batch: Any) -> tuple[Any, ...]:
        return batch


class FailsUntilSeen:
    """A function to map, which fails at the first batch with a number, the first time."""

    def __init__(self, number: int, log: Log) -> None:
        self.number = number
        self.log = log

    def __call__(self, x: Any, *others: Any) -> tuple[Any, ...]:
        if self.number in x and not self.log.lines():
            self.log.append('failed')
            raise OSError('disk gone')
        return (x, *others)


class Raises:
    """A function to map, which raises an error at every batch with a number."""

    def __init__(self, number: int, make_error: Callable[[], BaseException]) -> None:
        self.number = number
        self.make_error = make_error

    def __call__(self, x: Any, *others: Any) -> tuple[Any, ...]:
        if self.number in x:
            raise self.make_error()
        return (x, *others)


class FailingSource(RandomAccessDataSource):
    """A source that cannot read one of its samples."""

    def __init__(self, n: int, bad: int) -> None:
        super().__init__(n)
        self.bad = bad

    def samples_by_indices_nomapping(self, indices: Any) -> tuple[Any, ...]:
        if self.bad in indices:
            raise OSError('disk gone')
        return (np.asarray(indices) * 10,)


class TwoPartsError(Exception):
    """An exception that pickles, but cannot be made of its `args`."""

    def __init__(self, part: str, number: int) -> None:
        super().__init__(f'{part} {number}')
        self.number = number


class StubbornError(Exception):
    """An exception that does not pickle."""

    def __reduce__(self) -> Any:
        raise TypeError('I stay here')


def two_parts_error() -> BaseException:
    return TwoPartsError('part', 5)


def stubborn_error() -> BaseException:
    return StubbornError('part 5')


def error_with_a_lambda() -> BaseException:
    return ValueError('part 5', lambda: None)


def local_error() -> BaseException:
    class LocalError(KeyError):
        pass

    return LocalError('part 5')


def interrupt() -> BaseException:
    return KeyboardInterrupt('part 5')


def system_exit() -> BaseException:
    return SystemExit('part 5')


def by_worker(*batch: Any) -> tuple[Any, ...]:
    """Append to a batch which worker has made it."""
    return (*batch, this_worker(0.002))


def nap(*batch: Any) -> tuple[Any, ...]:
    """Take so long for a batch that batches are not put in groups."""
    time.sleep(0.003)
    return batch


def nested(x: Any) -> tuple[Any, ...]:
    return x, (x + 1, (x * 2.5, (x > 3,))), ()


def strings(x: Any) -> tuple[Any, ...]:
    return x, [f'sample {number}' for number in x]


def pairs(x: Any) -> tuple[Any, ...]:
    return tuple({'image': x[:, None] * np.ones(3), 'names': [str(number) for number in x]}.items())


def dictionary(x: Any) -> tuple[Any, ...]:
    return x, {f'sample {number}': 2.5 * number for number in x}


def nothing(x: Any) -> tuple[Any, ...]:
    return x, None


def scalars(x: Any) -> tuple[Any, ...]:
    return x, np.float32(x.sum()), np.array(3), 5, 'text', len(x) > 2


def twice(x: Any) -> tuple[Any, ...]:
    return x, x, x[::-1], x[:0]


def columns_first(x: Any) -> tuple[Any, ...]:
    return np.asfortranarray(np.outer(x, [1, 2, 3])), np.outer(x, [1, 2, 3])[:, ::2]


def objects(x: Any) -> tuple[Any, ...]:
    return (np.array([{int(number)} for number in x], dtype=object),)


def masked(x: Any) -> tuple[Any, ...]:
    return (np.ma.masked_array(x, x % 2 == 0),)


def read_only(x: Any) -> tuple[Any, ...]:
    x = x.copy()
    x.flags.writeable = False
    return x, np.broadcast_to(np.float64(x[0]), (len(x), 4))


def uneven(x: Any) -> tuple[Any, ...]:
    return tuple(np.full(number % 5, number) for number in x)


def growing(x: Any) -> tuple[Any, ...]:
    """Make every batch larger than the one before, and most of them larger than a slot."""
    return x, np.full(int(x[0]) * 15_000, x[0])


def huge_after_the_first(x: Any) -> tuple[Any, ...]:
    return x, np.full(1 if x[0] == 0 else 500_000, x[0])


# What mapped functions may return, besides arrays; their lengths may differ with `same_length=False`.
RESULTS: dict[str, Callable[..., tuple[Any, ...]]] = {
    function.__name__: function
    for function in (
        nested,
        strings,
        pairs,
        dictionary,
        nothing,
        scalars,
        twice,
        columns_first,
        objects,
        masked,
        read_only,
        uneven,
        growing,
        huge_after_the_first,
    )
}


def with_a_lambda(x: Any) -> tuple[Any, ...]:
    """Make a batch that does not pickle, if 14 is in it."""
    return (x, lambda: None) if 14 in x else (x,)


def add(a: Any, b: Any = 1, *, c: Any = 0) -> Any:
    return a + b + c


def fail(message: str) -> None:
    raise OSError(message)


def log_worker(log: Log, *args: Any) -> int:
    """Note down the process that this runs in."""
    time.sleep(0.005)
    log.append(os.getpid())
    return os.getpid()


def value_of(traveller: Traveller, seconds: float = 0.0) -> tuple[int, int]:
    time.sleep(seconds)
    return traveller.value, os.getpid()


def random_bytes(_: Any = None) -> bytes:
    return os.urandom(8)
