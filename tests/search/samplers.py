"""Samplers of every kind, and what their batches are to be, written from the documents."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

from batchup.sampling import (
    AbstractSampler,
    BucketSampler,
    GroupSampler,
    PKSampler,
    QuotaSampler,
    StandardSampler,
    SubsetSampler,
    WeightedSampler,
    WeightedSubsetSampler,
)


class Model:
    """What is common to the models of samplers.

    Attributes
    ----------
    ordered : bool
        Whether there are batches without a shuffle.
    in_order, drawn : bool
        Whether the documents say which batches come: in order, and by a `RandomState`.
    one_by_one : bool
        Whether batches are filled across the ends of repetitions, so that a source starts
        again as with `repeats=-1`.
    placed : bool
        Whether every sample comes once in every repetition.
    counted : bool
        Whether the number of batches is known before a sequential generator is drawn from.
    """

    ordered = True
    in_order = True
    drawn = False
    one_by_one = False
    placed = False
    counted = True

    def __repr__(self) -> str:
        facts = ', '.join(f'{name}={str(value)[:60]}' for name, value in vars(self).items())
        return f'{type(self).__name__}({facts})'

    def make(self) -> dict[str, Any]:
        """Return the keywords of a source."""
        raise NotImplementedError

    def samples(self) -> float:
        """Return the number of samples of an epoch."""
        raise NotImplementedError

    def count(self, size: int, drop_last: bool) -> float:
        """Return the number of batches of an epoch."""
        raise NotImplementedError

    def batches(self, size: int, drop_last: bool, rng: Any) -> Iterator[Any]:
        """Go through the batches of an epoch, in order or as a generator shuffles them."""
        raise NotImplementedError

    def endless(self, size: int) -> float:
        """Return the number of batches where it starts again whenever it has ended."""
        return math.inf if self.samples() else 0

    def check(self, batches: list[Any], size: int, again: bool) -> None:
        """Assert that batches are those of an epoch, in any order, or its beginning.

        If it is gone through again, and filled across the end, so are the batches.
        """
        raise NotImplementedError


class Repeated(Model):
    """All samples, or chosen ones, one after the other and again."""

    drawn = True
    one_by_one = True

    def __init__(self, n: int, indices: Any, repeats: int, as_sampler: bool) -> None:
        self.n = n
        self.indices = indices
        self.base = np.arange(n) if indices is None else indices
        self.repeats = repeats
        self.as_sampler = as_sampler
        # By the numbers that the user gave: -1 is another one than n - 1.
        self.placed = len(set(self.base.tolist())) == len(self.base)

    def make(self) -> dict[str, Any]:
        if self.as_sampler:
            sampler = (
                StandardSampler(self.n, self.repeats)
                if self.indices is None
                else SubsetSampler(self.indices, self.repeats)
            )
            return {'sampler': sampler}
        return {'indices': self.indices, 'repeats': self.repeats}

    def samples(self) -> float:
        return math.inf if self.repeats == -1 else len(self.base) * self.repeats

    def count(self, size: int, drop_last: bool) -> float:
        if not len(self.base):
            return 0
        samples = self.samples()
        return samples if samples == math.inf else int(samples // size if drop_last else -(-samples // size))

    def batches(self, size: int, drop_last: bool, rng: Any) -> Iterator[Any]:
        left = np.empty(0, int)
        repetitions = 0
        while len(self.base):
            while len(left) < size and repetitions != self.repeats:
                left = np.concatenate([left, self.base if rng is None else rng.permutation(self.base)])
                repetitions += 1
            if len(left) < (size if drop_last else 1):
                return
            yield left[:size]
            left = left[size:]

    def forever(self) -> Repeated:
        return Repeated(self.n, self.indices, -1, self.as_sampler)

    def check(self, batches: list[Any], size: int, again: bool) -> None:
        """Check repetitions; batches may have been cut, so some of their samples are missing."""
        slots: list[int | None] = []
        for number, batch in enumerate(batches):
            full = size if again else int(min(size, self.samples() - number * size))
            assert len(batch) <= full, f'batch {number} has {len(batch)} samples, not {full}'
            slots += [*np.asarray(batch).tolist(), *[None] * (full - len(batch))]
        expected = Counter(self.base.tolist())
        for start in range(0, len(slots), max(1, len(self.base))):
            seen = Counter(slot for slot in slots[start : start + len(self.base)] if slot is not None)
            assert not seen - expected, f'samples {dict(seen - expected)} come too often in a repetition'


class Weighted(Model):
    """Samples drawn by weight.

    Where it starts again, draws with replacement are filled across the end by a seed, and begin
    with a new batch by a sequential generator: their sizes are not checked for a seed.
    """

    ordered = False
    in_order = False

    def __init__(self, weights: Any, indices: Any, n_samples: int | None, replace: bool) -> None:
        self.weights = weights
        self.indices = indices
        self.n_samples = n_samples
        self.replace = replace
        self.drawn = replace
        self.one_by_one = not replace

    def make(self) -> dict[str, Any]:
        arguments = {'n_samples': self.n_samples, 'replace': self.replace}
        if self.indices is None:
            return {'sampler': WeightedSampler(self.weights, **arguments)}
        return {'sampler': WeightedSubsetSampler(self.weights, self.indices, **arguments)}

    def samples(self) -> float:
        if self.n_samples is not None:
            return self.n_samples
        return math.inf if self.replace else int(np.count_nonzero(self.weights))

    def count(self, size: int, drop_last: bool) -> float:
        samples = self.samples()
        return samples if samples == math.inf else int(samples // size if drop_last else -(-samples // size))

    def batches(self, size: int, drop_last: bool, rng: Any) -> Iterator[Any]:
        drawn_from = len(self.weights) if self.indices is None else self.indices
        left = self.samples()
        while left >= (size if drop_last else 1):
            yield rng.choice(drawn_from, size=int(min(size, left)), p=self.weights / self.weights.sum())
            left -= size

    def check(self, batches: list[Any], size: int, again: bool) -> None:
        allowed = np.flatnonzero(self.weights) if self.indices is None else self.indices[self.weights > 0]
        # Where a batch was cut, it is not known what it had.
        slots = [slot for batch in batches for slot in [*np.asarray(batch).tolist(), *[-99] * (size - len(batch))]]
        assert set(slots) <= {*allowed.tolist(), -99}, 'a sample without weight is drawn'
        if not self.replace:
            samples = max(1, int(self.samples()))
            for start in range(0, len(slots), samples):
                drawn = [slot for slot in slots[start : start + samples] if slot != -99]
                assert len(set(drawn)) == len(drawn), 'a sample is drawn twice'


class Classes(Model):
    """Batches with so many samples of each class."""

    def __init__(self, labels: Any, counts: dict[int, int], p: int, repeats: int | None, n_batches: int | None) -> None:
        self.labels = labels
        self.counts = counts
        self.p = p
        self.repeats = repeats
        self.n_batches = n_batches
        # In order, P x K takes classes in turn, and each class its samples in turn.
        self.members = {label: np.flatnonzero(labels == label) for label in counts}

    def make(self) -> dict[str, Any]:
        length = {'repeats': self.repeats} if self.n_batches is None else {'n_batches': self.n_batches}
        if self.p:
            return {'sampler': PKSampler(self.labels, self.p, next(iter(self.counts.values())), **length)}
        return {'sampler': QuotaSampler(self.labels, dict(self.counts), **length)}

    def samples(self) -> float:
        return self.count(self.size, False) * self.size

    @property
    def size(self) -> int:
        return self.p * next(iter(self.counts.values())) if self.p else sum(self.counts.values())

    def count(self, size: int, drop_last: bool) -> float:
        if self.n_batches is not None:
            return self.n_batches
        if self.repeats == -1:
            return math.inf
        visits = max(-(-self.repeats * len(self.members[label]) // count) for label, count in self.counts.items())
        return -(-visits * len(self.members) // self.p) if self.p else visits

    def batches(self, size: int, drop_last: bool, rng: Any) -> Iterator[Any]:
        taken = Counter()
        turn = number = 0
        while number < self.count(size, drop_last):
            labels = sorted(self.counts)
            if self.p:
                labels = [labels[(turn + place) % len(labels)] for place in range(self.p)]
                turn += self.p
            parts = []
            for label in labels:
                members, count = self.members[label], self.counts[label]
                parts.append(members[(taken[label] + np.arange(count)) % len(members)])
                taken[label] += count
            yield np.concatenate(parts)
            number += 1

    def check(self, batches: list[Any], size: int, again: bool) -> None:
        left: dict[int, set[int]] = {label: set() for label in self.counts}
        turns: list[int] = []
        for batch in batches:
            if len(batch) < size:  # cut, so it is not known which samples were there
                return
            found = self.labels[np.asarray(batch)]
            if self.p:
                blocks = found.reshape(self.p, -1)
                assert (blocks == blocks[:, :1]).all(), 'samples of a class are not side by side'
                assert len(set(blocks[:, 0].tolist())) == self.p, 'a class comes twice in a batch'
                turns += blocks[:, 0].tolist()
            for label in set(found.tolist()):
                taken = set(np.asarray(batch)[found == label].tolist())
                assert len(taken) == self.counts[label] == np.count_nonzero(found == label), f'class {label}: {batch}'
                rest = left[label]
                assert taken <= rest or rest <= taken, f'class {label} is not gone through before it starts again'
                left[label] = rest - taken or set(self.members[label].tolist()) - (taken - rest)
                if rest and taken == rest:
                    left[label] = set()
            assert self.p or set(found.tolist()) == set(self.counts), 'a class is missing'
        for start in range(0, len(turns), len(self.counts)):
            assert len(set(turns[start : start + len(self.counts)])) == len(turns[start : start + len(self.counts)])


class Arranged(Model):
    """All samples in every repetition, in batches that groups or lengths decide about."""

    placed = True

    def __init__(self, values: Any, max_elements: int | None, per_bucket: int, groups: bool, repeats: int) -> None:
        self.values = values
        self.max_elements = max_elements
        self.per_bucket = per_bucket
        self.groups = groups
        self.repeats = repeats
        self.in_order = False

    def make(self) -> dict[str, Any]:
        if self.groups:
            return {'sampler': GroupSampler(self.values, repeats=self.repeats)}
        arguments = {'max_elements': self.max_elements, 'batches_per_bucket': self.per_bucket}
        return {'sampler': BucketSampler(self.values, repeats=self.repeats, **arguments)}

    def samples(self) -> float:
        return len(self.values) * self.repeats

    def sizes(self, size: int) -> tuple[list[int], int]:
        """Return the sizes of the batches of a repetition, in order, and that of a full one at the end."""
        n = len(self.values)
        if self.groups:
            count = max(-(-n // size), max(Counter(self.values.tolist()).values(), default=0))
            return [n // count + (number < n % count) for number in range(count)], size
        lengths, sizes, start, each = np.sort(self.values)[::-1], [], 0, size
        while start < n:
            longest = max(1, int(lengths[start]))
            each = size if self.max_elements is None else min(size, self.max_elements // longest)
            stop = start + each * self.per_bucket
            stop = n if n - stop < each else stop
            sizes += [min(each, stop - place) for place in range(start, stop, each)]
            start = stop
        return sizes, each

    def count(self, size: int, drop_last: bool) -> float:
        sizes, full = self.sizes(size)
        if drop_last and self.groups:
            counts = Counter(self.values.tolist()).values()
            fits = [m for m in range(len(self.values) // size + 1) if sum(min(m, c) for c in counts) >= m * size]
            return max(fits) * self.repeats
        if drop_last and sizes and sizes[-1] < full:
            return (len(sizes) - 1) * self.repeats
        return len(sizes) * self.repeats

    def batches(self, size: int, drop_last: bool, rng: Any) -> Iterator[Any]:
        """Go through as many batches as there are; which samples they have is not known."""
        return itertools.repeat(np.empty(0, int), int(self.count(size, drop_last)))

    def check(self, batches: list[Any], size: int, again: bool) -> None:
        arrays = [np.asarray(batch) for batch in batches]
        for batch in arrays:
            values = self.values[batch].tolist()
            assert len(batch) <= size, f'a batch has {len(batch)} samples, more than {size}'
            if self.groups:
                assert len(set(values)) == len(values), f'a group comes twice in a batch: {values}'
            elif self.max_elements is not None and values:
                assert len(values) * max(values) <= self.max_elements, f'{values} is more than {self.max_elements}'
        drawn = Counter(index for batch in arrays for index in batch.tolist())
        assert max(drawn.values(), default=0) <= self.repeats, 'a sample comes too often'


class UsersSampler(AbstractSampler):
    """A user's sampler with plain generators: blocks of samples, each with a short batch at its end."""

    def __init__(self, n: int, block: int, told: bool, kind: str) -> None:
        self.n = n
        self.block = block
        self.told = told
        self.kind = kind

    def __repr__(self) -> str:
        return f'UsersSampler({self.n}, block={self.block}, told={self.told}, kind={self.kind!r})'

    def num_indices_generated(self) -> Any:
        return self.n if self.told else None

    def in_order_indices_batch_iterator(self, batch_size: int) -> Iterator[Any]:
        return self._cut(np.arange(self.n), batch_size)

    def shuffled_indices_batch_iterator(self, batch_size: int, shuffle_rng: Any) -> Iterator[Any]:
        yield from self._cut(shuffle_rng.permutation(self.n), batch_size)

    def _cut(self, order: Any, batch_size: int) -> Iterator[Any]:
        for first in range(0, self.n, self.block):
            part = order[first : first + self.block]
            for start in range(0, len(part), batch_size):
                batch = part[start : start + batch_size]
                yield batch.tolist() if self.kind == 'lists' else batch


class Users(Model):
    """A user's sampler."""

    drawn = True
    counted = False

    def __init__(self, n: int, block: int, told: bool, kind: str) -> None:
        self.sampler = UsersSampler(n, block, told, kind)

    def make(self) -> dict[str, Any]:
        return {'sampler': self.sampler}

    def samples(self) -> Any:
        return self.sampler.num_indices_generated()

    def count(self, size: int, drop_last: bool) -> float:
        return len(list(self.batches(size, drop_last, None)))

    def batches(self, size: int, drop_last: bool, rng: Any) -> Iterator[Any]:
        if rng is None:
            batches = self.sampler.in_order_indices_batch_iterator(size)
        else:
            batches = self.sampler.shuffled_indices_batch_iterator(size, rng)
        for batch in batches:
            if len(batch) == size or not drop_last:
                yield np.asarray(batch)

    def check(self, batches: list[Any], size: int, again: bool) -> None:
        drawn = [index for batch in batches for index in np.asarray(batch).tolist()]
        assert len(set(drawn)) == len(drawn), 'a sample comes twice'
