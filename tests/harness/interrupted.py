"""A script that is interrupted all the time, and checks that it misses nothing.

Run by `pools/test_interrupts.py`; by hand, for as many interrupts as wanted:
`python -m tests.harness.interrupted stream spawn 10000`.
"""

from __future__ import annotations

import contextlib
import faulthandler
import multiprocessing
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from batchup.data_source import ArrayDataSource
from batchup.work_pool import WorkerPool, WorkerProcessPool, WorkerThreadPool

# Between two interrupts, in seconds, on average. To make a pool takes longer than a batch.
PAUSES = {'stream': 0.004, 'tasks': 0.004, 'close': 0.05}

# Nothing takes so long, in seconds.
HANGS = 20.0

BATCH_SIZE = 8
N_BATCHES = 60


class Interrupts:
    """Interrupts from another process; those that come while nobody listens do nothing."""

    def __init__(self, pause: float) -> None:
        self.listening = False
        self.count = 0
        self._parent = os.getpid()
        signal.signal(signal.SIGINT, self._take)
        self._sender = os.fork()
        if not self._sender:
            self._send(pause)

    def _send(self, pause: float) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        rng = random.Random(5)
        while os.getppid() == self._parent:
            time.sleep(rng.uniform(0, 2 * pause))
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._parent, signal.SIGINT)
        os._exit(0)

    def stop(self) -> None:
        os.kill(self._sender, signal.SIGKILL)
        os.waitpid(self._sender, 0)

    def _take(self, *_: Any) -> None:
        if self.listening:
            self.listening = False
            self.count += 1
            raise KeyboardInterrupt

    def until_done(self, step: Callable[[], Any]) -> Any:
        """Repeat a step until it is not interrupted; return its result."""
        while True:
            try:
                self.listening = True
                result = step()
                self.listening = False
                return result
            except KeyboardInterrupt:
                faulthandler.dump_traceback_later(HANGS, exit=True)

    def go_through(self, items: Callable[[], Iterator[Any]], check: Callable[[int, Any], None]) -> int:
        """Go through what is left, again after each interrupt, and check every item; return how many there were."""
        received: list[Any] = []
        number, ended = 0, False
        while not ended:
            try:
                self.listening = True
                for item in items():
                    received.append(item)
                self.listening = False
                ended = True
            except KeyboardInterrupt:
                faulthandler.dump_traceback_later(HANGS, exit=True)
            item = None
            while received:
                check(number, received.pop(0))
                number += 1
        return number


def two_milliseconds(*batch: Any) -> tuple[Any, ...]:
    time.sleep(0.002)
    return batch


def numbered(number: int) -> tuple[int, np.ndarray]:
    time.sleep(0.001)
    return number, np.full(3, number)


def make_pool(kind: str) -> WorkerPool:
    return WorkerThreadPool(2) if kind == 'threads' else WorkerProcessPool(2, start_method=kind)


def make_source(slow: bool) -> Any:
    n = N_BATCHES * BATCH_SIZE
    source = ArrayDataSource([np.arange(n), np.arange(50.0 * n).reshape(n, 50)])
    return source.map(two_milliseconds) if slow else source


def stream(interrupts: Interrupts, pool: WorkerPool, epoch: int) -> None:
    """Take an epoch of batches, with a mapped function and without."""
    source = make_source(slow=epoch % 2 == 0)
    serial = list(source.batch_iterator(BATCH_SIZE, shuffle=7, epoch=epoch))
    parallel = interrupts.until_done(lambda: pool.parallel_data_source(source))
    batches = interrupts.until_done(lambda: parallel.batch_iterator(BATCH_SIZE, shuffle=7, epoch=epoch))

    def check(number: int, batch: Any) -> None:
        for got, expected in zip(batch, serial[number]):
            np.testing.assert_array_equal(got, expected, f'batch {number} of epoch {epoch}')

    assert interrupts.go_through(lambda: batches, check) == N_BATCHES


def tasks(interrupts: Interrupts, pool: WorkerPool, epoch: int) -> None:
    """Take the results of tasks."""
    made = interrupts.until_done(lambda: pool.work_stream([(numbered, (number,)) for number in range(50)]))

    def check(number: int, result: Any) -> None:
        assert result[0] == number, f'result {result[0]} in place of {number}'
        np.testing.assert_array_equal(result[1], np.full(3, number))

    assert interrupts.go_through(made.retrieve_iter, check) == 50


def close(interrupts: Interrupts, kind: str, epoch: int) -> None:
    """Make, use and close a pool."""
    pool = interrupts.until_done(lambda: make_pool(kind))
    if epoch % 3 == 0:
        results = pool.work_stream([(numbered, (number,)) for number in range(4)]).retrieve_iter()
        assert [number for number, _ in results] == [0, 1, 2, 3]
    interrupts.until_done(pool.close)
    deadline = time.monotonic() + HANGS
    while multiprocessing.active_children():
        assert time.monotonic() < deadline, 'workers are left'
        time.sleep(0.01)


def main(what: str, kind: str, wanted: int) -> None:
    interrupts = Interrupts(PAUSES[what])
    epoch = 0
    if what == 'close':
        while interrupts.count < wanted:
            close(interrupts, kind, epoch)
            epoch += 1
    else:
        with make_pool(kind) as pool:
            while interrupts.count < wanted:
                {'stream': stream, 'tasks': tasks}[what](interrupts, pool, epoch)
                epoch += 1
    interrupts.stop()
    print('whole', epoch, interrupts.count)


if __name__ == '__main__':
    # So small batches are made by workers, too.
    WorkerThreadPool._least_bytes = WorkerProcessPool._least_bytes = lambda pool: 0  # type: ignore[method-assign]
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
