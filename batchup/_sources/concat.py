"""A source that puts the samples of several sources one after the other."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._samplers.base import AbstractSampler, PlannedSampler
from .._samplers.standard import StandardSampler, SubsetSampler
from ..arguments import BatchSize, overridden
from ..batch import Batch, Columns
from ..gather import Memory, Rows, block_size
from ..indices import IndexArray, Leaf, check_batch_indices, own_array
from ..plan import Request
from ..rng import Path
from .arrays import ArrayDataSource, RandomAccessDataSource
from .base import AbstractDataSource, MapDataSource

# Samples of so many bytes are copied one by one to their places. Larger: more samples are copied
# twice, to be put in order. Smaller: more steps of Python, a quarter of a microsecond each.
SINGLE_BYTES = 4096


class _Part(NamedTuple):
    """What is read of one member.

    Attributes
    ----------
    member : int
        The number of the member.
    indices : range or array of integers
        The indices into its data.
    rows : slice
        Where these samples come among all that are read, member by member.
    """

    member: int
    indices: Leaf
    rows: slice


class _Split(NamedTuple):
    """Samples, by the members that they are read from.

    Attributes
    ----------
    parts : list of _Part
        What is read; at least one part, which may be empty.
    order : array of m integers, or None
        Which of m samples is read at each place; `None` if they are read in order.
    """

    parts: list[_Part]
    order: IndexArray | None

    @property
    def places(self) -> IndexArray:
        """At which place each of the samples is read."""
        assert self.order is not None
        places = np.empty_like(self.order)
        places[self.order] = np.arange(len(places))
        return places


class ConcatDataSource(RandomAccessDataSource):
    """The samples of several sources, one after the other, as those of one source.

    A shuffle goes across all of them. Where all are plain arrays, a shuffled batch is read
    once from each member that has samples in it, and then put in order: about twice as much
    copying as from one array. In order, samples are copied once.

    Parameters
    ----------
    datasets : list or tuple of data sources
        The members, each a `RandomAccessDataSource`, or a function mapped over one. All give
        batches of as many arrays, of the same dtypes and shapes of a sample. Of a member with
        `indices`, only these samples are used, in this order.
    indices, repeats, sampler, include_indices
        As for `RandomAccessDataSource`, for samples that are counted through all members.

    Raises
    ------
    TypeError
        If a member cannot be read by the index of a sample, or arrays differ in dtype.
    ValueError
        If there is no member; if one repeats its samples, or has a sampler that is no
        `StandardSampler` or `SubsetSampler`; if members differ in the number of arrays or the
        shapes of their samples. Members whose arrays are not known beforehand raise these
        errors when they are read.

    >>> import numpy as np
    >>> letters = ConcatDataSource([ArrayDataSource([np.array(list(word))]) for word in ('abc', 'de', 'fgh')])
    >>> letters.num_samples()
    8
    >>> next(letters.batch_iterator(5, shuffle=42))
    (array(['e', 'a', 'd', 'f', 'g'], dtype='<U1'),)
    """

    def __init__(
        self,
        datasets: Sequence[AbstractDataSource],
        indices: ArrayLike | None = None,
        repeats: int = 1,
        sampler: AbstractSampler | None = None,
        include_indices: bool = False,
    ) -> None:
        if not isinstance(datasets, (list, tuple)):
            raise TypeError(
                f'datasets must be a list or tuple of data sources, got {type(datasets).__name__}; write [a, b]'
            )
        if not datasets:
            raise ValueError('a ConcatDataSource needs at least one data source')
        self.datasets = datasets
        self._samplers = [_member_sampler(number, member) for number, member in enumerate(datasets)]
        # Where the samples of each member begin, and where the last ones end.
        starts = list(accumulate((int(sampler.num_indices_generated()) for sampler in self._samplers), initial=0))
        self._starts: IndexArray = np.array(starts, np.intp)
        super().__init__(starts[-1], indices, repeats, sampler, include_indices)
        self._readers()

    def samples_by_indices_nomapping(self, indices: Any) -> Batch:
        """Read samples by their indices through all members; negative ones count from the end."""
        return next(self._fetch_own(Request(0, 1, check_batch_indices('indices', indices, self._length)), ()))

    def _fetch_own(self, request: Request, path: Path) -> Iterator[Batch]:
        split = self._split(request.indices) if isinstance(request.indices, range) else None
        if split is not None and len(split.parts) == 1 and not self.include_indices:
            # Much of a run in order lies within one member.
            k, indices, _ = split.parts[0]
            batches: Iterator[Batch] = self.datasets[k]._fetch(request._replace(indices=indices), (*path, k))
            return batches
        readers = self._readers()
        if readers is None:
            return (self._read_batch(single, path) for single in request.split())
        if request.memory is not None:
            return self._read_columns(readers, request).batches()
        size = len(request.indices) // request.n_batches
        block = block_size(size * sum(column[0].row_bytes for column in readers), request.apart)
        if block == 1:
            return (tuple(self._read_arrays(readers, single)) for single in request.split())
        blocks = (request.since(number).up_to(block) for number in range(request.number, request.end, block))
        return chain.from_iterable(self._read_columns(readers, part).batches() for part in blocks)

    def _fetch_columns(self, request: Request) -> Columns | None:
        readers = None if overridden(self, 'samples_by_indices_nomapping') else self._readers()
        return None if readers is None else self._read_columns(readers, request)

    def _copied_bytes(self, batch_size: BatchSize) -> float:
        if overridden(self, 'samples_by_indices_nomapping') or not isinstance(self.sampler, PlannedSampler):
            return math.inf
        return max(float(member._copied_bytes(batch_size)) for member in self.datasets)

    def _move_arrays(self, moved: Callable[[Any], Any]) -> None:
        for member in self.datasets:
            member._move_arrays(moved)

    def _readers(self) -> list[list[Rows]] | None:
        """Return the readers of each array, one for every member; `None` if not all are plain arrays.

        They are not kept: other arrays may be put in the place of those of a member.
        """
        rows: list[list[Rows]] = []
        for number, member in enumerate(self.datasets):
            readers = _plain_readers(member)
            if readers is None:
                return None
            rows.append(readers)
            _check_alike((0, [reader.array for reader in rows[0]]), (number, [reader.array for reader in readers]))
        return [list(column) for column in zip(*rows)]

    def _read_columns(self, readers: list[list[Rows]], request: Request) -> Columns:
        """Read the batches of a request all at once, from plain arrays."""
        shape = request.n_batches, len(request.indices) // request.n_batches
        return Columns(tuple([rows.reshape(*shape, *rows.shape[1:]) for rows in self._read_arrays(readers, request)]))

    def _read_arrays(self, readers: list[list[Rows]], request: Request) -> list[NDArray[Any]]:
        """Read the samples of a request, all its batches side by side, from plain arrays."""
        split, count = self._split(request.indices), len(request.indices)
        arrays = [_read_rows(column, split, count, request.memory) for column in readers]
        return [own_array(request.indices), *arrays] if self.include_indices else arrays

    def _read_batch(self, request: Request, path: Path) -> Batch:
        """Read a batch from members of any kind."""
        split = self._split(request.indices)
        parts = [
            next(iter(self.datasets[k]._fetch(request._replace(indices=indices, memory=None), (*path, k))))
            for k, indices, _ in split.parts
        ]
        batch: Batch = parts[0] if len(parts) == 1 else _join_parts(split, parts)
        return (own_array(request.indices), *batch) if self.include_indices else batch

    def _split(self, indices: Leaf) -> _Split:
        """Find the members that samples belong to."""
        if isinstance(indices, range):
            return _Split(list(self._split_range(indices)) or [_Part(0, indices, slice(0, 0))], None)
        positive = np.where(indices < 0, indices + self._length, indices)
        # Few bits are sorted faster.
        members = (self._starts.searchsorted(positive, side='right') - 1).astype(np.min_scalar_type(len(self.datasets)))
        order = members.argsort(kind='stable')
        counts = np.bincount(members, minlength=1)
        chosen = np.flatnonzero(counts)
        local, stops = (positive - self._starts[members])[order], counts.cumsum()
        rows = [slice(stops[k] - counts[k], stops[k]) for k in chosen] or [slice(0, 0)]
        parts = [_Part(k, self._own(k, local[part]), part) for k, part in zip(chosen.tolist(), rows)]
        if len(parts) <= 1:
            return _Split(parts or [_Part(0, local, slice(0, 0))], None)
        return _Split(parts, order)

    def _split_range(self, run: range) -> Iterator[_Part]:
        """Cut a run of samples at the ends of members."""
        k = int(self._starts.searchsorted(run.start, side='right')) - 1
        start = run.start
        while start < run.stop:
            first, stop = int(self._starts[k]), min(run.stop, int(self._starts[k + 1]))
            if start < stop:
                indices = self._own(k, range(start - first, stop - first))
                yield _Part(k, indices, slice(start - run.start, stop - run.start))
            start, k = max(start, stop), k + 1

    def _own(self, member: int, positions: Leaf) -> Leaf:
        """Return the indices into the data of a member for positions among its samples."""
        sampler = self._samplers[member]
        if not isinstance(sampler, SubsetSampler):
            return positions
        return sampler.indices[slice(positions.start, positions.stop) if isinstance(positions, range) else positions]


def _member_sampler(number: int, member: AbstractDataSource) -> StandardSampler | SubsetSampler:
    """Return the sampler that says which are the samples of a member, through functions mapped over it."""
    inner = member
    while isinstance(inner, MapDataSource):
        inner = inner.source
    if not isinstance(inner, RandomAccessDataSource):
        raise TypeError(
            f'data source {number} of a ConcatDataSource must be a RandomAccessDataSource, or a function mapped over '
            f'one, got {type(inner).__name__}; coerce_data_source makes one from a list of arrays'
        )
    sampler = inner.sampler
    if not isinstance(sampler, (StandardSampler, SubsetSampler)):
        raise ValueError(
            f'data source {number} of a ConcatDataSource draws by a {type(sampler).__name__}; give a sampler to the '
            'ConcatDataSource instead'
        )
    if sampler.repeats != 1:
        raise ValueError(
            f'data source {number} of a ConcatDataSource has repeats={sampler.repeats}; give repeats to the '
            'ConcatDataSource instead, or the data source several times'
        )
    return sampler


def _plain_readers(member: AbstractDataSource) -> list[Rows] | None:
    """Return the readers of a member over plain arrays; `None` for any other."""
    if not isinstance(member, ArrayDataSource) or member.include_indices:
        return None
    if overridden(member, 'samples_by_indices_nomapping'):
        return None
    member._check_data()
    readers = [reader for reader in member._readers if isinstance(reader, Rows)]
    return readers if len(readers) == len(member._readers) else None


def _read_rows(readers: Sequence[Rows], split: _Split, count: int, memory: Memory | None) -> NDArray[Any]:
    """Read `count` rows from the arrays of all members."""
    output = readers[0].empty(count, memory)
    if split.order is None:
        for member, indices, rows in split.parts:
            readers[member].read_into(output[rows], indices)
    elif readers[0].row_bytes >= SINGLE_BYTES:
        for member, indices, rows in split.parts:
            readers[member].scatter(output, split.order[rows], indices)
    else:
        read = readers[0].empty(count)
        for member, indices, rows in split.parts:
            readers[member].read_into(read[rows], indices)
        read.take(split.places, 0, output, 'clip')
    return output


def _join_parts(split: _Split, parts: Sequence[Batch]) -> Batch:
    """Put the samples that were read from several members in order."""
    batches = [[np.asarray(array) for array in part] for part in parts]
    for part, batch in zip(split.parts, batches):
        _check_alike((split.parts[0].member, batches[0]), (part.member, batch))
        for number, array in enumerate(batch):
            if len(array) != len(part.indices):
                raise ValueError(
                    f'array {number} of data source {part.member} has {len(array)} samples, for {len(part.indices)} '
                    'indices; in a ConcatDataSource, samples must not be added or left out'
                )
    joined = [np.concatenate(column) for column in zip(*batches)]
    return tuple(joined if split.order is None else [array.take(split.places, 0) for array in joined])


def _check_alike(one: tuple[int, Sequence[Any]], other: tuple[int, Sequence[Any]]) -> None:
    """Raise an error unless the arrays of two members, given with their numbers, can be put together."""
    (k, arrays), (m, others) = one, other
    if len(arrays) != len(others):
        raise ValueError(f'data source {k} gives {len(arrays)} arrays, but data source {m} gives {len(others)}')
    for number, (array, other_array) in enumerate(zip(arrays, others)):
        if array.dtype != other_array.dtype:
            raise TypeError(
                f'array {number} is {array.dtype} in data source {k}, but {other_array.dtype} in data source {m}; '
                'convert one of them, for instance with array.astype(dtype)'
            )
        if array.shape[1:] != other_array.shape[1:]:
            raise ValueError(
                f'samples of array {number} have shape {array.shape[1:]} in data source {k}, '
                f'but {other_array.shape[1:]} in data source {m}'
            )
