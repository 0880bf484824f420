"""Where the rows of a stream's batches belong among the results of all batches and ranks."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeGuard

import numpy as np

from .._ground.batch import Batch
from .._ground.indices import Leaf, as_array, digest, first_leaf
from .._plans.plan import WINDOW_BATCHES, Request
from .._plans.shards import real_rows
from .merging import Run
from .planned import PlannedFeed
from .stream import Stream


class PlacedRows(NamedTuple):
    """The rows of a batch, and where they belong among the results of all batches.

    Attributes
    ----------
    places : range or array of indices
        The place of each row that is a sample; rows of padding have none.
    real : slice or array of booleans
        Which rows are samples, and not padding.
    """

    places: Leaf
    real: Any = slice(None)

    @property
    def padding(self) -> int:
        """How many rows are no samples."""
        return 0 if isinstance(self.real, slice) else len(self.real) - len(self.places)

    def of_results(self, values: Sequence[Any]) -> list[Any]:
        """Take padding out of what a function returned; `ValueError` unless there is then a row for each sample."""
        rows = [value[self.real] for value in values]
        for value in rows:
            n_rows = value.shape[0]
            if n_rows != len(self.places):
                raise ValueError(
                    f'func must return a row for each sample, got {n_rows} rows for a batch of {len(self.places)}'
                )
        return rows

    def without_padding(self, values: Any, axis: int | tuple[int, ...]) -> Any:
        """Take the rows of padding out of values; `axis`, or the first of several axes, runs over the rows."""
        if isinstance(self.real, slice):
            return values
        return np.compress(self.real, values, axis=axis[0] if isinstance(axis, tuple) else axis)


class Trail:
    """Follows a stream from its position on, to know the places of the rows of each batch, and to describe the run.

    Parameters
    ----------
    stream : Stream
        Its feed has a plan.
    """

    def __init__(self, stream: Stream) -> None:
        assert isinstance(stream.feed, PlannedFeed)
        self._feed = stream.feed
        plan = self._feed.plan
        self._places = plan.places if plan.places is not None and plan.places.total is not None else None
        self._first = self._number = stream.position
        # The place of the first row, where samples have no place but that in the epoch.
        self._start = self._count_before() if self._places is None else 0
        self._samples = 0
        self._hash = hashlib.blake2b(digest_size=8)
        # The rows of batches that have no results yet: a progress bar may read ahead.
        self._rows: deque[PlacedRows] = deque()

    @staticmethod
    def known(batches: Any) -> TypeGuard[Stream]:
        """Say whether batches come from a stream over a plan, which a trail can follow."""
        return isinstance(batches, Stream) and isinstance(batches.feed, PlannedFeed)

    @staticmethod
    def scatters(stream: Stream) -> bool:
        """Say whether the places of the rows of a known stream do not just follow each other."""
        assert isinstance(stream.feed, PlannedFeed)
        places = stream.feed.plan.places
        return places is not None and places.total is not None and not places.in_order

    @property
    def n_places(self) -> int | float | None:
        """The number of places, if it is known."""
        return None if self._places is None else self._places.total

    def follow(self, batch: Batch) -> Batch:
        """Note the rows of the next batch that was read, and return the batch."""
        request = self._feed.whole_batch(self._number)
        self._hash.update(digest(request.indices).encode())
        self._rows.append(self._rows_of(request))
        self._number += 1
        self._samples += self._feed.shard.kept(len(first_leaf(request.indices)))
        return batch

    def next_rows(self) -> PlacedRows:
        """Return the rows of the next batch that was read."""
        return self._rows.popleft()

    def run(self) -> Run:
        """Describe the run up to here, for `merge` to compare with those of other ranks."""
        facts = {
            **self._feed.facts(),
            'batches': f'{self._first} to {self._number - 1}' if self._number > self._first else 'none',
            'indices': self._hash.hexdigest(),
        }
        shard = self._feed.shard
        return Run((shard.rank, shard.count), self._samples, facts)

    def _rows_of(self, request: Request) -> PlacedRows:
        """Return the places of the rows that this rank has of a batch."""
        indices = first_leaf(request.indices)
        start = self._start + self._samples
        places = range(start, start + len(indices))
        own = places if self._places is None else self._places.of_batch(request.number, indices)
        part = self._feed.shard.part_of(request._replace(indices=own))
        if not part.padding:
            return PlacedRows(part.indices)
        real = real_rows(part)
        return PlacedRows(as_array(part.indices)[real], real)

    def _count_before(self) -> int:
        """Count the rows of the batches before the first one."""
        number = rows = 0
        while number < self._first:
            indices, count = self._feed.plan.indices(number, min(WINDOW_BATCHES, self._first - number))
            rows += count * self._feed.shard.kept(len(first_leaf(indices)) // count)
            number += count
        return rows
