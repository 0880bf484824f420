"""Functions over single samples: a batch is taken apart, and what the function returns for each sample is stacked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import count, repeat
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .._arrays.arrow import is_arrow_table
from .._ground.allocation import empty
from .._ground.arguments import function_name
from .._ground.batch import Batch, leaves, map_arrays, parts_of, row_count, row_counts
from .._ground.indices import IndexTree, leaf_lengths, map_leaves
from .._ground.messages import add_note

if TYPE_CHECKING:
    from .base import MapDataSource

# How far apart the draws of two samples are, of the 2**128 that a generator has: the step of `PCG64.jumped`.
JUMP = 0x9E3779B97F4A7C15F39CC0605CEDC835


class MapsSamples:
    """The method `map_samples` of sources, which have `map`."""

    if TYPE_CHECKING:

        def map(self, fn: Callable[..., Any], rng: bool = False) -> MapDataSource: ...

    def map_samples(self, fn: Callable[..., Any], rng: bool = False) -> MapDataSource:
        """Return a source that applies a function to every sample of this one, and stacks what it returns.

        Parameters
        ----------
        fn : callable
            `fn(*sample)` gets one row of each array of a batch, and returns an array or a number, or a tuple of
            them: each becomes an array of the new batch, with a row for each sample. Arrays may also be within
            tuples, lists and dicts. A list of numbers is a row, and so is what else NumPy can make an array of.
            All samples of a batch must give the same shapes and dtypes; strings may differ in length.
        rng : bool
            Whether to call `fn(*sample, rng=generator)` with a `numpy.random.Generator` that belongs to the
            sample: it depends on what that of a batch depends on, as described at `map`, and on the place of the
            sample in the batch; not on what other samples draw.

        Raises
        ------
        TypeError
            If `fn` is no function, or `rng` no boolean. At a batch: if samples give arrays of other dtypes.
        ValueError
            At a batch: if samples give arrays of other shapes, or if there are no samples, as in an empty part
            of a shard: what the function would return is not known.
        """
        if not callable(fn):
            raise TypeError(f'fn must be a function of the arrays of a sample, got {type(fn).__name__}')
        return self.map(SampleFunction(fn), rng)


class SampleFunction:
    """A function of batches that calls another one for each sample, and stacks what that returns.

    Parameters
    ----------
    fn : callable
        Gets one row of each array.
    """

    def __init__(self, fn: Callable[..., Any]) -> None:
        self.fn = fn
        self.__qualname__ = function_name(fn)

    def __call__(self, *batch: Any, indices: IndexTree = (), rng: np.random.Generator | None = None) -> tuple[Any, ...]:
        """Return the stacked results for the samples of a batch; `indices` are those of the samples, if known."""
        n_samples = self._count(batch)
        keywords = repeat({}) if rng is None else ({'rng': own} for own in _generators(rng))
        results = None
        for place, sample in enumerate(zip(*[_rows_of(part, n_samples) for part in batch])):
            try:
                made = self._as_parts(self.fn(*sample, **next(keywords)))
                if results is None:
                    results = Stacked(function_name(self), made, n_samples)
                results.put(place, made)
            except Exception as error:
                add_note(error, _describe(place, n_samples, indices))
                raise
        assert results is not None
        return results.batch()

    def _count(self, batch: Batch) -> int:
        """Return the number of samples in a batch, of which there must be one."""
        counts = set(row_counts(batch))
        if len(counts) > 1:
            raise ValueError(
                f'map_samples needs arrays of one length, got lengths {sorted(counts)}; use map for a batch whose '
                'parts differ in length'
            )
        if counts <= {0}:
            raise ValueError(
                f'map_samples cannot tell what {function_name(self)} returns: the batch has no samples. Leave such '
                "batches out (of a shard, by drop_last=True, or uneven='drop' or 'pad'), or use map"
            )
        return counts.pop()

    def _as_parts(self, made: Any) -> tuple[Any, ...]:
        """Return what the function has returned as a tuple."""
        if made is None:
            raise TypeError(
                f'the mapped function {function_name(self)} must return an array, a number, or a tuple of them, '
                'got NoneType'
            )
        if isinstance(made, list) and parts_of(made) is not None:
            return tuple(made)
        return made if isinstance(made, tuple) else (made,)


class Stacked:
    """What is returned for the samples of a batch: an array for each value, written row by row.

    Parameters
    ----------
    name : str
        The name of the function, for errors.
    first : tuple
        What it returned for the first sample.
    n_samples : int
        The number of samples.
    """

    def __init__(self, name: str, first: tuple[Any, ...], n_samples: int) -> None:
        self._name = name
        self._first = first
        self._structure = _structure(first)
        self._nested = any(parts_of(part) is not None for part in first)
        self._outputs = [_output_for(np.asarray(value), n_samples) for value in leaves(first)]

    def put(self, place: int, made: tuple[Any, ...]) -> None:
        """Write what was returned for one sample; `ValueError` or `TypeError` if it differs from the first."""
        plain = not self._nested and type(made) is type(self._first) and len(made) == len(self._outputs)
        for number, value in enumerate(made if plain else self._values(place, made)):
            row = value if type(value) is np.ndarray else _as_array(value)
            output = self._outputs[number]
            if row.dtype != output.dtype or row.shape != output.shape[1:]:
                self._check_structure(place, made)
                output = self._outputs[number] = self._fitting(number, place, row)
            output[place] = row

    def _values(self, place: int, made: tuple[Any, ...]) -> Iterator[Any]:
        self._check_structure(place, made)
        return leaves(made)

    def _check_structure(self, place: int, made: tuple[Any, ...]) -> None:
        """Raise `TypeError` unless the structure of what was returned for a sample is that of the first."""
        if _structure(made) != self._structure:
            raise TypeError(
                f'{self._name} returned {_structure(made)} for sample {place} of the batch, but '
                f'{self._structure} for sample 0; return the same structure for every sample'
            )

    def _fitting(self, number: int, place: int, row: NDArray[Any]) -> NDArray[Any]:
        """Return the array for a row that differs from the first: a wider one, for a longer string."""
        output = self._outputs[number]
        if row.dtype != output.dtype and not row.dtype.kind == output.dtype.kind in 'US':
            raise TypeError(
                f'{self._name} returned {row.dtype} for sample {place} of the batch, but {output.dtype} for sample 0 '
                f'(value {number}); return the same for every sample, for instance np.float32(x) or x.astype(dtype)'
            )
        if row.shape != output.shape[1:]:
            raise ValueError(
                f'{self._name} returned an array of shape {row.shape} for sample {place} of the batch, but of shape '
                f'{output.shape[1:]} for sample 0 (value {number}); cut or pad them to one shape, or use map with '
                'batchup.padding.pad_batch, or batchup.padding.RaggedArray'
            )
        return output if row.dtype.itemsize <= output.dtype.itemsize else output.astype(row.dtype)

    def batch(self) -> tuple[Any, ...]:
        """Return the arrays, in the structure of what was returned for a sample."""
        batch: tuple[Any, ...] = _with_values(self._first, iter(self._outputs))
        return batch


def _rows_of(part: Any, n_samples: int) -> Iterator[Any]:
    """Go through the rows of a part of a batch; a value without rows belongs to each sample."""
    if isinstance(part, np.ndarray) and part.ndim:
        return iter(part)
    if parts_of(part) is None and row_count(part) is None:
        return repeat(part)
    return (map_arrays(partial(_row, place), part) for place in range(n_samples))


def _row(place: int, array: Any) -> Any:
    """Return a row of an array of any kind; of a table of Arrow, a table with one row."""
    if is_arrow_table(array):
        return array.slice(place, 1)
    return getattr(array, 'iloc', array)[place]


def _generators(rng: np.random.Generator) -> Iterator[np.random.Generator]:
    """Give the generator of a batch for each of its samples, set apart from what others draw.

    That is what `PCG64.jumped` does, in a quarter of the time.
    """
    bits: Any = rng.bit_generator
    state = bits.state
    for place in count(1):
        bits.state = state
        bits.advance(place * JUMP % 2**128)
        yield rng


def _as_array(value: Any) -> NDArray[Any]:
    """Return a value as a plain array; `TypeError` for a masked one, which would lose its mask."""
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError('map_samples stacks no masked arrays; return x.filled(value), or use map')
    return np.asarray(value)


def _output_for(first: NDArray[Any], n_samples: int) -> NDArray[Any]:
    """Return an array for rows like the first, in memory that the batch will stay in."""
    make = np.empty if first.dtype.hasobject else empty
    return make((n_samples, *first.shape), first.dtype)


def _structure(tree: Any) -> Any:
    """Return the types and names in what was returned for a sample, to be compared and shown."""
    parts = parts_of(tree)
    if parts is None:
        return 'a value'
    if isinstance(tree, Mapping):
        return 'dict', [(name, _structure(part)) for name, part in tree.items()]  # in this order, as values come
    return type(tree).__name__, [_structure(part) for part in parts]


def _with_values(tree: Any, values: Iterator[Any]) -> Any:
    """Return a tree of the same structure with other values, from left to right."""
    parts = parts_of(tree)
    if parts is None:
        return next(values)
    if isinstance(tree, Mapping):
        return {name: _with_values(part, values) for name, part in tree.items()}
    made = [_with_values(part, values) for part in parts]
    if isinstance(tree, list):
        return made
    return tree._make(made) if hasattr(tree, '_make') else tuple(made)


def _describe(place: int, n_samples: int, indices: IndexTree) -> str:
    """Say which sample it was: its place in the batch, and its index in the source, if that is known."""
    what = f'at sample {place} of the batch'
    if leaf_lengths(indices) != {n_samples}:
        return what
    return f'{what}, which has index {map_leaves(lambda leaf: int(leaf[place]), indices)} in the source'
