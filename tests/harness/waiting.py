"""What tests wait for, and expect."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

# What a test waits for comes at once, or it never does; in seconds.
PATIENCE = 20.0


def until(is_so: Callable[[], bool], seconds: float = PATIENCE) -> bool:
    """Wait until something is so, but not for ever; return whether it is."""
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds, and a little longer."""
    assert until(condition)
    time.sleep(0.05)


def warned(match: str) -> Any:
    """Expect a warning of batchup's."""
    return pytest.warns(UserWarning, match=match)


def take_until(stream: Any, kind: type[BaseException]) -> tuple[list[Any], BaseException]:
    """Take batches until an error arrives; return those before it, and the error."""
    received: list[Any] = []
    with pytest.raises(kind) as caught:
        received.extend(batch for batch in stream if received.append(batch))
    return received, caught.value


def take_until_seconds(stream: Any, kind: type[BaseException], seconds: float = 60.0) -> BaseException:
    """Take batches until an error comes, which must be soon; return it."""
    start = time.monotonic()
    _, error = take_until(stream, kind)
    stream.close()
    assert time.monotonic() - start < seconds
    return error
