"""Subclasses of the package's classes: what users override is called, also through `super()`."""

import functools

import numpy as np
import pytest

from batchup.data_source import (
    AbstractDataSource,
    ArrayDataSource,
    ChoiceDataSource,
    CompositeDataSource,
    MapDataSource,
)
from batchup.errors import SampleIndexError
from batchup.sampling import WeightedSampler


def read(source, batch_size=4, **kwargs):
    return np.concatenate([batch[0] for batch in source.batch_iterator(batch_size, **kwargs)])


def through_super(kind):
    """Make a subclass whose methods just call those of the package."""

    class Subclass(kind):
        def batch_iterator(self, batch_size, **kwargs):
            return super().batch_iterator(batch_size, **kwargs)

        def batch_indices_iterator(self, batch_size, **kwargs):
            return super().batch_indices_iterator(batch_size, **kwargs)

        def samples_by_indices_nomapping(self, indices):
            return super().samples_by_indices_nomapping(indices)

    return Subclass


SOURCES = {
    'array': lambda kind: kind(ArrayDataSource)([np.arange(12)]),
    'composite': lambda kind: kind(CompositeDataSource)([ArrayDataSource([np.arange(12)])]),
    'choice': lambda kind: kind(ChoiceDataSource)([ArrayDataSource([np.arange(12)])]),
    'map': lambda kind: kind(MapDataSource)(ArrayDataSource([np.arange(12)]), lambda x: (x,)),
}


@pytest.mark.parametrize('name', SOURCES)
@pytest.mark.parametrize('wrap', [lambda s: s, lambda s: s.map(lambda x: (x,)), lambda s: CompositeDataSource([s, s])])
def test_super_calls_reach_the_package(name, wrap):
    np.testing.assert_array_equal(read(wrap(SOURCES[name](through_super))), np.arange(12))


def negated(kind):
    """Make a subclass that changes what is read, by a decorated method."""

    def negate(method):
        @functools.wraps(method)
        def samples(self, indices):
            return tuple(-array for array in method(self, indices))

        return samples

    return type('Negated', (kind,), {'samples_by_indices_nomapping': negate(kind.samples_by_indices_nomapping)})


@pytest.mark.parametrize('name', SOURCES)
@pytest.mark.parametrize('wrap', [lambda s: s, lambda s: s.map(lambda x: (x,)), lambda s: CompositeDataSource([s])])
def test_what_is_read_can_be_overridden(name, wrap):
    np.testing.assert_array_equal(read(wrap(SOURCES[name](negated))), -np.arange(12))


def reversed_order(kind):
    """Make a subclass that changes which indices are read."""

    class Reversed(kind):
        def batch_indices_iterator(self, batch_size, **kwargs):
            return reversed(list(super().batch_indices_iterator(batch_size)))

    return Reversed


@pytest.mark.parametrize('name', SOURCES)
@pytest.mark.parametrize('wrap', [lambda s: s, lambda s: s.map(lambda x: (x,)), lambda s: CompositeDataSource([s])])
def test_which_indices_are_read_can_be_overridden(name, wrap):
    expected = np.arange(12).reshape(3, 4)[::-1].ravel()
    np.testing.assert_array_equal(read(wrap(SOURCES[name](reversed_order))), expected)


def test_a_method_of_one_instance_can_be_replaced():
    source = ArrayDataSource([np.arange(12)])
    source.samples_by_indices_nomapping = lambda indices: (indices * 2,)
    np.testing.assert_array_equal(read(source), np.arange(12) * 2)


def test_indices_of_an_override_are_checked():
    class Wrong(ArrayDataSource):
        def batch_indices_iterator(self, batch_size, **kwargs):
            yield np.array([0, 100])

    with pytest.raises(SampleIndexError, match='index 100 is out of range for 12 samples'):
        read(Wrong([np.arange(12)]))


def test_mapping_of_indices_has_no_part_in_draws():
    class Mapped(WeightedSampler):
        def map_indices(self, indices):
            return indices + 1000

    source = ArrayDataSource([np.arange(12)], sampler=Mapped(np.ones(12)))
    assert next(source.batch_iterator(50, shuffle=1))[0].max() < 12


class RandomAccessByAttribute(AbstractDataSource):
    """A user's source that says it is random access, and is just that."""

    is_random_access = True

    def num_samples(self, **kwargs):
        return 10

    def batch_indices_iterator(self, batch_size, shuffle=None, **kwargs):
        order = np.arange(10) if shuffle is None else shuffle.permutation(10)
        return (order[start : start + batch_size] for start in range(0, 10, batch_size))

    def samples_by_indices_nomapping(self, indices):
        return (np.asarray(indices) * 2,)

    samples_by_indices = samples_by_indices_nomapping

    def batch_iterator(self, batch_size, shuffle=None, **kwargs):
        return (self.samples_by_indices(indices) for indices in self.batch_indices_iterator(batch_size, shuffle))


def test_a_users_own_random_access():
    source = CompositeDataSource([RandomAccessByAttribute(), ArrayDataSource([np.arange(10)])])
    assert source.is_random_access
    assert [part.tolist() for part in source.samples_by_indices_nomapping([[1, 2], [3, 4]])] == [[2, 4], [3, 4]]
    np.testing.assert_array_equal(read(source), np.arange(10) * 2)


class Plain(AbstractDataSource):
    """A user's source with the least that it needs."""

    def __init__(self, num_samples):
        self.n = num_samples

    def num_samples(self):
        return self.n

    def batch_iterator(self, batch_size):
        start = 0
        while start < self.n:
            yield (np.arange(start, min(start + batch_size, self.n)),)
            start += batch_size


def test_the_base_implements_nothing():
    with pytest.raises(NotImplementedError, match='does not implement num_samples'):
        AbstractDataSource().num_samples()
    with pytest.raises(NotImplementedError, match='does not implement batch_iterator'):
        AbstractDataSource().batch_iterator(3)


def test_a_stratified_choice_counts_a_users_source():
    stream = ChoiceDataSource([Plain(10), ArrayDataSource([np.arange(5)])], stratified=True).batch_iterator(5)
    assert len(stream) == len(list(stream)) == 3


def test_a_composite_knows_the_length_of_a_users_source():
    assert len(CompositeDataSource([Plain(10), ArrayDataSource([np.arange(50)])]).batch_iterator(4)) == 3


def test_an_endless_users_source_needs_n_batches():
    for source in (Plain(np.inf), Plain(np.inf).map(lambda x: (x,)), CompositeDataSource([Plain(np.inf)])):
        with pytest.raises(ValueError, match='endless'):
            source.batch_map_mean(np.sum, 5)
        assert source.batch_map_mean(np.sum, 5, n_batches=1) == (2.0,)


def test_replaced_data_is_read_and_checked():
    source = ArrayDataSource([np.arange(5)])
    source.data[0] = np.arange(5) * 10
    assert read(source).tolist() == [0, 10, 20, 30, 40]
    source.data[0] = np.arange(4)
    with pytest.raises(ValueError, match='now have length 4, not 5'):
        read(source)
