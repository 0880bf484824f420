"""Samplers of batches of similar length."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchup.data_source import ArrayDataSource
from batchup.sampling import BucketSampler, StandardSampler

from ..cases import LENGTHS
from .test_own_batches import listed
from .test_quotas import any_shuffle


@st.composite
def buckets(draw):
    """Draw lengths, a sampler, and a batch size."""
    lengths = draw(st.lists(st.integers(0, 30), max_size=60))
    arguments = {
        'max_elements': draw(st.none() | st.integers(30, 100)),
        'batches_per_bucket': draw(st.sampled_from([1, 2, 5, 2**70])),
    }
    return np.array(lengths, int), BucketSampler(lengths, **arguments), draw(st.integers(1, 20))


@given(buckets(), any_shuffle)
def test_every_sample_comes_once(case, shuffle):
    lengths, sampler, batch_size = case
    assert sorted(itertools.chain(*listed(sampler.plan(batch_size, shuffle())))) == list(range(len(lengths)))


@given(buckets(), any_shuffle, st.booleans())
def test_no_batch_is_empty_or_too_large(case, shuffle, drop_last):
    lengths, sampler, batch_size = case
    for batch in listed(sampler.plan(batch_size, shuffle(), drop_last=drop_last)):
        assert 1 <= len(batch) <= batch_size
        assert len(batch) * lengths[batch].max() <= (sampler.max_elements or np.inf)


@given(buckets(), any_shuffle, st.booleans())
def test_len_and_sizes_do_not_depend_on_the_shuffle(case, shuffle, drop_last):
    _, sampler, batch_size = case
    plan = sampler.plan(batch_size, shuffle(), drop_last=drop_last)
    in_order = sampler.plan(batch_size, drop_last=drop_last)
    sizes = sorted(len(batch) for batch in listed(plan))
    assert sizes == sorted(len(batch) for batch in listed(in_order))
    assert len(plan) == len(in_order) == len(sizes)


@given(buckets(), any_shuffle)
def test_without_a_budget_one_batch_is_short_at_most(case, shuffle):
    lengths, _, batch_size = case
    sizes = [len(batch) for batch in listed(BucketSampler(lengths).plan(batch_size, shuffle()))]
    n, left = divmod(len(lengths), batch_size)
    assert sorted(sizes, reverse=True) == [batch_size] * n + [left] * (left > 0)
    dropped = listed(BucketSampler(lengths).plan(batch_size, shuffle(), drop_last=True))
    assert [len(batch) for batch in dropped] == [batch_size] * n


@given(st.integers(1, 20), st.integers(1, 5), any_shuffle, st.data())
def test_a_bucket_of_one_batch_is_as_in_sorted_data(batch_size, whole, shuffle, data):
    n = batch_size * whole
    lengths = np.array(data.draw(st.lists(st.integers(0, 30), min_size=n, max_size=n)))
    batches = listed(BucketSampler(lengths, batches_per_bucket=1).plan(batch_size, shuffle()))
    spreads = sorted(np.ptp(lengths[batch]) for batch in batches)
    assert spreads == sorted(np.ptp(np.sort(lengths)[::-1].reshape(whole, batch_size), axis=1))


@given(buckets(), st.integers(1, 4))
def test_every_repetition_has_the_same_sizes(case, repeats):
    lengths, sampler, batch_size = case
    repeated = BucketSampler(
        lengths,
        max_elements=sampler.max_elements,
        batches_per_bucket=sampler.batches_per_bucket,
        repeats=repeats,
    )
    sizes, once = (sorted(len(batch) for batch in listed(s.plan(batch_size, 3))) for s in (repeated, sampler))
    assert sizes == sorted(once * repeats)


def padding(lengths, plan):
    """Return the part of padded batches that is padding."""
    padded = sum(len(batch) * lengths[batch].max() for batch in listed(plan))
    return 1 - lengths.sum() / padded


def test_padding_is_a_small_part():
    lengths = np.random.RandomState(3).lognormal(4, 0.8, 20_000).astype(int) + 1
    assert padding(lengths, StandardSampler(20_000).plan(64, 3)) > 0.7
    assert padding(lengths, BucketSampler(lengths).plan(64, 3)) < 0.2
    assert padding(lengths, BucketSampler(lengths, max_elements=8192).plan(256, 3)) < 0.1


def test_samples_of_equal_length_meet_anyone():
    sampler = BucketSampler(np.full(1000, 7), batches_per_bucket=1)
    batches = [sorted(batch) for batch in listed(sampler.plan(10, 3))]
    assert max(batch[-1] - batch[0] for batch in batches) > 500
    assert batches != [sorted(batch) for batch in listed(sampler.plan(10, 3, epoch=1))]


def test_a_short_batch_does_not_always_hold_the_same_samples():
    sampler = BucketSampler(np.arange(9), batches_per_bucket=1)
    short = {min(listed(sampler.plan(4, 3, epoch=epoch)), key=len)[0] for epoch in range(20)}
    assert short == {0, 1, 2, 3, 4}


def test_batches_come_in_random_order():
    lengths = np.arange(100)
    firsts = [lengths[batch].max() for batch in listed(BucketSampler(lengths).plan(5, 3))]
    assert sorted(firsts, reverse=True) != firsts != sorted(firsts)


SEQUENCES = [
    (lambda: None, {'batches_per_bucket': 1}, [[3, 1, 4, 10], [5, 6, 0, 2], [7, 9, 8]]),
    (lambda: 42, {'batches_per_bucket': 1}, [[6, 0, 7], [4, 3, 1, 10], [8, 5, 9, 2]]),
    (lambda: np.random.RandomState(12345), {'batches_per_bucket': 1}, [[0, 7, 9], [10, 4, 3, 1], [5, 2, 6, 8]]),
    (lambda: None, {'max_elements': 20}, [[3], [1], [4], [10], [5, 6, 0, 2], [7, 9, 8]]),
]


@pytest.mark.parametrize(('shuffle', 'arguments', 'expected'), SEQUENCES)
def test_sequences_of_buckets(shuffle, arguments, expected):
    assert listed(BucketSampler(LENGTHS, **arguments).plan(4, shuffle())) == expected


def test_an_endless_sampler_goes_on():
    plan = BucketSampler(LENGTHS, max_elements=20, repeats=-1).plan(4, 3)
    assert plan.length == np.inf
    assert 1 <= len(plan[2**70].indices) <= 4


def test_no_samples_make_no_batches():
    sampler = BucketSampler([], max_elements=3, repeats=-1)
    assert sampler.num_indices_generated() == len(sampler.plan(3)) == 0


def test_one_sample_is_a_batch():
    assert listed(BucketSampler([0], max_elements=1).plan(8, 3)) == [[0]]
    assert listed(BucketSampler([5]).plan(8, drop_last=True)) == []


@pytest.mark.parametrize(
    ('lengths', 'arguments', 'error', 'message'),
    [
        ([3, 9, 9], {'max_elements': 8}, ValueError, 'sample 1 has length 9, more than max_elements=8'),
        ([3, -1], {}, ValueError, 'got -1 for sample 1'),
        ([3.0], {}, TypeError, 'lengths must be integers, got dtype float64'),
        ([np.nan], {}, TypeError, 'got dtype float64'),
        ([True, False], {}, TypeError, 'got dtype bool'),
        (np.array([1, 2**63], np.uint64), {}, ValueError, 'got 9223372036854775808 for sample 1'),
        ([[3]], {}, ValueError, 'one dimension'),
        ([3], {'max_elements': 0}, ValueError, 'max_elements must be at least 1, got 0'),
        ([3], {'max_elements': 2.5}, TypeError, 'max_elements must be an integer, got 2.5'),
        ([3], {'batches_per_bucket': 0}, ValueError, 'batches_per_bucket must be at least 1, got 0'),
        ([3], {'repeats': 0}, ValueError, 'repeats'),
        ([3], {'max_tokens': 3}, TypeError, 'max_tokens'),
    ],
)
def test_wrong_arguments(lengths, arguments, error, message):
    with pytest.raises(error, match=message):
        BucketSampler(lengths, **arguments)


def test_data_of_another_length_is_refused():
    with pytest.raises(ValueError, match='the lengths of 11 samples, the data has 5'):
        ArrayDataSource([np.arange(5)], sampler=BucketSampler(LENGTHS))
