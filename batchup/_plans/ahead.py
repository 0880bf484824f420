"""What a source can know of the batches to come, and a place for what it reads ahead of them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .plan import Request


class Ahead:
    """The batches that a stream will come to, from where it has begun or gone on.

    Requests carry it to the sources that are read, in any thread. It does not travel to other
    processes: a request that has arrived there has none.

    Parameters
    ----------
    start : int
        The number of the first batch.
    window : callable
        `window(number)` returns the request for a window of batches from this number on; `None` if
        there are no more, or none that may be drawn before they are needed.
    """

    def __init__(self, start: int, window: Callable[[int], Request | None]) -> None:
        self.start = start
        self.window = window
        self._members: dict[int, Ahead] = {}
        self._kept: dict[Any, Any] = {}
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Callable[[], None], tuple[()]]:
        return _nothing, ()

    def member(self, number: int, chosen: bool = False) -> Ahead:
        """Return the same for a member of a composed source, whose indices are a part of each request's.

        With `chosen`, each request is for one of the members, and these are those for this one.
        """
        with self._lock:
            if number not in self._members:
                part = _chosen_window if chosen else _member_window
                # It refers to no other one: what refers to each other is freed late.
                self._members[number] = Ahead(self.start, partial(part, self.window, number))
            return self._members[number]

    def keep(self, reader: Any, make: Callable[[], Any]) -> Any:
        """Return what is kept for a reader of an array while the stream goes on: made once, for all threads."""
        with self._lock:
            if reader not in self._kept:
                self._kept[reader] = make()
            return self._kept[reader]


def _chosen_window(whole: Callable[[int], Request | None], member: int, number: int) -> Request | None:
    window = whole(number)
    while window is not None and window.indices.ds_index != member:
        window = whole(window.end)
    return None if window is None else window._replace(indices=window.indices.sample_indices)


def _member_window(whole: Callable[[int], Request | None], member: int, number: int) -> Request | None:
    window = whole(number)
    return None if window is None else window._replace(indices=window.indices[member])


def _nothing() -> None:
    """Stand in for what does not travel to other processes."""
