"""Shuffles as objects: the orders that they give, alone and in plans."""

import functools
import itertools
import pickle
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchup._samplers.feistel import ROUNDS, Feistel
from batchup.data_source import ArrayDataSource, CallableDataSource, ChoiceDataSource
from batchup.errors import SampleIndexError, StateMismatchError
from batchup.sampling import (
    BlockShuffle,
    ComputedShuffle,
    FullShuffle,
    StandardSampler,
    SubsetSampler,
    WeightedSampler,
)

from ..cases import PlainSampler, assert_same_batches, call_batches, jitter, numbers

SHUFFLES = {
    'full': FullShuffle(42),
    'computed': ComputedShuffle(42),
    'blocks': BlockShuffle(42, 1000),
    'small windows': BlockShuffle(42, 7, window=3),
}
every = pytest.mark.parametrize('shuffle', SHUFFLES.values(), ids=SHUFFLES)

# Stored by `ComputedShuffle`, and computed.
LENGTHS = [0, 1, 2, 3, 10, 1000, 65_536, 65_537, 100_003]


@every
def test_an_order_has_every_sample_once(shuffle):
    for length in LENGTHS:
        order = shuffle.order(length)
        assert len(order) == length
        np.testing.assert_array_equal(np.sort(order[:]), np.arange(length))


@given(st.integers(2, 10_000), st.integers(0, 1000))
def test_a_feistel_network_is_a_permutation(length, seed):
    keys = np.random.PCG64(seed).random_raw(ROUNDS)
    np.testing.assert_array_equal(np.sort(Feistel(length, keys)(np.arange(length))), np.arange(length))


@functools.cache
def whole_order(shuffle, length):
    return shuffle.order(length)[:]


@given(st.sampled_from(list(SHUFFLES.values())), st.sampled_from([50, 70_001]), st.data())
def test_any_access_gives_the_same_order(shuffle, length, data):
    whole, order = whole_order(shuffle, length), shuffle.order(length)
    places = data.draw(st.lists(st.integers(-length, length - 1), max_size=20))
    np.testing.assert_array_equal(order(places), whole[np.array(places, int)])
    run = slice(*data.draw(st.tuples(*[st.integers(-length, length)] * 2)))
    np.testing.assert_array_equal(order[run], whole[run])
    assert [order[k] for k in places] == whole[np.array(places, int)].tolist()


@every
def test_slices_have_steps(shuffle):
    order = shuffle.order(100)
    np.testing.assert_array_equal(order[5:90:2], order[:][5:90:2])
    for step in (-1, -3):
        np.testing.assert_array_equal(order[90:5:step], order[:][90:5:step])


@every
def test_what_an_order_gives_belongs_to_the_user(shuffle):
    order = shuffle.order(20)
    for part in (order[:], order[3:], order([1, 2])):
        before = order[:]
        part[:] = -1
        np.testing.assert_array_equal(order[:], before)


@pytest.mark.parametrize('shuffle', [ComputedShuffle(3), BlockShuffle(3, 1000), BlockShuffle(3, 1, window=1)])
@pytest.mark.parametrize('length', [2**40, 2**63 - 1, 2**63])
def test_enormous_orders_have_valid_samples_at_both_ends(shuffle, length):
    order = shuffle.order(length)
    first, last = order[:1000], order[length - 1000 :]
    indices = np.concatenate([first, last])
    assert indices.min() >= 0
    assert int(indices.max()) < length
    assert len(np.unique(indices)) == 2000
    np.testing.assert_array_equal(order([0, -1]), indices[[0, -1]])


@every
def test_epochs_repetitions_and_seeds_differ(shuffle):
    orders = [shuffle.order(100_000, epoch=e, repetition=r)[:5] for e in range(3) for r in range(3)]
    orders.append(type(shuffle)(**{**vars(shuffle), 'seed': 43}).order(100_000)[:5])
    assert len({tuple(order.tolist()) for order in orders}) == 10


@every
def test_shuffles_are_values(shuffle):
    copied = pickle.loads(pickle.dumps(shuffle))
    assert copied == shuffle == eval(repr(shuffle))
    assert hash(copied) == hash(shuffle)
    with pytest.raises(AttributeError):
        shuffle.seed = 3


def test_numpy_integers_are_integers():
    assert repr(BlockShuffle(np.int64(1), np.uint8(2))) == 'BlockShuffle(seed=1, block_size=2, window=16)'


@pytest.mark.parametrize(
    ('make', 'error', 'message'),
    [
        (lambda: FullShuffle(-1), ValueError, 'seed must be 0 or more, got -1'),
        (lambda: ComputedShuffle(1.0), TypeError, 'seed must be an integer, got 1.0'),
        (lambda: ComputedShuffle(True), TypeError, 'seed must be an integer, got True'),
        (lambda: BlockShuffle(1, 0), ValueError, 'block_size must be at least 1, got 0'),
        (lambda: BlockShuffle(1, float('nan')), TypeError, 'block_size must be an integer, got nan'),
        (lambda: BlockShuffle(1, 5, window=0), ValueError, 'window must be at least 1, got 0'),
        (lambda: BlockShuffle(1, 5, windw=3), TypeError, 'windw'),
        (lambda: FullShuffle(1).order(-1), ValueError, 'length must be 0 or more'),
        (lambda: ComputedShuffle(1).order(2**63 + 1), ValueError, r'length must be 2\*\*63 at most'),
        (lambda: FullShuffle(1).order(5, epoch=-1), ValueError, 'epoch must be 0 or more'),
    ],
)
def test_wrong_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()


@every
def test_wrong_places(shuffle):
    for places, error, message in (
        ([0, 10], SampleIndexError, 'index 10 is out of range for 10 samples'),
        ([-11], SampleIndexError, 'index -11 is out of range'),
        ([True, False], TypeError, r'np\.flatnonzero'),
        ([0.5], TypeError, 'places must be integers'),
        (3, ValueError, 'one dimension'),
    ):
        with pytest.raises(error, match=message):
            shuffle.order(10)(places)


@every
def test_a_wrong_single_place(shuffle):
    for place, error in ((10, IndexError), (-11, IndexError), ('a', TypeError)):
        with pytest.raises(error):
            shuffle.order(10)[place]


# Plans and streams.


@every
@pytest.mark.parametrize('length', [10, 70_000])
def test_a_sampler_goes_through_the_order(shuffle, length):
    plan = StandardSampler(length, repeats=2).plan(999, shuffle, epoch=3)
    expected = [shuffle.order(length, epoch=3, repetition=r)[:] for r in range(2)]
    np.testing.assert_array_equal(np.concatenate([request.indices for request in plan]), np.concatenate(expected))


@every
def test_batches_across_repetitions_and_larger_than_the_data(shuffle):
    plan = StandardSampler(3, repeats=-1).plan(8, shuffle)
    expected = np.concatenate([shuffle.order(3, repetition=r)[:] for r in range(6)])
    np.testing.assert_array_equal(np.concatenate([plan[0].indices, plan[1].indices]), expected[:16])


@every
def test_a_subset_is_shuffled_by_place(shuffle):
    indices = np.arange(500)[::-2]
    plan = SubsetSampler(indices).plan(250, shuffle)
    np.testing.assert_array_equal(plan[0].indices, indices[shuffle.order(250)[:]])


@pytest.mark.parametrize('shuffle', [ComputedShuffle(42), BlockShuffle(42, 1000)])
def test_plans_over_enormous_data_are_lists_that_take_no_time(shuffle):
    length = 2**40 + 17
    plan = StandardSampler(length).plan(64, shuffle)
    assert len(plan) == 2**34 + 1
    assert len(plan[-1].indices) == 17
    np.testing.assert_array_equal(plan[10**9].indices, shuffle.order(length)[64 * 10**9 : 64 * (10**9 + 1)])


@pytest.mark.slow
@pytest.mark.parametrize('shuffle', [ComputedShuffle(42), BlockShuffle(42, 1000)])
@pytest.mark.parametrize('batch_size', [1, 64, 8192])
def test_enormous_data_takes_little_memory(shuffle, batch_size):
    tracemalloc.start()
    plan = StandardSampler(10**9).plan(batch_size, shuffle)
    for number in range(0, 25_000, 256):
        plan.window(number, 256)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3e6


def test_a_window_of_a_computed_order_holds_one_batch_at_least():
    window = StandardSampler(10**6).plan(100_000, ComputedShuffle(1)).window(0, 256)
    assert (window.n_batches, len(window.indices)) == (1, 100_000)


@every
def test_a_state_within_a_large_order_restores_the_rest(shuffle):
    source = numbers(70_000, repeats=2)
    saved = source.batch_iterator(9000, shuffle=shuffle, epoch=1)
    list(itertools.islice(saved, 7))
    resumed = source.batch_iterator(9000, shuffle=shuffle, epoch=1)
    resumed.load_state_dict(saved.state_dict())
    assert_same_batches(resumed, saved)


@every
def test_pools_give_the_same_batches(threads, shuffle):
    source = numbers(70_000)
    parallel = threads.parallel_data_source(source).batch_iterator(1000, shuffle=shuffle)
    assert_same_batches(parallel, source.batch_iterator(1000, shuffle=shuffle))


def test_a_full_shuffle_is_its_seed():
    source = ArrayDataSource([np.arange(20)], indices=np.arange(20)[::-3], repeats=2)
    by_object, by_seed = (source.batch_iterator(3, shuffle=shuffle) for shuffle in (FullShuffle(42), 42))
    assert by_object.state_dict() == by_seed.state_dict()
    assert_same_batches(by_object, by_seed)


@pytest.mark.parametrize('shuffle', [ComputedShuffle(42), BlockShuffle(42, 5), BlockShuffle(42, 5, window=4)])
def test_states_name_the_shuffle(shuffle):
    source = numbers(20)
    state = source.batch_iterator(3, shuffle=shuffle).state_dict()
    assert state['shuffle'] == repr(shuffle)
    with pytest.raises(StateMismatchError, match='shuffle of the state'):
        source.batch_iterator(3, shuffle=42).load_state_dict(state)


def test_random_functions_draw_as_by_the_seed():
    source = numbers(10).map(jitter, rng=True)
    drawn = [[batch[1] for batch in source.batch_iterator(3, shuffle=s)] for s in (42, BlockShuffle(42, 2))]
    np.testing.assert_array_equal(*map(np.concatenate, drawn))


def test_random_functions_over_a_callable_draw_as_by_the_seed():
    source = CallableDataSource(call_batches).map(jitter, rng=True)
    drawn = [[batch[1] for batch in source.batch_iterator(4, shuffle=s)] for s in (42, ComputedShuffle(42))]
    np.testing.assert_array_equal(*map(np.concatenate, drawn))


@pytest.mark.parametrize('sampler', [WeightedSampler(np.arange(1, 10)), PlainSampler(9)])
def test_other_samplers_draw_by_the_seed(sampler):
    plans = [sampler.plan(4, shuffle) for shuffle in (42, ComputedShuffle(42), BlockShuffle(42, 3))]
    for plan in plans[1:]:
        np.testing.assert_array_equal(plan[1].indices, plans[0][1].indices)


@pytest.mark.parametrize('stratified', [False, True])
def test_members_are_chosen_by_the_seed(stratified):
    source = ChoiceDataSource([numbers(30), numbers(25), numbers(40)], stratified=stratified)
    chosen = [
        [batch.ds_index for batch in source.batch_indices_iterator(5, shuffle=shuffle)]
        for shuffle in (42, BlockShuffle(42, 5))
    ]
    assert chosen[0] == chosen[1]
