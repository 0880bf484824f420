"""Users' samplers with short batches in the middle, or that fail, and plans over them."""

import itertools

import numpy as np
import pytest

from batchup.data_source import ArrayDataSource, ChoiceDataSource, CompositeDataSource
from batchup.sampling import AbstractSampler

from ..cases import SHUFFLE_ARGUMENTS, PlainSource, UnevenSampler, assert_same_batches, keep

shuffled = pytest.mark.parametrize('shuffle', SHUFFLE_ARGUMENTS.values(), ids=SHUFFLE_ARGUMENTS)


def open_buckets(shuffle, batch_size=4, **kwargs):
    return ArrayDataSource([np.arange(15)], sampler=UnevenSampler()).batch_iterator(batch_size, shuffle(), **kwargs)


@shuffled
def test_every_batch_is_given(shuffle):
    batches = list(open_buckets(shuffle))
    assert [len(batch[0]) for batch in batches] == [4, 1] * 3
    assert sorted(np.concatenate([batch[0] for batch in batches]).tolist()) == list(range(15))


@shuffled
def test_len_is_counted(shuffle):
    assert len(open_buckets(shuffle)) == 6
    assert len(open_buckets(shuffle, drop_last=True)) == 3


@shuffled
def test_every_short_batch_is_dropped(shuffle):
    assert [len(batch[0]) for batch in open_buckets(shuffle, drop_last=True)] == [4, 4, 4]


def test_a_drawn_sampler_is_counted_without_drawing():
    rng, reference = np.random.RandomState(3), np.random.RandomState(3)
    assert len(open_buckets(lambda: rng)) == 6
    assert rng.rand() == reference.rand()


def test_a_drawn_sampler_is_gone_through_once_unless_it_has_to_be_counted():
    class Once(UnevenSampler):
        opened = 0

        def shuffled_indices_batch_iterator(self, batch_size, shuffle_rng):
            self.opened += 1
            return super().shuffled_indices_batch_iterator(batch_size, shuffle_rng)

    sampler = Once()
    source = ArrayDataSource([np.arange(15)], sampler=sampler)
    assert sum(1 for _ in source.batch_iterator(4, shuffle=np.random.RandomState(3))) == 6
    assert sampler.opened == 1


@shuffled
def test_a_sampler_that_gives_more_than_it_says_is_gone_through(shuffle):
    class Generous(UnevenSampler):
        def num_indices_generated(self):
            return 7

    stream = ArrayDataSource([np.arange(15)], sampler=Generous()).batch_iterator(4, shuffle())
    assert len(stream) == len(list(stream)) == 6


def test_an_endless_sampler_that_says_otherwise_has_no_len():
    class Unending(Endless):
        def num_indices_generated(self):
            return 8

    stream = ArrayDataSource([np.arange(5)], sampler=Unending()).batch_iterator(2)
    assert stream.length is None
    assert stream.skip(1000) == 1000


@shuffled
def test_a_composite_takes_all_batches(shuffle):
    members = [ArrayDataSource([np.arange(15)], sampler=UnevenSampler()), ArrayDataSource([np.arange(100)])]
    batches = list(CompositeDataSource(members).batch_iterator(4, shuffle=shuffle()))
    assert sorted(np.concatenate([batch[0] for batch in batches]).tolist()) == list(range(15))


@pytest.mark.parametrize('shuffle', [lambda: None, lambda: 3])
def test_a_stratified_choice_takes_all_batches(shuffle):
    members = [ArrayDataSource([np.arange(15)], sampler=UnevenSampler()), ArrayDataSource([np.arange(4) + 100])]
    batches = list(ChoiceDataSource(members, stratified=True).batch_iterator(4, shuffle=shuffle()))
    assert len(np.concatenate([batch[0] for batch in batches])) == 19


def test_a_drawn_stratified_choice_ends_with_what_was_counted():
    members = [ArrayDataSource([np.arange(15)], sampler=UnevenSampler()), ArrayDataSource([np.arange(5)])]
    stream = ChoiceDataSource(members, stratified=True).batch_iterator(5, shuffle=np.random.RandomState(3))
    assert len(stream) == len(list(stream)) == 4


class Growing(UnevenSampler):
    """A sampler that gives more every time, and so more when its batches are counted."""

    size = 3

    def shuffled_indices_batch_iterator(self, batch_size, shuffle_rng):
        self.size += 6
        return iter(shuffle_rng.permutation(15)[: self.size].reshape(-1, batch_size))


def test_a_stratified_choice_says_if_a_drawn_member_ends_early():
    members = [ArrayDataSource([np.arange(15)], sampler=Growing()), ArrayDataSource([np.arange(15)])]
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
    for _ in range(2):
        with pytest.raises(ValueError, match='fewer than 4 samples, but Endless of inf samples has given 100000'):
            next(stream)


class Failing(UnevenSampler):
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
    with pytest.raises(IndexError, match='bad bucket'):
        next(stream)
    for _ in range(2):
        with pytest.raises(
            RuntimeError, match=r"Failing of 15 samples has ended with an error, IndexError\('bad bucket"
        ):
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


@pytest.mark.parametrize(
    ('told', 'error', 'message'),
    [
        (3.5, TypeError, 'it must be an integer, np.inf .* got 3.5'),
        (-1, ValueError, 'it must be 0 or more, got -1'),
        ('x', TypeError, "got 'x'"),
        (True, TypeError, 'got True'),
        (np.nan, TypeError, 'got nan'),
    ],
)
def test_odd_numbers_of_samples_are_refused_at_the_call(told, error, message):
    class Odd(UnevenSampler):
        def num_indices_generated(self):
            return told

    class OddSource(PlainSource):
        def num_samples(self, **kwargs):
            return told

    source = ArrayDataSource([np.arange(15)], sampler=Odd())
    for call in (lambda: source.batch_iterator(4), source.num_samples, CompositeDataSource([source]).num_samples):
        with pytest.raises(error, match=rf'Odd.num_indices_generated\(\) must return .*: .*{message}'):
            call()
    for call in (lambda: OddSource(9).map(keep).batch_iterator(4), ChoiceDataSource([OddSource(9)]).num_samples):
        with pytest.raises(error, match=rf'OddSource.num_samples\(\) must return .*: .*{message}'):
            call()


@pytest.mark.parametrize('told', [np.int64(15), np.inf, None])
def test_numbers_of_samples_of_any_kind_are_taken(told):
    class Told(UnevenSampler):
        def num_indices_generated(self):
            return told

    assert len([*itertools.islice(ArrayDataSource([np.arange(15)], sampler=Told()).batch_iterator(4), 9)]) == 6
