"""Batches whose arrays are within tuples, named tuples, lists and dicts: counted, cut and joined alike."""

from collections import OrderedDict, UserDict, defaultdict, namedtuple
from types import MappingProxyType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchup._ground.batch import head, row_counts
from batchup.data_source import CompositeDataSource, merge
from batchup.padding import RaggedArray

from ..cases import PlainSource, assert_same_batches, keep, numbers
from ..harness.pools import on

Pair = namedtuple('Pair', 'left right')

# Ways to put two arrays into one part of a batch.
STRUCTURES = {
    'tuple': lambda a, b: (a, b),
    'list': lambda a, b: [a, b],
    'dict': lambda a, b: {'a': a, 'b': b},
    'named tuple': Pair,
    'ordered dict': lambda a, b: OrderedDict(z=a, b=b),
    'dicts within': lambda a, b: {'a': {'b': [a]}, 'c': ({}, b)},
    'beside no arrays': lambda a, b: {'name': 'abc', 'a': a, 'none': None, 'number': 3, 'zero': np.array(3), 'b': b},
    'beside values': lambda a, b: [a, [f'sample {k}' for k in b], b.tolist()],
}
structured = pytest.mark.parametrize('name', STRUCTURES)
# With a plan, and without one.
kinds = pytest.mark.parametrize('kind', [numbers, PlainSource])


class Structured:
    """A function to map, which puts the numbers of a batch into a structure, and beside it."""

    def __init__(self, name):
        self.name = name

    def __call__(self, x):
        return STRUCTURES[self.name](x, x * 2), x


def in_a_part(name, source):
    return source.map(Structured(name))


@structured
@kinds
def test_samples_are_counted_through_structures(name, kind):
    source = in_a_part(name, kind(100))
    assert source.batch_map_mean(lambda part, x: x.sum(), 10) == (49.5,)


@structured
@kinds
def test_arrays_are_cut_through_structures(name, kind):
    few = numbers(100).map(lambda x: (x[:3],))
    (part, x, _), *_ = CompositeDataSource([in_a_part(name, kind(100)), few]).batch_iterator(50)
    assert type(part) is type(STRUCTURES[name](x, x))
    assert str(part) == str(STRUCTURES[name](x, x * 2))
    assert x.tolist() == [0, 1, 2]


@structured
@kinds
def test_arrays_are_cut_in_proportion_through_structures(name, kind):
    batches = CompositeDataSource([in_a_part(name, kind(14)), kind(99)]).batch_iterator((4, 12))
    lengths = [(set(row_counts(batch[:2])), len(batch[2])) for batch in batches]
    assert lengths == [({4}, 12)] * 3 + [({2}, 6)]


@kinds
def test_rows_that_functions_leave_out_are_left_out_in_proportion(kind):
    source = CompositeDataSource([in_a_part('dict', kind(12).map(lambda x: (x[x > 2],))), kind(99)])
    for batches in (source.batch_iterator((4, 12)), source.batch_iterator((4, 12), shard=(0, 1))):
        assert [row_counts(batch) for batch in batches] == [[1, 1, 1, 3], [4, 4, 4, 12], [4, 4, 4, 12]]


def test_parts_read_by_index_are_cut_in_proportion():
    source = CompositeDataSource([numbers(12).map(lambda x: (x[x > 2],)), CompositeDataSource([numbers(99)] * 2)])
    read = (source.samples_by_indices(indices) for indices in source.batch_indices_iterator((4, (8, 12))))
    assert_same_batches(read, source.batch_iterator((4, (8, 12))))


def test_ranks_without_a_part_are_not_cut():
    source = CompositeDataSource([numbers(6), numbers(99)])
    lengths = [[row_counts(batch) for batch in source.batch_iterator((2, 6), shard=(k, 3))] for k in range(3)]
    assert lengths == [[[0, 2]] * 3, [[1, 2]] * 3, [[1, 2]] * 3]


@structured
def test_parts_of_ranks_are_those_of_the_batch(name):
    parts = [
        in_a_part(name, numbers(23)).batch_map_concat(lambda part, x, *_: x, 5, shuffle=3, shard=(k, 3), uneven=uneven)
        for uneven in ('share', 'pad')
        for k in range(3)
    ]
    for shared in (parts[:3], parts[3:]):
        np.testing.assert_array_equal(merge(shared)[0], np.arange(23))


@structured
@on(['threads', 'fork'])
def test_structures_come_from_pools(pool, name):
    source = in_a_part(name, numbers(30))
    pooled = pool.parallel_data_source(source).batch_iterator(4)
    assert [str(batch) for batch in pooled] == [str(batch) for batch in source.batch_iterator(4)]


# Trees of arrays and other values, as functions that build them of the array of a batch.
LEAVES = st.sampled_from(
    [lambda x: x, lambda x: x.tolist(), lambda x: 'abc', lambda x: None, lambda x: x[:, None] * [1, 2]]
)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(lambda parts: lambda x: tuple(part(x) for part in parts), st.lists(inner, max_size=3)),
        st.builds(lambda parts: lambda x: [x, *(part(x) for part in parts)], st.lists(inner, max_size=3)),
        st.builds(lambda parts: lambda x: {k: part(x) for k, part in enumerate(parts)}, st.lists(inner, max_size=3)),
        st.builds(lambda left, right: lambda x: Pair(left(x), right(x)), inner, inner),
    ),
)


@given(TREES, st.integers(1, 9), st.integers(1, 9), st.integers(1, 4), st.sampled_from([numbers, PlainSource]))
def test_any_structure_is_counted_cut_and_joined(build, n, few, count, kind):
    source = kind(8).map(lambda x: (build(x), x))
    batches = CompositeDataSource([source, numbers(8).map(lambda x: (x[:few],))]).batch_iterator(n)
    for number, batch in enumerate(batches):
        x = np.arange(number * n, min(8, (number + 1) * n))[:few]
        assert str(batch) == str((build(x), x, x))
    shared = numbers(8).map(lambda x: (build(x), x))
    sums = [shared.batch_map_mean(lambda part, x: x.sum(), n, shard=(k, count)) for k in range(count)]
    assert merge(sums) == (3.5,)


@pytest.mark.parametrize('kind', [dict, OrderedDict, UserDict, lambda pairs: defaultdict(list, pairs)])
def test_mappings_keep_their_kind(kind):
    given = kind({'a': np.arange(5), 'b': 'abc'})
    (cut,) = head((given,), 2)
    assert type(cut) is type(given)
    assert (cut['a'].tolist(), cut['b'], len(given['a'])) == ([0, 1], 'abc', 5)


def test_other_mappings_become_dicts():
    assert str(head((MappingProxyType({'a': np.arange(5)}),), 2)) == str(({'a': np.arange(2)},))


def test_arrays_of_all_kinds_have_rows():
    arrays = [np.zeros((7, 3)), np.ma.zeros(7), RaggedArray.from_list([[1]] * 7), range(7), [1.5] * 7, [None] * 7]
    assert row_counts(arrays) == [7] * 6


def test_frames_and_series_are_cut_by_position():
    pandas = pytest.importorskip('pandas')
    frame = pandas.DataFrame({'a': [1, 2, 3]}, index=[0.5, 1.5, 2.5])
    cut = head((frame, frame.a), 2)
    assert [len(part) for part in cut] == row_counts(cut) == [2, 2]


def test_tensors_and_sparse_matrices_have_rows():
    torch, sparse = pytest.importorskip('torch'), pytest.importorskip('scipy.sparse')
    matrix = sparse.coo_matrix(np.eye(4))
    assert row_counts([torch.zeros(4, 2), matrix, matrix.tocsr(), torch.tensor(3)]) == [4, 4, 4]
    assert row_counts(head([matrix.tocsr(), torch.zeros(4)], 2)) == [2, 2]


@pytest.mark.parametrize('part', [('abc',), ({'a': 'abc', 'b': 3},), (np.array(3), None, {1, 2}, b'abc', int)])
def test_batches_without_arrays_cannot_be_counted(part):
    with pytest.raises(ValueError, match='a batch without arrays has no number of samples'):
        numbers(5).map(lambda x: part).batch_map_mean(lambda *parts: 1, 5)


# Composites.


def test_a_composite_joins_one_level():
    ab = numbers(9).map(lambda x: (x, -x))
    flat = CompositeDataSource([ab, numbers(9)])
    batch = next(CompositeDataSource([flat, CompositeDataSource([ab, numbers(9)], flatten=False)]).batch_iterator(2))
    x = np.arange(2)
    assert str(batch) == str((x, -x, x, (x, -x), (x,)))


@kinds
@structured
def test_what_a_function_returns_as_a_part_stays_a_part(name, kind):
    members = [in_a_part(name, kind(9)), numbers(9)]
    part, x, other = next(CompositeDataSource(members).batch_iterator(50))
    assert str(part) == str(STRUCTURES[name](x, x * 2))
    assert len(other) == 9


def test_a_composite_reads_by_index_as_it_iterates():
    nested = CompositeDataSource([numbers(9), numbers(9)], flatten=False)
    source = CompositeDataSource([CompositeDataSource([nested, numbers(9)]), numbers(9)])
    read = (source.samples_by_indices(indices) for indices in source.batch_indices_iterator(2))
    assert_same_batches(read, source.batch_iterator(2))


# Functions must keep together what belongs together.


def large_ones(x, y=None):
    return x[x > 2], x


@kinds
def test_arrays_of_different_lengths_are_an_error_at_their_batch(kind):
    stream = kind(6).map(large_ones).batch_iterator(3)
    with pytest.raises(
        ValueError, match=r'large_ones returned arrays of lengths 0, 3 .* map\(fn, same_length=False\)'
    ) as error:
        next(stream)
    assert 'in batch 0' in error.value.__notes__[0]
    assert stream.skip(1) == 1
    assert len(next(stream)[0]) == 3


def test_arrays_read_by_index_must_have_one_length():
    with pytest.raises(ValueError, match='large_ones returned arrays of lengths 1, 2 for arrays of lengths 2, so'):
        numbers(5).map(large_ones).samples_by_indices([1, 4])


@pytest.mark.parametrize('name', [name for name in STRUCTURES if name != 'beside values'])
def test_different_lengths_are_seen_through_structures(name):
    with pytest.raises(ValueError, match='of lengths 1, 4'):
        next(numbers(4).map(lambda x: (STRUCTURES[name](x[:1], x),)).batch_iterator(4))


@on(['threads', 'fork', 'process_executor'])
def test_workers_see_different_lengths(pool):
    stream = pool.parallel_data_source(numbers(40).map(large_ones)).batch_iterator(10)
    with pytest.raises(ValueError, match='of lengths 7, 10') as error:
        next(stream)
    assert 'in batch 0 of epoch 0, with indices' in ''.join(error.value.__notes__)


@kinds
def test_different_lengths_may_be_meant(kind):
    source = kind(6).map(large_ones, same_length=False)
    assert [row_counts(batch) for batch in source.batch_iterator(4)] == [[1, 4], [2, 2]]
    # The first array says how many samples there are.
    assert source.batch_map_mean(lambda large, x: large.sum(), 4) == (4.0,)


def test_parts_that_differ_by_themselves_may_be_mapped():
    source = CompositeDataSource([numbers(8), numbers(24)]).map(keep)
    assert [row_counts(batch) for batch in source.batch_iterator((4, 12))] == [[4, 12], [4, 12]]
    with pytest.raises(ValueError, match='of lengths 1, 4, 12 for arrays of lengths 4, 12'):
        next(source.map(lambda x, y: (x[:1], x, y)).batch_iterator((4, 12)))


@pytest.mark.parametrize('wrong', [1, 'no', None, np.array(True)])
def test_same_length_is_a_boolean(wrong):
    with pytest.raises(TypeError, match='same_length must be True or False, got'):
        numbers(5).map(keep, same_length=wrong)
    assert numbers(5).map(keep, same_length=np.bool_(False)).num_samples() == 5


# A mask of padding is for the rows of samples.


def test_a_mask_of_padding_needs_the_rows_that_were_read():
    stream = numbers(9).map(lambda x: (np.repeat(x, 2),)).batch_iterator(4, shard=(0, 3), uneven='pad')
    with pytest.raises(ValueError, match=r"uneven='pad' cannot tell which .* a batch of 4 rows of one of 2") as error:
        next(stream)
    assert 'in batch 0' in error.value.__notes__[0]


@structured
def test_a_mask_of_padding_is_appended_to_structures(name):
    plain = numbers(9).batch_iterator(4, shard=(2, 3), uneven='pad')
    for (*_, x, mask), (other, expected) in zip(
        in_a_part(name, numbers(9)).batch_iterator(4, shard=(2, 3), uneven='pad'), plain
    ):
        assert (x.tolist(), mask.tolist()) == (other.tolist(), expected.tolist())
