"""What an exception carries of the batch at which it came: enough to make that batch again."""

from __future__ import annotations

import builtins
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from .._ground.indices import Leaf, map_leaves
from .._ground.messages import add_note
from .._ground.randomness import Shuffle
from .._plans.plan import Plan, Request
from .._plans.shards import Shard

if TYPE_CHECKING:
    from .stream import Feed

# The attribute of an exception that has its `FailedBatch`. It stays when the exception is pickled.
ATTRIBUTE = '_batchup_batch'


class FailedBatch(NamedTuple):
    """A batch that could not be made, or at which a function has failed.

    It can be pickled, and keeps no memory but its own indices.

    Attributes
    ----------
    number : int
        The number of the batch.
    facts : mapping, optional
        What a saved state of the stream has, besides the position; `None` without a plan. Their plan is
        `None` if only members have plans.
    shuffle : Shuffle, optional
        How samples are shuffled; `None` if that is by a sequential generator, or not known.
    shard : Shard, optional
        The part of every batch that the stream takes.
    request : Request, optional
        The request for the batch; `None` if its indices could not be drawn.
    """

    number: int
    facts: Mapping[str, Any] | None = None
    shuffle: Shuffle | None = None
    shard: Shard | None = None
    request: Request | None = None

    @classmethod
    def of(
        cls, plan: Plan, facts: Mapping[str, Any], shard: Shard, number: int, request: Request | None
    ) -> FailedBatch:
        """Return what is known of a batch of a plan."""
        if request is not None:
            request = request._replace(indices=map_leaves(_own, request.indices), ahead=None)
        return cls(number, facts, plan.shuffle if plan.pure else None, shard, request)

    def call(self) -> str | None:
        """Return the call of a source that makes the batch; `None` if that depends on a sequential generator."""
        if self.facts is None or self.shuffle is None or self.shard is None:
            return None
        shuffle = self.shuffle
        given = {
            'shuffle': shuffle.seed if shuffle.maker is None else shuffle.maker,
            'epoch': shuffle.epoch,
            'drop_last': self.facts['drop_last'],
            'shard': (self.shard.rank, self.shard.count) if self.shard.count > 1 else None,
            'uneven': self.shard.uneven,
        }
        defaults = {'shuffle': None, 'epoch': 0, 'drop_last': False, 'shard': None, 'uneven': 'share'}
        others = [f', {name}={value!r}' for name, value in given.items() if value != defaults[name]]
        return f'source.batch({self.number}, {self.facts["batch_size"]}{"".join(others)})'

    def attach_to(self, error: BaseException) -> None:
        """Have an exception carry this; the outermost stream that it passes through comes last, and counts."""
        # Not by `setattr`: the type may refuse it, as a frozen dataclass does.
        BaseException.__setattr__(error, ATTRIBUTE, self)


def mark_at(batches: Any, error: BaseException, number: int) -> None:
    """Name a batch in an error of what was done with it; `batches` is its stream, or any iterable."""
    feed = getattr(batches, 'feed', None)
    if feed is None:
        add_note(error, f'in batch {number}')
    else:
        mark(feed, error, number)


def _own(leaf: Leaf) -> Leaf:
    """Return indices that refer to no order: an exception may be kept for long."""
    return leaf if isinstance(leaf, range) else leaf.copy()


def mark(feed: Feed, error: BaseException, position: int) -> None:
    """Name the batch at a position of a feed in an error: in a note, and in a `FailedBatch`."""
    add_note(error, feed.describe_batch(position))
    with suppress(Exception):  # of a user's code, in place of the error that is to be marked
        feed.failed(position).attach_to(error)


def failed_batch_of(error: BaseException) -> FailedBatch | None:
    """Return the batch at which an exception came, or one that has led to it; `None` if there is none."""
    return next((vars(each)[ATTRIBUTE] for each in _causes(error, set()) if ATTRIBUTE in vars(each)), None)


def _causes(error: BaseException | None, seen: set[int]) -> Iterator[BaseException]:
    """Go through an exception, the members of a group, and what has led to each of them."""
    if error is None or id(error) in seen:
        return
    seen.add(id(error))
    yield error
    group = getattr(builtins, 'BaseExceptionGroup', ())  # since Python 3.11
    members = error.exceptions if isinstance(error, group) else ()
    for other in (*members, error.__cause__, error.__context__):
        yield from _causes(other, seen)
