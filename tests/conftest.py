"""Settings for all tests."""

import gc
import os

import pytest
from hypothesis import settings

from batchup.work_pool import WorkerProcessPool, WorkerThreadPool

from . import faults
from .downloaded import target  # noqa: F401
from .fetched import data, source  # noqa: F401
from .homes import home, mounted, server  # noqa: F401

# Derandomised: a failure in one run is a failure in every run.
settings.register_profile(
    'default', deadline=None, derandomize=True, max_examples=int(os.environ.get('EXAMPLES', '100'))
)
settings.load_profile('default')


def pytest_collection_finish(session):
    """Spare the garbage collector, which tests of leftovers call, the objects of thousands of tests."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def small_batches_are_handed_over(request, monkeypatch):
    """Have workers make batches that are so small that the caller would."""
    if 'as_for_users' not in request.fixturenames:
        for kind in (WorkerThreadPool, WorkerProcessPool):
            monkeypatch.setattr(kind, '_least_bytes', lambda pool: 0)


@pytest.fixture
def as_for_users():
    """Asked for where the caller is to make small batches."""


@pytest.fixture(params=faults.SOME_METHODS)
def method(request):
    """Each way to start worker processes."""
    return request.param


@pytest.fixture
def forked():
    """A pool of two forked workers that have started."""
    with faults.started(2, 'fork') as pool:
        yield pool
