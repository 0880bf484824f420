"""Collecting the results of batches: they are kept, written into arrays, or added up."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._ground.arguments import is_integer
from .._ground.batch import batch_length
from .._ground.indices import IndexArray, as_array
from .._ground.sparse import dense, is_sparse
from .merging import Part, Sums, check_kinds, concatenate, divide
from .outputs import Outputs
from .trail import PlacedRows, Trail

# Where results come from, in errors about those that do not fit.
ORIGIN = 'what func returned'


class Gathered(abc.ABC):
    """Collects what a function returns for each batch.

    Parameters
    ----------
    trail : Trail, optional
        Says where the rows of each batch belong, if that matters.
    """

    def __init__(self, trail: Trail | None) -> None:
        self.trail = trail

    @abc.abstractmethod
    def add(self, number: int, batch: Any, result: Any) -> None:
        """Take what a function returned for a batch, or raise an error that says what is wrong with it."""

    @abc.abstractmethod
    def finish(self) -> Any:
        """Return the results of all batches."""


class Kept(Gathered):
    """Results that are kept, and concatenated in the end.

    A batch without samples of this rank does not count: what a function returns for it may
    have another dtype or shape.
    """

    def __init__(self, trail: Trail | None) -> None:
        super().__init__(trail)
        self._form = _Form()
        self._results: list[list[Any] | None] = []
        self._empty: list[list[Any] | None] = []
        self._indices: list[IndexArray] = [np.empty(0, np.intp)]

    def add(self, number: int, batch: Any, result: Any) -> None:
        arrays = _as_arrays(result)
        if self.trail is not None:
            rows = self.trail.next_rows()
            if not len(rows.places):
                if arrays is not None and not self._empty:
                    self._empty = [[array[:0] for array in arrays]]
                return
            arrays = None if arrays is None else rows.of_results(arrays)
            self._indices.append(as_array(rows.places))
        self._form.check(number, arrays)
        self._results.append(arrays)

    def finish(self) -> tuple[Any, ...] | None:
        results = [result for result in self._results or self._empty if result is not None]
        if self._results and not results:
            return None
        arrays = tuple(map(self._form.join, range(len(results[0]) if results else 0), zip(*results)))
        return arrays if self.trail is None else Part(arrays, np.concatenate(self._indices), self.trail.run())


class _Form:
    """What the results of all batches must have in common."""

    def __init__(self) -> None:
        self._first: tuple[int, int] | None = None
        # For every array, the first batch that has rows of it, the shape of a row, the dtype, and whether it is sparse.
        self._rows: dict[int, tuple[int, tuple[int, ...], np.dtype[Any], bool]] = {}

    def check(self, number: int, arrays: Sequence[Any] | None) -> None:
        """Raise an error unless the results of a batch can be put behind those of earlier ones."""
        count = 0 if arrays is None else len(arrays)
        first, expected = self._first = self._first or (number, count)
        if count != expected:
            raise TypeError(
                f'func must return equally many arrays for every batch, got {expected} for batch {first} '
                f'and {count} for batch {number}'
            )
        for place, array in enumerate(arrays or ()):
            if array.shape[0]:
                self._check_rows(number, place, array)

    def join(self, place: int, arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """Concatenate the arrays of all batches; if there are no rows, whose form was not checked, take the first."""
        return concatenate(arrays if place in self._rows else arrays[:1])

    def _check_rows(self, number: int, place: int, array: NDArray[Any]) -> None:
        shape, dtype = array.shape[1:], array.dtype
        first, expected, kind, sparse = self._rows.setdefault(place, (number, shape, dtype, is_sparse(array)))
        if shape != expected:
            raise ValueError(
                f'func must return rows of equal shape for every batch, but rows of array {place} have shape '
                f'{expected} for batch {first} and {shape} for batch {number}'
            )
        if sparse != is_sparse(array):
            raise TypeError(
                f'func must return values of one kind, but array {place} is {"sparse" if sparse else "dense"} '
                f'for batch {first}, and not so for batch {number}'
            )
        if dtype != kind:
            check_kinds(f'array {place}', (f'batch {first}', kind), (f'batch {number}', dtype))
            if dtype.kind == kind.kind:  # a time without unit goes together with any, but these not with each other
                self._rows[place] = first, shape, np.promote_types(kind, dtype), sparse


class Written(Gathered):
    """Results that are written into what a user has given, and not kept.

    Parameters
    ----------
    trail : Trail, optional
        Says where the rows of each batch belong; without it, they follow each other.
    outputs : Outputs
        What takes the rows.
    n_samples : int, optional
        The number of samples of all batches, if it is known.
    """

    def __init__(self, trail: Trail | None, outputs: Outputs, n_samples: int | None = None) -> None:
        super().__init__(trail)
        self._outputs = outputs
        self._n_samples = n_samples
        self._written = 0
        self._forming = outputs.need_form
        self._empty: list[NDArray[Any]] | None = None
        if trail is not None and trail.n_places is not None:
            outputs.check_rows(trail.n_places)

    def add(self, number: int, batch: Any, result: Any) -> None:
        arrays = _as_arrays(result)
        n_rows = arrays[0].shape[0] if arrays else 0
        following = range(self._written, self._written + n_rows)
        rows = PlacedRows(following) if self.trail is None else self.trail.next_rows()
        if arrays is None and (self.trail is None or len(rows.places)):
            raise TypeError('func must return arrays to write into out, got None')
        if arrays is None:
            return
        if not len(rows.places):
            self._empty = self._empty or arrays
            return
        values = rows.of_results(arrays)
        if self._forming:
            known = n_rows == batch_length(batch)
            self._outputs.take_form(values, self._n_samples if known else None, ORIGIN)
            self._forming = False
        self._outputs.write(rows.places, self._outputs.fitted(values, ORIGIN))
        self._written += len(rows.places)

    def finish(self) -> tuple[Any, ...]:
        if self._forming and self._empty is not None:
            self._outputs.take_form(self._empty, 0, ORIGIN)
        return self._outputs.finish()


class Added(Gathered):
    """Sums over the samples of batches, which are added up."""

    def __init__(self, trail: Trail | None, sum_axis: int | tuple[int, ...] | None) -> None:
        super().__init__(trail)
        self._sum_axis = sum_axis
        self._totals: list[NDArray[Any]] = []
        self._samples = 0
        # The first batch with samples, and whether there were no sums for it.
        self._first: tuple[int, bool] | None = None

    def add(self, number: int, batch: Any, result: Any) -> None:
        rows = None if self.trail is None else self.trail.next_rows()
        if rows is not None and not len(rows.places):
            return  # of no samples, not every function returns a sum of zero
        first, none = self._first = self._first or (number, result is None)
        if none != (result is None):
            raise TypeError(
                'func must return sums for every batch, or None for every batch, but there are none '
                f'for batch {first if none else number}, and some for batch {number if none else first}'
            )
        if result is None:
            return
        values = list(map(dense, _listed(result)))
        self._samples += batch_length(batch) - (0 if rows is None else rows.padding)
        if rows is not None and self._sum_axis is not None:
            values = [rows.without_padding(value, self._sum_axis) for value in values]
        sums = [_as_sum(value, self._sum_axis) for value in values]
        fits = _fits(self._totals, sums)
        self._totals = [total + term for total, term in zip(self._totals, sums)] if fits else sums

    def finish(self) -> tuple[Any, ...] | Sums | None:
        if self._first is not None and self._first[1]:
            return None
        if self.trail is None:
            return divide(self._totals, self._samples)
        return Sums(tuple(self._totals), self._samples, self.trail.run())


def _listed(result: Any) -> Sequence[Any]:
    return result if isinstance(result, (tuple, list)) else (result,)


def _as_arrays(result: Any) -> list[NDArray[Any]] | None:
    """Return the result of a function as a list of NumPy's arrays, and of sparse rows as CSR; or `None`."""
    if result is None:
        return None
    arrays = []
    for value in _listed(result):
        if is_sparse(value) and value.ndim == 2:
            arrays.append(value.tocsr())
            continue
        array = np.asanyarray(value) if getattr(value, 'shape', ()) else None
        if array is None or not array.ndim:
            raise TypeError(
                'func must return an array with a value for each sample, or a tuple or list of such arrays, '
                f'or None; got {value!r} ({type(value).__name__})'
            )
        arrays.append(array)
    return arrays


def _as_sum(value: Any, sum_axis: int | tuple[int, ...] | None) -> NDArray[Any]:
    """Return the sum that a function gave for a batch, in float64 (complex: complex128)."""
    if np.ma.is_masked(value):
        raise TypeError('func must return sums, got masked values; fill them first, for instance with filled(0)')
    array = np.asarray(float(value) if is_integer(value) else value)
    if array.dtype.kind not in 'biufc':
        raise TypeError(
            'func must return sums: a number, an array, or a tuple or list of them; '
            f'got {value!r} ({type(value).__name__})'
        )
    dtype = np.result_type(array.dtype, np.float64) if array.dtype.kind in 'fc' else np.dtype(np.float64)
    total: NDArray[Any] = array.astype(dtype) if sum_axis is None else array.sum(axis=sum_axis, dtype=dtype)
    return total


def _fits(totals: Sequence[NDArray[Any]], sums: Sequence[NDArray[Any]]) -> bool:
    """Say whether sums are to be added to totals: not for the first batch.

    Raises `ValueError` if their shapes differ, which means that they are no sums.
    """
    if not totals:
        return False
    shapes, new_shapes = [total.shape for total in totals], [part.shape for part in sums]
    if shapes != new_shapes:
        raise ValueError(
            f'func returned sums of shapes {new_shapes} after {shapes} for earlier batches; '
            'if it returns a value for each sample, pass sum_axis=0'
        )
    return True
