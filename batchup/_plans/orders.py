"""Orders: the permutation of the samples for each repetition of an epoch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .._ground.indices import IndexArray, Leaf
from .._ground.randomness import Path, Purpose, Runs, SeededShuffle, SequentialRng, Shuffle, draw_permutation
from ..errors import ReplayError


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
        self, make: Callable[[np.random.RandomState], IndexArray], shuffle: Shuffle, purpose: Purpose, path: Path
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


class DistinctOrders:
    """Orders in which no index comes twice in a batch that goes across the end of a repetition.

    If a repetition begins within a batch, those of its first `batch_size` indices that the
    batch already has are moved behind the others of these. The latest order is kept.

    Parameters
    ----------
    orders : KeyedOrders or DrawnOrders
        The orders to start from, without duplicates.
    length : int
        The number of indices of each.
    batch_size : int
        The number of indices that a batch takes, at most `length`.
    """

    def __init__(self, orders: KeyedOrders | DrawnOrders, length: int, batch_size: int) -> None:
        self._orders = orders
        self._length = length
        self._batch_size = batch_size
        self._latest: tuple[int, IndexArray] | None = None

    def __getitem__(self, repetition: int) -> IndexArray:
        reached = -1 if self._latest is None else self._latest[0]
        first = repetition
        while first != reached and self._depends_on_last(first):
            first -= 1
        for number in range(first, repetition + 1):
            if number != reached:
                self._latest = number, self._make(number)
        assert self._latest is not None
        return self._latest[1]

    def _shared(self, repetition: int) -> int:
        """Return how many indices of a repetition's first batch belong to the repetition before."""
        return repetition * self._length % self._batch_size

    def _depends_on_last(self, repetition: int) -> bool:
        """Say whether the order of a repetition depends on indices that moved in the one before.

        This needs a length of less than twice the batch size. A repetition that starts with
        a new batch depends on none.
        """
        shared = self._shared(repetition)
        return shared > 0 and self._length - shared < self._batch_size

    def _make(self, repetition: int) -> IndexArray:
        shared = self._shared(repetition)
        if not shared:
            return self._orders[repetition]
        latest = self._latest
        before = latest[1] if latest is not None and latest[0] == repetition - 1 else self._orders[repetition - 1]
        order = self._orders[repetition]
        start = order[: self._batch_size]
        used = np.isin(start, before[self._length - shared :])
        if not used.any():
            return order
        return _read_only(np.concatenate([start[~used], start[used], order[self._batch_size :]]))


class ComputedOrders:
    """Orders that a shuffle object makes; slices of them are computed when they are asked for.

    For a subset, the shuffle permutes the places in the subset.
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
        bits = self._shuffle.bits(Purpose.ORDER, repetition, *self._path)
        if isinstance(permuted, range):
            return self._maker._make_order(permuted.stop, bits)
        return _Chosen(permuted, self._maker._make_order(len(permuted), bits))


class _Chosen:
    """The order of the samples of a subset, given the order of their places in it."""

    def __init__(self, indices: IndexArray, places: Runs) -> None:
        self._indices = indices
        self._places = places

    def __getitem__(self, run: slice) -> IndexArray:
        return self._indices[self._places[run]]


Orders = FixedOrder | KeyedOrders | DrawnOrders | DistinctOrders


def _read_only(order: IndexArray) -> IndexArray:
    """Make an order read-only: users see parts of it in requests, and must not change it."""
    order.flags.writeable = False
    return order


def permutations(permuted: range | IndexArray, shuffle: Shuffle, purpose: Purpose, path: Path) -> Orders:
    """Return the orders in which a shuffle goes through some indices, one for each repetition."""
    if shuffle.in_order:
        return FixedOrder(permuted)
    argument = len(permuted) if isinstance(permuted, range) else permuted
    if shuffle.rng is not None:
        return DrawnOrders(lambda rng: rng.permutation(argument), shuffle.rng)
    return KeyedOrders(lambda rng: draw_permutation(rng, argument), shuffle, purpose, path)


def distinct_permutations(
    permuted: range | IndexArray, batch_size: int, shuffle: Shuffle, purpose: Purpose, path: Path
) -> Orders:
    """Return orders as `permutations` does, with no index twice in a batch of the given size."""
    orders = permutations(permuted, shuffle, purpose, path)
    if isinstance(orders, (KeyedOrders, DrawnOrders)):
        return DistinctOrders(orders, len(permuted), batch_size)
    return orders


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
