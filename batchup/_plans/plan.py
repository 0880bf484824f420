"""Plans: pure maps from the number of a batch to the request for it.

A plan knows indices only: it can be looked at, counted and compared with no data at all.
Plans over orders are in `ordered`, those over iterators of users in `replayed`, those over several
members in `joint`, and those that start again in `repeated`.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from .._ground.arguments import check_integer
from .._ground.indices import IndexTree, Leaf, digest, map_leaves, own_array
from .._ground.randomness import Path, Purpose, Shuffle, keyed_bits
from .._ground.words import counted, order
from ..errors import EndOfPlanError
from .ahead import Ahead
from .places import Places

# How many batches a plan is asked for at once. Larger: more indices are kept until they are
# used. Smaller: more work for each batch.
WINDOW_BATCHES = 256


class Request(NamedTuple):
    """What is needed to build a batch, or a window of consecutive batches of equal size.

    Attributes
    ----------
    number : int
        The number of the (first) batch in its epoch.
    n_batches : int
        The number of batches; 1, unless a window was asked for.
    indices : index tree
        The sample indices of all these batches, one batch after the other.
    epoch : int
        The epoch that was asked for.
    seed : int or None
        The seed of the shuffle, if it has one.
    rank : int
        The rank of the shard.
    padding : int, optional
        How many samples at the end of each batch are padding; `None` unless the shard pads
        (`uneven='pad'`).
    ahead : Ahead, optional
        What is known of the batches after these, when a stream asks for them.
    """

    number: int
    n_batches: int
    indices: IndexTree
    epoch: int = 0
    seed: int | None = None
    rank: int = 0
    padding: int | None = None
    ahead: Ahead | None = None

    def member(self, number: int, indices: IndexTree, chosen: bool = False) -> Request:
        """Return the request to a member of a composed source; `chosen` as for `Ahead.member`."""
        ahead = None if self.ahead is None else self.ahead.member(number, chosen)
        return self._replace(indices=indices, ahead=ahead)

    def batch(self, number: int) -> Request:
        """Return the request for one batch of the window, by its number in the epoch."""
        first = number - self.number
        return self._replace(
            number=number, n_batches=1, indices=part_of_window(self.indices, self.n_batches, first, first + 1)
        )

    def since(self, number: int) -> Request:
        """Return the request for the rest of the window, from batch `number` of the epoch on."""
        first = number - self.number
        indices = part_of_window(self.indices, self.n_batches, first, self.n_batches)
        return self._replace(number=number, n_batches=self.n_batches - first, indices=indices)

    def up_to(self, count: int) -> Request:
        """Return the request for the first `count` batches of the window, or for all if it has fewer."""
        if self.n_batches <= count:
            return self
        return self._replace(n_batches=count, indices=part_of_window(self.indices, self.n_batches, 0, count))

    def split(self) -> Iterator[Request]:
        """Go through the requests for the single batches."""
        return (self.batch(number) for number in range(self.number, self.end))

    @property
    def end(self) -> int:
        """The number of the batch after the last one."""
        return self.number + self.n_batches

    def describe(self) -> str:
        """Name the batches for a message, with their epoch and indices."""
        batches = f'batch {self.number}' if self.n_batches == 1 else f'batches {self.number} to {self.end - 1}'
        return f'{batches} of epoch {self.epoch}, with indices {self.indices!r}'

    def generator(self, path: Path) -> np.random.Generator:
        """Make the generator for a random function that is mapped over this batch.

        Its key is the seed, the epoch, the number of the batch, the rank, and the path of
        the function. Without a seed, a digest of the batch's indices takes its place.
        """
        seed = int(digest(self.indices), 16) if self.seed is None else self.seed
        return np.random.Generator(keyed_bits(seed, Purpose.MAP, self.epoch, self.number, self.rank, *path))


def part_of_window(tree: IndexTree, count: int, first: int, last: int) -> IndexTree:
    """Cut the indices of batches `first` to `last` out of those of a window of `count` batches."""
    if (first, last) == (0, count):
        return tree

    def part(leaf: Leaf) -> Leaf:
        size = len(leaf) // count
        return leaf[first * size : last * size]

    return map_leaves(part, tree)


def count_batches(length: float | None, batch_size: int, drop_last: bool) -> int | float | None:
    """Return the number of batches in `length` samples; endless stays endless, and unknown unknown."""
    if length is None or length == math.inf:
        return length
    return int(length) // batch_size if drop_last else -(-int(length) // batch_size)


class Plan(abc.ABC):
    """A sequence of requests, one for each batch of an epoch.

    Attributes
    ----------
    length : int, math.inf or None
        The number of batches; infinite for an endless plan, `None` if it is not known.
    pure : bool
        Whether `plan[k]` is a pure function. The plan of a sequential generator is not: it
        draws when it first needs an index, and goes forward only.
    shuffle : Shuffle
        How samples are shuffled.
    exact : bool
        Whether `length` is certain. It is not if a user's sampler draws from a sequential
        generator: such a plan ends where the sampler ends.
    places : Places, optional
        The places of the samples of batches among all samples, if they have such places.
    """

    length: int | float | None
    pure: bool
    shuffle: Shuffle
    exact: bool = True
    places: Places | None = None

    # The lowest number known to have no batch, or infinity; `None` before the first check.
    _end: float | None = None

    def indices(self, number: int, limit: int) -> tuple[IndexTree, int]:
        """Return the indices of up to `limit` batches of equal size from batch `number` on.

        No more is drawn from a sequential generator than the first of these batches needs.

        Returns
        -------
        tuple
            The indices of all these batches, and the number of batches.

        Raises
        ------
        EndOfPlanError
            If there is no batch `number`.
        """
        end = self.check_number(number)
        try:
            return self._indices(number, limit if number + limit <= end else int(end) - number)
        except EndOfPlanError:
            # Remember the end, so that nothing is drawn again only to find it.
            self._end = min(number, end if self._end is None else self._end)
            raise

    @abc.abstractmethod
    def _indices(self, number: int, limit: int) -> tuple[IndexTree, int]:
        """Return what `indices` returns; never called for batches beyond a `length` that is certain."""

    @abc.abstractmethod
    def describe(self) -> str:
        """Say in a few words what the plan goes through; equal for equal plans."""

    def window(self, number: int, limit: int = 1) -> Request:
        """Return the request for up to `limit` consecutive batches of equal size."""
        indices, count = self.indices(number, limit)
        return Request(number, count, indices, self.shuffle.epoch, self.shuffle.seed)

    def __getitem__(self, number: int) -> Request:
        return self.window(self.number_of(number))

    def number_of(self, number: int) -> int:
        """Return the number of a batch that may count from the end; raise `EndOfPlanError` if there is none."""
        number = check_integer('the number of a batch', number)
        counted = number + len(self) if number < 0 else number
        if counted < 0:
            raise EndOfPlanError(f'there is no batch {number} in a plan of {len(self)} batches')
        self.check_number(counted)
        return counted

    def __iter__(self) -> Iterator[Request]:
        number = 0
        while True:
            try:
                request = self.window(number)
            except EndOfPlanError:
                return
            yield request
            number += 1

    def __len__(self) -> int:
        return known_length(self.length)

    def __repr__(self) -> str:
        length = self.length_at_hand
        count = {None: 'batches', math.inf: 'endless batches'}.get(length) or counted(length, 'batch', 'batches')
        return f'<Plan: {count} of {self.describe()}{order({"shuffle": self.shuffle, "epoch": self.shuffle.epoch})}>'

    @property
    def length_at_hand(self) -> int | float | None:
        """The length, unless batches have to be drawn or counted to know it; `None` then."""
        return self.length

    @property
    def empty(self) -> bool | None:
        """Whether there is no batch, whatever is drawn; `None` if that depends on the draws."""
        return self.length == 0

    def check_number(self, number: int) -> float:
        """Raise `EndOfPlanError`, an `IndexError`, if the plan is known to have no batch of this number.

        Returns
        -------
        float
            The lowest number that is known to have no batch; infinity if none is known.
        """
        end = self._end
        if end is None:
            end = self._end = self.length if self.exact and self.length is not None else math.inf
        if not 0 <= number < end:
            raise EndOfPlanError(f'there is no batch {number} in a plan of {end} batches')
        return end

    def index_batches(self) -> Iterator[Any]:
        """Go through the indices of all batches, as trees of arrays that the caller may keep."""
        number = 0
        while True:
            try:
                window, count = self.indices(number, WINDOW_BATCHES)
            except EndOfPlanError:
                return
            for place in range(count):
                yield map_leaves(own_array, part_of_window(window, count, place, place + 1))
            number += count


def known_length(length: int | float | None) -> int:
    """Return a number of batches for `len()`, or raise `TypeError` if it is endless or unknown."""
    if length is None:
        raise TypeError('the number of batches is not known')
    if length == math.inf:
        raise TypeError('the number of batches is infinite')
    return int(length)
