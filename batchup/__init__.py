"""Mini-batches of samples, at the speed of memory, for data that is held as arrays.

>>> import numpy as np
>>> import batchup
>>> source = batchup.ArrayDataSource([np.arange(5), np.array(list('abcde'))])
>>> for numbers, letters in source.batch_iterator(2, shuffle=42):
...     print(numbers, letters)
[3 0] ['d' 'a']
[2 4] ['c' 'e']
[1] ['b']

The names below, and the submodules, are imported when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import arrays as arrays
    from . import config as config
    from . import data_source as data_source
    from . import datasets as datasets
    from . import errors as errors
    from . import image as image
    from . import padding as padding
    from . import sampling as sampling
    from . import splits as splits
    from . import work_pool as work_pool
    from .arrays import empty as empty
    from .data_source import AbstractDataSource as AbstractDataSource
    from .data_source import ArrayDataSource as ArrayDataSource
    from .data_source import CallableDataSource as CallableDataSource
    from .data_source import ChoiceDataSource as ChoiceDataSource
    from .data_source import CompositeDataSource as CompositeDataSource
    from .data_source import ConcatDataSource as ConcatDataSource
    from .data_source import IteratorDataSource as IteratorDataSource
    from .data_source import MapDataSource as MapDataSource
    from .data_source import RandomAccessDataSource as RandomAccessDataSource
    from .data_source import batch_map_concat as batch_map_concat
    from .data_source import batch_map_mean as batch_map_mean
    from .data_source import coerce_data_source as coerce_data_source
    from .sampling import AbstractSampler as AbstractSampler
    from .sampling import StandardSampler as StandardSampler
    from .sampling import SubsetSampler as SubsetSampler
    from .sampling import WeightedSampler as WeightedSampler
    from .sampling import WeightedSubsetSampler as WeightedSubsetSampler
    from .work_pool import WorkerAutoPool as WorkerAutoPool
    from .work_pool import WorkerExecutorPool as WorkerExecutorPool
    from .work_pool import WorkerProcessPool as WorkerProcessPool
    from .work_pool import WorkerThreadPool as WorkerThreadPool

__version__ = '1.0.0.dev0'

_SUBMODULES = (
    'arrays',
    'config',
    'data_source',
    'datasets',
    'errors',
    'image',
    'padding',
    'sampling',
    'splits',
    'work_pool',
)

_HOMES = {
    'AbstractDataSource': 'data_source',
    'AbstractSampler': 'sampling',
    'ArrayDataSource': 'data_source',
    'CallableDataSource': 'data_source',
    'ChoiceDataSource': 'data_source',
    'CompositeDataSource': 'data_source',
    'ConcatDataSource': 'data_source',
    'IteratorDataSource': 'data_source',
    'MapDataSource': 'data_source',
    'RandomAccessDataSource': 'data_source',
    'StandardSampler': 'sampling',
    'SubsetSampler': 'sampling',
    'WeightedSampler': 'sampling',
    'WeightedSubsetSampler': 'sampling',
    'WorkerAutoPool': 'work_pool',
    'WorkerExecutorPool': 'work_pool',
    'WorkerProcessPool': 'work_pool',
    'WorkerThreadPool': 'work_pool',
    'batch_map_concat': 'data_source',
    'batch_map_mean': 'data_source',
    'coerce_data_source': 'data_source',
    'empty': 'arrays',
}

__all__ = [*_HOMES, *_SUBMODULES, '__version__']  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return importlib.import_module(f'.{name}', __name__)
    if name in _HOMES:
        value = getattr(importlib.import_module(f'.{_HOMES[name]}', __name__), name)
        globals()[name] = value
        return value
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
