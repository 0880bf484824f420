"""Splits: parts of given sizes, folds, and what they refuse."""

import datetime
import itertools
import os
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchup._samplers.splits.sizes import part_sizes
from batchup.splits import (
    group_k_fold,
    k_fold,
    split,
    stratified_k_fold,
    time_series_split,
    time_split,
    train_test_split,
)

from ..cases import SHUFFLES as SHUFFLE_KEYWORDS

SHUFFLES = {name: lambda make=make: make().get('shuffle') for name, make in SHUFFLE_KEYWORDS.items()}
any_shuffle = pytest.mark.parametrize('shuffle', SHUFFLES.values(), ids=SHUFFLES)
LETTERS = np.array(list('abbabcacbacbabac'))


def listed(parts):
    return [part.tolist() for part in parts]


def lengths(parts):
    return [len(part) for part in parts]


def assert_partition(parts, n):
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(n))


@pytest.mark.parametrize('hash_seed', ['0', '1'])
def test_a_seed_gives_the_same_in_every_process(hash_seed):
    labels = list('aabbaabab')
    code = f'from batchup.splits import split; print(*[p.tolist() for p in split(9, [3, 6], stratify={labels})])'
    environment = {**os.environ, 'PYTHONHASHSEED': hash_seed}
    result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True, env=environment)
    assert result.stdout.strip() == ' '.join(map(str, listed(split(9, [3, 6], stratify=labels))))


@any_shuffle
def test_parts_are_new_arrays_of_indices(shuffle):
    for parts in (split(16, (0.5, 0.5), shuffle=shuffle(), **options) for options in OPTIONS):
        assert {part.dtype for part in parts} == {np.dtype(np.intp)}
        assert all(part.flags.writeable for part in parts)
        assert not np.shares_memory(*parts)


OPTIONS = ({}, {'stratify': LETTERS}, {'groups': LETTERS})


@pytest.mark.parametrize('options', OPTIONS, ids=['plain', 'stratified', 'grouped'])
def test_other_seeds_give_other_parts(options):
    drawn = {str(listed(split(16, (8, 8), shuffle=seed, **options))) for seed in range(20)}
    assert len(drawn) > 1


def test_the_default_is_a_seed_and_false_is_none():
    assert listed(split(9, (0.5, 0.5))) == listed(split(9, (0.5, 0.5), shuffle=0))
    assert listed(split(4, (0.5, 0.5), shuffle=False)) == [[0, 1], [2, 3]]


def test_true_draws_from_the_global_generator():
    np.random.seed(5)
    drawn = listed(split(9, (4, 5), shuffle=True))
    assert drawn == listed(split(9, (4, 5), shuffle=np.random.RandomState(5)))


@pytest.mark.parametrize(
    ('n', 'sizes', 'expected'),
    [
        (10, (0.7, 0.2, 0.1), [7, 2, 1]),
        (5, (0.5, 0.5), [3, 2]),
        (10, (0.3, None), [3, 7]),
        (10, (None, 4, 0.5), [1, 4, 5]),
        (6, (5 / 6, 1 / 6), [5, 1]),
        (100, (0.1, 90), [10, 90]),
        (10, [0.4, 0.2], [4, 2]),
        (11, np.full(11, 1 / 11), [1] * 11),
        (10, (np.float32(0.1), np.int64(9)), [1, 9]),
        (1, (1.0,), [1]),
    ],
)
def test_sizes_of_parts(n, sizes, expected):
    assert lengths(split(n, sizes)) == expected


def test_sizes_are_exact_for_a_great_many_samples():
    n = 2**60 + 1
    assert part_sizes(n, (0.5, 1, None)) == [2**59 + 1, 1, 2**59 - 1, 0]
    assert sum(part_sizes(n, (0.1,) * 10)) == n


@given(st.integers(1, 60), st.lists(st.integers(1, 30), min_size=1, max_size=6), st.sampled_from(sorted(SHUFFLES)))
def test_parts_have_their_sizes_and_nothing_in_common(n, weights, shuffle):
    fractions = [weight / sum(weights) for weight in weights]
    shares = [Fraction(weight * n, sum(weights)) for weight in weights]
    try:
        parts = split(n, fractions, shuffle=SHUFFLES[shuffle]())
    except ValueError:
        assert min(shares) < 1
    else:
        assert_partition(parts, n)
        assert all(abs(len(part) - share) <= 1 for part, share in zip(parts, shares))


@st.composite
def labelled(draw):
    """Draw labels, and sizes of parts of which each is large enough for all labels."""
    labels = draw(st.lists(st.sampled_from('abcd'), min_size=1, max_size=60))
    n_parts = draw(st.integers(1, 3))
    labels += [label for label in set(labels) for _ in range(n_parts)]
    least = len(set(labels))
    cuts = sorted(draw(st.integers(0, len(labels) - n_parts * least)) for _ in range(n_parts - 1))
    sizes = np.diff([0, *cuts, len(labels) - n_parts * least]) + least
    return np.array(labels), sizes.tolist()


@given(labelled(), st.sampled_from(sorted(SHUFFLES)))
def test_stratified_parts_have_a_share_of_every_label(case, shuffle):
    labels, sizes = case
    parts = split(len(labels), sizes, stratify=labels, shuffle=SHUFFLES[shuffle]())
    assert_partition(parts, len(labels))
    assert lengths(parts) == sizes
    for label, count in zip(*np.unique(labels, return_counts=True)):
        for part in parts:
            share = np.count_nonzero(labels[part] == label)
            assert share >= 1
            # Labels that are too rare for their share take from others.
            assert abs(share - count * len(part) / len(labels)) < 1 + len(set(labels))


def test_shares_of_labels_are_exact_where_they_can_be():
    labels = np.repeat([0, 1, 2], [60, 30, 10])
    for part in split(100, (0.7, 0.2, 0.1), stratify=labels):
        assert (np.bincount(labels[part]) * 10).tolist() == [len(part) * k for k in (6, 3, 1)]


def test_a_rare_label_is_in_every_part():
    labels = np.repeat(['common', 'rare'], [97, 3])
    train, test = train_test_split(100, test_size=0.1, stratify=labels)
    assert np.count_nonzero(labels[test] == 'rare') == 1
    assert (len(train), len(test)) == (90, 10)


def test_stratified_parts_in_order_take_the_first_of_each_label():
    assert listed(split(6, (4, 2), stratify=list('abbaab'), shuffle=None)) == [[0, 1, 2, 3], [4, 5]]


@given(st.lists(st.integers(0, 9), min_size=3, max_size=80), st.integers(1, 3), st.sampled_from(sorted(SHUFFLES)))
def test_groups_stay_together(groups, n_parts, shuffle):
    groups = np.array([*groups, 10, 11, 12])
    parts = split(len(groups), [1 / n_parts] * n_parts, groups=groups, shuffle=SHUFFLES[shuffle]())
    assert_partition(parts, len(groups))
    assert all(len(part) for part in parts)
    assert sum(len(set(groups[part].tolist())) for part in parts) == len(set(groups.tolist()))


@given(st.lists(st.integers(1, 30), min_size=2, max_size=8), st.floats(0.1, 0.5), st.integers(0, 9))
def test_two_grouped_parts_are_the_nearest_to_their_sizes(counts, fraction, seed):
    n = sum(counts)
    wanted = max(1, int(fraction * n))
    sums = {0}
    for count in counts:
        sums |= {total + count for total in sums}
    part, _ = split(n, (wanted, None), groups=np.repeat(np.arange(len(counts)), counts), shuffle=seed)
    assert abs(len(part) - wanted) == min(abs(total - wanted) for total in sums - {0, n})


def test_many_groups_meet_the_sizes():
    groups = np.random.RandomState(1).randint(0, 3000, 20_000)
    np.testing.assert_allclose(lengths(split(20_000, (0.8, 0.15, 0.05), groups=groups)), [16000, 3000, 1000], atol=1)


def test_groups_may_be_in_no_part():
    parts = split(6, (2, 2), groups=[0, 0, 1, 1, 2, 2], shuffle=3)
    assert lengths(parts) == [2, 2]
    assert not set(parts[0].tolist()) & set(parts[1].tolist())


def test_a_part_of_the_only_group_has_all_its_samples():
    assert listed(split(5, (2,), groups=[7] * 5)) == [[0, 1, 2, 3, 4]]


def test_one_group_each_for_parts_of_one():
    assert sorted(listed(split(3, (1, 1, 1), groups=list('abc')))) == [[0], [1], [2]]


def test_groups_in_order():
    assert listed(split(6, (0.5, 0.3, 0.2), groups=list('zzyyxx'), shuffle=None)) == [[0, 1], [2, 3], [4, 5]]


TIMES = {
    'unsorted': ([30, 10, 20, 40], (3, 1), 0, [[1, 2, 0], [3]]),
    'equal times': ([2, 1, 2, 1, 2], (0.5, 0.5), 0, [[1, 3], [0, 2, 4]]),
    'a tie goes to the earlier change': ([0, 1, 1, 2], (2, 2), 0, [[0], [1, 2, 3]]),
    'a first part that would be empty': ([1, 1, 1, 2], (1, 3), 0, [[0, 1, 2], [3]]),
    'a last part that would be empty': ([1, 2, 2, 2], (3, 1), 0, [[0], [1, 2, 3]]),
    'a gap as long as the distance': ([1, 2, 3, 5], (3, 1), 2, [[0, 1, 2], [3]]),
    'a longer gap': ([1, 2, 3, 5], (3, 1), 2.5, [[0, 1], [3]]),
    'three parts': (range(9), (4, 3, 2), 2, [[0, 1, 2], [4, 5], [7, 8]]),
    'the latest in no part': ([3, 2, 1, 0], (1, 2), 0, [[3], [2, 1]]),
    'unsigned': (np.array([0, 2**64 - 1], np.uint64), (1, 1), 2**64 - 1, [[0], [1]]),
    'far apart': ([-(2**63), 2**63 - 1], (1, 1), 2**64 - 1, [[0], [1]]),
    'narrow': (np.array([-128, 127], np.int8), (1, 1), 255, [[0], [1]]),
    'dates': (np.array([0, 9, 5], 'M8[D]'), (2, 1), np.timedelta64(4, 'D'), [[0, 2], [1]]),
    'timedelta': (np.array([0, 9, 5], 'M8[D]'), (2, 1), datetime.timedelta(hours=97), [[0], [1]]),
    'time differences': (np.array([0, 9, 5], 'm8[s]'), (2, 1), 0, [[0, 2], [1]]),
}


@pytest.mark.parametrize('name', TIMES)
def test_parts_by_time(name):
    times, sizes, gap, expected = TIMES[name]
    assert listed(time_split(times, sizes, gap=gap)) == expected


@given(st.lists(st.integers(0, 40), min_size=1, max_size=60), st.integers(1, 3), st.integers(0, 3))
def test_a_gap_lies_between_parts(times, n_parts, gap):
    times = np.array([*times, 100, 200, 300])
    try:
        parts = time_split(times, [1 / n_parts] * n_parts, gap=gap)
    except ValueError:  # too few samples are left between the gaps
        assert gap > 1
        assert n_parts > 1
        return
    for earlier, later in itertools.pairwise(parts):
        assert max(times[earlier]) <= min(times[later]) - max(gap, 1)
    if gap <= 1:
        assert_partition(parts, len(times))


@any_shuffle
def test_every_sample_is_tested_once(shuffle):
    for folds in (
        k_fold(16, 3, shuffle=shuffle()),
        stratified_k_fold(LETTERS, 3, shuffle=shuffle()),
        group_k_fold(LETTERS, 3, shuffle=shuffle()),
    ):
        assert_partition([test for _, test in folds], 16)
        for train, test in folds:
            assert_partition([train, test], 16)


def test_a_generator_goes_on_where_it_was():
    rng = np.random.RandomState(3)
    assert listed(split(20, (10, 10), shuffle=rng)) != listed(split(20, (10, 10), shuffle=rng))


WRONG = {
    'negative': (lambda: k_fold(-1), ValueError, 'n must be 0 or more, got -1'),
    'one size': (lambda: split(10, 0.8), TypeError, r'a sequence such as \(0.8, 0.2\), got 0.8'),
    'no size': (lambda: split(10, ()), ValueError, 'got none'),
    'a fraction above 1': (lambda: split(10, (1.5, None)), ValueError, 'part 0 is a fraction above 1, 1.5; write an'),
    'fractions above 1': (lambda: split(10, (0.8, 0.3)), ValueError, r'sum to 1.1, above 1: \[0.8, 0.3\]'),
    'counts above n': (lambda: split(10, (8, 3)), ValueError, 'come to 11 samples, but there are only 10'),
    'two rests': (lambda: split(10, (None, None)), ValueError, 'only one size may be None'),
    'a size of 0': (lambda: split(10, (10, 0)), ValueError, 'size of part 1 must be positive, got 0'),
    'a size of NaN': (lambda: split(10, (np.nan, 1)), ValueError, 'size of part 0 must be positive, got nan'),
    'a boolean size': (lambda: split(10, (True, 1)), TypeError, 'size of part 0 must be .*, got True'),
    'an empty part': (lambda: split(3, (0.8, 0.1, 0.1)), ValueError, 'part 1 would be empty: its size is 0.1 of 3'),
    'no samples': (lambda: split(0, (0.5, 0.5)), ValueError, 'part 0 would be empty: its size is 0.5 of 0'),
    'an unknown keyword': (lambda: split(4, (2, 2), shufle=1), TypeError, 'shufle'),
    'a wrong shuffle': (lambda: split(4, (2, 2), shuffle='yes'), TypeError, "got 'yes'"),
    'two kinds': (lambda: split(2, (1, 1), stratify=[1, 1], groups=[1, 2]), ValueError, 'either stratify or groups'),
    'a rare class': (
        lambda: split(4, (2, 2), stratify=list('aaab')),
        ValueError,
        "class 'b' has too few samples, 1, for 2",
    ),
    'a small part': (
        lambda: split(9, (2, 7), stratify=[0, 1, 2] * 3),
        ValueError,
        'part 0 of 2 samples is too small for 3 classes',
    ),
    'few labels': (lambda: split(4, (2, 2), stratify=[1, 1]), ValueError, 'each of the 4 samples, got 2'),
    'few groups': (lambda: split(4, (2, 2), groups=[7] * 4), ValueError, 'too few groups, 1, for 2 parts'),
    'a large test_size': (lambda: train_test_split(9, test_size=1.5), ValueError, 'test_size must .*, got 1.5'),
    'a test_size of all': (lambda: train_test_split(9, test_size=9), ValueError, 'below the number of samples, 9'),
    'a wrong test_size': (lambda: train_test_split(9, test_size='a'), TypeError, "test_size must be .*, got 'a'"),
    'both too large': (lambda: train_test_split(4, test_size=0.6, train_size=0.6), ValueError, 'sum to 1.2, above 1'),
    'counts too large': (lambda: train_test_split(4, test_size=3, train_size=2), ValueError, 'come to 5 samples'),
    'one sample': (lambda: train_test_split(1), ValueError, 'the training part would be empty, with 1 samples'),
    'one fold': (lambda: k_fold(9, 1), ValueError, 'n_splits must be at least 2, got 1'),
    'a float of folds': (lambda: k_fold(9, 2.0), TypeError, 'n_splits must be an integer, got 2.0'),
    'many folds': (lambda: k_fold(3, 4), ValueError, 'at most the number of samples, 3, got 4'),
    'a rare class in folds': (lambda: stratified_k_fold([0, 0, 1], 2), ValueError, 'class 1 has too few samples, 1'),
    'no labels': (lambda: stratified_k_fold([], 2), ValueError, 'at least one label, got none'),
    'few groups in folds': (lambda: group_k_fold([1, 2], 3), ValueError, 'too few groups, 2, for 3 folds'),
    'a short series': (lambda: time_series_split(5, 5), ValueError, '5 samples are too few for 5 tests of 1'),
    'a long gap': (lambda: time_series_split(9, 2, gap=3), ValueError, 'too few for 2 tests of 3 after a gap of 3'),
    'no test': (lambda: time_series_split(9, 2, test_size=0), ValueError, 'test_size must be at least 1, got 0'),
    'NaN times': (lambda: time_split([1, np.nan], (1, 1)), ValueError, 'must not hold nan, got it for sample 1'),
    'NaT': (lambda: time_split(np.array(['NaT'], 'M8[D]'), (1,)), ValueError, 'must not hold NaT'),
    'texts': (lambda: time_split(['2024', '2025'], (1, 1)), TypeError, r"write np.array\(times, 'datetime64"),
    'equal times': (lambda: time_split([3, 3], (1, 1)), ValueError, 'too few different values, 1, for 2 parts'),
    'nothing left': (lambda: time_split([1, 2], (1, 1), gap=2), ValueError, 'nothing is left of part 0: .* gap=2'),
    'a negative gap': (lambda: time_split([1, 2], (1, 1), gap=-2), ValueError, 'gap must be 0 or more, got -2'),
    'a gap of no unit': (lambda: time_split(np.array([1, 2], 'M8[D]'), (1, 1), gap=1), TypeError, 'a timedelta64 or'),
    'a gap of days': (lambda: time_split([1, 2], (1, 1), gap=np.timedelta64(1, 'D')), TypeError, 'must be a number'),
}


@pytest.mark.parametrize('name', WRONG)
def test_wrong_arguments(name):
    call, error, message = WRONG[name]
    with pytest.raises(error, match=message):
        call()
