"""What all samplers with batches of their own making keep: of quotas, groups and buckets."""

import itertools

import numpy as np
import pytest

from batchup._ground.indices import as_array
from batchup.data_source import ArrayDataSource, ChoiceDataSource, CompositeDataSource
from batchup.errors import ReplayError

from ..cases import ARRANGED_SAMPLERS, BATCH_SIZE, LABELS, SHUFFLE_ARGUMENTS, assert_same_batch, assert_same_batches

shuffled = pytest.mark.parametrize('shuffle', SHUFFLE_ARGUMENTS.values(), ids=SHUFFLE_ARGUMENTS)

each = pytest.mark.parametrize('name', ARRANGED_SAMPLERS)


def open_source(name):
    return ArrayDataSource([np.arange(len(LABELS))], sampler=ARRANGED_SAMPLERS[name]())


def open_stream(name, shuffle, **kwargs):
    return open_source(name).batch_iterator(BATCH_SIZE, shuffle(), **kwargs)


def listed(plan, n=None):
    return [request.indices.tolist() for request in itertools.islice(plan, n)]


@each
def test_a_plan_is_iteration_at_random_access(name):
    make = ARRANGED_SAMPLERS[name]
    expected = listed(make().plan(BATCH_SIZE, 5, epoch=2))
    for number in reversed(range(len(expected))):
        assert make().plan(BATCH_SIZE, 5, epoch=2)[number].indices.tolist() == expected[number]


@each
@pytest.mark.parametrize('limit', [2, 3, 100])
def test_windows_are_the_batches_side_by_side(name, limit):
    make = ARRANGED_SAMPLERS[name]
    plan = make().plan(BATCH_SIZE, 5)
    for number in range(len(plan)):
        for request in plan.window(number, limit).split():
            assert request.indices.tolist() == plan[request.number].indices.tolist()


@each
def test_a_passed_batch_of_a_generator_is_an_error(name):
    make = ARRANGED_SAMPLERS[name]
    plan = make().plan(BATCH_SIZE, np.random.default_rng(3))
    last = listed(plan)[-1]
    assert make().plan(BATCH_SIZE, np.random.default_rng(3))[len(plan) - 1].indices.tolist() == last
    with pytest.raises(ReplayError, match='cannot go back'):
        plan[0]


@each
def test_data_of_another_length_is_refused(name):
    with pytest.raises(ValueError, match='the data has 7'):
        ArrayDataSource([np.arange(7)], sampler=ARRANGED_SAMPLERS[name]())


def sizes(batches):
    return [len(batch[0]) for batch in batches]


@each
@shuffled
def test_a_trimmed_composite_has_batches_of_their_sizes(name, shuffle):
    members = [ArrayDataSource([np.arange(200)], repeats=-1), open_source(name)]
    batches = list(CompositeDataSource(members).batch_iterator(BATCH_SIZE, shuffle()))
    assert sorted(sizes(batches)) == sorted(sizes(open_stream(name, shuffle)))
    assert all(len(numbers) == len(indices) for numbers, indices in batches)


@each
def test_windows_of_a_trimmed_composite_are_its_batches(name):
    members = [ArrayDataSource([np.arange(200)], repeats=-1), open_source(name)]
    plan = CompositeDataSource(members).plan(BATCH_SIZE)
    for request in itertools.chain(*(plan.window(number, 100).split() for number in range(len(plan)))):
        assert_same_batch(tuple(map(as_array, request.indices)), tuple(map(as_array, plan[request.number].indices)))


@each
@shuffled
def test_an_untrimmed_composite_has_all_of_a_batch(name, shuffle):
    members = [ArrayDataSource([np.arange(200)], repeats=-1), open_source(name)]
    batches = list(CompositeDataSource(members, trim=False).batch_iterator(BATCH_SIZE, shuffle()))
    assert {len(numbers) for numbers, _ in batches} == {BATCH_SIZE}
    assert len(np.concatenate([indices for _, indices in batches])) == sum(sizes(open_stream(name, shuffle)))


@shuffled
def test_a_stratified_choice_uses_every_batch(shuffle):
    members = [open_source(name) for name in ('quotas', 'pk', 'buckets_within_a_budget')]
    stream = ChoiceDataSource(members, stratified=True).batch_iterator(4, shuffle())
    expected = sum(len(open_stream(name, shuffle)) for name in ('quotas', 'pk', 'buckets_within_a_budget'))
    assert len(stream) == len(list(stream)) == expected


@each
def test_random_functions_draw_the_same_after_a_skip(name):
    def jitter(x, rng):
        return x, rng.random(len(x))

    source = open_source(name).map(jitter, rng=True)
    expected = list(source.batch_iterator(BATCH_SIZE, 3))
    stream = source.batch_iterator(BATCH_SIZE, 3)
    stream.skip(2)
    assert_same_batches(stream, expected[2:])
