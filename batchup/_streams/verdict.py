"""The verdict on a loop: what it waits for, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, repr=False)
class Verdict:
    """What bounds the speed of a loop, and which workers are best for it; printed, it is a paragraph.

    Attributes
    ----------
    bound : str
        What the loop waits for: `'loop'`, its own body; `'making'`, the making of batches; `'storage'`, files or
        other storage that batches are read from; `'transport'`, the way of finished batches from workers to the user.
        `'unknown'` as long as there were too few batches.
    workers : int
        The number of workers that are best: 0 for no pool.
    kind : str or None
        `'threads'` or `'processes'`; `None` for no pool.
    gain : float
        How many times as fast the loop is expected to be with these workers.
    reason : str
        The paragraph.
    """

    bound: str
    workers: int
    kind: str | None
    gain: float
    reason: str

    def __str__(self) -> str:
        return self.reason

    __repr__ = __str__
