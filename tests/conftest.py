"""Settings for all tests."""

import gc
import os
import signal

import pytest
from hypothesis import settings

from batchup.work_pool import WorkerProcessPool, WorkerThreadPool

from .harness.downloaded import target  # noqa: F401
from .harness.fetched import data, source  # noqa: F401
from .harness.homes import home, mounted, server  # noqa: F401
from .harness.pools import CLUSTERS, SOME_METHODS, group_of, shared_pools, started

# Derandomised: a failure in one run is a failure in every run.
settings.register_profile(
    'default', deadline=None, derandomize=True, max_examples=int(os.environ.get('EXAMPLES', '100'))
)
settings.load_profile('default')


def pytest_configure(config):
    """Have Ctrl-C work in scripts of tests, also where a shell has put these tests into the background."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish(session):
    """Spare the garbage collector, which tests of leftovers call, the objects of thousands of tests."""
    gc.collect()
    gc.freeze()


def cluster_of(item):
    """Return the cluster whose pool a test asks for, if it does."""
    kind = str(item.callspec.params.get('pool')).split()[0] if hasattr(item, 'callspec') else ''
    return kind if kind in CLUSTERS else ''


def pytest_collection_modifyitems(items):
    """Have what slows down a process come at the end: large libraries, and the clusters, first the slowest to start."""
    order = ['', 'arrays', 'ray', 'dask']
    items.sort(key=lambda item: order.index(cluster_of(item) or 'arrays' * (group_of(item.nodeid) == 'arrays')))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Have what takes long to make be made in one process of pytest-xdist only."""
    from xdist.scheduler import LoadScopeScheduling

    class ByPool(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return group_of(nodeid)

    config.option.loadscopereorder = False  # clusters stay last
    return ByPool(config, log)


def pytest_runtest_setup(item):
    """Clear away clusters of earlier tests: their threads and exit handlers are in the way of forked processes."""
    shared_pools.close(kind for kind in CLUSTERS if kind != cluster_of(item))


@pytest.fixture(scope='session', autouse=True)
def _closed_in_the_end():
    """Close the pools that tests share."""
    yield
    shared_pools.close()


@pytest.fixture
def all_by_workers(monkeypatch):
    """Have workers make batches that the caller would: small ones, and those before workers have mapped memory."""
    for kind in (WorkerThreadPool, WorkerProcessPool):
        monkeypatch.setattr(kind, '_least_bytes', lambda pool: 0)
    monkeypatch.setattr('batchup._pools.processes.pool.PREPARED_BYTES', 2**60)


@pytest.fixture
def pool(request, all_by_workers):
    """A pool that tests share, of each kind that `on` names."""
    return shared_pools.get(request.param)


@pytest.fixture
def threads(all_by_workers):
    """The pool of two threads that tests share."""
    return shared_pools.get('threads')


@pytest.fixture(params=SOME_METHODS)
def method(request, all_by_workers):
    """Each way to start worker processes."""
    return request.param


@pytest.fixture
def forked_as_for_users():
    """A pool of two forked workers that have started; the caller makes small batches."""
    with started(2, 'fork') as pool:
        yield pool


@pytest.fixture
def forked(all_by_workers, forked_as_for_users):
    """A pool of two forked workers that have started, and make all batches."""
    return forked_as_for_users
