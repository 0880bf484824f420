"""The sequences that are promised, as digests: those of seeds, and of the `RandomState` of a user.

They are the same with every version of NumPy and on every platform. A digest that changes breaks
what users rely on. `python -m tests.golden` prints them as they are here, one on a line with the
name of its case; it needs the package and nothing else.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import numpy as np

from batchup.data_source import ArrayDataSource, ChoiceDataSource, CompositeDataSource, ConcatDataSource
from batchup.sampling import (
    AbstractSampler,
    BlockShuffle,
    BucketSampler,
    ComputedShuffle,
    FullShuffle,
    GroupSampler,
    PKSampler,
    QuotaSampler,
    StandardSampler,
    SubsetSampler,
    WeightedSampler,
    WeightedSubsetSampler,
)
from batchup.splits import group_k_fold, k_fold, split, stratified_k_fold, train_test_split

# So many batches of a plan count, if it has as many.
BATCHES = 40

# A name, and the digest of what a function returns.
Cases = dict[str, tuple[str, Callable[[], Any]]]

# Sums, quotients and roundings of these are inexact.
WEIGHTS = 1.0 / np.arange(1, 2001)
FEW_WEIGHTS = [0.1, 0, 0.7, 0.3, 0.1]

CLASSES = np.arange(500) ** 2 % 7 % 4  # 0, 1 and 2
NAMES = [f'class {label}' for label in CLASSES]
GROUPS = np.arange(300) ** 2 % 101
LENGTHS = np.arange(1000) ** 2 % 89 + 1


class PlainSampler(AbstractSampler):
    """A user's sampler."""

    def num_indices_generated(self) -> int:
        return 50

    def shuffled_indices_batch_iterator(self, batch_size: int, shuffle_rng: Any) -> Iterator[Any]:
        order = shuffle_rng.permutation(50)
        for start in range(0, 50, batch_size):
            yield order[start : start + batch_size]


def numbers(n: int, **arguments: Any) -> ArrayDataSource:
    """Make a source of the numbers below `n`."""
    return ArrayDataSource([np.arange(n)], **arguments)


def members(*lengths: int) -> list[ArrayDataSource]:
    """Make several sources."""
    return [numbers(length) for length in lengths]


def plan(of: Any, batch_size: Any, shuffle: Any = 42, **arguments: Any) -> list[Any]:
    """Return the indices of the first batches of a sampler or a source."""
    requests = iter(of.plan(batch_size, shuffle, **arguments))
    return [request.indices for request in islice(requests, BATCHES)]


def batch(number: int, of: Any, batch_size: int, shuffle: Any = 42, **arguments: Any) -> Any:
    """Return the indices of one batch."""
    return of.plan(batch_size, shuffle, **arguments)[number].indices


def stream(source: Any, batch_size: Any, **arguments: Any) -> list[Any]:
    """Return the first batches themselves."""
    return list(islice(source.batch_iterator(batch_size, shuffle=42, **arguments), BATCHES))


def drawn(of: Any, batch_size: int) -> list[Any]:
    """Return the indices of the first batches by a `RandomState`."""
    return plan(of, batch_size, np.random.RandomState(12345))


def at(shuffle: Any, length: int, **arguments: Any) -> Any:
    """Return an order at positions all over it, and at its first ones."""
    order = shuffle.order(length, **arguments)
    spread = np.array([length * part // 1000 for part in range(1000)], np.int64)
    return order(spread), order[:100]


SAMPLERS: Cases = {
    'standard': ('9d14c80d', lambda: plan(StandardSampler(100), 7)),
    'standard, one sample': ('3f234c62', lambda: plan(StandardSampler(1), 3)),
    'standard, two samples': ('43223164', lambda: plan(StandardSampler(2, repeats=20), 1)),
    'standard, seed 0': ('6f14e9cc', lambda: plan(StandardSampler(100), 7, 0)),
    'standard, seed of 41 bits': ('846d4274', lambda: plan(StandardSampler(100), 7, 2**40)),
    'standard, seed of 200 bits': ('a1536a5e', lambda: plan(StandardSampler(100), 7, 2**199 + 7)),
    'standard, epoch 1': ('98fba5f2', lambda: plan(StandardSampler(100), 7, epoch=1)),
    'standard, epoch of 41 bits': ('4fc46869', lambda: plan(StandardSampler(100), 7, epoch=2**40)),
    'standard, repeated': ('8207fb13', lambda: plan(StandardSampler(10, repeats=5), 7)),
    'standard, endless': ('e0abba1f', lambda: plan(StandardSampler(10, repeats=-1), 7)),
    'standard, endless, far away': ('a35c0413', lambda: batch(10**12, StandardSampler(10, repeats=-1), 7)),
    'standard, batches of several repetitions': ('ebdbbe51', lambda: plan(StandardSampler(3, repeats=20), 11)),
    'standard, drop_last': ('6fd35473', lambda: plan(StandardSampler(100), 7, drop_last=True)),
    'standard, 70,000 samples': ('c43a213d', lambda: plan(StandardSampler(70_000), 2000)),
    'subset': ('22448b59', lambda: plan(SubsetSampler([5, 3, 9, -1, 4, 100]), 4)),
    'subset, an index several times': ('4a5c993e', lambda: plan(SubsetSampler([7, 7, 7, 8, 9, 9]), 4, 3)),
    'subset, repeated': ('3f058045', lambda: plan(SubsetSampler(np.arange(50)[::-3], repeats=4), 8)),
    'subset, endless': ('be2269a8', lambda: plan(SubsetSampler([1, 2, 4], repeats=-1), 2, epoch=3)),
    'subset of a subset': ('e921a740', lambda: plan(SubsetSampler(np.arange(50)[::-3]).subset([3, -1, 0, 9]), 3)),
    'weighted': ('87f77b32', lambda: plan(WeightedSampler(FEW_WEIGHTS), 8)),
    'weighted, epoch 1': ('1ea01421', lambda: plan(WeightedSampler(FEW_WEIGHTS), 8, epoch=1)),
    'weighted, 2,000 weights': ('d8e1e7e2', lambda: plan(WeightedSampler(WEIGHTS), 64)),
    'weighted, 2,000 weights in large batches': ('210ba8f8', lambda: plan(WeightedSampler(WEIGHTS), 3000)),
    'weighted, far away': ('afd94661', lambda: batch(10**12, WeightedSampler(WEIGHTS), 64)),
    'weighted, of a length': ('4f50db59', lambda: plan(WeightedSampler(WEIGHTS, n_samples=1000), 64)),
    'weighted, from the smallest to the largest': (
        'a314b737',
        lambda: plan(WeightedSampler([1e-300, 1e-9, 1e300, 3e300]), 64),
    ),
    'weighted, as states name it': ('7fe97b42', lambda: WeightedSampler(WEIGHTS).plan(64, 42).describe()),
    'weighted, class balancing': ('aa3cbc47', lambda: plan(WeightedSampler.class_balancing_sampler(CLASSES), 32)),
    'weighted, part of the samples': (
        'baf7bb6e',
        lambda: plan(WeightedSampler(WEIGHTS).subset(np.arange(0, 2000, 7)), 32),
    ),
    'weighted without replacement': ('7c07cf51', lambda: plan(WeightedSampler(FEW_WEIGHTS, replace=False), 3)),
    'weighted without replacement, 2,000 weights': (
        '7fd451b0',
        lambda: plan(WeightedSampler(WEIGHTS, replace=False), 64),
    ),
    'weighted without replacement, of a length': (
        '59369a69',
        lambda: plan(WeightedSampler(WEIGHTS, replace=False, n_samples=300), 64),
    ),
    'weighted without replacement, equal': (
        'a53f35f2',
        lambda: plan(WeightedSampler(np.ones(1000), replace=False), 64, epoch=2),
    ),
    'weighted without replacement, class balancing': (
        'c609d543',
        lambda: plan(WeightedSampler.class_balancing_sampler(CLASSES, replace=False), 32),
    ),
    'weighted subset': ('b9ec8c2a', lambda: plan(WeightedSubsetSampler(FEW_WEIGHTS, [9, 8, 7, 6, 5]), 8)),
    'weighted subset, of a length': (
        'f033a0fc',
        lambda: plan(WeightedSubsetSampler(WEIGHTS, np.arange(2000) * 3, n_samples=900), 64),
    ),
    'weighted subset without replacement': (
        '24cdd779',
        lambda: plan(WeightedSubsetSampler(WEIGHTS, np.arange(2000) * 3, replace=False), 64),
    ),
    'weighted subset, class balancing': (
        '8e0321b7',
        lambda: plan(WeightedSubsetSampler.class_balancing_sampler(CLASSES, np.arange(0, 500, 3)), 32),
    ),
    'quotas': ('1dde8117', lambda: plan(QuotaSampler(CLASSES, {0: 3, 1: 5, 2: 1, 3: 0}), 9)),
    'quotas, epoch 1': ('cbc9ecb5', lambda: plan(QuotaSampler(CLASSES, [3, 5, 1]), 9, epoch=1)),
    'quotas, repeated': ('feaf0fb5', lambda: plan(QuotaSampler(CLASSES[:20], [1, 2, 1], repeats=6), 4)),
    'quotas, so many batches': ('9bc57751', lambda: plan(QuotaSampler(CLASSES, [20, 0, 1], n_batches=37), 21)),
    'quotas, endless': ('d0e1dafd', lambda: plan(QuotaSampler(CLASSES[:20], [2, 2, 2], repeats=-1), 6)),
    'quotas, far away': ('c95f1e9e', lambda: batch(10**12, QuotaSampler(CLASSES, [3, 5, 1], repeats=-1), 9)),
    'quotas, one of each': ('6f30c7de', lambda: plan(QuotaSampler(CLASSES, [1, 1, 1]), 3)),
    'quotas, a class alone': ('ab36da0d', lambda: plan(QuotaSampler(CLASSES, [1, 0, 0]), 1)),
    'quotas, larger than 4,096': (
        'c9a6be17',
        lambda: plan(QuotaSampler(np.arange(20_000) % 3, [1500, 1500, 1500]), 4500),
    ),
    'quotas, names': ('b44160b6', lambda: plan(QuotaSampler(NAMES, [1, 3, 2]), 6)),
    'p x k': ('f607f0f2', lambda: plan(PKSampler(CLASSES, 2, 4), 8)),
    'p x k, epoch 1': ('7ecaa837', lambda: plan(PKSampler(CLASSES, 3, 7), 21, epoch=1)),
    'p x k, many classes': ('bb953193', lambda: plan(PKSampler(np.arange(600) % 97, 5, 4, n_batches=40), 20)),
    'p x k, endless': ('5cdd3650', lambda: plan(PKSampler(np.arange(30) % 7, 3, 2, repeats=-1), 6)),
    'p x k, small classes left out': ('ad7d92f4', lambda: plan(PKSampler(GROUPS, 8, 4, small_classes='skip'), 32)),
    'p x k, far away': ('4a7e1952', lambda: batch(10**6, PKSampler(CLASSES, 2, 4, repeats=-1), 8)),
    'groups': ('bcd43aca', lambda: plan(GroupSampler(GROUPS), 16)),
    'groups, repeated': ('5d2ec6cf', lambda: plan(GroupSampler(GROUPS, repeats=3), 32, epoch=1)),
    'groups, drop_last': ('17bc3683', lambda: plan(GroupSampler(GROUPS, repeats=-1), 32, drop_last=True)),
    'groups, names': ('f5c9521f', lambda: plan(GroupSampler(NAMES), 2, 7)),
    'buckets': ('73de6d35', lambda: plan(BucketSampler(LENGTHS), 16)),
    'buckets, repeated': (
        '4fc2e944',
        lambda: plan(BucketSampler(LENGTHS, batches_per_bucket=2, repeats=2), 64, epoch=1),
    ),
    'buckets, of elements': ('80726a2b', lambda: plan(BucketSampler(LENGTHS, max_elements=1000), 64)),
    'buckets, drop_last': ('de25d54a', lambda: plan(BucketSampler(LENGTHS, repeats=-1), 48, drop_last=True)),
    "a user's sampler": ('98fe5403', lambda: plan(PlainSampler(), 7, epoch=2)),
}

SHUFFLES: Cases = {
    'full shuffle': ('597d6230', lambda: FullShuffle(42).order(1000)[:]),
    'full shuffle, epoch and repetition': ('f95fc15d', lambda: FullShuffle(42).order(1000, epoch=3, repetition=2)[:]),
    'computed shuffle, stored': ('310f0729', lambda: ComputedShuffle(42).order(65_536)[:]),
    'computed shuffle, 65,537 samples': ('722ddaa5', lambda: ComputedShuffle(42).order(65_537)[:]),
    'computed shuffle, 10**6 samples': ('a69f6648', lambda: at(ComputedShuffle(42), 10**6)),
    'computed shuffle, 10**9 samples, epoch 1': ('b53117fb', lambda: at(ComputedShuffle(42), 10**9, epoch=1)),
    'computed shuffle, 2**32 + 1 samples': ('71319bcf', lambda: at(ComputedShuffle(2**70), 2**32 + 1)),
    'computed shuffle, 10**15 samples': ('7bb00769', lambda: at(ComputedShuffle(42), 10**15)),
    'computed shuffle, 2**63 samples': ('6eda4b78', lambda: at(ComputedShuffle(42), 2**63, repetition=5)),
    'computed shuffle, plan': (
        '72d3ed4a',
        lambda: plan(StandardSampler(100_000, repeats=2), 4000, ComputedShuffle(42)),
    ),
    'computed shuffle, plan of a subset': (
        '864bb975',
        lambda: plan(SubsetSampler(np.arange(0, 90_000, 3)), 1000, ComputedShuffle(42), epoch=1),
    ),
    'block shuffle': ('6a783dc7', lambda: BlockShuffle(42, 7, window=3).order(1000)[:]),
    'block shuffle, epoch and repetition': (
        '84bc6bd4',
        lambda: BlockShuffle(42, 7, window=3).order(1000, epoch=3, repetition=2)[:],
    ),
    'block shuffle, default blocks': ('1a7ca5b3', lambda: at(BlockShuffle(42), 10**6)),
    'block shuffle, one block': ('5efae1e1', lambda: BlockShuffle(42, 1000).order(100)[:]),
    'block shuffle, windows of one block': ('9a93ed35', lambda: BlockShuffle(42, 10, window=1).order(1005)[:]),
    'block shuffle, blocks of one sample': ('cca703cf', lambda: BlockShuffle(42, 1, window=64).order(1000)[:]),
    'block shuffle, 10**6 samples': ('e87ebcae', lambda: at(BlockShuffle(42, 1000), 10**6)),
    'block shuffle, 70,000 blocks': ('a7d3188b', lambda: at(BlockShuffle(42, 10), 700_001, epoch=1)),
    'block shuffle, 10**15 samples': ('9d4b6e0b', lambda: at(BlockShuffle(42, 1000, window=4), 10**15)),
    'block shuffle, plan': (
        'd7ecc097',
        lambda: plan(StandardSampler(10_000, repeats=-1), 300, BlockShuffle(42, 64, window=8)),
    ),
    'block shuffle, plan of a subset': (
        'ccaf8b47',
        lambda: plan(SubsetSampler(np.arange(0, 1000, 3)), 10, BlockShuffle(42, 16), epoch=1),
    ),
    'block shuffle, weighted': ('68df04ce', lambda: plan(WeightedSampler(WEIGHTS), 64, BlockShuffle(7, 10))),
}

SOURCES: Cases = {
    'composite': ('02228c38', lambda: plan(CompositeDataSource(members(50, 40)), 6)),
    'composite, epoch 1': ('7aceaacf', lambda: plan(CompositeDataSource(members(50, 40)), 6, epoch=1)),
    'composite, batch sizes': ('830fd831', lambda: plan(CompositeDataSource(members(50, 400, 90)), (3, 20, 7))),
    'composite, not trimmed': ('24a31584', lambda: plan(CompositeDataSource(members(50, 49), trim=False), 8)),
    'composite, longest': ('15ef28da', lambda: plan(CompositeDataSource(members(50, 7, 20), stop='longest'), 6)),
    'composite, one member ends it': ('87806498', lambda: plan(CompositeDataSource(members(50, 7, 20), stop=2), 6)),
    'composite of composites': (
        '171d21b2',
        lambda: plan(CompositeDataSource([CompositeDataSource(members(30, 40)), numbers(9, repeats=-1)]), 4),
    ),
    'composite of a choice': (
        'bdf033dd',
        lambda: plan(CompositeDataSource([ChoiceDataSource(members(30, 40)), numbers(90)]), 4),
    ),
    'composite that starts a choice again': (
        'c988d3a4',
        lambda: plan(CompositeDataSource([ChoiceDataSource(members(9, 6)), numbers(90)], stop='longest'), 4),
    ),
    'composite, blocks': (
        '3eb5c373',
        lambda: plan(CompositeDataSource(members(500, 400)), 16, BlockShuffle(42, 32, window=2)),
    ),
    'composite of weighted': (
        'ccc52f69',
        lambda: plan(CompositeDataSource([numbers(2000, sampler=WeightedSampler(WEIGHTS)), numbers(90)]), 8),
    ),
    'choice in turn': ('e7ffc435', lambda: plan(ChoiceDataSource(members(50, 40, 60)), 7)),
    'choice in turn, epoch 1': ('f8458988', lambda: plan(ChoiceDataSource(members(50, 40, 60)), 7, epoch=1)),
    'choice in turn, to the end of all': (
        '641635ad',
        lambda: plan(ChoiceDataSource(members(50, 9, 20), stop='all'), 7),
    ),
    'choice in turn, so many batches': ('b1dfbc24', lambda: plan(ChoiceDataSource(members(50, 9, 20), stop=33), 7)),
    'choice in turn, endless': (
        'd4abe274',
        lambda: plan(ChoiceDataSource([numbers(5, repeats=-1), numbers(3, repeats=-1)]), 2),
    ),
    'choice, stratified': ('a54558d1', lambda: plan(ChoiceDataSource(members(50, 90, 20), stratified=True), 7)),
    'choice, stratified, epoch 1': (
        '9216d2ca',
        lambda: plan(ChoiceDataSource(members(50, 90, 20), stratified=True), 7, epoch=1),
    ),
    'choice, stratified, of choices': (
        '6e9d4579',
        lambda: plan(ChoiceDataSource([ChoiceDataSource(members(30, 40)), numbers(60)], stratified=True), 7),
    ),
    'choice by weight': ('e0975037', lambda: plan(ChoiceDataSource(members(50, 90, 20), weights=[0.1, 0.6, 0.3]), 2)),
    'choice by weight, to the end of all': (
        '598f48f3',
        lambda: plan(ChoiceDataSource(members(50, 90, 20), weights=[3, 1, 0], stop='all'), 7),
    ),
    'choice by weight, so many batches': (
        '3f987334',
        lambda: plan(ChoiceDataSource(members(50, 90, 20), weights=[1, 2, 3], stop=36), 7, epoch=1),
    ),
    'choice by weight, far away': (
        'cc9dfad2',
        lambda: batch(100_000, ChoiceDataSource([numbers(9, repeats=-1)] * 12, weights=WEIGHTS[:12]), 4),
    ),
    'choice by weight, in order': (
        'ba955616',
        lambda: plan(ChoiceDataSource(members(500, 900, 20), weights=[0.1, 0.6, 0.3], stop=40), 2, None),
    ),
    'choice by weight, in order, far away': (
        '8aa90dbf',
        lambda: batch(10**9, ChoiceDataSource([numbers(9, repeats=-1)] * 12, weights=WEIGHTS[:12]), 4, None),
    ),
    'concat': ('76c4b0e3', lambda: plan(ConcatDataSource(members(50, 40)), 7)),
    'concat, subset, repeated': (
        'd856136d',
        lambda: plan(ConcatDataSource(members(50, 40), indices=np.arange(0, 90, 4), repeats=3), 7),
    ),
    'concat, class balancing': (
        '786f2079',
        lambda: plan(ConcatDataSource(members(300, 200), sampler=WeightedSampler.class_balancing_sampler(CLASSES)), 7),
    ),
    'array, repeated': ('50ec20ee', lambda: plan(numbers(20, repeats=4), 7)),
    'array, subset': ('7ca0b927', lambda: plan(numbers(200).subset(np.arange(0, 200, 9)), 7)),
    'mapped with random numbers': ('9d14c80d', lambda: plan(numbers(100).map(lambda x, rng: (x,), rng=True), 7)),
    'shard 0 of 3': ('3cd54d23', lambda: stream(numbers(100), 7, shard=(0, 3))),
    'shard 2 of 3': ('ba9a70d5', lambda: stream(numbers(100), 7, shard=(2, 3), epoch=1)),
    'shard, dropped': ('943add5d', lambda: stream(numbers(100), 7, shard=(1, 3), uneven='drop')),
    'shard, padded': ('6e3638bd', lambda: stream(numbers(100), 7, shard=(1, 3), uneven='pad')),
    'shard of a composite': ('5d1a77c4', lambda: stream(CompositeDataSource(members(50, 40)), 6, shard=(1, 2))),
    'shard of a choice by weight': (
        'f11f2571',
        lambda: stream(ChoiceDataSource(members(50, 40), weights=[1, 2]), 6, shard=(1, 2)),
    ),
}

SPLITS: Cases = {
    'split': ('e93475f7', lambda: split(1000, (0.7, 0.2, 0.1), shuffle=42)),
    'split, seed 0': ('f3608d75', lambda: split(100, (0.5, None))),
    'split, counts': ('7571b59a', lambda: split(100, [20, 30], shuffle=7)),
    'split, stratified': ('1f95737e', lambda: split(500, (0.7, 0.2, 0.1), shuffle=42, stratify=CLASSES)),
    'split, stratified with ties': (
        '67e079d2',
        lambda: split(60, (20, 10, 10), shuffle=42, stratify=np.arange(60) % 6),
    ),
    'split, stratified by names': ('61639cbb', lambda: split(500, (0.5, 0.3), shuffle=42, stratify=NAMES)),
    'split, groups': ('42f48434', lambda: split(300, (0.7, 0.2, 0.1), shuffle=42, groups=GROUPS)),
    'train_test_split': ('8327fe52', lambda: train_test_split(1000, shuffle=42)),
    'train_test_split, sizes': ('c4e7f0de', lambda: train_test_split(1000, test_size=100, train_size=0.3, shuffle=42)),
    'train_test_split, stratified': (
        'bd1f7b66',
        lambda: train_test_split(500, test_size=0.3, shuffle=42, stratify=CLASSES),
    ),
    'train_test_split, groups': ('fcea4e9e', lambda: train_test_split(300, shuffle=42, groups=GROUPS)),
    'k_fold': ('02d8b619', lambda: k_fold(103, 5, shuffle=42)),
    'stratified_k_fold': ('64c4fe18', lambda: stratified_k_fold(CLASSES, 4, shuffle=42)),
    'stratified_k_fold, names': ('b8ac68c5', lambda: stratified_k_fold(NAMES, 3, shuffle=7)),
    'group_k_fold': ('7ff5c553', lambda: group_k_fold(GROUPS, 5, shuffle=42)),
}

RANDOM_STATES: Cases = {
    'RandomState, standard': ('6c060159', lambda: drawn(StandardSampler(100, repeats=2), 7)),
    'RandomState, subset': ('865269dc', lambda: drawn(SubsetSampler(np.arange(0, 90, 4), repeats=2), 7)),
    'RandomState, weighted': ('d12dc75b', lambda: drawn(WeightedSampler(WEIGHTS), 64)),
    'RandomState, weighted without replacement': (
        '8bf11f2e',
        lambda: drawn(WeightedSampler(WEIGHTS, replace=False), 64),
    ),
    'RandomState, weighted subset': (
        '627dd6ee',
        lambda: drawn(WeightedSubsetSampler(WEIGHTS, np.arange(2000) * 3), 64),
    ),
    'RandomState, quotas': ('e75af98e', lambda: drawn(QuotaSampler(CLASSES, [3, 5, 1]), 9)),
    'RandomState, p x k': ('23e95e31', lambda: drawn(PKSampler(CLASSES, 2, 4), 8)),
    'RandomState, groups': ('ea3b2a14', lambda: drawn(GroupSampler(GROUPS), 16)),
    'RandomState, buckets': ('b5496620', lambda: drawn(BucketSampler(LENGTHS), 16)),
    'RandomState, composite': ('d1650ce6', lambda: drawn(CompositeDataSource(members(50, 40)), 6)),
    'RandomState, choice in turn': ('c43be0cb', lambda: drawn(ChoiceDataSource(members(50, 40, 60)), 7)),
    'RandomState, choice, stratified': (
        'c7f953f5',
        lambda: drawn(ChoiceDataSource(members(50, 90, 20), stratified=True), 7),
    ),
    'RandomState, choice by weight': (
        '6045b55b',
        lambda: drawn(ChoiceDataSource(members(50, 90, 20), weights=[0.1, 0.6, 0.3]), 2),
    ),
    'RandomState, split': (
        'b05188c9',
        lambda: split(500, (0.7, 0.2, 0.1), shuffle=np.random.RandomState(3), stratify=CLASSES),
    ),
}

CASES = {**SAMPLERS, **SHUFFLES, **SOURCES, **SPLITS, **RANDOM_STATES}


def listed(value: Any) -> Any:
    """Return indices, batches or parts as nested lists of integers; other values as they are."""
    if isinstance(value, (tuple, list, range)):
        return [listed(part) for part in value]
    return value.tolist() if isinstance(value, (np.ndarray, np.integer)) else value


def digest(name: str) -> str:
    """Return 8 hexadecimal digits for what a case gives."""
    text = json.dumps(listed(CASES[name][1]()))
    return hashlib.blake2b(text.encode(), digest_size=4).hexdigest()


if __name__ == '__main__':
    for name in CASES:
        print(digest(name), name)
