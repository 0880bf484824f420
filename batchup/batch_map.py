"""Gathering results: apply a function to every batch, and put the results together."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .arguments import check_flag, check_non_negative, is_integer
from .bars import make_bar
from .batch import batch_length
from .indices import IndexArray, as_array
from .outputs import Outputs
from .results import Part, Sums, divide
from .stream import Stream
from .trail import Rows, Trail

BatchFunction = Callable[..., Any]
Progress = Callable[..., Iterable[Any]]


def batch_map_concat(
    func: BatchFunction,
    batch_iter: Iterable[Any],
    progress_iter_func: Progress | None = None,
    n_batches: int | None = None,
    prepend_args: Sequence[Any] | None = None,
    *,
    progress: bool = False,
    out: Any = None,
    part: bool = False,
) -> tuple[Any, ...] | None:
    """Apply a function to every batch, and concatenate what it returns.

    Parameters
    ----------
    func : callable
        `func(*prepend_args, *batch)` returns an array, or a tuple or list of arrays, whose
        first axis runs over the samples of the batch, or `None`.
    batch_iter : iterable of batches
        The batches, each a tuple or list of arrays.
    progress_iter_func : callable, optional
        Called as `progress_iter_func(iterator, total=n, leave=False)`, as `tqdm.tqdm` is;
        returns an iterator over the same items. `total` is `None` if it is not known.
    n_batches : int, optional
        Take this many batches, and pull no more from the iterator; all by default.
    prepend_args : sequence, optional
        Arguments for `func` before those of the batch.
    progress : bool
        Show tqdm's own bar, if in a terminal or a notebook.
    out : array, or tuple or list of arrays, optional
        Write the rows into these arrays as the batches come, and keep nothing: an array, in
        memory or memory-mapped, for each array of the results. Each row goes to the place
        that `Part.indices` describes, whatever the shuffle and the shard; so there is a row
        for each sample of the epoch. Rows of batches without a plan go one after the other.
    part : bool
        Return a `Part`, for `merge`, from the stream of a source with random access.

    Returns
    -------
    tuple of arrays or None
        The results in the order of the batches, concatenated along the first axis. An
        empty tuple for no batches, `None` if every call returned `None`. With `out`, the
        tuple of its arrays. With `part`, a `Part`.

    Raises
    ------
    ValueError
        If the batches are endless and `n_batches` is not given, or results do not fit into
        `out`, or there are not as many rows as samples where that matters.
    TypeError
        If `func` returns anything else, or `out` cannot hold it.

    >>> batch_map_concat(lambda x: 2 * x, [(np.arange(3),), (np.arange(2),)])
    (array([0, 2, 4, 0, 2]),)
    """
    check_gathering(func, progress_iter_func, n_batches, prepend_args, progress)
    _check_batches(batch_iter)
    trail = _trail(batch_iter, check_flag('part', part), out)
    batches = _limited(batch_iter, progress_iter_func, n_batches, progress, trail)
    results = (_check_arrays(func(*_arguments(prepend_args, batch))) for batch in batches)
    if out is not None:
        return _write(results, Outputs(out, None if trail is None else trail.n_places), trail)
    return _concatenate(list(results)) if trail is None else _make_part(results, trail)


def batch_map_mean(
    func: BatchFunction,
    batch_iter: Iterable[Any],
    progress_iter_func: Progress | None = None,
    sum_axis: int | tuple[int, ...] | None = None,
    n_batches: int | None = None,
    prepend_args: Sequence[Any] | None = None,
    *,
    progress: bool = False,
    part: bool = False,
) -> Any:
    """Apply a function to every batch, and average what it returns over the samples.

    Parameters
    ----------
    func : callable
        `func(*prepend_args, *batch)` returns the sum over the samples of the batch: an
        array, a number, or a tuple or list of them. With `sum_axis`, it returns values for
        each sample.
    sum_axis : int or tuple of ints, optional
        The axis of the results to sum over, where `func` returns values for each sample.
    batch_iter, progress_iter_func, n_batches, prepend_args, progress
        As for `batch_map_concat`.
    part : bool
        Return `Sums`, for `merge`, from the stream of a source with random access.

    Returns
    -------
    tuple
        The totals divided by the number of samples, accumulated in float64. With `part`,
        `Sums`, even if there are no samples.

    Raises
    ------
    ValueError
        If there are no samples, or the batches are endless and `n_batches` is not given.
    TypeError
        If `func` returns anything else.

    >>> (mean,) = batch_map_mean(np.sum, [(np.arange(3),), (np.arange(2),)])
    >>> float(mean)
    0.8
    """
    check_gathering(func, progress_iter_func, n_batches, prepend_args, progress)
    _check_batches(batch_iter)
    trail = _trail(batch_iter, check_flag('part', part))
    totals: list[NDArray[Any]] = []
    samples = 0
    for batch in _limited(batch_iter, progress_iter_func, n_batches, progress, trail):
        values = _listed(func(*_arguments(prepend_args, batch)))
        if trail is None:
            count = batch_length(batch)
        else:
            rows = trail.next_rows()
            count = len(rows.places)
            if not count:
                continue  # some functions give no zero for a batch that this rank has no part of
            values = values if sum_axis is None else [rows.without_padding(value, sum_axis) for value in values]
        sums = [_as_sum(value, sum_axis) for value in values]
        totals = [total + term for total, term in zip(totals, sums)] if _fits(totals, sums) else sums
        samples += count
    return divide(totals, samples) if trail is None else Sums(tuple(totals), samples, trail.run())


def check_gathering(func: Any, progress_iter_func: Any, n_batches: Any, prepend_args: Any, progress: Any) -> None:
    """Raise an error for wrong arguments of `batch_map_concat` and `batch_map_mean`, before a batch is made."""
    if not callable(func):
        raise TypeError(f'func must be a function of the arrays of a batch, got {type(func).__name__}')
    if progress_iter_func is not None and not callable(progress_iter_func):
        raise TypeError(
            f'progress_iter_func must be a function such as tqdm.tqdm, got {progress_iter_func!r}; '
            "progress=True shows tqdm's own bar"
        )
    if n_batches is not None:
        check_non_negative('n_batches', n_batches)
    if prepend_args is not None and (not isinstance(prepend_args, Sequence) or isinstance(prepend_args, str)):
        raise TypeError(f'prepend_args must be a list or tuple of arguments, got {type(prepend_args).__name__}')
    check_flag('progress', progress)


def _check_batches(batches: Any) -> None:
    if not hasattr(batches, '__iter__') and not hasattr(batches, '__getitem__'):
        raise TypeError(f'batch_iter must be an iterator over batches, got {type(batches).__name__}')


def _trail(batches: Iterable[Any], part: bool, out: Any = None) -> Trail | None:
    """Return what says where the rows of batches belong, if that is wanted and known."""
    if part and out is not None:
        raise ValueError('out takes all rows: part=True leaves nothing to return')
    if not part and out is None:
        return None
    if Trail.known(batches):
        return Trail(batches)
    if part:
        raise TypeError(f'part=True needs the stream of a source with random access, got {type(batches).__name__}')
    return None


def _concatenate(results: Sequence[Sequence[Any] | None]) -> tuple[Any, ...] | None:
    """Put the results of all batches together."""
    if not results:
        return ()
    if all(result is None for result in results):
        return None
    _check_counts([0 if result is None else len(result) for result in results])
    return tuple(np.concatenate(column) for column in zip(*results))


def _make_part(results: Iterable[Sequence[Any] | None], trail: Trail) -> Part | None:
    """Put the results of one rank together.

    What a function makes of batches that have no samples of this rank does not count: its
    dtype or shape may be another.
    """
    kept: list[Sequence[Any] | None] = []
    empty: list[Sequence[Any]] = []
    indices: list[IndexArray] = [np.empty(0, np.intp)]
    for result in results:
        rows = trail.next_rows()
        if len(rows.places):
            kept.append(None if result is None else rows.of_results(result))
            indices.append(as_array(rows.places))
        elif result is not None:
            empty.append([value[:0] for value in result])
    arrays = _concatenate(kept or empty[:1])
    return None if arrays is None else Part(arrays, np.concatenate(indices), trail.run())


def _write(results: Iterable[Sequence[Any] | None], outputs: Outputs, trail: Trail | None) -> tuple[Any, ...]:
    """Write the results of all batches into arrays, and let go of each."""
    written = 0
    for result in results:
        n_rows = len(result[0]) if result else 0
        rows = Rows(range(written, written + n_rows)) if trail is None else trail.next_rows()
        if result is None and (trail is None or len(rows.places)):
            raise TypeError('func must return arrays to write into out, got None')
        if result is not None and len(rows.places):
            values = rows.of_results(result)
            outputs.check(values, 'what func returned')
            outputs.write(rows.places, values)
            written += len(rows.places)
            del values
        del result
    return outputs.arrays


def _limited(
    batches: Iterable[Any],
    progress_iter_func: Progress | None,
    n_batches: int | None,
    progress: bool,
    trail: Trail | None = None,
) -> Iterable[Any]:
    """Return the batches to go through, at most `n_batches`, with a progress bar if wanted."""
    if n_batches is not None:
        n_batches = check_non_negative('n_batches', n_batches)
    length = batches.length if isinstance(batches, Stream) else None
    if n_batches is None and length == math.inf:
        raise ValueError('the batches are endless: say how many to take with n_batches=')
    total = _total(batches, length, n_batches)
    followed = batches if trail is None else map(trail.follow, batches)
    iterator: Iterator[Any] = itertools.islice(followed, n_batches)
    if progress_iter_func is None and progress:
        progress_iter_func = make_bar
    return iterator if progress_iter_func is None else progress_iter_func(iterator, total=total, leave=False)


def _total(batches: Iterable[Any], length: float | None, n_batches: int | None) -> int | None:
    """Return how many batches will be taken, as far as is known."""
    left = math.inf
    if isinstance(batches, Stream):
        left = math.inf if length is None else length - batches.position
    elif isinstance(batches, Sequence):
        left = len(batches)
    left = min(left, math.inf if n_batches is None else n_batches)
    return None if left == math.inf else int(left)


def _arguments(prepend_args: Sequence[Any] | None, batch: Any) -> tuple[Any, ...]:
    if not isinstance(batch, (tuple, list)):
        raise TypeError(f'a batch must be a tuple or list of arrays, got {type(batch).__name__}')
    return (*(prepend_args or ()), *batch)


def _listed(result: Any) -> Sequence[Any]:
    return result if isinstance(result, (tuple, list)) else (result,)


def _check_arrays(result: Any) -> Sequence[Any] | None:
    """Return the result of a function as a sequence of arrays, or `None`."""
    if result is None:
        return None
    for value in _listed(result):
        if not getattr(value, 'shape', ()):
            raise TypeError(
                'func must return an array with a value for each sample, or a tuple or list of such arrays, '
                f'or None; got {value!r} ({type(value).__name__})'
            )
    return _listed(result)


def _check_counts(counts: Sequence[int]) -> None:
    """Raise `TypeError` unless the function returned equally many arrays for every batch."""
    for number, count in enumerate(counts):
        if count != counts[0]:
            raise TypeError(
                f'func must return equally many arrays for every batch, got {counts[0]} for batch 0 '
                f'and {count} for batch {number}'
            )


def _as_sum(value: Any, sum_axis: int | tuple[int, ...] | None) -> NDArray[Any]:
    """Return the sum that a function gave for a batch, in float64 (complex: complex128)."""
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
