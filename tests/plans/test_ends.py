"""Where epochs end: `len`, plans, streams, skips, states, ranks and pools agree, for every plan there is."""

import numpy as np
import pytest

from batchup.data_source import ArrayDataSource, ChoiceDataSource, CompositeDataSource
from batchup.sampling import (
    BlockShuffle,
    BucketSampler,
    ComputedShuffle,
    GroupSampler,
    PKSampler,
    QuotaSampler,
    StandardSampler,
    SubsetSampler,
    WeightedSampler,
    WeightedSubsetSampler,
)

from ..cases import PlainSampler, UnevenSampler, assert_same_batches, numbers

N = 60
Y = np.arange(N) % 2

# None of these ends where its members do, or where the samples do.
SAMPLERS = {
    'standard': lambda: StandardSampler(7, repeats=2),
    'subset': lambda: SubsetSampler([3, 3, -1, 7, 59]),
    'weighted': lambda: WeightedSampler(np.ones(N), n_samples=11),
    'distinct': lambda: WeightedSubsetSampler(np.ones(9), np.arange(9), n_samples=7, replace=False),
    'quotas': lambda: QuotaSampler(Y, [2, 2], n_batches=3),
    'no quotas': lambda: QuotaSampler(Y, [2, 2], n_batches=0),
    'pk': lambda: PKSampler(Y, p=2, k=2, n_batches=3),
    'groups': lambda: GroupSampler(np.arange(N) // 7, repeats=2),
    'buckets': lambda: BucketSampler(np.arange(N) % 9 + 1, max_elements=20),
    'plain': lambda: PlainSampler(9),
    'uneven': UnevenSampler,
}


def source_of(name):
    return ArrayDataSource([np.arange(N)], sampler=SAMPLERS[name]())


TREES = {
    **{name: lambda name=name: source_of(name) for name in SAMPLERS},
    'shortest': lambda: CompositeDataSource([source_of('standard'), source_of('quotas'), source_of('uneven')]),
    'longest': lambda: CompositeDataSource([source_of('quotas'), source_of('plain')], stop='longest'),
    'turns': lambda: ChoiceDataSource([source_of('quotas'), source_of('uneven'), source_of('pk')]),
    'stratified': lambda: ChoiceDataSource([source_of('quotas'), source_of('plain')], stratified=True),
    'all': lambda: ChoiceDataSource([source_of('quotas'), source_of('pk')], weights=[1, 3], stop='all'),
    'counted': lambda: ChoiceDataSource([source_of('quotas'), source_of('weighted')], stop=5),
    'beside turns': lambda: CompositeDataSource(
        [numbers(3, repeats=30), ChoiceDataSource([source_of('quotas'), source_of('standard')])]
    ),
    'nested': lambda: ChoiceDataSource(
        [
            ChoiceDataSource([source_of('pk'), source_of('standard')]),
            CompositeDataSource([source_of('standard'), source_of('plain')]),
        ]
    ),
}

DRAWN = ['weighted', 'distinct', 'counted']

SHUFFLES = {
    'in order': lambda: None,
    'seed': lambda: 5,
    'computed': lambda: ComputedShuffle(5),
    'blocks': lambda: BlockShuffle(5, 3),
    'random_state': lambda: np.random.RandomState(5),
    'generator': lambda: np.random.default_rng(5),
}

each = pytest.mark.parametrize('name', TREES)


def openers(name, **kwargs):
    """Return what opens streams over a new source, for each shuffle; draws by weight have no order."""
    return [
        lambda shuffle=shuffle, **more: TREES[name]().batch_iterator(4, SHUFFLES[shuffle](), **kwargs, **more)
        for shuffle in SHUFFLES
        if name not in DRAWN or shuffle != 'in order'
    ]


@each
def test_len_and_the_plan_tell_the_batches_of_a_stream(name):
    for open_stream in openers(name) + openers(name, drop_last=True):
        count = len(list(open_stream()))
        assert open_stream().length in (count, None)
        assert len(list(open_stream().feed.plan)) == count


@each
def test_skips_stop_at_the_end_and_stay_there(name):
    for open_stream in openers(name) + openers(name, drop_last=True):
        count, stream = len(list(open_stream())), open_stream()
        assert [stream.skip(n) for n in (2, 300, 1)] == [min(2, count), max(0, count - 2), 0]
        assert next(stream, None) is None
        assert stream.position == count


@each
def test_ranks_end_where_the_stream_does(name):
    for open_stream in openers(name):
        assert len(list(open_stream(shard=(1, 3)))) == len(list(open_stream()))


@each
def test_pools_end_where_the_stream_does(threads, name):
    for shuffle, open_stream in zip(reversed(SHUFFLES), reversed(openers(name))):
        pooled = threads.parallel_data_source(TREES[name]()).batch_iterator(4, SHUFFLES[shuffle]())
        assert_same_batches(pooled, open_stream())


@each
def test_a_state_near_the_end_restores_what_is_left(name):
    for open_stream in openers(name):
        saved, resumed = open_stream(), open_stream()
        saved.skip(max(0, len(list(open_stream())) - 1))
        resumed.load_state_dict(saved.state_dict())
        assert_same_batches(resumed, saved)


def test_a_batch_goes_round_tiny_data_often_but_not_without_end():
    source = numbers(10, repeats=-1)
    assert len(next(source.batch_iterator(12_345, shuffle=1))[0]) == 12_345
    for call in (source.batch_iterator, CompositeDataSource([source, numbers(3)]).batch_iterator, source.plan):
        with pytest.raises(ValueError, match='batch would repeat the 10 samples 1000000000 times; choose a smaller'):
            call(10**10)
    assert [len(batch) for (batch,) in numbers(10, repeats=3).batch_iterator(10**10)] == [30]


def test_a_plan_that_knows_its_end_is_asked_for_no_window_beyond_it():
    plan = QuotaSampler(Y, [2, 2], n_batches=3).plan(4)
    assert [plan.window(number, 100).n_batches for number in range(3)] == [3, 2, 1]
    with pytest.raises(IndexError, match='no batch 3 in a plan of 3 batches'):
        plan.window(3, 100)
