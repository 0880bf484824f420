"""What workers run: functions, and requests for batches."""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Any, NamedTuple

import numpy as np

from .._ground.batch import Batch, Columns, Destination, Memory
from .._ground.randomness import Path
from .._plans.plan import Request
from .._sources.base import AbstractDataSource
from .._sources.reading import read_batches
from .._streams.makings import Watch, Work
from .failures import Failure

# Batches that were fetched, in order.
Parts = list[Columns | list[Batch]]


class SharedConstant:
    """A value that is sent to each worker once.

    Made by `pool.shared_constant(value)`. A function that has one as an
    argument gets the value.

    Attributes
    ----------
    value : object
        The value.
    """

    def __init__(self, value: Any) -> None:
        self.value = value
        # What a pool has made of it for its workers.
        self.shipment: object = None

    def __repr__(self) -> str:
        return f'SharedConstant({self.value!r})'


def unwrapped(value: Any) -> Any:
    """Return the value of a constant, and anything else as it is."""
    return value.value if isinstance(value, SharedConstant) else value


class Result(NamedTuple):
    """What came of a job.

    Attributes
    ----------
    value : object
        What a function returned; for a fetch, the batches up to a failure, in several parts.
    failure : Failure or None
        What went wrong.
    seconds : float
        How long the job ran.
    work : Work, optional
        What else is known of how a fetch was run.
    """

    value: Any
    failure: Failure | None
    seconds: float = 0.0
    work: Work | None = None


class Job(abc.ABC):
    """What a worker runs."""

    @abc.abstractmethod
    def run(self, memory: Memory | None = None) -> Result:
        """Run the job, and write its result into the given memory if possible. Errors are returned, and not raised."""

    @abc.abstractmethod
    def constants(self) -> list[SharedConstant]:
        """Return the constants that it needs."""

    def run_here(self) -> Result:
        """Run the job in the user's own thread: an interrupt is raised, and not returned."""
        result = self.run()
        if result.failure is not None and isinstance(result.failure.error, KeyboardInterrupt):
            result.failure.throw()
        return result


@dataclass(eq=False)
class Call(Job):
    """A function to call."""

    fn: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    def run(self, memory: Memory | None = None) -> Result:
        try:
            args = [unwrapped(argument) for argument in self.args]
            kwargs = {name: unwrapped(argument) for name, argument in self.kwargs.items()}
            return Result(unwrapped(self.fn)(*args, **kwargs), None)
        except BaseException as error:
            return Result(None, Failure(error))

    def constants(self) -> list[SharedConstant]:
        values = (self.fn, *self.args, *self.kwargs.values())
        return [value for value in values if isinstance(value, SharedConstant)]


@dataclass(eq=False)
class Fetch(Job):
    """Batches to read from a source."""

    source: SharedConstant
    requests: tuple[Request, ...]
    path: Path = ()

    def run(self, memory: Memory | None = None) -> Result:
        watch, failure = Watch(), None
        parts: Parts = []
        try:
            source: AbstractDataSource = self.source.value
            for request in self.requests:
                _fetch(source, request, self.path, Destination(memory or _no_memory, stages=watch.stages), parts)
        except BaseException as error:
            failure = Failure(error)
        work = watch.work()
        return Result(parts, failure, work.seconds, work)

    def constants(self) -> list[SharedConstant]:
        return [self.source]


def _no_memory(shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Give no memory: what is read takes its own."""


def _fetch(source: AbstractDataSource, request: Request, path: Path, to: Destination, parts: Parts) -> None:
    """Append the batches of a request to `parts`, up to the first that fails."""
    fetched = read_batches(source, request, path, to)
    if isinstance(fetched, Columns) and len(fetched) > 1:
        parts.append(fetched)
    else:  # nothing refers to the memory of a single batch but the batch
        batches: list[Batch] = []
        parts.append(batches)
        for batch in fetched:
            batches.append(batch)


def batches_of(parts: Parts) -> Iterator[Batch]:
    """Go through the batches that were fetched."""
    return chain.from_iterable(parts)


def take_batches(parts: Parts) -> Iterator[Batch]:
    """Go through the batches that were fetched, and let go of each as it is given."""
    return chain.from_iterable(part if isinstance(part, Columns) else _taken(part) for part in parts)


def _taken(batches: list[Batch]) -> Iterator[Batch]:
    batches.reverse()
    return map(list.pop, repeat(batches, len(batches)))


def count_of(parts: Parts) -> int:
    """Return the number of batches that were fetched."""
    return sum(map(len, parts))
