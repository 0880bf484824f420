"""Random cases: a tree of sources, and how it is gone through."""

from __future__ import annotations

import itertools
from random import Random
from typing import Any

import numpy as np

from batchup.data_source import AbstractDataSource
from batchup.sampling import BlockShuffle, ComputedShuffle

from .columns import draw_maker
from .draws import draw_model
from .functions import CHANGING, RANDOM, ROW_WISE, SAME_LENGTH, Function, InPlace, Keep
from .joined import Choice, Composite
from .samplers import Repeated
from .trees import (
    ENOUGH,
    Concat,
    Leaf,
    Mapped,
    Plain,
    RefusedError,
    Run,
    Tree,
    UnknownError,
    each_rows,
)

SEQUENTIAL = ('state', 'generator')
SEEDED = ('seed', 'computed', 'blocks')


class Drawer:
    """Draws trees of sources from one integer.

    Parameters
    ----------
    random : Random
        Where all comes from.
    plain : bool
        Whether members may be functions and sources without random access.
    changing : bool
        Whether functions may change the number of rows.
    """

    def __init__(self, random: Random, plain: bool, changing: bool) -> None:
        self.random = random
        self.plain = plain
        self.changing = changing
        self.first = 0

    def numbers(self, n: int) -> Any:
        """Return the numbers of n samples that no other source has."""
        self.first += 500
        return self.first - 500 + np.arange(n)

    def size(self, depth: int) -> Any:
        return self.random.choice([1, 2, 3, 4, 4, 5, 6, 7, 16])

    def length(self, size: int) -> int:
        """Draw a number of samples: some batches of a size, seldom none."""
        if self.random.random() < 0.05:
            return self.random.choice([0, 1])
        return self.random.randrange(1, 5 * size + 2)

    def tree(self, depth: int) -> tuple[Tree, Any]:
        """Draw a tree, and batch sizes for it."""
        size = self.size(depth)
        return self.source(size, depth), size

    def source(self, size: int, depth: int) -> Tree:
        """Draw a tree for batches of one size."""
        kinds = ['leaf', 'leaf', 'concat', 'map', 'map', 'composite', 'choice'] if depth else ['leaf', 'leaf', 'concat']
        return self.of_kind(self.random.choice(kinds), size, depth)

    def of_kind(self, kind: str, size: Any, depth: int) -> Tree:
        if kind == 'leaf':
            return self.leaf(size)
        if kind == 'concat':
            return self.concat(size)
        if kind == 'map':
            source = self.source(size, depth - 1)
            return Mapped(source, self.function(source))
        return self.joined(kind, size, depth)

    def function(self, source: Tree) -> Function:
        kinds: list[type[Function]] = [*SAME_LENGTH, *RANDOM, *RANDOM]
        if self.changing:
            kinds += [*CHANGING] * 4
        return self.random.choice(kinds)()

    def leaf(self, size: int) -> Tree:
        n = self.length(size)
        numbers = self.numbers(n)
        columns = [draw_maker(self.random)(numbers) for _ in range(self.random.choice([1, 2, 2, 3]))]
        if self.plain and self.random.random() < 0.5:
            return Plain(columns, self.random.choice(['source', 'function']), self.random.random() < 0.8)
        model = draw_model(self.random, n, size)
        return Leaf(columns, model, self.random.random() < 0.25, self.random.random() < 0.2)

    def concat(self, size: int) -> Tree:
        makers = [draw_maker(self.random) for _ in range(self.random.choice([1, 2]))]
        members: list[Tree] = []
        functions: list[type[Function]] = [self.random.choice(ROW_WISE)] if self.random.random() < 0.3 else []
        for _ in range(self.random.choice([1, 2, 2, 3])):
            n = self.random.choice([0, *range(1, 3 * size)])
            numbers = self.numbers(n)
            indices = (
                np.array(self.random.choices(range(-n, n), k=n), int) if n and self.random.random() < 0.3 else None
            )
            columns = [make(numbers) for make in makers]
            member: Tree = Leaf(columns, Repeated(n, indices, 1, False), False, self.random.random() < 0.2)
            for function in functions:
                member = Mapped(member, function())
            members.append(member)
        total = sum(len(member.members[0].model.base if functions else member.model.base) for member in members)  # type: ignore[attr-defined]
        return Concat(members, draw_model(self.random, total, size), self.random.random() < 0.25)

    def joined(self, kind: str, size: Any, depth: int) -> Tree:
        random = self.random
        members = [self.source(size, depth - 1) for _ in range(random.choice([1, 2, 2, 3]))]
        if kind == 'composite':
            stop = random.choice(['shortest', 'shortest', 'longest', 0, -1])
            return Composite(members, random.random() < 0.6, random.random() < 0.8, stop, size)
        if random.random() < 0.3:
            return Choice(members, True, None, 'first')
        weights = [random.randrange(5) for _ in members] if random.random() < 0.5 else None
        weights = [1] * len(members) if weights is not None and not any(weights) else weights
        return Choice(members, False, weights, random.choice(['first', 'all', 1, 7]))


class SizedDrawer(Drawer):
    """Draws trees whose members have batch sizes of their own, and functions that keep the number of rows."""

    def __init__(self, random: Random, plain: bool) -> None:
        super().__init__(random, plain, changing=False)

    def tree(self, depth: int) -> tuple[Tree, Any]:
        size = self.sizes(depth)
        return self.sized(size, depth), size

    def sizes(self, depth: int) -> Any:
        """Draw a batch size, or a tuple of sizes for members."""
        if depth == 0 or self.random.random() < 0.2:
            return self.size(0)
        return tuple(self.sizes(depth - 1) for _ in range(self.random.choice([1, 2, 3])))

    def sized(self, size: Any, depth: int) -> Tree:
        if isinstance(size, int):
            return self.source(size, min(depth, 1))
        if self.random.random() < 0.25:
            source = self.sized(size, depth)
            return Mapped(source, self.function(source))
        members = [self.sized(part, depth - 1) for part in size]
        joined = self.joined('composite' if self.random.random() < 0.6 else 'choice', 1, 0)
        joined.members = members
        joined.planned = all(member.planned for member in members)
        if isinstance(joined, Composite):
            joined.size = size
            joined.stop = joined.stop if isinstance(joined.stop, str) else self.random.randrange(len(members))
        elif isinstance(joined, Choice) and joined.weights is not None:
            joined.weights = [self.random.randrange(1, 4) for _ in members]
        return joined


class Case:
    """A tree of sources, and how it is gone through.

    Attributes
    ----------
    tree : Tree
        The source.
    size : int or tuple
        The batch size.
    kind : str
        How it is shuffled.
    known : bool
        Whether the documents say which batches come.
    """

    def __init__(self, seed: int, plain: bool | None = None, changing: bool | None = None, sized: bool | None = None):
        self.seed = seed
        self.random = random = Random(seed)
        plain = random.random() < 0.15 if plain is None else plain
        changing = random.random() < 0.15 if changing is None else changing
        sized = (not changing and random.random() < 0.15) if sized is None else sized
        drawer = SizedDrawer(random, plain) if sized else Drawer(random, plain, changing)
        self.tree, self.size = drawer.tree(random.choice([0, 1, 1, 2, 2, 3]))
        if isinstance(self.tree, Plain):
            self.tree = Mapped(self.tree, Keep())  # what a user's own generator gives is no stream
        trees = list(self.tree.walk())
        functions = [tree.function for tree in trees if isinstance(tree, Mapped)]
        for function in functions:
            # What another function changes in place has changed for one that keeps it, too.
            function.keeps = not any(isinstance(other, InPlace) for other in functions)
        leaves = [tree for tree in trees if isinstance(tree, Leaf)]
        self.models = [leaf.model for leaf in leaves]
        for leaf in leaves:
            leaf.read_ahead = random.choice([0, 300, 1000, 3000, 2**28])
        self.planned = self.tree.planned
        ordered = all(model.ordered for model in self.models)
        self.kind = random.choice([*(['order'] * 3 if ordered else []), *SEQUENTIAL, *SEEDED])
        if not self.planned and self.kind in ('computed', 'blocks'):
            self.kind = 'seed'
        self.shuffle_seed = random.randrange(1000)
        self.drop_last = random.random() < 0.25
        self.epoch = random.choice([0, 0, 3]) if self.kind not in SEQUENTIAL or self.planned else 0
        self.known = all(model.in_order for model in self.models) if self.kind == 'order' else self.kind == 'state'
        if self.kind in SEQUENTIAL:
            self.known = all(model.drawn for model in self.models)
        self.functions = functions
        self.same_length = all(function.same_length for function in functions)
        self.row_wise = all(function.row_wise for function in functions)

    def __repr__(self) -> str:
        how = f'size={self.size}, shuffle={self.kind}, drop_last={self.drop_last}, epoch={self.epoch}'
        return f'seed {self.seed}: {self.tree!r}; {how}'

    def shuffle(self) -> Any:
        """Make what shuffles; a sequential generator is used up, so it is made anew every time."""
        seed = self.shuffle_seed
        return {
            'order': lambda: None,
            'seed': lambda: seed,
            'computed': lambda: ComputedShuffle(seed),
            'blocks': lambda: BlockShuffle(seed, 3, window=2),
            'state': lambda: np.random.RandomState(seed),
            'generator': lambda: np.random.default_rng(seed),
        }[self.kind]()

    def arguments(self, **others: Any) -> dict[str, Any]:
        """Return the keywords of `batch_iterator`."""
        arguments = {'shuffle': self.shuffle(), 'epoch': self.epoch, 'drop_last': self.drop_last, **others}
        if self.kind == 'order' and self.shuffle_seed % 2:
            del arguments['shuffle']
        return arguments

    def make(self, scale: int = 0, rng: bool = True) -> AbstractDataSource:
        return self.tree.make(scale, rng)

    def open(self, source: Any = None, **others: Any) -> Any:
        """Open a stream, over a source of its own unless one is given."""
        source = self.make() if source is None else source
        return source.batch_iterator(self.size, **self.arguments(**others))

    @property
    def run(self) -> Run:
        """Return what shuffles the batches of the model."""
        rng = self.shuffle() if self.kind in SEQUENTIAL else None
        return Run(rng, self.drop_last, hidden=self.kind in SEEDED)

    def plan(self) -> Any:
        source: Any = self.make()
        arguments = self.arguments()
        return source.plan(self.size, **arguments)

    def nodes(self) -> list[Any]:
        """Return what is in each of the first batches, by the documents, or by the plan where they leave it open.

        Raises `RefusedError` or `UnknownError`, where the documents say that there is no such epoch, or
        not how long it is.
        """
        if self.known:
            return list(itertools.islice(self.tree.epoch(self.size, self.run), ENOUGH))
        indices = [request.indices for request in itertools.islice(self.plan(), ENOUGH)]
        return [self.tree.node_of(each, self.size) for each in indices]

    def may_be_refused(self) -> bool:
        """Say whether a member that starts again may have nothing to start with, or an unknown end."""
        trees = list(self.tree.walk())
        again = any(getattr(tree, 'stop', 'first') not in ('first', 'shortest') for tree in trees)
        stratified = any(getattr(tree, 'stratified', False) for tree in trees)
        return again or stratified

    def untold(self) -> bool:
        """Say whether a function or a source does not tell how many samples it has."""
        return any(isinstance(tree, Plain) and not tree.told for tree in self.tree.walk())


def shard_part(node: Any, rank: int, count: int, uneven: str) -> Any:
    """Cut the part of a rank out of a batch."""

    def part(rows: Any) -> Any:
        n = len(rows.ids)
        if uneven == 'drop':
            return rows._replace(ids=rows.ids[n // count * rank : n // count * (rank + 1)])
        start, stop = n * rank // count, n * (rank + 1) // count
        padding = -(-n // count) - (stop - start) if uneven == 'pad' else 0
        last = max(stop - 1, 0)
        return rows._replace(ids=np.concatenate([rows.ids[start:stop], rows.ids[last : last + 1].repeat(padding)]))

    return each_rows(part, node)


__all__ = ['Case', 'RefusedError', 'UnknownError', 'shard_part']
