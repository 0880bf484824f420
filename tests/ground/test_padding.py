"""Samples of variable length, and their padding."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchup.data_source import ArrayDataSource, CompositeDataSource
from batchup.padding import RaggedArray, pad_batch
from batchup.sampling import BucketSampler

LISTS = [[3, 1], [], [4, 1, 5], [9]]


@pytest.fixture
def ragged():
    return RaggedArray.from_list(LISTS)


def listed(ragged):
    return [array.tolist() for array in ragged]


@st.composite
def parts(draw):
    """Draw arrays of different lengths, of one dtype and shape."""
    lengths = draw(st.lists(st.integers(0, 9), max_size=12))
    shape = draw(st.sampled_from([(), (1,), (2, 3), (0,)]))
    dtype = draw(st.sampled_from([np.uint8, np.int64, np.float32, np.bool_, np.complex64]))
    rng = np.random.RandomState(len(lengths))
    return [rng.randint(0, 2, (length, *shape)).astype(dtype) for length in lengths]


# Ragged arrays.


@given(parts(), st.data())
def test_batches_are_the_chosen_arrays(arrays, data):
    ragged = RaggedArray.from_list(arrays)
    n = len(arrays)
    chosen = data.draw(st.lists(st.integers(-n, n - 1), max_size=20)) if n else []
    batch = ragged[np.array(chosen, int)]
    assert len(batch) == len(chosen)
    for array, number in zip(batch, chosen, strict=True):
        np.testing.assert_array_equal(array, arrays[number])
        assert array.dtype == arrays[number].dtype or not ragged.lengths.any()


def test_offsets_say_where_samples_are():
    assert listed(RaggedArray(np.arange(5), [0, 2, 2, 5])) == [[0, 1], [], [2, 3, 4]]


def test_lengths(ragged):
    assert len(ragged) == 4
    assert ragged.lengths.tolist() == [2, 0, 3, 1]


@pytest.mark.parametrize('index', [2, -2, np.int8(2), np.uint64(2)])
def test_an_integer_gives_one_array(ragged, index):
    assert ragged[index].tolist() == [4, 1, 5]


@pytest.mark.parametrize(
    ('index', 'expected'),
    [
        (slice(1, 3), [[], [4, 1, 5]]),
        (slice(None, None, -2), [[9], []]),
        ([3, 0], [[9], [3, 1]]),
        ([], []),
        (np.array([-1, 3], np.int32), [[9], [9]]),
    ],
)
def test_slices_lists_and_arrays_give_ragged_arrays(ragged, index, expected):
    assert listed(ragged[index]) == expected


def test_a_batch_is_a_copy(ragged):
    batch = ragged[[0, 2]]
    batch.values[:] = -7
    assert listed(ragged) == LISTS


@pytest.mark.parametrize('index', [4, -5, [0, 4], np.array([-5])])
def test_indices_out_of_range_are_index_errors(ragged, index):
    with pytest.raises(IndexError, match='out of range for 4 samples'):
        ragged[index]


def test_a_boolean_mask_is_refused(ragged):
    with pytest.raises(TypeError, match=r'np\.flatnonzero'):
        ragged[np.array([True, False, True, False])]


@pytest.mark.parametrize('index', [1.5, 'a', True])
def test_other_indices_are_refused(ragged, index):
    with pytest.raises((TypeError, ValueError), match='indices must'):
        ragged[index]


def test_dtypes_are_kept_with_empty_lists_among_them():
    assert RaggedArray.from_list([[], [1, 2]]).dtype == np.int64
    assert RaggedArray.from_list([[], np.array([1], np.uint8)]).dtype == np.uint8
    assert RaggedArray.from_list([], dtype=np.int16).dtype == np.int16
    assert RaggedArray.from_list([np.empty((0, 3), np.int8)])[[0, 0]].values.shape == (0, 3)


def test_memory_mapped_values_are_read_by_the_batch(tmp_path):
    np.save(tmp_path / 'values.npy', np.arange(6))
    ragged = RaggedArray(np.load(tmp_path / 'values.npy', mmap_mode='r'), [0, 2, 6])
    assert isinstance(ragged.values, np.memmap)
    assert listed(ragged[[1]]) == [[2, 3, 4, 5]]
    assert ragged[[1]].values.flags.writeable


def test_ragged_arrays_are_pickled(ragged):
    assert listed(pickle.loads(pickle.dumps(ragged))) == LISTS


@pytest.mark.parametrize(
    ('values', 'offsets', 'error', 'message'),
    [
        ([1, 2], [0, 1], ValueError, r'offsets must go from 0 to 2, the length of values, got ends \[0, 1\]'),
        ([1, 2], [1, 2], ValueError, r'got ends \[1, 2\]'),
        ([1, 2], [], ValueError, r'got ends \[\]'),
        ([1, 2], [0, 2, 1, 2], ValueError, 'offset 2 is less than the one before'),
        ([1, 2], [0.0, 2.0], TypeError, 'offsets must be integers'),
        (3, [0], ValueError, 'values must have at least one dimension'),
    ],
)
def test_wrong_offsets(values, offsets, error, message):
    with pytest.raises(error, match=message):
        RaggedArray(values, offsets)


@pytest.mark.parametrize(
    ('arrays', 'message'),
    [
        ([[1], 2], 'array 1 must have at least one dimension, got 2'),
        ([[1], [], [[2]]], r'got shapes \(1,\) for array 0 and \(1, 1\) for array 2'),
    ],
)
def test_wrong_arrays(arrays, message):
    for function in (RaggedArray.from_list, pad_batch):
        with pytest.raises(ValueError, match=message):
            function(arrays)


# Padding.


@given(parts(), st.sampled_from([0, 1]), st.sampled_from([1, 4, 100]))
def test_padded_arrays_hold_the_arrays_and_the_fill(arrays, fill, multiple_of):
    padded, mask = pad_batch(arrays, fill, multiple_of=multiple_of)
    longest = max(map(len, arrays), default=0)
    assert padded.shape[:2] == mask.shape == (len(arrays), -(-longest // multiple_of) * multiple_of)
    for row, row_mask, array in zip(padded, mask, arrays):
        assert row_mask.tolist() == [True] * len(array) + [False] * (len(row) - len(array))
        np.testing.assert_array_equal(row[row_mask], array)
        assert (row[~row_mask] == fill).all()
        assert row.dtype == array.dtype


@pytest.mark.parametrize('kind', [list, tuple, RaggedArray.from_list])
def test_arrays_come_in_any_container(kind):
    padded, mask = pad_batch(kind(LISTS), -1)
    assert padded.tolist() == [[3, 1, -1], [-1, -1, -1], [4, 1, 5], [9, -1, -1]]
    assert mask.dtype == np.bool_
    assert mask.sum() == 6


def test_arrays_of_objects_are_padded():
    objects = np.empty(2, object)
    objects[:] = [np.array([1, 2], np.int16), np.array([3], np.int16)]
    padded, _ = pad_batch(objects)
    assert padded.tolist() == [[1, 2], [3, 0]]
    assert padded.dtype == np.int16


def test_a_row_of_an_array_with_no_length_is_filled():
    padded, mask = pad_batch([np.empty((0, 2)), np.ones((1, 2), np.int8)], 7)
    assert padded.tolist() == [[[7, 7]], [[1, 1]]]
    assert padded.dtype == np.int8
    assert mask.tolist() == [[False], [True]]


def test_many_arrays_have_a_common_dtype():
    padded, _ = pad_batch([np.ones(1, dtype) for dtype in [np.int8, np.uint8, np.int16] * 100])
    assert padded.dtype == np.int16
    assert padded.shape == (300, 1)


def test_a_fixed_length():
    padded, mask = pad_batch([[1, 2], [3]], length=4)
    assert padded.tolist() == [[1, 2, 0, 0], [3, 0, 0, 0]]
    assert mask.shape == (2, 4)


def test_no_arrays_are_padded_to_nothing():
    padded, mask = pad_batch(RaggedArray.from_list(LISTS)[[]], length=3)
    assert padded.shape == mask.shape == (0, 3)
    assert padded.dtype == np.int64
    assert pad_batch([])[0].shape == (0, 0)


@pytest.mark.parametrize('fill', [np.nan, -0.5, -np.inf])
def test_floats_are_filled_with_anything(fill):
    assert pad_batch([[1.0], []], fill)[0].tolist()[1] == pytest.approx([fill], nan_ok=True)


@pytest.mark.parametrize('fill', [-1, 256, 0.5, np.nan, 2**70, [1, 2], 'a', None])
def test_integers_are_not_filled_with_what_they_cannot_hold(fill):
    with pytest.raises(ValueError, match='cannot be held by the dtype of the arrays, uint8'):
        pad_batch([np.array([1], np.uint8)], fill)


@pytest.mark.parametrize(
    ('arguments', 'error', 'message'),
    [
        ({'length': 2}, ValueError, 'array 2 has length 3, more than length=2'),
        ({'length': 3, 'multiple_of': 2}, ValueError, 'give either length or multiple_of=2'),
        ({'length': -1}, ValueError, 'length must be 0 or more, got -1'),
        ({'length': 3.0}, TypeError, 'length must be an integer'),
        ({'multiple_of': 0}, ValueError, 'multiple_of must be at least 1, got 0'),
        ({'filler': 0}, TypeError, 'filler'),
    ],
)
def test_wrong_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        pad_batch(LISTS, **arguments)


# In sources.


def pad(arrays, *others):
    return (*pad_batch(arrays), *others)


def open_source():
    ragged = RaggedArray.from_list([np.full(length, length) for length in [3, 9, 2, 20, 8, 4, 4, 2, 0, 1, 7]])
    sampler = BucketSampler(ragged.lengths, max_elements=20)
    return ArrayDataSource([ragged, np.arange(11)], sampler=sampler).map(pad)


def test_batches_of_similar_length_are_padded_within_the_budget():
    batches = list(open_source().batch_iterator(4, shuffle=3))
    assert all(padded.size <= 20 for padded, _, _ in batches)
    for padded, mask, _ in batches:
        assert (padded.max(axis=1, initial=0) == mask.sum(axis=1)).all()
    assert sorted(np.concatenate([y for _, _, y in batches])) == list(range(11))


def test_threads_pad_the_same(threads):
    batches = list(threads.parallel_data_source(open_source()).batch_iterator(4, shuffle=3))
    for batch, expected in zip(batches, open_source().batch_iterator(4, shuffle=3), strict=True):
        for one, other in zip(batch, expected, strict=True):
            np.testing.assert_array_equal(one, other)


def test_shards_of_no_samples_are_padded():
    batches = list(open_source().batch_iterator(4, shuffle=3, shard=(0, 4)))
    assert {len(padded) for padded, _, _ in batches} == {0, 1}
    assert {padded.dtype for padded, _, _ in batches} == {np.dtype(int)}


def test_members_of_a_composite_are_trimmed(ragged):
    source = CompositeDataSource([ArrayDataSource([ragged]), ArrayDataSource([np.arange(3)])])
    assert [listed(arrays) for arrays, _ in source.batch_iterator(2)] == [LISTS[:2], LISTS[2:3]]
