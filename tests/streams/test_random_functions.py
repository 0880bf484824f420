"""Functions that draw at random, mapped over sources: they change batches, and not which samples are in them."""

import numpy as np
import pytest

from batchup._ground.batch import leaves
from batchup.data_source import ChoiceDataSource, CompositeDataSource, ConcatDataSource
from batchup.sampling import BucketSampler, ComputedShuffle, QuotaSampler, WeightedSampler

from ..cases import PlainRandomAccess, PlainSampler, PlainSource, numbers


def noisy(source):
    """Append a random number for each sample, drawn by a mapped function."""
    return source.map(lambda *batch, rng: (*batch, rng.normal(size=len(batch[0]))), rng=True)


def plain(source):
    return source


def pair(around):
    return CompositeDataSource([around(numbers(7)), numbers(9, 100)])


LABELS = np.arange(20) % 2

# Trees of sources with a function around some of them.
TREES = {
    'array': lambda around: around(numbers(20)),
    'subset': lambda around: around(numbers(20, indices=range(3, 15), repeats=2)),
    'weighted': lambda around: around(numbers(20, sampler=WeightedSampler(np.arange(20), n_samples=15))),
    'quotas': lambda around: around(numbers(20, sampler=QuotaSampler(LABELS, [2, 2]))),
    'buckets': lambda around: around(numbers(20, sampler=BucketSampler(np.arange(20)))),
    'user_sampler': lambda around: around(numbers(20, sampler=PlainSampler(20))),
    'user_source': lambda around: around(PlainRandomAccess(20)),
    'functions': lambda around: around(around(around(numbers(20)))),
    'composite': lambda around: around(CompositeDataSource([around(numbers(20)), numbers(17)])),
    'choice': lambda around: around(ChoiceDataSource([around(numbers(20)), numbers(9, 100)])),
    'stratified': lambda around: ChoiceDataSource([around(numbers(20)), around(numbers(9, 100))], stratified=True),
    'weights': lambda around: ChoiceDataSource([around(numbers(20)), around(numbers(9))], weights=[1, 2], stop='all'),
    'concat': lambda around: around(ConcatDataSource([around(numbers(20)), around(numbers(9, 100))])),
    'repeated': lambda around: CompositeDataSource([around(pair(around)), numbers(40)], stop='longest'),
    'without_plan': lambda around: around(CompositeDataSource([around(numbers(20)), PlainSource(20)])),
    'choice_without_plan': lambda around: around(ChoiceDataSource([around(numbers(20)), PlainSource(20)])),
    'repeated_without_plan': lambda around: CompositeDataSource([around(pair(around)), PlainSource(40)], stop=1),
    'repeated_stream': lambda around: CompositeDataSource(
        [around(CompositeDataSource([around(numbers(7)), PlainSource(9)])), numbers(40)], stop=1
    ),
}


def samples(stream):
    """Return the samples of every batch, without what was drawn for them."""
    return [[part.tolist() for part in leaves(batch) if part.dtype.kind != 'f'] for batch in stream]


@pytest.mark.parametrize('name', TREES)
def test_random_functions_do_not_change_which_samples_are_in_a_batch(name):
    for shuffle in (42, ComputedShuffle(3)):
        kwargs = {'shuffle': shuffle, 'epoch': 2}
        expected = samples(TREES[name](plain).batch_iterator(4, **kwargs))
        assert samples(TREES[name](noisy).batch_iterator(4, **kwargs)) == expected


def test_nor_do_they_over_the_sources_of_pools(threads):
    parallel = noisy(threads.parallel_data_source(noisy(numbers(20))))
    assert samples(parallel.batch_iterator(4, shuffle=42)) == samples(numbers(20).batch_iterator(4, shuffle=42))


def test_a_run_goes_on_with_random_functions_added():
    for name in ('array', 'composite', 'weights', 'repeated'):
        stream = TREES[name](plain).batch_iterator(4, shuffle=42)
        stream.skip(2)
        resumed = TREES[name](noisy).batch_iterator(4, shuffle=42)
        resumed.load_state_dict(stream.state_dict())
        assert samples(resumed) == samples(stream)


def drawn(source, **kwargs):
    """Return what was drawn for the first batch, by one function after the other."""
    batch = next(source.batch_iterator(4, shuffle=42, **kwargs))
    return [tuple(part.tolist()) for part in leaves(batch) if part.dtype.kind == 'f']


def test_an_outer_random_function_changes_no_inner_draws():
    one, two, three = noisy(numbers(8)), noisy(noisy(numbers(8))), noisy(noisy(noisy(numbers(8))))
    assert drawn(three)[:2] == drawn(two)
    assert drawn(two)[:1] == drawn(one)
    assert len(set(drawn(three))) == 3


def test_functions_without_draws_take_no_part_in_a_key():
    source = noisy(noisy(numbers(8)).map(lambda *batch: batch)).map(lambda *batch: batch)
    assert drawn(source) == drawn(noisy(noisy(numbers(8))))


def test_no_two_random_functions_of_a_tree_share_draws():
    branch = noisy(noisy(numbers(8)))
    for last in (numbers(8), PlainSource(8)):
        tree = noisy(noisy(CompositeDataSource([branch, noisy(ConcatDataSource([noisy(branch)])), last])))
        assert len(set(drawn(tree))) == len(drawn(tree)) == 8


def test_functions_over_the_source_of_a_pool_draw_as_over_the_source_itself(threads):
    assert drawn(noisy(threads.parallel_data_source(noisy(numbers(8))))) == drawn(noisy(noisy(numbers(8))))


def test_samples_read_by_indices_are_drawn_for_as_those_of_a_first_batch():
    source = noisy(noisy(CompositeDataSource([noisy(numbers(8)), noisy(numbers(8))])))
    indices = [np.arange(4), np.arange(4)]
    batch, first = source.samples_by_indices(indices), next(source.batch_iterator(4))
    assert len({part.tobytes() for part in batch}) == 5
    assert all(np.array_equal(part, other) for part, other in zip(batch, first))


def test_without_a_plan_a_rank_of_the_environment_draws_as_one_that_is_given(threads, monkeypatch):
    monkeypatch.setenv('RANK', '1')
    monkeypatch.setenv('WORLD_SIZE', '2')
    source = noisy(threads.parallel_data_source(numbers(8)))
    assert drawn(source, shard='env') == drawn(source, shard=(1, 2)) != drawn(source, shard=(0, 2))
