"""Faults for workers, and scripts that run in processes of their own."""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import gc
import os
import random
import resource
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from batchup.data_source import ArrayDataSource
from batchup.work_pool import WorkerProcessPool

from .pools import CLUSTERS, shared_pools

BATCH_SIZE = 4

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

# How long processes may take to be gone, in seconds.
PATIENCE = 20.0


def segfault() -> None:
    """Read where there is no memory; no stacks are shown."""
    faulthandler.disable()
    ctypes.string_at(0)


def die_by(number: int) -> None:
    """Send a signal to this process."""
    os.kill(os.getpid(), number)
    time.sleep(10)


# How a worker ends, and how the warning names that.
DEATHS: dict[str, tuple[Callable[..., Any], tuple[Any, ...], str]] = {
    'kill': (die_by, (signal.SIGKILL,), 'signal 9, SIGKILL'),
    'terminate': (die_by, (signal.SIGTERM,), 'signal 15, SIGTERM'),
    'segfault': (segfault, (), 'signal 11, SIGSEGV'),
    'exit': (os._exit, (3,), 'exit code 3'),
}


class Fails:
    """A function that returns its batch, but at some batches, and in workers only, something happens.

    Parameters
    ----------
    numbers : batches at which it happens
    fault : a name in `DEATHS`, or a function
    folder : where to note that it has happened, so that it does not again; always without it
    seconds : how long every batch takes
    """

    def __init__(self, numbers: Any, fault: Any = 'kill', folder: Any = None, seconds: float = 0.005) -> None:
        self.numbers = {int(number) for number in numbers}
        self.fault = fault
        self.folder = folder
        self.seconds = seconds
        self.owner = os.getpid()

    def __call__(self, *batch: Any) -> tuple[Any, ...]:
        number = int(batch[0].flat[0]) // BATCH_SIZE
        time.sleep(self.seconds)
        if os.getpid() != self.owner and number in self.numbers and self.is_first(number):
            function, arguments = (self.fault, ()) if callable(self.fault) else DEATHS[self.fault][:2]
            function(*arguments)
        return batch

    def is_first(self, number: int) -> bool:
        """Say whether this has not happened yet; whoever asks makes it happen."""
        if self.folder is None:
            return True
        try:
            (Path(self.folder) / str(number)).touch(exist_ok=False)
        except FileExistsError:
            return False
        return True


def numbers(n_batches: int) -> ArrayDataSource:
    """Make a source whose samples, in order, say which batch they are in."""
    n = n_batches * BATCH_SIZE
    return ArrayDataSource([np.arange(n), np.arange(2 * n).reshape(n, 2) * 0.5])


def serial(ds: Any, **kwargs: Any) -> list[Any]:
    """Return the batches of a source, made in this process."""
    return list(ds.batch_iterator(BATCH_SIZE, **kwargs))


# Tasks.


def slow(value: Any, seconds: float = 0.02) -> Any:
    time.sleep(seconds)
    return value


def slow_pid(seconds: float = 0.02) -> int:
    time.sleep(seconds)
    return os.getpid()


def sleep_for_ever() -> None:
    while True:
        time.sleep(0.5)


def sleep_in_native_code() -> None:
    """Sleep and hold Python's global lock."""
    ctypes.PyDLL(None).sleep(1000)


def draw(kind: str) -> tuple[int, float]:
    """Return who draws, and what."""
    time.sleep(0.02)
    return os.getpid(), np.random.random() if kind == 'numpy' else random.random()


def blas_threads() -> tuple[int, set[int]]:
    """Return the process, and how many threads each numerical library may use in it."""
    from threadpoolctl import threadpool_info

    np.ones((300, 300)) @ np.ones((300, 300))
    time.sleep(0.02)
    return os.getpid(), {library['num_threads'] for library in threadpool_info()}


def large_and_dying(size: int, mark: str) -> bytes:
    """Return a large value, and die while it is sent, once."""
    if not os.path.exists(mark):
        Path(mark).touch()
        threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGKILL)).start()
    return bytes(size)


def describe(array: np.ndarray) -> tuple[str, str | None, Any]:
    """Return what kind of memory an array lies in, its file, and its values."""
    owner = array
    while type(owner) is np.ndarray and isinstance(owner.base, np.ndarray):
        owner = owner.base
    return type(owner).__name__, getattr(owner, 'filename', None), np.array(array[:3])


def memory_of_this(values: np.ndarray) -> tuple[int, int, int, float]:
    """Return the process, its private memory and its part of all memory, after reading all values."""
    total = float(values.sum())
    full = psutil.Process().memory_full_info()
    return os.getpid(), full.uss, full.pss, total


def limit_memory(spare: int) -> None:
    """Have this process address no more than so many bytes more."""
    used = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + spare, resource.RLIM_INFINITY))


def pids_of(pool: Any) -> set[int]:
    """Return the ids of the workers of a pool."""
    return set(pool.work_stream([(slow_pid,)] * (4 * pool.processes)).retrieve_iter())


# What is there, and what is left.


def helpers_of_multiprocessing() -> set[int | None]:
    """Return the processes that multiprocessing keeps for as long as the interpreter runs."""
    from multiprocessing import forkserver, resource_tracker

    return {forkserver._forkserver._forkserver_pid, resource_tracker._resource_tracker._pid}


def children() -> set[int]:
    """Return the processes below this one."""
    processes = psutil.Process().children(recursive=True)
    return {process.pid for process in processes} - helpers_of_multiprocessing()


def descriptors() -> int:
    """Return how many files are open."""
    return len(os.listdir('/proc/self/fd'))


def shared_files() -> set[str]:
    """Return the files in shared memory, except for those of other programs on this machine."""
    return {name for name in os.listdir('/dev/shm') if not name.startswith(('plasma', 'torch_', 'ray'))}


def belongings() -> dict[str, Any]:
    """Return what this process has: children, threads, open files, shared memory."""
    return {
        'children': children(),
        'threads': set(threading.enumerate()),
        'descriptors': descriptors(),
        'shared files': shared_files(),
    }


def added(before: dict[str, Any]) -> dict[str, Any]:
    """Return what this process has more of than before; what others have left behind may go meanwhile."""
    after = belongings()
    more = {name: after[name] - before[name] for name in ('children', 'threads', 'shared files')}
    more['descriptors'] = max(0, after['descriptors'] - before['descriptors'])
    return {name: value for name, value in more.items() if value}


def until(is_so: Callable[[], bool], seconds: float = PATIENCE) -> bool:
    """Wait until something is so, but not for ever; return whether it is."""
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@contextlib.contextmanager
def nothing_left() -> Iterator[None]:
    """Assert that a block leaves no process, thread, open file or shared memory behind."""
    shared_pools.close(CLUSTERS)  # they do as they like
    gc.collect()
    before = belongings()
    yield
    gc.collect()
    until(lambda: not added(before))
    assert not added(before)


# Scripts.


class Script:
    """A script that runs in a session of its own, so that all its processes are known.

    Parameters
    ----------
    folder : where its file goes; `None` for one that is given to `python -c`
    text : the script
    *arguments : of the script
    """

    def __init__(self, folder: Any, text: str, *arguments: str, interpreter: tuple[str, ...] = ()) -> None:
        text = textwrap.dedent(text)
        command = [sys.executable, '-u', *interpreter]
        if folder is None:
            command += ['-c', text]
        else:
            path = Path(folder) / 'script.py'
            path.write_text(text)
            command.append(str(path))
        self.process = subprocess.Popen(
            [*command, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, 'PYTHONWARNINGS': 'default'},
        )
        self.out = self.err = ''

    def wait_for_line(self, text: str) -> None:
        """Wait until the script prints a line."""
        assert self.process.stdout is not None
        timer = threading.Timer(30, self.kill_all)
        timer.start()
        for line in self.process.stdout:
            if line.strip() == text:
                timer.cancel()
                return
        timer.cancel()
        raise AssertionError(f'the script ended before it printed {text!r}:\n{self.finish()[2]}')

    def finish(self, stdin: str | None = None, seconds: float = 90.0) -> tuple[int, str, str]:
        """Return the exit code, what was printed, and the errors."""
        try:
            self.out, self.err = self.process.communicate(stdin, timeout=seconds)
        except subprocess.TimeoutExpired:
            self.kill_all()
            self.out, self.err = self.process.communicate(timeout=seconds)
            raise AssertionError(f'the script hangs:\n{self.out}\n{self.err}') from None
        return self.process.returncode, self.out, self.err

    def processes(self) -> list[psutil.Process]:
        """Return all processes of the session of the script."""
        found = []
        for process in psutil.process_iter():
            try:
                if os.getsid(process.pid) == self.process.pid and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (ProcessLookupError, psutil.NoSuchProcess):
                pass
        return found

    def leaves_nothing(self, seconds: float = PATIENCE) -> bool:
        """Wait until no process of the script is there any more; end those that stay."""
        gone = until(lambda: not self.processes(), seconds)
        self.kill_all()
        return gone

    def kill_all(self) -> None:
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


def run_script(folder: Any, text: str, *arguments: str, stdin: str | None = None) -> tuple[int, str, str]:
    """Run a script to its end; return the exit code, what it printed, and its errors."""
    script = Script(folder, text, *arguments)
    try:
        result = script.finish(stdin)
        assert script.leaves_nothing(), 'processes of the script are left'
    finally:
        script.kill_all()
    return result


def warned(match):
    """Expect a warning of batchup's."""
    return pytest.warns(UserWarning, match=match)


@contextlib.contextmanager
def started(processes, method, **kwargs):
    """Make a pool whose workers have all started: until then, the caller makes batches."""
    with WorkerProcessPool(processes, start_method=method, **kwargs) as pool:
        settle(pool)
        yield pool


def settle(pool):
    """Wait until as many workers as there should be take jobs, however long they take to start."""
    timeout, pool.timeout = pool.timeout, None
    assert until(lambda: len(pids_of(pool)) == pool.processes)
    pool.timeout = timeout


def parallel(pool, ds, buffer_size=6, **kwargs):
    """Return a stream of a source, over a pool."""
    return pool.parallel_data_source(ds, buffer_size).batch_iterator(BATCH_SIZE, **kwargs)


def take_until(stream, error):
    """Take batches until an error; return them, and the error."""
    received = []
    with pytest.raises(error) as caught:
        received.extend(batch for batch in stream if received.append(batch))
    return received, caught.value


def take_until_seconds(stream, kind, seconds=60):
    """Take batches until an error comes, which must be soon; return it."""
    start = time.monotonic()
    _, error = take_until(stream, kind)
    stream.close()
    assert time.monotonic() - start < seconds
    return error
