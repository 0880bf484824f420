"""Sources whose batches workers make, ahead of the user and in order."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn

from .._ground.arguments import BatchSize, check_keywords, check_positive
from .._ground.calls import names_class
from .._ground.randomness import Path
from .._plans.options import KEYWORDS, Asked, Options
from .._plans.plan import Plan
from .._sources.base import AbstractDataSource
from .._sources.reading import planned_feed
from .._streams.planned import PlannedFeed
from .._streams.stream import Stream
from .channel import Channel
from .mapper import Makers, WorkersMapper

if TYPE_CHECKING:
    from .pool import WorkerPool


class ParallelDataSource(AbstractDataSource):
    """The batches of a source, made by the workers of a pool.

    They are the same, in the same order, as those of the source itself, and so are the states
    of its streams. Made by `pool.parallel_data_source(ds)`.
    """

    def __init__(self, ds: AbstractDataSource, pool: WorkerPool, batch_buffer_size: int = 20) -> None:
        if not isinstance(ds, AbstractDataSource):
            raise TypeError(
                f'ds must be a data source, got {type(ds).__name__}; coerce_data_source makes one from arrays'
            )
        if not ds.is_random_access:
            raise TypeError(
                f'ds must be random access: workers read batches by their indices, which {type(ds).__name__} cannot'
            )
        self._buffer_size = check_positive('batch_buffer_size', batch_buffer_size)
        self.source = ds
        self.pool = pool
        self._constant = pool._share(ds)
        # Channels of streams that have ended, with their memory, by batch size: batches of another
        # size need other memory.
        self._idle: dict[BatchSize, list[Channel]] = {}

    def _words(self) -> str:
        return f'{self.source!r}, {self.pool!r}'

    def num_samples(self, **kwargs: Any) -> int | float | None:
        """Return the number of samples of the source."""
        check_keywords(f'{type(self).__name__}.num_samples', kwargs, KEYWORDS[1:])
        return self.source.num_samples(**kwargs)

    @names_class
    def batch_iterator(
        self,
        batch_size: BatchSize,
        shuffle: Any = None,
        *,
        epoch: int = 0,
        drop_last: bool = False,
        shard: tuple[int, int] | str | None = None,
        uneven: str = 'share',
        **unknown: NoReturn,
    ) -> Stream:
        """Return a stream over the batches of an epoch, and have the workers begin with them.

        Parameters are those of `RandomAccessDataSource.batch_iterator`. A `RandomState` or a
        `Generator` is drawn from at once, and ahead of the batches.
        """
        check_keywords(f'{type(self).__name__}.batch_iterator', unknown, KEYWORDS)
        options = Options.check(batch_size, shuffle, epoch, drop_last, shard, uneven)
        return self._open_plan(self.source._make_plan, options, ())

    def _random_functions(self) -> int:
        return self.source._random_functions()

    def _open(self, asked: Asked, path: Path) -> Stream:
        return self._open_plan(self.source._make_plan, asked.options(type(self).__name__), path)

    def _in_caller(self, method: str) -> AbstractDataSource:
        return self.source

    def _plan_parts(self) -> list[Any]:
        return [self.source, *self.source._plan_parts()]

    def _count_batches(self, asked: Asked) -> int | float | None:
        return self.source._plan_apart(asked).length

    def _check_asked(self, asked: Asked) -> None:
        self.pool._check_open()
        self.source._plan_apart(asked)

    def _follows_plan(self) -> bool:
        return True

    def _open_endless(self, asked: Asked, path: Path) -> Stream:
        options = asked.options(type(self).__name__)
        return self._open_plan(self.source._make_endless_plan, options, path)

    def _open_plan(self, make_plan: Callable[[Options, Path], Plan], options: Options, path: Path) -> Stream:
        """Open a stream over a plan, and have the workers begin with its batches."""
        self.pool._check_open()
        plan = make_plan(options, path)
        if Makers.only_caller(self.pool, self.source._copied_bytes(options.batch_size)):
            self.pool._warn()
            return Stream(self._feed_of_caller(plan, options, path))
        return Stream(self._feed_of_workers(plan, options, path))

    def _feed_of_workers(self, plan: Plan, options: Options, path: Path) -> PlannedFeed:
        """Return a feed whose batches workers make."""
        at_once = self.source._batches_at_once(options.batch_size)
        return PlannedFeed(plan, self._mapper(plan, options, path), options.facts(), options.shard, at_once)

    def _mapper(self, plan: Plan, options: Options, path: Path) -> WorkersMapper:
        """Return what carries requests to the workers, and batches back."""
        idle = self._idle.setdefault(options.batch_size, [])
        copied = self.source._copied_bytes(options.batch_size) if plan.pure else math.inf
        at_once = self.source._batches_at_once(options.batch_size)
        return WorkersMapper(self, idle, path, copied, at_once)

    def _feed_of_caller(self, plan: Plan, options: Options, path: Path) -> PlannedFeed:
        """Return a feed whose batches the caller makes."""
        feed = planned_feed(self.source, plan, options, path)
        if feed.sequential:
            with suppress(Exception):  # which arrives at the first batch
                feed.prepare()
        return feed
