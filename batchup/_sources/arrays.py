"""Sources that read samples by index: the base class, also for users' own, and the source over arrays."""

from __future__ import annotations

import copy
import math
import mmap
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NoReturn, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._arrays.array_likes import check_array_like, length_of, path_advice
from .._arrays.as_numpy import as_numpy
from .._arrays.images import ImageRows
from .._arrays.readers import ReadArrays, Reader, make_reader
from .._arrays.rows import Rows
from .._arrays.sharing import read_all, rows_at_once
from .._arrays.sparse_ahead import SparseStorageRows
from .._arrays.sparse_groups import is_csr_group
from .._arrays.storage_rows import READ_AHEAD, StorageRows
from .._arrays.through_memory import MemoryRows
from .._ground.allocation import Recycler
from .._ground.arguments import (
    BatchSize,
    check_flag,
    check_keywords,
    check_non_negative,
    check_repeats,
    check_told,
    overridden,
    single_size,
)
from .._ground.batch import Batch, Columns, Destination
from .._ground.calls import names_class
from .._ground.indices import IndexTree, Leaf, check_batch_indices, own_array
from .._ground.randomness import Path
from .._ground.words import counted, kind_of_rows, listing, times
from .._plans.options import Options
from .._plans.plan import Plan, Request
from .._samplers.base import AbstractSampler, PlannedSampler, make_plan
from .._samplers.standard import StandardSampler, SubsetSampler
from .._streams.stream import Stream
from .base import IndexedDataSource

Source = TypeVar('Source', bound='RandomAccessDataSource')

# The largest block of a `BlockShuffle` that is made of the chunks of several arrays. Larger: the order alone
# takes more memory, 8 bytes a sample of every block of the window. Smaller: more often, chunks are cut by blocks.
MOST_BLOCK_ROWS = 2**16


# The keywords of an `ArrayDataSource`.
KEYWORDS = ('data', 'indices', 'repeats', 'sampler', 'include_indices', 'read_ahead', 'to_numpy')


class RandomAccessDataSource(IndexedDataSource):
    """Base class of sources that read samples by index.

    Subclasses implement `samples_by_indices_nomapping`, and heed `include_indices` in it.

    Parameters
    ----------
    length : int
        The number of samples of the data.
    indices : 1-D array-like of integers, optional
        The indices of the samples to use; all by default.
    repeats : int
        How often to go through them; -1 for endless.
    sampler : AbstractSampler, optional
        Says which samples to use, in place of `indices` and `repeats`.
    include_indices : bool
        Whether batches begin with the indices of their samples.

    Raises
    ------
    ValueError
        If `sampler` is given together with `indices` or `repeats`, or does not fit the length.
    IndexError
        If an index is out of range (a `SampleIndexError`, which is a `ValueError` too).
    """

    def __init__(
        self,
        length: int,
        indices: ArrayLike | None = None,
        repeats: int = 1,
        sampler: AbstractSampler | None = None,
        include_indices: bool = False,
    ) -> None:
        self._length = check_non_negative('length', length)
        repeats = check_repeats(repeats)
        if sampler is not None and (indices is not None or repeats != 1):
            given = 'indices' if indices is not None else f'repeats={repeats}'
            raise ValueError(f'give either sampler or {given}: a sampler already says which samples, and how often')
        if sampler is None:
            sampler = StandardSampler(length, repeats) if indices is None else SubsetSampler(indices, repeats)
        if not isinstance(sampler, AbstractSampler):
            raise TypeError(f'sampler must be a sampler from batchup.sampling, got {type(sampler).__name__}')
        if isinstance(sampler, PlannedSampler):
            sampler._check_length(self._length)
        self.sampler = sampler
        self.include_indices = check_flag('include_indices', include_indices)
        self._recycler = Recycler()

    def _words(self) -> str:
        sampler, length = self.sampler, counted(self._length, 'sample')
        if type(sampler) is SubsetSampler:
            used = f'{len(sampler.indices)} of {length}{times(sampler.repeats)}'
        elif type(sampler) is StandardSampler and sampler.length == self._length:
            used = length + times(sampler.repeats)
        else:
            used = f'{length} by {sampler!r}'
        return f'{used}, with indices' if self.include_indices else used

    @property
    def is_random_access(self) -> bool:
        return True

    def num_samples(self, **kwargs: Any) -> int | float | None:
        """Return the number of samples of an epoch, all repetitions counted."""
        self._check_num_samples(kwargs)
        return check_told(self.sampler, 'num_indices_generated', self.sampler.num_indices_generated())

    def samples_by_indices_nomapping(self, indices: Any) -> Batch:
        """Read samples by their indices into the data, as a tuple of arrays."""
        raise NotImplementedError(f'{type(self).__name__} does not implement samples_by_indices_nomapping')

    @names_class
    def samples_by_indices(self, indices: Any) -> Batch:
        """Read samples by indices that the sampler maps to those of the data: for a subset, places in it."""
        return self.samples_by_indices_nomapping(self.sampler.map_indices(indices))

    @names_class
    def subset(self: Source, indices: ArrayLike) -> Source:
        """Return a source like this one, over the same data, that uses only some of its samples.

        Parameters
        ----------
        indices : 1-D array-like of integers
            Places among the samples of this source, as for `samples_by_indices`; for example,
            a part that `batchup.splits.train_test_split` returns. Repetitions and weights stay
            as they are.

        Raises
        ------
        TypeError
            If the source has a sampler of your own that does not implement `subset`.
        IndexError
            If an index is out of range.

        >>> import numpy as np
        >>> ArrayDataSource([np.arange(5) * 10]).subset([4, 0]).samples_by_indices([0, 1])
        (array([40,  0]),)
        """
        iterators = ('in_order_indices_batch_iterator', 'shuffled_indices_batch_iterator')
        own = any(overridden(self.sampler, method) for method in iterators)
        if own and not overridden(self.sampler, 'subset'):
            raise TypeError(f'the sampler {type(self.sampler).__name__} does not implement subset(indices)')
        chosen = copy.copy(self)
        chosen.sampler = self.sampler.subset(indices)
        return chosen

    @names_class
    def batch_iterator(
        self,
        batch_size: int,
        shuffle: Any = None,
        *,
        epoch: int = 0,
        drop_last: bool = False,
        shard: tuple[int, int] | str | None = None,
        uneven: str = 'share',
        **unknown: NoReturn,
    ) -> Stream:
        """Return a stream over the batches of an epoch.

        Parameters
        ----------
        batch_size : int
            The number of samples in a batch; only the very last one may be shorter.
        shuffle : None, bool, int, RandomState, Generator, or a shuffle of `batchup.sampling`
            `None` or `False` for samples in order, an integer for the order that this seed
            gives. A `numpy.random.RandomState` or `Generator` is drawn from as batches need
            it, `True` stands for NumPy's global one, which cannot be used with `shard`. A
            shuffle, such as `BlockShuffle(seed, block_size)`, gives an order of its kind.
        epoch : int
            Selects the order that a seed gives: pass the number of the epoch.
        drop_last : bool
            Whether to leave out a short last batch; of a sampler of your own, every short one.
        shard : (rank, count) or 'env', optional
            Take the part of every batch that belongs to this of `count` ranks. The parts of
            all ranks, side by side, are the batches without `shard`. With 'env', the rank and
            the count are those of the environment variables ``RANK`` and ``WORLD_SIZE``. All
            ranks must be given the same seed, or generators in the same state.
        uneven : {'share', 'drop', 'pad'}
            What to do with the samples of a batch that the ranks cannot share evenly. By
            default some ranks have one more than others, and parts may be empty. 'drop'
            leaves them out. 'pad' repeats a sample in the other ranks, and appends an array
            to every batch: `True` for real samples, `False` for those that pad.

        Returns
        -------
        Stream
            An iterator over tuples of arrays, which belong to the caller.
        """
        self._check_keywords('batch_iterator', unknown)
        return self._open_planned(Options.check(batch_size, shuffle, epoch, drop_last, shard, uneven), ())

    def _make_own_plan(self, options: Options, path: Path) -> Plan:
        batch_size = single_size(options.batch_size, type(self).__name__)
        shuffle = options.shuffle.with_block_size(self._chunk_rows())
        return make_plan(self.sampler, batch_size, shuffle, options.drop_last, path, self._length)

    def _chunk_rows(self) -> int | None:
        """Return how many rows storage decodes at once; `None` for data that is in no chunks."""
        return None

    def _plan_parts(self) -> list[Any]:
        own = vars(self).values() if overridden(self, 'batch_indices_iterator') else ()
        return [self.sampler, *getattr(self.sampler, '__dict__', {}).values(), self._chunk_rows(), *own]

    def _check_indices(self, name: str, indices: Any) -> IndexTree:
        return check_batch_indices(name, indices, self._length)


class ArrayDataSource(RandomAccessDataSource):
    """A source over arrays in memory, memory-mapped arrays, or other array-likes.

    Parameters
    ----------
    data : list or tuple of array-likes of equal length
        Each with `__len__` and a `__getitem__` that takes 1-D integer arrays, or a table, tensor
        or sparse matrix: batches are of the same kind. Kept in `data`. CSC matrices are converted
        to CSR, and the chunks of Arrow tables combined, once: that takes as much memory again.
    indices, repeats, sampler, include_indices
        As for `RandomAccessDataSource`.
    read_ahead : int
        How many bytes of arrays in storage may be read before their batches are made, and kept; see
        "Data on disk". With 0, batches are read one by one. Batches are the same, whatever it is.
    to_numpy : bool
        Whether what pandas, Arrow, PyTorch, JAX and xarray hold in memory becomes NumPy arrays,
        which `data` then holds, and which batches are of. They are made when the source is
        made: views, or else copies of the whole data. A table becomes a 2-D array of the dtype
        that its columns have in common.

    Raises
    ------
    TypeError
        If `data` is not a list or tuple of array-likes, or `to_numpy` is not a bool, or there is
        no NumPy array for one of them.
    ValueError
        If it is empty, or lengths differ.

    >>> import numpy as np
    >>> source = ArrayDataSource([np.arange(5), np.arange(5) ** 2])
    >>> for x, y in source.batch_iterator(2):
    ...     print(x, y)
    [0 1] [0 1]
    [2 3] [4 9]
    [4] [16]
    """

    def __init__(
        self,
        data: Sequence[Any],
        indices: ArrayLike | None = None,
        repeats: int = 1,
        sampler: AbstractSampler | None = None,
        include_indices: bool = False,
        *,
        read_ahead: int = READ_AHEAD,
        to_numpy: bool = False,
        **unknown: NoReturn,
    ) -> None:
        check_keywords(type(self).__name__, unknown, KEYWORDS)
        super().__init__(_common_length(data), indices, repeats, sampler, include_indices)
        self._read_ahead = check_non_negative('read_ahead', read_ahead)
        self._to_numpy = check_flag('to_numpy', to_numpy)
        self._set_data(data)

    def _set_data(self, data: Sequence[Any]) -> None:
        arrays = [as_numpy(*pair) for pair in enumerate(data)] if self._to_numpy else data
        # First, also where they are pickled: they tell which memory is read.
        self._readers = [make_reader(*pair) for pair in enumerate(arrays)]
        self.data = arrays

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), 'data': ReadArrays(self.data, self._readers)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, data=state['data'].arrays)

    def _words(self) -> str:
        return f'{super()._words()}: {listing(map(kind_of_rows, self.data))}'

    def samples_by_indices_nomapping(self, indices: Any) -> Batch:
        """Read samples by their indices, as a tuple of arrays; negative ones count from the end."""
        self._check_data()
        return self._read(check_batch_indices('indices', indices, self._length))

    def _fetch_own(self, request: Request, path: Path, to: Destination) -> Iterable[Batch]:
        self._check_data()
        indices, count = request.indices, request.n_batches
        own = [own_array(indices).reshape(count, -1)] if self.include_indices else []
        plain = [reader for reader in self._readers if isinstance(reader, Rows | StorageRows)]
        if to.memory is not None and request.ahead is None and len(plain) == len(self._readers):
            return Columns((*own, *[reader.columns(indices, count, to.memory) for reader in plain]))
        return iter(Columns((*own, *read_all(self._readers, request, to, self._read_ahead))))

    def _batches_at_once(self, batch_size: BatchSize) -> int:
        return max(1, rows_at_once(self._readers, self._read_ahead) // single_size(batch_size, type(self).__name__))

    def _chunk_rows(self) -> int | None:
        chunks = [reader.storage.chunk_rows for reader in self._readers if isinstance(reader, StorageRows)]
        chunks += [reader.chunk_rows for reader in self._readers if isinstance(reader, SparseStorageRows)]
        return common_chunk(chunks)

    def _is_stored(self) -> bool:
        return any(isinstance(reader, StorageRows | SparseStorageRows) for reader in self._readers)

    def _copied_bytes(self, batch_size: BatchSize) -> float:
        size = single_size(batch_size, type(self).__name__)
        own = isinstance(self.sampler, PlannedSampler) and not overridden(self, 'samples_by_indices_nomapping')
        rows = [_rows_in_memory(reader) for reader in self._readers]
        return size * sum(math.inf if reader is None else reader.row_bytes for reader in rows) if own else math.inf

    def _move_arrays(self, moved: Callable[[Any], Any]) -> None:
        for number in range(len(self.data)):
            array = moved(self.data[number]) if type(self.data[number]) is np.ndarray else None
            if array is not None:
                self._move(number, array)

    def _move(self, number: int, array: NDArray[Any]) -> None:
        """Put an array in place of an equal one, unless something else refers to the old one."""
        watched = weakref.ref(self.data[number])
        self._put(number, array)
        before = watched()
        if before is not None:
            # Whoever has it may change it, and expects to see that here.
            self._put(number, before)

    def _put(self, number: int, array: NDArray[Any]) -> None:
        if isinstance(self.data, list):
            self.data[number] = array
        else:
            self.data = (*self.data[:number], array, *self.data[number + 1 :])
        self._readers[number] = make_reader(number, array)

    def _check_data(self) -> None:
        """Look for other arrays that the user has put into `data`, to read from these."""
        if any(reader.array is not array for reader, array in zip(self._readers, self.data)):
            if _common_length(self.data) != self._length:
                raise ValueError(f'the arrays in data now have length {length_of(self.data[0])}, not {self._length}')
            self._set_data(self.data)

    def _read(self, indices: Leaf) -> Batch:
        arrays = tuple([reader.read(indices) for reader in self._readers])
        return (own_array(indices), *arrays) if self.include_indices else arrays


def common_chunk(chunks: Iterable[int | None]) -> int | None:
    """Return the least number of rows that is made of whole chunks of every kind; `None` for no chunks.

    If that is too many, it is the number of rows of the largest chunk.

    >>> common_chunk([1000, None, 750]), common_chunk([65_535, 65_536])
    (3000, 65536)
    """
    rows = [chunk for chunk in chunks if chunk]
    common = math.lcm(*rows)
    return (common if common <= MOST_BLOCK_ROWS else max(rows)) if rows else None


def _rows_in_memory(reader: Reader) -> Rows | None:
    """Return the rows in memory that a reader copies; `None` if it does more, or they are in a mapped file."""
    if isinstance(reader, MemoryRows):
        return reader.rows
    if isinstance(reader, ImageRows):
        return reader if _in_memory(reader.memory) else None
    return reader if isinstance(reader, Rows) and _in_memory(reader.array) else None


def _in_memory(array: Any) -> bool:
    """Say whether data is a plain array in memory, and not in a mapped file."""
    while type(array) is np.ndarray and array.base is not None:
        array = array.base
    return type(array) in (np.ndarray, mmap.mmap)


def _common_length(data: Any) -> int:
    """Return the length that all arrays have."""
    if not isinstance(data, (list, tuple)):
        raise TypeError(f'data must be a list or tuple of arrays, got {type(data).__name__}; {_advice(data)}')
    if not data:
        raise ValueError('data must hold at least one array, got an empty ' + type(data).__name__)
    for number, array in enumerate(data):
        check_array_like(number, array)
        if length_of(array) != length_of(data[0]):
            raise ValueError(
                f'all arrays must have the same length, got {length_of(data[0])} for data[0] and {length_of(array)} '
                f'for data[{number}]'
            )
    return length_of(data[0])


def _advice(data: Any) -> str:
    """Say what to do with something that is no list of arrays."""
    if isinstance(data, Mapping) and not is_csr_group(data):
        return 'write list(d.values()) for a dict d of arrays'
    if hasattr(data, '__next__'):
        return 'an iterator over batches is for IteratorDataSource(x)'
    return path_advice(data) or 'write [x] for one array, and [X, y] for several'
