"""Draws of samples by weight, with and without replacement."""

from __future__ import annotations

import hashlib
import reprlib
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._ground.indices import IndexArray
from .._ground.randomness import SequentialRng

# From this many draws at once, the guide is used. Larger: more draws are made by binary
# search. Smaller: a guided search, which takes 15 microseconds at least, is made for few draws.
GUIDED_DRAWS = 512

# When only one in this many searches goes on, binary search ends it. Larger: more steps for few searches.
# Smaller: more binary searches, each of which costs about as much as log2(n) / 2 steps.
FEW_WALKS = 64

# Weights are scaled by this, so that quotients by the smallest of them stay finite.
SCALE = 2.0**900

# With this many terms of its series, the logarithm's error is below one part in 1e15.
LOG_TERMS = 15

LOG_2 = 0.6931471805599453


class WeightTable:
    """The weights of samples, and the tables that are made of them once, to draw fast.

    Takes 8 bytes a weight; 8 more for draws with replacement, and up to 8 more for those by
    a seed. It never changes: plans that use it are not touched when the sampler gets
    other weights.

    Parameters
    ----------
    weights : array of shape (n,), float64
        Normalised weights; made read-only.
    drawn_from : array of shape (n,), intp, optional
        What a draw gives for each weight; the numbers from 0 to n - 1 by default.

    >>> WeightTable(normalise_weights('weights', [0, 1, 0])).draw(np.random.RandomState(1), 4)
    array([1, 1, 1, 1])
    """

    def __init__(self, weights: NDArray[np.float64], drawn_from: IndexArray | None = None) -> None:
        weights.flags.writeable = False
        self.weights = weights
        self._drawn_from = drawn_from

    def __reduce__(self) -> tuple[Any, ...]:
        # Tables are not pickled: they can be made again.
        return WeightTable, (self.weights, self._drawn_from)

    def draw(self, rng: SequentialRng, count: int) -> IndexArray:
        """Draw with replacement, as `rng.choice(n, size=count, p=weights)` does, bit for bit."""
        uniforms = rng.random(count)
        if count < GUIDED_DRAWS:
            return self._samples(self._cumulative.searchsorted(uniforms, side='right'))
        return self._samples(self._search(uniforms))

    def draw_distinct(self, rng: SequentialRng, count: int) -> IndexArray:
        """Draw without replacement: one after the other by weight, from those that are left.

        To sort exponential variates, each divided by its weight, gives the same distribution:
        Efraimidis and Spirakis, "Weighted random sampling with a reservoir", Information
        Processing Letters 97 (2006), whose keys are those of an exponential race, monotonically
        transformed. Takes time and memory for all positive weights, whatever the count.
        """
        keys = exponentials(rng, self.positive.size) / (self.weights[self.positive] * SCALE)
        # A stable sort orders equal keys; `partition` would leave that to its algorithm.
        first = np.flatnonzero(keys <= np.partition(keys, count - 1)[count - 1])
        order = first[keys[first].argsort(kind='stable')][:count]
        return self._samples(self.positive[order])

    def _samples(self, drawn: IndexArray) -> IndexArray:
        return drawn if self._drawn_from is None else self._drawn_from[drawn]

    @cached_property
    def positive(self) -> IndexArray:
        """The places of the weights that are not 0."""
        return np.flatnonzero(self.weights)

    @cached_property
    def digest(self) -> str:
        """16 hexadecimal digits that tell tables apart."""
        hashed = hashlib.blake2b(np.ascontiguousarray(self.weights, '<f8').data, digest_size=8)
        if self._drawn_from is not None:
            hashed.update(np.ascontiguousarray(self._drawn_from, '<i8').data)
        return hashed.hexdigest()

    @cached_property
    def _cumulative(self) -> NDArray[np.float64]:
        # What RandomState.choice computes anew for every batch.
        cumulative: NDArray[np.float64] = self.weights.cumsum()
        cumulative /= cumulative[-1]
        return cumulative

    @cached_property
    def _guide(self) -> NDArray[Any]:
        """How many cumulative weights are at most j / m, for j from 0 to m.

        m is a power of 2, so that products with it are exact.
        """
        n = self.weights.size
        m = 1 << (n - 1).bit_length()
        counts = np.bincount(np.ceil(self._cumulative * m).astype(np.intp), minlength=m + 1)
        return counts.cumsum().astype(np.min_scalar_type(n))

    def _search(self, uniforms: NDArray[np.float64]) -> IndexArray:
        """Find what `cumulative.searchsorted(uniforms, side='right')` finds, in O(1) for each uniform.

        The guide tells where to begin, and steps lead forward from there: Chen and Asau, "On generating random
        variates from an empirical distribution", AIIE Transactions 6 (1974). For any weights,
        the expected number of steps is at most 1; binary search ends the longest walks.
        """
        found = self._guide.take((uniforms * (self._guide.size - 1)).astype(np.intp)).astype(np.intp)
        walking, few = np.flatnonzero(self._cumulative.take(found) <= uniforms), uniforms.size // FEW_WALKS
        while walking.size > few:
            steps = found.take(walking) + 1
            found[walking] = steps
            walking = walking.take(np.flatnonzero(self._cumulative.take(steps) <= uniforms.take(walking)))
        found[walking] = self._cumulative.searchsorted(uniforms.take(walking), side='right')
        return found


def exponentials(rng: SequentialRng, count: int) -> NDArray[np.float64]:
    """Draw from the exponential distribution, one uniform for each.

    The logarithm is computed by sums and products, which are the same on every platform. The
    logarithms of libraries differ in the last bit.

    >>> uniforms = np.random.default_rng(1).random(1000)
    >>> np.allclose(exponentials(np.random.default_rng(1), 1000), -np.log1p(-uniforms), rtol=1e-14)
    True
    """
    mantissas, exponents = np.frexp(1.0 - rng.random(count))
    # log(m) = 2 artanh(t), with t from 0 to 1/3
    t = (1.0 - mantissas) / (1.0 + mantissas)
    squares, series = t * t, np.full(count, 1.0 / (2 * LOG_TERMS + 1))
    for term in range(LOG_TERMS - 1, -1, -1):
        series *= squares
        series += 1.0 / (2 * term + 1)
    drawn: NDArray[np.float64] = 2.0 * t * series - exponents * LOG_2
    return drawn


def normalise_weights(name: str, weights: ArrayLike, of: str = 'sample') -> NDArray[np.float64]:
    """Return weights as float64 that sum to 1; `of` says in errors what has the weights.

    Raises
    ------
    TypeError
        If they are no numbers.
    ValueError
        If they do not form one dimension, are negative, NaN or infinite, or sum to 0.
    """
    try:
        array = np.asarray(weights, dtype=np.float64)
    except (TypeError, ValueError):
        hint = '; WeightedSampler.class_balancing_sampler(y) draws all classes equally often' if of == 'sample' else ''
        raise TypeError(f'{name} must be numbers, got {reprlib.repr(weights)}{hint}') from None
    if array.ndim != 1:
        raise ValueError(f'{name} must have one dimension, got shape {array.shape}')
    wrong = np.flatnonzero(~np.isfinite(array) | (array < 0))
    if wrong.size:
        raise ValueError(f'{name} must be finite and 0 or more, got {array[wrong[0]]} for {of} {wrong[0]}')
    if not array.size:
        raise ValueError(f'{name} must hold at least one number, got none')
    largest = array.max()
    if largest == 0:
        raise ValueError(f'{name} sum to 0: at least one of the {array.size} must be positive')
    if not 1e-100 < largest < 1e100:  # the sum could leave the range of float64
        array = array / largest
    # Added one after the other, as cumsum is defined; in which order sum adds is up to NumPy.
    normalised: NDArray[np.float64] = array.cumsum()
    np.divide(array, normalised[-1], out=normalised)
    return normalised
