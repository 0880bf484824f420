"""Turns: several threads may use a stream, but only one at a time makes a batch.

A turn is the time in which a thread makes one batch. All batches of a stream come out of one generator, such
as `take_turns`, which is its lock as well: Python lets one thread at a time into a generator, and refuses
others at once, with a `ValueError`. That costs next to nothing, where a lock would cost a fifth of a small batch.

- A thread that is refused waits a little (`await_turn`), and tries again.
- `skip` and `load_state_dict` end the generator between two turns, move the stream, and start a new one there.
- An error ends the generator. The stream starts a new one, which makes the same batch again (`Stream._failed`).
- An interrupt does so, too. If it came when the batch was counted, but not in the user's hands, it is uncounted.
- `close()` waits for nobody. It sets a mark, and has a wait for a worker end with `StreamClosed`. If no thread has
  a turn, it ends the generator; otherwise, the thread that has it finds the mark.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from itertools import islice
from time import perf_counter
from types import FrameType
from typing import Any

import numpy as np

from .._ground.batch import Batch
from .._ground.messages import add_note
from .._ground.stages import starts
from .clock import PAUSE, STRETCH, Clock, rows_of

Turns = Generator[Batch, None, None]

# How long a thread waits before it tries again, in seconds. Larger: threads in turn are slower.
# Smaller: those that wait take more of the processor.
PAUSE_SECONDS = 2e-4

# In a forked process: a thread that was not seen for so many pauses was left behind in the parent. Larger:
# the error comes later. Smaller: threads that make batches quickly may be missed.
CERTAIN_PAUSES = 100


# The process that has imported this module: others were forked from it.
_ORIGINAL = os.getpid()


class ProcessLock:
    """A lock that one thread may take several times, and that is free in a forked process.

    A thread that held it when the process was forked is not there to release it.
    """

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.RLock()

    def acquire(self, blocking: bool = True) -> bool:
        """Take the lock; return whether that was possible."""
        if os.getpid() != self._pid:
            self._lock, self._pid = threading.RLock(), os.getpid()
        return self._lock.acquire(blocking)

    def release(self) -> None:
        """Give the lock back."""
        self._lock.release()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *error: object) -> None:
        self.release()


class StreamClosed(Exception):  # noqa: N818 - no error, and no user sees it
    """The stream was closed while a batch was made."""


class Count:
    """How far a stream has come, and how long that took.

    Attributes
    ----------
    position : int
        The number of batches that the user has received or skipped.
    ended : bool
        Whether there are no more batches.
    closed : bool
        Whether the stream is closed.
    clock : Clock
        How long it took.
    """

    __slots__ = ('clock', 'closed', 'ended', 'position')

    def __init__(self) -> None:
        self.position = 0
        self.ended = False
        self.closed = False
        self.clock = Clock()

    # An interrupt comes where a function is called, or after: a batch is counted when nothing is left to be called.

    def note(self, batch: Batch) -> Batch:
        """Count a batch that is about to be handed out, and return it."""
        first = batch[0] if batch else None
        rows = len(first) if type(first) is np.ndarray and first.ndim else rows_of(batch)
        if self.closed:
            raise StreamClosed
        self.clock.samples += rows
        self.position += 1
        return batch

    def note_timed(self, asked: float, batch: Batch) -> Batch:
        """Do as `note`, for a batch that was asked for at a time."""
        ready, clock, rows = perf_counter(), self.clock, rows_of(batch)
        clock.latest.append(ready - asked)
        if ready > clock.due:
            clock.look(batch, ready)
        if self.closed:
            raise StreamClosed
        clock.samples += rows
        clock.waiting += ready - asked
        clock.ready = ready
        self.position += 1
        return batch


def take_turns(count: Count, batches: Iterator[Batch], what: Callable[[int], str]) -> Turns:
    """Go through batches, and count each as it is handed out; keep no reference to it.

    Parameters
    ----------
    count : Count
        How far the stream has come.
    batches : iterator of batches
        Those from the position on.
    what : callable
        Names the batch at a position, for a note on an error.
    """
    clock = count.clock
    clock.begin()
    try:
        while True:
            start = count.position
            yield from map(count.note_timed, starts(), islice(batches, STRETCH))
            if count.position < start + STRETCH:
                break
            if clock.is_costly():
                start = clock.pause_at(count.position)
                try:
                    yield from map(count.note, islice(batches, PAUSE))
                finally:
                    clock.go_on(count.position)
                if count.position < start + PAUSE:
                    break
    except Exception as error:
        describe(error, what, count.position)
        raise
    count.ended = True


def take_quick_turns(count: Count, batches: Iterator[Batch], what: Callable[[int], str]) -> Turns:
    """Do as `take_turns`, but faster: a reference to the latest batch is kept until the next one is made."""
    clock, latest = count.clock, count.clock.latest
    clock.begin()
    try:
        while True:
            start, asked = count.position, perf_counter()
            for batch in islice(batches, STRETCH):
                ready = perf_counter()
                rows = len(batch[0]) if type(batch[0]) is np.ndarray else rows_of(batch)
                latest.append(ready - asked)
                if ready > clock.due:
                    clock.look(batch, ready)
                if count.closed:
                    raise StreamClosed
                clock.samples += rows
                clock.waiting += ready - asked
                clock.ready = ready
                count.position += 1
                yield batch
                asked = perf_counter()
            if count.position < start + STRETCH:
                break
            if clock.is_costly():
                start = clock.pause_at(count.position, rows_of(batch))
                try:
                    for batch in islice(batches, PAUSE):
                        if count.closed:
                            raise StreamClosed
                        count.position += 1
                        yield batch
                finally:
                    clock.go_on(count.position, rows_of(batch))
                if count.position < start + PAUSE:
                    break
    except Exception as error:
        describe(error, what, count.position)
        raise
    count.ended = True


def describe(error: Exception, what: Callable[[int], str], position: int) -> None:
    """Add a note that names the batch at a position to an error, if that takes notes."""
    if not isinstance(error, StreamClosed):
        with contextlib.suppress(Exception):
            add_note(error, what(position))


def is_refused(error: BaseException) -> bool:
    """Say whether an error only means that the generator was running already: no line of it is in the traceback."""
    return type(error) is ValueError and error.__traceback__ is not None and error.__traceback__.tb_next is None


def is_from_turns(error: BaseException) -> bool:
    """Say whether an error in `Stream.__next__` came out of the generator, and not from an interrupt outside of it."""
    traceback = error.__traceback__ and error.__traceback__.tb_next
    return traceback is not None and traceback.tb_frame.f_code in (take_turns.__code__, take_quick_turns.__code__)


def await_turn(turns: Turns) -> None:
    """Wait a little for the thread that makes a batch.

    Raises
    ------
    RuntimeError
        If it is this thread, which would wait for itself, or one that was left behind in a fork.
    """
    if os.getpid() != _ORIGINAL and _is_left_behind(turns):
        raise RuntimeError(
            'this stream cannot go on: another thread was making its next batch when this process was forked; '
            'make a new one with batch_iterator()'
        )
    if runs_here(turns):
        raise RuntimeError(
            'a stream was asked for its next batch, or to move, by what makes a batch of it: a function or a source, '
            'or a signal handler; only state_dict() and close() can be called from there'
        )
    time.sleep(PAUSE_SECONDS)


def are_over(turns: Any) -> bool:
    """Say whether turns have ended: by themselves, by an error, or by `stop_turns`."""
    return turns.gi_frame is None


def are_taken(turns: Any) -> bool:
    """Say whether a thread is making a batch."""
    return bool(turns.gi_running)


def runs_here(turns: Any) -> bool:
    """Say whether this thread is making a batch."""
    return bool(turns.gi_running) and _is_below(turns.gi_frame, sys._getframe())


def _is_left_behind(turns: Any) -> bool:
    """Say whether the thread that was running a generator is in the process from which this one was forked."""
    for _ in range(CERTAIN_PAUSES):
        # Threads go on while they are looked at: one that is missed once may still be there.
        if not turns.gi_running or any(_is_below(turns.gi_frame, frame) for frame in sys._current_frames().values()):
            return False
        time.sleep(PAUSE_SECONDS)
    return True


def _is_below(searched: FrameType | None, frame: FrameType | None) -> bool:
    """Say whether a frame is another one, or among those that called it."""
    while frame is not None and frame is not searched:
        frame = frame.f_back
    return frame is not None


def stop_turns(turns: Turns) -> None:
    """End turns as soon as no thread makes a batch."""
    while not try_to_stop(turns):
        await_turn(turns)


def try_to_stop(turns: Turns) -> bool:
    """End turns, unless a thread makes a batch; return whether they have ended."""
    try:
        turns.close()
    except ValueError as error:
        if not is_refused(error):
            raise
        return False
    return True
