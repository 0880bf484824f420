"""Samplers, sources, shuffles, shards, states and pools in random combinations, against brute force."""

import itertools
import re

import numpy as np
import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from batchup.batch import leaves
from batchup.data_source import ArrayDataSource, ChoiceDataSource, CompositeDataSource, ConcatDataSource
from batchup.indices import ChoiceBatch, as_array
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
from batchup.work_pool import WorkerThreadPool

from .cases import PlainSampler, assert_same_batches, jitter

SEEDED = {
    'seed': lambda: 5,
    'computed': lambda: ComputedShuffle(5),
    'blocks': lambda: BlockShuffle(5, 3, window=2),
}
DRAWN = {'random_state': lambda: np.random.RandomState(5), 'generator': lambda: np.random.default_rng(5)}

# What a sequential generator has not drawn yet is not known, and nothing starts again if it has no full batch.
REFUSED = 'needs to know the number of batches|has no batches, and so cannot start again'

seeds = st.sampled_from(list(SEEDED))
shuffles = st.sampled_from([*SEEDED, *DRAWN])


def make_shuffle(kind):
    return {**SEEDED, **DRAWN}[kind]()


@st.composite
def samplers(draw, n, batch_size):
    """Draw what makes a sampler over n samples, whose batches may have this size."""
    seed, repeats = draw(st.integers(0, 5)), draw(st.integers(1, 3))

    def values():
        return np.random.RandomState(seed)

    kinds = {
        'standard': lambda: StandardSampler(n, repeats),
        'subset': lambda: SubsetSampler(values().randint(-n, n, 2 * n), repeats),
        'weighted': lambda: WeightedSampler(values().rand(n), n_samples=2 * n),
        'distinct': lambda: WeightedSampler(values().rand(n), replace=False),
        'weighted_subset': lambda: WeightedSubsetSampler(values().rand(n) + 1, values().randint(0, n, n), n_samples=n),
        'groups': lambda: GroupSampler(values().randint(0, 5, n), repeats=repeats),
        'buckets': lambda: BucketSampler(values().randint(0, 9, n), max_elements=40, repeats=repeats),
        'plain': lambda: PlainSampler(n),
        'quotas': lambda: QuotaSampler(np.arange(n) % 2, [batch_size // 2, batch_size - batch_size // 2]),
    }
    if batch_size % 2 == 0:
        kinds['pk'] = lambda: PKSampler(np.arange(n) % 3, p=2, k=batch_size // 2)
    return kinds[draw(st.sampled_from(list(kinds)))]


@st.composite
def trees(draw, batch_size, depth=2):
    """Draw what makes a source of any kind, of sources of any kind."""
    kinds = ['array', 'concat', 'composite', 'choice', 'stratified', 'weighted', 'map']
    kind = draw(st.sampled_from(kinds if depth else kinds[:2]))
    if kind in kinds[:2]:
        n = draw(st.integers(3 * batch_size, 5 * batch_size))
        sampler, first = draw(samplers(n, batch_size)), 1000 * draw(st.integers(0, 9))
        data = [np.arange(n) + first, np.arange(2 * n).reshape(n, 2)]
        if kind == 'array':
            return lambda: ArrayDataSource(data, sampler=sampler())
        cut = draw(st.integers(0, n))
        parts = [[array[:cut] for array in data], [array[cut:] for array in data]]
        return lambda: ConcatDataSource([ArrayDataSource(part) for part in parts], sampler=sampler())
    members = draw(st.lists(trees(batch_size, depth - 1), min_size=1, max_size=3))
    if kind == 'composite':
        stop = draw(st.sampled_from(['shortest', 'longest', 0]))
        return lambda: CompositeDataSource([make() for make in members], stop=stop)
    if kind == 'map':
        return lambda: members[0]().map(jitter, rng=True)
    options = {'stop': draw(st.sampled_from(['first', 'all', 10]))} if kind != 'stratified' else {'stratified': True}
    if kind == 'weighted':
        options['weights'] = draw(st.lists(st.integers(1, 4), min_size=len(members), max_size=len(members)))
    return lambda: ChoiceDataSource([make() for make in members], **options)


@st.composite
def cases(draw, kinds=seeds):
    """Draw what opens streams over one source with one shuffle."""
    batch_size = draw(st.integers(2, 7))
    make, kind, drop_last = draw(trees(batch_size)), draw(kinds), draw(st.booleans())

    def open_stream(pool=None, **kwargs):
        source = make() if pool is None else pool.parallel_data_source(make())
        try:
            return source.batch_iterator(batch_size, shuffle=make_shuffle(kind), drop_last=drop_last, **kwargs)
        except ValueError as error:
            if not re.search(REFUSED, str(error)):
                raise
            reject()

    return make, open_stream


def read(source, indices):
    """Read a batch by the definition of each source; the plan says which members' samples."""
    if isinstance(source, ArrayDataSource):
        return tuple(array[as_array(indices)] for array in source.data)
    if isinstance(source, ConcatDataSource):
        columns = zip(*(member.data for member in source.datasets))
        return tuple(np.concatenate(arrays)[as_array(indices)] for arrays in columns)
    if isinstance(source, CompositeDataSource):
        parts = [read(member, part) for member, part in zip(source.datasets, indices)]
        return tuple(array for part in parts for array in part)
    assert isinstance(indices, ChoiceBatch)
    return read(source.datasets[indices.ds_index], indices.sample_indices)


def is_read(source):
    """Say whether no random function is mapped over any part."""
    if isinstance(source, (ArrayDataSource, ConcatDataSource)):
        return True
    return hasattr(source, 'datasets') and all(map(is_read, source.datasets))


several = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@several
@given(cases())
def test_len_is_exact(case):
    _, open_stream = case
    stream = open_stream()
    assert len(stream) == len(list(stream))


@several
@given(cases(st.sampled_from(list(DRAWN))))
def test_len_is_exact_where_it_does_not_depend_on_draws(case):
    _, open_stream = case
    stream = open_stream()
    if stream.length is not None:
        assert len(stream) == len(list(stream))


@several
@given(cases(), st.data())
def test_the_plan_at_random_access_says_what_is_in_a_batch(case, data):
    make, open_stream = case
    source, stream = make(), open_stream()
    if not is_read(source):
        return
    batches = list(stream)
    plan = open_stream().feed.plan
    for number in data.draw(st.permutations(range(len(batches))))[:5]:
        assert_same_batches([read(source, plan[number].indices)], [batches[number]])


@several
@given(cases(shuffles), st.integers(0, 12))
def test_every_position_is_restored(case, position):
    _, open_stream = case
    saved, resumed = open_stream(), open_stream()
    list(itertools.islice(saved, position))
    resumed.load_state_dict(saved.state_dict())
    assert_same_batches(resumed, saved)


@several
@given(cases(shuffles), st.integers(1, 5), st.integers(1, 5), st.integers(0, 12))
def test_ranks_share_an_epoch_which_others_finish(case, before, after, position):
    make, open_stream = case
    if not is_read(make()):
        return
    whole = list(open_stream())
    ranks = [open_stream(shard=(rank, before)) for rank in range(before)]
    taken = list(zip(*(itertools.islice(stream, position) for stream in ranks)))
    others = [open_stream(shard=(rank, after)) for rank in range(after)]
    for stream in others:
        stream.load_state_dict(ranks[-1].state_dict())
    taken += zip(*others)
    assert len(taken) == len(whole)
    for parts, batch in zip(taken, whole):
        together = tuple(np.concatenate(arrays) for arrays in zip(*map(leaves, parts)))
        assert_same_batches([together], [tuple(leaves(batch))])


@pytest.fixture(scope='module')
def threads():
    with WorkerThreadPool(2) as pool:
        yield pool


@several
@given(case=cases(shuffles), position=st.integers(0, 12))
def test_threads_give_the_serial_batches_and_states(threads, case, position):
    _, open_stream = case
    serial, pooled = open_stream(), open_stream(threads)
    assert_same_batches(itertools.islice(pooled, position), itertools.islice(serial, position))
    assert pooled.state_dict() == serial.state_dict()
    assert_same_batches(pooled, serial)
