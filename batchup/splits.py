"""Splits: which samples are for training, validation and tests.

All functions return arrays of sample indices. `source.subset(indices)` makes a source of
them, and so does `ArrayDataSource(arrays, indices=...)`.

>>> import numpy as np
>>> from batchup.data_source import ArrayDataSource
>>> source = ArrayDataSource([np.arange(10) * 10])
>>> train, test = map(source.subset, train_test_split(10, test_size=0.2, shuffle=42))
>>> test.num_samples()
2
"""

from __future__ import annotations

from ._samplers.splits.folds import group_k_fold, k_fold, stratified_k_fold, time_series_split
from ._samplers.splits.parts import split, train_test_split
from ._samplers.splits.times import time_split

__all__ = [
    'group_k_fold',
    'k_fold',
    'split',
    'stratified_k_fold',
    'time_series_split',
    'time_split',
    'train_test_split',
]
