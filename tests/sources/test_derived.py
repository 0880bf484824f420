"""Composite, choice and map sources."""

import itertools

import numpy as np
import pytest

from batchup.data_source import (
    ArrayDataSource,
    CallableDataSource,
    ChoiceBatch,
    ChoiceDataSource,
    CompositeDataSource,
    IteratorDataSource,
    MapDataSource,
)

from ..cases import PlainSource, arrays, assert_same_batch, assert_same_batches, jitter, numbers


def listed(batches):
    return [[part.tolist() for part in batch] for batch in batches]


def test_composite_ends_with_the_first_member_that_ends():
    stream = CompositeDataSource([numbers(5), numbers(9, 10)]).batch_iterator(2)
    assert listed(stream) == [[[0, 1], [10, 11]], [[2, 3], [12, 13]], [[4], [14]]]


def test_composite_without_trim():
    stream = CompositeDataSource([numbers(3), numbers(9, 10)], trim=False).batch_iterator(2)
    assert listed(stream) == [[[0, 1], [10, 11]], [[2], [12, 13]]]


def test_composite_drops_short_batches_of_each_member():
    stream = CompositeDataSource([numbers(5), numbers(9, 10)]).batch_iterator(2, drop_last=True)
    assert listed(stream) == [[[0, 1], [10, 11]], [[2, 3], [12, 13]]]
    assert len(stream) == 2


def test_flat_and_nested_batches():
    members = [numbers(4), CompositeDataSource([numbers(4, 10), ArrayDataSource(arrays(4))])]
    flat = next(CompositeDataSource(members).batch_iterator(2))
    nested = next(CompositeDataSource(members, flatten=False).batch_iterator(2))
    assert [part.shape for part in flat] == [(2,), (2,), (2, 2), (2,)]
    assert_same_batch(nested, ((flat[0],), flat[1:]))


@pytest.mark.parametrize(
    ('members', 'expected'),
    [
        ([numbers(5), numbers(9)], 5),
        ([numbers(5, repeats=-1), numbers(9)], 9),
        ([numbers(5, repeats=-1)], np.inf),
        ([numbers(5), IteratorDataSource(iter([]))], None),
    ],
)
def test_num_samples_of_a_composite_is_the_smallest(members, expected):
    assert CompositeDataSource(members).num_samples() == expected


@pytest.mark.parametrize(
    ('members', 'expected'),
    [
        ([numbers(5), numbers(9)], 14),
        ([numbers(5), IteratorDataSource(iter([]))], 5),
        ([numbers(5), numbers(9, repeats=-1)], np.inf),
    ],
)
def test_num_samples_of_a_choice_is_the_sum(members, expected):
    assert ChoiceDataSource(members).num_samples() == expected


def test_members_of_a_composite_are_shuffled_independently():
    members = [numbers(50), numbers(50)]
    first, second = next(CompositeDataSource(members).batch_iterator(50, shuffle=3))
    assert first.tolist() != second.tolist()


def test_composite_indices_read_the_same_batches():
    source = CompositeDataSource([numbers(5), CompositeDataSource([numbers(9), numbers(4, 7)])])
    read = [source.samples_by_indices_nomapping(indices) for indices in source.batch_indices_iterator(2, shuffle=3)]
    assert_same_batches(read, source.batch_iterator(2, shuffle=3))


def test_composite_maps_indices_through_the_samplers():
    source = CompositeDataSource([numbers(10, indices=[7, 8, 9]), numbers(10)])
    assert listed([source.samples_by_indices([[0, 2], [0, 2]])]) == [[[7, 9], [0, 2]]]
    assert listed([source.samples_by_indices_nomapping([[0, 2], [0, 2]])]) == [[[0, 2], [0, 2]]]


@pytest.mark.parametrize('indices', [[[0]], [[0], [1], [2]], np.arange(2)])
def test_composite_needs_indices_for_every_member(indices):
    source = CompositeDataSource([numbers(5), numbers(9)])
    with pytest.raises(ValueError, match='each of 2 members'):
        source.samples_by_indices(indices)


@pytest.mark.parametrize('kind', [CompositeDataSource, ChoiceDataSource])
@pytest.mark.parametrize('method', ['samples_by_indices', 'samples_by_indices_nomapping'])
def test_reading_by_index_needs_random_access(kind, method):
    source = kind([numbers(5), PlainSource(5)])
    assert not source.is_random_access
    with pytest.raises(TypeError, match=r'data source 1 \(PlainSource\) has none'):
        getattr(source, method)([[0], [1]])
    with pytest.raises(TypeError, match='batch_indices_iterator needs random access'):
        source.batch_indices_iterator(2)


def test_choice_takes_turns_until_a_member_has_ended():
    members = [numbers(n) for n in (40, 20, 10, 5)]
    stream = ChoiceDataSource(members).batch_iterator(5)
    assert len(stream) == len(list(stream)) == 7


def members_of(source, batch_size, **kwargs):
    return [batch.ds_index for batch in source.batch_indices_iterator(batch_size, **kwargs)]


def test_stratified_choice_is_spread_evenly():
    source = ChoiceDataSource([numbers(n) for n in (40, 20, 10, 5)], stratified=True)
    assert members_of(source, 5) == [0, 1, 2, 3, 0, 0, 1, 0, 0, 1, 2, 0, 0, 1, 0]


def test_every_round_of_shuffled_turns_has_every_member():
    source = ChoiceDataSource([numbers(50), numbers(50), numbers(50)])
    turns = members_of(source, 5, shuffle=1)
    assert all(sorted(turns[start : start + 3]) == [0, 1, 2] for start in range(0, len(turns), 3))
    assert len({tuple(turns[start : start + 3]) for start in range(0, len(turns), 3)}) > 2


def test_choice_indices_read_the_same_batches():
    source = ChoiceDataSource([numbers(5), numbers(9, 100)])
    read = [source.samples_by_indices_nomapping(indices) for indices in source.batch_indices_iterator(2, shuffle=3)]
    assert_same_batches(read, source.batch_iterator(2, shuffle=3))


def test_choice_maps_indices_through_the_sampler():
    source = ChoiceDataSource([numbers(5), numbers(9, indices=[8, 7])])
    assert listed([source.samples_by_indices(ChoiceBatch(np.array([1]), 1))]) == [[[7]]]


def test_choice_needs_a_choice_batch():
    with pytest.raises(TypeError, match='ChoiceBatch'):
        ChoiceDataSource([numbers(5)]).samples_by_indices_nomapping([0, 1])


@pytest.mark.parametrize(
    ('member', 'what'), [(numbers(5, repeats=-1), 'infinite'), (IteratorDataSource(iter([])), 'unknown')]
)
def test_a_stratified_choice_needs_finite_members(member, what):
    with pytest.raises(ValueError, match=f'data source 1 is {what}'):
        ChoiceDataSource([numbers(5), member], stratified=True).batch_iterator(5)


def test_a_stratified_choice_says_if_a_member_ends_early():
    short = CallableDataSource(lambda batch_size: iter([(np.zeros(2),)]), 20)
    stream = ChoiceDataSource([short, numbers(20)], stratified=True).batch_iterator(5)
    with pytest.raises(ValueError, match='member 0 of a stratified choice ended before batch 2'):
        list(stream)


def test_endless_members_of_a_stratified_choice_take_turns():
    source = ChoiceDataSource([numbers(5, repeats=-1), numbers(9, repeats=-1)], stratified=True)
    drawn = itertools.islice(source.batch_indices_iterator(5), 4)
    assert [batch.ds_index for batch in drawn] == [0, 1, 0, 1]


@pytest.mark.parametrize('kind', [CompositeDataSource, ChoiceDataSource])
def test_members_must_be_sources(kind):
    with pytest.raises(TypeError, match=r'data source 1 of a .*, got list'):
        kind([numbers(5), [np.arange(5)]])
    with pytest.raises(TypeError, match='list or tuple of data sources, got ArrayDataSource'):
        kind(numbers(5))
    with pytest.raises(ValueError, match='at least one'):
        kind([])


def test_map_is_applied_to_every_batch():
    source = numbers(5).map(lambda x: (x, x * 10))
    assert isinstance(source, MapDataSource)
    assert source.num_samples() == 5
    assert listed(source.batch_iterator(3)) == [[[0, 1, 2], [0, 10, 20]], [[3, 4], [30, 40]]]


def test_map_reads_by_index():
    source = numbers(5, indices=[4, 3]).map(lambda x: (x * 10,))
    assert listed([source.samples_by_indices([0]), source.samples_by_indices_nomapping([0])]) == [[[40]], [[0]]]


@pytest.mark.parametrize('result', [None, np.zeros(3), 'ab', {}])
def test_a_mapped_function_must_return_a_tuple(result):
    with pytest.raises(TypeError, match='must return a tuple of arrays, got'):
        next(numbers(5).map(lambda x: result).batch_iterator(2))


def test_a_mapped_function_must_be_callable():
    with pytest.raises(TypeError, match='fn must be a function'):
        numbers(5).map(3)


def draws(source, **kwargs):
    return [batch[-1].tolist() for batch in source.batch_iterator(2, **kwargs)]


def test_random_functions_depend_on_seed_epoch_and_batch():
    source = numbers(4).map(jitter, rng=True)
    some = [
        tuple(drawn) for seed in range(3) for epoch in range(3) for drawn in draws(source, shuffle=seed, epoch=epoch)
    ]
    assert len(set(some)) == 18
    assert draws(source, shuffle=1, epoch=2) == draws(source, shuffle=1, epoch=2)


def test_random_functions_follow_the_order_where_there_is_no_seed():
    source, rng = numbers(50).map(jitter, rng=True), np.random.RandomState(1)
    assert draws(source, shuffle=rng) != draws(source, shuffle=rng)


def test_random_functions_in_a_tree_draw_independently():
    branch = numbers(4).map(jitter, rng=True).map(jitter, rng=True)
    batch = next(CompositeDataSource([branch, branch]).map(jitter, rng=True).batch_iterator(2, shuffle=1))
    drawn = {tuple(part.tolist()) for part in batch if part.dtype.kind == 'f'}
    assert len(drawn) == 5


def test_random_functions_draw_by_rank():
    source = numbers(8).map(jitter, rng=True)
    assert draws(source, shuffle=1, shard=(0, 2)) != draws(source, shuffle=1, shard=(1, 2))


def test_random_functions_are_the_same_whichever_batches_are_read():
    source = numbers(50).map(jitter, rng=True)
    expected = draws(source, shuffle=1)
    stream = source.batch_iterator(2, shuffle=1)
    stream.skip(13)
    assert next(stream)[-1].tolist() == expected[13]


def test_keywords_reach_members_as_they_are_given():
    seen = []

    def make(batch_size, **kwargs):
        seen.append((batch_size, kwargs))
        return iter([])

    source = CompositeDataSource([CallableDataSource(make).map(jitter), PlainSource(3)])
    source.batch_iterator(3)
    source.batch_iterator(3, shuffle=None, mode='test')
    assert seen == [(3, {}), (3, {'shuffle': None, 'mode': 'test'})]


def test_members_without_a_plan_are_shuffled_independently_by_a_seed():
    source = CompositeDataSource([numbers(50), numbers(50), PlainSource(50)])
    first, second, _ = next(source.batch_iterator(50, shuffle=3))
    assert first.tolist() != second.tolist()


def test_random_functions_without_a_plan_follow_seed_and_epoch():
    source = PlainSource(4).map(jitter, rng=True)
    assert draws(source, shuffle=1) == draws(source, shuffle=np.int64(1)) != draws(source, shuffle=2)
    assert draws(source, epoch=1) != draws(source, epoch=2)
