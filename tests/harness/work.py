"""What runs in workers: functions to map and tasks, with faults made for real."""

from __future__ import annotations

import ctypes
import faulthandler
import os
import random
import resource
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from batchup.data_source import RandomAccessDataSource

from ..cases import BATCH_SIZE


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


# Tasks.


def slow(value: Any, seconds: float = 0.02) -> Any:
    time.sleep(seconds)
    return value


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
