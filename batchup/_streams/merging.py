"""Results of one rank, and how those of all ranks are put together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from .._ground.indices import IndexArray
from .._ground.sparse import dense, is_sparse, stack
from .outputs import Outputs


@dataclass(frozen=True)
class Run:
    """The run that results come from, and the rank that made them.

    Attributes
    ----------
    shard : (rank, count)
        The rank, and the number of ranks.
    samples : int
        The number of samples of all ranks together.
    facts : dict
        What is equal in all ranks: the source, the arguments, and a digest of all indices.
    """

    shard: tuple[int, int]
    samples: int
    facts: dict[str, Any]


class Part(tuple[Any, ...]):
    """The results of one rank: a tuple of arrays, which knows where their rows belong.

    Parts of all ranks become results with `merge`. They pickle.

    Attributes
    ----------
    indices : array of shape (n,)
        For every row, its place among the results of all ranks. It is the place of the
        sample in the source, as `samples_by_indices` takes it; repetitions follow each other.
        Where samples have no such place, it is the place of the row in the epoch.
    run : Run
        The run that they come from, and the rank that made them.

    >>> from batchup.data_source import ArrayDataSource
    >>> source = ArrayDataSource([np.arange(5) * 10])
    >>> source.batch_map_concat(lambda x: x + 1, 4, shuffle=42, shard=(0, 2))
    Part((array([31,  1]),), indices=array([3, 0]), shard=(0, 2))
    """

    indices: IndexArray
    run: Run

    def __new__(cls, arrays: Iterable[Any], indices: IndexArray, run: Run) -> Part:
        part = super().__new__(cls, arrays)
        part.indices, part.run = indices, run
        return part

    def __reduce__(self) -> Any:
        return Part, (tuple(self), self.indices, self.run)

    def __repr__(self) -> str:
        return f'Part({super().__repr__()}, indices={self.indices!r}, shard={self.run.shard})'


@dataclass(frozen=True, eq=False)
class Sums:
    """The sums of one rank over its samples, and how many samples there were.

    Attributes
    ----------
    totals : tuple of arrays or numbers
        The sums, in float64; an empty tuple if there were no samples.
    count : int
        The number of samples of this rank.
    run : Run
        The run that they come from, and the rank that made them.

    >>> from batchup.data_source import ArrayDataSource
    >>> sums = ArrayDataSource([np.arange(5)]).batch_map_mean(np.sum, 4, shard=(0, 2))
    >>> float(sums.totals[0]), sums.count, float(sums.mean()[0])
    (1.0, 2, 0.5)
    """

    totals: tuple[Any, ...]
    count: int
    run: Run

    def mean(self) -> tuple[Any, ...]:
        """Return the means over the samples of this rank; `ValueError` if there are none."""
        return divide(self.totals, self.count)


def divide(totals: Sequence[Any], count: int) -> tuple[Any, ...]:
    """Return sums divided by the number of samples."""
    if count == 0:
        raise ValueError('there are no samples to average over')
    return tuple(total / count for total in totals)


def merge(parts: Iterable[Part | Sums | None], out: Any = None) -> tuple[Any, ...] | None:
    """Put the results of all ranks together.

    Parameters
    ----------
    parts : iterable of Part, or of Sums
        What `batch_map_concat` or `batch_map_mean` returned in every rank, in any order.
    out : array, path, h5py data set or zarr array, or tuple or list of them, optional
        Where to put the rows of a `Part`, as for `batch_map_concat`: one for each array of the
        results, with a row for each sample. New arrays by default.

    Returns
    -------
    tuple of arrays or None
        For parts, the rows of all ranks in the order of their `indices`. Where samples have a
        place in the source, this is their order without a shuffle, whatever the shuffle was.
        For sums, the means over the samples of all ranks. `None` if every rank returned `None`.

    Raises
    ------
    TypeError
        If something else is given, or the results do not fit together.
    ValueError
        If a rank is missing, or there twice, or the parts are not of the same run.

    >>> from batchup.data_source import ArrayDataSource
    >>> source = ArrayDataSource([np.arange(5) * 10])
    >>> merge([source.batch_map_concat(lambda x: x + 1, 4, shuffle=42, shard=(k, 2)) for k in range(2)])
    (array([ 1, 11, 21, 31, 41]),)
    >>> (mean,) = merge([source.batch_map_mean(np.sum, 4, shard=(k, 2)) for k in range(2)])
    >>> float(mean)
    20.0
    """
    given = list(parts)
    kind = Sums if any(isinstance(part, Sums) for part in given) else Part
    for number, part in enumerate(given):
        if not isinstance(part, kind) and part is not None:
            raise TypeError(
                f'parts must be what batch_map_concat or batch_map_mean returns with shard=, from a source with random '
                f'access: part {number} is a {type(part).__name__}'
            )
    if kind is Part:
        return _merge_rows(cast('list[Part | None]', given), out)
    if out is not None:
        raise TypeError('out= is for the rows of batch_map_concat, not for the means of batch_map_mean')
    return _merge_sums(cast('list[Sums | None]', given))


def _merge_sums(given: list[Sums | None]) -> tuple[Any, ...] | None:
    parts = [part for part in given if part is not None]
    filled = sorted((part for part in parts if part.totals), key=_rank)
    if len(parts) < len(given):
        if filled:
            raise TypeError(f'func returned sums in rank {_rank(filled[0])}, but None in another one')
        return None
    check_runs([part.run for part in parts])
    shapes = [[np.shape(total) for total in part.totals] for part in filled]
    for part, own in zip(filled, shapes):
        if own != shapes[0]:
            raise TypeError(f'rank {_rank(part)} has sums of shapes {own}, rank {_rank(filled[0])} of {shapes[0]}')
    totals = [sum(column[1:], column[0]) for column in zip(*(part.totals for part in filled))]
    return divide(totals, sum(part.count for part in parts))


def _rank(part: Part | Sums) -> int:
    return part.run.shard[0]


def _merge_rows(given: list[Part | None], out: Any) -> tuple[Any, ...] | None:
    parts = sorted((part for part in given if part is not None), key=_rank)
    filled = [part for part in parts if len(part.indices)]
    if len(parts) < len(given):
        if filled:
            raise TypeError(f'func returned arrays in rank {_rank(filled[0])}, but None in another one')
        return None
    check_runs([part.run for part in parts])
    samples = parts[0].run.samples
    filled = filled or parts[:1]
    rows = _rows_of(filled, samples)
    if out is None:
        _check_alike(filled)
        if any(map(is_sparse, filled[0])):
            order = np.argsort(np.concatenate(rows))
            return tuple(concatenate(column)[order] for column in zip(*filled))
        out = _allocate(filled, samples)
        if not out:
            return ()
    with Outputs(out) as outputs:
        outputs.check_rows(samples)
        if outputs.need_form and filled[0]:
            outputs.take_form(_likes(filled), samples, 'the parts')
        for part in filled if samples else ():
            outputs.fitted(part, f'the part of rank {_rank(part)}')
        for part, own in zip(filled, rows):
            outputs.write(own, part)
        return outputs.finish()


def _rows_of(parts: Sequence[Part], samples: int) -> list[IndexArray]:
    """Return where the rows of each part go: in the order of their indices, with no gaps."""
    indices = np.sort(np.concatenate([part.indices for part in parts]))
    twice = np.flatnonzero(indices[1:] == indices[:-1])
    if twice.size:
        raise ValueError(f'the row of index {indices[twice[0]]} is in the parts twice')
    if len(indices) != samples:
        raise ValueError(f'the parts have {len(indices)} rows together, but the run has {samples} samples')
    if not samples or indices[-1] == samples - 1:
        return [part.indices for part in parts]
    return [np.searchsorted(indices, part.indices) for part in parts]


def _allocate(parts: Sequence[Part], samples: int) -> tuple[NDArray[Any], ...]:
    """Make arrays for the rows of all parts."""
    return tuple(np.empty_like(like, order='C', shape=(samples, *like.shape[1:])) for like in _likes(parts))


def _likes(parts: Sequence[Part]) -> list[NDArray[Any]]:
    """Return arrays without rows, of the shapes and dtypes that concatenation gives, as arrays of NumPy."""
    _check_alike(parts)
    return [dense(concatenate([array[:0] for array in column])) for column in zip(*parts)]


def _check_alike(parts: Sequence[Part]) -> None:
    """Raise `TypeError` unless the arrays of all parts can be put together."""
    shapes = [[array.shape[1:] for array in part] for part in parts]
    for part, own in zip(parts, shapes):
        if own != shapes[0]:
            raise TypeError(
                f'the part of rank {_rank(part)} has rows of shapes {own}, that of rank {_rank(parts[0])} {shapes[0]}'
            )
        for number, (one, other) in enumerate(zip(parts[0], part)):
            kinds = [(f'rank {_rank(parts[0])}', one.dtype), (f'rank {_rank(part)}', other.dtype)]
            check_kinds(f'array {number}', *kinds)
            if is_sparse(one) != is_sparse(other):
                raise TypeError(f'array {number} is sparse in only one of {kinds[0][0]} and {kinds[1][0]}')


def concatenate(arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Concatenate arrays; masked ones keep their masks. Arrays without rows count only if no array has rows."""
    filled = [array for array in arrays if array.shape[0]] or arrays
    joined: NDArray[Any]
    if is_sparse(filled[0]):
        joined = stack(filled)
        return joined
    masked = any(isinstance(array, np.ma.MaskedArray) for array in filled)
    joined = np.ma.concatenate(filled) if masked else np.concatenate(filled)  # type: ignore[no-untyped-call]
    return joined


def check_kinds(what: str, one: tuple[str, np.dtype[Any]], other: tuple[str, np.dtype[Any]]) -> None:
    """Raise `TypeError` unless values of two dtypes can go into one array; each comes with the name of its origin.

    Numbers go together with numbers, and anything with objects.
    """
    (first, dtype), (second, other_dtype) = one, other
    kinds = {dtype.kind, other_dtype.kind}
    fit = len(kinds) == 1 or 'O' in kinds or kinds <= set('biufc')
    if len(kinds) == 1:
        try:
            np.promote_types(dtype, other_dtype)
        except (TypeError, OverflowError):  # they have other fields, or no common unit of time
            fit = False
    if not fit:
        raise TypeError(
            f'func must return values of one kind, but {what} has dtype {dtype} for {first} '
            f'and {other_dtype} for {second}'
        )


def check_runs(runs: Sequence[Run]) -> None:
    """Raise `ValueError` unless every rank is there once, and all belong to the same run."""
    if not runs:
        raise ValueError('there are no parts to merge')
    first = runs[0]
    counts = Counter(run.shard[0] for run in runs)
    for run in runs:
        if run.shard[1] != first.shard[1]:
            raise ValueError(f'the parts are of runs with {first.shard[1]} and with {run.shard[1]} ranks')
        _check_facts(first, run)
    twice = sorted(rank for rank, count in counts.items() if count > 1)
    if twice:
        raise ValueError(f'there are several parts of rank {_listing(twice)}')
    missing = [rank for rank in range(first.shard[1]) if rank not in counts]
    if missing:
        raise ValueError(f'the part of rank {_listing(missing)} of {first.shard[1]} ranks is missing')


def _check_facts(first: Run, other: Run) -> None:
    """Raise `ValueError` if two ranks went through different batches; the message shows both."""
    own, others = ({**run.facts, 'samples': run.samples} for run in (first, other))
    names = [name for name in {**own, **others} if own.get(name) != others.get(name)]
    if names:
        width = len(str(max(first.shard[0], other.shard[0])))
        lines = ['the parts are not of the same run:']
        for name in names:
            for run, facts in ((first, own), (other, others)):
                lines.append(f'  {name} of rank {run.shard[0]:<{width}}: {facts.get(name, "(missing)")}')
        lines.append('Give all ranks the same source, arguments and order: a seed, or generators in the same state.')
        raise ValueError('\n'.join(lines))


def _listing(ranks: Sequence[int]) -> str:
    """List ranks for an error: the first eight, and how many there are."""
    shown = ', '.join(str(rank) for rank in ranks[:8])
    return shown if len(ranks) <= 8 else f'{shown}, ... ({len(ranks)} in all)'
