"""Orders: the permutation of the samples for each repetition of an epoch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .errors import ReplayError
from .indices import IndexArray, Leaf
from .rng import Path, Purpose, Runs, SeededShuffle, SequentialRng, Shuffle


class FixedOrder:
    """The same order in every repetition."""

    def __init__(self, order: Leaf) -> None:
        self._order = order if isinstance(order, range) else _read_only(order.view())

    def __getitem__(self, repetition: int) -> Leaf:
        return self._order


class KeyedOrders:
    """Orders made from a key for each repetition, so that any can be made at any time.

    The latest order is kept: it takes 8 bytes a sample.
    """

    def __init__(
        self, make: Callable[[np.random.Generator], IndexArray], shuffle: Shuffle, purpose: Purpose, path: Path
    ) -> None:
        self._make = make
        self._shuffle = shuffle
        self._purpose = purpose
        self._path = path
        self._latest: tuple[int, IndexArray] | None = None

    def __getitem__(self, repetition: int) -> IndexArray:
        latest = self._latest
        if latest is None or latest[0] != repetition:
            rng = self._shuffle.generator(self._purpose, repetition, *self._path)
            latest = self._latest = repetition, _read_only(self._make(rng))
        return latest[1]


class DrawnOrders:
    """Permutations drawn from a sequential generator, each when it is first needed."""

    def __init__(self, permuted: int | IndexArray, rng: SequentialRng) -> None:
        self._permuted = permuted
        self._rng = rng
        self._latest = -1
        self._order: IndexArray

    def __getitem__(self, repetition: int) -> IndexArray:
        if repetition < self._latest:
            raise passed(f'repetition {repetition}')
        while self._latest < repetition:
            self._order = _read_only(self._rng.permutation(self._permuted))
            self._latest += 1
        return self._order


class ComputedOrders:
    """Orders of a shuffle that is an object: runs of them are computed when they are asked for.

    Of a subset, the shuffle orders the positions in the subset.
    """

    def __init__(self, permuted: range | IndexArray, maker: SeededShuffle, shuffle: Shuffle, path: Path) -> None:
        self._permuted = permuted
        self._maker = maker
        self._shuffle = shuffle
        self._path = path
        self._latest: tuple[int, Runs] | None = None

    def __getitem__(self, repetition: int) -> Runs:
        latest = self._latest
        if latest is None or latest[0] != repetition:
            latest = self._latest = repetition, self._make(repetition)
        return latest[1]

    def _make(self, repetition: int) -> Runs:
        permuted = self._permuted
        rng = self._shuffle.generator(Purpose.ORDER, repetition, *self._path)
        if isinstance(permuted, range):
            return self._maker.make_order(permuted.stop, rng)
        return _Chosen(permuted, self._maker.make_order(len(permuted), rng))


class _Chosen:
    """An order of chosen samples, from an order of their positions."""

    def __init__(self, indices: IndexArray, positions: Runs) -> None:
        self._indices = indices
        self._positions = positions

    def __getitem__(self, run: slice) -> IndexArray:
        return self._indices[self._positions[run]]


Orders = FixedOrder | KeyedOrders | DrawnOrders


def _read_only(order: IndexArray) -> IndexArray:
    """Keep users, who see parts of an order in requests, from changing it."""
    order.flags.writeable = False
    return order


def permutations(permuted: range | IndexArray, shuffle: Shuffle, purpose: Purpose, path: Path) -> Orders:
    """Return the orders in which a shuffle goes through some indices, one for each repetition."""
    if shuffle.in_order:
        return FixedOrder(permuted)
    argument = len(permuted) if isinstance(permuted, range) else permuted
    if shuffle.rng is not None:
        return DrawnOrders(argument, shuffle.rng)
    return KeyedOrders(lambda rng: rng.permutation(argument), shuffle, purpose, path)


def sample_orders(permuted: range | IndexArray, shuffle: Shuffle, path: Path) -> Orders | ComputedOrders:
    """Return the orders in which a shuffle goes through samples, one for each repetition."""
    if shuffle.maker is None:
        return permutations(permuted, shuffle, Purpose.ORDER, path)
    return ComputedOrders(permuted, shuffle.maker, shuffle, path)


def passed(what: str) -> ReplayError:
    """Make the error for indices that a sequential generator has moved past."""
    return ReplayError(
        f'{what} was already drawn from a sequential generator, which cannot go back; '
        'make a new iterator with a generator in the same state, or use a seed (shuffle=42)'
    )
