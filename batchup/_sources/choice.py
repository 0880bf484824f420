"""A source of batches from several sources, each from one of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .._ground.arguments import check_flag, check_integer
from .._ground.batch import Batch, Destination
from .._ground.indices import ChoiceBatch
from .._ground.randomness import Path, Shuffle
from .._ground.words import listing
from .._plans.choices import check_weights, make_choices
from .._plans.choosers import Chooser, Mixture, Spread, check_stop
from .._plans.joint import ChoicePlan
from .._plans.options import Asked, Options
from .._plans.plan import Plan, Request
from .._streams.members import ChoiceFeed
from .._streams.stream import Stream
from .base import AbstractDataSource, samples_of
from .joined import Ended, JoinedDataSource, check_endless, check_known


class ChoiceDataSource(JoinedDataSource):
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
        the member of each batch is drawn by weight, independently of the others. In order,
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

    With weights and a seed, the members of all batches before batch k are drawn to find its own:
    once for a stream, in about 15 nanoseconds each. To count the batches of an epoch with
    `'first'` or `'all'`, those of the whole epoch are drawn. A `RandomState` or a `Generator` draws
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

    def _options_in_words(self) -> list[str]:
        weights = [] if self.weights is None else [f'weights=[{listing(self.weights.tolist())}]']
        stop = [] if self.stop == 'first' else [f'stop={self.stop!r}']
        return ['stratified=True'] if self.stratified else weights + stop

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
            check_known("stop='all'", {number: lengths[number] for number in choices.members})
        return Mixture(choices, lengths, self.stop)

    def _until_stop(self, members: list[Ended], again: Callable[[int], Ended]) -> list[Ended]:
        """Make members start again when they have ended, unless that ends the choice."""
        if self.stop == 'first':
            return members
        repeated = [again(number) for number in range(len(members))]
        chosen = range(len(members)) if self.weights is None else np.flatnonzero(self.weights).tolist()
        if self.stop != 'all' or not all(members[number].empty for number in chosen):
            check_endless({number: repeated[number] for number in chosen})
        return repeated

    def _make_own_plan(self, options: Options, path: Path) -> Plan:
        plans, again = self._member_plans(options, path)
        chooser = self._chooser([plan.length for plan in plans], options.shuffle, path)
        return ChoicePlan(self._until_stop(plans, again), options.shuffle, chooser)

    def _fetch_own(self, request: Request, path: Path, to: Destination) -> Iterable[Batch]:
        indices, k = request.indices
        batches: Iterable[Batch] = self._members[k]._fetch(request.member(k, indices, chosen=True), (*path, k), to)
        return batches

    def _count_joined(self, lengths: Sequence[int | float | None], asked: Asked) -> int | float | None:
        return self._chooser(lengths, _shuffle(asked).apart(), ()).length

    def _join_streams(self, asked: Asked, path: Path) -> Stream:
        streams, again = self._member_streams(asked, path)
        chooser = self._chooser([stream.length for stream in streams], _shuffle(asked), path)
        return Stream(ChoiceFeed(self._until_stop(streams, again), chooser, asked.facts()))


def _shuffle(asked: Asked) -> Shuffle:
    """Return how a choice of members without a plan is shuffled."""
    return Shuffle.coerce(asked.keywords.get('shuffle'), asked.keywords.get('epoch', 0))
