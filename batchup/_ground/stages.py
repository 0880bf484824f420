"""How long the stages of making batches take: each mapped function, and each member of a composite."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from time import perf_counter
from typing import Any

from .randomness import Path

# A stage that takes less, in seconds for a batch, is timed in some windows only. Larger: less is measured of short
# stages. Smaller: to look at the clock takes a larger part of the time of a batch.
SHORT_SECONDS = 2e-5

# Of a short stage, one window in so many is timed.
SKIPPED_WINDOWS = 16


class Stage:
    """The times of one stage.

    Attributes
    ----------
    timed : int
        The number of batches that were timed.
    seconds : float
        How long these took.
    others : int
        The number of batches that were not timed.
    """

    __slots__ = ('others', 'seconds', 'timed', 'windows')

    def __init__(self) -> None:
        self.timed = 0
        self.seconds = 0.0
        self.others = 0
        self.windows = 0

    @property
    def total(self) -> float:
        """How many seconds all batches took, those that were not timed estimated."""
        return self.seconds * (1 + self.others / self.timed) if self.timed else 0.0

    def is_due(self) -> bool:
        """Count a window; return whether it is to be timed."""
        self.windows += 1
        short = self.timed and self.seconds < SHORT_SECONDS * self.timed
        return not short or self.windows % SKIPPED_WINDOWS == 0

    def end(self, asked: float, result: Any) -> Any:
        """Note that a batch is done that was begun with at the time `asked`; return what is given."""
        self.timed += 1
        self.seconds += perf_counter() - asked
        return result


class Stages(dict[str, Stage]):
    """The stages that make the batches of a stream, by their names."""

    def __missing__(self, name: str) -> Stage:
        stage = self[name] = Stage()
        return stage

    def function(self, path: Path, name: str, n_batches: int) -> Stage | None:
        """Return the stage of a function that will be called for the batches of a window; `None` if it is not timed."""
        stage = self[_within(path, f'map({name})')]
        if stage.is_due():
            return stage
        stage.others += n_batches
        return None

    def member(self, path: Path, fetch: Callable[[], Iterable[Any]], n_batches: int) -> Iterable[Any]:
        """Return the batches of a window that a member of a composite fetches; the member is timed."""
        stage = self[_within(path, '')]
        if not stage.is_due():
            stage.others += n_batches
            return fetch()
        asked = perf_counter()
        batches = fetch()
        stage.seconds += perf_counter() - asked
        return map(stage.end, starts(), batches)

    def add(self, seconds: Mapping[str, float]) -> None:
        """Add what the stages of a job took."""
        for name, taken in seconds.items():
            self[name].timed += 1
            self[name].seconds += taken

    def totals(self) -> dict[str, float]:
        """Return how many seconds each stage took in all."""
        return {name: stage.total for name, stage in list(self.items())}


def starts() -> Iterator[float]:
    """Give the time whenever the next item is asked for; only C runs."""
    return iter(perf_counter, None)


def _within(path: Path, name: str) -> str:
    """Name a stage after the members that lead to it.

    >>> _within((0, 2), 'map(crop)'), _within((1,), ''), _within((), 'map(crop)')
    ('member 0, member 2: map(crop)', 'member 1', 'map(crop)')
    """
    members = ', '.join(f'member {number}' for number in path)
    return ': '.join(part for part in (members, name) if part)
