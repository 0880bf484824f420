"""What sources over a list of sources have in common."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from .._ground.arguments import BatchSize, member_sizes
from .._ground.randomness import Path
from .._ground.words import listing
from .._plans.options import Asked, Options
from .._plans.plan import Plan
from .._plans.repeated import round_path
from .._streams.members import RepeatedFeed
from .._streams.stream import Stream
from .base import AbstractDataSource, DerivedDataSource

# The plan of a member, or its stream: both have a length, and may be empty.
Ended = TypeVar('Ended', bound=Plan | Stream)


class JoinedDataSource(DerivedDataSource):
    """The common part of sources over a list of sources, kept in `datasets`."""

    def __init__(self, datasets: Sequence[AbstractDataSource]) -> None:
        if not isinstance(datasets, (list, tuple)):
            raise TypeError(
                f'datasets must be a list or tuple of data sources, got {type(datasets).__name__}; write [a, b]'
            )
        if not datasets:
            raise ValueError(f'a {type(self).__name__} needs at least one data source')
        super().__init__(datasets)
        self.datasets = datasets

    def _words(self) -> str:
        return ', '.join([listing(self.datasets), *self._options_in_words()])

    def _options_in_words(self) -> list[str]:
        """Name the arguments that are not the defaults."""
        return []

    def _opened(self, asked: Asked) -> list[tuple[AbstractDataSource, Asked]]:
        return list(zip(self._members, asked.of_members(len(self._members))))

    def _copied_bytes(self, batch_size: BatchSize) -> float:
        sizes = member_sizes(batch_size, len(self._members))
        return sum(member._copied_bytes(size) for member, size in zip(self._members, sizes))

    def _member_plans(self, options: Options, path: Path) -> tuple[list[Plan], Callable[[int], Plan]]:
        """Return the plans of the members, and a function that makes the plan of member k that starts again."""
        parts = options.of_members(len(self._members))
        plans = [member._make_plan(part, (*path, k)) for k, (member, part) in enumerate(zip(self._members, parts))]
        return plans, lambda k: self._members[k]._make_endless_plan(parts[k], (*path, k), plans[k])

    def _member_streams(self, asked: Asked, path: Path) -> tuple[list[Stream], Callable[[int], Stream]]:
        """Return the streams of the members, and a function that makes the stream of member k that starts again."""
        parts = asked.of_members(len(self._members))
        streams = [member._open(part, (*path, k)) for k, (member, part) in enumerate(zip(self._members, parts))]
        return streams, lambda k: _repeat_stream(self._members[k], streams[k], parts[k], (*path, k))


def _repeat_stream(member: AbstractDataSource, first: Stream, asked: Asked, path: Path) -> Stream:
    """Return a stream over a member that starts again whenever its epoch has ended."""
    if first.length == math.inf:
        return first
    if member._has_plan() or (member._follows_plan() and not first.feed.sequential):
        first.close()
        return member._open_endless(asked, path)
    # Workers may have drawn from a sequential generator by now.
    return Stream(RepeatedFeed(first, lambda r: member._open(asked, round_path(path, r))))


def check_endless(members: Mapping[int, Plan | Stream]) -> None:
    """Raise `ValueError` if a member that is to start again has no batches, or may have none."""
    for number, member in members.items():
        if member.empty:
            raise ValueError(f'data source {number} has no batches, and so cannot start again; leave it out')
        if member.empty is None:
            raise ValueError(
                f'data source {number} cannot start again: shuffled, it may have no batches, since it can begin with a '
                'data source that has none; leave that out'
            )


def check_known(what: str, lengths: Mapping[int, int | float | None]) -> None:
    """Raise `ValueError` if the number of batches of a member is not known."""
    for number, length in lengths.items():
        if length is None:
            raise ValueError(
                f'{what} needs to know the number of batches of every member, but that of data source {number} '
                'is unknown; give it a number of samples, shuffle by a seed, or use another stop'
            )
