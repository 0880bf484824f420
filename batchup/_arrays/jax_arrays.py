"""Arrays of JAX on the CPU, read through their memory."""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .through_memory import MemoryRows


def is_jax(data: Any) -> bool:
    """Say whether something is an array of JAX."""
    jax = sys.modules.get('jax')
    return jax is not None and isinstance(data, jax.Array)


def jax_memory(data: Any) -> NDArray[Any] | None:
    """Return an array over the memory of an array of JAX; `None` for any but plain ones on one CPU device."""
    if not is_jax(data) or not data.ndim or not isinstance(data.dtype, np.dtype):
        return None
    if isinstance(data, sys.modules['jax'].core.Tracer) or data.weak_type:
        return None
    platforms = [device.platform for device in data.devices()]
    return np.asarray(data) if platforms == ['cpu'] else None


class JaxRows(MemoryRows):
    """The rows of an array of JAX; each batch is an array on the same device, over memory of its own."""

    def __init__(self, array: Any) -> None:
        memory = jax_memory(array)
        assert memory is not None
        jax = sys.modules['jax']
        # An array that nobody has put on a device may go together with those of any device.
        committed = getattr(array, 'committed', True)
        # It takes aligned memory as it is, which `asarray` copies.
        give_kind = partial(jax.device_put, device=array.sharding if committed else None)
        super().__init__(array, memory, give_kind)


def reduce_jax(data: Any) -> tuple[Any, ...] | None:
    """Return how to pickle an array of JAX as one of NumPy; `None` for what is no plain array on the CPU."""
    memory = jax_memory(data)
    return None if memory is None else (sys.modules['jax'].device_put, (memory,))
