"""Labels: splits and samplers take the same ones, and number them alike."""

import datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchup._ground.labels import number_labels
from batchup.sampling import GroupSampler, PKSampler, QuotaSampler, WeightedSampler, WeightedSubsetSampler
from batchup.splits import group_k_fold, split, stratified_k_fold, train_test_split

from ..samplers.test_own_batches import listed

CODES = np.array([1, 0, 0, 2, 1, 0, 2, 2, 0, 1])

# What takes labels; each gives something to compare.
TAKERS = {
    'stratify': lambda y: split(10, (6, 4), stratify=y, shuffle=1),
    'groups of parts': lambda y: train_test_split(10, test_size=3, groups=y, shuffle=1),
    'stratified folds': lambda y: sum(stratified_k_fold(y, 2, shuffle=1), ()),
    'folds of groups': lambda y: sum(group_k_fold(y, 3, shuffle=1), ()),
    'quotas': lambda y: listed(QuotaSampler(y, [2, 1, 0]).plan(3, 1)),
    'pk': lambda y: listed(PKSampler(y, 2, 2).plan(4, 1)),
    'groups': lambda y: listed(GroupSampler(y).plan(3, 1)),
    'weights': WeightedSampler.class_balancing_sample_weights,
    'balanced': lambda y: WeightedSampler.class_balancing_sampler(y, 3).weights,
    'balanced subset': lambda y: WeightedSubsetSampler.class_balancing_sampler(y, [0, 1, 2, 9], 3).sub_weights,
}
each_taker = pytest.mark.parametrize('take', TAKERS.values(), ids=TAKERS)


def named(names, dtype=None):
    return np.array(names, dtype)[CODES]


LABELS = {
    'a list': CODES.tolist,
    'a tuple': lambda: tuple(CODES.tolist()),
    'narrow integers': lambda: CODES.astype(np.int8),
    'unsigned integers': lambda: CODES.astype(np.uint64),
    'other byte order': lambda: CODES.astype('>i4'),
    'whole floats': lambda: CODES * 1.0,
    'strings': lambda: named(['cat', 'dog', 'owl']),
    'a list of strings': lambda: named(['cat', 'dog', 'owl']).tolist(),
    'a list of NumPy strings': lambda: list(named(['cat', 'dog', 'owl'])),
    'objects': lambda: named(['cat', 'dog', 'owl'], object),
    'bytes': lambda: named([b'cat', b'dog', b'owl']),
    'dates': lambda: named([datetime.date(2024, 1, day) for day in (1, 2, 3)]).tolist(),
    'times': lambda: CODES.astype('datetime64[D]'),
    'Series': lambda: pandas().Series(CODES, index=CODES[::-1]),
    'Series of strings': lambda: pandas().Series(named(['cat', 'dog', 'owl']), index=range(10, 0, -1)),
    'string dtype': lambda: pandas().array(named(['cat', 'dog', 'owl']), dtype='string'),
    'nullable integers': lambda: pandas().array(CODES, dtype='Int64'),
    'Categorical': lambda: pandas().Categorical(named(['cat', 'dog', 'owl']), categories=['owl', 'cow', 'dog', 'cat']),
    'a column of categories': lambda: pandas().DataFrame({'y': named(['cat', 'dog', 'owl'])}).y.astype('category'),
    'Index': lambda: pandas().Index(named(['cat', 'dog', 'owl'])),
    'times of pandas': lambda: pandas().Series(pandas().to_datetime(CODES, unit='D', utc=True)),
    'an HDF5 data set': lambda: hdf5(named([b'cat', b'dog', b'owl'], object)),
}


def pandas():
    return pytest.importorskip('pandas')


def hdf5(values):
    h5py = pytest.importorskip('h5py')
    return h5py.File('labels.h5', 'w', driver='core', backing_store=False).create_dataset('y', data=values)


def assert_taken_alike(labels, takers=tuple(TAKERS), codes=CODES):
    for take in map(TAKERS.get, takers):
        for result, expected in zip(take(labels), take(codes)):
            np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize('name', LABELS)
def test_all_take_the_same_labels_alike(name):
    assert_taken_alike(LABELS[name]())


@pytest.mark.slow  # to import torch takes seconds
def test_labels_may_be_tensors():
    tensor = pytest.importorskip('torch').tensor(CODES)
    for labels in (tensor, list(tensor * 1.0)):
        assert_taken_alike(labels)


def test_two_classes_may_be_booleans_or_signs():
    two = np.minimum(CODES, 1)
    for labels in (two == 1, (two == 1).tolist(), two * 2 - 1):
        assert_taken_alike(labels, ['stratify', 'groups', 'pk', 'weights'], two)


MISSING = {
    'None': (lambda: ['a', 'b', None], 'None'),
    'NaN among strings': (lambda: ['a', 'b', float('nan')], 'nan'),
    'NaN': (lambda: np.array([1, 2, np.nan]), 'nan'),
    'NaT': (lambda: np.array(['2024', '2025', 'NaT'], 'M8[D]'), 'NaT'),
    'a mask': (lambda: np.ma.masked_equal([1, 2, 3], 3), 'a masked value'),
    'pandas NA': (lambda: pandas().array(['a', 'b', None], dtype='string'), '<NA>'),
    'no category': (lambda: pandas().Categorical(['a', 'b', None]), 'nan'),
    'no integer': (lambda: pandas().array([1, 2, None], dtype='Int64'), '(nan|<NA>)'),
}


@pytest.mark.parametrize('name', MISSING)
def test_a_missing_label_is_refused_with_its_sample(name):
    make, shown = MISSING[name]
    with pytest.raises(ValueError, match=f'y must not hold {shown}, got it for sample 2; every sample needs a label'):
        number_labels('y', make())


WRONG = {
    'a column': (CODES[:, np.newaxis], ValueError, r'one dimension, .* got shape \(10, 1\); write np.ravel\('),
    'one-hot rows': (np.eye(10), ValueError, r'got shape \(10, 10\); for one-hot rows, write np.argmax\(.*, axis=1\)'),
    'a set': ({1, 2}, ValueError, 'must have one dimension, .* got set'),
    'numbers among strings': (['a', 1] * 5, TypeError, "labels of one kind, which can be sorted: '<' not supported"),
    'several each': ([[0, 1], [2]] * 5, TypeError, "labels of one kind, .*: unhashable type: 'list'"),
    'missing': ([*CODES[1:], None], ValueError, 'must not hold None, got it for sample 9'),
}


@each_taker
def test_all_refuse_the_same_labels(take):
    for labels, error, message in WRONG.values():
        with pytest.raises(error, match=message):
            take(labels)


def test_quotas_are_given_by_the_users_labels():
    sampler = QuotaSampler(pandas().Series(['cat', 'dog', 'dog', 'cat'], dtype='category'), {'dog': 2, 'cat': 1})
    assert listed(sampler.plan(3)) == [[0, 1, 2], [3, 1, 2]]
    by_class = pandas().Series(['cat', 'dog', 'dog', 'cat']).value_counts()
    assert QuotaSampler(['cat', 'dog', 'dog', 'cat'], by_class).quotas == {'cat': 2, 'dog': 2}
    monday, tuesday = (np.datetime64(f'2024-01-0{day}') for day in (1, 2))
    assert listed(QuotaSampler([monday, tuesday, monday], {monday: 2, tuesday: 1}).plan(3)) == [[0, 2, 1]]
    assert listed(QuotaSampler(np.array([monday, tuesday, monday]), {monday: 2, tuesday: 1}).plan(3)) == [[0, 2, 1]]


def test_errors_show_the_users_label():
    y = pandas().Categorical(['cat', 'dog', 'dog'])
    with pytest.raises(ValueError, match="class 'dog' in y has no quota"):
        QuotaSampler(y, {'cat': 1})
    with pytest.raises(ValueError, match="class 'cat' has 1 samples in y, but a batch takes 2"):
        PKSampler(y, 2, 2)
    with pytest.raises(ValueError, match="class 'cat' has too few samples, 1, for 2 folds"):
        stratified_k_fold(y, 2)


def test_large_integers_stay_apart():
    assert number_labels('y', [2**63 + 2, 1, 2**63 + 1]).values == [1, 2**63 + 1, 2**63 + 2]
    assert number_labels('y', np.array([2**64 - 1, 2**64 - 2], np.uint64)).codes.tolist() == [1, 0]


def test_labels_far_apart_take_no_memory():
    assert WeightedSampler.class_balancing_sample_weights([2**60, 1, 1]).tolist() == [0.5, 0.25, 0.25]


def test_no_labels():
    for labels in ([], np.array([], int), np.array([], object)):
        assert [len(part) for part in number_labels('y', labels)] == [0, 0, 0]


SMALL, LARGE = st.integers(-4, 12), st.integers(-(2**63), 2**63 - 1)


@given(st.lists(SMALL | LARGE, max_size=30))
def test_integers_are_numbered_as_by_unique(labels):
    array = np.array(labels, np.int64)
    for numbered in (number_labels('y', array), number_labels('y', array.astype(object))):
        for found, expected in zip(numbered, np.unique(array, return_inverse=True, return_counts=True)):
            np.testing.assert_array_equal(found, expected)
