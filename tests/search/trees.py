"""Trees of sources, and what their batches are to be: made one by one, as the documents say."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from batchup.data_source import (
    AbstractDataSource,
    ArrayDataSource,
    CallableDataSource,
    ConcatDataSource,
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


class RefusedError(Exception):
    """The documents say that there is no such epoch."""


class UnknownError(Exception):
    """The documents do not say how many batches there are."""


class Run(NamedTuple):
    """How an epoch is gone through: the generator that shuffles it, and whether short batches are left out."""

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
                raise RefusedError

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
    """Arrays, or a user's source that reads arrays.

    Attributes
    ----------
    read_ahead : int
        How many bytes of storage may be read ahead.
    """

    read_ahead = 2**28

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
        data = [column.data for column in self.columns]
        options = {'include_indices': self.include_indices, **self.model.make()}
        if self.own:
            return UsersSource(data, **options)
        return ArrayDataSource(data, read_ahead=self.read_ahead, **options)

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
        options = {'include_indices': self.include_indices, 'read_ahead': self.read_ahead, **self.model.make()}
        return ConcatDataSource(members, **options)

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
