"""Telling the user that a batch takes long."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from .._ground.messages import warn_user

if TYPE_CHECKING:
    from .channel import Task

# How long a stream waits for a batch before it warns, in seconds. Larger: users wonder for longer. Smaller: it
# warns of batches that just take long.
WARN_SECONDS = 30.0


class Watchdog:
    """Warns of a batch for which a stream waits long, with the stacks of the workers; once only.

    The thread that waits warns, so nothing else has to run.

    Attributes
    ----------
    seconds : float
        How long is long; infinite if nothing is to be said, or once it has been.
    task : Task, optional
        What the stream waits for.
    """

    def __init__(self, seconds: float | None) -> None:
        self.seconds = math.inf if seconds is None else seconds
        self.task: Task | None = None

    def bark(self) -> None:
        """Warn of the task."""
        seconds, self.seconds = self.seconds, math.inf
        if self.task is not None and self.task.job is not None:
            warn_user(
                f'a stream still waits, after {seconds:g} seconds (warn_after), for {self.task.job.describe()}\n'
                f'{self.task.stacks()}'
            )
