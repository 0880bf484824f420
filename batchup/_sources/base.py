"""The base of all sources, and the source that maps a function over another one."""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import repeat
from time import perf_counter
from typing import Any, NoReturn

from .._ground.allocation import Recycler
from .._ground.arguments import (
    NOT_GIVEN,
    BatchSize,
    check_batch_sizes,
    check_flag,
    check_keywords,
    function_name,
    overridden,
)
from .._ground.batch import ANYWHERE, Batch, Destination, Memory, check_batch, check_lengths
from .._ground.calls import names_class
from .._ground.indices import as_tree
from .._ground.ownership import owned
from .._ground.randomness import Path
from .._plans.options import KEYWORDS, PLAN_KEYWORDS, Asked, Options
from .._plans.plan import Plan, Request
from .._streams.gathering import Progress, batch_map_concat, batch_map_mean, check_gathering
from .._streams.members import MappedFeed
from .._streams.stream import Stream
from .._streams.trail import Trail
from .offers import Offers
from .reading import planned_feed
from .replays import Replayable, ReplayableMembers
from .samples import MapsSamples, SampleFunction

# In a path, comes before the number of a function that is mapped over other random ones. No member
# has this number, and it is not the mark of a round.
FUNCTION = 2**32 - 2


class AbstractDataSource(MapsSamples, Offers, Replayable):
    """Base class of sources.

    Subclasses implement `num_samples` and `batch_iterator`; a plain generator will do.
    """

    @property
    def is_random_access(self) -> bool:
        """Whether samples can be read by index."""
        return False

    def num_samples(self, **kwargs: Any) -> int | float | None:
        """Return the number of samples of an epoch; `np.inf` if endless, `None` if unknown.

        Takes the same keywords as `batch_iterator`.
        """
        raise NotImplementedError(f'{type(self).__name__} does not implement num_samples')

    def batch_iterator(self, batch_size: int, **kwargs: Any) -> Iterator[Any]:
        """Return an iterator over the batches of an epoch, tuples of arrays."""
        raise NotImplementedError(f'{type(self).__name__} does not implement batch_iterator')

    @names_class
    def map(self, fn: Callable[..., Any], rng: bool = False, *, same_length: bool = True) -> MapDataSource:
        """Return a source that applies a function to every batch of this one.

        Parameters
        ----------
        fn : callable
            `fn(*batch)` returns a tuple of arrays. Arrays may also be within tuples, lists and
            dicts in it. Those that something else refers to, such as parts of a table, are
            copied, so that batches belong to the user.
        rng : bool
            Whether to call `fn(*batch, rng=generator)` with a `numpy.random.Generator` that
            belongs to the batch: it depends only on the seed, the epoch and the number of the
            batch (and on its indices, if there is no seed). Pass `epoch=` to `batch_iterator`
            to get other draws every epoch. Which samples are in a batch does not depend on it.
        same_length : bool
            Whether to raise `ValueError` at a batch where the function returns arrays that
            differ in length, and so no longer belong together row by row. Lengths that the
            function was given are all right: the parts of a composite's batch may differ.
            Without the check, the first array says how many samples the batch has.

        Raises
        ------
        TypeError
            If `fn` is no function, or `rng` no boolean: it is neither a seed nor a generator.
        """
        return MapDataSource(self, fn, rng, same_length=same_length)

    @names_class
    def batch_map_concat(
        self,
        func: Callable[..., Any],
        batch_size: int,
        progress_iter_func: Progress | None = None,
        n_batches: int | None = None,
        prepend_args: Sequence[Any] | None = None,
        *,
        progress: bool = False,
        out: Any = None,
        check_finite: bool = False,
        **kwargs: Any,
    ) -> tuple[Any, ...] | None:
        """Apply a function to every batch, and concatenate what it returns.

        As the function `batchup.data_source.batch_map_concat`, with the batches of
        `batch_iterator(batch_size, **kwargs)`. With `shard=(rank, count)`, a source with
        random access returns a `Part` for `merge`, unless `out` takes the rows: an array, a
        path that ends in `.npy`, a data set of h5py, an array of zarr, or a tuple of them.
        """
        check_gathering(func, progress_iter_func, n_batches, prepend_args, progress)
        finite = check_flag('check_finite', check_finite)
        with self._as_stream(self.batch_iterator(batch_size, **kwargs), Asked(batch_size, kwargs)) as stream:
            part = out is None and _in_parts(stream, kwargs)
            own = {'progress': progress, 'out': out, 'part': part, 'check_finite': finite}
            return batch_map_concat(func, stream, progress_iter_func, n_batches, prepend_args, **own)

    @names_class
    def batch_map_mean(
        self,
        func: Callable[..., Any],
        batch_size: int,
        progress_iter_func: Progress | None = None,
        sum_axis: int | tuple[int, ...] | None = None,
        n_batches: int | None = None,
        prepend_args: Sequence[Any] | None = None,
        *,
        progress: bool = False,
        check_finite: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Apply a function to every batch, and average what it returns over the samples.

        As the function `batchup.data_source.batch_map_mean`, with the batches of
        `batch_iterator(batch_size, **kwargs)`. With `shard=(rank, count)`, a source with
        random access returns `Sums` for `merge`.
        """
        check_gathering(func, progress_iter_func, n_batches, prepend_args, progress)
        finite = check_flag('check_finite', check_finite)
        with self._as_stream(self.batch_iterator(batch_size, **kwargs), Asked(batch_size, kwargs)) as stream:
            part = _in_parts(stream, kwargs)
            own = {'progress': progress, 'part': part, 'check_finite': finite}
            return batch_map_mean(func, stream, progress_iter_func, sum_axis, n_batches, prepend_args, **own)


def _in_parts(stream: Stream, kwargs: Mapping[str, Any]) -> bool:
    """Say whether results are those of one rank, to be merged."""
    return kwargs.get('shard') is not None and Trail.known(stream)


class IndexedDataSource(AbstractDataSource):
    """Base of the package's sources, which have a plan if they are random access.

    A public method that a user overrides is called wherever it matters. What it does in the
    package is in a method with `own` in its name, which the public one calls: an override may
    call `super()`.
    """

    @names_class
    def plan(
        self,
        batch_size: BatchSize,
        shuffle: Any = None,
        *,
        epoch: int = 0,
        drop_last: bool = False,
        **unknown: NoReturn,
    ) -> Plan:
        """Return the plan of an epoch: `plan[k].indices` are the sample indices of batch k.

        Raises `TypeError` if the source is not random access.
        """
        self._check_keywords('plan', unknown, PLAN_KEYWORDS)
        self._check_random_access('plan')
        return self._make_plan(Options.check(batch_size, shuffle, epoch, drop_last), ())

    @names_class
    def batch_indices_iterator(
        self,
        batch_size: BatchSize,
        shuffle: Any = None,
        *,
        epoch: int = 0,
        drop_last: bool = False,
        **unknown: NoReturn,
    ) -> Iterator[Any]:
        """Return an iterator over the sample indices of every batch.

        They are 1-D integer arrays; of a composite, tuples with the indices of its members;
        of a choice, `ChoiceBatch` tuples. Raises `TypeError` if the source is not random access.
        """
        self._check_keywords('batch_indices_iterator', unknown, PLAN_KEYWORDS)
        self._check_random_access('batch_indices_iterator')
        return self._make_own_plan(Options.check(batch_size, shuffle, epoch, drop_last), ()).index_batches()

    def _check_keywords(self, method: str, given: Mapping[str, Any], known: Sequence[str] = KEYWORDS) -> None:
        """Raise `TypeError` for a keyword that a method does not take."""
        check_keywords(f'{type(self).__name__}.{method}', given, known)

    def _check_num_samples(self, kwargs: Mapping[str, Any]) -> None:
        """Raise `TypeError` for a keyword of `num_samples` that `batch_iterator` does not take."""
        if self._has_plan():  # or what it takes is up to users' code
            self._check_keywords('num_samples', kwargs, KEYWORDS[1:])

    def _check_random_access(self, method: str) -> None:
        """Raise `TypeError` if the source lacks the random access that a method needs."""

    def _open(self, asked: Asked, path: Path) -> Stream:
        own = not overridden(self, 'batch_iterator')
        return self._open_own(asked, path) if own else super()._open(asked, path)

    def _open_own(self, asked: Asked, path: Path) -> Stream:
        """Open a stream as the package's `batch_iterator` does."""
        return self._open_planned(asked.options(type(self).__name__), path)

    def _open_planned(self, options: Options, path: Path) -> Stream:
        return Stream(planned_feed(self, self._make_plan(options, path), options, path))

    def _make_plan(self, options: Options, path: Path) -> Plan:
        own = not overridden(self, 'batch_indices_iterator')
        return self._make_own_plan(options, path) if own else super()._make_plan(options, path)

    @abc.abstractmethod
    def _make_own_plan(self, options: Options, path: Path) -> Plan:
        """Make the plan of an epoch as `batch_indices_iterator` does."""

    def _fetch(self, request: Request, path: Path, to: Destination = ANYWHERE) -> Iterable[Batch]:
        own = not overridden(self, 'samples_by_indices_nomapping')
        return self._fetch_own(request, path, to) if own else super()._fetch(request, path, to)

    def _fetch_own(self, request: Request, path: Path, to: Destination) -> Iterable[Batch]:
        """Read the batches of a request as `samples_by_indices_nomapping` does."""
        return super()._fetch(request, path, to)


class DerivedDataSource(ReplayableMembers, IndexedDataSource, abc.ABC):
    """Base of the sources that are made from other sources.

    They are random access if all their members are.
    """

    def __init__(self, members: Sequence[AbstractDataSource]) -> None:
        for number, member in enumerate(members):
            if not isinstance(member, AbstractDataSource):
                raise TypeError(
                    f'data source {number} of a {type(self).__name__} must be a data source, '
                    f'got {type(member).__name__}; coerce_data_source makes one from arrays, iterators and functions'
                )
        self._members = members

    @property
    def is_random_access(self) -> bool:
        return all(member.is_random_access for member in self._members)

    @names_class
    def batch_iterator(self, batch_size: BatchSize, shuffle: Any = NOT_GIVEN, **kwargs: Any) -> Stream:
        """Return a stream over the batches of an epoch.

        `batch_size` may be a tuple with a size for each data source of a composite or a choice:
        `(32, 96)`. Where these are made of others, it may be nested: `(32, (64, 96))`.

        If all members are random access, the keywords are those of
        `RandomAccessDataSource.batch_iterator`. If not, each member gets the keywords as
        they are given.
        """
        if shuffle is not NOT_GIVEN:
            kwargs['shuffle'] = shuffle
        return self._open_own(Asked(check_batch_sizes(batch_size), kwargs), ())

    def samples_by_indices(self, indices: Any) -> Batch:
        """Read samples by indices that the members' samplers map to those of the data.

        The indices are as `batch_indices_iterator` gives them. Raises `TypeError` if a member
        is not random access.
        """
        self._check_random_access('samples_by_indices')
        return self._samples('samples_by_indices', indices, ())

    def samples_by_indices_nomapping(self, indices: Any) -> Batch:
        """Read samples by indices into the members' data.

        The indices are as `batch_indices_iterator` gives them. Raises `TypeError` if a member
        is not random access.
        """
        self._check_random_access('samples_by_indices_nomapping')
        return self._samples('samples_by_indices_nomapping', indices, ())

    @abc.abstractmethod
    def _samples(self, method: str, indices: Any, path: Path) -> Batch:
        """Read samples with the given method of the members."""

    @abc.abstractmethod
    def _join_streams(self, asked: Asked, path: Path) -> Stream:
        """Put together the streams of members that have no plan."""

    def _move_arrays(self, moved: Callable[[Any], Any]) -> None:
        for member in self._members:
            member._move_arrays(moved)

    def _is_stored(self) -> bool:
        return any(member._is_stored() for member in self._members)

    def _has_plan(self) -> bool:
        return super()._has_plan() and all(member._has_plan() for member in self._members)

    def _open_own(self, asked: Asked, path: Path) -> Stream:
        if all(member._has_plan() for member in self._members):
            return super()._open_own(asked, path)
        asked.check_ranks()
        return self._join_streams(asked, path)

    def _check_random_access(self, method: str) -> None:
        for number, member in enumerate(self._members):
            if not member.is_random_access:
                raise TypeError(
                    f'{type(self).__name__}.{method} needs random access, '
                    f'but data source {number} ({type(member).__name__}) has none'
                )


def samples_of(member: AbstractDataSource, method: str, indices: Any, path: Path) -> Batch:
    """Read samples of a member with the given method: the user's, if that overrides ours."""
    if isinstance(member, DerivedDataSource) and not overridden(member, method):
        member._check_random_access(method)
        return member._samples(method, indices, path)
    batch: Batch = getattr(member, method)(indices)
    return batch


class MapDataSource(DerivedDataSource):
    """A source that applies a function to every batch of another one.

    Parameters
    ----------
    source : data source
        Where the batches come from.
    fn : callable
        `fn(*batch)` returns a tuple of arrays.
    rng : bool
        Whether to call `fn(*batch, rng=generator)`, as described at `AbstractDataSource.map`.
    same_length : bool
        Whether the arrays that the function returns must have one length, as described there.
    """

    def __init__(
        self, source: AbstractDataSource, fn: Callable[..., Any], rng: bool = False, *, same_length: bool = True
    ) -> None:
        super().__init__([source])
        if not callable(fn):
            raise TypeError(f'fn must be a function of the arrays of a batch, got {type(fn).__name__}')
        self.source = source
        self.fn = fn
        hint = '; its generator is keyed by the seed and the epoch that batch_iterator is given: shuffle=42, epoch=3'
        self._rng = check_flag('rng', rng, hint)
        self._same_length = check_flag('same_length', same_length)
        self._of_samples = isinstance(fn, SampleFunction)
        self._recycler = Recycler()

    def __repr__(self) -> str:
        rng = ', rng=True' if self._rng else ''
        return (
            f'{self.source!r}.map({function_name(self.fn)}{rng})' if type(self) is MapDataSource else super().__repr__()
        )

    def num_samples(self, **kwargs: Any) -> int | float | None:
        self._check_num_samples(kwargs)
        return self.source._told_samples(kwargs)

    def _samples(self, method: str, indices: Any, path: Path) -> Batch:
        request = Request(0, 1, as_tree(indices))
        return owned([self._apply(request, samples_of(self.source, method, indices, path), path)])  # type: ignore[no-any-return]

    def _apply(self, request: Request, batch: Batch, path: Path, memory: Memory | None = None) -> Batch:
        keywords: dict[str, Any] = {'rng': request.generator(self._own_path(path))} if self._rng else {}
        if self._of_samples:
            keywords['indices'] = request.indices
        with self._recycler.allocating(memory):
            made = check_batch(self.fn(*batch, **keywords), f'the mapped function {function_name(self.fn)}')
        if self._same_length:
            check_lengths(made, batch, self.fn)
        return made

    def _make_own_plan(self, options: Options, path: Path) -> Plan:
        # The path is the same as without the function, and so are the samples in a batch.
        return self.source._make_plan(options, path)

    def _random_functions(self) -> int:
        return self.source._random_functions() + self._rng

    def _batches_at_once(self, batch_size: BatchSize) -> int:
        return self.source._batches_at_once(batch_size)

    def _own_path(self, path: Path) -> Path:
        """Return the path for the draws of the function: random functions over one source are numbered."""
        below = self.source._random_functions()
        return (*path, FUNCTION, below) if below else path

    def _fetch_own(self, request: Request, path: Path, to: Destination) -> Iterator[Batch]:
        # No `memory`: the user gets what the function makes, and not what it is given.
        batches = self.source._fetch(request, path, Destination(apart=True, stages=to.stages))
        requests = request.split() if self._rng or self._of_samples else repeat(request)
        stage = None if to.stages is None else to.stages.function(path, function_name(self.fn), request.n_batches)
        for batch in batches:
            asked = 0.0 if stage is None else perf_counter()
            box = [self._apply(next(requests), batch, path, to.memory)]
            del batch  # the function may have returned an array of it: now nothing else refers to that
            yield owned(box) if stage is None else stage.end(asked, owned(box))

    def _follows_plan(self) -> bool:
        return self._has_plan() or (not overridden(self, 'batch_iterator') and self.source._follows_plan())

    def _open_endless(self, asked: Asked, path: Path) -> Stream:
        if self._has_plan():
            return super()._open_endless(asked, path)
        return self._map_stream(self.source._open_endless(asked, path), asked, path)

    def _join_streams(self, asked: Asked, path: Path) -> Stream:
        return self._map_stream(self.source._open(asked, path), asked, path)

    def _opened(self, asked: Asked) -> list[tuple[AbstractDataSource, Asked]]:
        return [(self.source, asked)]

    def _count_joined(self, lengths: Sequence[int | float | None], asked: Asked) -> int | float | None:
        return lengths[0]

    def _map_stream(self, stream: Stream, asked: Asked, path: Path) -> Stream:
        """Return the batches of a stream with the function applied to them."""
        seed, epoch, rank = asked.key()
        planned = (self._rng or self._of_samples) and self.source._follows_plan()

        def apply(number: int, batch: Batch) -> Batch:
            request = stream.feed.request_of(number) if planned else None
            return self._apply(request or Request(number, 1, (), epoch, seed, rank), batch, path)

        return Stream(MappedFeed(stream, apply, asked.facts(), function_name(self.fn)))
