"""Waiting that no interrupt can break, wherever it comes."""

from __future__ import annotations

import _thread
import inspect
import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from .._streams.turns import StreamClosed

if TYPE_CHECKING:
    from .channel import Channel

# How long to wait at a time. Larger: a lost Ctrl-C, or the end of a stream, is noticed later.
# Smaller: more waking up.
SLICE_SECONDS = 0.5


class Flag:
    """Something that happens once, and that others wait for.

    No interrupt can break it, wherever it comes. Events, conditions and futures have a lock that
    an interrupted thread may keep for ever, so that they can no longer be set.

    Attributes
    ----------
    up : bool
        Whether it has happened.
    """

    __slots__ = ('_sleep', 'up')

    def __init__(self) -> None:
        self.up = False
        # Threads sleep until they acquire it; whether it has happened, `up` alone says.
        self._sleep = threading.Lock()
        self._sleep.acquire()

    def raise_(self) -> None:
        """Note that it has happened. Only one thread may call this, one that no interrupt reaches."""
        if not self.up:
            self.up = True
            self._sleep.release()

    def wait(self, seconds: float) -> bool:
        """Wait until it has happened, for so many seconds at most, or fewer; return whether it has."""
        if not self.up and self._sleep.acquire(timeout=seconds):
            self._sleep.release()  # for the next one who waits
        return self.up


def start_thread(run: Callable[[], None], name: str) -> threading.Thread:
    """Start a thread that does not keep the interpreter from ending.

    An interrupt does not keep it from starting: `Thread.start` waits for an event, so it is
    called where no interrupt comes.
    """
    thread = threading.Thread(target=run, name=name, daemon=True)
    started, errors = Flag(), list[Exception]()

    def start() -> None:
        try:
            thread.start()
        except Exception as error:  # there may be no more threads
            errors.append(error)
        started.raise_()

    _thread.start_new_thread(start, ())
    wait_in_slices(started.wait, None)
    for error in errors:
        raise error
    return thread


class Watch(Protocol):
    """What looks at how long a thread waits."""

    @property
    def seconds(self) -> float:
        """After how many seconds `bark` is to be called; may be infinite."""

    def bark(self) -> None:
        """Tell somebody that the wait takes long."""


def wait_in_slices(
    finished: Callable[[float], bool],
    timeout: float | None,
    channel: Channel | None = None,
    watch: Watch | None = None,
) -> bool:
    """Wait in short slices: Python may lose a Ctrl-C that comes as a long wait begins.

    Parameters
    ----------
    finished : callable
        `finished(seconds)` waits that long, and returns whether it need not wait any more.
    timeout : float, optional
        How long to wait in all, in seconds.
    channel : Channel, optional
        The wait ends with `StreamClosed` once its use is over.
    watch : Watch, optional
        Is told, once, if it takes long.

    Returns
    -------
    bool
        Whether it was finished in time.
    """
    end = math.inf if timeout is None else time.monotonic() + timeout
    due = math.inf if watch is None else time.monotonic() + watch.seconds
    while not finished(max(0.0, min(SLICE_SECONDS, min(end, due) - time.monotonic()))):
        if channel is not None and channel.use.over:
            raise StreamClosed
        if time.monotonic() >= end:
            return False
        if watch is not None and time.monotonic() >= due:
            due = math.inf
            watch.bark()
    return True


def result_of(future: Any, timeout: float | None, watch: Watch | None) -> Any:
    """Return the result of a future that can only be waited for by its `result`; `TimeoutError` if it takes longer."""
    seconds = math.inf if watch is None else watch.seconds
    if watch is not None and seconds < (timeout or math.inf) and _takes_seconds(future.result):
        with suppress(TimeoutError, FutureTimeoutError):
            return future.result(seconds)
        watch.bark()
        timeout = None if timeout is None else timeout - seconds
    return future.result() if timeout is None else future.result(timeout)


def _takes_seconds(result: Callable[..., Any]) -> bool:
    """Say whether the method of a future of the user's own takes a number of seconds."""
    try:
        inspect.signature(result).bind(1.0)
    except (TypeError, ValueError):
        return False
    return True
