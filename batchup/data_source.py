"""Sources: they read samples, and give streams of batches."""

from __future__ import annotations

from typing import Any

from ._ground.indices import ChoiceBatch
from ._plans.plan import Plan, Request
from ._sources.arrays import ArrayDataSource, RandomAccessDataSource
from ._sources.base import AbstractDataSource, MapDataSource
from ._sources.choice import ChoiceDataSource
from ._sources.composite import CompositeDataSource
from ._sources.concat import ConcatDataSource
from ._sources.iterables import CallableDataSource, IteratorDataSource
from ._streams.gathering import batch_map_concat, batch_map_mean
from ._streams.loader import Loader
from ._streams.merging import Part, Run, Sums, merge
from ._streams.statistics import StreamStatistics, WorkerStatistics
from ._streams.stream import Phase, Stream
from ._streams.verdict import Verdict

__all__ = [
    'AbstractDataSource',
    'ArrayDataSource',
    'CallableDataSource',
    'ChoiceBatch',
    'ChoiceDataSource',
    'CompositeDataSource',
    'ConcatDataSource',
    'IteratorDataSource',
    'Loader',
    'MapDataSource',
    'Part',
    'Phase',
    'Plan',
    'RandomAccessDataSource',
    'Request',
    'Run',
    'Stream',
    'StreamStatistics',
    'Sums',
    'Verdict',
    'WorkerStatistics',
    'batch_map_concat',
    'batch_map_mean',
    'coerce_data_source',
    'merge',
]


def coerce_data_source(x: Any) -> AbstractDataSource:
    """Make a source of arrays, of an iterator, or of a function.

    A source stays as it is. A list or tuple of array-likes becomes an `ArrayDataSource`, an
    iterator over batches an `IteratorDataSource`, a function that returns one a
    `CallableDataSource`.

    Raises
    ------
    ValueError
        If the list or tuple is empty.
    TypeError
        If it is anything else.
    """
    if isinstance(x, AbstractDataSource):
        return x
    if isinstance(x, (list, tuple)):
        if any(isinstance(item, AbstractDataSource) for item in x):
            raise TypeError(
                'several data sources are put together by ConcatDataSource, CompositeDataSource or ChoiceDataSource'
            )
        return ArrayDataSource(x)
    if hasattr(x, '__next__'):
        return IteratorDataSource(x)
    if callable(x):
        return CallableDataSource(x)
    if hasattr(x, '__len__') and hasattr(x, '__getitem__') and not isinstance(x, (str, bytes)):
        return ArrayDataSource(x)  # the error says what to write
    raise TypeError(
        'a data source, a list or tuple of array-likes, an iterator over batches or a function that returns one is '
        f'needed, got {type(x).__name__}'
    )
