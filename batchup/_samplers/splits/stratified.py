"""Parts that have their share of every label."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..._ground.indices import IndexArray
from ..._ground.labels import Labels
from ..._ground.randomness import SequentialRng
from .common import cut


def stratified_parts(labels: Labels, sizes: Sequence[int], rng: SequentialRng | None) -> tuple[IndexArray, ...]:
    """Make parts with every label in each; the last of `sizes` is for samples in no part.

    Draws are those of scikit-learn's `StratifiedShuffleSplit`: ties between labels, then the
    order of the samples of each label, then the order of each part.
    """
    n_parts = len(sizes) - 1
    check_counts('stratify', labels, n_parts, 'parts')
    _check_parts(labels, sizes[:-1])
    shares = _shares(labels.counts, sizes[:-1], rng)
    pieces = []
    for members, of_label in zip(labels.members(), shares.T):
        order = members if rng is None else members[rng.permutation(len(members))]
        pieces.append(cut(order, of_label))
    parts = [np.concatenate([piece[part] for piece in pieces]) for part in range(n_parts)]
    return tuple(np.sort(part) if rng is None else rng.permutation(part) for part in parts)


def check_counts(name: str, labels: Labels, number: int, what: str) -> None:
    """Raise an error if a label has fewer samples than there are parts; it names the first such label."""
    rare = np.flatnonzero(labels.counts < number)
    if rare.size:
        label, count = labels.values[rare[0]], labels.counts[rare[0]]
        raise ValueError(
            f'{name}: class {label!r} has too few samples, {count}, for {number} {what}, '
            'which need one each; leave it out or join it with another class'
        )


def _check_parts(labels: Labels, sizes: Sequence[int]) -> None:
    for part, size in enumerate(sizes):
        if size < len(labels.values):
            raise ValueError(
                f'stratify: part {part} of {size} samples is too small for {len(labels.values)} classes, '
                'which need one each'
            )


def _shares(counts: IndexArray, sizes: Sequence[int], rng: SequentialRng | None) -> IndexArray:
    """Return how many samples of each label every part gets, an array of shape (parts, labels)."""
    left, rows = counts, []
    for part, size in enumerate(sizes):
        shares, quotas = _apportion(left, size, rng)
        row = _within(shares, left - (len(sizes) - 1 - part), quotas)
        rows.append(row)
        left = left - row
    return np.array(rows)


def _apportion(counts: IndexArray, size: int, rng: SequentialRng | None) -> tuple[IndexArray, NDArray[np.float64]]:
    """Share out `size` by the largest remainders; ties are drawn, or go to the first labels."""
    quotas = counts / counts.sum() * size
    shares = np.floor(quotas)
    remainders = quotas - shares
    missing = int(size - shares.sum())
    for remainder in np.unique(remainders)[::-1]:
        if missing <= 0:
            break
        tied = np.flatnonzero(remainders == remainder)
        if rng is not None:
            tied = rng.choice(tied, size=min(missing, len(tied)), replace=False)
        shares[tied[:missing]] += 1
        missing -= len(tied)
    return shares.astype(np.intp), quotas


def _within(shares: IndexArray, highest: IndexArray, quotas: NDArray[np.float64]) -> IndexArray:
    """Bound shares by 1 and by `highest`, which leaves 1 for each later part; keep their sum."""
    bounded = np.clip(shares, 1, highest)
    excess = int(bounded.sum() - shares.sum())
    step = 1 if excess < 0 else -1
    for _ in range(abs(excess)):
        movable = bounded < highest if step > 0 else bounded > 1
        distance = np.where(movable, (quotas - bounded) * step, -np.inf)
        bounded[np.argmax(distance)] += step
    return bounded
