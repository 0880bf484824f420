"""Memory for arrays that are on their way into a batch."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

# Returns an array of this shape and dtype, whose values nobody has set.
Allocate = Callable[[tuple[int, ...], 'np.dtype[Any]'], np.ndarray]


class _Here(threading.local):
    """What gives arrays their memory in this thread; nothing: NumPy does."""

    allocate: Allocate | None = None


_here = _Here()


def empty(shape: int | tuple[int, ...], dtype: Any = np.float64) -> np.ndarray:
    """Return an array for a batch, whose values are not set, as `np.empty` does.

    A function of `map`, or the `__getitem__` of an array of one's own, that makes its result in such
    an array has nothing to pay for handing it over.

    Parameters
    ----------
    shape : int or tuple of ints
    dtype : optional
        Any data type of NumPy.

    Returns
    -------
    array
        Of that shape and dtype, in C order.

    >>> import numpy as np
    >>> def centred(images):
    ...     output = empty(images.shape, np.float32)
    ...     np.subtract(images, images.mean(), out=output)
    ...     return (output,)
    >>> centred(np.array([[1, 2, 3]], np.uint8))
    (array([[-1.,  0.,  1.]], dtype=float32),)
    """
    allocate = _here.allocate
    if allocate is None:
        return np.empty(shape, dtype)
    return allocate(shape if isinstance(shape, tuple) else (shape,), np.dtype(dtype))


@contextmanager
def allocating(allocate: Allocate) -> Iterator[None]:
    """Have `empty` ask `allocate` for memory, in this thread, until the end of the block."""
    before = _here.allocate
    _here.allocate = allocate
    try:
        yield
    finally:
        _here.allocate = before
