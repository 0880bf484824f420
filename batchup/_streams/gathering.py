"""Gathering results: apply a function to every batch, and put the results together."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any

from .._ground.arguments import check_flag, check_non_negative
from .._ground.progress import make_bar
from .failed import mark_at
from .finite import FiniteOnly
from .outputs import Outputs
from .planned import PlannedFeed
from .results import Added, Gathered, Kept, Written
from .stream import Stream
from .trail import Trail

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
    check_finite: bool = False,
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
    out : array, path, h5py data set or zarr array, or tuple or list of them, optional
        Write the rows there as the batches come, and keep nothing: one for each array of the
        results. An array may be in memory or memory-mapped. Each row goes to the place that
        `Part.indices` describes, whatever the shuffle and the shard; so there is a row for
        each sample of the epoch. Rows of batches without a plan go one after the other. A data
        set grows as far as its `maxshape` allows, and an array of zarr if it has no rows yet.

        A path, a string or `PathLike` that ends in `.npy`, is that of a new file. Its shape
        and dtype are those of the first batch, and it has the rows that come: in order, `func`
        may return any number of them; shuffled, they are sorted by their places. The file
        gets its name when it is whole. An error leaves what was there before.
    part : bool
        Return a `Part`, which `merge` takes; needs the stream of a source with random access.
    check_finite : bool
        Raise `NonFiniteError`, at its batch, for what `func` returns with NaN or infinity in it.

    Returns
    -------
    tuple of arrays or None
        The results in the order of the batches, concatenated along the first axis. An
        empty tuple for no batches, `None` if every call returned `None`. With `out`, the
        tuple of its arrays; for a path, a read-only memory map of the file. With `part`, a
        `Part`.

    Raises
    ------
    ValueError
        If the batches are endless and `n_batches` is not given, or the shape of a row differs
        between batches, or results do not fit into `out`, or the number of rows is not that
        of the samples, where `out` or `part` needs it. If `out` is read-only or closed, or
        several ranks cannot write into it, or it is a path and there are no batches.
    TypeError
        If `func` returns anything else, or values of another kind than for earlier batches,
        or `out` cannot hold them. Errors at a batch, also those of `func`, have a note that
        names it. Results are converted to NumPy's arrays at their batch.
    OSError
        If there is no folder for a file, or no room: a `StorageError` says how much it needs.

    >>> import numpy as np
    >>> batch_map_concat(lambda x: 2 * x, [(np.arange(3),), (np.arange(2),)])
    (array([0, 2, 4, 0, 2]),)
    """
    check_gathering(func, progress_iter_func, n_batches, prepend_args, progress)
    _check_batches(batch_iter)
    check_flag('check_finite', check_finite)
    if check_flag('part', part) and out is not None:
        raise ValueError('out takes all rows: part=True leaves nothing to return')
    with nullcontext() if out is None else Outputs(out) as outputs:
        gathered: Gathered
        gathered = Kept(_trail(batch_iter, part)) if outputs is None else _written(batch_iter, outputs, n_batches)
        gathered = FiniteOnly(gathered, batch_iter) if check_finite else gathered
        _go_through(func, batch_iter, progress_iter_func, n_batches, prepend_args, progress, gathered)
        return gathered.finish()


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
    check_finite: bool = False,
) -> Any:
    """Apply a function to every batch, and average what it returns over the samples.

    Parameters
    ----------
    func : callable
        `func(*prepend_args, *batch)` returns the sum over the samples of the batch: an
        array, a number, or a tuple or list of them. With `sum_axis`, it returns values for
        each sample. It may return `None` for every batch, as a function that trains does.
    sum_axis : int or tuple of ints, optional
        The axis of the results to sum over, where `func` returns values for each sample.
    batch_iter, progress_iter_func, n_batches, prepend_args, progress
        As for `batch_map_concat`.
    part : bool
        Return `Sums`, which `merge` takes; needs the stream of a source with random access.
    check_finite : bool
        Raise `NonFiniteError`, at its batch, for what `func` returns with NaN or infinity in it.

    Returns
    -------
    tuple or None
        The totals divided by the number of samples, accumulated in float64; `None` if every
        call returned `None`. A batch has as many samples as its first array. With `part`,
        `Sums`, even if there are no samples.

    Raises
    ------
    ValueError
        If there are no samples, or the batches are endless and `n_batches` is not given.
    TypeError
        If `func` returns anything else, or `None` for some batches only. Errors have notes as
        those of `batch_map_concat`.

    >>> import numpy as np
    >>> (mean,) = batch_map_mean(np.sum, [(np.arange(3),), (np.arange(2),)])
    >>> float(mean)
    0.8
    """
    check_gathering(func, progress_iter_func, n_batches, prepend_args, progress)
    _check_batches(batch_iter)
    gathered: Gathered = Added(_trail(batch_iter, check_flag('part', part)), sum_axis)
    gathered = FiniteOnly(gathered, batch_iter) if check_flag('check_finite', check_finite) else gathered
    _go_through(func, batch_iter, progress_iter_func, n_batches, prepend_args, progress, gathered)
    return gathered.finish()


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


def _trail(batches: Iterable[Any], part: bool) -> Trail | None:
    """Return the trail of a stream if results become a part; `TypeError` if no plan can be followed."""
    if not part:
        return None
    if not Trail.known(batches):
        raise TypeError(f'part=True needs the stream of a source with random access, got {type(batches).__name__}')
    return Trail(batches)


def _written(batches: Iterable[Any], outputs: Outputs, n_batches: int | None) -> Written:
    """Return what writes the results of batches.

    New files have the rows that come: those of batches in order follow each other. Everything
    else has a place for each row.
    """
    if not Trail.known(batches):
        return Written(None, outputs)
    assert isinstance(batches.feed, PlannedFeed)
    outputs.check_ranks(batches.feed.shard.count)
    places = batches.feed.plan.places
    total = None if places is None or n_batches is not None or batches.position else places.total
    trail = None if outputs.take_any_rows and not Trail.scatters(batches) else Trail(batches)
    return Written(trail, outputs, None if total is None or total == math.inf else int(total))


def _go_through(
    func: BatchFunction,
    batches: Iterable[Any],
    progress_iter_func: Progress | None,
    n_batches: int | None,
    prepend_args: Sequence[Any] | None,
    progress: bool,
    gathered: Gathered,
) -> None:
    """Apply a function to every batch, and hand on what it returns; an error gets a note that names the batch."""
    first = batches.position if isinstance(batches, Stream) else 0
    limited = _limited(batches, progress_iter_func, n_batches, progress, gathered.trail)
    for number, batch in enumerate(limited, first):
        try:
            gathered.add(number, batch, func(*_arguments(prepend_args, batch)))
        except Exception as error:
            mark_at(batches, error, number)
            raise


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
    """Return how many batches will be taken; `None` if that is not known."""
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
