"""What is checked of pools: the same batches, states, errors and ownership as without them."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import cache
from typing import Any

from batchup.work_pool import WorkerExecutorPool, WorkerProcessPool, WorkerThreadPool

from ..harness.pools import wait_for_workers
from . import structures
from .cases import Case
from .checks import error_of, nodes_of, open_all
from .functions import FailsAt, Keeper, mark_of
from .structures import assert_same, assert_writable
from .trees import ENOUGH

OPENED = ExitStack()


@cache
def pool_of(kind: str) -> Any:
    """Open a pool for all examples of this process; its workers make the smallest of batches, too."""
    if kind == 'threads':
        pool: Any = WorkerThreadPool(3)
    elif kind == 'executor':
        pool = WorkerExecutorPool(OPENED.enter_context(ThreadPoolExecutor(2)))
    else:
        pool = WorkerProcessPool(2, start_method=kind)
    OPENED.enter_context(pool)
    if hasattr(pool, '_least_bytes'):
        pool._least_bytes = lambda: 0
    wait_for_workers(pool)
    return pool


def close_pools() -> None:
    """Close the pools of this process."""
    OPENED.close()
    pool_of.cache_clear()


def checker(kind: str) -> Callable[[Case, Counter[str]], None]:
    """Return what checks a case through a pool of a kind."""

    def check(case: Case, tally: Counter[str]) -> None:
        if not case.planned:
            return
        expected = open_all(case, tally)
        if expected is None:
            return
        way = case.random.choice([check_batches, check_batches, check_states, check_kept, check_failing])
        way(case, pool_of(kind), expected, tally, kind)

    return check


def open_pooled(case: Case, pool: Any, scale: int = 1, **others: Any) -> Any:
    parallel = pool.parallel_data_source(case.make(scale=scale), batch_buffer_size=case.random.choice([1, 3, 20]))
    return parallel.batch_iterator(case.size, **case.arguments(**others))


def check_batches(case: Case, pool: Any, expected: list[Any], tally: Counter[str], kind: str) -> None:
    shard = case.random.random() < 0.3
    others = {'shard': (1, 3), 'uneven': case.random.choice(['share', 'drop'])} if shard else {}
    expected = (open_all(case, tally, **others) or []) if shard else expected
    with open_pooled(case, pool, **others) as stream:
        batches = list(itertools.islice(stream, ENOUGH))
        for number, (batch, other) in enumerate(itertools.zip_longest(batches, expected)):
            assert_same(batch, other, f'batch {number} of {kind}')
            assert_writable(batch)
    tally[f'{kind}: batches'] += len(batches)


def check_states(case: Case, pool: Any, expected: list[Any], tally: Counter[str], kind: str) -> None:
    position = case.random.randrange(len(expected) + 1)
    serial = case.open(case.make(scale=1))
    serial.skip(position)
    with open_pooled(case, pool) as stream, open_pooled(case, pool) as resumed:
        assert_same(list(itertools.islice(stream, position)), expected[:position], f'the first batches of {kind}')
        state = json.loads(json.dumps(stream.state_dict()))
        assert state == serial.state_dict(), f'{state} of a pool, not {serial.state_dict()}'
        resumed.load_state_dict(state)
        for each in (stream, resumed):
            rest = list(itertools.islice(each, len(expected) - position))
            assert_same(rest, expected[position:], f'from batch {position} of {kind}')
    tally[f'{kind}: states'] += 1


def check_kept(case: Case, pool: Any, expected: list[Any], tally: Counter[str], kind: str) -> None:
    if kind in ('threads', 'executor') and any(isinstance(function, Keeper) for function in case.functions):
        return  # what a function of this process keeps of its batches is shared with the user
    kept = []
    with open_pooled(case, pool) as stream:
        for number, (batch, other) in enumerate(zip(stream, expected)):
            assert_same(batch, other, f'batch {number} of {kind}')
            if case.random.random() < 0.5:
                structures.spoil(batch)
            else:
                kept.append((batch, other))
    for batch, other in kept:
        assert_same(batch, other, f'a batch of {kind} that was kept')
    tally[f'{kind}: kept batches'] += len(kept)


def check_failing(case: Case, pool: Any, expected: list[Any], tally: Counter[str], kind: str) -> None:
    nodes = nodes_of(case, tally)
    if not nodes:
        return
    batches = [tuple(case.tree.build(node)) for node in nodes]
    mark = mark_of(case.random.choice(batches))
    place = next(number for number, batch in enumerate(batches) if mark_of(batch) == mark)
    parallel = pool.parallel_data_source(case.make().map(FailsAt(mark, False)))
    with parallel.batch_iterator(case.size, **case.arguments()) as stream:
        assert_same(list(itertools.islice(stream, place)), batches[:place], f'before the error of {kind}')
        for _ in range(2):
            error = error_of(stream)
            assert type(error) is OSError, f'{error!r} in place of an OSError at batch {place}'
            assert f'in batch {place}' in getattr(error, '__notes__', [''])[-1], f'{error.__notes__} at batch {place}'
        assert stream.skip(1) == 1
        rest = list(itertools.takewhile(lambda batch: mark_of(batch) != mark, batches[place + 1 :]))
        assert_same(list(itertools.islice(stream, len(rest))), rest, f'after the error of {kind}')
    tally[f'{kind}: errors'] += 1
