"""Splits into parts of given sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np
from numpy.typing import ArrayLike

from ..._ground.arguments import check_non_negative
from ..._ground.indices import IndexArray
from ..._ground.labels import number_labels
from ..._ground.randomness import SequentialRng
from .common import check_no_data, cut, generator
from .grouped import grouped_parts
from .sizes import part_sizes, train_test_sizes
from .stratified import stratified_parts


def split(
    n: int,
    sizes: Sequence[float | None],
    *others: NoReturn,
    shuffle: Any = 0,
    stratify: ArrayLike | None = None,
    groups: ArrayLike | None = None,
) -> tuple[IndexArray, ...]:
    """Split samples into any number of parts that share no samples.

    Parameters
    ----------
    n : int
        The number of samples.
    sizes : sequence of float, int or None
        The size of each part: a fraction of all samples, or an integer for a number of
        them; one may be `None`, for the rest. Samples beyond the sum are in no part.
        Fractions are rounded by the largest remainders.
    shuffle : int, RandomState, Generator, bool or None
        An integer is a seed: the same parts on every machine. A generator is drawn from,
        `True` stands for NumPy's global one. `None` or `False` takes samples in order.
    stratify : 1-D array-like of n labels, optional
        Give every part its share of the samples of each label, and at least one. Labels are
        integers, strings, or other values that can be sorted.
    groups : 1-D array-like of n labels, optional
        Keep all samples of a label in one part. Sizes are met as nearly as whole groups
        allow: smaller parts choose first, the largest part gets what is left.

    Returns
    -------
    tuple of 1-D arrays, intp
        The indices of the samples of each part: shuffled, or in order if `shuffle` is
        `None` or `groups` is given.

    Raises
    ------
    ValueError
        If sizes come to more than `n` samples, a part would be empty, a label has fewer
        samples than there are parts, or there are fewer groups than parts.
    TypeError
        If an argument is of the wrong type.

    >>> train, val, test = split(10, (0.6, 0.2, 0.2), shuffle=42)
    >>> train, val, test
    (array([1, 7, 4, 9, 8, 5]), array([0, 2]), array([6, 3]))

    The rest after two samples; without a shuffle they are the first ones.

    >>> split(6, [2, None], shuffle=None)
    (array([0, 1]), array([2, 3, 4, 5]))

    Every part gets its share of each label.

    >>> labels = np.array(list('aaaaaabbb'))
    >>> [labels[part] for part in split(9, (6, 3), stratify=labels, shuffle=None)]
    [array(['a', 'a', 'a', 'a', 'b', 'b'], dtype='<U1'), array(['a', 'a', 'b'], dtype='<U1')]

    The samples of a patient stay together.

    >>> split(6, (0.5, 0.5), groups=['eve', 'bob', 'eve', 'ann', 'eve', 'bob'])
    (array([0, 2, 4]), array([1, 3, 5]))
    """
    check_no_data('split(len(X), (0.8, 0.2))', others, n)
    n = check_non_negative('n', n)
    return _parts(n, part_sizes(n, sizes), shuffle, stratify, groups)


def train_test_split(
    n: int,
    *others: NoReturn,
    test_size: float | None = None,
    train_size: float | None = None,
    shuffle: Any = 0,
    stratify: ArrayLike | None = None,
    groups: ArrayLike | None = None,
) -> tuple[IndexArray, IndexArray]:
    """Split samples into a training and a test part.

    Sizes are those of scikit-learn's `train_test_split`, and so are the samples with a
    `RandomState`, with and without `stratify` (unless a part would miss a label). See
    https://scikit-learn.org/stable/modules/generated/sklearn.model_selection.train_test_split.html

    Parameters
    ----------
    n : int
        The number of samples.
    test_size, train_size : float or int, optional
        A fraction of all samples, or an integer for a number of them. One alone leaves
        the rest to the other part; by default a quarter is for tests. Fractions are
        rounded up for `test_size`, and down for `train_size`.
    shuffle, stratify, groups
        As for `split`.

    Returns
    -------
    tuple of two 1-D arrays, intp
        The indices of the samples for training, and of those for tests.

    Raises
    ------
    ValueError, TypeError
        As from `split`.

    >>> train_test_split(8, test_size=3, shuffle=42)
    (array([1, 0, 2, 6, 3]), array([5, 7, 4]))
    """
    check_no_data('train_test_split(len(X), test_size=0.25)', others, n)
    n = check_non_negative('n', n)
    n_train, n_test = train_test_sizes(n, test_size, train_size)
    rng = generator(shuffle)
    if rng is not None and stratify is None and groups is None:
        # As in scikit-learn, samples for tests come first.
        test, train = _draw(n, (n_test, n_train), rng)
        return train, test
    train, test = _parts(n, [n_train, n_test, n - n_train - n_test], shuffle, stratify, groups)
    return train, test


def _parts(
    n: int, sizes: list[int], shuffle: Any, stratify: ArrayLike | None, groups: ArrayLike | None
) -> tuple[IndexArray, ...]:
    """Make parts of the given sizes; the last of `sizes` is for samples in no part."""
    rng = generator(shuffle)
    if stratify is not None and groups is not None:
        raise ValueError('give either stratify or groups: no split is both')
    if stratify is not None:
        return stratified_parts(number_labels('stratify', stratify, n), sizes, rng)
    if groups is not None:
        return grouped_parts(number_labels('groups', groups, n), sizes, rng)
    return _draw(n, sizes[:-1], rng)


def _draw(n: int, sizes: Sequence[int], rng: SequentialRng | None) -> tuple[IndexArray, ...]:
    order = np.arange(n) if rng is None else rng.permutation(n)
    return tuple(cut(order.astype(np.intp, copy=False), sizes))
