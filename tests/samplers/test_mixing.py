"""How well orders mix, in units of standard deviations over true permutations."""

import itertools

import numpy as np
import pytest

from batchup._ground.randomness import draw_permutations
from batchup._samplers.feistel import Feistel
from batchup.sampling import BlockShuffle, ComputedShuffle


def excess(counts):
    """Return how far counts of equally likely things are from equal: chi-square, standardised."""
    expected, freedom = counts.mean(), counts.size - 1
    return (((counts - expected) ** 2 / expected).sum() - freedom) / np.sqrt(2 * freedom)


def bins(values, length, count):
    return np.bincount((values / length * count).astype(int).clip(0, count - 1), minlength=count)


def positions(indices, length):
    return bins(indices, length, 64)


def pairs(indices, length):
    high, low = (indices[side] / length * 16 // 1 for side in (slice(1, None), slice(None, -1)))
    return bins(high * 16 + low, 256, 256)


def differences(indices, length):
    return bins(np.diff(indices / length) % 1, 1, 128)


def distant_differences(indices, length):
    half = 1 << ((length - 1).bit_length() + 1) // 2  # the parts of the Feistel network
    lag = half if half < len(indices) // 2 else 1000
    return bins((indices[lag:] / length - indices[:-lag] / length) % 1, 1, 128)


MEASURES = [positions, pairs, differences, distant_differences]

PERMUTATIONS = {
    'true': lambda length, seed: np.random.default_rng(seed).permutation(length),
    'computed': lambda length, seed: ComputedShuffle(seed).order(length)[:60_000],
}


def measured(measure, permute, length, seeds=20):
    return excess(sum(measure(permute(length, seed), length) for seed in range(seeds)))


@pytest.mark.parametrize('measure', MEASURES)
@pytest.mark.parametrize(
    ('kind', 'length'),
    [('true', 70_001), *(('computed', n) for n in (65_537, 70_001, 100_000, 10**6, 10**9, 2**40 + 1, 2**63))],
)
def test_an_order_looks_random(kind, length, measure):
    assert measured(measure, PERMUTATIONS[kind], length) < 4


@pytest.mark.parametrize('measure', [pairs, differences, distant_differences])
def test_the_measures_tell_too_few_rounds(measure):
    def permute(length, seed):
        return Feistel(length, np.random.PCG64(seed).random_raw(2))(np.arange(length))

    assert measured(measure, permute, 70_001) > 10


@pytest.mark.parametrize('position', [0, 1, 40_000, -1])
def test_every_sample_is_equally_likely_at_a_position(position):
    indices = [ComputedShuffle(seed).order(70_001)([position, position - 1]) for seed in range(1500)]
    first, second = np.array(indices).T
    assert excess(bins(first, 70_001, 16)) < 4
    assert excess(bins((first - second) % 70_001, 70_001, 16)) < 4


def test_a_computed_order_leaves_as_many_samples_in_place_as_a_true_one():
    fixed = [np.count_nonzero(ComputedShuffle(seed).order(70_001)[:] == np.arange(70_001)) for seed in range(200)]
    assert abs(np.mean(fixed) - 1) < 0.3
    assert abs(np.var(fixed) - 1) < 0.5


def test_parts_of_neighbouring_samples_repeat_as_often_as_by_chance():
    """Feistel networks of few rounds betray themselves by these."""
    length, part = 2**20, 2**10
    repeats = []
    for seed in range(100):
        counts = np.bincount(ComputedShuffle(seed).order(length)[:part] // part, minlength=part)
        repeats.append((counts * (counts - 1) // 2).sum())
    expected = part * (part - 1) / 2 * (part - 1) / (length - 1)
    assert abs(np.mean(repeats) - expected) < 4 * np.sqrt(expected / 100)


def test_permutations_that_are_drawn_together_are_equally_likely():
    rows = draw_permutations(np.random.RandomState(3), 60_000, 4) @ [64, 16, 4, 1]
    counts = np.bincount(rows, minlength=256)
    possible = np.array(list(itertools.permutations(range(4)))) @ [64, 16, 4, 1]
    assert counts[possible].sum() == 60_000
    assert abs(excess(counts[possible])) < 5


def test_each_row_of_permutations_has_every_number_once():
    for size in (1, 2, 3, 64, 65, 5000):
        rows = draw_permutations(np.random.RandomState(size), 3, size)
        np.testing.assert_array_equal(np.sort(rows), np.tile(np.arange(size), (3, 1)))


@pytest.mark.parametrize(('block_size', 'window'), [(1, 1), (3, 2), (3, 5), (8, 2)])
def test_every_sample_of_blocks_is_equally_likely_at_every_place(block_size, window):
    counts = np.zeros((24, 24), int)
    for seed in range(1000):
        np.add.at(counts, (np.arange(24), BlockShuffle(seed, block_size, window=window).order(24)[:]), 1)
    assert excess(counts) < 4


def test_blocks_of_a_window_mix_classes_nearly_as_a_true_shuffle():
    """Of 100 classes, one after the other, a batch of a true shuffle has 92.4."""
    for seed in range(3):
        order = BlockShuffle(seed, 100, window=256).order(100_000)[:99_840]
        batches = np.sort(order.reshape(-1, 256) // 1000, axis=1)
        assert (np.diff(batches, axis=1) > 0).sum(axis=1).mean() + 1 > 90
