"""A pseudo-random permutation that is computed, number by number, and takes no memory.

A Feistel network over numbers in two parts, `high * 2**low_bits + low`, changes one part by
a keyed function of the other, in turns. Each such round can be undone, so all of them
together are a permutation, whatever the function. Lengths that are no power of two are
treated as in Black and Rogaway, *Ciphers with Arbitrary Finite Domains* (CT-RSA
2002): the high part is added to modulo the number of its values, and a number that comes
out beyond the length is put in again until it is not ("cycle walking").
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .._ground.indices import IndexArray

# 4 rounds pass all the statistical tests that 3 rounds fail. Larger: slower, by about 1
# nanosecond a number for each round. Smaller: neighbours stay related.
ROUNDS = 6

# Odd numbers with their ones and zeros well mixed: near 2**32 / golden ratio, and the first
# factor in the finaliser of MurmurHash3 (Austin Appleby, public domain).
GOLDEN = np.uint32(0x9E3779B1)
MURMUR = np.uint32(0x85EBCA6B)

# NumPy has fast loops for arrays of 32 bits, and for one type on both sides.
Words = NDArray[np.uint32]
Key = tuple[np.uint32, np.uint32]


class Feistel:
    """A keyed permutation of the numbers below a length.

    Parameters
    ----------
    length : int
        How many numbers there are, from 2 to 2**63.
    keys : array of shape (6,), uint64
        Random numbers, one for each round.

    >>> permutation = Feistel(5, np.arange(6, dtype=np.uint64))
    >>> sorted(permutation(np.arange(5)).tolist())
    [0, 1, 2, 3, 4]
    """

    def __init__(self, length: int, keys: NDArray[np.uint64]) -> None:
        # Parts of about equal size: few numbers come out beyond the length, and both parts
        # fit into 32 bits. The high part is at most 2**31, so that the sum of two of them does, too.
        self._last = length - 1
        self._low_bits = ((length - 1).bit_length() + 1) // 2
        self._low_mask = (1 << self._low_bits) - 1
        self._highs = -(-length >> self._low_bits)
        halves = [(np.uint32(key >> 32 | 1), np.uint32(key & 0xFFFFFFFF)) for key in keys.tolist()]
        self._key_pairs = list(zip(halves[::2], halves[1::2]))

    def __call__(self, numbers: IndexArray) -> IndexArray:
        """Return what numbers are mapped to; best for some thousands at once, which fit into a cache."""
        results = self._once(numbers)
        beyond = np.flatnonzero(results > self._last)
        while beyond.size:
            results[beyond] = self._once(results[beyond])
            beyond = beyond[results[beyond] > self._last]
        return results

    def _once(self, numbers: IndexArray) -> IndexArray:
        """Map numbers by all rounds, once; some results may be beyond the length."""
        high, low = (numbers >> self._low_bits).astype(np.uint32), (numbers & self._low_mask).astype(np.uint32)
        mixed, spare = np.empty_like(high), np.empty_like(high)
        highs, unused_bits = np.uint32(self._highs), np.uint32(32 - self._low_bits)
        for low_key, high_key in self._key_pairs:
            self._mix(high, low_key, mixed, spare)
            np.right_shift(mixed, unused_bits, out=mixed)
            np.bitwise_xor(low, mixed, out=low)
            self._mix(low, high_key, mixed, spare)
            self._scale(mixed)
            np.add(high, mixed, out=high)
            # Modulo: for numbers below `highs`, the difference wraps around and is huge.
            np.subtract(high, highs, out=mixed)
            np.minimum(high, mixed, out=high)
        results = high.astype(np.intp)
        np.left_shift(results, self._low_bits, out=results)
        return np.bitwise_or(results, low, out=results)

    def _mix(self, part: Words, key: Key, mixed: Words, spare: Words) -> None:
        """Write pseudo-random words made from a part and a key into `mixed`; the highest bits are best."""
        factor, term = key
        np.multiply(part, factor, out=mixed)
        np.add(mixed, term, out=mixed)
        _fold(mixed, np.uint32(15), GOLDEN, spare)
        if self._low_bits > 16:  # all of the bits are used
            _fold(mixed, np.uint32(16), MURMUR, spare)

    def _scale(self, words: Words) -> None:
        """Scale words, which are below 2**32, to the range of the high part."""
        if self._highs <= 2**16:
            np.right_shift(words, np.uint32(16), out=words)
            np.multiply(words, np.uint32(self._highs), out=words)
            np.right_shift(words, np.uint32(16), out=words)
        else:
            wide = words.astype(np.uint64)
            np.multiply(wide, np.uint64(self._highs), out=wide)
            np.right_shift(wide, np.uint64(32), out=wide)
            words[:] = wide


def _fold(words: Words, shift: np.uint32, factor: np.uint32, spare: Words) -> None:
    """Let high bits change low ones, and these, by a product, the high ones again."""
    np.right_shift(words, shift, out=spare)
    np.bitwise_xor(words, spare, out=words)
    np.multiply(words, factor, out=words)
