"""Folds for cross-validation."""

from __future__ import annotations

import heapq
from typing import Any, NoReturn

import numpy as np
from numpy.typing import ArrayLike

from ..._ground.arguments import check_non_negative, check_positive
from ..._ground.indices import IndexArray
from ..._ground.labels import Labels, number_labels
from .common import check_folds, check_no_data, generator
from .grouped import check_groups
from .stratified import check_counts

Fold = tuple[IndexArray, IndexArray]


def k_fold(n: int, n_splits: int = 5, *others: NoReturn, shuffle: Any = None) -> list[Fold]:
    """Split samples into folds of about equal size, each of which is used for tests once.

    The folds are those of scikit-learn's `KFold`, in order and with a `RandomState`. See
    https://scikit-learn.org/stable/modules/generated/sklearn.model_selection.KFold.html

    Parameters
    ----------
    n : int
        The number of samples.
    n_splits : int
        The number of folds, 2 or more.
    shuffle : None, bool, int, RandomState or Generator
        `None` or `False` takes consecutive samples for each fold. An integer is a seed:
        the same folds on every machine. A generator is drawn from, `True` stands for
        NumPy's global one.

    Returns
    -------
    list of (train, test)
        Two 1-D arrays of indices for each fold, intp, both in order: the samples of all
        other folds, and those of the fold. They take `8 * n * n_splits` bytes.

    Raises
    ------
    ValueError
        If there are fewer samples than folds, or fewer than 2 folds.

    >>> for train, test in k_fold(5, 3):
    ...     print(train, test)
    [2 3 4] [0 1]
    [0 1 4] [2 3]
    [0 1 2 3] [4]
    """
    check_no_data('k_fold(len(X), 5)', others, n, n_splits)
    n, n_splits = check_non_negative('n', n), check_folds(n_splits)
    if n < n_splits:
        raise ValueError(f'n_splits must be at most the number of samples, {n}, got {n_splits}')
    order = np.arange(n)
    rng = generator(shuffle)
    if rng is not None:
        rng.shuffle(order)
    fold_of = np.empty(n, dtype=np.intp)
    fold_of[order] = _near_equal(n, n_splits)
    return _folds(fold_of, n_splits)


def stratified_k_fold(y: ArrayLike, n_splits: int = 5, *others: NoReturn, shuffle: Any = None) -> list[Fold]:
    """Split samples into folds in which all labels are about equally frequent.

    The folds are those of scikit-learn's `StratifiedKFold`, in order and with a
    `RandomState`; it only warns of labels with too few samples. See
    https://scikit-learn.org/stable/modules/generated/sklearn.model_selection.StratifiedKFold.html

    Parameters
    ----------
    y : 1-D array-like of n labels
        The label of each sample: integers, strings, or other values that can be sorted.
    n_splits, shuffle
        As for `k_fold`.

    Returns
    -------
    list of (train, test)
        As from `k_fold`.

    Raises
    ------
    ValueError
        If a label has fewer samples than there are folds, or is NaN.

    >>> for train, test in stratified_k_fold(['a', 'a', 'a', 'b', 'b'], 2):
    ...     print(train, test)
    [2 4] [0 1 3]
    [0 1 3] [2 4]
    """
    check_no_data('stratified_k_fold(y, 5)', others, n_splits)
    labels, n_splits = number_labels('y', y), check_folds(n_splits)
    _check_any('y', labels)
    check_counts('y', labels, n_splits, 'folds')
    rng = generator(shuffle)
    members = labels.members()
    fold_of = np.empty(len(labels.codes), dtype=np.intp)
    start = 0
    for label in labels.by_appearance():
        # The samples, sorted by label, are dealt out to the folds in turn.
        dealt = np.arange(start, start + labels.counts[label]) % n_splits
        folds = np.sort(dealt)
        if rng is not None:
            rng.shuffle(folds)
        fold_of[members[label]] = folds
        start += len(dealt)
    return _folds(fold_of, n_splits)


def group_k_fold(groups: ArrayLike, n_splits: int = 5, *others: NoReturn, shuffle: Any = None) -> list[Fold]:
    """Split samples into folds that keep groups together.

    In order, the largest group goes to the smallest fold so far, and so on; shuffled, folds
    have about equally many groups. They are those of scikit-learn's `GroupKFold` (with a
    `RandomState`, from version 1.6 on). See
    https://scikit-learn.org/stable/modules/generated/sklearn.model_selection.GroupKFold.html

    Parameters
    ----------
    groups : 1-D array-like of n labels
        The group of each sample: integers, strings, or other values that can be sorted.
    n_splits, shuffle
        As for `k_fold`.

    Returns
    -------
    list of (train, test)
        As from `k_fold`.

    Raises
    ------
    ValueError
        If there are fewer groups than folds.

    >>> for train, test in group_k_fold(['ann', 'ann', 'bob', 'eve'], 2):
    ...     print(train, test)
    [2 3] [0 1]
    [0 1] [2 3]
    """
    check_no_data('group_k_fold(groups, 5)', others, n_splits)
    labels, n_splits = number_labels('groups', groups), check_folds(n_splits)
    n_groups = len(labels.values)
    check_groups(n_groups, n_splits, 'folds')
    rng = generator(shuffle)
    if rng is None:
        fold_of_group = _balanced(labels, n_splits)
    else:
        fold_of_group = np.empty(n_groups, dtype=np.intp)
        fold_of_group[rng.permutation(n_groups)] = _near_equal(n_groups, n_splits)
    return _folds(fold_of_group[labels.codes], n_splits)


def time_series_split(
    n: int,
    n_splits: int = 5,
    *others: NoReturn,
    max_train_size: int | None = None,
    test_size: int | None = None,
    gap: int = 0,
) -> list[Fold]:
    """Split samples that are in time order so that tests always come after training.

    The folds are those of scikit-learn's `TimeSeriesSplit`. See
    https://scikit-learn.org/stable/modules/generated/sklearn.model_selection.TimeSeriesSplit.html

    Parameters
    ----------
    n : int
        The number of samples.
    n_splits : int
        The number of folds, 2 or more.
    max_train_size : int, optional
        The most samples to train on, the latest ones; all by default.
    test_size : int, optional
        The number of samples of a test; `n // (n_splits + 1)` by default.
    gap : int
        The number of samples to leave out between training and test.

    Returns
    -------
    list of (train, test)
        As from `k_fold`; the tests are consecutive, and end with the last sample.

    Raises
    ------
    ValueError
        If there are too few samples.

    >>> for train, test in time_series_split(7, 3, gap=1):
    ...     print(train, test)
    [0 1 2] [4]
    [0 1 2 3] [5]
    [0 1 2 3 4] [6]
    """
    check_no_data('time_series_split(len(X), 5)', others, n, n_splits)
    n, n_splits, gap = check_non_negative('n', n), check_folds(n_splits), check_non_negative('gap', gap)
    size = n // (n_splits + 1) if test_size is None else check_positive('test_size', test_size)
    most = n if max_train_size is None else check_positive('max_train_size', max_train_size)
    first = n - n_splits * size
    if size < 1 or first - gap < 1:
        raise ValueError(f'{n} samples are too few for {n_splits} tests of {max(size, 1)} after a gap of {gap}')
    starts = range(first, n, size)
    ends = [start - gap for start in starts]
    return [
        (np.arange(max(0, end - most), end, dtype=np.intp), np.arange(start, start + size, dtype=np.intp))
        for start, end in zip(starts, ends)
    ]


def _check_any(name: str, labels: Labels) -> None:
    if not len(labels.codes):
        raise ValueError(f'{name} must hold at least one label, got none')


def _near_equal(n: int, n_splits: int) -> IndexArray:
    """Return the fold of each place in an order; folds are consecutive, and differ in size by one at most."""
    folds = np.arange(n_splits)
    return np.repeat(folds, n // n_splits + (folds < n % n_splits))


def _balanced(labels: Labels, n_splits: int) -> IndexArray:
    """Return the fold of each group: larger groups first, to the fold with the fewest samples."""
    fold_of_group = np.empty(len(labels.values), dtype=np.intp)
    sizes = [(0, fold) for fold in range(n_splits)]
    for group in np.argsort(labels.counts, kind='stable')[::-1].tolist():
        size, fold = sizes[0]
        fold_of_group[group] = fold
        heapq.heapreplace(sizes, (size + int(labels.counts[group]), fold))
    return fold_of_group


def _folds(fold_of: IndexArray, n_splits: int) -> list[Fold]:
    return [(np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)) for fold in range(n_splits)]
