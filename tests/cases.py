"""Sources, samplers and shuffles of every kind, for the contracts that all of them keep."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import pytest

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
from batchup.sampling import (
    AbstractSampler,
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

BATCH_SIZE = 4


def arrays(n: int) -> list[np.ndarray]:
    """Make data in which every sample says which one it is."""
    return [np.arange(2 * n).reshape(n, 2), np.arange(n) * 10]


class PlainSampler(AbstractSampler):
    """A user's sampler, written with plain generators."""

    def __init__(self, n: int) -> None:
        self.n = n

    def num_indices_generated(self) -> int:
        return self.n

    def in_order_indices_batch_iterator(self, batch_size: int) -> Iterator[Any]:
        for start in range(0, self.n, batch_size):
            yield np.arange(start, min(start + batch_size, self.n))

    def shuffled_indices_batch_iterator(self, batch_size: int, shuffle_rng: Any) -> Iterator[Any]:
        order = shuffle_rng.permutation(self.n)
        for start in range(0, self.n, batch_size):
            yield order[start : start + batch_size]


class UnevenSampler(AbstractSampler):
    """A user's sampler of three buckets of five samples, each with a short batch at its end."""

    def num_indices_generated(self) -> int:
        return 15

    def in_order_indices_batch_iterator(self, batch_size: int) -> Iterator[Any]:
        for bucket in np.arange(15).reshape(3, 5):
            yield from (bucket[start : start + batch_size] for start in range(0, 5, batch_size))

    def shuffled_indices_batch_iterator(self, batch_size: int, shuffle_rng: Any) -> Iterator[Any]:
        for bucket in shuffle_rng.permutation(15).reshape(3, 5):
            yield from (bucket[start : start + batch_size] for start in range(0, 5, batch_size))


class PlainRandomAccess(RandomAccessDataSource):
    """A user's random-access source."""

    def __init__(self, n: int) -> None:
        super().__init__(n)
        self.values = np.arange(n) * 3

    def samples_by_indices_nomapping(self, indices: Any) -> tuple[Any, ...]:
        return (self.values[indices],)


class PlainSource(AbstractDataSource):
    """A user's source without random access, written with a plain generator."""

    def __init__(self, n: int) -> None:
        self.n = n

    def num_samples(self, **kwargs: Any) -> int:
        return self.n

    def batch_iterator(self, batch_size: int, shuffle: Any = None, **kwargs: Any) -> Iterator[Any]:
        order = np.arange(self.n) if shuffle is None else as_random_state(shuffle).permutation(self.n)
        for start in range(0, self.n, batch_size):
            yield (order[start : start + batch_size],)


def as_random_state(shuffle: Any) -> Any:
    return shuffle if hasattr(shuffle, 'permutation') else np.random.RandomState(getattr(shuffle, 'seed', shuffle))


def call_batches(batch_size: int, **kwargs: Any) -> Iterator[Any]:
    """Make the batches of a `CallableDataSource`."""
    return PlainSource(11).batch_iterator(batch_size, **kwargs)


def jitter(*batch: Any, rng: np.random.Generator) -> tuple[Any, ...]:
    """Append random numbers to a batch."""
    return (*batch, rng.normal(size=len(batch[0])))


def keep(*batch: Any) -> tuple[Any, ...]:
    """Return a batch as it is."""
    return batch


def numbers(n: int, offset: int = 0, **kwargs: Any) -> ArrayDataSource:
    """Make a source of the numbers from `offset` on."""
    return ArrayDataSource([np.arange(n) + offset], **kwargs)


class FailsOnce:
    """A function that returns its batch, but fails at one of its calls."""

    def __init__(self, at: int, error: type[BaseException] = OSError) -> None:
        self.at = at
        self.calls = 0
        self.error = error

    def __call__(self, *batch: Any) -> tuple[Any, ...]:
        self.calls += 1
        if self.calls == self.at:
            raise self.error('disk gone')
        return batch


# Finite sources with random access, which can be in order and shuffled.
RANDOM_ACCESS: dict[str, Callable[[], AbstractDataSource]] = {
    'array': lambda: ArrayDataSource(arrays(10)),
    'array_exact': lambda: ArrayDataSource(arrays(8)),
    'array_indices': lambda: ArrayDataSource(arrays(10), include_indices=True),
    'subset': lambda: ArrayDataSource(arrays(10), indices=[3, 3, -1, 0, 7]),
    'repeated': lambda: ArrayDataSource(arrays(5), repeats=3),
    'repeated_subset': lambda: ArrayDataSource(arrays(9), indices=[8, 1, 2], repeats=5),
    'sampler': lambda: ArrayDataSource(arrays(10), sampler=StandardSampler(6)),
    'subset_sampler': lambda: ArrayDataSource(arrays(10), sampler=SubsetSampler([9, 0, -3, 3, 3, 5], repeats=2)),
    'plain_sampler': lambda: ArrayDataSource(arrays(10), sampler=PlainSampler(9)),
    'uneven_sampler': lambda: ArrayDataSource(arrays(15), sampler=UnevenSampler()),
    'plain_random_access': lambda: PlainRandomAccess(13),
    'empty': lambda: ArrayDataSource(arrays(0)),
    'composite': lambda: CompositeDataSource([ArrayDataSource(arrays(10)), ArrayDataSource(arrays(7), repeats=-1)]),
    'composite_trimmed': lambda: CompositeDataSource([ArrayDataSource(arrays(10)), ArrayDataSource(arrays(11))]),
    'composite_nested': lambda: CompositeDataSource(
        [
            ArrayDataSource(arrays(13)),
            CompositeDataSource([PlainRandomAccess(17), ArrayDataSource(arrays(5), repeats=4)]),
        ],
        flatten=False,
        trim=False,
    ),
    'choice': lambda: ChoiceDataSource([ArrayDataSource(arrays(20)), ArrayDataSource(arrays(9))]),
    'choice_equal': lambda: ChoiceDataSource([ArrayDataSource(arrays(8)), ArrayDataSource(arrays(7))]),
    'choice_stratified': lambda: ChoiceDataSource(
        [ArrayDataSource(arrays(20)), ArrayDataSource(arrays(9)), PlainRandomAccess(5)], stratified=True
    ),
    'composite_of_choice': lambda: CompositeDataSource(
        [
            ChoiceDataSource([ArrayDataSource(arrays(20)), ArrayDataSource(arrays(9))]),
            ArrayDataSource(arrays(6), repeats=9),
        ]
    ),
    'composite_longest': lambda: CompositeDataSource(
        [
            ArrayDataSource(arrays(18)),
            ArrayDataSource(arrays(7)),
            CompositeDataSource([PlainRandomAccess(9), ArrayDataSource(arrays(6))]),
        ],
        stop='longest',
    ),
    'composite_first': lambda: CompositeDataSource(
        [ArrayDataSource(arrays(13)), ArrayDataSource(arrays(6), sampler=PlainSampler(5)), PlainRandomAccess(40)],
        stop=0,
    ),
    'choice_all': lambda: ChoiceDataSource([ArrayDataSource(arrays(17)), PlainRandomAccess(9)], stop='all'),
    'choice_counted': lambda: ChoiceDataSource(
        [ArrayDataSource(arrays(9)), ArrayDataSource(arrays(9), sampler=PlainSampler(5))], stop=13
    ),
    'choice_by_weight': lambda: ChoiceDataSource(
        [ArrayDataSource(arrays(30)), PlainRandomAccess(20), ArrayDataSource(arrays(1))], weights=[3, 2, 0]
    ),
    'choice_by_weight_all': lambda: ChoiceDataSource(
        [ArrayDataSource(arrays(10)), ArrayDataSource(arrays(9), sampler=PlainSampler(5))], weights=[3, 1], stop='all'
    ),
    'choice_by_weight_counted': lambda: ChoiceDataSource(
        [
            ArrayDataSource(arrays(5)),
            ChoiceDataSource([ArrayDataSource(arrays(9)), PlainRandomAccess(4)], weights=[1, 1]),
        ],
        weights=[1, 2],
        stop=12,
    ),
    'concat': lambda: ConcatDataSource([ArrayDataSource(arrays(5)), ArrayDataSource(arrays(8))]),
    'concat_indices': lambda: ConcatDataSource(
        [ArrayDataSource(arrays(5), indices=[4, -2]), ArrayDataSource(arrays(0)), ArrayDataSource(arrays(8))],
        indices=[9, -1, 0, 1, 5, 5],
        repeats=2,
        include_indices=True,
    ),
    'concat_plain': lambda: ConcatDataSource(
        [PlainRandomAccess(7), PlainRandomAccess(3).map(keep), ConcatDataSource([PlainRandomAccess(4)])]
    ),
    'map': lambda: ArrayDataSource(arrays(10)).map(keep),
    'map_rng': lambda: ArrayDataSource(arrays(10)).map(jitter, rng=True).map(jitter, rng=True),
    'map_of_composite': lambda: CompositeDataSource(
        [ArrayDataSource(arrays(10)).map(jitter, rng=True), ArrayDataSource(arrays(10)).map(jitter, rng=True)]
    ).map(jitter, rng=True),
}

# Classes, their names, and lengths of samples.
LABELS = np.array([0, 2, 1, 0, 1, 0, 2, 2, 0, 0, 2])
NAMES = np.array(['a', 'b', 'c'])[LABELS]
LENGTHS = [3, 9, 2, 20, 8, 4, 4, 2, 0, 1, 7]

# Samplers that say themselves what is in a batch, each of four samples at most.
ARRANGED_SAMPLERS: dict[str, Callable[..., AbstractSampler]] = {
    'quotas': lambda repeats=3: QuotaSampler(LABELS, [2, 1, 1], repeats=repeats),
    'quota_of_one_class': lambda repeats=3: QuotaSampler(LABELS, [4, 0, 0], repeats=repeats),
    'quotas_by_name': lambda repeats=2: QuotaSampler(NAMES, {'c': 1, 'a': 2, 'b': 1}, repeats=repeats),
    'pk': lambda repeats=2: PKSampler(LABELS, p=2, k=2, repeats=repeats),
    'pk_of_large_classes': lambda repeats=3: PKSampler(LABELS, p=1, k=4, repeats=repeats, small_classes='skip'),
    'groups': lambda repeats=3: GroupSampler(LABELS, repeats=repeats),
    'many_groups': lambda repeats=3: GroupSampler([0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4], repeats=repeats),
    'buckets': lambda repeats=3: BucketSampler(LENGTHS, batches_per_bucket=1, repeats=repeats),
    'mixed_buckets': lambda repeats=3: BucketSampler(LENGTHS, repeats=repeats),
    'buckets_within_a_budget': lambda repeats=3: BucketSampler(LENGTHS, max_elements=20, repeats=repeats),
}
# Sources over them, finite and with random access, too.
ARRANGED: dict[str, Callable[[], AbstractDataSource]] = {
    name: lambda make=make: ArrayDataSource(arrays(11), sampler=make()) for name, make in ARRANGED_SAMPLERS.items()
}

# Those whose batches come from one sampler, and are as large as was asked for, but the last.
SINGLE = [name for name in RANDOM_ACCESS if not name.startswith(('composite', 'choice', 'map_of', 'uneven'))]

# Endless ones, most of which need a shuffle.
ENDLESS: dict[str, Callable[[], AbstractDataSource]] = {
    'endless': lambda: ArrayDataSource(arrays(7), repeats=-1),
    'endless_quotas': lambda: ArrayDataSource(arrays(11), sampler=ARRANGED_SAMPLERS['quotas'](-1)),
    'endless_pk': lambda: ArrayDataSource(arrays(11), sampler=ARRANGED_SAMPLERS['pk'](-1)),
    'endless_groups': lambda: ArrayDataSource(arrays(11), sampler=ARRANGED_SAMPLERS['many_groups'](-1)),
    'endless_buckets': lambda: ArrayDataSource(arrays(11), sampler=ARRANGED_SAMPLERS['buckets'](-1)),
    'weighted': lambda: ArrayDataSource(arrays(6), sampler=WeightedSampler([1, 0, 2, 3, 0, 1])),
    'weighted_subset': lambda: ArrayDataSource(arrays(6), sampler=WeightedSubsetSampler([1, 2], [5, 2])),
    'endless_composite': lambda: CompositeDataSource(
        [
            ArrayDataSource(arrays(5), repeats=-1),
            ArrayDataSource(arrays(6), sampler=WeightedSampler(np.ones(6))),
            ArrayDataSource(arrays(3), repeats=-1),
        ]
    ),
    'endless_longest': lambda: CompositeDataSource(
        [ArrayDataSource(arrays(5), repeats=-1), PlainRandomAccess(6), ArrayDataSource(arrays(7))], stop='longest'
    ),
    'endless_by_weight': lambda: ChoiceDataSource(
        [ArrayDataSource(arrays(5), repeats=-1), ArrayDataSource(arrays(6), repeats=-1)], weights=[1, 2]
    ),
    'endless_choice': lambda: ChoiceDataSource(
        [ArrayDataSource(arrays(5), repeats=-1), ArrayDataSource(arrays(3), repeats=-1)], stratified=True
    ),
}

# Those whose samplers fix the size of their batches.
FIXED_SIZE = [name for name in {**ARRANGED, **ENDLESS} if re.match('(endless_)?(quota|pk)', name)]

# Finite ones, which need a shuffle as well.
DRAWN: dict[str, Callable[[], AbstractDataSource]] = {
    'weighted_epoch': lambda: ArrayDataSource(arrays(6), sampler=WeightedSampler([1, 0, 2, 3, 0, 1], n_samples=11)),
    'weighted_distinct': lambda: ArrayDataSource(arrays(13), sampler=WeightedSampler(np.arange(13), replace=False)),
    'weighted_subset_epoch': lambda: ArrayDataSource(
        arrays(10), sampler=WeightedSubsetSampler(np.arange(9), np.arange(9)[::-1] - 5, n_samples=7, replace=False)
    ),
}

# Those that have no order.
ORDERED = ['endless', 'endless_quotas', 'endless_pk', 'endless_groups', 'endless_buckets']
UNORDERED = [name for name in {**ENDLESS, **DRAWN} if name not in ORDERED]

# Composites, choices, concatenations and samplers that differ from others in their plans alone:
# tests of pools leave them to the slow run.
VARIANTS = [
    name
    for name in {**RANDOM_ACCESS, **ARRANGED, **ENDLESS}
    if re.search('_longest|_first|_all|_counted|_by_weight|concat_|_of_one|_by_name|_of_large|many_|mixed_', name)
]


def named(names: Iterable[str]) -> list[Any]:
    """Return names as parameters of a test, the variants for the slow run."""
    return [pytest.param(name, marks=[pytest.mark.slow] * (name in VARIANTS)) for name in names]


# Sources without random access: resuming them reads and drops batches, with a warning.
STREAMED: dict[str, Callable[[], AbstractDataSource]] = {
    'map_of_plain': lambda: PlainSource(10).map(keep),
    'callable': lambda: CallableDataSource(call_batches, 11),
    'iterator': lambda: IteratorDataSource(iter(list(PlainSource(10).batch_iterator(BATCH_SIZE)))),
    'map_of_callable': lambda: CallableDataSource(call_batches).map(jitter, rng=True),
    'composite_of_callable': lambda: CompositeDataSource(
        [ArrayDataSource(arrays(4), repeats=5), CallableDataSource(call_batches, 11), PlainSource(30)]
    ),
    'choice_of_callable': lambda: ChoiceDataSource(
        [CallableDataSource(call_batches, 11), ArrayDataSource(arrays(5)).map(jitter, rng=True)], stratified=True
    ),
    'turns_of_callable': lambda: ChoiceDataSource([CallableDataSource(call_batches, 11), ArrayDataSource(arrays(20))]),
    'longest_of_callable': lambda: CompositeDataSource(
        [CallableDataSource(call_batches, 11), ArrayDataSource(arrays(30)), ArrayDataSource(arrays(6))], stop='longest'
    ),
    'counted_of_callable': lambda: ChoiceDataSource(
        [CallableDataSource(call_batches), PlainSource(5), PlainRandomAccess(7)], stop=13
    ),
    'by_weight_of_callable': lambda: ChoiceDataSource(
        [CallableDataSource(call_batches, 11), PlainRandomAccess(7), PlainSource(5)], weights=[2, 1, 1], stop='all'
    ),
}

# Every kind of shuffle, made anew for every use: a sequential generator is used up.
PURE_SHUFFLES: dict[str, Callable[[], dict[str, Any]]] = {
    'in_order': dict,
    'seed': lambda: {'shuffle': 42, 'epoch': 3},
}
DRAWN_SHUFFLES: dict[str, Callable[[], dict[str, Any]]] = {
    'random_state': lambda: {'shuffle': np.random.RandomState(12345)},
    'generator': lambda: {'shuffle': np.random.default_rng(12345)},
}
SHUFFLES = {**PURE_SHUFFLES, **DRAWN_SHUFFLES}
# These differ from a seed in their indices alone: what does not depend on indices goes without them.
OBJECT_SHUFFLES: dict[str, Callable[[], dict[str, Any]]] = {
    'computed': lambda: {'shuffle': ComputedShuffle(42), 'epoch': 3},
    'blocks': lambda: {'shuffle': BlockShuffle(42, 2, window=2), 'epoch': 3},
}

# One of each kind, as the argument alone.
SHUFFLE_ARGUMENTS: dict[str, Callable[[], Any]] = {
    'in order': lambda: None,
    'seed': lambda: 3,
    'drawn': lambda: np.random.RandomState(3),
}


def assert_same_batch(one: Any, other: Any) -> None:
    """Assert that two batches, or nested parts of them, are equal."""
    assert type(one) is type(other)
    if isinstance(one, tuple):
        assert len(one) == len(other)
        for part, other_part in zip(one, other):
            assert_same_batch(part, other_part)
    elif type(one) is not np.ndarray or not np.array_equal(one, other):  # which is ten times as fast
        np.testing.assert_array_equal(one, other)


def assert_same_batches(some: Any, others: Any) -> None:
    """Assert that two sequences of batches are equal."""
    some, others = list(some), list(others)
    assert len(some) == len(others)
    for one, other in zip(some, others):
        assert_same_batch(one, other)


def take_until_error(stream: Any) -> list[Any]:
    """Take batches until an `OSError` arrives; return those before it."""
    received: list[Any] = []
    with pytest.raises(OSError, match='disk gone'):
        received.extend(batch for batch in stream if received.append(batch))
    return received
