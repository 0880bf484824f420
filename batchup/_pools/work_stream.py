"""Functions that run in workers, with their results in order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import count, islice
from typing import TYPE_CHECKING, Any, NoReturn

from .._ground.arguments import check_positive
from .._ground.messages import add_note
from .._streams.turns import ProcessLock
from .channel import DoneTask, Task, UnderWay
from .failures import Failure
from .jobs import Call, Result

if TYPE_CHECKING:
    from .pool import WorkerPool


class _Entry(list[Any]):
    """A list: what a user asked for, its number, and, once it was handed over, its `Task`."""

    def withdraw(self) -> None:
        """Take it back, unless a worker has begun with it."""
        for task in self[2:]:
            task.withdraw()


class WorkStream:
    """Results of tasks that run in the workers of a pool, in order.

    Made by `pool.work_stream(tasks)`. Tasks are handed over from then on, as many as may wait.

    >>> from batchup.work_pool import WorkerThreadPool
    >>> with WorkerThreadPool(2) as pool:
    ...     list(pool.work_stream((pow, (n, 2)) for n in range(4)).retrieve_iter())
    [0, 1, 4, 9]
    """

    def __init__(self, task_generator: Iterable[tuple[Any, ...]], pool: WorkerPool, task_buffer_size: int = 20) -> None:
        self._buffer_size = check_positive('task_buffer_size', task_buffer_size)
        if not isinstance(task_generator, Iterable):
            raise TypeError(f'task_generator must be iterable, got {type(task_generator).__name__}')
        self._numbers = count()
        # All in C, so that no interrupt comes before what was taken from the generator is kept.
        self._asked = map(_Entry, zip(task_generator, self._numbers))
        self._pool = pool
        self._lock = ProcessLock()
        self._channel = pool._open_channel(self._buffer_size)
        self._taken = UnderWay()
        # What the task generator has raised, until it gives another task.
        self._raised = ''
        self._fill(self._buffer_size)

    def retrieve(self) -> Any:
        """Return the next result, or `None` if there are no more.

        Several threads may call this: each result goes to one of them.

        Raises
        ------
        Exception
            What the task has raised, of the same type, or what the task generator has raised.
        RuntimeError
            If the task generator has ended by an error: what it has not given yet is lost.
        """
        for value in self.retrieve_iter():
            return value
        return None

    def retrieve_iter(self) -> Iterator[Any]:
        """Go through the results that are left; a result may be `None`."""
        while True:
            entry = None
            try:
                # Threads may share a stream: each result goes to one of them.
                with self._lock:
                    self._pool._check_process()
                    self._hand_over()  # what an interrupt has kept from it
                    if not self._taken:
                        return
                    value, failure, *_ = self._receive(*self._taken[0][1:])
                    self._fill(self._buffer_size + 1)
                    entry = self._taken[0]
                    del self._taken[0]
            except BaseException:
                if entry is not None and entry not in islice(self._taken, 1):
                    # An interrupt has come before the user had the result: it is asked for again.
                    self._taken.appendleft(entry)
                raise
            del entry
            if failure is not None:
                try:
                    raise failure.error
                finally:
                    # An error and a frame that refer to each other are freed late.
                    del failure
            yield value

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError('a stream of results cannot be copied or pickled: its tasks are under way; make another one')

    def _receive(self, number: int, task: Task) -> Result:
        """Wait for the result of a task; after an interrupt, it can be asked for again."""
        try:
            result = task.result(self._pool.timeout)
        except Exception as error:
            result = Result(None, Failure(error))
        finally:
            self._pool._warn()
        if result.failure is not None:
            add_note(result.failure.error, f'in task {number}')
        return result

    def _fill(self, most: int) -> None:
        """Take tasks and hand them over, until there are `most`; after an interrupt, go on where that came."""
        self._hand_over()
        while len(self._taken) < most:
            try:
                self._taken.extend(islice(self._asked, 1))
            except Exception as error:
                self._raised = repr(error)
                self._put_off(error)
                return
            if not self._hand_over():
                if self._raised:
                    message = f'the task generator has ended with an error, {self._raised}: it gives no more tasks'
                    self._raised = ''
                    self._put_off(RuntimeError(message))
                return
            self._raised = ''

    def _put_off(self, error: Exception) -> None:
        """Have an error arrive at its place among the results."""
        self._taken.append(_Entry([None, next(self._numbers), DoneTask.failed(error)]))

    def _hand_over(self) -> bool:
        """Hand over the last task that was taken, unless that was done before; return whether it was done now."""
        if not self._taken or len(self._taken[-1]) == 3:
            return False
        asked, number = self._taken[-1]
        try:
            self._pool._check_open()
            self._taken[-1].append(self._channel.submit(_call(number, asked)))
        except Exception as error:
            self._taken[-1].append(DoneTask.failed(error))
        self._taken[-1][0] = None
        return True


def _call(number: int, task: Any) -> Call:
    """Make a job of the tuple that a user has given as a task."""
    if not isinstance(task, (tuple, list)) or not 1 <= len(task) <= 3:
        raise TypeError(f'task {number} must be (fn,), (fn, args) or (fn, args, kwargs), got {task!r}')
    fn: Any = task[0]
    args: Any = task[1] if len(task) > 1 else ()
    kwargs: Any = task[2] if len(task) > 2 else {}
    if not isinstance(args, (tuple, list)) or not isinstance(kwargs, Mapping):
        raise TypeError(f'task {number} must be (fn,), (fn, args) or (fn, args, kwargs), got {task!r}')
    return Call(fn, tuple(args), kwargs)
