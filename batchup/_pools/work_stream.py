"""Functions that run in workers, with their results in order."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NoReturn

from ..arguments import check_integer
from ..errors import add_note
from ..turns import ProcessLock
from .channel import Backend, Channel
from .failures import Failure
from .jobs import Call, Result


class WorkStream:
    """Results of tasks that run in the workers of a pool, in order.

    Made by `pool.work_stream(tasks)`. Tasks are handed over from then on, as many as may wait.

    >>> from batchup.work_pool import WorkerThreadPool
    >>> with WorkerThreadPool(2) as pool:
    ...     list(pool.work_stream((pow, (n, 2)) for n in range(4)).retrieve_iter())
    [0, 1, 4, 9]
    """

    def __init__(self, task_generator: Iterable[tuple[Any, ...]], pool: Backend, task_buffer_size: int = 20) -> None:
        self._buffer_size = check_integer('task_buffer_size', task_buffer_size)
        if self._buffer_size < 1:
            raise ValueError(f'task_buffer_size must be at least 1, got {task_buffer_size}')
        if not isinstance(task_generator, Iterable):
            raise TypeError(f'task_generator must be iterable, got {type(task_generator).__name__}')
        self._tasks = iter(task_generator)
        self._number = self._received = 0
        self._pool = pool
        self._lock = ProcessLock()
        self._channel = pool._open_channel(self._buffer_size)
        self._pending: deque[Any] = deque()
        self._errors: deque[Exception] = deque()
        weakref.finalize(self, _withdraw, self._channel, self._pending).atexit = False
        self._fill()

    def retrieve(self) -> Any:
        """Return the next result, or `None` if there are no more.

        Several threads may call this: each result goes to one of them.

        Raises
        ------
        Exception
            What the task has raised, of the same type.
        """
        return next(self.retrieve_iter(), None)

    def retrieve_iter(self) -> Iterator[Any]:
        """Go through the results that are left; a result may be `None`."""
        while True:
            # Threads may share a stream: each result goes to one of them.
            with self._lock:
                self._pool._check_process()
                if not self._pending:
                    return
                result = self._receive(self._pending.popleft())
                number = self._received
                self._received += 1
                self._fill()
            if result.failure is not None:
                add_note(result.failure.error, f'in task {number}')
                result.failure.throw()
            value = result.value
            del result
            yield value

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError('a stream of results cannot be copied or pickled: its tasks are under way; make another one')

    def _receive(self, pending: Any) -> Result:
        if pending is None:
            return Result(None, Failure(self._errors.popleft()))
        try:
            return self._channel.receive(pending)
        except KeyboardInterrupt:
            self._pending.appendleft(pending)
            raise
        finally:
            self._pool._warn()

    def _fill(self) -> None:
        """Hand over tasks until as many are under way as may wait."""
        while len(self._pending) < self._buffer_size:
            try:
                task = next(self._tasks)
            except StopIteration:
                return
            except Exception as error:  # it arrives at its place among the results
                self._put_off(error)
                return
            try:
                self._pending.append(self._channel.submit(_call(self._number, task)))
            except Exception as error:
                self._put_off(error)
            self._number += 1

    def _put_off(self, error: Exception) -> None:
        """Have an error raised where its result would be."""
        # Not in `_pending`: it refers to this stream, for the end of which that is kept.
        self._errors.append(error)
        self._pending.append(None)


def _withdraw(channel: Channel[Any], pending: deque[Any]) -> None:
    """Take back the tasks of a stream that has gone, unless a worker has begun with them."""
    for one in pending:
        if one is not None:
            channel.withdraw(one)


def _call(number: int, task: Any) -> Call:
    """Return what a task says to call."""
    if not isinstance(task, (tuple, list)) or not 1 <= len(task) <= 3:
        raise TypeError(f'task {number} must be (fn,), (fn, args) or (fn, args, kwargs), got {task!r}')
    fn: Any = task[0]
    args: Any = task[1] if len(task) > 1 else ()
    kwargs: Any = task[2] if len(task) > 2 else {}
    if not isinstance(args, (tuple, list)) or not isinstance(kwargs, Mapping):
        raise TypeError(f'task {number} must be (fn,), (fn, args) or (fn, args, kwargs), got {task!r}')
    return Call(fn, tuple(args), kwargs)
