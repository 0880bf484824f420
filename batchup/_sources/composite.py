"""Sources made of several sources: side by side, or one of them for each batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from .._ground import batch as nested
from .._ground.arguments import BatchSize, check_flag, check_integer, check_told, member_sizes
from .._ground.batch import Batch
from .._ground.indices import ChoiceBatch, IndexTree, SizedParts, leaf_lengths
from .._ground.randomness import Path, Shuffle
from .._plans.choices import Chooser, Mixture, Spread, check_stop, check_weights, make_choices
from .._plans.joint import ChoicePlan, CompositePlan, repeat_plan, round_path, smallest
from .._plans.options import Options, given_facts
from .._plans.plan import Plan, Request
from .._streams.members import ChoiceFeed, CompositeFeed, RepeatedFeed
from .._streams.stream import Feed, Stream
from .base import AbstractDataSource, DerivedDataSource, samples_of

# A plan or a feed, both of which have an end.
Ended = TypeVar('Ended', bound=Plan | Feed)


class _JoinedDataSource(DerivedDataSource):
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

    def _copied_bytes(self, batch_size: BatchSize) -> float:
        sizes = member_sizes(batch_size, len(self._members))
        return sum(member._copied_bytes(size) for member, size in zip(self._members, sizes))

    def _member_plans(self, options: Options, path: Path) -> list[Plan]:
        parts = options.of_members(len(self._members))
        return [member._make_plan(part, (*path, k)) for k, (member, part) in enumerate(zip(self._members, parts))]

    def _repeat_plans(self, plans: list[Plan], but: int | None, options: Options, path: Path) -> list[Plan]:
        """Return plans of the members that start again when they have ended, but for one of them."""
        parts = options.of_members(len(plans))

        def repeated(k: int) -> Plan:
            return repeat_plan(plans[k], lambda r: self._members[k]._make_plan(parts[k], round_path((*path, k), r)))

        return [plan if k == but else repeated(k) for k, plan in enumerate(plans)]

    def _member_streams(self, batch_size: BatchSize, kwargs: Mapping[str, Any], path: Path) -> list[Stream]:
        sizes = member_sizes(batch_size, len(self._members))
        return [member._open(size, kwargs, (*path, k)) for k, (member, size) in enumerate(zip(self._members, sizes))]

    def _repeat_streams(
        self, streams: list[Stream], but: int | None, batch_size: BatchSize, kwargs: Mapping[str, Any], path: Path
    ) -> list[Stream]:
        """Return streams of the members that start again when they have ended, but for one of them."""
        sizes = member_sizes(batch_size, len(streams))
        return [
            stream if k == but else _repeat_stream(member, stream, size, kwargs, (*path, k))
            for k, (member, stream, size) in enumerate(zip(self._members, streams, sizes))
        ]


def _repeat_stream(
    member: AbstractDataSource, first: Stream, batch_size: BatchSize, kwargs: Mapping[str, Any], path: Path
) -> Stream:
    """Return a stream that starts again whenever that of a member has ended."""
    if first.length == math.inf:
        return first
    if member._has_plan() or (member._follows_plan() and not first.feed.sequential):
        first.close()
        return member._open_endless(batch_size, kwargs, path)
    # Workers may have drawn from a sequential generator by now.
    return Stream(RepeatedFeed(first, lambda r: member._open(batch_size, kwargs, round_path(path, r))))


def _check_endless(members: Mapping[int, Plan | Feed]) -> None:
    """Raise `ValueError` if a member that starts again has nothing to start with, or may have nothing."""
    for number, member in members.items():
        if member.empty:
            raise ValueError(f'data source {number} has no batches, and so cannot start again; leave it out')
        if member.empty is None:
            raise ValueError(
                f'data source {number} cannot start again: shuffled, it may have no batches, since it can begin with a '
                'data source that has none; leave that out'
            )


def _check_known(what: str, lengths: Mapping[int, int | float | None]) -> None:
    """Raise `ValueError` if the number of batches of a member is not known."""
    for number, length in lengths.items():
        if length is None:
            raise ValueError(
                f'{what} needs to know the number of batches of every member, but that of data source {number} '
                'is unknown; give it a number of samples, shuffle by a seed, or use another stop'
            )


class CompositeDataSource(_JoinedDataSource):
    """A batch from every member, side by side.

    Parameters
    ----------
    datasets : list or tuple of data sources
        The members.
    flatten : bool
        Whether the batches of the members are joined to one tuple. What is within them stays
        as it is: a member that was made with `flatten=False` gives tuples. Otherwise, the batch
        of each member is a part of the batch.
    trim : bool
        Whether the parts of a batch are cut to the length of the shortest. Where members have
        batch sizes of their own, they are cut in proportion to these, rounded up.
    stop : 'shortest', 'longest' or int
        The member that ends the epoch: the shortest, the longest, or the one of this number.
        Members that end before it start again.

    Raises
    ------
    TypeError
        If a member is no data source, or `stop` neither a string nor an integer.
    ValueError
        If there is no member, or `stop` names none.

    Notes
    -----
    A member over one sampler starts again as with `repeats=-1`: a batch is filled across the
    end. Any other member, such as a composite, or draws by weight with replacement from a
    sequential generator, starts again with a new batch and in a new order. A function or a
    user's source is called once more, with the same arguments. The source of a pool starts
    again as its own source does, unless a sequential generator shuffles.

    Without random access, a member with batch sizes for members of its own is not cut.

    With `'longest'`, every member must know its number of batches; the largest number of
    samples for its batch size tells equal ones apart.

    >>> import numpy as np
    >>> from batchup.data_source import ArrayDataSource
    >>> few, many = ArrayDataSource([np.arange(2)]), ArrayDataSource([np.arange(10, 17)])
    >>> for batch in CompositeDataSource([few, many], stop='longest').batch_iterator((1, 3)):
    ...     print(*batch)
    [0] [10 11 12]
    [1] [13 14 15]
    [0] [16]
    """

    def __init__(
        self,
        datasets: Sequence[AbstractDataSource],
        flatten: bool = True,
        trim: bool = True,
        *,
        stop: int | str = 'shortest',
    ) -> None:
        super().__init__(datasets)
        self.flatten = check_flag('flatten', flatten)
        self.trim = check_flag('trim', trim)
        self.stop = self._check_stop(stop)

    def _check_stop(self, stop: int | str) -> int | str:
        expected = f"stop must be 'shortest', 'longest' or the number of one of {len(self._members)} data sources"
        if isinstance(stop, str):
            if stop not in ('shortest', 'longest'):
                raise ValueError(f'{expected}, got {stop!r}')
            return stop
        number = check_integer(f'{expected}: it', stop)
        if not -len(self._members) <= number < len(self._members):
            raise ValueError(f'{expected}, got {number}')
        return number % len(self._members)

    def num_samples(self, **kwargs: Any) -> int | float | None:
        """Return the number of samples of the member that ends the epoch; `None` if unknown.

        The shortest or the longest is the one with the fewest or the most samples.
        """
        self._check_num_samples(kwargs)
        if isinstance(self.stop, int):
            return self._members[self.stop]._told_samples(kwargs)
        samples = [member._told_samples(kwargs) for member in self._members]
        if self.stop == 'shortest':
            return smallest(samples)
        return max((n for n in samples if n is not None), default=None) if None not in samples else None

    def _last(
        self, lengths: Sequence[int | float | None], batch_size: BatchSize, kwargs: Mapping[str, Any]
    ) -> int | None:
        """Return the number of the member that ends the epoch, if others start again until then."""
        if self.stop == 'shortest':
            return None
        numbered = dict(enumerate(lengths))
        if self.stop == 'longest':
            _check_known("stop='longest'", numbered)
            sizes = member_sizes(batch_size, len(self._members))
            filled = [_filled_batches(member, size, kwargs) for member, size in zip(self._members, sizes)]
            last = max(numbered, key=lambda number: (numbered[number], filled[number]))
        else:
            last = int(self.stop)
        return last

    def _starting_again(self, members: Sequence[Ended], last: int) -> dict[int, Ended]:
        """Return the members that start again until the `last` one ends; in another epoch, another may be longest."""
        fixed = self.stop != 'longest' or len(members) == 1
        return {number: member for number, member in enumerate(members) if number != last or not fixed}

    def _join(self, parts: Batch) -> Batch:
        """Make a batch of the members' batches."""
        return self._flatten(nested.trim(parts) if self.trim else parts)

    def _join_sized(self, sizes: Sequence[BatchSize], parts: Batch) -> Batch:
        """Make a batch of the batches of members with sizes of their own."""
        return self._flatten(nested.trim_parts(parts, sizes) if self.trim else parts)

    def _joiner(self, indices: IndexTree, n_batches: int = 1) -> Callable[[Batch], Batch]:
        """Return what makes a batch of those that members read by indices, which the plan has cut already."""
        if isinstance(indices, SizedParts):
            return partial(self._join_sized, _sizes_read(indices, n_batches))
        return self._join

    def _flatten(self, batch: Batch) -> Batch:
        return nested.join(batch) if self.flatten else batch

    def _samples(self, method: str, indices: Any, path: Path) -> Batch:
        if not isinstance(indices, (list, tuple)) or len(indices) != len(self._members):
            got = f'{len(indices)} parts' if isinstance(indices, (list, tuple)) else type(indices).__name__
            raise ValueError(f'indices must be a list with a part for each of {len(self._members)} members, got {got}')
        pairs = enumerate(zip(self._members, indices))
        return self._joiner(indices)(tuple(samples_of(member, method, part, (*path, k)) for k, (member, part) in pairs))

    def _make_own_plan(self, options: Options, path: Path) -> Plan:
        plans = self._member_plans(options, path)
        last = self._last([plan.length for plan in plans], options.batch_size, {})
        if last is not None and not plans[last].empty:
            plans = self._repeat_plans(plans, last, options, path)
            _check_endless(self._starting_again(plans, last))
        return CompositePlan(plans, options.shuffle, self.trim, options.batch_size)

    def _fetch_own(self, request: Request, path: Path) -> Iterator[Batch]:
        parts = [
            member._fetch(request._replace(indices=indices), (*path, k))
            for k, (member, indices) in enumerate(zip(self._members, request.indices))
        ]
        return map(self._joiner(request.indices, request.n_batches), map(nested.side_by_side, *parts))

    def _join_streams(self, batch_size: BatchSize, kwargs: Mapping[str, Any], path: Path) -> Stream:
        streams = self._member_streams(batch_size, kwargs, path)
        last = self._last([stream.length for stream in streams], batch_size, kwargs)
        if last is not None and not streams[last].feed.empty:
            streams = self._repeat_streams(streams, last, batch_size, kwargs, path)
            _check_endless(self._starting_again([stream.feed for stream in streams], last))
        join = partial(self._join_sized, batch_size) if isinstance(batch_size, tuple) else self._join
        return Stream(CompositeFeed(streams, join, given_facts(batch_size, kwargs)))


def _sizes_read(indices: SizedParts, n_batches: int) -> tuple[BatchSize, ...]:
    """Return how many samples each member reads for a batch; `()` for a member that is not to be cut."""
    return tuple(() if _is_sized(part) else min(leaf_lengths(part)) // n_batches or () for part in indices)


def _is_sized(part: IndexTree) -> bool:
    """Say whether the parts of a member's batch have sizes of their own."""
    while isinstance(part, ChoiceBatch):
        part = part.sample_indices
    return isinstance(part, SizedParts)


def _filled_batches(member: AbstractDataSource, batch_size: BatchSize, kwargs: Mapping[str, Any]) -> float:
    """Return how many whole batches a member fills, and which part of one more; 0 if that is not known."""
    try:
        samples = member.num_samples(**kwargs)
    except (NotImplementedError, TypeError):  # not told, or not for these keywords
        samples = None
    samples = check_told(member, 'num_samples', samples)
    return 0 if samples is None or isinstance(batch_size, tuple) else samples / batch_size


class ChoiceDataSource(_JoinedDataSource):
    """Each batch from one member.

    Parameters
    ----------
    datasets : list or tuple of data sources
        The members.
    stratified : bool
        Whether every batch of every member is used: spread evenly over the epoch in order,
        in random order if shuffled. Otherwise members take turns, in order, or shuffled in a
        new random order every round. Members that are all endless take turns in any case.
    weights : 1-D array-like of numbers, optional
        How often each member is chosen, in place of turns; they need not sum to 1. Shuffled,
        the member of each batch is drawn by weight, whatever was drawn before. In order,
        members are spread evenly by weight.
    stop : 'first', 'all' or int
        When the epoch ends: in place of a batch of a member that has ended; when every member
        has given as many batches as it has; or after so many batches. Except for `'first'`,
        members that have ended start again, as in a `CompositeDataSource`.

    Raises
    ------
    TypeError
        If a member is no data source, or `stop` neither a string nor an integer.
    ValueError
        If there is no member; if weights are negative, NaN or infinite, sum to 0 or are not as
        many as members; if `stop` is another string or below 1; if `weights` or `stop` is given
        with `stratified=True`.

    Notes
    -----
    A member of weight 0 is never chosen, and `stop` does not wait for it.

    With weights and a seed, to come to batch k the members of all batches before it are drawn,
    about 15 nanoseconds each, and once for a stream; so they are to count the batches of an
    epoch with `'first'` or `'all'`. A `RandomState` or a `Generator` draws
    `rng.choice(len(datasets), p=weights)` for each batch, before what the member draws.

    >>> import numpy as np
    >>> from batchup.data_source import ArrayDataSource
    >>> often, rarely = ArrayDataSource([np.arange(4)]), ArrayDataSource([np.arange(10, 12)])
    >>> mixed = ChoiceDataSource([often, rarely], weights=[3, 1], stop=6)
    >>> [int(x[0]) for x, in mixed.batch_iterator(1)]
    [0, 10, 1, 2, 3, 11]
    """

    def __init__(
        self,
        datasets: Sequence[AbstractDataSource],
        stratified: bool = False,
        *,
        weights: ArrayLike | None = None,
        stop: int | str = 'first',
    ) -> None:
        super().__init__(datasets)
        self.stratified = check_flag('stratified', stratified)
        self.weights = check_weights(weights, len(self._members))
        self.stop = check_stop(stop)
        if self.stratified and (weights is not None or self.stop != 'first'):
            given = 'weights' if weights is not None else f'stop={stop!r}'
            raise ValueError(f'give either stratified=True, which uses every batch of every member once, or {given}')

    def num_samples(self, **kwargs: Any) -> int | float:
        """Return the sum of the members' numbers of samples; unknown ones count as 0."""
        self._check_num_samples(kwargs)
        return sum(member._told_samples(kwargs) or 0 for member in self._members)

    def _samples(self, method: str, indices: Any, path: Path) -> Batch:
        if not isinstance(indices, ChoiceBatch):
            raise TypeError(f'indices must be a ChoiceBatch(sample_indices, ds_index), got {type(indices).__name__}')
        if not 0 <= check_integer('ds_index', indices.ds_index) < len(self._members):
            raise IndexError(f'ds_index must be below {len(self._members)}, got {indices.ds_index}')
        k = indices.ds_index
        return samples_of(self._members[k], method, indices.sample_indices, (*path, k))

    def _chooser(self, lengths: Sequence[int | float | None], shuffle: Shuffle, path: Path) -> Chooser:
        if not self.stratified or all(length == math.inf for length in lengths):
            return self._mixture(lengths, shuffle, path)
        counts: list[int] = []
        for number, length in enumerate(lengths):
            if length is None or length == math.inf:
                raise ValueError(
                    f'a stratified choice needs to know the number of batches of every member, but that of data source '
                    f'{number} is {"unknown" if length is None else "infinite"}; use stratified=False'
                )
            counts.append(int(length))
        return Spread(counts, shuffle, path)

    def _mixture(self, lengths: Sequence[int | float | None], shuffle: Shuffle, path: Path) -> Mixture:
        choices = make_choices(len(self._members), self.weights, shuffle, path)
        if self.stop == 'all':
            _check_known("stop='all'", {number: lengths[number] for number in choices.members})
        return Mixture(choices, lengths, self.stop)

    def _make_own_plan(self, options: Options, path: Path) -> Plan:
        plans = self._member_plans(options, path)
        lengths = [plan.length for plan in plans]
        chooser = self._chooser(lengths, options.shuffle, path)
        if self.stop != 'first':
            once, plans = plans, self._repeat_plans(plans, None, options, path)
            self._check_repeated(once, plans)
        return ChoicePlan(plans, options.shuffle, chooser)

    def _check_repeated(self, once: Sequence[Plan | Feed], repeated: Sequence[Plan | Feed]) -> None:
        """Raise `ValueError` if a member that is chosen has no batches, unless none has to be."""
        chosen = range(len(once)) if self.weights is None else np.flatnonzero(self.weights).tolist()
        if self.stop != 'all' or not all(once[number].empty for number in chosen):
            _check_endless({number: repeated[number] for number in chosen})

    def _fetch_own(self, request: Request, path: Path) -> Iterator[Batch]:
        indices, k = request.indices
        batches: Iterator[Batch] = self._members[k]._fetch(request._replace(indices=indices), (*path, k))
        return batches

    def _join_streams(self, batch_size: BatchSize, kwargs: Mapping[str, Any], path: Path) -> Stream:
        streams = self._member_streams(batch_size, kwargs, path)
        shuffle = Shuffle.coerce(kwargs.get('shuffle'), kwargs.get('epoch', 0))
        lengths = [stream.length for stream in streams]
        chooser = self._chooser(lengths, shuffle, path)
        if self.stop != 'first':
            once, streams = streams, self._repeat_streams(streams, None, batch_size, kwargs, path)
            self._check_repeated([stream.feed for stream in once], [stream.feed for stream in streams])
        return Stream(ChoiceFeed(streams, chooser, given_facts(batch_size, kwargs)))
