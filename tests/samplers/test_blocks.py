"""Orders of blocks: which blocks are open at a time, how evenly they come, and their default size."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchup.data_source import ArrayDataSource, CompositeDataSource, ConcatDataSource
from batchup.errors import StateMismatchError
from batchup.sampling import BlockShuffle, FullShuffle

from ..arrays.chunked import Chunked
from ..cases import keep, numbers


@given(st.integers(1, 300), st.integers(1, 400), st.integers(1, 50), st.integers(0, 1000))
def test_an_order_of_blocks_is_a_permutation(length, block_size, window, seed):
    order = BlockShuffle(seed, block_size, window=window).order(length)[:]
    np.testing.assert_array_equal(np.sort(order), np.arange(length))


def most_open(blocks):
    """Return from how many blocks at a time some samples, but not all, have come."""
    places, numbers = np.arange(len(blocks)), np.arange(blocks.max() + 1)
    first, last = np.full(len(numbers), len(blocks)), np.zeros(len(numbers), int)
    np.minimum.at(first, blocks, places)
    np.maximum.at(last, blocks, places)
    changes = np.bincount(first, minlength=len(blocks) + 1) - np.bincount(last + 1, minlength=len(blocks) + 1)
    return changes.cumsum().max()


@pytest.mark.parametrize(
    ('length', 'block_size', 'window'),
    [(10_000, 10, 4), (10_000, 10, 1), (10_003, 10, 7), (20_005, 7, 100), (10_000, 1, 16), (500, 7, 70), (50, 7, 99)],
)
def test_a_reader_that_keeps_one_more_than_the_window_reads_each_block_once(length, block_size, window):
    for seed in range(5):
        blocks = BlockShuffle(seed, block_size, window=window).order(length)[:] // block_size
        assert most_open(blocks) <= window + 1


def test_whole_blocks_fill_the_window_exactly():
    assert most_open(BlockShuffle(5, 100, window=16).order(10_000)[:] // 100) == 16


def test_a_window_slides():
    """From place to place, as many blocks are left behind as places: never all, and never none."""
    blocks = BlockShuffle(5, 1000, window=16).order(200_000)[:].reshape(-1, 1000) // 1000
    sets = [set(part.tolist()) for part in blocks]
    for lag in (4, 8, 12, 16, 20):
        shared = [len(sets[k] & sets[k + lag]) for k in range(16, 180 - lag)]
        assert max(0, 15 - lag) <= min(shared)
        assert max(shared) <= max(0, 17 - lag)


def test_the_first_samples_and_the_last_are_of_as_many_blocks_as_others():
    batches = BlockShuffle(5, 1000, window=64).order(1_000_000)[:999_936].reshape(-1, 256) // 1000
    counts = np.array([len(np.unique(batch)) for batch in batches])
    assert min(counts[:20].mean(), counts[-20:].mean()) > 0.85 * counts.mean()
    assert counts.min() > 0.75 * counts.mean()


def test_the_order_of_blocks_is_spread_over_the_data():
    """Of 16 blocks that follow each other, most sixteenths of the data have one."""
    blocks = BlockShuffle(5, 1, window=1).order(16_000)[:]
    counts = np.array([np.bincount(part // 1000, minlength=16) for part in blocks.reshape(-1, 16)])
    assert counts.var() < 0.5  # 1 for a random order


def test_all_blocks_in_the_window_are_shuffled_as_a_whole():
    for length in (0, 1, 150, 160):
        np.testing.assert_array_equal(BlockShuffle(3, 10, window=16).order(length)[:], FullShuffle(3).order(length)[:])


def test_blocks_and_their_samples_change_places_in_every_epoch():
    shuffle = BlockShuffle(5, 100, window=4)
    first, second = (shuffle.order(10_000, epoch=epoch)[:400] for epoch in range(2))
    assert set((first // 100).tolist()) != set((second // 100).tolist())
    assert (np.abs(np.diff(first)) == 1).mean() < 0.03


def test_a_short_last_block_is_at_any_place():
    places = {BlockShuffle(seed, 10, window=1).order(95)[:].tolist().index(94) // 10 for seed in range(100)}
    assert places == set(range(10))


# The default size of blocks.


def in_chunks(*chunks, length=6000, **arguments):
    """Make a source over an array for each size of chunks; `None` for a plain array."""
    data = np.arange(length)
    return ArrayDataSource([Chunked(data, rows) if rows else data for rows in chunks], **arguments)


def first_indices(source, shuffle):
    return source.plan(500, shuffle)[0].indices


@pytest.mark.parametrize(
    ('chunks', 'block_size'),
    [
        ((50,), 50),
        ((None, 50), 50),
        ((40, 60), 120),
        ((65_536, 65_535), 65_536),
        ((100_000,), 100_000),
        ((None,), 1024),
    ],
)
def test_blocks_are_the_chunks_of_the_storage(chunks, block_size):
    given, found = (first_indices(in_chunks(*chunks), BlockShuffle(3, size, window=2)) for size in (block_size, None))
    np.testing.assert_array_equal(found, given)


def test_without_a_source_blocks_have_the_default_size():
    np.testing.assert_array_equal(*(BlockShuffle(3, *size).order(100_000)[:] for size in ((), (1024,))))


def test_a_size_that_is_given_is_kept():
    shuffle = BlockShuffle(3, 7, window=2)
    np.testing.assert_array_equal(first_indices(in_chunks(50), shuffle), first_indices(in_chunks(None), shuffle))


def test_members_have_blocks_of_their_own_chunks():
    parts = first_indices(CompositeDataSource([in_chunks(50), in_chunks(70).map(keep)]), BlockShuffle(3, window=2))
    given = CompositeDataSource([numbers(6000)] * 2)
    for number, size in enumerate((50, 70)):
        np.testing.assert_array_equal(parts[number], first_indices(given, BlockShuffle(3, size, window=2))[number])


def test_concatenated_members_have_common_blocks():
    source = ConcatDataSource([in_chunks(50), in_chunks(75).map(keep), numbers(100)])
    expected = BlockShuffle(3, 150, window=2).order(12_100)[:500]
    np.testing.assert_array_equal(first_indices(source, BlockShuffle(3, window=2)), expected)


@pytest.mark.parametrize('make', [in_chunks, lambda *chunks: ConcatDataSource([in_chunks(*chunks)])])
def test_states_are_refused_by_a_source_with_other_chunks(make):
    shuffle = BlockShuffle(3, window=2)
    state = make(50).batch_iterator(500, shuffle=shuffle).state_dict()
    assert 'in blocks of 50' in state['plan']
    make(50).batch_iterator(500, shuffle=shuffle).load_state_dict(state)
    with pytest.raises(StateMismatchError, match='in blocks of 60'):
        make(60).batch_iterator(500, shuffle=shuffle).load_state_dict(state)
