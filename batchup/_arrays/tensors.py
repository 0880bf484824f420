"""Tensors of PyTorch on the CPU, read through their memory."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .through_memory import MemoryRows


def is_tensor(data: Any) -> bool:
    """Say whether something is a tensor of PyTorch."""
    torch = sys.modules.get('torch')
    return torch is not None and isinstance(data, torch.Tensor)


def check_tensor(number: int, data: Any) -> None:
    """Raise `TypeError` for a tensor whose rows cannot be chosen by indices."""
    if not is_tensor(data):
        return
    if data.is_nested:
        raise TypeError(f'data[{number}] is a nested tensor; torch.nested.to_padded_tensor(x, 0.0) makes a plain one')
    if data.layout is not sys.modules['torch'].strided:
        raise TypeError(f'data[{number}] is a tensor of layout {data.layout}; x.to_dense() makes a plain one')


def tensor_memory(data: Any) -> NDArray[Any] | None:
    """Return an array over the memory of a tensor; `None` if it is more than plain memory on the CPU.

    Elements of a dtype that NumPy lacks, such as ``bfloat16``, are integers of the same size.
    """
    torch = sys.modules.get('torch')
    if torch is None or type(data) is not torch.Tensor or data.__dict__ or not data.dim():
        return None
    if data.layout is not torch.strided or data.device.type != 'cpu' or data.is_nested or data.is_quantized:
        return None
    if data.requires_grad or data.is_conj() or data.is_neg() or any(getattr(data, 'names', ())):
        return None
    try:
        memory: NDArray[Any] = data.numpy()
    except TypeError:
        same_size = {1: torch.uint8, 2: torch.int16, 4: torch.int32}.get(data.element_size())
        if same_size is None:
            return None
        memory = data.view(same_size).numpy()
    return memory


class TensorRows(MemoryRows):
    """The rows of a tensor; each batch is a tensor over memory of its own."""

    def __init__(self, array: Any) -> None:
        memory = tensor_memory(array)
        assert memory is not None
        super().__init__(array, memory, _to_tensor(memory, array.dtype))


def _to_tensor(memory: NDArray[Any], dtype: Any) -> Any:
    """Return a function that makes tensors of a dtype over arrays such as `memory`."""
    from_numpy = sys.modules['torch'].from_numpy
    same = from_numpy(np.empty(0, memory.dtype)).dtype == dtype
    return from_numpy if same else partial(_from_integers, from_numpy, dtype)


def _from_integers(from_numpy: Any, dtype: Any, integers: NDArray[Any]) -> Any:
    return from_numpy(integers).view(dtype)


def reduce_tensor(data: Any) -> tuple[Any, ...] | None:
    """Return how to pickle a tensor as an array; `None` for what is no tensor of plain memory."""
    memory = tensor_memory(data)
    return None if memory is None else (_to_tensor(memory, data.dtype), (memory,))


def join_tensors(parts: Sequence[Any]) -> Any:
    """Put tensors one after the other."""
    return sys.modules['torch'].cat(list(parts))


def tensor_to_numpy(number: int, data: Any) -> NDArray[Any]:
    """Return an array over the memory of a tensor; `TypeError` if that is not possible."""
    try:
        array: NDArray[Any] = data.numpy()
    except (TypeError, RuntimeError) as error:
        raise TypeError(
            f'to_numpy=True finds no NumPy array in the tensor data[{number}] ({error}); '
            'write x.detach().cpu().numpy(), for dtypes that NumPy lacks x.float().numpy()'
        ) from error
    return array
