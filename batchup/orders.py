"""Orders: the permutation of the samples for each repetition of an epoch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .errors import ReplayError
from .indices import IndexArray, Leaf
from .rng import Path, Purpose, SequentialRng, Shuffle


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
    """Orders drawn from a sequential generator, each when it is first needed."""

    def __init__(self, make: Callable[[SequentialRng], IndexArray], rng: SequentialRng) -> None:
        self._make = make
        self._rng = rng
        self._latest = -1
        self._order: IndexArray

    def __getitem__(self, repetition: int) -> IndexArray:
        if repetition < self._latest:
            raise passed(f'repetition {repetition}')
        while self._latest < repetition:
            self._order = _read_only(self._make(self._rng))
            self._latest += 1
        return self._order


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
        return DrawnOrders(lambda rng: rng.permutation(argument), shuffle.rng)
    return KeyedOrders(lambda rng: rng.permutation(argument), shuffle, purpose, path)


def passed(what: str) -> ReplayError:
    """Make the error for indices that a sequential generator has moved past."""
    return ReplayError(
        f'{what} was already drawn from a sequential generator, which cannot go back; '
        'make a new iterator with a generator in the same state, or use a seed (shuffle=42)'
    )
