"""Choices by weight, ends of choices and composites, and batch sizes of members."""

import itertools
import json
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest

from batchup._ground.randomness import Purpose, keyed_generator
from batchup._plans.choices import CHOICES_AT_ONCE, Interleaved
from batchup.data_source import (
    ArrayDataSource,
    CallableDataSource,
    ChoiceDataSource,
    CompositeDataSource,
    IteratorDataSource,
)
from batchup.errors import StateMismatchError
from batchup.sampling import WeightedSampler

from ..cases import (
    SHUFFLE_ARGUMENTS,
    PlainRandomAccess,
    PlainSampler,
    PlainSource,
    assert_same_batches,
    jitter,
    keep,
    numbers,
)

shuffled = pytest.mark.parametrize('shuffle', SHUFFLE_ARGUMENTS.values(), ids=SHUFFLE_ARGUMENTS)
KINDS = [CompositeDataSource, ChoiceDataSource]


def three(**kwargs):
    """Make members of 4, 2 and 1 batches of 2."""
    return [numbers(7, **kwargs), numbers(4, 100, **kwargs), numbers(2, 200, **kwargs)]


def members_of(source, batch_size=2, n=None, **kwargs):
    return [batch.ds_index for batch in itertools.islice(source.batch_indices_iterator(batch_size, **kwargs), n)]


def listed(batches):
    return [[part.tolist() for part in batch] for batch in batches]


# Choices by weight


def test_weights_spread_members_evenly_in_order():
    source = ChoiceDataSource([numbers(9, repeats=-1) for _ in range(4)], weights=[8, 4, 2, 1])
    once = [0, 1, 2, 3, 0, 0, 1, 0, 0, 1, 2, 0, 0, 1, 0]
    assert members_of(source, n=30) == once * 2


@pytest.mark.parametrize('weights', [[1, 1, 1], [0.1, 0.2, 0.7], [3, 0, 2.5], [1e-9, 1, 1], [1e300, 1e299, 1e300]])
def test_spread_members_stand_in_the_order_of_their_shares(weights):
    places = sorted((j / w, i, j) for i, w in enumerate(weights) if w for j in range(9000))
    spread = Interleaved(weights)
    assert [spread[k] for k in range(9000)] == [(i, j) for _, i, j in places[:9000]]


@pytest.mark.parametrize('number', [0, CHOICES_AT_ONCE - 1, CHOICES_AT_ONCE, 2**40 + 3, 2**50 - 1])
def test_a_spread_batch_is_found_however_far_away(number):
    spread = Interleaved([0.5, 0.125, 3, 1])
    member, ordinal = spread[number]
    assert spread.first_end({member: ordinal}) == number
    assert spread.last_end({member: ordinal + 1}) == number + 1


def test_draws_of_a_seed_are_those_of_keyed_generators():
    source = ChoiceDataSource([numbers(9, repeats=-1) for _ in range(3)], weights=[1, 2, 5])
    uniforms = [keyed_generator(42, Purpose.CHOICE, 3, chunk).random(CHOICES_AT_ONCE) for chunk in range(2)]
    expected = np.searchsorted([1 / 8, 3 / 8, 1], np.concatenate(uniforms), side='right')
    assert members_of(source, n=6000, shuffle=42, epoch=3) == expected[:6000].tolist()


def test_draws_of_a_seed_stay_what_they_are():
    source = ChoiceDataSource(three(), weights=[3, 2, 1], stop=9)
    batches = [
        (batch.ds_index, batch.sample_indices.tolist()) for batch in source.batch_indices_iterator(2, shuffle=42)
    ]
    assert batches == [
        (0, [3, 1]),
        (1, [1, 2]),
        (0, [4, 2]),
        (1, [0, 3]),
        (1, [3, 2]),
        (1, [1, 0]),
        (2, [0, 1]),
        (1, [2, 3]),
        (1, [0, 1]),
    ]


@pytest.mark.parametrize('make_rng', [np.random.RandomState, np.random.default_rng])
def test_a_sequential_generator_draws_a_member_and_then_what_it_needs(make_rng):
    rng, weights = make_rng(3), [0.25, 0.75]
    expected = []
    for _ in range(10):
        expected.append(int(rng.choice(2, p=weights)))
        rng.permutation(5)
    source = ChoiceDataSource([numbers(5, repeats=-1), numbers(5, repeats=-1)], weights=weights)
    assert members_of(source, 5, 10, shuffle=make_rng(3)) == expected


def test_members_are_drawn_as_often_as_their_weights_say():
    source = ChoiceDataSource([numbers(1, repeats=-1) for _ in range(4)], weights=[4, 0, 1, 3])
    counts = Counter(members_of(source, 1, 40_000, shuffle=7))
    assert set(counts) == {0, 2, 3}
    assert np.allclose([counts[0], counts[2], counts[3]], [20_000, 5_000, 15_000], atol=5 * 100)


def test_batches_of_a_member_follow_each_other_across_chunks():
    source = ChoiceDataSource([numbers(20_000), numbers(20_000)], weights=[1, 2])
    plan = source.plan(1, 42)
    counts = Counter()
    for number in range(10_000):
        counts[plan[number].indices.ds_index] += 1
    indices, member = plan[10_000].indices
    same = ArrayDataSource([np.arange(20_000)])
    alone = ChoiceDataSource([same, same], weights=[member == 0, member == 1]).plan(1, 42)
    assert indices.tolist() == alone[counts[member]].indices.sample_indices.tolist()


def test_epochs_draw_other_members():
    source = ChoiceDataSource([numbers(50), numbers(50)], weights=[1, 1], stop=30)
    assert len({tuple(members_of(source, shuffle=1, epoch=epoch)) for epoch in range(5)}) == 5


@pytest.mark.parametrize(
    ('weights', 'message'),
    [
        ([1, 2, 3], 'weights must be as many as data sources, got 3 for 2'),
        ([1, -1], 'got -1.0 for data source 1'),
        ([np.nan, 1], 'got nan for data source 0'),
        ([np.inf, 1], 'got inf for data source 0'),
        ([0, 0], 'sum to 0'),
        ([[1, 2]], 'one dimension'),
    ],
)
def test_wrong_weights(weights, message):
    with pytest.raises(ValueError, match=message):
        ChoiceDataSource([numbers(3), numbers(3)], weights=weights)


def test_without_an_epoch_members_without_a_plan_are_drawn_as_in_epoch_0():
    members = [CallableDataSource(lambda batch_size, k=k, **kwargs: iter([(np.array([k]),)] * 30)) for k in range(3)]
    first, same, other = (
        listed(ChoiceDataSource(members, stop=30).batch_iterator(1, shuffle=3, **epoch))
        for epoch in ({}, {'epoch': 0}, {'epoch': 1})
    )
    assert first == same != other


@pytest.mark.parametrize('arguments', [{'weights': [1, 2]}, {'stop': 'all'}, {'stop': 3}])
def test_a_stratified_choice_takes_no_weights_and_no_stop(arguments):
    with pytest.raises(ValueError, match='give either stratified=True, .* or ' + next(iter(arguments))):
        ChoiceDataSource([numbers(3), numbers(3)], stratified=True, **arguments)


def test_states_of_other_weights_are_refused():
    first, second = (ChoiceDataSource(three(), weights=[1, 2, w]).batch_iterator(2, shuffle=3) for w in (3, 4))
    with pytest.raises(StateMismatchError, match='plan of the state'):
        second.load_state_dict(first.state_dict())


def test_states_of_other_ends_are_refused():
    first, *others = (
        ChoiceDataSource(three(), stop=stop).batch_iterator(2, shuffle=3) for stop in (12, 13, 'all', 'first')
    )
    for other in others:
        with pytest.raises(StateMismatchError, match='plan of the state'):
            other.load_state_dict(first.state_dict())


# Where choices end


@pytest.mark.parametrize(
    ('weights', 'stop', 'expected'),
    [
        (None, 'first', [0, 1, 2, 0, 1]),
        (None, 'all', [0, 1, 2, 0, 1, 2, 0, 1, 2, 0]),
        (None, 5, [0, 1, 2, 0, 1]),
        (None, 12, [0, 1, 2] * 4),
        ([1, 4, 0], 'first', [0, 1, 1]),
        ([4, 1, 0], 'all', [0, 1, 0, 0, 0, 0, 1]),
        ([4, 1, 0], np.int64(3), [0, 1, 0]),
    ],
)
def test_ends_of_choices_in_order(weights, stop, expected):
    source = ChoiceDataSource(three(), weights=weights, stop=stop)
    assert members_of(source) == expected
    assert len(source.batch_iterator(2)) == len(list(source.batch_iterator(2))) == len(expected)


@shuffled
@pytest.mark.parametrize('weights', [None, [1, 2, 3]])
def test_all_members_are_gone_through_and_no_batch_is_added(shuffle, weights):
    members = members_of(ChoiceDataSource(three(), weights=weights, stop='all'), shuffle=shuffle())
    lengths = {0: 4, 1: 2, 2: 1}
    assert not Counter(lengths) - Counter(members)
    assert Counter(lengths) - Counter(members[:-1])


@shuffled
def test_the_first_member_to_end_ends_the_choice(shuffle):
    stream = ChoiceDataSource(three(), weights=[1, 1, 9]).batch_iterator(2, shuffle=shuffle())
    assert sum(int(batch[0][0]) >= 200 for batch in stream) == 1


@shuffled
def test_members_start_again_where_they_have_ended(shuffle):
    batches = ChoiceDataSource(three(), stop=30).batch_iterator(2, shuffle=shuffle())
    counts = Counter(np.concatenate([batch[0] for batch in batches]).tolist())
    assert len(counts) == 13
    assert {counts[sample] for sample in (100, 101, 102, 103)} == {5}
    assert {counts[sample] for sample in (200, 201)} == {10}


def test_a_member_of_weight_0_is_not_waited_for():
    source = ChoiceDataSource([numbers(4), IteratorDataSource(iter([])), numbers(0)], weights=[1, 0, 0], stop='all')
    assert len(list(source.batch_iterator(2))) == 2


@pytest.mark.parametrize('stop', ['last', 0, -1])
def test_a_wrong_stop_of_a_choice(stop):
    with pytest.raises(ValueError, match="stop must be 'first', 'all' or a number of batches"):
        ChoiceDataSource([numbers(3)], stop=stop)


@pytest.mark.parametrize('stop', [True, 2.0, None])
@pytest.mark.parametrize('kind', KINDS)
def test_a_stop_that_is_no_integer(kind, stop):
    with pytest.raises(TypeError, match=r'stop must be .*: it must be an integer'):
        kind([numbers(3), numbers(3)], stop=stop)


@pytest.mark.parametrize(('kind', 'stop'), [(CompositeDataSource, 'longest'), (ChoiceDataSource, 'all')])
def test_an_end_by_all_members_needs_their_numbers_of_batches(kind, stop):
    with pytest.raises(ValueError, match=f"stop='{stop}' needs to know .* data source 1 is unknown"):
        kind([numbers(5), IteratorDataSource(iter([]))], stop=stop).batch_iterator(5)


@pytest.mark.parametrize(('kind', 'stop'), [(CompositeDataSource, 0), (ChoiceDataSource, 'all'), (ChoiceDataSource, 2)])
def test_an_empty_member_cannot_start_again(kind, stop):
    with pytest.raises(ValueError, match='data source 1 has no batches, and so cannot start again'):
        kind([numbers(5), numbers(0)], stop=stop).batch_iterator(5)


# Shuffled, each of these may begin with a member that has no batch.
MAYBE_EMPTY = {
    'turns': lambda kind: ChoiceDataSource([kind(9), numbers(0)]),
    'by weight': lambda kind: ChoiceDataSource([numbers(0), kind(9), kind(5)], weights=[1, 1, 9]),
    'composite': lambda kind: CompositeDataSource([kind(9), ChoiceDataSource([kind(9), numbers(0)])]),
    'choice of choice': lambda kind: ChoiceDataSource([ChoiceDataSource([kind(9), numbers(0)]), kind(3)]),
    'stratified': lambda kind: ChoiceDataSource([ChoiceDataSource([kind(9), numbers(0)]).map(keep)], stratified=True),
}
AGAIN = {
    'the last': lambda member: CompositeDataSource([numbers(40), member], stop=0),
    'the longest': lambda member: CompositeDataSource([numbers(40), member], stop='longest'),
    'all': lambda member: ChoiceDataSource([numbers(40), member], stop='all'),
    'a number': lambda member: ChoiceDataSource([numbers(40), member], stop=30),
}


@pytest.mark.parametrize('name', MAYBE_EMPTY)
@pytest.mark.parametrize('again', AGAIN)
def test_a_member_that_may_be_empty_cannot_start_again_by_any_seed(name, again):
    known = 'data source 1 (cannot start again: shuffled, it may have no|has no) batches'
    for kind in (numbers, PlainSource):
        source = AGAIN[again](MAYBE_EMPTY[name](kind))
        for seed in range(8):
            with pytest.raises(ValueError, match=known):
                source.batch_iterator(2, shuffle=seed)
        with pytest.raises(ValueError, match=f'{known}|needs to know'):
            source.batch_iterator(2, shuffle=np.random.RandomState(3))


@pytest.mark.parametrize('again', AGAIN)
def test_a_member_that_begins_with_batches_starts_again(again):
    in_order = AGAIN[again](ChoiceDataSource([numbers(9), numbers(0)]))
    assert len(in_order.batch_iterator(2)) == len(list(in_order.batch_iterator(2)))
    spread = AGAIN[again](ChoiceDataSource([numbers(9), numbers(0)], stratified=True))
    assert len(spread.batch_iterator(2, shuffle=3)) == len(list(spread.batch_iterator(2, shuffle=3)))


def test_a_choice_of_one_batch_starts_again():
    source = CompositeDataSource([ChoiceDataSource(three(), stop=1), numbers(9)], stop=1)
    assert len(list(source.batch_iterator(2))) == 5


class Silent(PlainSampler):
    """A sampler that does not say how many samples it has."""

    def num_indices_generated(self):
        return None


@pytest.mark.parametrize('shuffle', [None, 42, np.random.RandomState(1)], ids=['in order', 'seed', 'state'])
def test_an_empty_member_of_unknown_length_cannot_start_again(shuffle):
    source = CompositeDataSource([numbers(0, sampler=Silent(0)), numbers(5)], stop=1)
    with pytest.raises(ValueError, match='data source 0 has no batches, and so cannot start again'):
        source.batch_iterator(2, shuffle=shuffle)


def test_an_epoch_of_unknown_length_without_batches_has_a_state():
    stream = numbers(0, sampler=Silent(0)).batch_iterator(4)
    stream.load_state_dict(stream.state_dict())
    assert list(stream) == []


def test_a_member_that_may_be_empty_is_gone_through_once():
    member = ChoiceDataSource([numbers(9), numbers(0)])
    for source in (CompositeDataSource([numbers(40), member], stop=1), ChoiceDataSource([member, numbers(9)])):
        assert all(len(list(source.batch_iterator(2, shuffle=seed))) < 4 for seed in range(8))


def test_too_few_samples_for_a_batch_start_again_too():
    batches = CompositeDataSource([numbers(3), numbers(10)], stop=1).batch_iterator(4, drop_last=True)
    assert listed(batches) == [[[0, 1, 2, 0], [0, 1, 2, 3]], [[1, 2, 0, 1], [4, 5, 6, 7]]]


def test_empty_members_are_an_empty_choice():
    assert list(ChoiceDataSource([numbers(0), numbers(0)], stop='all').batch_iterator(4)) == []


def test_endless_members_have_no_end_but_a_number():
    members = [numbers(5, repeats=-1), numbers(3, repeats=-1)]
    assert ChoiceDataSource(members, weights=[1, 1]).batch_iterator(2, shuffle=1).length == np.inf
    assert ChoiceDataSource([*members, numbers(3)], stop='all').batch_iterator(2).length == np.inf
    assert len(ChoiceDataSource(members, stop=7).batch_iterator(2)) == 7


# Where composites end


@pytest.mark.parametrize(('stop', 'length'), [('shortest', 1), ('longest', 4), (0, 4), (1, 2), (-1, 1)])
def test_ends_of_composites(stop, length):
    source = CompositeDataSource(three(), stop=stop)
    assert len(source.batch_iterator(2)) == len(list(source.batch_iterator(2))) == length


@pytest.mark.parametrize(('stop', 'expected'), [('shortest', 2), ('longest', 7), (1, 4), (-3, 7)])
def test_num_samples_of_a_composite_is_that_of_the_member_that_ends_it(stop, expected):
    assert CompositeDataSource(three(), stop=stop).num_samples() == expected


def test_the_longest_has_the_most_samples_of_equally_many_batches():
    batches = CompositeDataSource([numbers(5), numbers(6)], stop='longest', trim=False).batch_iterator(4)
    assert listed(batches) == [[[0, 1, 2, 3], [0, 1, 2, 3]], [[4, 0, 1, 2], [4, 5]]]


@shuffled
def test_a_member_over_a_sampler_starts_again_as_repeated_ones_do(shuffle):
    restarted = CompositeDataSource([numbers(3), numbers(11), numbers(5)], stop='longest')
    repeated = CompositeDataSource([numbers(3, repeats=-1), numbers(11), numbers(5, repeats=-1)])
    assert_same_batches(restarted.batch_iterator(4, shuffle=shuffle()), repeated.batch_iterator(4, shuffle=shuffle()))


@pytest.mark.parametrize('shuffle', [lambda: 3, lambda: np.random.RandomState(3)])
def test_every_round_of_a_composed_member_is_a_new_order(shuffle):
    member = CompositeDataSource([numbers(6), numbers(6)])
    source = CompositeDataSource([numbers(40), member], stop=0)
    batches = list(source.batch_iterator(2, shuffle=shuffle()))
    rounds = [np.concatenate([batch[1] for batch in batches[k : k + 3]]).tolist() for k in range(0, 18, 3)]
    assert all(sorted(samples) == list(range(6)) for samples in rounds)
    assert len(set(map(tuple, rounds))) > 4


@pytest.mark.parametrize('stop', ['widest', 2, -3])
def test_a_wrong_stop_of_a_composite(stop):
    with pytest.raises(ValueError, match="stop must be 'shortest', 'longest' or the number of one of 2 data sources"):
        CompositeDataSource([numbers(3), numbers(3)], stop=stop)


def test_a_function_is_called_again_with_the_same_arguments():
    calls = []

    def make(batch_size, **kwargs):
        calls.append((batch_size, kwargs))
        return iter([(np.array([len(calls)]),)])

    source = CompositeDataSource([numbers(3), CallableDataSource(make)], stop=0)
    assert [int(batch[1][0]) for batch in source.batch_iterator(1, shuffle=5)] == [1, 2, 3]
    assert calls == [(1, {'shuffle': 5})] * 3


def test_the_iterator_of_a_round_is_closed_when_the_next_one_begins():
    class Closing(Iterator):
        def __init__(self, batch_size):
            self.batches = iter([(np.arange(2),)] * 2)
            opened.append(self)

        def __next__(self):
            return next(self.batches)

        def close(self):
            closed.append(self)

    opened, closed = [], []
    stream = CompositeDataSource([numbers(10), CallableDataSource(Closing)], stop=0).batch_iterator(2)
    assert len(list(stream)) == 5
    assert closed == opened[:2] != opened


def test_an_iterator_that_was_gone_through_cannot_start_again():
    source = CompositeDataSource([numbers(3), IteratorDataSource(iter([(np.zeros(1),)]))], stop=0)
    with (
        pytest.warns(UserWarning, match='cannot be gone through twice'),
        pytest.raises(ValueError, match='without batches cannot start again: iterator of IteratorDataSource'),
    ):
        list(source.batch_iterator(1))


@pytest.mark.parametrize('shuffle', [lambda: 3, lambda: np.random.RandomState(3)])
def test_random_functions_draw_anew_in_every_round(shuffle):
    tree = [PlainSource(12), PlainSource(3).map(jitter, rng=True), numbers(3).map(jitter, rng=True)]
    batches = CompositeDataSource(tree, stop=0).batch_iterator(3, shuffle=shuffle(), epoch=2)
    drawn = [tuple(part.tolist()) for batch in batches for part in batch if part.dtype.kind == 'f']
    assert len(set(drawn)) == len(drawn) == 8


def test_a_plan_of_rounds_goes_back_and_forth():
    plan = CompositeDataSource([numbers(40), ChoiceDataSource(three())], stop=0).plan(2, 42)
    expected = [repr(request.indices) for request in plan]
    for number in (17, 3, 0, 19, 11, 4):
        assert repr(plan[number].indices) == expected[number]


def test_a_sampler_of_unknown_length_starts_again():
    class Unknown(PlainRandomAccess):
        def num_samples(self, **kwargs):
            return None

        def batch_indices_iterator(self, batch_size, shuffle=None):
            return iter([np.array([0, 1]), np.array([2])])

    plan = CompositeDataSource([numbers(40), Unknown(9)], stop=0, trim=False).plan(4, 42)
    assert [plan[k].indices[1].tolist() for k in (7, 2, 9)] == [[2], [0, 1], [2]]


def test_draws_by_weight_start_again():
    member = numbers(6, sampler=WeightedSampler(np.ones(6), n_samples=4))
    batches = list(
        CompositeDataSource([numbers(30), member], stop=0).batch_iterator(3, shuffle=np.random.RandomState(1))
    )
    assert [len(batch[1]) for batch in batches] == [3, 1] * 5


def test_states_of_members_that_start_again_stay_small():
    members = [PlainSource(900), *(PlainSource(30 + k) for k in range(12))]
    stream = CompositeDataSource(members, stop=0).batch_iterator(10, shuffle=3, epoch=1)
    stream.skip(50)
    assert len(json.dumps(stream.state_dict())) < 4096


def test_the_state_of_a_round_is_checked_before_any_member_moves():
    stream = CompositeDataSource([PlainSource(9), PlainSource(3)], stop=0).batch_iterator(2)
    state = stream.state_dict()
    state['states'][1]['in_round'] = {'position': -1}
    with pytest.raises(StateMismatchError, match='the state is at position -1 in a stream of 2 batches'):
        stream.load_state_dict(state)
    assert len(list(stream)) == 5


# Batch sizes of members


def test_members_have_batch_sizes_of_their_own():
    source = CompositeDataSource([numbers(4), CompositeDataSource([numbers(20, 100), numbers(9, 200)])])
    batch = next(source.batch_iterator((1, (4, 2)), shuffle=1))
    assert [len(part) for part in batch] == [1, 4, 2]
    assert len(source.batch_iterator([1, [4, np.int64(2)]])) == 4


def test_a_short_batch_is_cut_in_proportion_to_the_sizes():
    batches = CompositeDataSource([numbers(5), numbers(30, 100), numbers(30)]).batch_iterator((2, 6, 2))
    assert [tuple(map(len, batch)) for batch in batches] == [(2, 6, 2), (2, 6, 2), (1, 3, 1)]


def test_a_choice_among_parts_with_sizes_is_not_cut_again():
    parts = CompositeDataSource([numbers(20, 100), numbers(2, 200)])
    chosen = CompositeDataSource([numbers(9), ChoiceDataSource([parts])])
    for source in (chosen, chosen.map(keep)):
        assert [tuple(map(len, batch)) for batch in source.batch_iterator((3, ((4, 2),)))] == [(3, 4, 2)]


def test_something_is_left_of_every_part_that_is_cut():
    batches = CompositeDataSource([numbers(1), numbers(8)]).batch_iterator((8, 2))
    assert listed(batches) == [[[0], [0]]]


def test_parts_of_members_without_a_plan_are_cut_in_proportion():
    batches = CompositeDataSource([PlainSource(5), PlainSource(30)]).batch_iterator((2, 6))
    assert [tuple(map(len, batch)) for batch in batches] == [(2, 6), (2, 6), (1, 3)]


def test_parts_with_sizes_of_their_own_are_left_whole_without_trim():
    batches = CompositeDataSource([numbers(3), numbers(30)], trim=False).batch_iterator((2, 6))
    assert [tuple(map(len, batch)) for batch in batches] == [(2, 6), (1, 6)]


def test_a_choice_has_a_batch_size_for_each_member():
    source = CompositeDataSource([ChoiceDataSource([numbers(40), numbers(40)]).map(keep), numbers(30)])
    batches = source.batch_iterator(((3, 6), 4), drop_last=True)
    assert [tuple(map(len, batch)) for batch in itertools.islice(batches, 4)] == [(3, 4), (6, 4)] * 2


@pytest.mark.parametrize('shuffle', [None, 3])
def test_indices_of_parts_of_any_size_read_the_same_batches(shuffle):
    source = CompositeDataSource([numbers(5), CompositeDataSource([numbers(9), numbers(9)])])
    indices = source.batch_indices_iterator((1, (4, 3)), shuffle=shuffle)
    read = map(source.samples_by_indices_nomapping, indices)
    assert_same_batches(read, source.batch_iterator((1, (4, 3)), shuffle=shuffle))


def test_overridden_indices_of_parts_of_any_size_are_read():
    class Reversed(CompositeDataSource):
        def batch_indices_iterator(self, batch_size, shuffle=None):
            return reversed(list(super().batch_indices_iterator(batch_size, shuffle)))

    source = Reversed([numbers(4), numbers(12, 100)])
    assert [tuple(map(len, batch)) for batch in source.batch_iterator((1, 3))] == [(1, 3)] * 4
    assert next(source.batch_iterator((1, 3)))[0].tolist() == [3]


def test_each_part_is_shared_among_the_ranks():
    source = CompositeDataSource([numbers(8), numbers(24)])
    ranks = [list(source.batch_iterator((4, 12), shuffle=1, shard=(rank, 3))) for rank in range(3)]
    assert [tuple(map(len, batches[0])) for batches in ranks] == [(1, 4), (1, 4), (2, 4)]
    for parts, batch in zip(zip(*ranks), source.batch_iterator((4, 12), shuffle=1)):
        assert_same_batches([tuple(map(np.concatenate, zip(*parts)))], [batch])


def parts_of_two_sizes(kind):
    return CompositeDataSource([numbers(9), kind(20)])


@pytest.mark.filterwarnings('ignore:to resume at batch')
@pytest.mark.parametrize('kind', [numbers, PlainSource])
def test_states_with_several_batch_sizes_restore_the_rest(kind):
    saved, resumed = (parts_of_two_sizes(kind).batch_iterator((2, 5), shuffle=3) for _ in range(2))
    saved.skip(2)
    resumed.load_state_dict(json.loads(json.dumps(saved.state_dict())))
    assert resumed.position == 2
    assert_same_batches(resumed, saved)


@pytest.mark.parametrize('kind', [numbers, PlainSource])
def test_states_of_other_batch_sizes_are_refused(kind):
    state = parts_of_two_sizes(kind).batch_iterator((2, 5)).state_dict()
    with pytest.raises(StateMismatchError, match=r'batch_size of the state:  \(2, 5\)'):
        parts_of_two_sizes(kind).batch_iterator((2, 4)).load_state_dict(state)


@pytest.mark.parametrize(
    ('source', 'batch_size', 'error', 'message'),
    [
        (numbers(9), (2, 3), TypeError, r'without members \(ArrayDataSource\), got \(2, 3\)'),
        (numbers(9).map(keep), (2, 3), TypeError, r'without members \(ArrayDataSource\), got \(2, 3\)'),
        (CompositeDataSource([numbers(9)] * 3), (2, 3), ValueError, r'each of 3 data sources, got \(2, 3\)'),
        (CompositeDataSource([numbers(9)] * 2), (2, (3, 3)), TypeError, 'must be an integer for a data source without'),
        (CompositeDataSource([numbers(9)] * 2), (2, 0), ValueError, 'batch_size must be at least 1, got 0'),
        (CompositeDataSource([numbers(9)] * 2), (2, 2.5), TypeError, 'batch_size must be an integer, got 2.5'),
        (CompositeDataSource([numbers(9)] * 2), (), ValueError, 'one for each data source, got none'),
        (CompositeDataSource([PlainSource(9)] * 2), (2, (3, 3)), TypeError, 'PlainSource'),
        (ChoiceDataSource([numbers(9)] * 3), (2, 3), ValueError, 'each of 3 data sources'),
    ],
)
def test_batch_sizes_that_do_not_fit(source, batch_size, error, message):
    with pytest.raises(error, match=message):
        source.batch_iterator(batch_size)


def test_a_pool_makes_the_same_mixtures(threads):
    restarted = CompositeDataSource([numbers(7), numbers(50)], stop='longest')
    source = CompositeDataSource([restarted, ChoiceDataSource(three(), weights=[1, 2, 3], stop=12)])
    batches = list(threads.parallel_data_source(source).batch_iterator(((2, 6), 3), shuffle=42))
    assert_same_batches(batches, source.batch_iterator(((2, 6), 3), shuffle=42))


def test_a_pool_refuses_batch_sizes_that_do_not_fit(threads):
    with pytest.raises(TypeError, match='without members'):
        threads.parallel_data_source(numbers(9)).batch_iterator((2, 3))


@pytest.mark.parametrize('shuffle', [None, 42])
def test_the_source_of_a_pool_starts_again_as_its_source_does(threads, shuffle):
    def open_stream(member, function):
        member = member.map(jitter, rng=True) if function else member
        return CompositeDataSource([member, numbers(60)], stop='longest').batch_iterator(3, shuffle=shuffle)

    for member in (numbers(7), CompositeDataSource([numbers(7), numbers(9)])):
        for function in (False, True):
            pooled = open_stream(threads.parallel_data_source(member), function)
            assert_same_batches(pooled, open_stream(member, function))
