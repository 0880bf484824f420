"""How composed sources and pools reach any source, also those that users write.

A composed source reaches its members in one of two ways. If every member has a plan (it is
random access, and iterates as the package does), it makes one plan of their plans and
fetches what that requests. If not, it puts together the members' streams.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .._ground.allocation import Recycler
from .._ground.arguments import BatchSize, check_told, first_size, overridden, single_size
from .._ground.batch import ANYWHERE, Batch, Destination, check_batch
from .._ground.indices import IndexTree, as_tree, map_leaves, own_array
from .._ground.ownership import owned
from .._ground.randomness import Path, Shuffle
from .._plans.options import Asked, Options
from .._plans.plan import Plan, Request, count_batches
from .._plans.repeated import repeat_plan, round_path
from .._plans.replayed import ReplayPlan
from .._streams.iterators import as_stream
from .._streams.stream import Stream
from .reading import planned_feed


class Reachable:
    """The methods by which a source is reached, on top of the public ones that users write.

    They come in two groups: `_open` and `_open_endless` give streams, as any source can;
    `_make_plan`, `_make_endless_plan` and `_fetch` are for sources with a plan, as `_has_plan`
    tells. The others tell what a source is like.

    `path` leads to the source in the tree of sources; its keyed draws are made from it.
    """

    if TYPE_CHECKING:  # what users write

        @property
        def is_random_access(self) -> bool: ...

        def num_samples(self, **kwargs: Any) -> int | float | None: ...

        def batch_iterator(self, batch_size: Any, **kwargs: Any) -> Iterator[Any]: ...

    # Streams.

    def _open(self, asked: Asked, path: Path) -> Stream:
        """Open a stream as `batch_iterator` does."""
        keywords = asked.keywords_for(self.batch_iterator)
        return self._as_stream(self.batch_iterator(asked.batch_size, **keywords), asked)

    def _open_endless(self, asked: Asked, path: Path) -> Stream:
        """Open a stream that starts again whenever an epoch has ended; only where `_follows_plan` is true."""
        options = asked.options(type(self).__name__)
        return Stream(planned_feed(self, self._make_endless_plan(options, path), options, path))

    def _as_stream(self, batches: Any, asked: Asked) -> Stream:
        """Make a stream of what `batch_iterator` returned, with the length that `num_samples` implies."""
        if isinstance(batches, Stream):
            return batches
        return as_stream(batches, type(self).__name__, asked, self._told_length(asked))

    def _told_length(self, asked: Asked) -> int | float | None:
        """Return the number of batches that `num_samples` implies."""
        try:
            samples = self.num_samples(**asked.keywords_for(self.num_samples))
        except (NotImplementedError, TypeError):  # not told, or not for these keywords
            samples = None
        samples = check_told(self, 'num_samples', samples)
        return count_batches(samples, single_size(asked.batch_size, type(self).__name__), asked.drop_last)

    def _count_batches(self, asked: Asked) -> int | float | None:
        """Return the number of batches of an epoch that is not opened; infinite if endless, `None` if unknown."""
        if self._has_plan():
            return self._plan_apart(asked).length
        members = self._opened_members(asked)
        if not members:
            return self._told_length(asked)
        return self._count_joined([member._count_batches(part) for member, part in members], asked)

    def _check_asked(self, asked: Asked) -> None:
        """Raise the errors of `batch_iterator` that can be told without a call of users' code."""
        if self._has_plan():
            self._plan_apart(asked)
        elif members := self._opened_members(asked):
            asked.check_ranks()
            for member, part in members:
                member._check_asked(part)
        else:
            single_size(asked.batch_size, type(self).__name__)
            asked.check_epochs(self.batch_iterator, f'{type(self).__name__}.batch_iterator')

    def _opened_members(self, asked: Asked) -> Sequence[tuple[Reachable, Asked]]:
        """Return what `_opened` does, unless a user's code opens an epoch."""
        return () if overridden(self, 'batch_iterator') else self._opened(asked)

    def _opened(self, asked: Asked) -> Sequence[tuple[Reachable, Asked]]:
        """Return the members that are opened for an epoch without a plan, with the arguments of each."""
        return ()

    def _count_joined(self, lengths: Sequence[int | float | None], asked: Asked) -> int | float | None:
        """Return the number of batches that members with so many of them give together."""
        raise NotImplementedError

    # Plans.

    def _plan_apart(self, asked: Asked) -> Plan:
        """Make a plan of an epoch to look at: nothing is drawn from the user's generator."""
        return self._make_plan(asked.options(type(self).__name__).apart(), ())

    def _make_plan(self, options: Options, path: Path) -> Plan:
        """Make the plan of an epoch."""
        shuffle = options.shuffle

        def make_iterator(shuffle: Shuffle) -> Iterator[Any]:
            rng = None if shuffle.in_order else shuffle.sampler_rng(path)
            batches: Iterator[Any] = self.batch_indices_iterator(options.batch_size, shuffle=rng)  # type: ignore[attr-defined]
            return batches

        # With several batch sizes, the number of batches does not follow from that of samples.
        samples = None if isinstance(options.batch_size, tuple) else self._told_samples({})
        name, size = f'{type(self).__name__} of {samples} samples', first_size(options.batch_size)
        return ReplayPlan(name, make_iterator, samples, size, shuffle, options.drop_last, self._check_indices)

    def _make_endless_plan(self, options: Options, path: Path, first: Plan | None = None) -> Plan:
        """Make the plan that starts again whenever an epoch has ended; `first`, if given, is that of an epoch."""
        first = self._make_plan(options, path) if first is None else first
        return repeat_plan(first, lambda r: self._make_plan(options, round_path(path, r)))

    def _fetch(self, request: Request, path: Path, to: Destination = ANYWHERE) -> Iterable[Batch]:
        """Read the batches of a request; they may come at once, as `Columns`, only where `to` gives memory."""
        origin = f'{type(self).__name__}.samples_by_indices_nomapping'
        # A user's source need not call `__init__` of its base.
        recycler: Recycler = getattr(self, '_recycler', None) or Recycler()
        for single in request.split():
            with recycler.allocating(to.memory):
                batch = self.samples_by_indices_nomapping(map_leaves(own_array, single.indices))  # type: ignore[attr-defined]
            box = [check_batch(batch, origin)]
            del batch
            yield owned(box)

    def _check_indices(self, name: str, indices: Any) -> IndexTree:
        """Return the indices of a batch, as a user's code gives them, as an index tree."""
        return as_tree(indices)

    # What a source is like.

    def _has_plan(self) -> bool:
        """Whether batches are made by `_make_plan` and `_fetch`."""
        return self.is_random_access and not overridden(self, 'batch_iterator')

    def _follows_plan(self) -> bool:
        """Whether the batches are those of a plan, read here or by workers."""
        return self._has_plan()

    def _told_samples(self, kwargs: Mapping[str, Any]) -> int | float | None:
        """Return what `num_samples` returns, checked: a user may have written it."""
        return check_told(self, 'num_samples', self.num_samples(**kwargs))

    def _random_functions(self) -> int:
        """Count the functions mapped with `rng=True` that have the path of this source."""
        return 0

    def _copied_bytes(self, batch_size: BatchSize) -> float:
        """Return how many bytes are copied to make a batch; infinite if it takes more than copying memory."""
        return math.inf

    def _batches_at_once(self, batch_size: BatchSize) -> int:
        """Return how many batches are best read at once where those that come after are not known."""
        return 1

    def _is_stored(self) -> bool:
        """Whether samples are read from chunks of storage, which are decoded."""
        return False

    def _move_arrays(self, moved: Callable[[Any], Any]) -> None:
        """Replace each array by `moved(array)`, unless that is `None`, or something else refers to the array."""
