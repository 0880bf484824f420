"""Random-access sources: arguments, array-likes, and classes of users."""

import copy
import pickle

import numpy as np
import pandas as pd
import pytest

from batchup.data_source import ArrayDataSource, ChoiceDataSource, CompositeDataSource, RandomAccessDataSource
from batchup.errors import SampleIndexError
from batchup.image.utils import ImageArrayUInt8ToFloat32
from batchup.sampling import (
    AbstractSampler,
    StandardSampler,
    SubsetSampler,
    WeightedSampler,
    WeightedSubsetSampler,
)

from ..cases import PlainRandomAccess, PlainSampler, assert_same_batches


def first(source, **kwargs):
    return next(source.batch_iterator(4, **kwargs))


def test_attributes():
    data, sampler = [np.arange(3)], StandardSampler(3)
    source = ArrayDataSource(data, sampler=sampler, include_indices=True)
    assert source.data is data
    assert source.sampler is sampler
    assert source.include_indices
    assert source.is_random_access


@pytest.mark.parametrize(
    ('kwargs', 'expected'), [({}, 6), ({'repeats': 3}, 18), ({'repeats': -1}, np.inf), ({'indices': [1]}, 1)]
)
def test_num_samples(kwargs, expected):
    assert ArrayDataSource([np.arange(6)], **kwargs).num_samples() == expected


def test_indices_come_first():
    source = ArrayDataSource([np.arange(3) * 10], include_indices=True)
    assert [part.tolist() for part in first(source)] == [[0, 1, 2], [0, 10, 20]]
    assert [part.tolist() for part in source.samples_by_indices([2, 0])] == [[2, 0], [20, 0]]


@pytest.mark.parametrize('data', [np.arange(3), 3, None, 'abc', {'x': np.arange(3)}, iter([])])
def test_data_must_be_a_list(data):
    with pytest.raises(TypeError, match='data must be a list or tuple of arrays'):
        ArrayDataSource(data)


def test_an_array_needs_a_dimension():
    with pytest.raises(TypeError, match='no dimensions'):
        ArrayDataSource([np.array(5)])


def test_lengths_must_be_equal():
    with pytest.raises(ValueError, match=r'got 3 for data\[0\] and 4 for data\[1\]'):
        ArrayDataSource([np.arange(3), np.arange(4)])


@pytest.mark.parametrize('wrong', [{'indices': [0]}, {'repeats': 2}, {'repeats': -1}, {'indices': []}])
def test_a_sampler_excludes_indices_and_repeats(wrong):
    with pytest.raises(ValueError, match='either sampler or'):
        ArrayDataSource([np.arange(3)], sampler=StandardSampler(3), **wrong)


@pytest.mark.parametrize('sampler', [3, [0, 1], StandardSampler])
def test_a_sampler_must_be_a_sampler(sampler):
    with pytest.raises(TypeError, match='sampler must be a sampler'):
        ArrayDataSource([np.arange(3)], sampler=sampler)


@pytest.mark.parametrize('repeats', [0, -2])
def test_wrong_repeats(repeats):
    with pytest.raises(ValueError, match='repeats'):
        ArrayDataSource([np.arange(3)], repeats=repeats)


@pytest.mark.parametrize('error', [IndexError, ValueError])
@pytest.mark.parametrize('index', [3, -4, 100])
@pytest.mark.parametrize('make', [lambda i: {'indices': i}, lambda i: {'sampler': WeightedSubsetSampler([1, 1], i)}])
def test_indices_out_of_range_are_refused_by_the_source(make, index, error):
    with pytest.raises(error, match=f'index {index} is out of range for 3 samples'):
        ArrayDataSource([np.arange(3)], **make([0, index]))


def test_samplers_must_fit_the_data():
    with pytest.raises(ValueError, match='the sampler has 2 weights, the data has 3 samples'):
        ArrayDataSource([np.arange(3)], sampler=WeightedSampler([1, 1]))
    with pytest.raises(SampleIndexError, match='the sampler is for 4 samples, the data has 3'):
        ArrayDataSource([np.arange(3)], sampler=StandardSampler(4))


def test_a_sampler_that_is_put_in_later_is_checked():
    source = ArrayDataSource([np.arange(3)])
    source.sampler = SubsetSampler([7])
    with pytest.raises(SampleIndexError, match='index 7'):
        source.batch_iterator(2)


@pytest.mark.parametrize('shuffle', ['yes', 1.5, [3], np.array([1])])
def test_wrong_shuffle(shuffle):
    with pytest.raises(TypeError, match='shuffle must be None, a bool, an integer seed'):
        ArrayDataSource([np.arange(3)]).batch_iterator(2, shuffle=shuffle)


@pytest.mark.parametrize(
    ('kwargs', 'error', 'message'),
    [
        ({'shuffle': -1}, ValueError, 'seed'),
        ({'epoch': -1}, ValueError, 'epoch must be 0 or more'),
        ({'epoch': 1.5}, TypeError, 'epoch must be an integer'),
        ({'shard': 3}, TypeError, r'shard must be a pair \(rank, count\)'),
        ({'shard': (2, 2)}, ValueError, r'got \(2, 2\)'),
        ({'shard': (-1, 2)}, ValueError, r'got \(-1, 2\)'),
        ({'shard': (0, 2.0)}, TypeError, 'count of the shard'),
    ],
)
def test_wrong_arguments(kwargs, error, message):
    with pytest.raises(error, match=message):
        ArrayDataSource([np.arange(3)]).batch_iterator(2, **kwargs)


@pytest.mark.parametrize('shuffle', [np.int64(42), np.uint8(42)])
def test_numpy_integers_are_seeds(shuffle):
    source = ArrayDataSource([np.arange(30)])
    assert_same_batches(source.batch_iterator(4, shuffle), source.batch_iterator(4, 42))


def test_a_seed_of_0_shuffles():
    assert first(ArrayDataSource([np.arange(30)]), shuffle=0)[0].tolist() != [0, 1, 2, 3]


def test_samples_by_indices_go_through_the_sampler():
    source = ArrayDataSource([np.arange(10) * 10], indices=[7, 8, 9])
    assert source.samples_by_indices([0, -1])[0].tolist() == [70, 90]
    assert source.samples_by_indices_nomapping([0, -1])[0].tolist() == [0, 90]
    assert source.samples_by_indices_nomapping(slice(2, 8, 3))[0].tolist() == [20, 50]


@pytest.mark.parametrize(
    ('indices', 'error'), [([3], IndexError), ([0.5], TypeError), ([True, False, True], TypeError)]
)
def test_wrong_indices_to_read(indices, error):
    with pytest.raises(error, match='ind'):
        ArrayDataSource([np.arange(3)]).samples_by_indices_nomapping(indices)


def test_the_base_reads_nothing():
    source = RandomAccessDataSource(5)
    with pytest.raises(NotImplementedError, match='samples_by_indices_nomapping'):
        source.samples_by_indices_nomapping(np.arange(2))


class Recorder:
    """An array-like that records what it is asked for."""

    def __init__(self, n):
        self.n = n
        self.asked = []

    def __len__(self):
        return self.n

    def __getitem__(self, index):
        self.asked.append(index)
        return np.asarray(index) * 2


@pytest.mark.parametrize('shuffle', [None, 3])
def test_an_array_like_sees_one_index_array_per_batch(shuffle):
    recorder = Recorder(10)
    batches = list(ArrayDataSource([recorder, np.arange(10)]).batch_iterator(4, shuffle=shuffle))
    assert [len(index) for index in recorder.asked] == [4, 4, 2]
    assert all(index.dtype == np.intp for index in recorder.asked)
    for doubled, index in batches:
        np.testing.assert_array_equal(doubled, index * 2)


def test_images_are_converted_as_they_are_read():
    images = np.random.RandomState(0).randint(0, 256, (10, 3, 2, 2)).astype(np.uint8)
    (batch,) = first(ArrayDataSource([ImageArrayUInt8ToFloat32(images)]), shuffle=3)
    order = ArrayDataSource([images]).plan(4, 3)[0].indices
    np.testing.assert_array_equal(batch, images[order].astype(np.float32) / np.float32(255))


@pytest.mark.parametrize('shuffle', [None, 3])
def test_pandas_is_read_by_position(shuffle):
    frame = pd.DataFrame({'a': np.arange(10) * 2, 'b': list('abcdefghij')}, index=np.arange(10)[::-1])
    source = ArrayDataSource([frame, frame['a'], np.arange(10)])
    for rows, column, positions in source.batch_iterator(4, shuffle=shuffle):
        pd.testing.assert_frame_equal(rows, frame.iloc[positions])
        assert column.tolist() == (positions * 2).tolist()


class Augmented(ArrayDataSource):
    """A user's subclass that overrides how samples are read."""

    def samples_by_indices_nomapping(self, indices):
        return tuple(array + 100 for array in super().samples_by_indices_nomapping(indices))


class EveryOther(ArrayDataSource):
    """A user's subclass that overrides which indices are read."""

    def batch_indices_iterator(self, batch_size, shuffle=None, **kwargs):
        for start in range(0, 6, batch_size):
            yield np.arange(start, min(start + batch_size, 6)) * 2


class Doubled(ArrayDataSource):
    """A user's subclass that overrides iteration."""

    def batch_iterator(self, batch_size, **kwargs):
        for batch in super().batch_iterator(batch_size, **kwargs):
            yield tuple(array * 2 for array in batch)


OVERRIDES = {Augmented: np.arange(12) + 100, EveryOther: np.arange(12)[::2], Doubled: np.arange(12) * 2}


@pytest.mark.parametrize('kind', OVERRIDES)
@pytest.mark.parametrize(
    'wrap',
    [
        lambda source: source,
        lambda source: source.map(lambda x: (x,)),
        lambda source: CompositeDataSource([source]),
        lambda source: ChoiceDataSource([source]),
        lambda source: CompositeDataSource([ChoiceDataSource([source.map(lambda x: (x,))])]),
    ],
)
def test_what_users_override_is_used_everywhere(kind, wrap):
    batches = wrap(kind([np.arange(12)])).batch_iterator(4)
    np.testing.assert_array_equal(np.concatenate([batch[0] for batch in batches]), OVERRIDES[kind])


class Backwards(StandardSampler):
    """A user's subclass of a sampler of the package."""

    def in_order_indices_batch_iterator(self, batch_size):
        for batch in super().in_order_indices_batch_iterator(batch_size):
            yield self.length - 1 - batch


def test_an_overridden_sampler_is_used():
    assert first(ArrayDataSource([np.arange(12)], sampler=Backwards(12)))[0].tolist() == [11, 10, 9, 8]


class Uncounted(PlainSampler):
    """A user's sampler that does not say how many indices it generates."""

    def num_indices_generated(self):
        raise NotImplementedError


def test_a_sampler_of_unknown_length():
    source = ArrayDataSource([np.arange(9)], sampler=Uncounted(9))
    stream = source.batch_iterator(4, shuffle=3)
    assert stream.length is None
    assert stream.skip(10) == 3


class Wild(AbstractSampler):
    """A user's sampler that gives what it was made with."""

    def __init__(self, *batches):
        self.batches = batches

    def in_order_indices_batch_iterator(self, batch_size):
        yield from self.batches


@pytest.mark.parametrize(
    ('given', 'read'), [([2, 0], [2, 0]), ((1,), [1]), ([-1], [4]), (slice(1, 4), [1, 2, 3]), ([], [])]
)
def test_indices_of_a_users_sampler(given, read):
    assert first(ArrayDataSource([np.arange(5)], sampler=Wild(given)))[0].tolist() == read


@pytest.mark.parametrize(
    ('given', 'error', 'message'),
    [
        ([5], SampleIndexError, 'batch 1 of Wild .*: index 5 is out of range for 5 samples'),
        ([True, False], TypeError, 'batch 1 of Wild .*flatnonzero'),
        ([0.5], TypeError, 'batch 1 of Wild'),
    ],
)
def test_wrong_indices_of_a_users_sampler(given, error, message):
    stream = ArrayDataSource([np.arange(5)], sampler=Wild([0], given)).batch_iterator(2)
    next(stream)
    with pytest.raises(error, match=message):
        next(stream)


def test_a_users_sampler_is_seeded_by_seed_and_epoch():
    source = ArrayDataSource([np.arange(30)], sampler=PlainSampler(30))
    drawn = {tuple(first(source, shuffle=seed, epoch=epoch)[0]) for seed in range(3) for epoch in range(3)}
    assert len(drawn) == 9


def test_lists_become_batches_of_users_sources():
    class Listed(PlainRandomAccess):
        def samples_by_indices_nomapping(self, indices):
            return [indices, indices * 2]

    assert isinstance(first(Listed(5)), tuple)


def test_a_users_source_must_give_tuples():
    class Wrong(PlainRandomAccess):
        def samples_by_indices_nomapping(self, indices):
            return np.arange(3)

    with pytest.raises(TypeError, match=r'Wrong\.samples_by_indices_nomapping must return a tuple'):
        first(Wrong(5))


@pytest.mark.parametrize('clone', [copy.copy, copy.deepcopy, lambda source: pickle.loads(pickle.dumps(source))])
def test_sources_can_be_copied_and_pickled(clone):
    source = ArrayDataSource([np.random.rand(64, 2**15), np.arange(64)], indices=np.arange(60))
    next(source.batch_iterator(30))
    assert_same_batches(clone(source).batch_iterator(30, shuffle=3), source.batch_iterator(30, shuffle=3))
