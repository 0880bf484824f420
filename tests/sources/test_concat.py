"""Samples of several sources as those of one."""

import itertools
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchup._ground.indices import as_array
from batchup.data_source import (
    ArrayDataSource,
    ChoiceDataSource,
    CompositeDataSource,
    ConcatDataSource,
    RandomAccessDataSource,
)
from batchup.sampling import ComputedShuffle, WeightedSampler

from ..cases import (
    SHUFFLE_ARGUMENTS,
    PlainRandomAccess,
    PlainSampler,
    PlainSource,
    assert_same_batch,
    assert_same_batches,
    keep,
    numbers,
)
from ..harness.pools import on

shuffled = pytest.mark.parametrize('shuffle', SHUFFLE_ARGUMENTS.values(), ids=SHUFFLE_ARGUMENTS)

X = np.random.RandomState(0).rand(50, 3)
Y = np.arange(50)
LARGE = np.random.RandomState(0).rand(50, 40, 20)


class Own(RandomAccessDataSource):
    """A user's source over an array."""

    def __init__(self, *arrays):
        super().__init__(len(arrays[0]))
        self.arrays = arrays

    def samples_by_indices_nomapping(self, indices):
        return tuple(array[indices] for array in self.arrays)


def cut(kind, *arrays, at=(20, 20, 23)):
    """Make sources of parts of arrays, one of them empty."""
    bounds = [0, *at, len(arrays[0])]
    return [kind(*(array[a:b].copy() for array in arrays)) for a, b in itertools.pairwise(bounds)]


def of_arrays(*arrays):
    return ArrayDataSource(list(arrays))


KINDS = {
    'arrays': of_arrays,
    'users': Own,
    'mapped': lambda *arrays: of_arrays(*arrays).map(keep),
    'concatenated': lambda *arrays: ConcatDataSource([of_arrays(*arrays)]),
    'columns': lambda *arrays: of_arrays(*(np.asfortranarray(array) for array in arrays)),
    'chosen': lambda *arrays: ArrayDataSource(
        [np.concatenate([array[::-1], array]) for array in arrays],
        indices=np.arange(len(arrays[0])) - len(arrays[0]) if len(arrays[0]) else [],
    ),
}
each_kind = pytest.mark.parametrize('kind', KINDS.values(), ids=KINDS)


@each_kind
@shuffled
@pytest.mark.parametrize('arrays', [(X, Y), (LARGE,)], ids=['small', 'large'])
def test_batches_are_those_of_the_whole_arrays(kind, shuffle, arrays):
    whole, parts = ArrayDataSource(list(arrays)), ConcatDataSource(cut(kind, *arrays))
    for batch_size in (1, 7, 22, 100):
        assert_same_batches(parts.batch_iterator(batch_size, shuffle()), whole.batch_iterator(batch_size, shuffle()))


@each_kind
@shuffled
def test_subsets_repeats_and_indices_are_those_of_the_whole(kind, shuffle):
    arguments = {'indices': [49, -50, 20, 22, 23, 23, 3], 'repeats': 3, 'include_indices': True}
    whole, parts = ArrayDataSource([X, Y], **arguments), ConcatDataSource(cut(kind, X, Y), **arguments)
    assert_same_batches(parts.batch_iterator(4, shuffle()), whole.batch_iterator(4, shuffle()))


@each_kind
def test_samplers_draw_from_all_members(kind):
    sampler = WeightedSampler(Y)
    whole, parts = ArrayDataSource([X], sampler=sampler), ConcatDataSource(cut(kind, X), sampler=sampler)
    take = itertools.islice(parts.batch_iterator(9, shuffle=1), 9)
    assert_same_batches(take, itertools.islice(whole.batch_iterator(9, shuffle=1), 9))


@each_kind
def test_samples_are_read_by_index(kind):
    for indices in ([], [0], [49, 0, -1, -50, 20], np.arange(23, 30, dtype=np.uint8), slice(15, 25)):
        read = ConcatDataSource(cut(kind, X, Y)).samples_by_indices_nomapping(indices)
        wanted = np.array(indices, dtype=int) if isinstance(indices, list) else indices
        assert_same_batch(read, (X[wanted], Y[wanted]))


def test_indices_go_through_the_sampler_of_the_whole_and_of_each_member():
    source = ConcatDataSource([numbers(5, indices=[4, 0]), numbers(9, 100, indices=[8, -8])], indices=[3, 1, 2])
    assert source.samples_by_indices([0, 1, 2])[0].tolist() == [101, 0, 108]


@pytest.mark.parametrize('indices', [[50], [-51], [0.5], [True]])
def test_indices_that_are_none(indices):
    with pytest.raises((IndexError, TypeError)):
        ConcatDataSource(cut(of_arrays, Y)).samples_by_indices_nomapping(indices)


def test_subsets_are_of_all_members():
    source = ConcatDataSource(cut(of_arrays, Y)).subset([49, 3, 21])
    assert next(source.batch_iterator(9))[0].tolist() == [49, 3, 21]


def test_batches_belong_to_the_user():
    members = cut(of_arrays, X)
    first, second, *_ = ConcatDataSource(members).batch_iterator(8)
    first[0][:] = -1
    np.testing.assert_array_equal(second[0], X[8:16])
    np.testing.assert_array_equal(members[0].data[0], X[:20])


def test_shuffles_go_across_members():
    source = ConcatDataSource([numbers(100), numbers(100, 100)])
    drawn = np.concatenate([batch[0] for batch in source.batch_iterator(20, shuffle=1)])
    assert sorted(drawn) == list(range(200))
    assert all(5 <= (drawn[k : k + 50] < 100).sum() <= 45 for k in range(0, 200, 50))


def test_members_are_read_once_for_a_batch():
    class Counted(Own):
        asked = ()

        def samples_by_indices_nomapping(self, indices):
            self.asked += (len(indices),)
            return super().samples_by_indices_nomapping(indices)

    members = cut(Counted, Y)
    next(ConcatDataSource(members).batch_iterator(49, shuffle=1))
    assert [len(member.asked) for member in members] == [1, 0, 1, 1]
    assert sum(sum(member.asked) for member in members) == 49


def test_one_member_after_another_is_read_in_order():
    class Last(Own):
        asked = ()

        def samples_by_indices_nomapping(self, indices):
            self.asked += (indices.tolist(),)
            return super().samples_by_indices_nomapping(indices)

    members = cut(Last, Y[:6], at=(3,))
    list(ConcatDataSource(members).batch_iterator(2))
    assert [member.asked for member in members] == [([0, 1], [2]), ([0], [1, 2])]


def test_files_are_read_like_arrays(tmp_path):
    for number, part in enumerate(np.split(X, 5)):
        np.save(tmp_path / f'{number}.npy', part)
    files = [np.load(tmp_path / f'{number}.npy', mmap_mode='r') for number in range(5)]
    source = ConcatDataSource([ArrayDataSource([file]) for file in files])
    assert_same_batches(source.batch_iterator(7, shuffle=1), ArrayDataSource([X]).batch_iterator(7, shuffle=1))


class ArrayLike:
    """An array-like that can be read by index arrays only."""

    def __init__(self, array):
        self.array = array

    def __len__(self):
        return len(self.array)

    def __getitem__(self, indices):
        assert isinstance(indices, np.ndarray)
        return self.array[indices]


def test_array_likes_are_read_like_arrays():
    source = ConcatDataSource([ArrayDataSource([ArrayLike(X[:9])]), ArrayDataSource([X[9:]])])
    assert_same_batches(source.batch_iterator(7, shuffle=1), ArrayDataSource([X]).batch_iterator(7, shuffle=1))


def test_objects_and_texts_are_samples():
    words = np.array(['one', 'two', None, ('a', 1)], dtype=object)
    source = ConcatDataSource([ArrayDataSource([words]), ArrayDataSource([words[:1]])])
    order = source.plan(5, 3)[0].indices
    assert next(source.batch_iterator(5, shuffle=3))[0].tolist() == [[*words, 'one'][k] for k in order]


def test_arrays_that_are_replaced_are_read():
    members = cut(of_arrays, Y)
    source = ConcatDataSource(members)
    members[0].data[0] = members[0].data[0] + 100
    assert next(source.batch_iterator(3))[0].tolist() == [100, 101, 102]
    assert sorted(next(source.batch_iterator(50, shuffle=1))[0].tolist()) == [*range(20, 50), *range(100, 120)]


def noise(x, rng):
    return x, rng.random(len(x))


def test_random_functions_of_members_follow_seed_and_epoch():
    source = ConcatDataSource([numbers(9).map(noise, rng=True), numbers(9).map(noise, rng=True)])
    draws = [
        tuple(batch[1]) for seed in (1, 2) for epoch in (0, 1) for batch in source.batch_iterator(3, seed, epoch=epoch)
    ]
    assert len(set(draws)) == len(draws) == 24


def test_samples_that_do_not_fit_in_memory_are_found():
    class Squares(RandomAccessDataSource):
        def samples_by_indices_nomapping(self, indices):
            return (indices % 1000, indices >> 40)

    source = ConcatDataSource([Squares(2**41), Squares(2**42)])
    numbers, tops = source.samples_by_indices_nomapping([2**41 + 5, 2**41 - 1, -1])
    assert tops.tolist() == [0, 1, 3]
    assert numbers.tolist() == [5, (2**41 - 1) % 1000, (2**42 - 1) % 1000]
    assert len(next(source.batch_iterator(9, shuffle=ComputedShuffle(1)))[0]) == 9


@on(['threads', 'fork'])
@pytest.mark.parametrize('kind', [of_arrays, Own])
def test_pools_read_the_same_batches(pool, kind):
    source = ConcatDataSource(cut(kind, X, Y), include_indices=True)
    batches = list(pool.parallel_data_source(source).batch_iterator(7, shuffle=42))
    assert_same_batches(batches, source.batch_iterator(7, shuffle=42))


def test_a_pickle_reads_the_same_batches():
    source = ConcatDataSource(cut(of_arrays, X, Y))
    next(source.batch_iterator(7, shuffle=1))
    assert_same_batches(pickle.loads(pickle.dumps(source)).batch_iterator(7), source.batch_iterator(7))


def test_sources_of_all_kinds_are_combined():
    whole = ConcatDataSource(cut(of_arrays, Y))
    source = CompositeDataSource([ChoiceDataSource([whole, whole], stop=20), whole.map(keep)])
    first, second = next(source.batch_iterator((3, 6), shuffle=1))
    assert (len(first), len(second)) == (3, 6)


@given(st.lists(st.integers(0, 12), min_size=1, max_size=5), st.integers(1, 20), st.data())
def test_any_indices_of_any_members(lengths, batch_size, data):
    kinds = data.draw(st.lists(st.sampled_from([of_arrays, Own]), min_size=len(lengths), max_size=len(lengths)))
    ends = list(itertools.accumulate(lengths, initial=0))
    values = np.arange(ends[-1]) * 7
    source = ConcatDataSource([kind(values[a:b]) for kind, (a, b) in zip(kinds, itertools.pairwise(ends))])
    assert [len(batch[0]) for batch in source.batch_iterator(batch_size)] == [
        min(batch_size, len(values) - k) for k in range(0, len(values), batch_size)
    ]
    chosen = data.draw(st.lists(st.integers(-len(values), len(values) - 1), max_size=30)) if len(values) else []
    np.testing.assert_array_equal(source.samples_by_indices_nomapping(chosen)[0], values[np.array(chosen, dtype=int)])


@pytest.mark.parametrize(
    ('members', 'error', 'message'),
    [
        ([], ValueError, 'at least one data source'),
        (numbers(3), TypeError, 'must be a list or tuple of data sources, got ArrayDataSource'),
        ([numbers(3), [Y]], TypeError, 'data source 1 of a ConcatDataSource must be .* got list'),
        ([PlainSource(3)], TypeError, 'data source 0 .* got PlainSource'),
        ([CompositeDataSource([numbers(3)]).map(keep)], TypeError, 'data source 0 .* got CompositeDataSource'),
        ([numbers(3), numbers(3, repeats=2)], ValueError, 'data source 1 .* has repeats=2'),
        ([numbers(3, repeats=-1)], ValueError, 'data source 0 .* has repeats=-1'),
        ([numbers(2, sampler=WeightedSampler([1, 2]))], ValueError, 'data source 0 .* draws by a WeightedSampler'),
        ([numbers(2, sampler=PlainSampler(2))], ValueError, 'data source 0 .* draws by a PlainSampler'),
        ([of_arrays(X), of_arrays(X, Y)], ValueError, 'data source 0 gives 1 arrays, but data source 1 gives 2'),
        ([of_arrays(Y), of_arrays(Y * 1.0)], TypeError, 'array 0 is int64 in data source 0, but float64 in data sou'),
        (
            [of_arrays(Y, X), of_arrays(Y, X[:, :2])],
            ValueError,
            r'array 1 have shape \(3,\) in data source 0, but \(2,',
        ),
    ],
)
def test_members_that_do_not_fit(members, error, message):
    with pytest.raises(error, match=message):
        ConcatDataSource(members)


@pytest.mark.parametrize(
    ('member', 'error', 'message'),
    [
        (Own(X), TypeError, 'array 0 is int64 in data source 0, but float64 in data source 1'),
        (Own(Y, Y), ValueError, 'data source 0 gives 1 arrays, but data source 1 gives 2'),
        (numbers(50).map(lambda y: (y[:-1],)), ValueError, r'array 0 of data source 1 has \d samples, for \d'),
    ],
)
def test_batches_of_members_that_do_not_fit(member, error, message):
    with pytest.raises(error, match=message):
        next(ConcatDataSource([PlainRandomAccess(50), member]).batch_iterator(9, shuffle=1))


def test_members_that_are_read_one_after_the_other_give_equally_many_arrays():
    batches = ConcatDataSource([PlainRandomAccess(50), Own(Y, Y)]).batch_iterator(10)
    assert len([next(batches) for _ in range(5)]) == 5
    with pytest.raises(ValueError, match='data source 0 gives 1 arrays, but data source 1 gives 2'):
        next(batches)


# Kinds of arrays


def masked(x):
    return np.ma.masked_equal(x, 1)


def tensors(x):
    return pytest.importorskip('torch').as_tensor(x)


def series(x):
    return pytest.importorskip('pandas').Series(x, index=np.arange(len(x)) + 1000, name='x')


def frame(x):
    return pytest.importorskip('pandas').DataFrame({'x': x, 'y': x * 2})


class Subclass(np.ndarray):
    """A user's array."""


OWN_KINDS = {
    'masked': masked,
    'tensors': tensors,
    'series': series,
    'frame': frame,
    'subclass': lambda x: x.view(Subclass),
}


def values(array):
    """Return an array with -1 in place of what is masked."""
    return array.filled(-1) if isinstance(array, np.ma.MaskedArray) else np.asarray(array)


def through_map(array):
    return ArrayDataSource([array]).map(keep)


@pytest.mark.parametrize('own', OWN_KINDS.values(), ids=OWN_KINDS)
@pytest.mark.parametrize('member', [lambda array: ArrayDataSource([array]), through_map], ids=['arrays', 'mapped'])
def test_every_batch_is_of_the_kind_of_the_members(own, member):
    whole = own(np.arange(20) % 3)
    parts = ConcatDataSource([member(own(part)) for part in np.split(np.arange(20) % 3, [7, 7, 16])])
    for shuffle in SHUFFLE_ARGUMENTS.values():
        for (batch,), request in zip(parts.batch_iterator(3, shuffle()), parts.plan(3, shuffle())):
            assert type(batch) is type(whole)
            np.testing.assert_array_equal(values(batch), values(whole)[as_array(request.indices)])


@on(['threads', 'fork'])
def test_pools_keep_the_kinds(pool):
    source = ConcatDataSource([ArrayDataSource([masked(part)]) for part in np.split(np.arange(20) % 3, 2)])
    for shuffle in (None, 5):
        batches = list(pool.parallel_data_source(source).batch_iterator(3, shuffle))
        assert_same_batches(batches, source.batch_iterator(3, shuffle))
        for one, other in zip(batches, source.batch_iterator(3, shuffle)):
            np.testing.assert_array_equal(values(one[0]), values(other[0]))


def test_the_labels_of_a_frame_stay_with_their_rows():
    source = ConcatDataSource([ArrayDataSource([series(np.arange(5))]), ArrayDataSource([series(np.arange(9))])])
    for (batch,) in source.batch_iterator(4, shuffle=1):
        assert (batch.index - 1000 == batch).all()
        assert batch.name == 'x'


def test_what_is_put_together_by_no_library_becomes_arrays():
    source = ConcatDataSource([numbers(5).map(lambda x: (x.tolist(),)), numbers(5)])
    assert {type(batch) for (batch,) in source.batch_iterator(2)} == {np.ndarray}


def test_texts_of_different_lengths_are_read_whole():
    def words(*given):
        return ArrayDataSource([np.array(given)]).map(keep)

    source = ConcatDataSource([words('cat', 'dog'), words('horse', 'sparrow')])
    assert next(source.batch_iterator(3, shuffle=3))[0].tolist() == ['horse', 'sparrow', 'dog']


@pytest.mark.parametrize(
    ('one', 'other', 'message'),
    [
        (
            np.asarray,
            masked,
            'array 0 is a numpy.ndarray in data source 0, but a numpy.ma.MaskedArray in data source 2',
        ),
        (np.asarray, tensors, 'but a torch.Tensor in data source 2'),
        (series, frame, 'array 0 is a pandas.Series in data source 0, but a pandas.DataFrame in data source 2'),
    ],
)
def test_kinds_that_differ_are_found_at_once(one, other, message):
    with pytest.raises(TypeError, match=message):
        ConcatDataSource([ArrayDataSource([make(Y)]) for make in (one, one, other)])


def test_kinds_that_are_not_known_are_found_at_a_batch():
    for shuffle in SHUFFLE_ARGUMENTS.values():
        stream = ConcatDataSource([through_map(Y), through_map(masked(Y))]).batch_iterator(50, shuffle())
        with pytest.raises(TypeError, match=r'array 0 is a numpy.* in data source .*; convert one of them'):
            list(stream)


@pytest.mark.parametrize('member', [lambda array: ArrayDataSource([ArrayLike(array)]), through_map])
def test_dtypes_and_shapes_that_are_not_known_are_found_at_a_batch_of_one_member(member):
    for other, error, message in [
        (X.astype('f4'), TypeError, 'array 0 is float64 in data source 0, but float32 in data source 1'),
        (X[:, :2], ValueError, r'array 0 have shape \(3,\) in data source 0, but \(2,\) in data source 1'),
    ]:
        stream = ConcatDataSource([member(X), member(other)]).batch_iterator(len(X))
        next(stream)
        for _ in range(2):
            with pytest.raises(error, match=message):
                next(stream)


class Described(ArrayLike):
    """An array-like that tells its dtype and shape."""

    @property
    def dtype(self):
        return self.array.dtype

    @property
    def shape(self):
        return self.array.shape


class Renamed(ArrayDataSource):
    """A user's subclass that reads as the package does."""


@pytest.mark.parametrize(
    ('members', 'error', 'message'),
    [
        (
            [of_arrays(ArrayLike(X)), of_arrays(ArrayLike(X), Y)],
            ValueError,
            '0 gives 1 arrays, but data source 1 gives 2',
        ),
        ([of_arrays(X), Own(X), of_arrays(ArrayLike(X), Y)], ValueError, '0 gives 1 arrays, but data source 2 gives 2'),
        ([of_arrays(X), ArrayDataSource([X], include_indices=True)], ValueError, '0 gives 1 arrays, but data source 1'),
        (
            [Renamed([X]), ConcatDataSource([of_arrays(X, Y)])],
            ValueError,
            '0 gives 1 arrays, but data source 1 gives 2',
        ),
        ([of_arrays(Described(Y)), of_arrays(Y * 1.0)], TypeError, 'array 0 is int64 in data source 0, but float64'),
        ([of_arrays(ArrayLike(X), Y), of_arrays(X, Y), of_arrays(X[:, :2], Y)], ValueError, r'array 0 .*\(3,\) .*\(2,'),
        ([of_arrays(np.array(['cat'])), of_arrays(np.array(['horse']))], TypeError, 'array 0 is <U3 .* but <U5'),
    ],
)
def test_members_that_differ_are_found_at_once(members, error, message):
    with pytest.raises(error, match=message):
        ConcatDataSource(members)


@pytest.mark.parametrize('part', [{'a': 1}, (X[:9],), [X[:9]]])
def test_members_give_no_nested_batches(part):
    source = ConcatDataSource([numbers(50).map(lambda y: (part,))])
    with pytest.raises(TypeError, match='map the function that makes it over the ConcatDataSource'):
        next(source.batch_iterator(9))


@pytest.mark.parametrize('dtype', ['>i4', '<f8', '>U7', '>M8[ns]', [('a', '>i2'), ('b', '<f4')]])
@pytest.mark.parametrize('make', [np.asarray, np.ma.asarray])
def test_arrays_that_are_joined_keep_their_byte_order(dtype, make):
    data = make(np.zeros(3, dtype))
    joined, _ = next(ConcatDataSource([ArrayDataSource([data, ArrayLike(data)])] * 2).batch_iterator(6, shuffle=42))
    assert joined.dtype == np.dtype(dtype)
    assert joined.dtype.isnative == np.dtype(dtype).isnative


def test_samples_that_are_left_out_are_found_in_order_too():
    with pytest.raises(ValueError, match='array 0 of data source 0 has 8 samples, for 9 indices'):
        next(ConcatDataSource([numbers(50).map(lambda y: (y[:-1],))]).batch_iterator(9))


def test_a_sampler_that_does_not_fit():
    with pytest.raises(ValueError, match='give either sampler or repeats=2'):
        ConcatDataSource([numbers(3)], repeats=2, sampler=PlainSampler(3))
    with pytest.raises(IndexError, match='index 6 is out of range for 6 samples'):
        ConcatDataSource([numbers(3), numbers(3)], indices=[6])
