"""Randomness: what `shuffle=` means, and generators keyed by seed, epoch and purpose.

A seed is never used up: every draw has a key, `SeedSequence(seed, spawn_key=(purpose,
epoch, ...))`, so it can be made again at any time and in any process. A `RandomState` or a
`Generator` is sequential: its draws are made in the order in which batches need them.

What the package draws by a seed is the same with every version of NumPy: it comes from a keyed
`RandomState`, whose methods NumPy has frozen, or from its bits, and not from a `Generator`, whose
methods may give other numbers in the next version (NEP 19). The functions of users get a `Generator`.
"""

from __future__ import annotations

import abc
import copy
import enum
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol

import numpy as np

from .arguments import check_non_negative, is_integer
from .indices import IndexArray

SequentialRng = np.random.RandomState | np.random.Generator
Path = tuple[int, ...]


class Purpose(enum.IntEnum):
    """What keyed draws are for; no two purposes share draws."""

    ORDER = 0
    CHOICE = 1
    SAMPLER = 2
    MAP = 3
    SPLIT = 4


def keyed_bits(seed: int, purpose: Purpose, *key: int) -> np.random.PCG64:
    """Make the random bits that belong to a seed, a purpose and a key."""
    return np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(purpose, *key)))


def keyed_generator(seed: int, purpose: Purpose, *key: int) -> np.random.RandomState:
    """Make the generator for what the package itself draws by a seed, a purpose and a key."""
    return np.random.RandomState(keyed_bits(seed, purpose, *key))


def draw_permutation(rng: np.random.RandomState, of: int | IndexArray) -> IndexArray:
    """Draw `rng.permutation(of)`, in less time, and with integers of 64 bits on Windows, too."""
    order = np.arange(of, dtype=np.intp) if isinstance(of, int) else np.array(of, dtype=np.intp)
    rng.shuffle(order)
    return order


def draw_permutations(rng: np.random.RandomState, count: int, size: int) -> IndexArray:
    """Draw permutations of the numbers below `size`, an array of shape (count, size).

    Each number gets random bits in front of its own, and the results are sorted. No two are
    equal, so that every way of sorting gives the same permutation.
    """
    mask = np.uint64((1 << (size - 1).bit_length()) - 1)
    keys = rng.randint(2**64, size=(count, size), dtype=np.uint64)
    keys &= ~mask
    keys |= np.arange(size, dtype=np.uint64)
    keys.sort(axis=1)
    keys &= mask
    return keys.astype(np.intp)


class Runs(Protocol):
    """An order that can be sliced: `order[start:stop]` are the indices at these places."""

    def __getitem__(self, run: slice, /) -> IndexArray: ...


class SeededShuffle(abc.ABC):
    """Base class of shuffles that are objects; they may be given wherever a seed may.

    Attributes
    ----------
    seed : int
        The seed of all its draws.
    """

    seed: int
    # Whether the order is the permutation that the seed alone gives.
    _plain: ClassVar[bool] = False

    @abc.abstractmethod
    def _make_order(self, length: int, bits: np.random.PCG64) -> Runs:
        """Make the order of `length` samples from random bits of its own."""

    def _with_block_size(self, rows: int | None) -> SeededShuffle:
        """Return the shuffle for data in chunks of so many rows, if its blocks are to be the chunks."""
        return self

    def _blocks(self) -> str:
        """Say of which blocks its orders are made, for the descriptions of plans."""
        return ''


@dataclass(frozen=True)
class Shuffle:
    """How the samples of an epoch are shuffled: in order, by a seed, or by a sequential generator.

    Attributes
    ----------
    seed : int or None
        The seed, if samples are shuffled by one.
    rng : RandomState, Generator or None
        The sequential generator, if samples are shuffled by one.
    epoch : int
        Selects the order that a seed gives, and keys random mapped functions.
    maker : SeededShuffle or None
        Makes the order of samples, if that is not the permutation that the seed gives.
    """

    seed: int | None = None
    rng: SequentialRng | None = None
    epoch: int = 0
    maker: SeededShuffle | None = None

    @classmethod
    def coerce(cls, shuffle: Any, epoch: Any = 0) -> Shuffle:
        """Interpret the arguments `shuffle` and `epoch` as users give them.

        `None` and `False` mean in order, `True` NumPy's global generator, an integer a
        seed; a `RandomState` or a `Generator` is used as given, and so is a `SeededShuffle`.
        """
        epoch = check_non_negative('epoch', epoch)
        if shuffle is None or (isinstance(shuffle, (bool, np.bool_)) and not shuffle):
            return cls(epoch=epoch)
        if isinstance(shuffle, (bool, np.bool_)) or shuffle is np.random:
            return cls(rng=_global_rng(), epoch=epoch)
        if isinstance(shuffle, (np.random.RandomState, np.random.Generator)):
            return cls(rng=shuffle, epoch=epoch)
        if isinstance(shuffle, SeededShuffle):
            return cls(seed=shuffle.seed, epoch=epoch, maker=None if shuffle._plain else shuffle)
        if is_integer(shuffle):
            return cls(seed=check_non_negative('the seed shuffle=', shuffle), epoch=epoch)
        raise TypeError(
            'shuffle must be None, a bool, an integer seed, a shuffle of batchup.sampling, '
            f'a numpy.random.RandomState or a numpy.random.Generator, got {shuffle!r} ({type(shuffle).__name__})'
        )

    @property
    def in_order(self) -> bool:
        """Whether samples come in order."""
        return self.seed is None and self.rng is None

    @property
    def pure(self) -> bool:
        """Whether the draws can be made again: in order, or by a seed."""
        return self.rng is None

    @property
    def is_global(self) -> bool:
        """Whether the draws are those of NumPy's global generator."""
        return self.rng is _global_rng()

    def apart(self) -> Shuffle:
        """Return the same shuffle with a copy of a sequential generator: nothing is drawn from the user's."""
        return self if self.rng is None else replace(self, rng=copy.deepcopy(self.rng))

    def with_block_size(self, rows: int | None) -> Shuffle:
        """Return the shuffle for data in chunks of so many rows; `None` for data that has no chunks."""
        return self if self.maker is None else replace(self, maker=self.maker._with_block_size(rows))

    @property
    def blocks(self) -> str:
        """Of which blocks orders are made, for the descriptions of plans."""
        return '' if self.maker is None else self.maker._blocks()

    def generator(self, purpose: Purpose, *key: int) -> np.random.RandomState:
        """Make the keyed generator for a purpose in this epoch."""
        return np.random.RandomState(self.bits(purpose, *key))

    def bits(self, purpose: Purpose, *key: int) -> np.random.PCG64:
        """Make the keyed bits for a purpose in this epoch."""
        assert self.seed is not None
        return keyed_bits(self.seed, purpose, self.epoch, *key)

    def sampler_rng(self, path: Path) -> SequentialRng:
        """Return the generator for a user's sampler: the given one, or a keyed `RandomState`."""
        if self.rng is not None:
            return self.rng
        key = (Purpose.SAMPLER, self.epoch, *path)
        return np.random.RandomState(np.random.MT19937(np.random.SeedSequence(self.seed, spawn_key=key)))

    def __str__(self) -> str:
        if self.in_order:
            return 'in order'
        if self.maker is not None:
            return str(self.maker)
        return f'seed {self.seed}' if self.pure else type(self.rng).__name__


def understood(shuffle: Any) -> Shuffle | None:
    """Interpret a `shuffle` that a user's source is given; `None` if only the user's code understands it."""
    try:
        return Shuffle.coerce(shuffle)
    except (TypeError, ValueError):
        return None


def _global_rng() -> np.random.RandomState:
    rng: np.random.RandomState = np.random.mtrand._rand
    return rng
