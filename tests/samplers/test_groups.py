"""Samplers of P x K batches, and of groups that are kept apart."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchup.data_source import ArrayDataSource
from batchup.sampling import GroupSampler, PKSampler

from ..cases import LABELS as Y
from ..cases import NAMES
from .test_own_batches import listed
from .test_quotas import any_shuffle, assert_used_evenly


@st.composite
def classes(draw):
    """Draw classes, and a P and a K that they can fill."""
    k = draw(st.integers(1, 6))
    sizes = draw(st.lists(st.integers(k, 3 * k), min_size=1, max_size=6))
    return np.repeat(np.arange(len(sizes)), sizes), draw(st.integers(1, len(sizes))), k


@given(classes(), any_shuffle)
def test_every_batch_is_p_classes_of_k_samples(case, shuffle):
    y, p, k = case
    for batch in listed(PKSampler(y, p, k).plan(p * k, shuffle())):
        labels = y[batch].reshape(p, k)
        assert (labels == labels[:, :1]).all()
        assert len(set(labels[:, 0])) == p


@given(classes(), any_shuffle, st.integers(1, 3))
def test_classes_and_samples_are_used_evenly(case, shuffle, repeats):
    y, p, k = case
    batches = listed(PKSampler(y, p, k, repeats=repeats).plan(p * k, shuffle()))
    assert_used_evenly([y[batch[::k]].tolist() for batch in batches], np.unique(y))
    for label in np.unique(y):
        assert assert_used_evenly(batches, np.flatnonzero(y == label)) >= repeats


@given(classes(), st.integers(0, 200))
def test_an_endless_pk_plan_is_pure(case, number):
    y, p, k = case
    expected = listed(PKSampler(y, p, k, repeats=-1).plan(p * k, 7), number + 1)[number]
    assert PKSampler(y, p, k, repeats=-1).plan(p * k, 7)[number].indices.tolist() == expected


def test_the_length_of_a_pk_epoch():
    y = np.repeat([0, 1, 2], [2, 4, 9])
    assert PKSampler(y, p=2, k=2).n_batches == 8  # ceil(9 / 2) = 5 rounds of 3 classes
    assert PKSampler(y, p=2, k=2, repeats=2).n_batches == 14  # 9 rounds
    assert PKSampler(y, p=2, k=2, n_batches=3).num_indices_generated() == 12


def test_sequence_of_pk():
    assert listed(PKSampler(Y, 2, 2).plan(4, 42), 3) == [[10, 7, 3, 8], [2, 4, 5, 9], [4, 2, 1, 6]]
    assert listed(PKSampler(Y, 2, 2).plan(4, np.random.RandomState(12345)), 3) == [
        [5, 8, 4, 2],
        [1, 10, 9, 0],
        [7, 6, 2, 4],
    ]


def test_small_classes_are_an_error_or_skipped():
    with pytest.raises(ValueError, match='class 1 has 2 samples in y, but a batch takes 3'):
        PKSampler(Y, p=2, k=3)
    batches = listed(PKSampler(Y, p=2, k=3, small_classes='skip').plan(6, 3))
    assert set(Y[np.concatenate(batches)]) == {0, 2}


@pytest.mark.parametrize(
    ('arguments', 'error', 'message'),
    [
        ({'p': 4, 'k': 2}, ValueError, 'p is 4, but y has only 3 classes with k=2 samples'),
        ({'p': 3, 'k': 3, 'small_classes': 'skip'}, ValueError, 'only 2 classes with k=3 samples'),
        ({'p': 0, 'k': 2}, ValueError, 'p must be at least 1, got 0'),
        ({'p': 2, 'k': True}, TypeError, 'k must be an integer, got True'),
        ({'p': 2, 'k': 2, 'small_classes': 'drop'}, ValueError, "small_classes must be 'error' or 'skip', got 'drop'"),
        ({'p': 2, 'k': 2, 'n_batch': 3}, TypeError, 'n_batch'),
    ],
)
def test_wrong_pk(arguments, error, message):
    with pytest.raises(error, match=message):
        PKSampler(Y, **arguments)


GROUPS = st.lists(st.integers(0, 8), max_size=40)


@given(GROUPS, st.integers(1, 12), any_shuffle, st.booleans())
def test_no_batch_has_two_samples_of_a_group(groups, batch_size, shuffle, drop_last):
    for batch in listed(GroupSampler(groups).plan(batch_size, shuffle(), drop_last=drop_last)):
        assert len({groups[index] for index in batch}) == len(batch) > 0


@given(GROUPS, st.integers(1, 12), any_shuffle)
def test_groups_give_every_sample_once_in_the_fewest_even_batches(groups, batch_size, shuffle):
    batches = listed(GroupSampler(groups).plan(batch_size, shuffle()))
    assert sorted(itertools.chain(*batches)) == list(range(len(groups)))
    largest = max(map(groups.count, groups), default=0)
    assert len(batches) == max(-(-len(groups) // batch_size), largest)
    sizes = {len(batch) for batch in batches}
    assert not sizes or max(sizes) - min(sizes) <= 1


def most_full_batches(groups, batch_size):
    """Fill batches from the groups that have most samples left."""
    left, count = [groups.count(group) for group in set(groups)], 0
    while sum(size > 0 for size in left) >= batch_size:
        left.sort(reverse=True)
        left[:batch_size] = [size - 1 for size in left[:batch_size]]
        count += 1
    return count


@given(GROUPS, st.integers(1, 12))
def test_drop_last_makes_the_most_full_batches(groups, batch_size):
    batches = listed(GroupSampler(groups).plan(batch_size, 3, drop_last=True))
    assert [len(batch) for batch in batches] == [batch_size] * most_full_batches(groups, batch_size)
    assert len(set(itertools.chain(*batches))) == batch_size * len(batches)


def test_other_samples_are_left_out_in_every_epoch():
    sampler = GroupSampler([0] * 30 + [1, 2, 3, 4, 5])
    epochs = [set(itertools.chain(*listed(sampler.plan(2, 3, epoch=e, drop_last=True)))) for e in range(2)]
    assert len(epochs[0]) == len(epochs[1]) == 10
    assert epochs[0] != epochs[1]


def test_batches_hold_different_groups():
    groups = np.arange(400) // 4
    batches = listed(GroupSampler(groups).plan(20, 3))
    shared = [len({*groups[one]} & {*groups[other]}) for one, other in itertools.combinations(batches, 2)]
    assert len(batches) == 20
    assert max(shared) < 12


def test_sequence_of_groups():
    assert listed(GroupSampler(Y).plan(3, 42)) == [[7, 8], [10, 9], [1, 5, 4], [6, 0], [3, 2]]
    assert listed(GroupSampler(NAMES).plan(3, np.random.RandomState(12345))) == [
        [8, 10],
        [5, 1, 2],
        [9, 4],
        [3, 7],
        [0, 6],
    ]


def test_an_empty_group_sampler_ends_at_once():
    sampler = GroupSampler([], repeats=-1)
    assert sampler.num_indices_generated() == len(sampler.plan(3, 1)) == 0
    assert listed(sampler.plan(3, 1)) == []


def test_a_map_of_pk_batches():
    source = ArrayDataSource([Y], sampler=PKSampler(Y, 2, 2)).map(lambda y: (y.reshape(2, 2),))
    assert all((labels[:, 0] == labels[:, 1]).all() for (labels,) in source.batch_iterator(4, 3))
