"""Parts that keep groups of samples together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ..._ground.indices import IndexArray
from ..._ground.labels import Labels
from ..._ground.randomness import SequentialRng

# Looking ahead: for this many of the groups that a part chooses from, the last ones, all possible
# sums are tried. Larger: sizes are met exactly more often. Smaller: faster, and less memory.
LOOK_AHEAD = 64
# The memory for looking ahead, in bits; with a great many samples, it is enough for fewer groups only.
LOOK_AHEAD_BITS = 2**28


def grouped_parts(groups: Labels, sizes: Sequence[int], rng: SequentialRng | None) -> tuple[IndexArray, ...]:
    """Make parts of whole groups; the last of `sizes` is for samples in no part.

    In order, larger parts get earlier groups: smaller ones choose first, from the end.
    """
    n_groups, n_parts = len(groups.values), len(sizes) - 1
    check_groups(n_groups, n_parts, 'parts')
    order = groups.by_appearance()[::-1] if rng is None else rng.permutation(n_groups)
    part_of_group = np.empty(n_groups, dtype=np.intp)
    for part, chosen in _choose_in_turn(order.tolist(), groups.counts.tolist(), sizes):
        part_of_group[chosen] = part
    part_of_sample = part_of_group[groups.codes]
    return tuple(np.flatnonzero(part_of_sample == part) for part in range(n_parts))


def check_groups(n_groups: int, number: int, what: str) -> None:
    """Raise an error unless there is a group for each part."""
    if n_groups < number:
        raise ValueError(f'groups holds too few groups, {n_groups}, for {number} {what}, which need one each')


def _choose_in_turn(left: list[int], counts: list[int], sizes: Sequence[int]) -> Iterator[tuple[int, list[int]]]:
    """Yield each part with its groups: smaller parts choose first, and of equal parts the last one."""
    n_parts = len(sizes) - 1
    turns = sorted((part for part, size in enumerate(sizes) if size), key=lambda part: (sizes[part], -part))
    for turn, part in enumerate(turns[:-1]):
        needed = sum(other < n_parts for other in turns[turn + 1 :])
        chosen = _choose(left, counts, sizes[part], len(left) - needed, may_be_empty=part == n_parts)
        yield part, chosen
        taken = set(chosen)
        left = [group for group in left if group not in taken]
    yield turns[-1], left


def _choose(left: list[int], counts: list[int], size: int, most: int, may_be_empty: bool) -> list[int]:
    """Choose at most `most` groups that have, together, as nearly as possible `size` samples.

    Early groups are taken while they fit. Of the last ones, those with the best sum are taken.
    """
    ahead = min(LOOK_AHEAD, LOOK_AHEAD_BITS // sum(counts) + 1)
    early, late = left[:-ahead], left[-ahead:]
    # Some of the size is kept for the late groups, which can make up about any part of it.
    need = size - sum(counts[group] for group in late if counts[group] <= size) // 2
    chosen = []
    for group in early:
        if counts[group] <= need:
            chosen.append(group)
            need -= counts[group]
    need = size - sum(counts[group] for group in chosen)
    allow_none = may_be_empty or bool(chosen)
    allow_all = most == len(left) or len(chosen) < len(early)
    return (chosen + _best(late, counts, need, allow_none, allow_all))[:most]


def _best(groups: list[int], counts: list[int], need: int, allow_none: bool, allow_all: bool) -> list[int]:
    """Choose the groups whose number of samples is nearest to `need`; of equal choices, the first in order."""
    # Bit s of sums[k] says whether some of the groups from k on have s samples together.
    sums = [1]
    for group in reversed(groups):
        sums.append(sums[-1] | sums[-1] << counts[group])
    sums.reverse()
    allowed = sums[0]
    if not allow_none:
        allowed &= ~1
    if not allow_all:
        allowed ^= 1 << (sums[0].bit_length() - 1)
    wanted = _nearest_bit(allowed, need)
    chosen = []
    for group, later in zip(groups, sums[1:]):
        if counts[group] <= wanted and later >> (wanted - counts[group]) & 1:
            chosen.append(group)
            wanted -= counts[group]
    return chosen


def _nearest_bit(bits: int, position: int) -> int:
    """Return the number of the set bit that is nearest to bit `position`; the lower of two."""
    below = (bits & ((1 << (position + 1)) - 1)).bit_length() - 1
    above = bits >> (position + 1)
    next_above = position + 1 + (above & -above).bit_length() - 1
    if below < 0 or (above and next_above - position < position - below):
        return next_above
    return below
