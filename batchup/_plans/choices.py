"""Choices: endless sequences of members, in turn or by weight."""

from __future__ import annotations

import abc
import math
from collections import deque
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._ground.indices import IndexArray
from .._ground.randomness import Path, Purpose, SequentialRng, Shuffle
from .orders import passed, permutations
from .weights import WeightTable, normalise_weights

# Members are drawn by weight this many at a time, each time with a new key. Larger: more time
# before the first batch. Smaller: more keys (20 microseconds each) to reach a later one.
CHOICES_AT_ONCE = 4096

# A choice whose end is further away is taken to have none: floating point counts no further.
FURTHEST = 2.0**53

# How many of the latest draws of a sequential generator can be asked for again.
KEPT_DRAWS = 4

Lengths = Mapping[int, int]


class Choices(abc.ABC):
    """An endless sequence of members: `choices[k]` is the member of batch k, and the batch's number within it.

    Attributes
    ----------
    name : str
        Describes them; equal for equal choices.
    pure : bool
        Whether any batch can be asked for at any time.
    members : sequence of int
        The members that are ever chosen.
    firsts : sequence of int
        The members that batch 0 may come from.
    """

    name: str
    pure: bool
    members: Sequence[int]
    firsts: Sequence[int]

    @abc.abstractmethod
    def __getitem__(self, number: int) -> tuple[int, int]: ...

    @abc.abstractmethod
    def first_end(self, lengths: Lengths) -> int | float | None:
        """Return the number of the first batch that its member is too short to give.

        `lengths` holds the numbers of batches of the finite members. Infinite if none is ever
        too short; `None` if a sequential generator must be drawn from to know.
        """

    @abc.abstractmethod
    def last_end(self, lengths: Lengths) -> int | float | None:
        """Return after how many batches each member has given as many as `lengths` says.

        Infinite if that never happens; `None` as for `first_end`.
        """


class RoundRobin(Choices):
    """Members in turn, in order or in a new random order each round.

    >>> turns = RoundRobin(4, Shuffle(), ())
    >>> [turns[k][0] for k in range(7)], turns.first_end({0: 8, 1: 4, 2: 2, 3: 1})
    ([0, 1, 2, 3, 0, 1, 2], 7)
    """

    name = 'turns'

    def __init__(self, count: int, shuffle: Shuffle, path: Path) -> None:
        self.members = range(count)
        self.firsts = self.members[:1] if shuffle.in_order else self.members
        self.pure = shuffle.pure
        self._rounds = permutations(range(count), shuffle, Purpose.CHOICE, path)

    def __getitem__(self, number: int) -> tuple[int, int]:
        turn, place = divmod(number, len(self.members))
        return int(self._rounds[turn][place]), turn

    def first_end(self, lengths: Lengths) -> int | None:
        rounds = min(lengths.values())
        places = self._places(rounds, [member for member, length in lengths.items() if length == rounds])
        return None if places is None else rounds * len(self.members) + int(places[0])

    def last_end(self, lengths: Lengths) -> int | None:
        rounds = max(lengths.values())
        if not rounds:
            return 0
        places = self._places(rounds - 1, [member for member, length in lengths.items() if length == rounds])
        return None if places is None else (rounds - 1) * len(self.members) + int(places[-1]) + 1

    def _places(self, turn: int, members: Sequence[int]) -> IndexArray | None:
        """Return the places of some members in a round, in order; `None` if they are yet to be drawn."""
        if len(members) == len(self.members):
            return np.arange(len(members))
        return np.flatnonzero(np.isin(np.asarray(self._rounds[turn]), members)) if self.pure else None


class Interleaved(Choices):
    """Members by weight, spread evenly; nothing is drawn.

    Batch j of a member of weight w comes at time j / w. Batches of the same time come in the
    order of their members. A batch is found in O(1), however far away.

    >>> evenly = Interleaved([8, 4, 2, 1])
    >>> [evenly[k][0] for k in range(15)]
    [0, 1, 2, 3, 0, 0, 1, 0, 0, 1, 2, 0, 0, 1, 0]
    """

    pure = True

    def __init__(self, weights: ArrayLike) -> None:
        # As they are given: whole numbers make ties that normalised weights would break.
        given = np.asarray(weights, np.float64)
        self.name = f'spread by weights {WeightTable(normalise_weights("weights", given)).digest}'
        self.members = np.flatnonzero(given).tolist()
        self.firsts = self.members[:1]
        self._weights = given[self.members]
        self._latest: tuple[int, IndexArray, IndexArray] | None = None

    def __getitem__(self, number: int) -> tuple[int, int]:
        chunk, place = divmod(number, CHOICES_AT_ONCE)
        if self._latest is None or self._latest[0] != chunk:
            self._latest = chunk, *self._make(chunk * CHOICES_AT_ONCE)
        return self.members[self._latest[1][place]], int(self._latest[2][place])

    def first_end(self, lengths: Lengths) -> int | float:
        return min(self._place(member, length) for member, length in lengths.items())

    def last_end(self, lengths: Lengths) -> int | float:
        return max([self._place(member, length - 1) + 1 for member, length in lengths.items() if length], default=0)

    def _make(self, first: int) -> tuple[IndexArray, IndexArray]:
        """Return the members of the batches from `first` on, and their numbers within the members."""
        weights, count = self._weights, len(self._weights)
        # There are at most `first` batches before this time, and not many fewer.
        before = self._before(max(0.0, (first - count - 1) / weights.sum()))
        skipped = first - int(before.sum())
        wanted = skipped + CHOICES_AT_ONCE
        # Between any two times, a member has at most one batch more than its share.
        candidates = (weights / weights.sum() * (wanted + count)).astype(np.intp) + 2
        members = np.repeat(np.arange(count), candidates)
        ordinals = np.concatenate([start + np.arange(size) for start, size in zip(before, candidates)])
        with np.errstate(over='ignore'):  # the smallest weights may overflow
            order = np.lexsort((members, ordinals / weights[members]))[skipped:wanted]
        return members[order], ordinals[order]

    def _before(self, time: float) -> IndexArray:
        """Return how many batches of each member come before a time."""
        counts = np.ceil(self._weights * time)
        counts -= (counts > 0) & ((counts - 1) / self._weights >= time)
        counts += counts / self._weights < time
        return counts.astype(np.intp)

    def _place(self, member: int, ordinal: int) -> int | float:
        """Return the number of the batch that is batch `ordinal` of a member."""
        place = self.members.index(member)
        with np.errstate(over='ignore'):
            time = ordinal / self._weights[place]
            if not time * self._weights.sum() < FURTHEST:
                return math.inf
        before = self._before(time)
        ties = before[:place] / self._weights[:place] == time
        return int(before.sum() + ties.sum())


class KeyedDraws(Choices):
    """Members drawn by weight, by a seed: each draw is independent of the others.

    To number batch k within its member, earlier draws of the member are counted: all chunks of
    draws before k are made once, which takes about 15 nanoseconds a batch.
    """

    pure = True

    def __init__(self, table: WeightTable, shuffle: Shuffle, path: Path) -> None:
        self.name = f'draws by weights {table.digest}'
        self.members = self.firsts = table.positive.tolist()
        self._table = table
        self._shuffle = shuffle
        self._path = path
        # How often each member was drawn before each chunk.
        self._before = [np.zeros(len(table.weights), np.intp)]
        self._latest: tuple[int, IndexArray, IndexArray] | None = None

    def __getitem__(self, number: int) -> tuple[int, int]:
        chunk, place = divmod(number, CHOICES_AT_ONCE)
        if self._latest is None or self._latest[0] != chunk:
            before, members = self._counts(chunk), self._draw(chunk)
            self._latest = chunk, members, before[members] + ordinals_of(members)
        return int(self._latest[1][place]), int(self._latest[2][place])

    def first_end(self, lengths: Lengths) -> int:
        members, ends = np.array(list(lengths)), np.array(list(lengths.values()))
        chunk = 0
        while not (self._counts(chunk + 1)[members] > ends).any():
            chunk += 1
        return min(self._places(chunk, members, ends))

    def last_end(self, lengths: Lengths) -> int:
        members, ends = np.array(list(lengths)), np.array(list(lengths.values()))
        chunk = 0
        while not (self._counts(chunk + 1)[members] >= ends).all():
            chunk += 1
        return max(self._places(chunk, members, ends - 1), default=-1) + 1

    def _places(self, chunk: int, members: IndexArray, ordinals: IndexArray) -> list[int]:
        """Return the numbers of the batches that are `ordinals` of `members`, as far as they are in a chunk."""
        before, drawn = self._counts(chunk), self._draw(chunk)
        places = []
        for member, ordinal in zip(members, ordinals - before[members]):
            found = np.flatnonzero(drawn == member)
            if 0 <= ordinal < found.size:
                places.append(chunk * CHOICES_AT_ONCE + int(found[ordinal]))
        return places

    def _counts(self, chunk: int) -> IndexArray:
        """Return how often each member was drawn before a chunk."""
        while len(self._before) <= chunk:
            drawn = self._draw(len(self._before) - 1)
            self._before.append(self._before[-1] + np.bincount(drawn, minlength=len(self._table.weights)))
        return self._before[chunk]

    def _draw(self, chunk: int) -> IndexArray:
        rng = self._shuffle.generator(Purpose.CHOICE, chunk, *self._path)
        return self._table.draw(rng, CHOICES_AT_ONCE)


class SequentialDraws(Choices):
    """Members drawn by weight from a sequential generator, each when its batch is first needed.

    A draw equals `rng.choice(n, p=weights)`.
    """

    pure = False

    def __init__(self, table: WeightTable, rng: SequentialRng) -> None:
        self.name = f'draws by weights {table.digest}'
        self.members = self.firsts = table.positive.tolist()
        self._table = table
        self._rng = rng
        self._counts = [0] * len(table.weights)
        self._drawn = 0
        self._latest: deque[tuple[int, int]] = deque(maxlen=KEPT_DRAWS)

    def __getitem__(self, number: int) -> tuple[int, int]:
        while self._drawn <= number:
            member = int(self._table.draw(self._rng, 1)[0])
            self._latest.append((member, self._counts[member]))
            self._counts[member] += 1
            self._drawn += 1
        if self._drawn - number > len(self._latest):
            raise passed(f'the member of batch {number}')
        return self._latest[number - self._drawn]

    def first_end(self, lengths: Lengths) -> None:
        return None

    def last_end(self, lengths: Lengths) -> int | None:
        return None if any(lengths.values()) else 0


def make_choices(count: int, weights: ArrayLike | None, shuffle: Shuffle, path: Path) -> Choices:
    """Make the choices among `count` members: in turn, or by weight."""
    if weights is None:
        return RoundRobin(count, shuffle, path)
    if shuffle.in_order:
        return Interleaved(weights)
    table = WeightTable(normalise_weights('weights', weights, 'data source'))
    return KeyedDraws(table, shuffle, path) if shuffle.rng is None else SequentialDraws(table, shuffle.rng)


def check_weights(weights: ArrayLike | None, count: int) -> NDArray[np.float64] | None:
    """Check the weights of `count` members; return them in a new array, not normalised."""
    if weights is None:
        return None
    normalise_weights('weights', weights, 'data source')
    given = np.array(weights, dtype=np.float64)
    if len(given) != count:
        raise ValueError(f'weights must be as many as data sources, got {len(given)} for {count}')
    return given


def ordinals_of(members: IndexArray) -> IndexArray:
    """Return for each member of a sequence how often the same member came before.

    >>> ordinals_of(np.array([1, 0, 1, 1, 0]))
    array([0, 0, 1, 2, 1])
    """
    counts = np.bincount(members)
    ordinals = np.empty(len(members), dtype=np.intp)
    ordinals[np.argsort(members, kind='stable')] = np.arange(len(members)) - np.repeat(counts.cumsum() - counts, counts)
    return ordinals
