"""Executors whose workers are processes, here or on a cluster: what goes to them by value, by name, and once."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from types import FunctionType
from typing import Any

from .._ground.messages import installed_by
from ..errors import WorkerPoolError
from .importing import Imports
from .pickling import Functions


def functions_for(executor: Any) -> Functions | None:
    """Return how functions and classes go to the processes of an executor; `None` if its workers may be threads.

    Dask and Ray bring cloudpickle, by which functions travel that workers cannot import.
    """
    if isinstance(executor, RayExecutor):
        return partial(_by_value, executor.cloudpickle)
    if _is_dask(executor):
        return partial(_by_value, importlib.import_module('cloudpickle'))  # which Dask has imported
    if isinstance(executor, ProcessPoolExecutor):
        context: Any = executor._mp_context
        method = context.get_start_method()
        # Forked workers have what the program has when the first of them starts, which may be later.
        return _by_name if method == 'fork' else Imports(method).reduce
    return None


def _is_dask(executor: Any) -> bool:
    return type(executor).__module__.partition('.')[0] == 'distributed'


def _by_name(value: Any) -> Any:
    """Leave it to pickle."""
    return NotImplemented


def _by_value(cloudpickle: Any, value: Any) -> Any:
    """Reduce functions and classes of the script, and those without a name of their own, to what they are made of."""
    if not isinstance(value, (FunctionType, type)):
        return NotImplemented
    if value.__module__ in ('__main__', '__mp_main__', None) or '<' in value.__qualname__:
        return cloudpickle.loads, (cloudpickle.dumps(value),)
    return NotImplemented


def sharing(executor: Any) -> Callable[[Any], Any] | None:
    """Return the function by which an executor sends a value to each of its workers once; `None` if it has none."""
    share: Callable[[Any], Any] | None = getattr(executor, 'share', None)
    client: Any = getattr(executor, '_client', None)  # Dask
    if share is None and hasattr(client, 'scatter'):
        share = partial(client.scatter, broadcast=True)
    return share


class RayExecutor:
    """An executor over Ray, for `WorkerExecutorPool`; call `ray.init()` before.

    Parameters
    ----------
    **options
        Options of Ray's tasks, such as `num_cpus=1` or `max_retries=5`.
    """

    def __init__(self, **options: Any) -> None:
        try:
            import ray  # noqa: PLC0415
        except ImportError as error:
            raise ImportError(f'RayExecutor needs Ray: {installed_by("ray")}') from error
        if not ray.is_initialized():
            raise WorkerPoolError('Ray is not running; call ray.init() first')
        self._ray = ray
        self.cloudpickle = ray.cloudpickle
        self._remote = ray.remote(**options)(_call) if options else ray.remote(_call)

    def submit(self, fn: Callable[..., Any], *args: Any) -> _RayFuture:
        """Run a function in a Ray task."""
        return _RayFuture(self._ray, self._remote.remote(fn, *args))

    def share(self, value: Any) -> Any:
        """Put a value into Ray's object store, from which each node takes it once."""
        return self._ray.put(value)


def _call(fn: Callable[..., Any], *args: Any) -> Any:
    return fn(*args)


class _RayFuture:
    """The result of a Ray task.

    It has no `cancel`: Ray 2.60 may end the user's process if a task is cancelled as it completes.
    """

    def __init__(self, ray: Any, ref: Any) -> None:
        self._ray = ray
        self._ref = ref

    def result(self, timeout: float | None = None) -> Any:
        return self._ray.get(self._ref, timeout=timeout)
