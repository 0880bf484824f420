"""The sequences that a `RandomState` gives, as literal values: a promise to published results."""

import itertools

import numpy as np
import pytest

from batchup._ground.randomness import Purpose, keyed_generator
from batchup.data_source import ArrayDataSource, ChoiceDataSource, CompositeDataSource
from batchup.sampling import StandardSampler, SubsetSampler, WeightedSampler, WeightedSubsetSampler

WEIGHTS = [1, 2, 3, 4]

SAMPLERS = {
    'standard': (lambda: StandardSampler(7), 3, [[6, 3, 4], [0, 1, 5], [2]]),
    'standard, 2 repeats': (lambda: StandardSampler(5, repeats=2), 4, [[0, 4, 3, 1], [2, 3, 0, 2], [1, 4]]),
    'subset': (lambda: SubsetSampler([10, 20, 30, 40, 50]), 2, [[10, 50], [40, 20], [30]]),
    'endless subset': (
        lambda: SubsetSampler([10, 20, 30], repeats=-1),
        4,
        [[10, 20, 30, 10], [30, 20, 30, 20], [10, 20, 10, 30]],
    ),
    'weighted': (lambda: WeightedSampler(WEIGHTS), 5, [[3, 2, 1, 1, 2], [2, 3, 3, 3, 3], [3, 3, 0, 1, 1]]),
    'weighted subset': (
        lambda: WeightedSubsetSampler(WEIGHTS, [9, 8, 7, 6]),
        5,
        [[6, 7, 8, 8, 7], [7, 6, 6, 6, 6], [6, 6, 9, 8, 8]],
    ),
    'weighted, 7 samples': (
        lambda: WeightedSampler(WEIGHTS, n_samples=7),
        5,
        [[3, 2, 1, 1, 2], [2, 3]],
    ),
    'weighted without replacement': (lambda: WeightedSampler(WEIGHTS, replace=False), 3, [[3, 2, 1], [0]]),
    'weighted subset without replacement': (
        lambda: WeightedSubsetSampler(WEIGHTS, [9, 8, 7, 6], n_samples=3, replace=False),
        2,
        [[6, 7], [8]],
    ),
    'class balancing': (
        lambda: WeightedSampler.class_balancing_sampler([0, 0, 0, 0, 1]),
        6,
        [[4, 2, 1, 1, 4, 4], [4, 4, 4, 4, 4, 4]],
    ),
}


@pytest.mark.parametrize('name', SAMPLERS)
def test_random_state_sequences_of_samplers(name):
    make, batch_size, expected = SAMPLERS[name]
    batches = make().shuffled_indices_batch_iterator(batch_size, np.random.RandomState(12345))
    assert [batch.tolist() for batch in itertools.islice(batches, len(expected))] == expected


def three_sources():
    return [ArrayDataSource([np.arange(n)]) for n in (6, 4, 2)]


def test_random_state_sequence_of_a_composite():
    stream = CompositeDataSource(three_sources()[:2]).batch_iterator(2, shuffle=np.random.RandomState(12345))
    assert [[part.tolist() for part in batch] for batch in stream] == [[[5, 3], [3, 0]], [[4, 0], [1, 2]]]


def test_random_state_sequence_of_a_choice():
    source = ChoiceDataSource(three_sources())
    batches = source.batch_indices_iterator(2, shuffle=np.random.RandomState(12345))
    expected = [(0, [2, 3]), (1, [3, 0]), (2, [0, 1])]
    assert [(batch.ds_index, batch.sample_indices.tolist()) for batch in batches] == expected


def test_random_state_sequence_of_a_stratified_choice():
    source = ChoiceDataSource(three_sources(), stratified=True)
    batches = source.batch_indices_iterator(2, shuffle=np.random.RandomState(12345))
    expected = [(2, [1, 0]), (1, [0, 3]), (1, [2, 1]), (0, [0, 4]), (0, [2, 3]), (0, [5, 1])]
    assert [(batch.ds_index, batch.sample_indices.tolist()) for batch in batches] == expected


@pytest.mark.parametrize('make_rng', [np.random.RandomState, np.random.default_rng])
def test_a_repetition_is_one_permutation(make_rng):
    rng = make_rng(3)
    expected = np.concatenate([rng.permutation(10), rng.permutation(10)])
    batches = StandardSampler(10, repeats=2).shuffled_indices_batch_iterator(4, make_rng(3))
    np.testing.assert_array_equal(np.concatenate(list(batches)), expected)


@pytest.mark.parametrize('make_rng', [np.random.RandomState, np.random.default_rng])
def test_weighted_draws_equal_choice(make_rng):
    weights = np.random.RandomState(0).rand(1000) ** 4
    sampler, rng = WeightedSampler(weights), make_rng(3)
    batches = sampler.shuffled_indices_batch_iterator(64, make_rng(3))
    for batch in itertools.islice(batches, 20):
        np.testing.assert_array_equal(batch, rng.choice(1000, size=64, p=sampler.weights))


@pytest.mark.parametrize('make_rng', [np.random.RandomState, np.random.default_rng])
def test_weighted_subset_draws_equal_choice(make_rng):
    indices = np.arange(50)[::-2]
    sampler, rng = WeightedSubsetSampler(np.arange(25), indices), make_rng(3)
    batches = sampler.shuffled_indices_batch_iterator(16, make_rng(3))
    for batch in itertools.islice(batches, 20):
        np.testing.assert_array_equal(batch, rng.choice(indices, size=16, p=sampler.sub_weights))


@pytest.mark.parametrize('make_rng', [np.random.RandomState, np.random.default_rng])
def test_a_stratified_choice_shuffles_the_member_numbers(make_rng):
    rng = make_rng(3)
    members = np.repeat([0, 1, 2], [3, 2, 1])
    rng.shuffle(members)
    batches = ChoiceDataSource(three_sources(), stratified=True).batch_indices_iterator(2, shuffle=make_rng(3))
    assert [batch.ds_index for batch in batches] == members.tolist()


def test_turns_are_a_permutation_each_round():
    rng = np.random.RandomState(3)
    members = [ArrayDataSource([np.zeros(100)], repeats=-1) for _ in range(4)]
    batches = ChoiceDataSource(members).batch_indices_iterator(100, shuffle=np.random.RandomState(3))
    drawn = [batch.ds_index for batch in itertools.islice(batches, 8)]
    expected = []
    for _ in range(2):
        turns = rng.permutation(4)
        expected += turns.tolist()
        for _member in turns:
            rng.permutation(100)
    assert drawn == expected


def test_true_is_the_global_generator():
    np.random.seed(12345)
    assert [batch[0].tolist() for batch in ArrayDataSource([np.arange(7)]).batch_iterator(3, shuffle=True)] == [
        [6, 3, 4],
        [0, 1, 5],
        [2],
    ]


def test_two_iterators_on_one_generator_draw_in_the_order_of_use():
    rng = np.random.RandomState(12345)
    source = ArrayDataSource([np.arange(5)])
    first, second = source.batch_iterator(5, shuffle=rng), source.batch_iterator(5, shuffle=rng)
    drawn = [next(second)[0].tolist(), next(first)[0].tolist()]
    reference = np.random.RandomState(12345)
    assert drawn == [reference.permutation(5).tolist(), reference.permutation(5).tolist()]


SEEDS = {
    'standard': (lambda: StandardSampler(7), {}, 3, [[3, 0, 5], [4, 2, 6], [1]]),
    'standard, epoch 1': (lambda: StandardSampler(7), {'epoch': 1}, 3, [[0, 6, 2], [5, 3, 4], [1]]),
    'subset': (lambda: SubsetSampler([10, 20, 30]), {}, 2, [[10, 30], [20]]),
    'weighted': (lambda: WeightedSampler(WEIGHTS), {}, 6, [[0, 3, 3, 2, 2, 3], [3, 3, 2, 3, 1, 2]]),
    'weighted, epoch 1': (lambda: WeightedSampler(WEIGHTS), {'epoch': 1}, 6, [[2, 2, 2, 3, 1, 2], [0, 2, 3, 3, 0, 0]]),
    'weighted subset': (
        lambda: WeightedSubsetSampler(WEIGHTS, [9, 8, 7, 6]),
        {},
        6,
        [[9, 6, 6, 7, 7, 6], [6, 6, 7, 6, 8, 7]],
    ),
    'weighted, 8 samples': (lambda: WeightedSampler(WEIGHTS, n_samples=8), {}, 6, [[0, 3, 3, 2, 2, 3], [3, 3]]),
    'weighted without replacement': (
        lambda: WeightedSampler([3, 1, 0, 4, 1, 5], replace=False),
        {},
        3,
        [[0, 5, 3], [4, 1]],
    ),
    'weighted without replacement, epoch 1': (
        lambda: WeightedSampler([3, 1, 0, 4, 1, 5], replace=False),
        {'epoch': 1},
        3,
        [[5, 3, 0], [1, 4]],
    ),
    'weighted subset without replacement': (
        lambda: WeightedSubsetSampler(WEIGHTS, [9, 8, 7, 6], n_samples=3, replace=False),
        {},
        2,
        [[9, 6], [7]],
    ),
}


@pytest.mark.parametrize('name', SEEDS)
def test_sequences_of_seeds(name):
    make, epoch, batch_size, expected = SEEDS[name]
    plan = make().plan(batch_size, 42, **epoch)
    assert [plan[k].indices.tolist() for k in range(len(expected))] == expected


def test_a_seed_draws_in_keyed_chunks():
    """Far from the start, and at the end of a chunk, too: draws are those of the keyed generator."""
    weights = np.arange(1.0, 1001.0)
    cumulative = WeightedSampler(weights).weights.cumsum()
    rng = keyed_generator(42, Purpose.ORDER, 3, 10**12)
    expected = (cumulative / cumulative[-1]).searchsorted(rng.random(4096), side='right')
    plan = WeightedSampler(weights).plan(4096, 42, epoch=3)
    np.testing.assert_array_equal(plan[10**12].indices, expected)


def test_sequence_of_random_functions():
    def draw(*batch, rng):
        return (*batch, rng.integers(0, 100, 2))

    once = ArrayDataSource([np.arange(5)]).map(draw, rng=True, same_length=False)
    source = once.map(draw, rng=True, same_length=False)
    assert [[part.tolist() for part in batch] for batch in source.batch_iterator(2, shuffle=42, epoch=1)] == [
        [[3, 4], [22, 28], [48, 68]],
        [[2, 0], [34, 84], [25, 7]],
        [[1], [50, 87], [41, 16]],
    ]
