"""What all samplers with batches of their own making keep: of quotas, groups and buckets."""

import itertools

import numpy as np
import pytest

from batchup._ground.indices import as_array
from batchup.data_source import ArrayDataSource, ChoiceDataSource, CompositeDataSource
from batchup.errors import ReplayError
from batchup.sampling import BucketSampler, GroupSampler, PKSampler, QuotaSampler

from ..cases import SHUFFLE_ARGUMENTS, assert_same_batch, assert_same_batches

shuffled = pytest.mark.parametrize('shuffle', SHUFFLE_ARGUMENTS.values(), ids=SHUFFLE_ARGUMENTS)

Y = np.array([0, 2, 1, 0, 1, 0, 2, 2, 0, 0, 2])
NAMES = np.array(['a', 'b', 'c'])[Y]
LENGTHS = [3, 9, 2, 20, 8, 4, 4, 2, 0, 1, 7]

SAMPLERS = {
    'quotas': (lambda: QuotaSampler(Y, [2, 1, 1], repeats=3), 4),
    'one quota': (lambda: QuotaSampler(Y, [4, 0, 0], repeats=3), 4),
    'quotas by name': (lambda: QuotaSampler(NAMES, {'c': 3, 'a': 4, 'b': 1}, repeats=2), 8),
    'pk': (lambda: PKSampler(Y, p=2, k=2, repeats=2), 4),
    'pk of large classes': (lambda: PKSampler(Y, p=2, k=3, repeats=2, small_classes='skip'), 6),
    'groups': (lambda: GroupSampler(Y, repeats=3), 4),
    'many groups': (lambda: GroupSampler([0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4], repeats=3), 4),
    'buckets': (lambda: BucketSampler(LENGTHS, batches_per_bucket=1, repeats=3), 4),
    'mixed buckets': (lambda: BucketSampler(LENGTHS, repeats=3), 3),
    'buckets within a budget': (lambda: BucketSampler(LENGTHS, max_elements=20, repeats=3), 4),
}

each = pytest.mark.parametrize('name', SAMPLERS)


def open_source(name):
    return ArrayDataSource([np.arange(len(Y))], sampler=SAMPLERS[name][0]())


def open_stream(name, shuffle, **kwargs):
    return open_source(name).batch_iterator(SAMPLERS[name][1], shuffle(), **kwargs)


def listed(plan, n=None):
    return [request.indices.tolist() for request in itertools.islice(plan, n)]


@each
@shuffled
def test_len_is_exact(name, shuffle):
    stream = open_stream(name, shuffle)
    assert len(stream) == len(list(stream))


@each
@shuffled
def test_every_position_is_restored(name, shuffle):
    expected = list(open_stream(name, shuffle))
    for position in range(len(expected) + 1):
        saved = open_stream(name, shuffle)
        list(itertools.islice(saved, position))
        resumed = open_stream(name, shuffle)
        resumed.load_state_dict(saved.state_dict())
        assert_same_batches(resumed, expected[position:])


@each
def test_a_plan_is_iteration_at_random_access(name):
    make, batch_size = SAMPLERS[name]
    expected = listed(make().plan(batch_size, 5, epoch=2))
    for number in reversed(range(len(expected))):
        assert make().plan(batch_size, 5, epoch=2)[number].indices.tolist() == expected[number]


@each
@pytest.mark.parametrize('limit', [2, 3, 100])
def test_windows_are_the_batches_side_by_side(name, limit):
    make, batch_size = SAMPLERS[name]
    plan = make().plan(batch_size, 5)
    for number in range(len(plan)):
        for request in plan.window(number, limit).split():
            assert request.indices.tolist() == plan[request.number].indices.tolist()


@each
def test_epochs_and_seeds_differ(name):
    make, batch_size = SAMPLERS[name]
    first, *others = (listed(make().plan(batch_size, seed, epoch=epoch)) for seed, epoch in [(1, 0), (1, 1), (2, 0)])
    assert all(first != other for other in others)
    assert first == listed(make().plan(batch_size, 1))


@each
@shuffled
def test_threads_make_the_same_batches(threads, name, shuffle):
    source = threads.parallel_data_source(open_source(name))
    batches = list(source.batch_iterator(SAMPLERS[name][1], shuffle()))
    assert_same_batches(batches, open_stream(name, shuffle))


@each
@shuffled
def test_shards_are_the_parts_of_the_batches(name, shuffle):
    ranks = [open_stream(name, shuffle, shard=(rank, 3)) for rank in range(3)]
    for parts, batch in zip(zip(*ranks, strict=True), open_stream(name, shuffle), strict=True):
        np.testing.assert_array_equal(np.concatenate([part[0] for part in parts]), batch[0])


@each
def test_a_passed_batch_of_a_generator_is_an_error(name):
    make, batch_size = SAMPLERS[name]
    plan = make().plan(batch_size, np.random.default_rng(3))
    last = listed(plan)[-1]
    assert make().plan(batch_size, np.random.default_rng(3))[len(plan) - 1].indices.tolist() == last
    with pytest.raises(ReplayError, match='cannot go back'):
        plan[0]


@each
def test_data_of_another_length_is_refused(name):
    with pytest.raises(ValueError, match='the data has 7'):
        ArrayDataSource([np.arange(7)], sampler=SAMPLERS[name][0]())


def sizes(batches):
    return [len(batch[0]) for batch in batches]


@each
@shuffled
def test_a_trimmed_composite_has_batches_of_their_sizes(name, shuffle):
    members = [ArrayDataSource([np.arange(200)], repeats=-1), open_source(name)]
    batches = list(CompositeDataSource(members).batch_iterator(SAMPLERS[name][1], shuffle()))
    assert sorted(sizes(batches)) == sorted(sizes(open_stream(name, shuffle)))
    assert all(len(numbers) == len(indices) for numbers, indices in batches)


@each
def test_windows_of_a_trimmed_composite_are_its_batches(name):
    members = [ArrayDataSource([np.arange(200)], repeats=-1), open_source(name)]
    plan = CompositeDataSource(members).plan(SAMPLERS[name][1])
    for request in itertools.chain(*(plan.window(number, 100).split() for number in range(len(plan)))):
        assert_same_batch(tuple(map(as_array, request.indices)), tuple(map(as_array, plan[request.number].indices)))


@each
@shuffled
def test_an_untrimmed_composite_has_all_of_a_batch(name, shuffle):
    members = [ArrayDataSource([np.arange(200)], repeats=-1), open_source(name)]
    batches = list(CompositeDataSource(members, trim=False).batch_iterator(SAMPLERS[name][1], shuffle()))
    assert {len(numbers) for numbers, _ in batches} == {SAMPLERS[name][1]}
    assert len(np.concatenate([indices for _, indices in batches])) == sum(sizes(open_stream(name, shuffle)))


@shuffled
def test_a_stratified_choice_uses_every_batch(shuffle):
    members = [open_source(name) for name in ('quotas', 'pk', 'buckets within a budget')]
    stream = ChoiceDataSource(members, stratified=True).batch_iterator(4, shuffle())
    expected = sum(len(open_stream(name, shuffle)) for name in ('quotas', 'pk', 'buckets within a budget'))
    assert len(stream) == len(list(stream)) == expected


@each
def test_random_functions_draw_the_same_after_a_skip(name):
    def jitter(x, rng):
        return x, rng.random(len(x))

    source = open_source(name).map(jitter, rng=True)
    expected = list(source.batch_iterator(SAMPLERS[name][1], 3))
    stream = source.batch_iterator(SAMPLERS[name][1], 3)
    stream.skip(2)
    assert_same_batches(stream, expected[2:])
