"""Trees of sources, and what their batches are to be: made one by one, as the documents say."""

from __future__ import annotations

import copy
import heapq
import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from batchup.data_source import (
    AbstractDataSource,
    ArrayDataSource,
    CallableDataSource,
    ChoiceDataSource,
    CompositeDataSource,
    ConcatDataSource,
    IteratorDataSource,
    RandomAccessDataSource,
)

from . import structures
from .columns import Column
from .functions import Function, Noise
from .samplers import Model, Repeated

# More batches than are looked at of any source.
ENOUGH = 16


class Rows(NamedTuple):
    """The part of a batch that one sampler chooses: sample indices, and the batch size that they belong to."""

    ids: Any
    size: int


class Chosen(NamedTuple):
    """A batch of a choice: the member, and what is chosen of it."""

    member: int
    node: Any


class Made(NamedTuple):
    """A batch that a user's function has made."""

    batch: Any
    size: int


class Refusal(Exception):
    """The documents say that there is no such epoch."""


class Unknown(Exception):
    """The documents do not say how many batches there are."""


class Run(NamedTuple):
    """How an epoch is gone through: the generator that shuffles, if one does, and whether short batches are left out."""

    rng: Any
    drop_last: bool
    # Whether batches are shuffled in a way that the documents do not tell.
    hidden: bool = False

    @property
    def shuffled(self) -> bool:
        return self.hidden or self.rng is not None


def parts_of(node: Any) -> Iterator[Any]:
    """Go through the parts of a batch that have a size of their own."""
    if isinstance(node, (Rows, Made)):
        yield node
    elif isinstance(node, Chosen):
        yield from parts_of(node.node)
    else:
        for part in node:
            yield from parts_of(part)


def each_rows(function: Callable[[Rows], Any], node: Any) -> Any:
    if isinstance(node, Rows):
        return function(node)
    if isinstance(node, Chosen):
        return Chosen(node.member, each_rows(function, node.node))
    return [each_rows(function, part) for part in node]


def cut(node: Any) -> Any:
    """Cut the parts of a batch to the share of the shortest, rounded up."""
    share = min((Fraction(len(rows.ids), rows.size) for rows in parts_of(node)), default=Fraction(1))
    return each_rows(lambda rows: rows._replace(ids=rows.ids[: math.ceil(rows.size * share)]), node)


class Tree:
    """What is common to the specifications of sources.

    Attributes
    ----------
    members : list of Tree
        What it is made of.
    planned : bool
        Whether it is random access.
    """

    members: Sequence[Tree] = ()
    planned = True

    def make(self, scale: int = 0, rng: bool = True) -> AbstractDataSource:
        """Make the source; `scale` says whether random functions have an effect, `rng` whether they draw."""
        raise NotImplementedError

    def epoch(self, size: Any, run: Run) -> Iterator[Any]:
        """Go through the batches of an epoch, in order or as a sequential generator shuffles them."""
        raise NotImplementedError

    def forever(self, size: Any, run: Run) -> Iterator[Any]:
        """Go through the batches of a member that starts again."""
        while True:
            # A round without batches would go on for ever; the source has to refuse it.
            empty = True
            for node in self.epoch(size, run):
                empty = False
                yield node
            if empty:
                raise Refusal

    def count(self, size: Any, run: Run) -> float | None:
        """Return the number of batches of an epoch; `None` if that is known by drawing only."""
        raise NotImplementedError

    def samples(self) -> float | None:
        raise NotImplementedError

    def build(self, node: Any) -> Any:
        """Make the batch that consists of these samples."""
        raise NotImplementedError

    def node_of(self, indices: Any, size: Any) -> Any:
        """Interpret the indices of a batch, as a plan gives them."""
        raise NotImplementedError

    def check(self, nodes: list[Any], size: Any, run: Run, rounds: bool) -> None:
        """Assert that batches are those of an epoch, or its beginning, or of several, in any order."""
        raise NotImplementedError

    def walk(self) -> Iterator[Tree]:
        """Go through the tree."""
        yield self
        for member in self.members:
            yield from member.walk()


class Leaf(Tree):
    """Arrays, or a user's source that reads arrays."""

    def __init__(self, columns: list[Column], model: Model, include_indices: bool, own: bool) -> None:
        self.columns = columns
        self.model = model
        self.include_indices = include_indices
        self.own = own

    def __repr__(self) -> str:
        names = [column.name for column in self.columns]
        indices = ', include_indices' if self.include_indices else ''
        return f'{"Own" if self.own else "Leaf"}({names}, {self.model}{indices})'

    def make(self, scale: int = 0, rng: bool = True) -> AbstractDataSource:
        kind: Any = UsersSource if self.own else ArrayDataSource
        data = [column.data for column in self.columns]
        return kind(data, include_indices=self.include_indices, **self.model.make())

    def epoch(self, size: Any, run: Run) -> Iterator[Any]:
        return (Rows(np.asarray(ids), size) for ids in self.model.batches(size, run.drop_last, run.rng))

    def forever(self, size: Any, run: Run) -> Iterator[Any]:
        if isinstance(self.model, Repeated):
            return (Rows(ids, size) for ids in self.model.forever().batches(size, False, run.rng))
        return super().forever(size, run)

    def count(self, size: Any, run: Run) -> float | None:
        return self.model.count(size, run.drop_last) if self.model.counted or run.rng is None else None

    def samples(self) -> float | None:
        return self.model.samples()

    def build(self, node: Any) -> Any:
        batch = tuple(column.read(node.ids) for column in self.columns)
        return (np.array(node.ids, np.intp), *batch) if self.include_indices else batch

    def node_of(self, indices: Any, size: Any) -> Any:
        return Rows(np.asarray(indices), size)

    def check(self, nodes: list[Any], size: Any, run: Run, rounds: bool) -> None:
        ids = [node.ids for node in nodes]
        if rounds and self.model.one_by_one:
            self.model.check(ids, size, True)
            return
        count = self.model.count(size, run.drop_last)
        assert rounds or len(ids) <= count, f'too many batches of a {type(self.model).__name__}'
        for start in range(0, len(ids), max(1, int(min(count, len(ids))))):
            self.model.check(ids[start : start + int(min(count, len(ids)))], size, False)


class UsersSource(RandomAccessDataSource):
    """A user's source with random access."""

    def __init__(self, data: list[Any], **kwargs: Any) -> None:
        super().__init__(len(data[0]), **kwargs)
        self.data = data

    def samples_by_indices_nomapping(self, indices: Any) -> Any:
        batch = [getattr(array, 'iloc', array)[indices] for array in self.data]
        return (np.array(indices), *batch) if self.include_indices else tuple(batch)


class Concat(Leaf):
    """Sources one after the other, with a sampler over all their samples."""

    def __init__(self, members: list[Tree], model: Model, include_indices: bool) -> None:
        super().__init__([], model, include_indices, own=False)
        self.members = members
        self.places = [(k, int(index)) for k, member in enumerate(members) for index in base_of(member)]

    def __repr__(self) -> str:
        return f'Concat({self.members}, {self.model})'

    def make(self, scale: int = 0, rng: bool = True) -> AbstractDataSource:
        members = [member.make(scale, rng) for member in self.members]
        return ConcatDataSource(members, include_indices=self.include_indices, **self.model.make())

    def build(self, node: Any) -> Any:
        ids = node.ids.tolist()
        found = [self.members[k].build(Rows(np.array([i]), 1)) for k, i in (self.places[index] for index in ids)]
        # The kinds and dtypes are those of the members also where there are no samples.
        found = found or [self.members[0].build(Rows(np.empty(0, int), 1))]
        batch = tuple(map(joined, zip(*found)))
        return (np.array(node.ids, np.intp), *batch) if self.include_indices else batch


def base_of(member: Tree) -> Any:
    """Return the samples of a member of a `Concat`, through functions mapped over it."""
    while isinstance(member, Mapped):
        member = member.members[0]
    return member.model.base % max(1, member.model.n)  # type: ignore[attr-defined]


def joined(parts: Sequence[Any]) -> Any:
    """Put rows one after the other; they stay of their kind."""
    first = parts[0]
    if hasattr(first, 'iloc'):
        import pandas as pd

        return pd.concat(parts)
    if not isinstance(first, np.ndarray):
        import torch

        return torch.cat(list(parts))
    if isinstance(first, np.ma.MaskedArray):
        return np.ma.concatenate(parts).astype(first.dtype)
    array = np.empty((sum(map(len, parts)), *first.shape[1:]), first.dtype)
    array[...] = np.concatenate(parts)
    return array


class Mapped(Tree):
    """A function mapped over a source."""

    def __init__(self, source: Tree, function: Function) -> None:
        self.members = [source]
        self.function = function
        self.model = copy.copy(function)
        self.model.keeps = False
        self.planned = source.planned

    def __repr__(self) -> str:
        return f'{self.members[0]!r}.map({self.function})'

    def make(self, scale: int = 0, rng: bool = True) -> AbstractDataSource:
        source = self.members[0].make(scale, rng)
        if isinstance(self.function, Noise):
            return source.map(type(self.function)(scale), rng=rng)
        return source.map(self.function)

    def epoch(self, size: Any, run: Run) -> Iterator[Any]:
        return self.members[0].epoch(size, run)

    def forever(self, size: Any, run: Run) -> Iterator[Any]:
        return self.members[0].forever(size, run)

    def count(self, size: Any, run: Run) -> float | None:
        return self.members[0].count(size, run)

    def samples(self) -> float | None:
        return self.members[0].samples()

    def build(self, node: Any) -> Any:
        return structures.each(copied, self.model(*self.members[0].build(node)))

    def node_of(self, indices: Any, size: Any) -> Any:
        return self.members[0].node_of(indices, size)

    def check(self, nodes: list[Any], size: Any, run: Run, rounds: bool) -> None:
        self.members[0].check(nodes, size, run, rounds)


def copied(leaf: Any) -> Any:
    """Return an array of the user's own: writable, and of the same kind."""
    return leaf.clone() if hasattr(leaf, 'clone') else leaf.copy()


def sizes_of(size: Any, count: int) -> list[Any]:
    return list(size) if isinstance(size, tuple) else [size] * count


class Composite(Tree):
    """A batch from every member, side by side."""

    def __init__(self, members: list[Tree], flatten: bool, trim: bool, stop: Any, size: Any) -> None:
        self.members = members
        self.size = size
        self.flatten = flatten
        self.trim = trim
        self.stop = stop
        self.planned = all(member.planned for member in members)

    def __repr__(self) -> str:
        return f'Composite({self.members}, flatten={self.flatten}, trim={self.trim}, stop={self.stop!r})'

    def make(self, scale: int = 0, rng: bool = True) -> AbstractDataSource:
        members = [member.make(scale, rng) for member in self.members]
        return CompositeDataSource(members, self.flatten, self.trim, stop=self.stop)

    def counts(self, size: Any, run: Run) -> list[float | None]:
        return [member.count(part, run) for member, part in zip(self.members, sizes_of(size, len(self.members)))]

    def last(self, size: Any, run: Run) -> int | None:
        """Return the member that ends an epoch; `None` if that is the shortest."""
        if self.stop == 'shortest':
            return None
        if self.stop != 'longest':
            return int(self.stop) % len(self.members)
        counts, sizes = self.counts(size, run), sizes_of(size, len(self.members))
        if None in counts:
            raise Unknown
        samples = [member.samples() for member in self.members]
        filled = [0 if isinstance(part, tuple) or n is None else n / part for n, part in zip(samples, sizes)]
        return max(range(len(counts)), key=lambda k: (counts[k], filled[k]))

    def epoch(self, size: Any, run: Run) -> Iterator[Any]:
        sizes, last = sizes_of(size, len(self.members)), self.last(size, run)
        counts = self.counts(size, run)
        if last is not None and counts[last] == 0:
            return
        epochs = [
            member.epoch(part, run) if last in (None, k) else self._again(counts[k], member, part, run)
            for k, (member, part) in enumerate(zip(self.members, sizes))
        ]
        known = [count for count in (counts if last is None else [counts[last]]) if count is not None]
        for _ in range(int(min([*known, 10**6]))):
            parts = []
            for epoch in epochs:
                node = next(epoch, None)
                if node is None:
                    return
                parts.append(node)
            yield cut(parts) if self.trim and self.planned else parts

    def _again(self, count: float | None, member: Tree, size: Any, run: Run) -> Iterator[Any]:
        check_restart(member, size, run)
        return member.forever(size, run)

    def count(self, size: Any, run: Run) -> float | None:
        counts, last = self.counts(size, run), self.last(size, run)
        if last is not None:
            if counts[last] != 0:
                for k, (member, part) in enumerate(zip(self.members, sizes_of(size, len(self.members)))):
                    if k != last:
                        check_restart(member, part, run)
            return counts[last]
        return None if None in counts else min(counts)

    def samples(self) -> float | None:
        samples = [member.samples() for member in self.members]
        if isinstance(self.stop, int):
            return samples[self.stop]
        if self.stop == 'longest':
            return None if None in samples else max(samples)
        return min((n for n in samples if n is not None), default=None)

    def build(self, node: Any) -> Any:
        parts = tuple(member.build(part) for member, part in zip(self.members, node))
        if self.trim and not isinstance(self.size, tuple):
            parts = structures.head(parts, structures.length_of(parts))
        elif self.trim and not self.planned:
            parts = self._cut_sized(parts)
        return tuple(itertools.chain.from_iterable(parts)) if self.flatten else parts

    def _cut_sized(self, parts: Any) -> Any:
        """Cut parts in proportion; without a plan, those with sizes for members of their own stay whole."""
        numbers = [k for k, size in enumerate(self.size) if isinstance(size, int)]
        share = min((Fraction(structures.length_of(parts[k]), self.size[k]) for k in numbers), default=Fraction(1))
        return tuple(
            structures.head(part, math.ceil(self.size[k] * share)) if k in numbers else part
            for k, part in enumerate(parts)
        )

    def node_of(self, indices: Any, size: Any) -> Any:
        sizes = sizes_of(size, len(self.members))
        return [member.node_of(part, each) for member, part, each in zip(self.members, indices, sizes)]

    def check(self, nodes: list[Any], size: Any, run: Run, rounds: bool) -> None:
        sizes, last = sizes_of(size, len(self.members)), self.last(size, run)
        length = self.count(size, run)
        if length is None and rounds:
            return
        epochs = [nodes]
        if rounds and length not in (0, math.inf):
            epochs = [nodes[start : start + int(length)] for start in range(0, len(nodes), int(length))]
        for epoch in epochs:
            for k, (member, part) in enumerate(zip(self.members, sizes)):
                member.check([node[k] for node in epoch], part, run, last not in (None, k))


def check_restart(member: Tree, size: Any, run: Run) -> None:
    """Raise `Refusal` if a member has nothing to start again with."""
    inner = member
    while isinstance(inner, Mapped):
        inner = inner.members[0]
    one_by_one = isinstance(inner, Leaf) and inner.model.one_by_one
    if (inner.model.endless(size) if one_by_one else member.count(size, run)) == 0:  # type: ignore[attr-defined]
        raise Refusal


class Choice(Tree):
    """Each batch from one member."""

    def __init__(self, members: list[Tree], stratified: bool, weights: list[int] | None, stop: Any) -> None:
        self.members = members
        self.stratified = stratified
        self.weights = weights
        self.stop = stop
        self.planned = all(member.planned for member in members)

    def __repr__(self) -> str:
        return f'Choice({self.members}, stratified={self.stratified}, weights={self.weights}, stop={self.stop!r})'

    def make(self, scale: int = 0, rng: bool = True) -> AbstractDataSource:
        members = [member.make(scale, rng) for member in self.members]
        return ChoiceDataSource(members, self.stratified, weights=self.weights, stop=self.stop)

    def order(self, counts: list[float | None], rng: Any) -> Iterator[int]:
        """Go through the members that the batches come from."""
        if self.stratified and math.inf not in counts:
            yield from spread(counts) if rng is None else shuffled(np.repeat(range(len(counts)), counts), rng)
        elif self.weights is not None and rng is not None:
            weights = np.array(self.weights, float)
            while True:
                yield int(rng.choice(len(weights), p=weights / weights.sum()))
        elif self.weights is not None:
            yield from evenly(self.weights)
        else:
            while True:
                yield from range(len(counts)) if rng is None else rng.permutation(len(counts)).tolist()

    @property
    def chosen(self) -> list[int]:
        return [k for k in range(len(self.members)) if self.weights is None or self.weights[k]]

    def counts(self, size: Any, run: Run) -> list[float | None]:
        return [member.count(part, run) for member, part in zip(self.members, sizes_of(size, len(self.members)))]

    def begin(self, size: Any, run: Run) -> list[float | None]:
        """Return the members' numbers of batches, once it is clear that an epoch can begin."""
        counts = self.counts(size, run)
        if self.stratified and (None in counts or (math.inf in counts and set(counts) != {math.inf})):
            raise Unknown
        if self.stop == 'all' and any(counts[k] is None for k in self.chosen):
            raise Unknown
        if self.stop != 'first' and (self.stop != 'all' or any(counts[k] for k in self.chosen)):
            sizes = sizes_of(size, len(self.members))
            for k in self.chosen:
                check_restart(self.members[k], sizes[k], run)
        return counts

    def epoch(self, size: Any, run: Run) -> Iterator[Any]:
        counts, sizes = self.begin(size, run), sizes_of(size, len(self.members))
        if self.stop == 'all' and not any(counts[k] for k in self.chosen):
            return
        again = self.stop != 'first'
        epochs = [
            member.forever(part, run) if again and k in self.chosen else member.epoch(part, run)
            for k, (member, part) in enumerate(zip(self.members, sizes))
        ]
        given: Counter[int] = Counter()
        order = self.order(counts, run.rng)
        # Whose turn it is, is drawn only if there is another batch.
        while given.total() != self.stop and not (self.stop == 'all' and self._all_given(given, counts)):
            k = next(order, None)
            node = None if k is None else next(epochs[k], None)
            if node is None:
                return
            given[k] += 1
            yield Chosen(k, node)

    def _all_given(self, given: Counter[int], counts: Sequence[Any]) -> bool:
        return all(given[k] >= counts[k] for k in self.chosen)

    def count(self, size: Any, run: Run) -> float | None:
        counts = self.begin(size, run)
        if isinstance(self.stop, int):
            return self.stop
        known = [counts[k] for k in self.chosen]
        if None in known:
            return None
        if self.stop == 'all' and not any(known):
            return 0
        if set(known) == {math.inf} or (self.stop == 'all' and math.inf in known):
            return math.inf
        if self.stratified:
            return sum(known)
        if run.shuffled:
            return None
        return sum(1 for _ in self.epoch(size, run))

    def samples(self) -> float | None:
        return sum(member.samples() or 0 for member in self.members)

    def build(self, node: Any) -> Any:
        return self.members[node.member].build(node.node)

    def node_of(self, indices: Any, size: Any) -> Any:
        k = indices.ds_index
        return Chosen(k, self.members[k].node_of(indices.sample_indices, sizes_of(size, len(self.members))[k]))

    def check(self, nodes: list[Any], size: Any, run: Run, rounds: bool) -> None:
        members = [node.member for node in nodes]
        assert set(members) <= set(self.chosen), f'members {set(members)} are chosen'
        if rounds:  # where an epoch ends is known by drawing only
            return
        counts, sizes = self.counts(size, run), sizes_of(size, len(self.members))
        if self.stratified and math.inf not in counts:
            given = Counter(members)
            assert all(count is None or given[k] <= count for k, count in enumerate(counts)), f'{given} for {counts}'
        elif self.weights is None:
            for start in range(0, len(members), len(self.members)):
                turn = members[start : start + len(self.members)]
                assert len(set(turn)) == len(turn), f'a member comes twice in a round of {members}'
        if self.stop == 'all' and len(nodes) < ENOUGH and nodes and None not in counts:
            given = Counter(members)
            assert self._all_given(given, counts), f'{given} for {counts}'
            given[members[-1]] -= 1
            assert not self._all_given(given, counts), 'a batch too many'
        for k, (member, part) in enumerate(zip(self.members, sizes)):
            member.check([node.node for node in nodes if node.member == k], part, run, self.stop != 'first')


def shuffled(members: Any, rng: Any) -> list[int]:
    rng.shuffle(members)
    return members.tolist()


def evenly(weights: Sequence[int]) -> Iterator[int]:
    """Spread members evenly by weight, the first one first among equals."""

    def places(k: int) -> Iterator[tuple[Fraction, int]]:
        return ((Fraction(j, weights[k]), k) for j in itertools.count())

    return (k for _, k in heapq.merge(*(places(k) for k, weight in enumerate(weights) if weight)))


def spread(counts: Sequence[Any]) -> list[int]:
    """Spread the batches of all members evenly over an epoch."""
    return [k for _, k in sorted((Fraction(j, int(count)), k) for k, count in enumerate(counts) for j in range(count))]


class Plain(Tree):
    """What makes batches itself: a function, an iterator, or a user's source without random access."""

    planned = False

    def __init__(self, columns: list[Column], kind: str, told: bool) -> None:
        self.columns = columns
        self.kind = kind
        self.told = told
        self.n = len(columns[0].whole)

    def __repr__(self) -> str:
        return f'Plain({[column.name for column in self.columns]}, {self.kind}, told={self.told})'

    def make(self, scale: int = 0, rng: bool = True) -> AbstractDataSource:
        if self.kind == 'source':
            return PlainSource(self)
        return CallableDataSource(self.batches, self.n if self.told else None)

    def batches(self, batch_size: int, shuffle: Any = None, drop_last: bool = False, **_: Any) -> Iterator[Any]:
        return (node.batch for node in self._nodes(batch_size, drop_last, shuffle))

    def _nodes(self, size: int, drop_last: bool, shuffle: Any) -> Iterator[Made]:
        seed = getattr(shuffle, 'seed', shuffle)
        rng = shuffle if shuffle is None or hasattr(shuffle, 'permutation') else np.random.RandomState(seed)
        order = np.arange(self.n) if rng is None else rng.permutation(self.n)
        for start in range(0, self.n, size):
            ids = order[start : start + size]
            if len(ids) == size or not drop_last:
                yield Made(tuple(column.read(ids) for column in self.columns), size)

    def epoch(self, size: Any, run: Run) -> Iterator[Any]:
        return self._nodes(size, run.drop_last, run.rng)

    def count(self, size: Any, run: Run) -> float | None:
        if not self.told:
            return None
        return self.n // size if run.drop_last else -(-self.n // size)

    def samples(self) -> float | None:
        return self.n if self.told else None

    def build(self, node: Any) -> Any:
        return structures.snapshot(node.batch)


class PlainSource(AbstractDataSource):
    """A user's source without random access."""

    def __init__(self, tree: Plain) -> None:
        self.tree = tree

    def num_samples(self, **kwargs: Any) -> Any:
        return self.tree.samples()

    def batch_iterator(self, batch_size: int, **kwargs: Any) -> Iterator[Any]:
        yield from self.tree.batches(batch_size, **kwargs)


def iterator_source(tree: Tree, size: int) -> AbstractDataSource:
    """Make a source of an iterator over batches."""
    return IteratorDataSource(iter([tree.build(node) for node in tree.epoch(size, Run(None, False))]))
