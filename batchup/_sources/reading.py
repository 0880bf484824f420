"""Reading the batches that a plan requests from a source, by the caller or by a worker."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .._ground.batch import ANYWHERE, Batch, Destination, row_counts
from .._ground.randomness import Path
from .._plans.options import Options
from .._plans.plan import Plan, Request
from .._plans.shards import real_rows
from .._streams.planned import InlineMapper, PlannedFeed

if TYPE_CHECKING:
    from .protocol import Reachable

# The members of a composite are timed if they copy so many bytes of memory for a batch, or do more. Larger: less is
# measured. Smaller: to look at the clock takes a larger part of the time.
TIMED_BYTES = 2**18


def planned_feed(source: Reachable, plan: Plan, options: Options, path: Path) -> PlannedFeed:
    """Return the feed of a plan whose batches are read from a source by the caller."""
    copied, fetch = source._copied_bytes(options.batch_size), partial(read_batches, source, path=path)
    mapper = InlineMapper(fetch, copied < math.inf, copied >= TIMED_BYTES, source._is_stored())
    at_once = source._batches_at_once(options.batch_size)
    return PlannedFeed(plan, mapper, options.facts(), options.shard, at_once)


def read_batches(source: Reachable, request: Request, path: Path, to: Destination = ANYWHERE) -> Iterable[Batch]:
    """Read the batches of a request; with padding, each gets an array that says which rows are samples."""
    batches = source._fetch(request, path, to)
    if request.padding is None:
        return batches
    real = real_rows(request)
    return (_with_padding(batch, real) for batch in batches)


def _with_padding(batch: Batch, real: NDArray[np.bool_]) -> Batch:
    """Append an array to a batch that says which rows are samples; `ValueError` if the number of rows differs."""
    count = next(iter(row_counts(batch)), len(real))
    if count != len(real):
        raise ValueError(
            f"uneven='pad' cannot tell which rows are padding: a mapped function has made a batch of {count} rows "
            f"of one of {len(real)}; keep the number of rows, or use uneven='share'"
        )
    return (*batch, real.copy())
