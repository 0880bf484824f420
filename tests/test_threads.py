"""Streams that several threads share: each batch goes to one of them, and all go on."""

import signal
import threading
import time

import numpy as np
import pytest

from batchup.data_source import ArrayDataSource, CallableDataSource, CompositeDataSource, RandomAccessDataSource
from batchup.stream import Phase
from batchup.work_pool import WorkerThreadPool

from .pools import BACKENDS, PATIENCE_SECONDS, THREADS, local_kinds, on, open_pool, pool, wait_until  # noqa: F401

N = 3000
DATA = np.arange(N)


def small():
    return ArrayDataSource([DATA, DATA + 1])


def iterated():
    return CallableDataSource(lambda batch_size, **kwargs: (batch for batch in small().batch_iterator(batch_size)))


SOURCES = {
    'arrays': small,
    'large rows': lambda: ArrayDataSource([np.repeat(DATA[:200, np.newaxis], 20_000, axis=1), DATA[:200]]),
    'mapped': lambda: small().map(increased),
    'composite': lambda: CompositeDataSource([small(), small()]),
    'iterator': iterated,
    'composite of iterators': lambda: CompositeDataSource([iterated(), iterated().map(increased)]),
}


def increased(x, y):
    return x, y + x.dtype.type(0)


def in_threads(work, count=4):
    """Run a function in several threads until all have ended; return what they returned."""
    results, errors = [], []

    def run():
        try:
            results.append(work())
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive()
    assert errors == []
    return results


def first_values(batches):
    return sorted(int(batch[0].flat[0]) for batch in batches)


@pytest.mark.parametrize('name', SOURCES)
def test_each_batch_goes_to_one_thread(name):
    expected = first_values(SOURCES[name]().batch_iterator(2))
    for _ in range(3):
        stream = SOURCES[name]().batch_iterator(2)
        parts = in_threads(lambda: list(stream))  # noqa: B023
        assert first_values(batch for part in parts for batch in part) == expected
        assert stream.position == len(expected)
