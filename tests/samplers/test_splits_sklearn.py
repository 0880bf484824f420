"""Splits that scikit-learn has too are the same ones."""

from importlib.metadata import version

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from batchup.splits import group_k_fold, k_fold, stratified_k_fold, time_series_split, train_test_split

LABELS = st.lists(st.sampled_from(['zebra', 'ant', 'cow', 'bee']), min_size=2, max_size=60)
N_SPLITS = st.integers(2, 7)
SEEDS = st.none() | st.integers(0, 99)
SIZES = st.none() | st.integers(1, 30) | st.floats(0.01, 0.99)


@pytest.fixture(scope='module')
def sklearn():
    """The splits of scikit-learn, which takes long to import."""
    from sklearn import model_selection

    return model_selection


def assert_same_folds(folds, expected):
    for fold, parts in zip(folds, expected, strict=True):
        for indices, wanted in zip(fold, parts, strict=True):
            np.testing.assert_array_equal(indices, wanted)


def random_state(seed):
    return None if seed is None else np.random.RandomState(seed)


def reference(kind, n_splits, seed):
    return kind(n_splits, shuffle=seed is not None, random_state=random_state(seed))


@given(st.integers(2, 60), N_SPLITS, SEEDS)
def test_k_fold(sklearn, n, n_splits, seed):
    assume(n >= n_splits)
    expected = reference(sklearn.KFold, n_splits, seed).split(np.zeros(n))
    assert_same_folds(k_fold(n, n_splits, shuffle=random_state(seed)), expected)


@given(LABELS, N_SPLITS, SEEDS)
def test_stratified_k_fold(sklearn, y, n_splits, seed):
    y = np.array(y + sorted(set(y)) * n_splits)
    expected = reference(sklearn.StratifiedKFold, n_splits, seed).split(y, y)
    assert_same_folds(stratified_k_fold(y, n_splits, shuffle=random_state(seed)), expected)


@pytest.mark.skipif(
    tuple(map(int, version('scikit-learn').split('.')[:2])) < (1, 9),
    reason='scikit-learn left it to an unstable sort which of two equally large groups comes first',
)
@given(st.lists(st.integers(0, 15), min_size=2, max_size=60), N_SPLITS, SEEDS)
def test_group_k_fold(sklearn, groups, n_splits, seed):
    assume(len(set(groups)) >= n_splits)
    expected = reference(sklearn.GroupKFold, n_splits, seed).split(groups, groups=groups)
    assert_same_folds(group_k_fold(groups, n_splits, shuffle=random_state(seed)), expected)


OPTIONS = st.fixed_dictionaries(
    {
        'test_size': st.none() | st.integers(1, 6),
        'max_train_size': st.none() | st.integers(1, 9),
        'gap': st.integers(0, 4),
    }
)


@given(st.integers(1, 40), N_SPLITS, OPTIONS)
def test_time_series_split(sklearn, n, n_splits, options):
    try:
        expected = list(sklearn.TimeSeriesSplit(n_splits, **options).split(np.zeros(n)))
    except ValueError:
        with pytest.raises(ValueError, match='too few'):
            time_series_split(n, n_splits, **options)
    else:
        assert_same_folds(time_series_split(n, n_splits, **options), expected)


@given(st.integers(1, 60), SIZES, SIZES, SEEDS)
def test_train_test_split(sklearn, n, test_size, train_size, seed):
    options = {'test_size': test_size, 'train_size': train_size}
    try:
        expected = sklearn.train_test_split(
            np.arange(n), shuffle=seed is not None, random_state=random_state(seed), **options
        )
    except ValueError:
        with pytest.raises(ValueError, match=r'size|empty'):
            train_test_split(n, **options)
    else:
        assert_same_folds([train_test_split(n, shuffle=random_state(seed), **options)], [expected])


@given(LABELS, SIZES, SIZES, st.integers(0, 99))
def test_stratified_train_test_split(sklearn, y, test_size, train_size, seed):
    options = {'test_size': test_size, 'train_size': train_size, 'stratify': y}
    try:
        expected = sklearn.train_test_split(np.arange(len(y)), random_state=random_state(seed), **options)
    except ValueError:
        with pytest.raises(ValueError, match=r'size|empty|too few|too small'):
            train_test_split(len(y), **options)
        return
    # There, a rare label may be missing from a part; here it never is.
    assume(all({y[k] for k in part} == set(y) for part in expected))
    assert_same_folds([train_test_split(len(y), shuffle=random_state(seed), **options)], [expected])
