"""Sources side by side, or one of several for each batch, and what their batches are to be."""

from __future__ import annotations

import heapq
import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from batchup.data_source import AbstractDataSource, ChoiceDataSource, CompositeDataSource

from . import structures
from .trees import Chosen, Leaf, Mapped, RefusedError, Run, Tree, UnknownError, each_rows, parts_of


def cut(node: Any) -> Any:
    """Cut the parts of a batch to the share of the shortest, rounded up."""
    share = min((Fraction(len(rows.ids), rows.size) for rows in parts_of(node)), default=Fraction(1))
    return each_rows(lambda rows: rows._replace(ids=rows.ids[: math.ceil(rows.size * share)]), node)


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
            raise UnknownError
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
        # What a user's code says of its length is not certain: it is asked for another batch.
        ends = range(len(counts)) if last is None else [last]
        known = [counts[k] for k in ends if counts[k] is not None and self.members[k].planned]
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
    """Raise `RefusedError` if a member has nothing to start again with."""
    inner = member
    while isinstance(inner, Mapped):
        inner = inner.members[0]
    one_by_one = isinstance(inner, Leaf) and inner.model.one_by_one
    if (inner.model.endless(size) if one_by_one else member.count(size, run)) == 0:  # type: ignore[attr-defined]
        raise RefusedError


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
            raise UnknownError
        if self.stop == 'all' and any(counts[k] is None for k in self.chosen):
            raise UnknownError
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
        known = [counts[k] for k in self.chosen]
        if isinstance(self.stop, int) or None in known:
            return self.stop if isinstance(self.stop, int) else None
        if set(known) == {math.inf} or (self.stop == 'all' and math.inf in known):
            return math.inf
        if self.stratified or (self.stop == 'all' and not any(known)):
            return sum(known)
        return None if run.shuffled else sum(1 for _ in self.epoch(size, run))

    def check_end(self, nodes: list[Any], size: Any, run: Run) -> None:
        """Assert that a whole epoch with `stop='all'` ends when every member has been gone through."""
        counts, given = self.counts(size, run), Counter(node.member for node in nodes)
        if nodes and None not in counts:
            assert self._all_given(given, counts), f'{given} for {counts}'
            given[nodes[-1].member] -= 1
            assert not self._all_given(given, counts), 'a batch too many'

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
