"""Properties of iteration over any sizes, against what is easily counted."""

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchup.data_source import ArrayDataSource, ChoiceDataSource, CompositeDataSource
from batchup.sampling import BlockShuffle

LENGTHS = st.integers(0, 50)
BATCH_SIZES = st.integers(1, 60)
REPEATS = st.sampled_from([-1, 1, 2, 3, 7])
# Those that give the same order when they are made again.
REPEATABLE = [
    lambda: None,
    lambda: False,
    lambda: 42,
    lambda: np.random.RandomState(1),
    lambda: np.random.default_rng(1),
    lambda: BlockShuffle(1, 3, window=4),
]
repeatable = st.sampled_from(REPEATABLE)
SHUFFLES = st.sampled_from([*REPEATABLE, lambda: True])
SEQUENTIAL = (np.random.RandomState, np.random.Generator)


@st.composite
def subsets(draw):
    """Draw data, and indices into it: all, or some with duplicates and negative ones."""
    n = draw(LENGTHS)
    data = [np.arange(n) * 3, np.random.RandomState(n).rand(n, 2)]
    if n == 0 or draw(st.booleans()):
        return data, None
    return data, draw(st.lists(st.integers(-n, n - 1), max_size=60))


@st.composite
def iterations(draw, shuffles=SHUFFLES):
    """Draw a source, the samples of a repetition, and arguments of `batch_iterator`."""
    data, indices = draw(subsets())
    repeats = draw(REPEATS)
    source = ArrayDataSource(data, indices=indices, repeats=repeats, include_indices=True)
    samples = np.arange(len(data[0])) if indices is None else np.array(indices, dtype=int)
    arguments = {'batch_size': draw(BATCH_SIZES), 'drop_last': draw(st.booleans())}
    return source, samples, repeats, arguments, draw(shuffles)


@st.composite
def plans(draw):
    """Draw what makes the same plan again and again, and the number of one of its batches."""
    source, _, _, arguments, _ = draw(iterations())
    plan = source.plan(shuffle=42, **arguments)
    if plan.length == 0:  # one sample, in a batch that is not left out
        source, arguments = ArrayDataSource([np.arange(1)]), {**arguments, 'drop_last': False}
    length = min(source.plan(shuffle=42, **arguments).length, 100)
    return lambda: source.plan(shuffle=42, **arguments), draw(st.integers(0, length - 1))


def take(stream, samples, batch_size):
    """Take all batches; of an endless stream, a few repetitions."""
    return list(itertools.islice(stream, None if stream.length != np.inf else 1 + 3 * len(samples) // batch_size))


@given(iterations())
def test_every_sample_exactly_once_per_repetition(case):
    source, samples, _, arguments, shuffle = case
    batches = take(source.batch_iterator(shuffle=shuffle(), **arguments), samples, arguments['batch_size'])
    drawn = np.concatenate([batch[0] for batch in batches]) if batches else np.array([], int)
    assert len(drawn) > 0 or len(samples) == 0 or arguments['drop_last']
    for start in range(0, len(drawn), max(1, len(samples))):
        repetition = drawn[start : start + len(samples)]
        excess = Counter(repetition.tolist()) - Counter(samples.tolist())
        assert not excess


@given(iterations())
def test_sizes_and_len_are_exact(case):
    source, samples, repeats, arguments, shuffle = case
    stream = source.batch_iterator(shuffle=shuffle(), **arguments)
    batch_size = arguments['batch_size']
    sizes = [len(batch[0]) for batch in take(stream, samples, batch_size)]
    if stream.length == np.inf:
        assert repeats == -1
        assert set(sizes) <= {batch_size}
        return
    total = len(samples) * abs(repeats)
    expected = [batch_size] * (total // batch_size)
    if total % batch_size and not arguments['drop_last']:
        expected.append(total % batch_size)
    assert sizes == expected
    assert len(stream) == len(expected)


@given(iterations())
def test_batches_equal_the_data_at_their_indices(case):
    source, samples, _, arguments, shuffle = case
    for indices, *arrays in take(
        source.batch_iterator(shuffle=shuffle(), **arguments), samples, arguments['batch_size']
    ):
        for array, data in zip(arrays, source.data):
            np.testing.assert_array_equal(array, data[indices])
            assert array.dtype == data.dtype


@given(iterations())
def test_batches_in_order_follow_the_samples(case):
    source, samples, _, arguments, _ = case
    batches = take(source.batch_iterator(**arguments), samples, arguments['batch_size'])
    drawn = np.concatenate([batch[0] for batch in batches]) if batches else np.array([], int)
    np.testing.assert_array_equal(drawn, np.resize(samples, len(drawn)))


@given(plans())
def test_a_plan_is_pure(case):
    make, number = case
    plan, again = make(), make()
    later = plan[min(number + 3, plan.length - 1)]
    np.testing.assert_array_equal(plan[number].indices, again[number].indices)
    np.testing.assert_array_equal(later.indices, again[later.number].indices)


@given(plans(), st.integers(1, 70))
def test_windows_are_the_batches_side_by_side(case, limit):
    make, number = case
    plan, window = make(), make().window(number, limit)
    requests = list(window.split())
    assert 1 <= len(requests) == window.n_batches <= limit
    for request in requests:
        np.testing.assert_array_equal(request.indices, plan[request.number].indices)


@given(iterations(repeatable), st.integers(0, 12))
def test_a_state_restores_the_rest(case, position):
    source, _, _, arguments, shuffle = case
    saved = source.batch_iterator(shuffle=shuffle(), **arguments)
    for _ in range(position):
        next(saved, None)
    resumed = source.batch_iterator(shuffle=shuffle(), **arguments)
    resumed.load_state_dict(saved.state_dict())
    for _ in range(5):
        for one, other in zip(next(saved, ()), next(resumed, ()), strict=True):
            np.testing.assert_array_equal(one, other)


@given(st.lists(LENGTHS, min_size=1, max_size=4), BATCH_SIZES, SHUFFLES, st.booleans(), st.booleans())
def test_len_of_joined_sources_is_exact(lengths, batch_size, shuffle, stratified, drop_last):
    members = [ArrayDataSource([np.arange(n)]) for n in lengths]
    for source in (CompositeDataSource(members), ChoiceDataSource(members, stratified)):
        stream = source.batch_iterator(batch_size, shuffle=shuffle(), drop_last=drop_last)
        count = len(list(stream))
        assert stream.length == count or (
            stream.length is None and (shuffle() is True or isinstance(shuffle(), SEQUENTIAL))
        )


@given(st.lists(LENGTHS, min_size=1, max_size=4), BATCH_SIZES, SHUFFLES)
def test_a_stratified_choice_uses_every_sample_once(lengths, batch_size, shuffle):
    members = [ArrayDataSource([np.arange(n) + 100 * k]) for k, n in enumerate(lengths)]
    batches = list(ChoiceDataSource(members, stratified=True).batch_iterator(batch_size, shuffle=shuffle()))
    drawn = np.concatenate([batch[0] for batch in batches]) if batches else np.array([], int)
    expected = np.concatenate([np.arange(n) + 100 * k for k, n in enumerate(lengths)])
    np.testing.assert_array_equal(np.sort(drawn), expected)


@given(st.integers(1, 40), BATCH_SIZES, st.integers(1, 9), repeatable)
def test_shards_partition_every_batch_evenly(n, batch_size, count, shuffle):
    source = ArrayDataSource([np.arange(n)])
    ranks = [list(source.batch_iterator(batch_size, shuffle=shuffle(), shard=(rank, count))) for rank in range(count)]
    whole = source.batch_iterator(batch_size, shuffle=shuffle())
    for parts, batch in zip(zip(*ranks, strict=True), whole, strict=True):
        sizes = [len(part[0]) for part in parts]
        assert max(sizes) - min(sizes) <= 1
        np.testing.assert_array_equal(np.concatenate([part[0] for part in parts]), batch[0])


@pytest.mark.slow
@settings(max_examples=5000)
@given(iterations())
def test_sizes_and_len_are_exact_at_length(case):
    test_sizes_and_len_are_exact.hypothesis.inner_test(case)


@pytest.mark.slow
@settings(max_examples=5000)
@given(iterations())
def test_every_sample_exactly_once_at_length(case):
    test_every_sample_exactly_once_per_repetition.hypothesis.inner_test(case)
