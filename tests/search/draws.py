"""Random samplers."""

from __future__ import annotations

from random import Random
from typing import Any

import numpy as np

from .samplers import Arranged, Classes, Model, Repeated, Users, Weighted


def draw_model(random: Random, n: int, size: int) -> Model:
    """Draw a sampler over n samples, for batches of a size."""
    numbers = np.random.RandomState(random.randrange(2**31))
    kind = random.choice(['all', 'all', 'all', 'subset', 'subset', 'weighted', 'classes', 'arranged', 'users'])
    repeats = random.choice([1, 1, 1, 2, 3, -1])
    if kind == 'subset' and n:
        length = random.randrange(0, 2 * n + 1) if random.random() < 0.3 else random.randrange(1, 2 * n + 1)
        distinct = random.random() < 0.5
        indices = numbers.permutation(n)[: min(length, n)] if distinct else numbers.randint(-n, n, length)
        return Repeated(n, indices - n * (numbers.rand(len(indices)) < 0.2) * distinct, repeats, random.random() < 0.3)
    if kind == 'weighted' and n:
        weights = numbers.rand(n) * (numbers.rand(n) < 0.8) + (np.arange(n) == 0)
        indices = None if random.random() < 0.5 else numbers.permutation(n) - n * (numbers.rand(n) < 0.2)
        replace = random.random() < 0.6
        most = int(np.count_nonzero(weights))
        n_samples = random.choice([None, random.randrange(0, 2 * n if replace else most + 1)])
        return Weighted(weights, indices, n_samples, replace)
    if kind == 'classes' and n >= 2 * size:
        return draw_classes(random, numbers, n, size)
    if kind == 'arranged' and n:
        groups = random.random() < 0.5
        values = numbers.randint(0, random.choice([2, 5, 30]), n)
        budget = None if random.random() < 0.5 else int(values.max()) * random.randrange(1, size + 2) + 1
        return Arranged(values, budget, random.randrange(1, 4), groups, abs(repeats))
    if kind == 'users':
        block = random.choice([max(n, 1), random.randrange(1, n + 2)])
        return Users(n, block, random.random() < 0.7, random.choice(['arrays', 'lists']))
    return Repeated(n, None, repeats, random.random() < 0.3)


def draw_classes(random: Random, numbers: Any, n: int, size: int) -> Classes:
    n_batches = random.choice([None, random.randrange(0, 6)])
    repeats = random.choice([1, 2, -1])
    if size > 1 and random.random() < 0.5:
        first = random.randrange(0, size + 1)
        labels = numbers.permutation(np.arange(n) % 2)
        counts = {label: count for label, count in enumerate([first, size - first]) if count}
        if len(counts) == 1:
            labels = np.full(n, next(iter(counts)))
        return Classes(labels, counts, 0, repeats, n_batches)
    k = random.choice([k for k in range(1, size + 1) if size % k == 0])
    p = size // k
    labels = numbers.permutation(np.arange(n) % p)
    return Classes(labels, dict.fromkeys(range(p), k), p, repeats, n_batches)
