"""Users' samplers with short batches in the middle, or that fail, and plans over them."""

import itertools

import numpy as np
import pytest

from batchup.data_source import ArrayDataSource, ChoiceDataSource, CompositeDataSource
from batchup.sampling import AbstractSampler

from .cases import SHUFFLE_ARGUMENTS, assert_same_batches

shuffled = pytest.mark.parametrize('shuffle', SHUFFLE_ARGUMENTS.values(), ids=SHUFFLE_ARGUMENTS)


class Buckets(AbstractSampler):
    """Three buckets of five samples, each with a short batch at its end."""

    def num_indices_generated(self):
        return 15

    def in_order_indices_batch_iterator(self, batch_size):
        for bucket in np.arange(15).reshape(3, 5):
            yield from (bucket[start : start + batch_size] for start in range(0, 5, batch_size))

    def shuffled_indices_batch_iterator(self, batch_size, shuffle_rng):
        for bucket in shuffle_rng.permutation(15).reshape(3, 5):
            yield from (bucket[start : start + batch_size] for start in range(0, 5, batch_size))


def open_buckets(shuffle, batch_size=4, **kwargs):
    return ArrayDataSource([np.arange(15)], sampler=Buckets()).batch_iterator(batch_size, shuffle(), **kwargs)


@shuffled
def test_every_batch_is_given(shuffle):
    batches = list(open_buckets(shuffle))
    assert [len(batch[0]) for batch in batches] == [4, 1] * 3
    assert sorted(np.concatenate([batch[0] for batch in batches]).tolist()) == list(range(15))


@pytest.mark.parametrize('shuffle', [lambda: None, lambda: 3])
def test_len_is_counted_where_it_can_be(shuffle):
    assert len(open_buckets(shuffle)) == 6
    assert len(open_buckets(shuffle, drop_last=True)) == len(list(open_buckets(shuffle, drop_last=True))) == 5


@shuffled
@pytest.mark.parametrize('position', range(7))
def test_every_position_is_restored(shuffle, position):
    expected = list(open_buckets(shuffle))
    saved = open_buckets(shuffle)
    list(itertools.islice(saved, position))
    resumed = open_buckets(shuffle)
    resumed.load_state_dict(saved.state_dict())
    assert_same_batches(resumed, expected[position:])


@shuffled
def test_skip_stops_at_the_end(shuffle):
    stream = open_buckets(shuffle)
    assert (stream.skip(5), stream.skip(3), stream.position) == (5, 1, 6)


@shuffled
def test_only_a_short_last_batch_is_dropped(shuffle):
    assert [len(batch[0]) for batch in open_buckets(shuffle, drop_last=True)] == [4, 1, 4, 1, 4]


@shuffled
def test_a_composite_takes_all_batches(shuffle):
    members = [ArrayDataSource([np.arange(15)], sampler=Buckets()), ArrayDataSource([np.arange(100)])]
    batches = list(CompositeDataSource(members).batch_iterator(4, shuffle=shuffle()))
    assert sorted(np.concatenate([batch[0] for batch in batches]).tolist()) == list(range(15))


@pytest.mark.parametrize('shuffle', [lambda: None, lambda: 3])
def test_a_stratified_choice_takes_all_batches(shuffle):
    members = [ArrayDataSource([np.arange(15)], sampler=Buckets()), ArrayDataSource([np.arange(4) + 100])]
    batches = list(ChoiceDataSource(members, stratified=True).batch_iterator(4, shuffle=shuffle()))
    assert len(np.concatenate([batch[0] for batch in batches])) == 19


def test_a_drawn_stratified_choice_ends_with_what_was_counted():
    members = [ArrayDataSource([np.arange(15)], sampler=Buckets()), ArrayDataSource([np.arange(5)])]
    stream = ChoiceDataSource(members, stratified=True).batch_iterator(5, shuffle=np.random.RandomState(3))
    assert len(stream) == len(list(stream)) == 4


class Short(Buckets):
    """A sampler that gives less than it says."""

    def in_order_indices_batch_iterator(self, batch_size):
        yield np.arange(3)

    def shuffled_indices_batch_iterator(self, batch_size, shuffle_rng):
        yield shuffle_rng.permutation(3)


def test_a_stratified_choice_says_if_a_drawn_member_ends_early():
    members = [ArrayDataSource([np.arange(15)], sampler=Short()), ArrayDataSource([np.arange(15)])]
    stream = ChoiceDataSource(members, stratified=True).batch_iterator(3, shuffle=np.random.RandomState(3))
    with pytest.raises(ValueError, match='member 0 of a stratified choice ended'):
        list(stream)


class Endless(AbstractSampler):
    """An endless sampler of batches that are always short."""

    def num_indices_generated(self):
        return np.inf

    def in_order_indices_batch_iterator(self, batch_size):
        return itertools.repeat(np.arange(2))


def test_an_endless_sampler_of_short_batches_does_not_hang():
    stream = ArrayDataSource([np.arange(5)], sampler=Endless()).batch_iterator(4, drop_last=True)
    assert next(stream)[0].tolist() == [0, 1]


class Failing(Buckets):
    """A sampler that fails at its third batch, the first `failures` times."""

    failures = 1

    def in_order_indices_batch_iterator(self, batch_size):
        return self._failing(super().in_order_indices_batch_iterator(batch_size))

    def shuffled_indices_batch_iterator(self, batch_size, shuffle_rng):
        return self._failing(super().shuffled_indices_batch_iterator(batch_size, shuffle_rng))

    def _failing(self, batches):
        for number, batch in enumerate(batches):
            if number == 2 and self.failures:
                self.failures -= 1
                raise IndexError('bad bucket')
            yield batch


def open_failing(shuffle, failures):
    sampler = Failing()
    sampler.failures = failures
    return ArrayDataSource([np.arange(15)], sampler=sampler).batch_iterator(4, shuffle=shuffle())


@pytest.mark.parametrize('shuffle', [lambda: None, lambda: 3])
def test_a_sampler_that_fails_once_goes_on(shuffle):
    expected = list(open_buckets(shuffle))
    stream = open_failing(shuffle, failures=2)  # once more while batches are counted
    received = [next(stream), next(stream)]
    with pytest.raises(IndexError, match='bad bucket'):
        next(stream)
    assert_same_batches([*received, *stream], expected)


def test_a_drawn_sampler_that_has_failed_does_not_just_end():
    stream = open_failing(lambda: np.random.RandomState(3), failures=1)
    list(itertools.islice(stream, 2))
    for _ in range(2):
        with pytest.raises(IndexError, match='bad bucket'):
            next(stream)


def test_a_wrong_batch_of_indices_is_not_passed_over():
    class Wrong(Endless):
        def in_order_indices_batch_iterator(self, batch_size):
            yield from ([0], [99], [1])

    stream = ArrayDataSource([np.arange(5)], sampler=Wrong()).batch_iterator(1)
    next(stream)
    for _ in range(2):
        with pytest.raises(IndexError, match='batch 1 of Wrong'):
            next(stream)


def test_plans_of_users_samplers_hold_arrays():
    class Tuples(Endless):
        def in_order_indices_batch_iterator(self, batch_size):
            yield (3, 2)

    (indices,) = Tuples().plan(2).index_batches()
    assert indices.tolist() == [3, 2]


@pytest.mark.parametrize('shuffle', [None, 42])
def test_requests_cannot_change_an_order(shuffle):
    plan = ArrayDataSource([np.arange(5)], indices=[4, 2, 0]).plan(2, shuffle)
    with pytest.raises(ValueError, match='read-only'):
        plan[0].indices[:] = 1
