"""Pools of every kind, for the contracts that all pools keep."""

from __future__ import annotations

import contextlib
import re
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np
import pytest

from batchup.data_source import ArrayDataSource
from batchup.work_pool import (
    RayExecutor,
    WorkerAutoPool,
    WorkerExecutorPool,
    WorkerPool,
    WorkerProcessPool,
    WorkerThreadPool,
)

from ..cases import BATCH_SIZE
from .waiting import PATIENCE
from .work import this_worker

# From Python 3.12 on, os.fork warns where there are threads.
MAY_FORK = pytest.mark.filterwarnings('ignore:.*use of fork:DeprecationWarning')

# Every way of starting processes.
METHODS = ['fork', 'forkserver', 'spawn']


def by_default(default: str) -> list[Any]:
    """Return every way of starting processes, all but one for the slow run."""
    return [pytest.param(method, marks=[pytest.mark.slow] * (method != default)) for method in METHODS]


# New interpreters take long to start; where they differ from forked processes, they come first.
SOME_METHODS = by_default('fork')
interpreters_first = pytest.mark.parametrize('method', by_default('spawn'), indirect=True)
every_method = pytest.mark.parametrize('method', METHODS, indirect=True)


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
    handler = signal.getsignal(signal.SIGTERM)  # Ray leaves one of its own
    library.init(num_cpus=processes, include_dashboard=False, log_to_driver=False, logging_level='error')
    try:
        with WorkerExecutorPool(RayExecutor(num_cpus=1), processes) as pool:
            yield pool
    finally:
        library.shutdown()
        signal.signal(signal.SIGTERM, handler)


def process_pool(start_method: str) -> Callable[[int], WorkerPool]:
    return lambda processes: WorkerProcessPool(processes, start_method=start_method)


def auto_pool(processes: int) -> WorkerPool:
    return WorkerAutoPool(processes, start_method='forkserver')


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
IN_PROCESSES = [name for name in BACKENDS if name not in THREADS]

# With the pool that tries them out: who makes which batch, nobody knows.
AUTO = 'auto'
EVERY = [*BACKENDS, AUTO]
EVERY_LOCAL = [*LOCAL, AUTO]

# Kinds that take long, in tests with many cases: not by default.
SLOW = ['forkserver', 'spawn']
# Kinds that take long to start.
STARTED_ONCE = ['forkserver', 'spawn', 'process_executor', *CLUSTERS]


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

    def close(self, kinds: Iterable[str] = EVERY) -> None:
        """Close the pools of some kinds."""
        closed = set(kinds)
        for key in [key for key in self._opened if key[0] in closed]:
            self._opened.pop(key)[1].close()


shared_pools = SharedPools()


@contextlib.contextmanager
def open_pool(kind: str, count: int = 2) -> Iterator[WorkerPool]:
    """Open a pool, and wait until its workers are at work: all batches will be theirs."""
    make = auto_pool if kind == AUTO else BACKENDS[kind]
    with make(count) as opened:
        wait_for_workers(opened)
        yield opened


def on(names: Any, slow: Any = ()) -> Any:
    """Run a test on pools of these kinds; on the `slow` ones, on clusters, and on `AUTO`, not by default."""
    late = {*slow, *CLUSTERS, AUTO}
    return pytest.mark.parametrize('pool', [marked(name, name.split()[0] in late) for name in names], indirect=True)


def marked(name: str, slow: bool = False) -> Any:
    kind = name.partition(' of ')[0]
    return pytest.param(name, id=f'{name} pool', marks=[*OWN_WARNINGS.get(kind, []), *[pytest.mark.slow] * slow])


# Files whose tests share what takes long to make, or to import.
TOGETHER = (
    'tests/cli/test_demo.py',
    'tests/samplers/test_splits_sklearn.py',
    'tests/test_layers.py',
    'tests/test_public.py',
)


def group_of(test_id: str) -> str:
    """Return what a test shares with others: what takes long to make or to import, or else the test function."""
    if test_id.startswith(TOGETHER):
        return test_id.partition('::')[0]
    found = re.search(rf'\b({"|".join(STARTED_ONCE)})( of \d)? pool\b', test_id)
    if found:
        return found[1]
    if re.search('tensors|test_search|tests/arrays', test_id):  # which import torch, or several such libraries
        return 'arrays'
    return test_id.partition('[')[0]


# What clusters are tested for by default: all else that pools promise, in the slow run.
on_clusters = pytest.mark.parametrize('pool', [marked(name) for name in CLUSTERS], indirect=True)


def wait_for_workers(pool: WorkerPool) -> set[tuple[int, int]]:
    """Wait until every worker has run a task, however long it takes to start; return which those are."""
    seen: set[tuple[int, int]] = set()
    timeout, pool.timeout = pool.timeout, None
    deadline = time.monotonic() + PATIENCE
    while len(seen) < pool.processes:
        assert time.monotonic() < deadline, f'only {len(seen)} of {pool.processes} workers run tasks'
        seen.update(pool.work_stream([(this_worker, (0.01,))] * 2 * pool.processes).retrieve_iter())
    pool.timeout = timeout
    return seen


def pids_of(pool: WorkerPool) -> set[int]:
    """Return the ids of the processes that run tasks."""
    return {pid for pid, _ in pool.work_stream([(this_worker, (0.02,))] * (4 * pool.processes)).retrieve_iter()}


@contextlib.contextmanager
def started(processes: int, method: str, **kwargs: Any) -> Iterator[WorkerProcessPool]:
    """Make a pool whose workers have all started: until then, the caller makes batches."""
    with WorkerProcessPool(processes, start_method=method, **kwargs) as pool:
        wait_for_workers(pool)
        yield pool


def whole_batches(count: int) -> ArrayDataSource:
    """Make a source of so many batches, whose samples, in order, say which batch they are in."""
    n = count * BATCH_SIZE
    return ArrayDataSource([np.arange(n), np.arange(2 * n).reshape(n, 2) * 0.5])


def serial(ds: Any, **kwargs: Any) -> list[Any]:
    """Return the batches of a source, made in this process."""
    return list(ds.batch_iterator(BATCH_SIZE, **kwargs))


def parallel(pool: WorkerPool, ds: Any, buffer_size: int = 6, **kwargs: Any) -> Any:
    """Return a stream of a source, over a pool."""
    return pool.parallel_data_source(ds, buffer_size).batch_iterator(BATCH_SIZE, **kwargs)
