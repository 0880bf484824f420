"""Sources made of several sources: side by side, or one of them for each batch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .. import batch as nested
from ..arguments import check_integer
from ..batch import Batch
from ..feeds import ChoiceFeed, CompositeFeed
from ..indices import ChoiceBatch
from ..joint_plan import ChoicePlan, Chooser, CompositePlan, Spread, Turns, smallest
from ..options import Options, given_facts
from ..plan import Plan, Request
from ..rng import Path, Shuffle
from ..stream import Stream
from .base import AbstractDataSource, DerivedDataSource


class _JoinedDataSource(DerivedDataSource):
    """The common part of sources over a list of sources, kept in `datasets`."""

    def __init__(self, datasets: Sequence[AbstractDataSource]) -> None:
        if not isinstance(datasets, (list, tuple)):
            raise TypeError(f'datasets must be a list or tuple of data sources, got {type(datasets).__name__}')
        if not datasets:
            raise ValueError(f'a {type(self).__name__} needs at least one data source')
        super().__init__(datasets)
        self.datasets = datasets

    def _copied_bytes(self, batch_size: int) -> float:
        return sum(member._copied_bytes(batch_size) for member in self._members)

    def _member_plans(self, options: Options, path: Path) -> list[Plan]:
        return [member._make_plan(options, (*path, k)) for k, member in enumerate(self._members)]

    def _member_streams(self, batch_size: int, kwargs: Mapping[str, Any], path: Path) -> list[Stream]:
        return [member._open(batch_size, kwargs, (*path, k)) for k, member in enumerate(self._members)]


class CompositeDataSource(_JoinedDataSource):
    """A batch from every member, side by side, until the first member ends.

    Parameters
    ----------
    datasets : list or tuple of data sources
        The members.
    flatten : bool
        Whether batches are flat tuples; otherwise they are nested as the members are.
    trim : bool
        Whether the parts of a batch are cut to the length of the shortest.
    """

    def __init__(self, datasets: Sequence[AbstractDataSource], flatten: bool = True, trim: bool = True) -> None:
        super().__init__(datasets)
        self.flatten = flatten
        self.trim = trim

    def num_samples(self, **kwargs: Any) -> int | float | None:
        """Return the smallest number of samples of a member; `None` if one is unknown."""
        return smallest([member.num_samples(**kwargs) for member in self._members])

    def _join(self, parts: Batch) -> Batch:
        """Make a batch of the members' batches."""
        batch: Batch = nested.trim(parts) if self.trim else parts
        return nested.flatten(batch) if self.flatten else batch

    def _samples(self, method: str, indices: Any) -> Batch:
        if not isinstance(indices, (list, tuple)) or len(indices) != len(self._members):
            got = f'{len(indices)} parts' if isinstance(indices, (list, tuple)) else type(indices).__name__
            raise ValueError(f'indices must be a list with a part for each of {len(self._members)} members, got {got}')
        return self._join(tuple(getattr(member, method)(part) for member, part in zip(self._members, indices)))

    def _make_own_plan(self, options: Options, path: Path) -> Plan:
        return CompositePlan(self._member_plans(options, path), options.shuffle, self.trim)

    def _fetch_own(self, request: Request, path: Path) -> Iterator[Batch]:
        parts = [
            member._fetch(request._replace(indices=indices), (*path, k))
            for k, (member, indices) in enumerate(zip(self._members, request.indices))
        ]
        return map(self._join, zip(*parts))

    def _join_streams(self, batch_size: int, kwargs: Mapping[str, Any], path: Path) -> Stream:
        streams = self._member_streams(batch_size, kwargs, path)
        return Stream(CompositeFeed(streams, self._join, given_facts(batch_size, kwargs)))


class ChoiceDataSource(_JoinedDataSource):
    """Each batch from one member.

    Parameters
    ----------
    datasets : list or tuple of data sources
        The members.
    stratified : bool
        Whether every batch of every member is used: spread evenly over the epoch in order,
        in random order if shuffled. Otherwise members take turns, in order, or shuffled in a
        new random order every round, until one has ended. Members that are all endless take
        turns in any case.
    """

    def __init__(self, datasets: Sequence[AbstractDataSource], stratified: bool = False) -> None:
        super().__init__(datasets)
        self.stratified = stratified

    def num_samples(self, **kwargs: Any) -> int | float:
        """Return the sum of the members' numbers of samples; unknown ones count as 0."""
        return sum(member.num_samples(**kwargs) or 0 for member in self._members)

    def _samples(self, method: str, indices: Any) -> Batch:
        if not isinstance(indices, ChoiceBatch):
            raise TypeError(f'indices must be a ChoiceBatch(sample_indices, ds_index), got {type(indices).__name__}')
        if not 0 <= check_integer('ds_index', indices.ds_index) < len(self._members):
            raise IndexError(f'ds_index must be below {len(self._members)}, got {indices.ds_index}')
        batch: Batch = getattr(self._members[indices.ds_index], method)(indices.sample_indices)
        return batch

    def _chooser(self, lengths: Sequence[int | float | None], shuffle: Shuffle, path: Path) -> Chooser:
        if not self.stratified or all(length == math.inf for length in lengths):
            return Turns(lengths, shuffle, path)
        counts: list[int] = []
        for number, length in enumerate(lengths):
            if length is None or length == math.inf:
                raise ValueError(
                    f'a stratified choice needs to know the number of batches of every member, but that of data source '
                    f'{number} is {"unknown" if length is None else "infinite"}; use stratified=False'
                )
            counts.append(int(length))
        return Spread(counts, shuffle, path)

    def _make_own_plan(self, options: Options, path: Path) -> Plan:
        plans = self._member_plans(options, path)
        chooser = self._chooser([plan.length for plan in plans], options.shuffle, path)
        return ChoicePlan(plans, options.shuffle, chooser)

    def _fetch_own(self, request: Request, path: Path) -> Iterator[Batch]:
        indices, k = request.indices
        batches: Iterator[Batch] = self._members[k]._fetch(request._replace(indices=indices), (*path, k))
        return batches

    def _join_streams(self, batch_size: int, kwargs: Mapping[str, Any], path: Path) -> Stream:
        streams = self._member_streams(batch_size, kwargs, path)
        shuffle = Shuffle.coerce(kwargs.get('shuffle'), kwargs.get('epoch', 0))
        chooser = self._chooser([stream.length for stream in streams], shuffle, path)
        return Stream(ChoiceFeed(streams, chooser, given_facts(batch_size, kwargs)))
