"""Weighted samplers: the distribution of their draws, epochs of a length, and changed weights."""

import copy
import itertools
import math
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchup._plans.weights import WeightTable, exponentials, normalise_weights
from batchup.data_source import ArrayDataSource, ChoiceDataSource
from batchup.errors import StateMismatchError
from batchup.sampling import WeightedSampler, WeightedSubsetSampler

SHUFFLES = [lambda: 3, lambda: np.random.RandomState(3), lambda: np.random.default_rng(3)]

# A chi-square statistic lies above its mean by less than this many deviations, but for one
# time in a million. Draws are seeded: each test fails always or never.
DEVIATIONS = 5.5

# Weights of very different sizes, some of them 0.
SIZES = st.sampled_from([0.0, 1e-300, 1e-12, 1e-3, 0.5, 1.0, 2.0, 3.0, 7.0, 1e12])
WEIGHTS = st.lists(SIZES, min_size=1, max_size=300).filter(any)


def table_of(weights):
    return WeightTable(normalise_weights('weights', weights))


def indices_of(sampler, shuffle, batch_size=4, **kwargs):
    """Return the indices of all batches of an epoch, as lists."""
    return [request.indices.tolist() for request in sampler.plan(batch_size, shuffle, **kwargs)]


def assert_distributed(counts, probabilities):
    """Assert that counts could well come from draws with these probabilities."""
    counts, probabilities = np.asarray(counts), np.asarray(probabilities)
    assert not counts[probabilities == 0].any()
    counts, expected = counts[probabilities > 0], counts.sum() * probabilities[probabilities > 0]
    assert expected.min() > 5
    freedom = len(counts) - 1
    assert np.sum((counts - expected) ** 2 / expected) < freedom + DEVIATIONS * math.sqrt(2 * freedom) + DEVIATIONS


# Draws with replacement.


@given(WEIGHTS, st.integers(0, 2**32 - 1))
def test_many_draws_equal_those_of_choice(weights, seed):
    table = table_of(weights)
    drawn = table.draw(np.random.RandomState(seed), 2000)
    expected = np.random.RandomState(seed).choice(len(weights), 2000, p=table.weights)
    np.testing.assert_array_equal(drawn, expected)


@pytest.mark.parametrize(
    'weights',
    [
        np.ones(1),
        np.arange(1000) % 7,
        1 / np.arange(1, 20_001),
        np.r_[np.full(50_000, 1e-9), 1.0],
        np.r_[1.0, np.zeros(5000), np.ones(1000)],
        np.r_[np.ones(900), np.full(25, 800.0)],
    ],
    ids=['one', 'with zeros', 'harmonic', 'tiny and large', 'a gap', 'crowded'],
)
def test_draws_of_any_number_equal_those_of_choice(weights):
    table = table_of(weights)
    for count in (1, 511, 512, 513, 100_000):
        drawn = table.draw(np.random.RandomState(1), count)
        np.testing.assert_array_equal(drawn, np.random.RandomState(1).choice(len(weights), count, p=table.weights))


def test_uniforms_that_equal_cumulative_weights_are_beyond_them():
    weights = np.array([1, 0, 0, 3, 9, 0, 19]) / 32
    ends = np.r_[0.0, weights.cumsum()[:-1]].repeat(100)
    expected = weights.cumsum().searchsorted(ends, side='right')
    np.testing.assert_array_equal(table_of(weights)._search(ends), expected)


@pytest.mark.parametrize('power', [1, 4])
def test_seeded_draws_are_distributed_by_weight(power):
    weights = np.arange(40.0) ** power
    draws = WeightedSampler(weights).plan(400_000, shuffle=1)[0].indices
    few = weights / weights.sum() < 1e-4
    counts = np.bincount(draws, minlength=40)
    merged = np.r_[counts[few].sum(), counts[~few]]
    assert_distributed(merged, np.r_[weights[few].sum(), weights[~few]] / weights.sum())


def test_consecutive_draws_are_independent():
    weights = np.array([1, 2, 3]) / 6
    draws = WeightedSampler(weights).plan(200_000, shuffle=1)[0].indices
    pairs = np.bincount(draws[:-1:2] * 3 + draws[1::2])
    assert_distributed(pairs, np.outer(weights, weights).ravel())


@pytest.mark.parametrize('make', [WeightedSampler, lambda w: WeightedSubsetSampler(w, np.arange(1000)[::-1])])
def test_a_seeded_plan_is_pure_at_any_position(make):
    plan, again = (make(np.arange(1000)).plan(100, shuffle=5) for _ in range(2))
    later = plan[10**13].indices.copy()
    np.testing.assert_array_equal(again[40].indices, plan[40].indices)
    np.testing.assert_array_equal(again[10**13].indices, later)


# Draws without replacement.


def sequential_probabilities(weights, count):
    """Map every way to draw `count` of the samples, one after the other, to its probability."""
    probabilities = {}
    for order in itertools.permutations(range(len(weights)), count):
        left, probability = sum(weights), 1.0
        for sample in order:
            probability *= weights[sample] / left if left else 0.0
            left -= weights[sample]
        probabilities[order] = probability
    return probabilities


@pytest.mark.slow
@pytest.mark.parametrize('rng', [np.random.RandomState(1), np.random.default_rng(1)], ids=['state', 'generator'])
@pytest.mark.parametrize(('weights', 'count'), [([1, 2, 3, 4], 4), ([5, 1, 0, 1, 3], 2), ([9, 1, 1], 1), ([1, 1], 2)])
def test_distinct_draws_are_distributed_as_sequential_ones(weights, count, rng):
    expected = sequential_probabilities(weights, count)
    table, counts = table_of(weights), dict.fromkeys(expected, 0)
    for _ in range(8000):
        counts[tuple(table.draw_distinct(rng, count).tolist())] += 1
    assert_distributed(list(counts.values()), list(expected.values()))


def test_distinct_draws_of_seeds_and_epochs_are_distributed_as_sequential_ones():
    sampler, expected = WeightedSampler([1, 2, 4], replace=False), sequential_probabilities([1, 2, 4], 3)
    counts = dict.fromkeys(expected, 0)
    for seed, epoch in itertools.product(range(50), range(50)):
        counts[tuple(sampler.plan(3, seed, epoch=epoch)[0].indices.tolist())] += 1
    assert_distributed(list(counts.values()), list(expected.values()))


@given(WEIGHTS, st.integers(0, 100), st.sampled_from(SHUFFLES))
def test_distinct_draws_are_distinct_samples_of_positive_weight(weights, seed, shuffle):
    sampler = WeightedSampler(weights, replace=False)
    drawn = [sample for batch in indices_of(sampler, shuffle(), 7) for sample in batch]
    assert sorted(drawn) == np.flatnonzero(sampler.weights).tolist()


@pytest.mark.parametrize('shuffle', SHUFFLES)
def test_fewer_distinct_draws_are_the_first_of_all(shuffle):
    weights = np.arange(500.0) ** 3
    every = indices_of(WeightedSampler(weights, replace=False), shuffle(), 100)
    fewer = indices_of(WeightedSampler(weights, replace=False, n_samples=250), shuffle(), 100)
    assert fewer == [*every[:2], every[2][:50]]


@pytest.mark.parametrize('scale', [5e-324, 1e-310, 1.0, 1e300])
def test_distinct_draws_do_not_leave_the_range_of_numbers(scale):
    drawn = indices_of(WeightedSampler([scale, 1.0, 0.0, scale], replace=False), 1, 3)[0]
    assert sorted(drawn) == [0, 1, 3]


def test_an_index_that_is_chosen_twice_may_be_drawn_twice():
    assert sorted(indices_of(WeightedSubsetSampler([1, 1, 1], [7, 7, -2], replace=False), 1)[0]) == [-2, 7, 7]


def test_exponentials_follow_the_logarithm():
    uniforms = np.random.default_rng(1).random(100_000)
    drawn = exponentials(np.random.default_rng(1), 100_000)
    np.testing.assert_allclose(drawn, -np.log1p(-uniforms), rtol=1e-14)


class Constant(np.random.RandomState):
    """A generator of the same uniform again and again."""

    def random(self, size=None):
        return np.full(size, 0.5)


def test_equal_keys_come_in_the_order_of_samples():
    assert table_of([1, 2, 1, 2, 2]).draw_distinct(Constant(), 2).tolist() == [1, 3]


class Extremes(np.random.RandomState):
    """A generator of the uniforms that lie at the ends."""

    def random(self, size=None):
        return np.array([0.0, 2.0**-53, 1 - 2.0**-53])


def test_exponentials_of_the_ends():
    np.testing.assert_allclose(
        exponentials(Extremes(), 3), [0.0, 2.0**-53, 53 * math.log(2)], rtol=1e-15, atol=2.0**-52
    )


# Epochs of a length.

FINITE = {
    'replaced': lambda **kwargs: WeightedSampler([1, 2, 0, 3], **kwargs),
    'subset': lambda **kwargs: WeightedSubsetSampler([1, 0, 2], [5, 4, 3], **kwargs),
    'balanced': lambda **kwargs: WeightedSampler.class_balancing_sampler([0, 0, 1], **kwargs),
    'balanced subset': lambda **kwargs: WeightedSubsetSampler.class_balancing_sampler([0, 0, 1], [2, 0], **kwargs),
}
finite = pytest.mark.parametrize('make', FINITE.values(), ids=FINITE)


@finite
@pytest.mark.parametrize('n_samples', [0, 1, 9, 10, np.int64(11), 10**4])
def test_an_epoch_has_n_samples(make, n_samples):
    sampler = make(n_samples=n_samples)
    assert sampler.num_indices_generated() == n_samples
    whole, rest = divmod(int(n_samples), 5)
    for shuffle in SHUFFLES:
        drawn = indices_of(sampler, shuffle(), 5)
        assert [len(batch) for batch in drawn] == [5] * whole + [rest] * (rest > 0)
        assert len(sampler.plan(5, shuffle())) == len(drawn)


@finite
def test_an_epoch_is_the_beginning_of_an_endless_one(make):
    for shuffle in SHUFFLES:
        short = indices_of(make(n_samples=5000), shuffle(), 100)
        endless = make().plan(100, shuffle())
        assert short == [endless[k].indices.tolist() for k in range(50)]


@pytest.mark.parametrize('n_samples', [5, 2**40, 2**70])
def test_the_last_batch_of_a_long_epoch_is_at_hand(n_samples):
    plan = WeightedSampler([1, 1], n_samples=n_samples).plan(4, shuffle=1)
    assert plan.length == -(-n_samples // 4)
    assert len(plan[plan.length - 1].indices) == (n_samples - 1) % 4 + 1


@pytest.mark.parametrize('replace', [True, False])
@pytest.mark.parametrize('shuffle', SHUFFLES)
def test_drop_last_leaves_out_the_short_batch(replace, shuffle):
    sampler = WeightedSampler(np.ones(20), n_samples=11, replace=replace)
    whole = indices_of(sampler, shuffle(), 4)
    assert indices_of(sampler, shuffle(), 4, drop_last=True) == whole[:2]


@pytest.mark.parametrize('make_rng', [np.random.RandomState, np.random.default_rng])
def test_a_short_last_batch_draws_no_more_than_it_has(make_rng):
    for drop_last, drawn in ((False, 7), (True, 5)):
        rng, expected = make_rng(3), make_rng(3)
        source = ArrayDataSource([np.arange(2)], sampler=WeightedSampler([1, 2], n_samples=7))
        list(source.batch_iterator(5, rng, drop_last=drop_last))
        expected.random(drawn)
        assert rng.random() == expected.random()


def test_drop_last_leaves_nothing_out_of_an_endless_epoch():
    for shuffle in SHUFFLES:
        plan, expected = (WeightedSampler([1, 2]).plan(4, shuffle(), drop_last=drop) for drop in (True, False))
        assert plan.length == math.inf
        assert plan[3].indices.tolist() == expected[3].indices.tolist()


def test_without_replacement_an_epoch_has_the_samples_of_positive_weight():
    assert WeightedSampler([1, 0, 2, 0, 3], replace=False).num_indices_generated() == 3
    assert WeightedSubsetSampler([1, 0, 2], [0, 0, 0], replace=False).num_indices_generated() == 2


def test_sources_know_the_length():
    source = ArrayDataSource([np.arange(4)], sampler=WeightedSampler([1, 2, 3, 4], n_samples=10))
    assert source.num_samples() == 10
    assert len(source.batch_iterator(4, shuffle=1)) == 3
    assert source.batch_map_concat(lambda x: x, 4, shuffle=1)[0].shape == (10,)


def test_a_stratified_choice_takes_all_batches_of_a_finite_sampler():
    weighted = ArrayDataSource([np.arange(4)], sampler=WeightedSampler([1, 2, 3, 4], n_samples=10))
    source = ChoiceDataSource([weighted, ArrayDataSource([np.arange(8)])], stratified=True)
    for shuffle in SHUFFLES:
        assert len(list(source.batch_iterator(4, shuffle=shuffle()))) == 5


@finite
def test_wrong_lengths(make):
    for arguments, error, message in (
        ({'n_samples': -1}, ValueError, 'n_samples must be 0 or more, got -1'),
        ({'n_samples': 2.0}, TypeError, 'n_samples must be an integer, got 2.0'),
        ({'n_samples': True}, TypeError, 'n_samples must be an integer, got True'),
        ({'n_samples': np.inf}, TypeError, 'n_samples must be an integer, got inf'),
        ({'replace': False, 'n_samples': 4}, ValueError, 'n_samples is 4, but only [23] samples have a positive'),
        ({'replaced': False}, TypeError, 'replaced'),
    ):
        with pytest.raises(error, match=message):
            make(**arguments)


# Weights that change.


def test_other_weights_are_normalised():
    sampler, subset = WeightedSampler([1, 2]), WeightedSubsetSampler([1, 2], [3, 4])
    sampler.weights = subset.sub_weights = [3, 1]
    assert sampler.weights.tolist() == subset.sub_weights.tolist() == [0.75, 0.25]


@pytest.mark.parametrize('replace', [True, False])
@pytest.mark.parametrize('shuffle', SHUFFLES)
def test_after_a_change_draws_are_those_of_a_new_sampler(replace, shuffle):
    before, after = np.arange(1.0, 9.0), np.arange(8.0)[::-1]
    sampler = WeightedSampler(before, n_samples=7, replace=replace)
    indices_of(sampler, shuffle())
    sampler.weights = after
    assert indices_of(sampler, shuffle()) == indices_of(WeightedSampler(after, n_samples=7, replace=replace), shuffle())


@pytest.mark.parametrize('replace', [True, False])
@pytest.mark.parametrize('shuffle', SHUFFLES)
def test_open_streams_stay_with_their_weights(replace, shuffle):
    sampler = WeightedSampler(np.arange(1.0, 9.0), n_samples=8, replace=replace)
    source = ArrayDataSource([np.arange(8)], sampler=sampler)
    expected = [batch.tolist() for (batch,) in source.batch_iterator(2, shuffle=shuffle())]
    stream = source.batch_iterator(2, shuffle=shuffle())
    first = next(stream)[0].tolist()
    sampler.weights = np.arange(1.0, 9.0)[::-1] ** 9
    assert [first, *(batch.tolist() for (batch,) in stream)] == expected


@pytest.mark.parametrize('replace', [True, False])
def test_a_state_of_other_weights_is_refused(replace):
    for shuffle, position in itertools.product(SHUFFLES, (0, 1)):
        sampler = WeightedSampler([1, 2, 3], n_samples=3, replace=replace)
        source = ArrayDataSource([np.arange(3)], sampler=sampler)
        stream = source.batch_iterator(1, shuffle=shuffle())
        stream.skip(position)
        sampler.weights = [1, 2, 4]
        with pytest.raises(StateMismatchError, match='plan of the state'):
            source.batch_iterator(1, shuffle=shuffle()).load_state_dict(stream.state_dict())


@pytest.mark.parametrize(
    'other',
    [
        lambda: WeightedSampler([1, 2, 3], n_samples=3),
        lambda: WeightedSampler([1, 2, 3], n_samples=2, replace=False),
        lambda: WeightedSampler([1, 2, 3], replace=False),
        lambda: WeightedSampler([1, 3, 2]),
        lambda: WeightedSubsetSampler([1, 2, 3], [0, 1, 2]),
        lambda: WeightedSubsetSampler([1, 2, 3], [0, 2, 1]),
    ],
)
def test_plans_of_other_samplers_are_described_otherwise(other):
    described = WeightedSampler([1, 2, 3]).plan(2, 1).describe()
    assert other().plan(2, 1).describe() != described == WeightedSampler([2, 4, 6]).plan(5, 2).describe()


@pytest.mark.parametrize('weights', [[1], [1, 2, 3], [1, -1], [0, 0], [np.nan, 1], [[1, 2]], []])
def test_wrong_weights_change_nothing(weights):
    sampler, subset = WeightedSampler([1, 2]), WeightedSubsetSampler([1, 2], [3, 4])
    with pytest.raises(ValueError, match='weights'):
        sampler.weights = weights
    with pytest.raises(ValueError, match='sub_weights'):
        subset.sub_weights = weights
    np.testing.assert_allclose([sampler.weights, subset.sub_weights], [[1 / 3, 2 / 3]] * 2)


def test_other_weights_must_leave_enough_samples():
    sampler = WeightedSampler([1, 1, 1], n_samples=2, replace=False)
    with pytest.raises(ValueError, match='n_samples is 2, but only 1 samples have a positive weight'):
        sampler.weights = [0, 1, 0]
    assert sampler.weights.tolist() == [1 / 3] * 3


@pytest.mark.parametrize('array', [WeightedSampler([1, 2]).weights, WeightedSubsetSampler([1, 2], [3, 4]).sub_weights])
def test_weights_cannot_be_written_into(array):
    with pytest.raises(ValueError, match='read-only'):
        array[0] = 7


def test_weights_of_the_caller_stay_writable():
    weights = np.array([0.5, 0.5])
    sampler = WeightedSampler(weights)
    weights[0] = 7
    assert sampler.weights.tolist() == [0.5, 0.5]


# Copies, and workers.


@pytest.mark.parametrize('copied', [copy.copy, copy.deepcopy, lambda sampler: pickle.loads(pickle.dumps(sampler))])
@pytest.mark.parametrize('replace', [True, False])
def test_copies_draw_the_same_but_have_weights_of_their_own(copied, replace):
    sampler = WeightedSubsetSampler([1, 2, 3], [9, 8, 7], n_samples=3, replace=replace)
    other, expected = copied(sampler), indices_of(sampler, 1)
    sampler.sub_weights = [1, 0, 7] if replace else [7, 1, 1]
    assert indices_of(other, 1) == expected
    assert other.sub_weights.tolist() == [1 / 6, 2 / 6, 3 / 6]


@pytest.mark.parametrize('replace', [True, False])
def test_what_is_made_for_draws_is_not_pickled(replace):
    sampler = WeightedSubsetSampler(np.arange(5000), np.arange(5000), replace=replace)
    before = pickle.dumps(sampler)
    sampler.plan(64, 1)[0]
    assert pickle.dumps(sampler) == before
    assert len(before) < 2 * 8 * 5000 + 2000


def test_threads_share_a_sampler():
    sampler = WeightedSampler(np.arange(1000))
    with ThreadPoolExecutor(4) as threads:
        drawn = list(threads.map(lambda _: sampler.plan(10_000, 1)[0].indices.tolist(), range(8)))
    assert drawn == drawn[:1] * 8
