"""What a process has, and what is left behind."""

from __future__ import annotations

import contextlib
import gc
import os
import threading
from collections.abc import Iterator
from typing import Any

import psutil

from .waiting import until

# What is there, and what is left.


def helpers_of_multiprocessing() -> set[int | None]:
    """Return the processes that multiprocessing keeps for as long as the interpreter runs."""
    from multiprocessing import forkserver, resource_tracker

    return {forkserver._forkserver._forkserver_pid, resource_tracker._resource_tracker._pid}


def children() -> set[int]:
    """Return the processes below this one."""
    processes = psutil.Process().children(recursive=True)
    return {process.pid for process in processes} - helpers_of_multiprocessing()


def descriptors() -> int:
    """Return how many files are open."""
    return len(os.listdir('/proc/self/fd'))


def shared_files() -> set[str]:
    """Return the files in shared memory that Python and batchup may have made: other programs have theirs there."""
    return {name for name in os.listdir('/dev/shm') if name.startswith(('tmp', 'psm_', 'batchup'))}


def belongings() -> dict[str, Any]:
    """Return what this process has: children, threads, open files, shared memory."""
    return {
        'children': children(),
        'threads': set(threading.enumerate()),
        'descriptors': descriptors(),
        'shared files': shared_files(),
    }


def added(before: dict[str, Any]) -> dict[str, Any]:
    """Return what this process has more of than before; what others have left behind may go meanwhile."""
    after = belongings()
    more = {name: after[name] - before[name] for name in ('children', 'threads', 'shared files')}
    more['descriptors'] = max(0, after['descriptors'] - before['descriptors'])
    return {name: value for name, value in more.items() if value}


@contextlib.contextmanager
def nothing_left() -> Iterator[None]:
    """Assert that a block leaves no process, thread, open file or shared memory behind."""
    gc.collect()
    before = belongings()
    yield
    gc.collect()
    until(lambda: not added(before))
    left = added(before)
    assert not left, left
