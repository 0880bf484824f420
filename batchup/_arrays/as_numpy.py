"""Arrays of other libraries as NumPy arrays, for sources that are to give these."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._ground.sparse import is_sparse
from .arrow import arrow_to_numpy, is_arrow
from .frames import frame_to_numpy, is_pandas
from .jax_arrays import is_jax
from .tensors import is_tensor, tensor_to_numpy
from .xarrays import is_xarray


def as_numpy(number: int, data: Any) -> Any:
    """Return what a library holds in memory as a NumPy array, a view where possible.

    Array-likes that read batches, and what NumPy holds itself, stay as they are.

    Raises
    ------
    TypeError
        If there is no such array, or it would be much larger; the message names ``data[number]``.
    """
    if is_pandas(data):
        return frame_to_numpy(data)
    if is_arrow(data):
        return arrow_to_numpy(data)
    if is_tensor(data):
        return tensor_to_numpy(number, data)
    if is_sparse(data):
        raise TypeError(
            f'to_numpy=True does not make data[{number}] dense, a sparse matrix of shape {data.shape}; write '
            'x.toarray(), or make batches dense with map'
        )
    if is_jax(data):
        return np.asarray(data)
    return data.to_numpy() if is_xarray(data) else data
