"""Pools of workers, which make batches in the background."""

from ._pools.auto import AutoDataSource, WorkerAutoPool
from ._pools.clusters import RayExecutor
from ._pools.executors import WorkerExecutorPool
from ._pools.jobs import SharedConstant
from ._pools.parallel import ParallelDataSource
from ._pools.pool import WorkerPool
from ._pools.processes.pool import WorkerProcessPool
from ._pools.threads import WorkerThreadPool
from ._pools.work_stream import WorkStream

__all__ = [
    'AutoDataSource',
    'ParallelDataSource',
    'RayExecutor',
    'SharedConstant',
    'WorkStream',
    'WorkerAutoPool',
    'WorkerExecutorPool',
    'WorkerPool',
    'WorkerProcessPool',
    'WorkerThreadPool',
]
