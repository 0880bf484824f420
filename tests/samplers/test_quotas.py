"""Samplers with quotas of classes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchup.data_source import ArrayDataSource
from batchup.sampling import PKSampler, QuotaSampler

from ..cases import LABELS as Y
from ..cases import NAMES, SHUFFLE_ARGUMENTS
from .test_own_batches import listed

any_shuffle = st.sampled_from(list(SHUFFLE_ARGUMENTS.values()))


def assert_used_evenly(batches, members):
    """Assert that no member is in a batch twice, or used again before all the others."""
    uses = dict.fromkeys(members, 0)
    for batch in batches:
        chosen = [index for index in batch if index in uses]
        assert len(chosen) == len(set(chosen))
        for index in chosen:
            uses[index] += 1
        assert max(uses.values()) - min(uses.values()) <= 1
    return min(uses.values())


@st.composite
def quotas(draw):
    """Draw classes, and quotas that they can fill."""
    sizes = draw(st.lists(st.integers(1, 20), min_size=1, max_size=4))
    counts = [draw(st.integers(0, size)) for size in sizes]
    counts[-1] = max(1, counts[-1])
    y = np.random.RandomState(sum(sizes)).permutation(np.repeat(np.arange(len(sizes)), sizes))
    return y, counts


@given(quotas(), any_shuffle, st.integers(1, 3))
def test_every_batch_holds_the_quotas(case, shuffle, repeats):
    y, counts = case
    for batch in listed(QuotaSampler(y, counts, repeats=repeats).plan(sum(counts), shuffle())):
        assert np.bincount(y[batch], minlength=len(counts)).tolist() == counts


@given(quotas(), any_shuffle, st.integers(1, 3))
def test_classes_go_through_all_samples_before_any_repeats(case, shuffle, repeats):
    y, counts = case
    batches = listed(QuotaSampler(y, counts, repeats=repeats).plan(sum(counts), shuffle()))
    for label in np.flatnonzero(counts):
        assert assert_used_evenly(batches, np.flatnonzero(y == label)) >= repeats


@given(quotas(), st.integers(1, 3))
def test_no_epoch_is_longer_than_it_must_be(case, repeats):
    y, counts = case
    sampler = QuotaSampler(y, counts, repeats=repeats)
    shorter = QuotaSampler(y, counts, n_batches=sampler.n_batches - 1)
    batches = listed(shorter.plan(sum(counts), 3))
    uses = [assert_used_evenly(batches, np.flatnonzero(y == label)) for label in np.flatnonzero(counts)]
    assert min(uses) < repeats


@given(quotas(), st.integers(0, 300))
def test_an_endless_plan_is_pure(case, number):
    y, counts = case
    expected = listed(QuotaSampler(y, counts, repeats=-1).plan(sum(counts), 7), number + 1)[number]
    assert QuotaSampler(y, counts, repeats=-1).plan(sum(counts), 7)[number].indices.tolist() == expected


def test_the_batches_of_a_far_future_are_there():
    y = np.repeat([0, 1], [10, 4])
    plan = QuotaSampler(y, {0: 5, 1: 3}, repeats=-1).plan(8, 3)
    batch = plan[2**70].indices
    assert np.bincount(y[batch]).tolist() == [5, 3]
    assert len(set(batch.tolist())) == 8


def test_a_class_of_a_thousand_with_a_quota_of_almost_all():
    plan = QuotaSampler(np.zeros(1501, int), [1500], repeats=-1).plan(1500, 3)
    assert len(set(plan[1234].indices.tolist())) == 1500


QUOTA_SEQUENCES = {
    'in order': (lambda: None, [[0, 3, 2, 1], [5, 8, 4, 6], [9, 0, 2, 7], [3, 5, 4, 10]]),
    'drawn': (lambda: np.random.RandomState(12345), [[0, 10, 4, 9], [8, 1, 2, 3], [0, 7, 5, 2], [4, 9, 6, 3]]),
}


@pytest.mark.parametrize('name', QUOTA_SEQUENCES)
def test_sequences_of_quotas(name):
    shuffle, expected = QUOTA_SEQUENCES[name]
    assert listed(QuotaSampler(Y, [2, 1, 1]).plan(4, shuffle())) == expected


def test_draws_are_made_class_by_class_and_batch_by_batch():
    rng, y = np.random.RandomState(3), np.array([0, 0, 1, 1, 1, 1])
    one, two = rng.permutation([0, 1]), rng.permutation([2, 3, 4, 5])
    expected = [np.append(one, two[:2])[rng.permutation(4)]]
    one = rng.permutation([0, 1])
    expected += [np.append(one, two[2:])[rng.permutation(4)]]
    batches = QuotaSampler(y, [2, 2]).shuffled_indices_batch_iterator(4, np.random.RandomState(3))
    np.testing.assert_array_equal(list(batches), expected)


def test_the_samples_of_a_batch_are_mixed():
    y = np.repeat([0, 1], 500)
    first = [y[request.indices[0]] for request in QuotaSampler(y, [5, 5]).plan(10, 3)]
    assert 30 < sum(first) < 70


@pytest.mark.parametrize('quotas', [{'b': 1, 'a': 2, 'c': 1}, {'c': 1, 'b': 1, 'a': 2}])
def test_the_order_of_a_dict_does_not_matter(quotas):
    assert listed(QuotaSampler(NAMES, quotas).plan(4, 42)) == listed(QuotaSampler(Y, [2, 1, 1]).plan(4, 42))


@pytest.mark.parametrize('quotas', [(2, 1, 1), np.array([2, 1, 1], np.int16), {0: 2, np.int64(1): 1, 2: np.int8(1)}])
def test_quotas_of_any_type(quotas):
    assert listed(QuotaSampler(Y, quotas).plan(4, 42)) == listed(QuotaSampler(Y, [2, 1, 1]).plan(4, 42))


def test_a_sequence_is_for_the_sorted_names_of_classes():
    named = QuotaSampler(NAMES, [2, 1, 1])
    assert named.quotas == {'a': 2, 'b': 1, 'c': 1}
    assert listed(named.plan(4, 42)) == listed(QuotaSampler(Y, [2, 1, 1]).plan(4, 42))


def test_a_sequence_is_for_the_numbers_of_classes():
    sampler = QuotaSampler([3, 1, 3, 1, 1], [0, 2, 0, 1])
    assert sampler.quotas == {1: 2, 3: 1}
    assert listed(sampler.plan(3)) == [[1, 3, 0], [4, 1, 2]]


@pytest.mark.parametrize(
    ('arguments', 'n_batches', 'indices'),
    [({}, 5, 20), ({'repeats': 2}, 10, 40), ({'n_batches': 3}, 3, 12), ({'n_batches': 0}, 0, 0)],
)
def test_the_length_of_an_epoch(arguments, n_batches, indices):
    sampler = QuotaSampler(np.repeat([0, 1], [5, 15]), [1, 3], **arguments)
    assert sampler.n_batches == len(sampler.plan(4, 3)) == len(listed(sampler.plan(4, 3))) == n_batches
    assert sampler.num_indices_generated() == indices


def test_an_endless_sampler_has_no_len():
    sampler = QuotaSampler(Y, [2, 1, 1], repeats=-1)
    assert sampler.n_batches == sampler.num_indices_generated() == np.inf
    with pytest.raises(TypeError, match='infinite'):
        len(sampler.plan(4))


@pytest.mark.parametrize('sampler', [QuotaSampler(Y, [2, 1, 1]), PKSampler(Y, 2, 2)])
@pytest.mark.parametrize('batch_size', [3, 8])
def test_the_batch_size_is_that_of_the_sampler(sampler, batch_size):
    source = ArrayDataSource([Y], sampler=sampler)
    with pytest.raises(ValueError, match=f'batch_size is {batch_size}, .* of 4; pass batch_size=4'):
        source.batch_iterator(batch_size)


@pytest.mark.parametrize(
    ('y', 'quotas', 'error', 'message'),
    [
        (Y, [1, 1], ValueError, 'class 2 in y has no quota; give it one, or 0'),
        (NAMES, {'a': 1, 'B': 1}, ValueError, r"class 'b' in y has no quota; .*; got quotas for \['a', 'B'\]"),
        (
            Y,
            {'0': 1, '1': 1, '2': 1},
            ValueError,
            r"class 0 in y has no quota; .* got quotas for \['0', '1', '2'\]",
        ),
        (Y, [1, 3, 1], ValueError, 'class 1 has 2 samples in y, but a batch takes 3'),
        (Y, [1, 1, 1, 1], ValueError, 'class 3 has 0 samples in y'),
        (Y, [0, 0, 0], ValueError, 'the quotas sum to 0'),
        ([], {}, ValueError, 'the quotas sum to 0'),
        (Y, [1, -1, 1], ValueError, 'the quota of class 1 must be 0 or more, got -1'),
        (Y, [1, 1.5, 1], TypeError, 'the quota of class 1 must be an integer, got 1.5'),
        (Y, [1, True, 1], TypeError, 'the quota of class 1 must be an integer, got True'),
        (Y, 3, TypeError, 'quotas must be a dict or a sequence of counts, got int'),
        (NAMES, [2, 1], ValueError, r"a count for each of the 3 classes in y, got 2; name them: {'a': ..., ...}"),
    ],
)
def test_wrong_quotas(y, quotas, error, message):
    with pytest.raises(error, match=message):
        QuotaSampler(y, quotas)


@pytest.mark.parametrize(
    'make',
    [lambda **kwargs: QuotaSampler(Y, [1, 1, 1], **kwargs), lambda **kwargs: PKSampler(Y, 1, 1, **kwargs)],
)
def test_wrong_lengths_of_an_epoch(make):
    with pytest.raises(ValueError, match='either n_batches or repeats=2'):
        make(n_batches=3, repeats=2)
    with pytest.raises(ValueError, match='n_batches must be 0 or more, got -1'):
        make(n_batches=-1)
    with pytest.raises(ValueError, match='repeats must be 1 or more, or -1'):
        make(repeats=0)
