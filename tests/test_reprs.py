"""What things say of themselves, and what a source says to `len()` and a loop."""

import itertools

import numpy as np
import pytest

from batchup.data_source import (
    AbstractDataSource,
    ArrayDataSource,
    CallableDataSource,
    ChoiceDataSource,
    CompositeDataSource,
    ConcatDataSource,
    IteratorDataSource,
    RandomAccessDataSource,
    batch_map_concat,
)
from batchup.datasets.digits import Digits
from batchup.sampling import (
    BucketSampler,
    GroupSampler,
    PKSampler,
    QuotaSampler,
    StandardSampler,
    SubsetSampler,
    WeightedSampler,
    WeightedSubsetSampler,
)
from batchup.work_pool import WorkerThreadPool

from .cases import PlainRandomAccess, PlainSampler, PlainSource, call_batches, keep

DIGITS = Digits(n_val=200).train_source()
SMALL = ArrayDataSource([np.arange(5)])

REPRS = {
    'ArrayDataSource(1238 samples: float32 (1, 8, 8), int32 ())': DIGITS,
    'ArrayDataSource(2 of 1238 samples, 3 times: float32 (1, 8, 8), int32 ())': Digits().train_source(
        indices=[1, 2], repeats=3
    ),
    'ArrayDataSource(5 samples by WeightedSampler(5 weights, endless), with indices: int64 ())': ArrayDataSource(
        [np.arange(5)], sampler=WeightedSampler(np.ones(5)), include_indices=True
    ),
    'ArrayDataSource(5 samples: int64 ()).map(keep, rng=True)': SMALL.map(keep, rng=True),
    'CompositeDataSource(PlainRandomAccess(5 samples), PlainRandomAccess(9 samples), trim=False, stop=1)': (
        CompositeDataSource([PlainRandomAccess(5), PlainRandomAccess(9)], trim=False, stop=1)
    ),
    'ChoiceDataSource(PlainRandomAccess(5 samples), weights=[1.0], stop=7)': ChoiceDataSource(
        [PlainRandomAccess(5)], weights=[1], stop=7
    ),
    'ChoiceDataSource(PlainRandomAccess(5 samples), stratified=True)': ChoiceDataSource(
        [PlainRandomAccess(5)], stratified=True
    ),
    'ConcatDataSource(10 samples: PlainRandomAccess(5 samples), PlainRandomAccess(5 samples))': ConcatDataSource(
        [PlainRandomAccess(5)] * 2
    ),
    'CallableDataSource(call_batches, 11 samples)': CallableDataSource(call_batches, 11),
    'IteratorDataSource(list_iterator, endless)': IteratorDataSource(iter([]), np.inf),
    'StandardSampler(1238 samples)': StandardSampler(1238),
    'SubsetSampler(2 chosen samples, 3 times)': SubsetSampler([1, 2], repeats=3),
    'WeightedSampler(3 weights, 2 distinct draws)': WeightedSampler([1, 0, 2], replace=False),
    'WeightedSubsetSampler(2 weights, 7 draws)': WeightedSubsetSampler([1, 2], [3, 4], n_samples=7),
    "QuotaSampler(3 samples, 2 batches of {'a': 1, 'b': 1})": QuotaSampler(list('abb'), {'a': 1, 'b': 1}),
    'PKSampler(4 samples, endless of p=2 classes with k=2)': PKSampler([0, 1, 1, 0], p=2, k=2, repeats=-1),
    'GroupSampler(3 samples in 2 groups)': GroupSampler([1, 2, 2]),
    'BucketSampler(2 samples, lengths 2 to 3, max_elements=4, endless)': BucketSampler(
        [2, 3], max_elements=4, repeats=-1
    ),
    'Digits(train 1238, val 200, test 359: float32 (1, 8, 8), int32 ())': Digits(n_val=200),
    'ImageArrayUInt8ToFloat32(shape (1238, 1, 8, 8), from 0.0 to 15.9375)': DIGITS.data[0],
    '<Plan: 20 batches of 1238 samples x 1, seed 42, epoch 3>': DIGITS.plan(64, 42, epoch=3),
    '<Plan: endless batches of 5 samples x -1, in order, epoch 0>': ArrayDataSource([np.arange(5)], repeats=-1).plan(2),
    '<Stream: batch 0 of 20, seed 42, epoch 0>': DIGITS.batch_iterator(64, 42),
    '<Stream: batch 0, in order, epoch 0>': CallableDataSource(call_batches).batch_iterator(4),
    '<Loader: batches of 2, seed 42, epoch 3, of ArrayDataSource(5 samples: int64 ())>': SMALL.loader(2, 42, epoch=3),
}


@pytest.mark.parametrize('expected', REPRS)
def test_repr(expected):
    assert repr(REPRS[expected]) == expected


def test_a_stream_and_a_loader_say_how_far_they_are():
    loader = DIGITS.loader(64, 42)
    with iter(loader) as stream:
        stream.skip(3)
        assert repr(stream) == '<Stream: batch 3 of 20, seed 42, epoch 0>'
        assert repr(loader) == f'<Loader: batches of 64, seed 42, epoch 0, batch 3 of 20, of {DIGITS!r}>'
    assert repr(stream) == '<Stream: batch 3 of 20, seed 42, epoch 0, closed>'


def test_a_pool_and_its_sources():
    with WorkerThreadPool(2) as pool:
        assert repr(pool.parallel_data_source(SMALL)) == f'ParallelDataSource({SMALL!r}, <WorkerThreadPool: 2 workers>)'
    assert repr(pool) == '<WorkerThreadPool: 2 workers, closed>'


def test_many_parts_are_not_all_named():
    assert repr(ArrayDataSource([np.arange(5)] * 9)).endswith('int64 (), int64 (), ...)')
    assert len(repr(CompositeDataSource([SMALL] * 1000))) < 400


def test_no_batches_are_counted_for_it():
    source = ArrayDataSource([np.arange(5)], sampler=PlainSampler(5))
    plan = source.plan(2)
    assert repr(plan) == '<Plan: batches of PlainSampler of 5 samples, in order, epoch 0>'
    assert len(plan) == 3
    assert repr(plan) == '<Plan: 3 batches of PlainSampler of 5 samples, in order, epoch 0>'
    mixed = ChoiceDataSource([SMALL, SMALL], weights=[1, 1])
    assert repr(mixed.batch_iterator(2, 42)) == '<Stream: batch 0, seed 42, epoch 0>'


def test_what_has_no_words_or_is_not_whole_has_the_repr_of_any_object():
    for thing in (PlainSource(3), PlainSampler(3), RandomAccessDataSource.__new__(RandomAccessDataSource)):
        assert repr(thing) == object.__repr__(thing)


# What a source is not.


@pytest.mark.parametrize('source', [SMALL, PlainSource(3)])
def test_a_source_has_no_len_and_says_what_to_write(source):
    with pytest.raises(TypeError, match=rf'{type(source).__name__} has no len\(\): .*num_samples\(\).*num_batches'):
        len(source)
    assert source


@pytest.mark.parametrize(
    'use', [iter, list, lambda source: [*source], lambda source: batch_map_concat(np.negative, source)]
)
def test_a_source_is_not_gone_through_and_says_what_to_write(use):
    with pytest.raises(TypeError, match=r'ArrayDataSource is not .* source\.batch_iterator.* source\.loader'):
        use(SMALL)


def test_a_users_source_may_have_both():
    class Own(AbstractDataSource):
        def __len__(self):
            return 3

        def __iter__(self):
            return itertools.repeat(1, 3)

    assert (len(Own()), list(Own())) == (3, [1, 1, 1])
