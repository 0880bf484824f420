"""A source that puts the samples of several sources one after the other."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate, chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._arrays.array_likes import length_of
from .._arrays.joinable import Form, check_alike, check_kinds, check_known
from .._arrays.joined import join_columns, storage_of
from .._arrays.joining import as_kind, join_rows, kind_of
from .._arrays.rows import Rows, block_size
from .._arrays.sharing import read_all, rows_at_once
from .._arrays.sparse_ahead import SparseStorageRows
from .._arrays.storage_rows import READ_AHEAD, StorageRows
from .._ground.arguments import BatchSize, check_non_negative, overridden, single_size
from .._ground.batch import ANYWHERE, Batch, Columns, Destination, Memory, parts_of
from .._ground.indices import IndexArray, Leaf, check_batch_indices, from_start, own_array
from .._ground.randomness import Path
from .._ground.words import listing
from .._plans.plan import Request
from .._samplers.base import AbstractSampler, PlannedSampler
from .._samplers.standard import StandardSampler, SubsetSampler
from .arrays import ArrayDataSource, RandomAccessDataSource, common_chunk
from .base import AbstractDataSource, MapDataSource

# Samples of at least so many bytes are copied one by one to their places. Larger: more samples are copied
# twice, to be put in order. Smaller: more steps of Python, a quarter of a microsecond each.
SINGLE_BYTES = 4096


class _MemberPart(NamedTuple):
    """What is read from one member.

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
    """Samples, sorted by the members that they are read from.

    Attributes
    ----------
    parts : list of _MemberPart
        What is read; at least one part, which may be empty.
    order : array of m integers, or None
        The places of m samples in the request, as they are read; `None` if they are read in order.
    """

    parts: list[_MemberPart]
    order: IndexArray | None

    @property
    def places(self) -> IndexArray:
        """For each sample of the request, where it comes among all that are read."""
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
        batches of equally many arrays, of the same kinds, dtypes and shapes of a sample: masked
        arrays, tensors and pandas objects stay what they are, in every batch. What cannot be
        concatenated, such as lists, becomes NumPy arrays. Of a member with `indices`, only
        these samples are used, in this order.
    indices, repeats, sampler, include_indices
        As for `RandomAccessDataSource`, for samples that are counted through all members.
    read_ahead : int
        As for `ArrayDataSource`, for arrays of members in storage; that of members does not count.

    Raises
    ------
    TypeError
        If a member cannot be read by the index of a sample, or arrays differ in kind or dtype.
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
        *,
        read_ahead: int = READ_AHEAD,
    ) -> None:
        if not isinstance(datasets, (list, tuple)):
            raise TypeError(
                f'datasets must be a list or tuple of data sources, got {type(datasets).__name__}; write [a, b]'
            )
        if not datasets:
            raise ValueError('a ConcatDataSource needs at least one data source')
        self.datasets = datasets
        self._read_ahead = check_non_negative('read_ahead', read_ahead)
        self._samplers = [_member_sampler(number, member) for number, member in enumerate(datasets)]
        # Where the samples of each member begin, and where the last ones end.
        starts = list(accumulate((int(sampler.num_indices_generated()) for sampler in self._samplers), initial=0))
        self._starts: IndexArray = np.array(starts, np.intp)
        super().__init__(starts[-1], indices, repeats, sampler, include_indices)
        # What arrays of batches are like, and the number of a member that gives such, once that is known.
        self._forms: tuple[int, list[Form]] | None = None
        # The members of which a batch was found to be like that.
        self._alike: set[int] = set()
        check_known(list(map(_known_arrays, datasets)))
        self._plain = self._readers() is not None
        # The readers of members of which some are in storage, and those of all their arrays.
        self._stored: tuple[list[Any], list[StorageRows | SparseStorageRows]] | None = None
        self._stored_columns()

    def __getstate__(self) -> dict[str, Any]:
        # Pools send a source again if it pickles otherwise than before.
        return {**vars(self), '_forms': None, '_alike': set()}

    def _words(self) -> str:
        return f'{super()._words()}: {listing(self.datasets)}'

    def samples_by_indices_nomapping(self, indices: Any) -> Batch:
        """Read samples by their indices through all members; negative ones count from the end."""
        request = Request(0, 1, check_batch_indices('indices', indices, self._length))
        return next(iter(self._fetch_own(request, (), ANYWHERE)))

    def _fetch_own(self, request: Request, path: Path, to: Destination) -> Iterable[Batch]:
        stored = self._stored_columns()
        return self._read_members(request, path, to) if stored is None else self._read_stored(stored, request, to)

    def _read_members(self, request: Request, path: Path, to: Destination) -> Iterable[Batch]:
        """Read the batches of a request from members of which none is in storage, or some are of other kinds."""
        split = self._split(request.indices) if isinstance(request.indices, range) else None
        if split is not None and len(split.parts) == 1 and not self.include_indices:
            # Samples in order are often all of one member.
            k, indices, _ = split.parts[0]
            batches: Iterable[Batch] = self._fetch_part(request, k, indices, path, to)
            if self._plain and _plain_readers(self.datasets[k]) is not None:
                return batches
            size = len(indices) // request.n_batches
            return (self._of_one_kind(k, batch, size) for batch in batches)
        readers = self._readers()
        if readers is None:
            return (self._read_batch(single, path) for single in request.split())
        if to.memory is not None:
            return self._read_columns(readers, request, to.memory)
        size = len(request.indices) // request.n_batches
        block = block_size(size * sum(column[0].row_bytes for column in readers), to.apart)
        if block == 1:
            return (tuple(self._read_arrays(readers, single)) for single in request.split())
        blocks = (request.since(number).up_to(block) for number in range(request.number, request.end, block))
        return chain.from_iterable(self._read_columns(readers, part) for part in blocks)

    def _batches_at_once(self, batch_size: BatchSize) -> int:
        columns = self._stored_columns() or []
        return max(1, rows_at_once(columns, self._read_ahead) // single_size(batch_size, type(self).__name__))

    def _chunk_rows(self) -> int | None:
        return common_chunk(_inner_source(member)._chunk_rows() for member in self.datasets)

    def _is_stored(self) -> bool:
        return any(member._is_stored() for member in self.datasets)

    def _copied_bytes(self, batch_size: BatchSize) -> float:
        if overridden(self, 'samples_by_indices_nomapping') or not isinstance(self.sampler, PlannedSampler):
            return math.inf
        return max(float(member._copied_bytes(batch_size)) for member in self.datasets)

    def _move_arrays(self, moved: Callable[[Any], Any]) -> None:
        for member in self.datasets:
            member._move_arrays(moved)

    def _readers(self) -> list[list[Rows]] | None:
        """Return the readers of each array, one for every member; `None` if not all are plain arrays.

        They are not kept, as a user may put other arrays into the `data` of a member.
        """
        rows: list[list[Rows]] = []
        for number, member in enumerate(self.datasets):
            readers = _plain_readers(member)
            if readers is None:
                return None
            rows.append(readers)
            check_alike((0, [reader.array for reader in rows[0]]), (number, [reader.array for reader in readers]))
        return [list(column) for column in zip(*rows)]

    def _stored_columns(self) -> list[StorageRows | SparseStorageRows] | None:
        """Return a reader for each array, through all members; `None` unless some are in storage, and all known."""
        readers = [_known_readers(member) for member in self.datasets]
        known = [each for own in readers if own is not None for each in own]
        if None in readers or all(isinstance(each, Rows) for each in known):
            return None
        if self._stored is None or self._stored[0] != known:
            rows = list(filter(None, readers))
            for k, own in enumerate(rows):
                check_alike((0, list(map(storage_of, rows[0]))), (k, list(map(storage_of, own))))
            subsets = {k: each.indices for k, each in enumerate(self._samplers) if isinstance(each, SubsetSampler)}
            self._stored = known, join_columns(rows, self._starts, subsets)
        return self._stored[1]

    def _read_stored(
        self, columns: list[StorageRows | SparseStorageRows], request: Request, to: Destination
    ) -> Iterator[Batch]:
        """Read the batches of a request from members of which some are in storage."""
        own = [own_array(request.indices).reshape(request.n_batches, -1)] if self.include_indices else []
        return iter(Columns((*own, *read_all(columns, request, to, self._read_ahead))))

    def _read_columns(self, readers: list[list[Rows]], request: Request, memory: Memory | None = None) -> Columns:
        """Read the batches of a request all at once, from plain arrays."""
        shape = request.n_batches, len(request.indices) // request.n_batches
        arrays = self._read_arrays(readers, request, memory)
        return Columns(tuple([rows.reshape(*shape, *rows.shape[1:]) for rows in arrays]))

    def _read_arrays(
        self, readers: list[list[Rows]], request: Request, memory: Memory | None = None
    ) -> list[NDArray[Any]]:
        """Read the samples of a request, all its batches side by side, from plain arrays."""
        split, count = self._split(request.indices), len(request.indices)
        arrays = [_read_rows(column, split, count, memory) for column in readers]
        return [own_array(request.indices), *arrays] if self.include_indices else arrays

    def _read_batch(self, request: Request, path: Path) -> Batch:
        """Read a batch from members of any kind."""
        split = self._split(request.indices)
        parts = [
            self._of_one_kind(k, next(iter(self._fetch_part(request, k, indices, path))), len(indices))
            for k, indices, _ in split.parts
        ]
        batch: Batch = parts[0] if len(parts) == 1 else _join_parts(split, parts)
        return (own_array(request.indices), *batch) if self.include_indices else batch

    def _fetch_part(
        self, request: Request, member: int, indices: Leaf, path: Path, to: Destination = ANYWHERE
    ) -> Iterable[Batch]:
        """Read samples of one member. What is known of the batches to come are not indices of this one."""
        alone = request._replace(indices=indices, ahead=None)
        batches: Iterable[Batch] = self.datasets[member]._fetch(alone, (*path, member), to)
        return batches

    def _of_one_kind(self, member: int, batch: Batch, size: int) -> Batch:
        """Check the arrays that a member gave for `size` samples: they must be like those of other members."""
        parts = tuple(_check_part(member, number, part, size) for number, part in enumerate(batch))
        if self._forms is None:
            self._forms = member, list(map(Form.of, parts))
        first, forms = self._forms
        check_kinds((first, [form.kind for form in forms]), (member, list(map(kind_of, parts))))
        if member not in self._alike:
            check_alike((first, forms), (member, parts), texts=True)
            self._alike.add(member)
        return parts

    def _split(self, indices: Leaf) -> _Split:
        """Find the members that samples belong to."""
        if isinstance(indices, range):
            return _Split(list(self._split_range(indices)) or [_MemberPart(0, indices, slice(0, 0))], None)
        positive = from_start(indices, self._length)
        # Few bits are sorted faster.
        members = (self._starts.searchsorted(positive, side='right') - 1).astype(np.min_scalar_type(len(self.datasets)))
        order = members.argsort(kind='stable')
        counts = np.bincount(members)
        chosen = np.flatnonzero(counts)
        local, stops = (positive - self._starts[members])[order], counts.cumsum()
        rows = [slice(stops[k] - counts[k], stops[k]) for k in chosen] or [slice(0, 0)]
        parts = [_MemberPart(k, self._own(k, local[part]), part) for k, part in zip(chosen.tolist(), rows)]
        if len(parts) <= 1:
            return _Split(parts or [_MemberPart(0, local, slice(0, 0))], None)
        return _Split(parts, order)

    def _split_range(self, run: range) -> Iterator[_MemberPart]:
        """Cut a range of samples at the ends of members."""
        k = int(self._starts.searchsorted(run.start, side='right')) - 1
        start = run.start
        while start < run.stop:
            first, stop = int(self._starts[k]), min(run.stop, int(self._starts[k + 1]))
            if start < stop:
                indices = self._own(k, range(start - first, stop - first))
                yield _MemberPart(k, indices, slice(start - run.start, stop - run.start))
            start, k = max(start, stop), k + 1

    def _own(self, member: int, places: Leaf) -> Leaf:
        """Return the indices into the data of a member for places among its samples."""
        sampler = self._samplers[member]
        if not isinstance(sampler, SubsetSampler):
            return places
        return sampler.indices[slice(places.start, places.stop) if isinstance(places, range) else places]


def _member_sampler(number: int, member: AbstractDataSource) -> StandardSampler | SubsetSampler:
    """Return the sampler of a member, or of the source below the functions that are mapped over it."""
    inner = _inner_source(member)
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


def _inner_source(member: AbstractDataSource) -> Any:
    """Return the source below the functions that are mapped over it."""
    while isinstance(member, MapDataSource):
        member = member.source
    return member


def _plain_readers(member: AbstractDataSource) -> list[Rows] | None:
    """Return the readers of a member over plain arrays; `None` for any other."""
    known = _known_readers(member)
    readers = [reader for reader in known or () if isinstance(reader, Rows)]
    return readers if known is not None and len(readers) == len(known) else None


def _known_readers(member: AbstractDataSource) -> list[Rows | StorageRows | SparseStorageRows] | None:
    """Return the readers of a member over arrays in memory or in storage; `None` for any other."""
    if not isinstance(member, ArrayDataSource) or member.include_indices:
        return None
    if overridden(member, 'samples_by_indices_nomapping'):
        return None
    member._check_data()
    readers = [reader for reader in member._readers if isinstance(reader, Rows | StorageRows | SparseStorageRows)]
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
    for part, batch in zip(split.parts, parts):
        check_alike((split.parts[0].member, parts[0]), (part.member, batch), texts=True)
    places = None if split.order is None else split.places
    return tuple(join_rows(column, places) for column in zip(*parts))


def _known_arrays(member: AbstractDataSource) -> list[Any] | None:
    """Return arrays with the dtypes and shapes of a member's, without reading; `None` if these are not known."""
    if overridden(member, 'samples_by_indices_nomapping'):
        return None
    if isinstance(member, ArrayDataSource):
        arrays: Sequence[Any] | None = member.data
    elif isinstance(member, ConcatDataSource):
        arrays = next((known for known in map(_known_arrays, member.datasets) if known is not None), None)
    else:
        return None
    if arrays is None:
        return None
    return [np.empty(0, np.intp), *arrays] if member.include_indices else list(arrays)


def _check_part(member: int, number: int, part: Any, size: int) -> Any:
    """Check an array that a member gave for `size` samples; return it as one that can be concatenated."""
    if parts_of(part) is not None:
        raise TypeError(
            f'array {number} of data source {member} is a {type(part).__name__}; in a ConcatDataSource, members give '
            'arrays: map the function that makes it over the ConcatDataSource instead'
        )
    array = as_kind(part)
    if length_of(array) != size:
        raise ValueError(
            f'array {number} of data source {member} has {length_of(array)} samples, for {size} indices; '
            'in a ConcatDataSource, samples must not be added or left out'
        )
    return array
