"""A source of batches side by side, one from each of several sources."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from .._ground import batch as nested
from .._ground.arguments import BatchSize, check_flag, check_integer, check_told, member_sizes
from .._ground.batch import Batch, Destination
from .._ground.indices import ChoiceBatch, IndexTree, SizedParts, leaf_lengths
from .._ground.randomness import Path
from .._plans.joint import CompositePlan, smallest
from .._plans.options import Asked, Options
from .._plans.plan import Plan, Request
from .._streams.members import CompositeFeed
from .._streams.stream import Stream
from .base import AbstractDataSource, samples_of
from .joined import Ended, JoinedDataSource, check_endless, check_known


class CompositeDataSource(JoinedDataSource):
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
    end. Any other member starts again with a new batch and in a new order: a composite, for
    instance, or a weighted sampler with replacement that draws from a sequential generator. A function or a
    user's source is called once more, with the same arguments. The source of a pool starts
    again as its own source does, unless a sequential generator shuffles.

    Without random access, a member with batch sizes for members of its own is not cut.

    With `'longest'`, every member must know its number of batches. Of members with equally
    many batches, the longest has the most samples for its batch size.

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

    def _options_in_words(self) -> list[str]:
        flags = [f'{name}=False' for name in ('flatten', 'trim') if not getattr(self, name)]
        return flags if self.stop == 'shortest' else [*flags, f'stop={self.stop!r}']

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

    def _last(self, lengths: Sequence[int | float | None], asked: Asked) -> int | None:
        """Return the number of the member that ends the epoch; `None` for the shortest: no other starts again."""
        if self.stop == 'shortest':
            return None
        numbered = dict(enumerate(lengths))
        if self.stop == 'longest':
            check_known("stop='longest'", numbered)
            parts = asked.of_members(len(self._members))
            filled = [_filled_batches(member, part) for member, part in zip(self._members, parts)]
            last = max(numbered, key=lambda number: (numbered[number], filled[number]))
        else:
            last = int(self.stop)
        return last

    def _until_last(self, members: list[Ended], again: Callable[[int], Ended], asked: Asked) -> list[Ended]:
        """Make the members start again that end before the one that ends the epoch."""
        last = self._last([member.length for member in members], asked)
        if last is None or members[last].empty:
            return members
        # In another epoch, another member may be the longest, and then this one has to start again.
        fixed = self.stop != 'longest' or len(members) == 1
        repeated = [member if number == last else again(number) for number, member in enumerate(members)]
        check_endless({number: member for number, member in enumerate(repeated) if number != last or not fixed})
        return repeated

    def _join(self, parts: Batch) -> Batch:
        """Make a batch of the members' batches."""
        return self._flatten(nested.trim(parts) if self.trim else parts)

    def _join_sized(self, sizes: Sequence[BatchSize], parts: Batch) -> Batch:
        """Make a batch of the batches of members with sizes of their own."""
        return self._flatten(nested.trim_parts(parts, sizes) if self.trim else parts)

    def _joiner(self, indices: IndexTree, n_batches: int = 1) -> Callable[[Batch], Batch]:
        """Return a function that joins what members read by `indices`, which the plan has already cut."""
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
        plans = self._until_last(*self._member_plans(options, path), Asked(options.batch_size, {}))
        return CompositePlan(plans, options.shuffle, self.trim, options.batch_size)

    def _batches_at_once(self, batch_size: BatchSize) -> int:
        sizes = member_sizes(batch_size, len(self._members))
        return max(member._batches_at_once(size) for member, size in zip(self._members, sizes))

    def _fetch_own(self, request: Request, path: Path, to: Destination) -> Iterator[Batch]:
        fetches = [
            partial(member._fetch, request.member(k, indices), (*path, k), to)
            for k, (member, indices) in enumerate(zip(self._members, request.indices))
        ]
        parts = [
            fetch() if to.stages is None else to.stages.member((*path, k), fetch, request.n_batches)
            for k, fetch in enumerate(fetches)
        ]
        return map(self._joiner(request.indices, request.n_batches), map(nested.side_by_side, *parts))

    def _count_joined(self, lengths: Sequence[int | float | None], asked: Asked) -> int | float | None:
        last = self._last(lengths, asked)
        return smallest(lengths) if last is None else lengths[last]

    def _join_streams(self, asked: Asked, path: Path) -> Stream:
        streams = self._until_last(*self._member_streams(asked, path), asked)
        sizes = asked.batch_size
        join = partial(self._join_sized, sizes) if isinstance(sizes, tuple) else self._join
        return Stream(CompositeFeed(streams, join, asked.facts()))


def _sizes_read(indices: SizedParts, n_batches: int) -> tuple[BatchSize, ...]:
    """Return how many samples each member reads for a batch; `()` for a member that is not to be cut."""
    return tuple(() if _is_sized(part) else min(leaf_lengths(part)) // n_batches or () for part in indices)


def _is_sized(part: IndexTree) -> bool:
    """Say whether the parts of a member's batch have sizes of their own."""
    while isinstance(part, ChoiceBatch):
        part = part.sample_indices
    return isinstance(part, SizedParts)


def _filled_batches(member: AbstractDataSource, asked: Asked) -> float:
    """Return the number of samples of a member divided by its batch size; 0 if one is not known."""
    try:
        samples = member.num_samples(**asked.keywords)
    except (NotImplementedError, TypeError):  # not told, or not for these keywords
        samples = None
    samples = check_told(member, 'num_samples', samples)
    return 0 if samples is None or isinstance(asked.batch_size, tuple) else samples / asked.batch_size
