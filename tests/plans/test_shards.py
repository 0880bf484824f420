"""Shards: what the ranks of a run have of every batch, together and each for itself."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchup._ground.batch import leaves
from batchup.data_source import ArrayDataSource, CallableDataSource, ChoiceDataSource, CompositeDataSource
from batchup.sampling import WeightedSampler

from ..cases import (
    ARRANGED,
    BATCH_SIZE,
    DRAWN,
    DRAWN_SHUFFLES,
    ENDLESS,
    PURE_SHUFFLES,
    RANDOM_ACCESS,
    SHUFFLES,
    UNORDERED,
    assert_same_batches,
    numbers,
)
from ..harness.pools import on

# A random function draws other numbers in each rank.
ALL = {name: make for name, make in {**RANDOM_ACCESS, **ARRANGED, **DRAWN, **ENDLESS}.items() if 'map_' not in name}

# One array cannot tell of the padding of parts that differ in length.
EVEN = [name for name in ALL if name != 'composite_nested']


def batches_of(name, shuffle, count=1, rank=None, **kwargs):
    """Return some batches of a source, those of one rank or whole ones."""
    arguments = {**SHUFFLES[shuffle](), **kwargs}
    if shuffle == 'in_order' and name in UNORDERED:
        arguments['shuffle'] = 7
    stream = ALL[name]().batch_iterator(BATCH_SIZE, shard=None if rank is None else (rank, count), **arguments)
    return list(itertools.islice(stream, 9))


def ranks_of(name, shuffle, count, **kwargs):
    """Return the batches of every rank."""
    return [batches_of(name, shuffle, count, rank, **kwargs) for rank in range(count)]


def joined(parts):
    """Put the parts of one batch side by side, array by array."""
    return tuple(np.concatenate(arrays) for arrays in zip(*(leaves(part) for part in parts)))


every = pytest.mark.parametrize('name', ALL)
even = pytest.mark.parametrize('name', EVEN)
# In few and in many parts; orders that are drawn are cut as seeded ones.
KINDS = [*itertools.product(PURE_SHUFFLES, [3, 7]), *zip(DRAWN_SHUFFLES, [3, 7])]


@every
def test_the_parts_of_all_ranks_are_the_batch(name):
    for shuffle, count in KINDS:
        ranks, whole = ranks_of(name, shuffle, count), batches_of(name, shuffle)
        assert {len(batches) for batches in ranks} == {len(whole)}
        for parts, batch in zip(zip(*ranks), whole):
            assert_same_batches([joined(parts)], [tuple(leaves(batch))])
            for lengths in zip(*([len(array) for array in leaves(part)] for part in parts)):
                assert max(lengths) - min(lengths) <= 1


@every
def test_what_cannot_be_shared_evenly_is_dropped(name):
    for shuffle, count in KINDS:
        ranks, whole = ranks_of(name, shuffle, count, uneven='drop'), batches_of(name, shuffle)
        assert {len(batches) for batches in ranks} == {len(whole)}
        for parts, batch in zip(zip(*ranks), whole):
            for together, array in zip(joined(parts), leaves(batch)):
                np.testing.assert_array_equal(together, array[: len(array) // count * count])


@even
def test_padded_parts_are_equally_long_and_are_the_batch_without_what_pads_them(name):
    for shuffle, count in KINDS:
        ranks, whole = ranks_of(name, shuffle, count, uneven='pad'), batches_of(name, shuffle)
        assert {len(batches) for batches in ranks} == {len(whole)}
        for parts, batch in zip(zip(*ranks), whole):
            assert len({len(array) for part in parts for array in leaves(part)}) == 1
            *together, real = joined(parts)
            assert_same_batches([tuple(array[real] for array in together)], [tuple(leaves(batch))])


def test_a_part_is_padded_by_its_last_sample():
    parts = [next(numbers(7).batch_iterator(7, shard=(rank, 3), uneven='pad')) for rank in range(3)]
    assert [part[0].tolist() for part in parts] == [[0, 1, 1], [2, 3, 3], [4, 5, 6]]
    assert [part[-1].tolist() for part in parts] == [[True, True, False], [True, True, False], [True] * 3]


def test_a_part_without_samples_is_padded_by_the_first_of_the_batch():
    parts = [next(numbers(2).batch_iterator(4, shard=(rank, 3), uneven='pad')) for rank in range(3)]
    assert [(part[0].tolist(), part[-1].tolist()) for part in parts] == [([0], [False]), ([0], [True]), ([1], [True])]


@pytest.mark.parametrize('batch_size', [(4, 8), 11])
def test_parts_of_different_lengths_cannot_be_padded(batch_size):
    source = CompositeDataSource([numbers(9), numbers(30)], trim=False)
    with pytest.raises(ValueError, match='parts are equally long'):
        next(source.batch_iterator(batch_size, shard=(0, 2), uneven='pad'))


def test_a_member_that_starts_again_beside_a_function_tells_of_its_padding():
    function = CallableDataSource(lambda batch_size, **_: iter([(np.zeros(2),)] * 3), 6)
    source = CompositeDataSource([numbers(3), function], stop=1)
    masks = [batch[1].tolist() for batch in source.batch_iterator(3, shard=(0, 2), uneven='pad')]
    assert masks == [[True, False]] * 3


def test_a_single_rank_is_told_of_no_padding():
    x, real = next(numbers(5).batch_iterator(5, uneven='pad'))
    assert len(x) == 5
    assert real.dtype == np.bool_
    assert real.all()


def test_what_tells_of_padding_belongs_to_the_user():
    masks = [batch[-1] for batch in numbers(9).batch_iterator(3, shard=(0, 2), uneven='pad')]
    masks[0][:] = False
    assert masks[1].tolist() == [True, False]


@on(['threads', 'fork'])
def test_pools_make_the_same_parts(pool):
    source = ArrayDataSource([np.arange(50), np.arange(100).reshape(50, 2)])
    parallel = pool.parallel_data_source(source)
    for uneven in ('share', 'drop', 'pad'):
        arguments = {'shuffle': 4, 'shard': (1, 3), 'uneven': uneven}
        assert_same_batches(parallel.batch_iterator(8, **arguments), source.batch_iterator(8, **arguments))


def test_a_thousand_ranks_share_an_epoch():
    source, count = numbers(10_000), 1024
    ranks = [source.batch_iterator(4096, shuffle=3, shard=(rank, count)) for rank in range(count)]
    seen = np.concatenate([x for stream in ranks for x, *_ in stream])
    assert {len(stream) for stream in ranks} == {3}
    assert sorted(seen.tolist()) == list(range(10_000))


def test_a_hundred_ranks_of_a_mixture_see_its_batches():
    weighted = ArrayDataSource([np.arange(500)], sampler=WeightedSampler(np.arange(500)))
    either = ChoiceDataSource([weighted, ArrayDataSource([np.arange(9)], repeats=-1)])
    source = CompositeDataSource([ArrayDataSource([np.arange(3000)]), either])
    ranks = [list(source.batch_iterator(1500, shuffle=3, shard=(rank, 100))) for rank in range(100)]
    whole = list(source.batch_iterator(1500, shuffle=3))
    assert len(whole) == 2
    for parts, batch in zip(zip(*ranks, strict=True), whole, strict=True):
        assert_same_batches([joined(parts)], [batch])


@given(
    n=st.integers(0, 60),
    batch_size=st.integers(1, 20),
    before=st.integers(1, 5),
    after=st.integers(1, 5),
    saved_at=st.integers(0, 8),
    rank=st.integers(0, 4),
)
def test_a_run_goes_on_with_another_number_of_ranks(n, batch_size, before, after, saved_at, rank):
    source = numbers(n)
    ranks = [source.batch_iterator(batch_size, shuffle=1, shard=(k, before)) for k in range(before)]
    seen = [x for stream in ranks for x, *_ in itertools.islice(stream, saved_at)]
    state = ranks[rank % before].state_dict()
    for k in range(after):
        stream = source.batch_iterator(batch_size, shuffle=1, shard=(k, after))
        stream.load_state_dict(state)
        seen += [x for x, *_ in stream]
    assert sorted(np.concatenate(seen).tolist() if seen else []) == list(range(n))


# The environment.


def test_the_environment_names_the_rank(monkeypatch):
    monkeypatch.setenv('RANK', '1')
    monkeypatch.setenv('WORLD_SIZE', '3')
    stream = numbers(10).batch_iterator(6, shard='env')
    assert_same_batches(stream, numbers(10).batch_iterator(6, shard=(1, 3)))


def test_the_environment_is_read_only_when_it_is_asked_for(monkeypatch):
    monkeypatch.setenv('RANK', '1')
    monkeypatch.setenv('WORLD_SIZE', '3')
    assert len(next(numbers(10).batch_iterator(6))[0]) == 6


@pytest.mark.parametrize(
    ('rank', 'count', 'message'),
    [
        (None, '2', 'RANK, as torchrun .* it is not set'),
        ('0', None, 'WORLD_SIZE, as torchrun .* it is not set'),
        ('one', '2', "RANK, as torchrun .* got 'one'"),
        ('2', '2', r'0 <= rank < count, got \(2, 2\)'),
    ],
)
def test_an_environment_that_names_no_rank(monkeypatch, rank, count, message):
    for name, value in (('RANK', rank), ('WORLD_SIZE', count)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=message):
        numbers(10).batch_iterator(6, shard='env')


@pytest.mark.parametrize('uneven', ['cut', None, True])
def test_an_unknown_way_with_uneven_batches(uneven):
    with pytest.raises(ValueError, match="uneven must be one of 'share', 'drop', 'pad', got"):
        numbers(10).batch_iterator(6, shard=(0, 2), uneven=uneven)
