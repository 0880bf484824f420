"""What the commands share: errors told in one line, and Ctrl-C between two steps."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class CommandError(Exception):
    """A problem that the user can solve: shown as one line, and exit code 2."""


@contextmanager
def hold_back_interrupt() -> Iterator[Callable[[], bool]]:
    """Note the first Ctrl-C in place of raising it at once; a second one raises.

    Work that must not stop half-way asks at good moments whether there was one, with the
    function that the `with` statement gives.
    """
    interrupted = False

    def note(*_: Any) -> None:
        nonlocal interrupted
        interrupted = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    # A process that was started to ignore Ctrl-C, as in the background, goes on ignoring it.
    listens = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if listens:
        signal.signal(signal.SIGINT, note)
    try:
        yield lambda: interrupted
    finally:
        if listens:
            signal.signal(signal.SIGINT, signal.default_int_handler)
