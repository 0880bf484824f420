"""The order of samples that are read in blocks: a window of blocks slides over the data.

Blocks stand in a random order, and their samples side by side in a line. The line is cut into
*sections* of equal size, and each section, in random order, into W parts. Place by place, the order
is made of *stretches*: stretch t takes part 0 of section t, part 1 of section t - 1, and so on up to
part W - 1 of section t - W + 1. So samples of W sections are mixed at any place, and from each
stretch to the next one section ends and another one begins.

Parts have sizes that are known beforehand, the same in every section. So all stretches have the
size of a section, and where one starts is a product: no place needs what came before it. At the
start of the epoch there are too few sections behind; the first W stretches, which have samples
of W sections, are mixed as a whole, and in the same way the last W.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from .._ground.indices import IndexArray
from .._ground.randomness import Purpose, draw_permutation, keyed_generator
from .order import PIECE_SAMPLES, Order

# A section is divided into at most so many parts. Larger: a window slides in smaller steps, and batches
# take more evenly of its blocks. Smaller: fewer steps of Python.
MOST_PARTS = 64

# How many slots are given blocks at once. Larger: more time before the first batch. Smaller: more calls.
PIECE_SLOTS = 1024

# The factors in the finaliser of MurmurHash3 (Austin Appleby, public domain).
FIRST_FACTOR = np.uint64(0xFF51AFD7ED558CCD)
SECOND_FACTOR = np.uint64(0xC4CEB9FE1A85EC53)
ONE, HALF, LAST_BIT = np.uint64(1), np.uint64(33), np.uint64(63)

Words = NDArray[np.uint64]

# Where in the mixture of parts the stretch of each section begins, and the samples, section by section.
_Page = tuple[list[int], IndexArray]


class SpreadOrder(Order):
    """A random order in which any numbers that follow each other are spread evenly.

    Of every two places, the first and the second, the third and the fourth, and so on, one has
    a number of the lower half, and one of the upper half: a random bit says which. The places
    that have got the same half are treated alike, for its lower and upper half, until each
    place has one number. So of any k consecutive places, about k/2 have numbers of each half,
    k/4 of each quarter, and so on. The numbers are those of a ring that starts anywhere, so
    that each of them is equally likely at every place.

    Parameters
    ----------
    length : int
        How many numbers there are, up to 2**63.
    bits : PCG64
        Where the random bits come from.
    """

    def __init__(self, length: int, bits: np.random.PCG64) -> None:
        super().__init__(length)
        self._keys = bits.random_raw(max(length - 1, 0).bit_length())
        self._start = _draw_below(max(length, 1), bits)

    def _make_piece(self, place: int) -> tuple[int, IndexArray]:
        first = place - place % PIECE_SLOTS
        ranks = np.uint64(first) + np.arange(min(PIECE_SLOTS, self._length - first), dtype=np.uint64)
        numbers = self._numbers(ranks)
        numbers += np.uint64(self._start)
        numbers[numbers >= np.uint64(self._length)] -= np.uint64(self._length)
        return first, numbers.astype(np.intp)

    def _numbers(self, ranks: Words) -> Words:
        """Return the numbers at some places of a ring that starts at 0."""
        # The numbers left for each place are so many from `lowest` on; its rank is among their places.
        lowest, left = np.zeros_like(ranks), np.full_like(ranks, self._length)
        for key in self._keys:
            pairs, uppers = ranks >> ONE, left >> ONE
            is_upper = (ranks ^ _random_bits(lowest + pairs, key)) & ONE
            is_upper *= pairs < uppers  # the last of an odd number of places has no partner
            lowers = left - uppers
            lowest += is_upper * lowers
            left = np.where(is_upper, uppers, lowers)
            ranks = pairs
        return lowest


class BlockOrder(Order):
    """The order of samples of a `BlockShuffle`, for more blocks than fit into its window.

    The last block, which may be short, has a random place among the others.

    Parameters
    ----------
    length : int
        The number of samples, up to 2**63.
    bits : PCG64
        Where the random bits come from.
    block_size, window : int
        As for `BlockShuffle`.
    """

    def __init__(self, length: int, bits: np.random.PCG64, block_size: int, window: int) -> None:
        super().__init__(length)
        self._block_size = block_size
        self._slots = -(-length // block_size)
        self._missing = self._slots * block_size - length
        self._key = _draw_below(2**128, bits)
        self._last_slot = _draw_below(self._slots, bits)
        self._other_blocks = SpreadOrder(self._slots - 1, bits)
        self._n_parts = _count_parts(block_size, window)
        self._size = window // self._n_parts * block_size
        self._last_section = -(-length // self._size) - 1
        # Where parts end in a section; the first stretches have the first parts of sections.
        self._part_ends = [(part + 1) * self._size // self._n_parts for part in range(self._n_parts)]
        self._first_samples = sum(self._part_ends)
        self._mixture = _mix_parts(self._part_ends, bits)
        self._per_page = max(self._n_parts, -(-PIECE_SAMPLES // self._size))
        # The latest page, which the next one needs, too: its number, and what `_make_page` returns.
        self._latest: tuple[int, _Page] | None = None

    def _make_piece(self, place: int) -> tuple[int, IndexArray]:
        stretch = self._n_parts + (place - self._first_samples) // self._size
        if stretch < self._n_parts:
            return 0, self._first_piece()
        if stretch >= self._last_section:
            return self._start(self._last_section), self._last_piece()
        return self._middle_piece(stretch // self._per_page)

    def _start(self, stretch: int) -> int:
        """Return the place at which a stretch starts that is not among the first."""
        return self._first_samples + (stretch - self._n_parts) * self._size

    def _first_piece(self) -> IndexArray:
        """Mix the first stretches, up to number `n_parts`: all that sections have for them."""
        _, samples = self._page(0)
        ends = reversed(self._part_ends)
        parts = [samples[section * self._size :][:end] for section, end in enumerate(ends)]
        return draw_permutation(keyed_generator(self._key, Purpose.ORDER, 0, 0), np.concatenate(parts))

    def _last_piece(self) -> IndexArray:
        """Mix the last stretches, from that of the last section on: what sections have left for them."""
        first = self._last_section - self._n_parts + 1
        pages = range(first // self._per_page, self._last_section // self._per_page + 1)
        samples = np.concatenate([self._page(page)[1] for page in pages])
        samples = samples[(first - pages[0] * self._per_page) * self._size :]
        begins = [0, *self._part_ends[:-1]][::-1]
        parts = [samples[k * self._size : (k + 1) * self._size][begin:] for k, begin in enumerate(begins)]
        return draw_permutation(keyed_generator(self._key, Purpose.ORDER, 0, 1), np.concatenate(parts))

    def _middle_piece(self, page: int) -> tuple[int, IndexArray]:
        """Make the stretches of the sections of a page that are neither among the first nor the last."""
        size, base = self._size, page * self._per_page
        # All sections that they take from, and where these are among all sections.
        before = [self._page(page - 1)[1]] if page else []
        rolls, own = self._page(page)
        samples, offset = np.concatenate([*before, own]), base - self._per_page * len(before)
        first, last = max(base, self._n_parts), min(base + self._per_page, self._last_section)
        piece = np.empty((last - first, size), np.intp)
        for row, stretch in zip(piece, range(first, last)):
            roll = rolls[stretch - base]
            sections = samples[(stretch - self._n_parts + 1 - offset) * size :]
            sections.take(self._mixture[roll : roll + size], out=row, mode='clip')
        return self._start(first), piece.reshape(-1)

    def _page(self, number: int) -> _Page:
        latest = self._latest
        if latest is None or latest[0] != number:
            latest = self._latest = number, self._make_page(number)
        return latest[1]

    def _make_page(self, number: int) -> _Page:
        """Shuffle the samples of each section of a page; say where in the mixture its stretch begins."""
        rng = keyed_generator(self._key, Purpose.ORDER, number)
        rolls = rng.randint(self._size, size=self._per_page, dtype=np.int64).tolist()
        start = number * self._per_page * self._size
        samples = self._line(start, min(start + self._per_page * self._size, self._length))
        for begin in range(0, len(samples), self._size):
            rng.shuffle(samples[begin : begin + self._size])
        return rolls, samples

    def _line(self, start: int, stop: int) -> IndexArray:
        """Return the samples at some places of the line, in which the blocks are side by side."""
        first, last = self._slot(start), self._slot(stop - 1)
        slots = first + np.arange(last - first + 1, dtype=np.intp)
        blocks = np.full(len(slots), self._slots - 1, dtype=np.intp)
        others = slots != self._last_slot
        begin, size = first - (first > self._last_slot), self._block_size
        blocks[others] = self._other_blocks[begin : begin + np.count_nonzero(others)]
        samples = (blocks[:, np.newaxis] * size + np.arange(size, dtype=np.intp)).reshape(-1)
        if not others.all():
            end = (self._last_slot - first + 1) * size
            samples = np.concatenate([samples[: end - self._missing], samples[end:]])
        skipped = start - first * size + (self._missing if first > self._last_slot else 0)
        return samples[skipped : skipped + stop - start]

    def _slot(self, place: int) -> int:
        """Return the slot of the block that is at a place of the line."""
        short_end = (self._last_slot + 1) * self._block_size - self._missing
        return (place if place < short_end else place + self._missing) // self._block_size


def _draw_below(limit: int, bits: np.random.PCG64) -> int:
    """Draw a number below a limit of up to 2**128; for limits up to 2**63, all are as good as equally likely."""
    return int.from_bytes(bits.random_raw(2).astype('<u8').tobytes(), 'little') % limit


def _random_bits(numbers: Words, key: int) -> Words:
    """Return words made from numbers and a key, of which the last bit is random."""
    words = (numbers ^ np.uint64(key)) * FIRST_FACTOR
    words ^= words >> HALF
    words *= SECOND_FACTOR
    return words >> LAST_BIT


def _count_parts(block_size: int, window: int) -> int:
    """Choose the number of parts of a section, so that about `window` blocks make so many sections.

    It is at most the square root of the samples in a window: sections have no empty parts.
    """
    most = min(MOST_PARTS, window, math.isqrt(window * block_size))
    return max(range(most // 2 + 1, most + 1), key=lambda parts: (window // parts * parts, parts))


def _mix_parts(part_ends: list[int], bits: np.random.PCG64) -> IndexArray:
    """Say how a stretch takes its samples of the sections, which are side by side, the latest one last.

    Parts come in turns, each turn in an order of its own. A stretch may begin anywhere among these
    samples, and goes round to where it began: they are here twice.

    Returns
    -------
    array, intp
        For each sample, its place in the sections.
    """
    ends = np.array(part_ends, np.intp)
    sizes = np.diff(ends, prepend=0)
    parts = np.arange(len(ends), dtype=np.intp).repeat(sizes)
    places = np.arange(ends[-1], dtype=np.intp)
    turns = (places - (ends - sizes)[parts] + np.random.RandomState(bits).random_sample(len(places))) / sizes[parts]
    sections = (len(ends) - 1 - parts) * ends[-1]
    return np.tile((sections + places)[turns.argsort(kind='stable')], 2)
