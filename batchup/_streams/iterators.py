"""Feeds over iterators that users' code gives."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import partial
from types import GeneratorType
from typing import Any

from .._ground.batch import Batch, check_batch
from .._ground.messages import warn_user
from .._ground.ownership import owned
from .._plans.options import Asked
from .._plans.replayed import UserIterator
from .stream import Feed, Stream

# What to do when an iterator has ended.
ANOTHER = 'make a CallableDataSource, whose function returns a new iterator for every epoch, and use its loader(...)'


class IteratorFeed(Feed):
    """The batches of a user's iterator.

    States are left to the iterator if it has `state_dict` and `load_state_dict`. If not,
    its batches are read again and thrown away to come back to a position.

    Parameters
    ----------
    iterator : iterator of tuples, or UserIterator over one
        Gives the batches. Several streams may share a `UserIterator`.
    origin : str
        Who made the iterator, for errors.
    length : int, math.inf or None
        The number of batches, if it is known.
    owned : bool
        Whether the iterator is closed with the stream.
    sequential : bool
        Whether the iterator may draw from a generator that others draw from as well.
    facts : dict, optional
        What else must be equal for a state to fit.
    """

    def __init__(
        self,
        iterator: Iterator[Any],
        origin: str,
        length: int | float | None = None,
        owned: bool = True,
        sequential: bool = False,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        self._iterator = iterator if isinstance(iterator, UserIterator) else user_batches(iterator, origin)
        self._origin = origin
        self._facts = facts or {}
        self._owned = owned
        self._read = 0
        if not owned:
            self.again = f'its iterator cannot be gone through twice; {ANOTHER}'
        self.length = length
        self.sequential = sequential and not self._resumable()

    def batches(self, position: int) -> Iterator[Batch]:
        for batch in self._iterator:
            self._read = position = position + 1
            box = [batch]
            del batch
            yield owned(box)
        if not self._read and self._iterator.given:
            warn_user(f'the iterator of {self._origin} has ended before, and cannot be gone through twice; {ANOTHER}')

    def skip(self, position: int, count: int) -> int:
        try:
            self._iterator.skip()
        except StopIteration:
            return 0
        self._read = position + 1
        return 1

    def facts(self) -> dict[str, Any]:
        known = {} if self.length in (None, math.inf) else {'batches': self.length}
        return {'plan': f'iterator of {self._origin}', **known, **self._facts}

    def state(self, position: int, back: int) -> dict[str, Any]:
        if position != self._read or not self._resumable():
            return {}
        return {'iterator': self._users.state_dict()}

    def check(self, here: int, position: int, state: Mapping[str, Any]) -> None:
        if not self._resumable() or 'iterator' not in state:
            super().check(here, position, state)

    def restore(self, here: int, position: int, state: Mapping[str, Any]) -> None:
        if self._resumable() and 'iterator' in state:
            self._users.load_state_dict(state['iterator'])
            self._read = position
            return
        self.announce(here, position)
        super().restore(here, position, state)

    def announce(self, here: int, position: int) -> None:
        if position > here and not self._resumable():
            warn_user(
                f'to resume at batch {position}, {position - here} batches of {self._origin} are read again and thrown '
                'away: its iterator has no state_dict() and load_state_dict(state)'
            )

    def _resumable(self) -> bool:
        return hasattr(self._users, 'state_dict') and hasattr(self._users, 'load_state_dict')

    @property
    def _users(self) -> Any:
        """The iterator as the user gave it."""
        return self._iterator.iterator

    def close(self) -> None:
        # A generator ends by itself when nothing refers to it any more; somebody else may go on with it.
        if self._owned and hasattr(self._users, 'close') and not isinstance(self._users, GeneratorType):
            self._users.close()
        self._iterator = user_batches(iter(()), self._origin)


def user_batches(iterator: Iterator[Any], origin: str) -> UserIterator:
    """Wrap an iterator of a user's, so that each of its batches is checked."""
    return UserIterator(iterator, origin, partial(check_batch, origin=origin))


def as_stream(batches: Any, origin: str, asked: Asked, length: int | float | None = None) -> Stream:
    """Make a stream of what a user's code returned when it was asked for batches."""
    if isinstance(batches, Stream):
        return batches
    try:
        iterator = iter(batches)
    except TypeError:
        raise TypeError(f'{origin} must return an iterator over batches, got {type(batches).__name__}') from None
    if isinstance(iterator, GeneratorType) and iterator.gi_frame is None:
        warn_user(f'{origin} has returned a generator that has ended before: return a new one for every epoch')
    sequential = asked.shuffle is not None and not asked.shuffle.pure
    return Stream(IteratorFeed(iterator, origin, length, sequential=sequential, facts=asked.facts()))
