"""What workers are called, in errors and warnings."""

from __future__ import annotations

import os
import platform
import sys
import threading
from contextlib import suppress


def this_thread() -> str:
    """Return the name of a worker that is a thread of the user's process."""
    return f'worker thread {threading.current_thread().name}'


def this_process() -> str:
    """Return the name of a worker that is a process."""
    return f'worker process {os.getpid()}'


def of_executor(job: str) -> str:
    """Return the name of a worker of an executor, which may be anywhere, and of the job that it runs."""
    parts = [f'process {os.getpid()} of {platform.node()}', f'thread {threading.current_thread().name}', f'job {job}']
    with suppress(Exception):  # not a worker of Dask
        parts.append(f'key {sys.modules["distributed"].get_worker().get_current_task()}')
    return ', '.join(parts)
