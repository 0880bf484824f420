"""Making one batch: by its number, or the one at which an error came, or the next one of a saved state."""

from __future__ import annotations

import ast
import copy
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, NoReturn

import numpy as np

from .._ground.arguments import (
    BatchSize,
    check_batch_sizes,
    check_flag,
    check_integer,
    check_keywords,
    check_non_negative,
    overridden,
)
from .._ground.batch import Batch
from .._ground.messages import add_note
from .._ground.randomness import Path, Shuffle
from .._plans.options import KEYWORDS, Options
from .._plans.plan import Plan
from .._plans.shards import Shard
from .._samplers.shuffles import BlockShuffle, ComputedShuffle, FullShuffle
from .._streams.failed import FailedBatch, failed_batch_of
from .._streams.planned import described
from .._streams.stream import Stream
from .._streams.turns import ProcessLock
from ..errors import EndOfPlanError, StateMismatchError
from .protocol import Reachable
from .reading import planned_feed, read_batches

if TYPE_CHECKING:
    from .base import AbstractDataSource

# Shuffles, by the names that saved states have for them.
SHUFFLES = {kind.__name__: kind for kind in (BlockShuffle, ComputedShuffle, FullShuffle)}

HERE: Final[Path] = ()


class Replayable(Reachable):
    """The methods of sources that make one batch, in the caller's thread."""

    def batch(
        self,
        k: int,
        batch_size: BatchSize,
        shuffle: Any = None,
        *,
        epoch: int = 0,
        drop_last: bool = False,
        shard: tuple[int, int] | str | None = None,
        uneven: str = 'share',
        **unknown: NoReturn,
    ) -> Batch:
        """Make batch `k` of an epoch, as a stream with the same arguments gives it.

        It is made by the caller, also if the source is that of a pool, and no other batch is. The
        draws of mapped functions are those of the stream.

        Parameters
        ----------
        k : int
            The number of the batch, from 0; -1 is the last one.
        shuffle : None, False, int, or a shuffle of `batchup.sampling`
            As for `batch_iterator`. For a seed, the order of the epoch is drawn at the first
            call, and kept until a call has other arguments: 8 bytes a sample. A
            `ComputedShuffle` draws and keeps nothing.
        batch_size, epoch, drop_last, shard, uneven
            As for `batch_iterator`.

        Raises
        ------
        EndOfPlanError
            If there is no batch `k`: an `IndexError`.
        TypeError
            If `shuffle` is `True` or a generator, which gives one batch after the other; if
            `k` is negative, and batches are endless or not counted; if the source has no plan,
            such as one over an iterator.

        >>> import numpy as np
        >>> from batchup.data_source import ArrayDataSource
        >>> ArrayDataSource([np.arange(7)]).batch(1, 3, shuffle=42)
        (array([4, 2, 6]),)
        """
        check_keywords(f'{type(self).__name__}.batch', unknown, ('k', *KEYWORDS))
        options = Options.check(batch_size, shuffle, epoch, drop_last, shard, uneven)
        if not options.shuffle.pure:
            raise TypeError(
                'shuffle must be None, a seed or a shuffle of batchup.sampling to make one batch, got a '
                f'{type(options.shuffle.rng).__name__}, which gives one batch after the other; use a seed, as '
                'shuffle=42, or make the next batch of a saved state with replay(state, shuffle=generator)'
            )
        k = check_integer('k', k)
        source = self._in_caller('batch')
        latest = _latest_plan(self)
        with latest.lock:
            wanted = _wanted(latest.plan(self, source, options), options, k)
        return _fetch(source, wanted)

    def replay(
        self,
        error_or_state: BaseException | Mapping[str, Any],
        *,
        shuffle: Any = None,
        shard: tuple[int, int] | str | None = None,
        uneven: str = 'share',
    ) -> Batch:
        """Make the batch at which an exception came, or the next batch of a saved state.

        It is made in the caller's thread, by the same requests and draws, so that a debugger
        stands where the function of the user has failed.

        Parameters
        ----------
        error_or_state : exception or mapping
            An exception of a stream of this source, or of `batch_map_concat` or
            `batch_map_mean` over one, also if it was pickled, or has led to another one. Or what
            `state_dict()` of a stream of this source has returned.
        shuffle : optional
            For a state only: the `RandomState` or `Generator` of the stream, in the state that
            it had when the stream was made. Indices are drawn from it again. A state knows
            seeds itself, and the shuffles of `batchup.sampling`.
        shard, uneven : optional
            For a state only, which has no part in ranks: the arguments that the stream had.

        Raises
        ------
        StateMismatchError
            If the exception or the state is that of another source, or of a stream with other
            arguments.
        EndOfPlanError
            If the state is at the end of the epoch: an `IndexError`.
        TypeError
            If the exception did not come from a stream, or its batch has no indices; if a state
            needs `shuffle`; if the source has no plan, such as one over an iterator.

        >>> import numpy as np
        >>> from batchup.data_source import ArrayDataSource
        >>> source = ArrayDataSource([np.arange(7)])
        >>> stream = source.batch_iterator(3, shuffle=42)
        >>> first = next(stream)
        >>> source.replay(stream.state_dict())
        (array([4, 2, 6]),)
        """
        if isinstance(error_or_state, BaseException):
            if shuffle is not None or shard is not None:
                raise TypeError('an exception knows its batch: shuffle= and shard= are for saved states only')
            return _replay_error(self._in_caller('replay'), error_or_state)
        if isinstance(error_or_state, Mapping):
            return _replay_state(self._in_caller('replay'), error_or_state, shuffle, Shard.check(shard, uneven))
        raise TypeError(
            'replay takes an exception that a stream of this source has raised, or a state that state_dict() has '
            f'returned, got {error_or_state!r} ({type(error_or_state).__name__})'
        )

    def _in_caller(self, method: str) -> Reachable:
        """Return a source with the same plan and the same batches, which the caller makes; this one, if it has a plan.

        Raises `TypeError`, with the name of the method that needs it, if there is none.
        """
        if self._has_plan():
            return self
        why = 'has no random access' if not self.is_random_access else 'has a batch_iterator of your own'
        raise TypeError(
            f'{method} needs to know which samples are in which batch, but {type(self).__name__} {why}, and gives one '
            'batch after the other; go there with batch_iterator(...) and skip(n)'
        )

    def _plan_parts(self) -> list[Any]:
        """Return the objects that a plan is made of: as long as they are the same, so is the plan."""
        return []


class ReplayableMembers(Replayable):
    """The same, for sources that are made of others."""

    _members: Sequence[AbstractDataSource]

    def _in_caller(self, method: str) -> Reachable:
        if self._has_plan() or overridden(self, 'batch_iterator'):
            return super()._in_caller(method)
        # Some are sources of pools: in their place come those that the pools read.
        members = [member._in_caller(method) for member in self._members]
        source = copy.copy(self)
        source._members = members  # type: ignore[assignment]
        for name, value in vars(self).items():
            for member, own in zip(self._members, members):
                if value is member:
                    setattr(source, name, own)
        return source

    def _plan_parts(self) -> list[Any]:
        return [*vars(self).values(), *(part for member in self._members for part in member._plan_parts())]


class LatestPlan:
    """The plan of the batch that was last asked for by its number, with what it has drawn.

    It is not pickled with its source.
    """

    def __init__(self) -> None:
        # Held by a thread that makes or asks the plan.
        self.lock = ProcessLock()
        # Its options, what it is made of, and the plan: all at once, as an interrupt may come at any time.
        self._kept: tuple[tuple[Any, ...], list[Any], Plan] | None = None

    def plan(self, asked: Replayable, source: Reachable, options: Options) -> Plan:
        """Return the plan that `source` makes for `asked`, which the user has asked for a batch."""
        given, parts = (options.batch_size, options.shuffle, options.drop_last), asked._plan_parts()
        kept = self._kept
        if kept is None or given != kept[0] or not _same(parts, kept[1]):
            kept = self._kept = None  # before there are two of them
            kept = self._kept = given, parts, source._make_plan(options, HERE)
        return kept[2]

    def __reduce__(self) -> tuple[Any, ...]:
        return LatestPlan, ()


def _same(some: list[Any], others: list[Any]) -> bool:
    """Say whether two lists have the same objects; integers need only be equal."""
    return len(some) == len(others) and all(
        one is other or (type(one) is int and one == other) for one, other in zip(some, others)
    )


def _latest_plan(source: Reachable) -> LatestPlan:
    """Return the latest plan of a source, which may have called no `__init__`, or take no attributes by `setattr`."""
    kept: LatestPlan = vars(source).setdefault('_latest_plan', LatestPlan())
    return kept


def _wanted(plan: Plan, options: Options, k: int) -> FailedBatch:
    """Return what is known of batch `k` before it is made; an error of a sampler names it."""
    number = plan.number_of(k)
    facts = {'plan': described(plan), **options.facts()}
    try:
        request = plan.window(number)
    except EndOfPlanError:
        raise
    except Exception as error:
        add_note(error, f'in batch {number} of epoch {options.shuffle.epoch}')
        FailedBatch.of(plan, facts, options.shard, number, None).attach_to(error)
        raise
    return FailedBatch.of(plan, facts, options.shard, number, options.shard.part_of(request))


def _fetch(source: Reachable, batch: FailedBatch) -> Batch:
    """Make a batch; an error names it, as that of a stream does."""
    assert batch.request is not None
    try:
        return next(iter(read_batches(source, batch.request, HERE)))
    except Exception as error:
        add_note(error, f'in {batch.request.describe()}')
        batch.attach_to(error)
        raise


def _replay_error(source: Reachable, error: BaseException) -> Batch:
    """Make the batch at which an exception came."""
    failed = failed_batch_of(error)
    if failed is None:
        raise TypeError(
            f'this {type(error).__name__} did not come from a stream: it has no batch; replay takes an exception that '
            'a stream has raised, or batch_map_concat or batch_map_mean'
        )
    if failed.facts is None or failed.shard is None:
        raise TypeError(
            f'of batch {failed.number}, at which this exception came, no indices are known, since its stream has no '
            f'plan; with a seed, source.batch({failed.number}, ...) makes it, if the source is random access or that '
            'of a pool'
        )
    shuffle = _shuffle_of(failed)
    # Without one, only the description of the plan is looked at: any generator will do.
    any_shuffle = shuffle or Shuffle(rng=np.random.RandomState(0), epoch=failed.facts['epoch'])
    options = Options(_batch_size(failed.facts), any_shuffle, failed.facts['drop_last'], failed.shard)
    plan = source._make_plan(options, HERE)
    if failed.facts['plan'] not in (None, described(plan)):
        raise StateMismatchError(
            'this exception is of a stream of another source:\n'
            f'  plan of the stream: {failed.facts["plan"]}\n'
            f'  plan of the source: {described(plan)}\n'
            'Give it to the source whose stream has raised it, or to an equal one.'
        )
    if failed.request is not None:
        return _fetch(source, failed)
    if shuffle is None:
        raise TypeError(
            f'the indices of batch {failed.number} were not drawn, as its sampler has failed, and a sequential '
            'generator cannot draw them again; use a seed, as shuffle=42'
        )
    return _fetch(source, _wanted(plan, options, failed.number))


def _shuffle_of(failed: FailedBatch) -> Shuffle | None:
    """Return how the samples of a stream are shuffled; `None` if that is by a sequential generator."""
    if failed.facts is None or failed.facts['plan'] is not None:
        return failed.shuffle
    return replace(_shuffle_named(failed.facts['shuffle']), epoch=failed.facts['epoch'])


def _replay_state(source: Reachable, state: Mapping[str, Any], shuffle: Any, shard: Shard) -> Batch:
    """Make the next batch of a saved state."""
    state = _without_functions(state)
    if 'states' in state:
        raise TypeError(
            'this state is of several streams, and none of them has the plan of the whole: only a stream can go there; '
            f'by a seed, source.batch({state.get("position")}, ...) makes its next batch'
        )
    given = None if shuffle is None else Shuffle.coerce(shuffle)
    try:
        text, size, epoch = state['shuffle'], _batch_size(state), check_non_negative('epoch', state['epoch'])
        drop_last = check_flag('drop_last', state['drop_last'])
    except (KeyError, TypeError, ValueError, SyntaxError) as error:
        raise StateMismatchError(f'this is no state of a stream with a plan: {type(error).__name__}: {error}') from None
    options = Options(size, replace(given or _shuffle_named(str(text)), epoch=epoch), drop_last, shard)
    feed = planned_feed(source, source._make_plan(options, HERE), options, HERE)
    with Stream(feed) as stream:
        stream.load_state_dict(state)
        request = feed.request_of(stream.position)
        return _fetch(source, FailedBatch.of(feed.plan, feed.facts(), shard, stream.position, request))


def _without_functions(state: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the state of the stream below functions that are mapped over the source of a pool."""
    while state.get('plan') == 'MappedFeed':
        with suppress(KeyError, TypeError, IndexError):
            facts = {name: state[name] for name in ('version', 'batch_size', 'shuffle', 'epoch')}
            state = {'drop_last': False, **facts, **state['states'][0]}
            continue
        break
    return state


def _batch_size(facts: Mapping[str, Any]) -> BatchSize:
    """Return the batch size of a state, in which tuples are texts."""
    size = facts['batch_size']
    return check_batch_sizes(ast.literal_eval(size) if isinstance(size, str) else size)


def _shuffle_named(text: str) -> Shuffle:
    """Return the shuffle that a state names; `TypeError` if only the user has it.

    >>> _shuffle_named('ComputedShuffle(seed=42)').maker
    ComputedShuffle(seed=42)
    """
    if text == 'in order':
        return Shuffle()
    with suppress(SyntaxError, ValueError, KeyError, AttributeError, TypeError):
        if text.startswith('seed '):
            return Shuffle.coerce(int(text.removeprefix('seed ')))
        call: Any = ast.parse(text, mode='eval').body
        keywords = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
        return Shuffle.coerce(SHUFFLES[call.func.id](**keywords))
    raise TypeError(
        f'this state is of a stream that was shuffled by: {text}. A state cannot keep that: give it to replay, as '
        'replay(state, shuffle=...), and a generator in the state that it had when the stream was made'
    )
