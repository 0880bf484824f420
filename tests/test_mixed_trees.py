"""Random trees of mixtures, against batches that are made one by one from lists."""

import itertools
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchup.batch import leaves
from batchup.data_source import ArrayDataSource, ChoiceDataSource, CompositeDataSource, ConcatDataSource

from .cases import assert_same_batches

# More batches than are looked at in any tree.
ENOUGH = 40


class Rows(NamedTuple):
    """The part of a batch that comes from one array, and the batch size that it belongs to."""

    values: list
    size: int


class Array(NamedTuple):
    """Arrays one after the other, with the value of the first sample of each."""

    starts: tuple
    lengths: tuple

    def make(self):
        members = [ArrayDataSource([start + np.arange(n)]) for start, n in zip(self.starts, self.lengths)]
        return members[0] if len(members) == 1 else ConcatDataSource(members)

    def values(self):
        return [start + k for start, n in zip(self.starts, self.lengths) for k in range(n)]

    def epoch(self, size):
        values = self.values()
        return [(Rows(values[k : k + size], size),) for k in range(0, len(values), size)]

    def forever(self, size):
        values = itertools.cycle(self.values())
        while True:
            yield (Rows(list(itertools.islice(values, size)), size),)


class Tree:
    """What is common to composites and choices."""

    def sizes(self, size):
        return size if isinstance(size, tuple) else (size,) * len(self.members)

    def forever(self, size):
        while True:
            yield from self.epoch(size)


class Composite(Tree, NamedTuple('Composite', [('members', list), ('stop', object)])):
    def make(self):
        return CompositeDataSource([member.make() for member in self.members], flatten=False, stop=self.stop)

    def last(self, size):
        """Return the number of the member that ends an epoch."""
        ends = [len(member.epoch(part)) for member, part in zip(self.members, self.sizes(size))]
        if self.stop == 'longest':
            samples = [member.make().num_samples() for member in self.members]
            filled = [0 if isinstance(part, tuple) else n / part for n, part in zip(samples, self.sizes(size))]
            return max(range(len(ends)), key=lambda k: (ends[k], filled[k]))
        return ends.index(min(ends)) if self.stop == 'shortest' else self.stop

    def epoch(self, size):
        sizes, last = self.sizes(size), self.last(size)
        epochs = [member.epoch(part) for member, part in zip(self.members, sizes)]
        if self.stop != 'shortest' and epochs[last]:
            if not all(epochs):
                raise ValueError('an empty member cannot start again')
            epochs = [
                epochs[k] if k == last else member.forever(part)
                for k, (member, part) in enumerate(zip(self.members, sizes))
            ]
        return [cut(parts) for parts in zip(*epochs)] if epochs[last] else []


class Choice(Tree, NamedTuple('Choice', [('members', list), ('weights', object), ('stop', object)])):
    def make(self):
        return ChoiceDataSource([member.make() for member in self.members], weights=self.weights, stop=self.stop)

    def order(self):
        """Return the members of more batches than are looked at."""
        weights = self.weights or [1] * len(self.members)
        places = sorted((Fraction(j, w), k) for k, w in enumerate(weights) if w for j in range(ENOUGH * 20))
        return [k for _, k in places]

    def epoch(self, size):
        epochs = [member.epoch(part) for member, part in zip(self.members, self.sizes(size))]
        order = self.order()
        if self.stop == 'first':
            return self.batches(order, map(iter, epochs))
        chosen = {k for k in order if self.stop != 'all' or any(epochs[k] for k in set(order))}
        if not all(epochs[k] for k in chosen):
            raise ValueError('an empty member cannot start again')
        end = self.stop
        if end == 'all':
            end = max((positions(order, k)[len(epochs[k]) - 1] + 1 for k in chosen), default=0)
        streams = [member.forever(part) for member, part in zip(self.members, self.sizes(size))]
        return self.batches(order[:end], streams)

    def batches(self, order, streams):
        streams, batches = list(streams), []
        for k in order:
            batch = next(streams[k], None)
            if batch is None:
                break
            batches.append(batch)
        return batches


def positions(order, k):
    return [place for place, member in enumerate(order) if member == k]


def cut(batch):
    """Cut the parts of a batch in proportion to their sizes."""
    share = min(Fraction(len(rows.values), rows.size) for rows in parts_of(batch))

    def cut_part(part):
        if isinstance(part, Rows):
            return Rows(part.values[: -(-part.size * share.numerator // share.denominator)], part.size)
        return tuple(cut_part(inner) for inner in part)

    return cut_part(batch)


def parts_of(batch):
    return [batch] if isinstance(batch, Rows) else [rows for part in batch for rows in parts_of(part)]


@st.composite
def trees(draw, depth=2, shortest=0):
    """Draw a tree of arrays of so many samples at least, and batch sizes for it."""
    size = draw(st.integers(1, 5))
    if depth == 0 or draw(st.integers(0, 3)) == 0:
        lengths = draw(st.lists(st.integers(shortest, 9), min_size=1, max_size=3))
        return Array(tuple(100 * k for k in range(len(lengths))), tuple(lengths)), size
    drawn = draw(st.lists(trees(depth - 1, shortest), min_size=1, max_size=3))
    members = [tree for tree, _ in drawn]
    # Trees below have sizes of their own only if this one has.
    sizes = tuple(part for _, part in drawn) if draw(st.booleans()) else size
    if draw(st.booleans()):
        return Composite(members, draw(st.sampled_from(['shortest', 'longest', 0, len(members) - 1]))), sizes
    weights = draw(st.none() | st.lists(st.integers(0, 4), min_size=len(members), max_size=len(members)).filter(any))
    return Choice(members, weights, draw(st.sampled_from(['first', 'all', 1, 7]))), sizes


def plain(batch):
    return tuple(batch.values if isinstance(batch, Rows) else plain(batch) for batch in batch)


def as_lists(batch):
    return tuple(as_lists(part) if isinstance(part, tuple) else part.tolist() for part in batch)


@given(trees())
def test_batches_in_order_are_those_made_one_by_one(drawn):
    tree, size = drawn
    try:
        expected = tree.epoch(size)
    except ValueError:
        with pytest.raises(ValueError, match='has no batches, and so cannot start again'):
            tree.make().batch_iterator(size)
        return
    stream = tree.make().batch_iterator(size)
    assert [as_lists(batch) for batch in stream] == [plain(batch) for batch in expected]
    assert len(stream) == len(expected)


# Where no array is empty, no random round of a member is: it can start again.
full_trees = trees(shortest=1)


@given(full_trees, st.integers(0, 10**6))
def test_any_batch_is_found_at_once(drawn, number):
    source, size = drawn[0].make(), drawn[1]
    walked = [repr(request.indices) for request in source.plan(size, 42, epoch=3)]
    plan = source.plan(size, 42, epoch=3)
    assert len(plan) == len(walked) > 0
    assert repr(plan[number % len(walked)].indices) == walked[number % len(walked)]
    assert repr(plan[0].indices) == walked[0]


@pytest.mark.filterwarnings('ignore:this stream has ended')
@given(full_trees, st.integers(0, 20))
def test_a_state_by_a_seed_restores_the_rest(drawn, position):
    source, size = drawn[0].make(), drawn[1]
    saved, resumed = (source.batch_iterator(size, shuffle=42) for _ in range(2))
    list(itertools.islice(saved, position))
    resumed.load_state_dict(saved.state_dict())
    assert_same_batches(resumed, saved)


@pytest.mark.filterwarnings('ignore:this stream has ended')
@given(full_trees, st.integers(0, 20))
def test_a_state_by_a_sequential_generator_restores_the_rest(drawn, position):
    source, size = drawn[0].make(), drawn[1]
    try:
        saved, resumed = (source.batch_iterator(size, shuffle=np.random.RandomState(5)) for _ in range(2))
    except ValueError as error:
        assert 'is unknown' in str(error)  # noqa: PT017 - that of a choice that is yet to be drawn
        return
    list(itertools.islice(saved, position))
    resumed.load_state_dict(saved.state_dict())
    assert_same_batches(resumed, saved)


@given(full_trees, st.integers(1, 3))
def test_shards_of_a_tree_are_the_parts_of_its_batches(drawn, count):
    source, size = drawn[0].make(), drawn[1]
    ranks = [source.batch_iterator(size, shuffle=42, shard=(rank, count)) for rank in range(count)]
    for *parts, batch in zip(*ranks, source.batch_iterator(size, shuffle=42), strict=True):
        for *pieces, whole in zip(*map(leaves, parts), leaves(batch), strict=True):
            np.testing.assert_array_equal(np.concatenate(pieces), whole)


@pytest.mark.slow
@settings(max_examples=5000)
@given(trees())
def test_batches_in_order_at_length(drawn):
    test_batches_in_order_are_those_made_one_by_one.hypothesis.inner_test(drawn)
