"""Shuffles as objects: what `shuffle=` takes besides a seed.

An order of n samples need not be stored: it can be computed by a rule, piece by piece, when
a batch needs it. What a rule saves in memory, or in reading, it may lose in how well it mixes.
"""

from __future__ import annotations

import abc
from dataclasses import KW_ONLY, dataclass, replace
from typing import ClassVar

import numpy as np

from .._ground.arguments import check_non_negative, check_positive
from .._ground.randomness import Purpose, SeededShuffle, keyed_bits
from .blocks import BlockOrder
from .order import Order, permutation, stored

MOST_SAMPLES = 2**63

# The number of samples in a block where nothing says what they are read in. Larger: a window of 16 blocks
# takes more memory. Smaller: neighbours are more often in the same batch.
BLOCK_SIZE = 1024


class _SeededShuffle(SeededShuffle):
    """The common part of the shuffles in this module."""

    @abc.abstractmethod
    def _make_order(self, length: int, bits: np.random.PCG64) -> Order: ...

    def order(self, length: int, *, epoch: int = 0, repetition: int = 0) -> Order:
        """Return the order of an epoch, as a `StandardSampler` goes through it.

        Parameters
        ----------
        length : int
            The number of samples, up to 2**63.
        epoch : int
            The epoch, as in `batch_iterator`.
        repetition : int
            The number of the repetition, where samples are gone through several times.

        Returns
        -------
        Order
            The order: `order[start:stop]`, or `order(places)` for any places.
        """
        length = check_non_negative('length', length)
        if length > MOST_SAMPLES:
            raise ValueError(f'length must be 2**63 at most, got {length}')
        key = check_non_negative('epoch', epoch), check_non_negative('repetition', repetition)
        return self._make_order(length, keyed_bits(self.seed, Purpose.ORDER, *key))

    def __post_init__(self) -> None:
        self._keep('seed', check_non_negative('seed', self.seed))

    def _keep(self, name: str, checked: int) -> None:
        """Set an attribute, which a frozen instance allows only in this way, to a checked argument."""
        object.__setattr__(self, name, checked)


@dataclass(frozen=True)
class FullShuffle(_SeededShuffle):
    """A random permutation of all samples: what `shuffle=seed` means.

    It mixes best: whatever came before, each sample that is left is equally likely to be the
    next. The price is that an order is drawn as a whole before its first batch, and kept: 8
    bytes a sample, and 25 to 50 nanoseconds. For a million samples that is little (8 MB, 0.03
    seconds). From 10 million on it can be felt (80 MB, and up to 0.5 seconds at the start of
    every epoch and after every resume), and at 1,000 million it hurts: 8 GB, and a minute.
    Then use a `ComputedShuffle`; if data is read in blocks, a `BlockShuffle`.

    Parameters
    ----------
    seed : int
        The seed, 0 or more.

    >>> FullShuffle(42).order(7)[:]
    array([3, 0, 5, 4, 2, 6, 1])
    """

    seed: int
    _plain: ClassVar[bool] = True

    def _make_order(self, length: int, bits: np.random.PCG64) -> Order:
        return stored(length, bits)


@dataclass(frozen=True)
class ComputedShuffle(_SeededShuffle):
    """A pseudo-random permutation of all samples that is computed, not stored.

    It takes less than 1 MB of memory for any number of samples up to 2**63, starts at once,
    and costs about 10 nanoseconds a sample; any place can be asked for directly. For up to
    65,536 samples it is a `FullShuffle` with the same seed.

    From there on it is a Feistel network (Luby and Rackoff, 1988) of 6 rounds, made to fit
    any length as Black and Rogaway (2002) do. It is not a random permutation: of the n! orders
    only a tiny part can come out, at most 2**128, and it is no encryption. In tests of uniform
    places, pairs of neighbours, differences of neighbours and of samples further apart,
    fixed points, and repeated halves of indices, over 65,537 to 2**63 samples and dozens to
    hundreds of seeds, it could not be told from true permutations. Of 70,000 samples, 3 rounds
    fail these tests, and 4 pass them.

    Parameters
    ----------
    seed : int
        The seed, 0 or more.

    >>> order = ComputedShuffle(42).order(10**15)
    >>> order([0, 1, 10**14])
    array([174209517372908, 649797877899693, 786166595138069])
    """

    seed: int

    def _make_order(self, length: int, bits: np.random.PCG64) -> Order:
        return permutation(length, bits)


@dataclass(frozen=True)
class BlockShuffle(_SeededShuffle):
    """Samples of a window that slides over shuffled blocks.

    For data that is stored in blocks of consecutive samples, each read as a whole, such as
    compressed chunks. Blocks come in random order. The samples of a block are spread at random
    over the next places, as many as the window has samples: at any place, samples come from
    the latest `window` blocks. From place to place an old block ends and a new one begins. So a
    reader that keeps `window + 1` blocks reads every block once. The first and last samples,
    as many as half a window has, are drawn from all blocks of the window at once.

    It mixes less than the others: a batch has samples of `window` blocks at most. To make the
    best of these, the order of blocks is spread out: of any 2, 4, 8 ... blocks that follow each
    other, about one is of each half, quarter, eighth ... of the data. And a batch takes about
    equally many samples from old and new blocks. A larger window mixes better.

    An order is computed piece by piece, for any place. It takes up to 50 bytes a sample of one
    window, and half a megabyte. Of a subset, blocks are made of places in the subset. If all blocks fit into the
    window, it is a `FullShuffle` with the same seed.

    Parameters
    ----------
    seed : int
        The seed, 0 or more.
    block_size : int, optional
        The number of samples in a block; the last block may be shorter. By default a source
        chooses it: the number of rows in a chunk of its storage. If several arrays have different
        chunks, it is the least number of rows that is made of whole chunks of each, unless
        that is above 65,536: then it is the largest chunk. For data in no chunks it is 1024.
    window : int
        The number of blocks from which samples are drawn at a time. If it is above 64, or has
        few samples, one or more of them may not be used, so that it slides in equal steps.

    >>> BlockShuffle(42, 3, window=2).order(11)[:]
    array([ 9,  2,  0,  1,  5, 10,  3,  7,  4,  8,  6])
    """

    seed: int
    block_size: int | None = None
    _: KW_ONLY
    window: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.block_size is not None:
            self._keep('block_size', check_positive('block_size', self.block_size))
        self._keep('window', check_positive('window', self.window))

    def _make_order(self, length: int, bits: np.random.PCG64) -> Order:
        size = self.block_size or BLOCK_SIZE
        return stored(length, bits) if length <= size * self.window else BlockOrder(length, bits, size, self.window)

    def _with_block_size(self, rows: int | None) -> BlockShuffle:
        return replace(self, block_size=rows) if self.block_size is None else self

    def _blocks(self) -> str:
        return f' in blocks of {self.block_size or BLOCK_SIZE}'
