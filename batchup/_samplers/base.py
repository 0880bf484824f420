"""What all samplers have in common, and the plan of any of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NoReturn

from numpy.typing import ArrayLike

from .._ground.arguments import check_batch_size, check_flag, check_keywords, check_told, overridden
from .._ground.indices import IndexArray, check_batch_indices, check_indices
from .._ground.randomness import Path, Shuffle
from .._ground.words import Worded
from .._plans.options import PLAN_KEYWORDS
from .._plans.plan import Plan
from .._plans.replayed import ReplayPlan


class AbstractSampler(Worded):
    """Base class of samplers.

    Subclasses implement the methods that they can; plain generators will do. The iterators
    give 1-D integer arrays of sample indices.
    """

    def num_indices_generated(self) -> int | float | None:
        """Return the number of indices of an epoch; `np.inf` for endless, `None` for unknown."""
        raise NotImplementedError(f'{type(self).__name__} does not implement num_indices_generated')

    def in_order_indices_batch_iterator(self, batch_size: int) -> Iterator[IndexArray]:
        """Return an iterator over batches of sample indices in order."""
        raise NotImplementedError(f'{type(self).__name__} has no in-order iteration; pass shuffle=')

    def shuffled_indices_batch_iterator(self, batch_size: int, shuffle_rng: Any) -> Iterator[IndexArray]:
        """Return an iterator over batches of shuffled sample indices.

        `shuffle_rng` is the `RandomState` or `Generator` that the user gave, or a
        `RandomState` made for a seed.
        """
        raise NotImplementedError(f'{type(self).__name__} has no shuffled iteration; leave out shuffle=')

    def map_indices(self, indices: Any) -> Any:
        """Map places among the sampler's samples to indices into the data."""
        return indices

    def subset(self, indices: ArrayLike) -> AbstractSampler:
        """Return a sampler of the same kind for only some of the samples.

        Parameters
        ----------
        indices : 1-D array-like of integers
            Places among the sampler's samples, as for `map_indices`.
        """
        raise NotImplementedError(f'{type(self).__name__} does not implement subset')

    def plan(
        self, batch_size: int, shuffle: Any = None, *, epoch: int = 0, drop_last: bool = False, **unknown: NoReturn
    ) -> Plan:
        """Return the plan of an epoch: `plan[k].indices` are the sample indices of batch k.

        Parameters
        ----------
        batch_size : int
            The number of samples in a batch.
        shuffle : None, bool, int, RandomState, Generator, or a shuffle of `batchup.sampling`
            As in `batchup.data_source.RandomAccessDataSource.batch_iterator`.
        epoch : int
            Selects the order that a seed gives.
        drop_last : bool
            Whether to leave out a short last batch; with a sampler of your own, every short batch.
        """
        check_keywords(f'{type(self).__name__}.plan', unknown, PLAN_KEYWORDS)
        drop_last = check_flag('drop_last', drop_last)
        return make_plan(self, check_batch_size(batch_size), Shuffle.coerce(shuffle, epoch), drop_last)


class PlannedSampler(AbstractSampler):
    """Base class of the package's own samplers, whose iterators go through a plan."""

    def _make_plan(self, batch_size: int, shuffle: Shuffle, drop_last: bool, path: Path) -> Plan:
        """Make the plan of an epoch."""
        raise NotImplementedError

    def _check_length(self, length: int) -> None:
        """Raise an error unless the sampler fits data of `length` samples."""
        raise NotImplementedError

    def in_order_indices_batch_iterator(self, batch_size: int) -> Iterator[IndexArray]:
        return self._make_plan(check_batch_size(batch_size), Shuffle(), False, ()).index_batches()

    def shuffled_indices_batch_iterator(self, batch_size: int, shuffle_rng: Any) -> Iterator[IndexArray]:
        shuffle = Shuffle.coerce(shuffle_rng)
        if shuffle.in_order:
            raise TypeError(f'shuffle_rng must be a random generator, got {shuffle_rng!r}')
        return self._make_plan(check_batch_size(batch_size), shuffle, False, ()).index_batches()


def make_plan(
    sampler: AbstractSampler,
    batch_size: int,
    shuffle: Shuffle,
    drop_last: bool,
    path: Path = (),
    length: int | None = None,
) -> Plan:
    """Make the plan of an epoch of any sampler.

    The package's own samplers make it themselves. The iterators of a user's sampler, or of
    a subclass that overrides them, are replayed, and their indices checked against `length`.
    """
    method = 'in_order_indices_batch_iterator' if shuffle.in_order else 'shuffled_indices_batch_iterator'
    if isinstance(sampler, PlannedSampler) and not overridden(sampler, method):
        if length is not None:
            sampler._check_length(length)
        return sampler._make_plan(batch_size, shuffle, drop_last, path)

    def make_iterator(shuffle: Shuffle) -> Iterator[IndexArray]:
        if shuffle.in_order:
            return sampler.in_order_indices_batch_iterator(batch_size)
        return sampler.shuffled_indices_batch_iterator(batch_size, shuffle.sampler_rng(path))

    num_samples = count_indices(sampler)

    def check(name: str, indices: Any) -> IndexArray:
        return check_indices(name, indices) if length is None else check_batch_indices(name, indices, length)

    name = f'{type(sampler).__name__} of {num_samples} samples'
    return ReplayPlan(name, make_iterator, num_samples, batch_size, shuffle, drop_last, check)


def count_indices(sampler: AbstractSampler) -> int | float | None:
    """Return the number of indices of an epoch; `None` if the sampler does not know or tell it."""
    try:
        count = sampler.num_indices_generated()
    except NotImplementedError:
        return None
    return check_told(sampler, 'num_indices_generated', count)
