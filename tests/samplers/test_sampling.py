"""Samplers: what they generate, and what they refuse."""

import itertools

import numpy as np
import pytest

from batchup.sampling import (
    AbstractSampler,
    StandardSampler,
    SubsetSampler,
    WeightedSampler,
    WeightedSubsetSampler,
    num_batches,
)


@pytest.mark.parametrize(('n', 'batch_size', 'expected'), [(0, 5, 0), (1, 5, 1), (5, 5, 1), (6, 5, 2), (10, 5, 2)])
def test_num_batches(n, batch_size, expected):
    assert num_batches(n, batch_size) == expected


def test_the_base_can_be_instantiated_and_maps_to_itself():
    indices = np.arange(3)
    assert AbstractSampler().map_indices(indices) is indices


@pytest.mark.parametrize(
    ('method', 'arguments'),
    [
        ('num_indices_generated', ()),
        ('in_order_indices_batch_iterator', (3,)),
        ('shuffled_indices_batch_iterator', (3, np.random.RandomState(1))),
    ],
)
def test_the_base_implements_nothing(method, arguments):
    with pytest.raises(NotImplementedError, match='AbstractSampler'):
        getattr(AbstractSampler(), method)(*arguments)


@pytest.mark.parametrize('sampler', [WeightedSampler([1, 2]), WeightedSubsetSampler([1, 2], [0, 1])])
def test_weighted_samplers_have_no_order(sampler):
    with pytest.raises(NotImplementedError, match='pass shuffle='):
        sampler.in_order_indices_batch_iterator(3)
    with pytest.raises(NotImplementedError, match='pass shuffle='):
        sampler.plan(3)


def listed(batches, n=None):
    return [batch.tolist() for batch in itertools.islice(batches, n)]


def test_standard_in_order():
    assert listed(StandardSampler(5).in_order_indices_batch_iterator(2)) == [[0, 1], [2, 3], [4]]


def test_batches_are_filled_across_repetitions():
    assert listed(StandardSampler(3, repeats=2).in_order_indices_batch_iterator(4)) == [[0, 1, 2, 0], [1, 2]]


def test_a_batch_larger_than_the_data_goes_through_it_several_times():
    assert listed(StandardSampler(2, repeats=-1).in_order_indices_batch_iterator(5), 2) == [
        [0, 1, 0, 1, 0],
        [1, 0, 1, 0, 1],
    ]


def test_a_batch_larger_than_all_data_is_short():
    assert listed(StandardSampler(2, repeats=2).in_order_indices_batch_iterator(50)) == [[0, 1, 0, 1]]


def test_subset_in_order():
    assert listed(SubsetSampler([5, 5, -1, 2]).in_order_indices_batch_iterator(3)) == [[5, 5, -1], [2]]


@pytest.mark.parametrize('sampler', [StandardSampler(0), StandardSampler(0, repeats=-1), SubsetSampler([], repeats=-1)])
def test_an_empty_sampler_ends_at_once(sampler):
    assert sampler.num_indices_generated() == 0
    assert listed(sampler.in_order_indices_batch_iterator(3)) == []
    assert listed(sampler.shuffled_indices_batch_iterator(3, np.random.RandomState(1))) == []


@pytest.mark.parametrize(
    ('sampler', 'expected'),
    [
        (StandardSampler(5), 5),
        (StandardSampler(5, repeats=3), 15),
        (StandardSampler(5, repeats=-1), np.inf),
        (SubsetSampler([1, 2], repeats=2), 4),
        (SubsetSampler([1, 2], repeats=-1), np.inf),
        (WeightedSampler([1]), np.inf),
        (WeightedSubsetSampler([1], [3]), np.inf),
    ],
)
def test_num_indices_generated(sampler, expected):
    assert sampler.num_indices_generated() == expected


@pytest.mark.parametrize('sampler', [StandardSampler(5), SubsetSampler([4, 2])])
def test_index_batches_are_new_writable_integer_arrays(sampler):
    first, again = (next(sampler.in_order_indices_batch_iterator(2)) for _ in range(2))
    first[:] = -7
    assert first.dtype == np.intp
    assert (again != -7).all()


def test_map_indices_of_subsets():
    np.testing.assert_array_equal(SubsetSampler([7, 5, 3]).map_indices([0, 2]), [7, 3])
    np.testing.assert_array_equal(WeightedSubsetSampler([1, 1, 1], [7, 5, 3]).map_indices(np.array([1])), [5])


@pytest.mark.parametrize('make', [lambda r: StandardSampler(3, repeats=r), lambda r: SubsetSampler([1], repeats=r)])
@pytest.mark.parametrize('repeats', [0, -2, -100])
def test_wrong_repeats(make, repeats):
    with pytest.raises(ValueError, match=f'repeats must be 1 or more, or -1 for endless repetition, got {repeats}'):
        make(repeats)


@pytest.mark.parametrize('make', [SubsetSampler, lambda i: WeightedSubsetSampler([1, 1], i)])
def test_a_boolean_mask_is_refused(make):
    with pytest.raises(TypeError, match=r'np\.flatnonzero'):
        make(np.array([True, False]))


@pytest.mark.parametrize(('indices', 'error'), [([1.5, 2], TypeError), ([[1], [2]], ValueError), ('ab', TypeError)])
def test_wrong_indices(indices, error):
    with pytest.raises(error, match='indices'):
        SubsetSampler(indices)


@pytest.mark.parametrize(
    ('weights', 'message'),
    [
        ([0, 0], 'sum to 0'),
        ([], 'at least one number, got none'),
        ([1, -1], 'got -1.0 for sample 1'),
        ([np.nan, 1], 'got nan for sample 0'),
        ([1, np.inf], 'got inf for sample 1'),
        ([[1, 2]], 'one dimension'),
    ],
)
def test_wrong_weights(weights, message):
    with pytest.raises(ValueError, match=message):
        WeightedSampler(weights)
    with pytest.raises(ValueError, match=message):
        WeightedSubsetSampler(weights, np.arange(len(weights)))


def test_sub_weights_must_be_as_many_as_indices():
    with pytest.raises(ValueError, match='got 2 and 3'):
        WeightedSubsetSampler([1, 1], [1, 2, 3])


@pytest.mark.parametrize('scale', [1e-300, 1.0, 1e308])
def test_weights_are_normalised_at_any_scale(scale):
    np.testing.assert_allclose(WeightedSampler(np.array([1.0, 1.0, 1.0]) * scale).weights, [1 / 3] * 3)
    assert WeightedSubsetSampler([scale, 0.0], [3, 4]).sub_weights.tolist() == [1.0, 0.0]


def test_samples_of_weight_0_are_never_drawn():
    plan = WeightedSampler([0, 1, 0, 1, 0]).plan(1000, shuffle=1)
    assert set(plan[0].indices.tolist()) == {1, 3}


def test_seeded_draws_follow_the_weights():
    plan = WeightedSampler([1, 2, 3, 4]).plan(100_000, shuffle=1)
    np.testing.assert_allclose(np.bincount(plan[0].indices) / 100_000, [0.1, 0.2, 0.3, 0.4], atol=0.006)


def test_class_balancing_weights():
    weights = WeightedSampler.class_balancing_sample_weights([0, 2, 0, 0], n_classes=5)
    np.testing.assert_allclose(weights, [1 / 6, 1 / 2, 1 / 6, 1 / 6])


def test_class_balancing_draws_classes_equally_often():
    y = np.repeat([0, 1, 4], [500, 20, 3])
    drawn = y[WeightedSampler.class_balancing_sampler(y).plan(60_000, shuffle=3)[0].indices]
    np.testing.assert_allclose(np.bincount(drawn) / 60_000, [1 / 3, 1 / 3, 0, 0, 1 / 3], atol=0.01)


def test_class_balancing_of_a_subset():
    y = np.array([0, 0, 0, 1, 1, 2])
    sampler = WeightedSubsetSampler.class_balancing_sampler(y, [0, 1, 3, -1])
    np.testing.assert_allclose(sampler.sub_weights, [1 / 6, 1 / 6, 1 / 3, 1 / 3])
    assert sampler.indices.tolist() == [0, 1, 3, -1]


@pytest.mark.parametrize(
    ('y', 'n_classes', 'error', 'message'),
    [
        ([0, 3], 3, ValueError, 'n_classes is 3, but y holds the label 3'),
        ([0, -1], 3, ValueError, 'y holds the label -1; labels are from 0 to 2'),
        (['cat', 'dog', 'owl'], 2, ValueError, 'n_classes is 2, but y holds 3 different labels'),
        (['cat', 'dog'], 2.0, TypeError, 'n_classes must be an integer, got 2.0'),
        ([], None, ValueError, 'at least one'),
    ],
)
def test_wrong_labels(y, n_classes, error, message):
    with pytest.raises(error, match=message):
        WeightedSampler.class_balancing_sampler(y, n_classes)


def test_a_shuffled_iterator_needs_a_generator():
    with pytest.raises(TypeError, match='shuffle_rng must be a random generator, got None'):
        StandardSampler(3).shuffled_indices_batch_iterator(2, None)
