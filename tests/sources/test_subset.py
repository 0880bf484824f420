"""Subsets of sources: the same data, fewer samples."""

import numpy as np
import pytest

from batchup.data_source import ArrayDataSource
from batchup.errors import SampleIndexError
from batchup.sampling import StandardSampler, SubsetSampler, WeightedSampler, WeightedSubsetSampler
from batchup.splits import k_fold

from ..cases import PlainRandomAccess, PlainSampler, arrays, assert_same_batches, numbers


def in_order(source):
    return np.concatenate([batch[0] for batch in source.batch_iterator(4)]).tolist()


@pytest.mark.parametrize(
    ('source', 'expected'),
    [
        (numbers(6), [5, 1, 0]),
        (numbers(9, indices=[8, 7, 6, 5, 4, 3]), [3, 7, 8]),
        (numbers(9, sampler=StandardSampler(6)), [5, 1, 0]),
        (numbers(6, repeats=2), [5, 1, 0, 5, 1, 0]),
        (numbers(9, indices=[8, 7, 6, 5, 4, 3], repeats=2), [3, 7, 8, 3, 7, 8]),
    ],
)
def test_a_subset_is_counted_among_the_samples_of_the_source(source, expected):
    assert in_order(source.subset([-1, 1, 0])) == expected


def test_a_subset_of_a_subset():
    assert in_order(numbers(9).subset([8, 6, 4]).subset([2, 0])) == [4, 8]


def test_a_subset_leaves_the_source_as_it_is():
    source = numbers(3)
    source.subset([0])
    assert in_order(source) == [0, 1, 2]


def test_a_subset_keeps_the_data_the_indices_and_the_class():
    class Own(ArrayDataSource):
        name = 'own'

    source = Own(arrays(5), include_indices=True)
    subset = source.subset([4, 2])
    assert (type(subset), subset.include_indices, subset.data) == (Own, True, source.data)
    assert next(subset.batch_iterator(2))[0].tolist() == [4, 2]


def test_a_subset_of_weights():
    sampler = WeightedSampler([1, 2, 3, 4]).subset([-1, 1])
    assert (sampler.indices.tolist(), sampler.sub_weights.tolist()) == ([3, 1], [4 / 6, 2 / 6])


def test_a_subset_of_sub_weights():
    sampler = WeightedSubsetSampler([1, 2, 1], [7, 8, 9]).subset([1, 2])
    assert (sampler.indices.tolist(), sampler.sub_weights.tolist()) == ([8, 9], [2 / 3, 1 / 3])


def test_a_subset_of_a_users_source():
    assert_same_batches(
        PlainRandomAccess(13).subset([3, 5]).batch_iterator(2), [PlainRandomAccess(13).samples_by_indices([3, 5])]
    )


def test_a_users_sampler_must_implement_subset():
    with pytest.raises(TypeError, match=r'the sampler PlainSampler does not implement subset\(indices\)'):
        numbers(9, sampler=PlainSampler(9)).subset([0])


def test_a_users_sampler_may_implement_subset():
    class Own(PlainSampler):
        def subset(self, indices):
            return SubsetSampler(indices)

    assert in_order(numbers(9, sampler=Own(9)).subset([3])) == [3]


@pytest.mark.parametrize(
    ('indices', 'error', 'message'),
    [
        ([6], SampleIndexError, 'index 6 is out of range for 6 samples'),
        ([True, False], TypeError, r'np\.flatnonzero'),
        ([0.5], TypeError, 'must be integers'),
    ],
)
def test_wrong_indices(indices, error, message):
    for source in (numbers(6), numbers(9, indices=range(6)), numbers(6, sampler=WeightedSampler(np.ones(6)))):
        with pytest.raises(error, match=message):
            source.subset(indices)


def test_folds_of_a_source_in_a_pool(threads):
    source = ArrayDataSource(arrays(20))
    for train, _ in k_fold(20, 4, shuffle=1):
        subset = source.subset(train)
        expected = ArrayDataSource(source.data, indices=train).batch_iterator(6, shuffle=3)
        assert_same_batches(threads.parallel_data_source(subset).batch_iterator(6, shuffle=3), expected)
