"""Pickling values with arrays: dtypes stay exactly what they are, and memory is handed over, not copied."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._arrays.h5_files import reopening
from .._arrays.readers import reduce_to_array
from .importing import unsendable

# The version of pickle that hands over the memory of arrays, and copies it least.
ARRAY_PROTOCOL = 5

# How a pool reduces functions and classes, as `reducer_override` does: `NotImplemented` for those that go by
# name, and for anything else; an error for those that its workers would not find.
Functions = Callable[[Any], Any]


class ArrayPickler(pickle.Pickler):
    """Pickles arrays with their dtypes, and hands over their memory.

    Data sets of h5py go by file and name. NumPy hands over the memory of contiguous arrays of many
    dtypes. Any others, also those of subclasses, go through `ndarray.__setstate__`, which gives them
    the byte order of the machine. What lies in memory that NumPy can read, such as a tensor, is
    pickled as an array.
    """

    # How functions and classes are reduced, if not by name.
    functions: Functions | None = None

    def reducer_override(self, value: Any) -> Any:
        if not isinstance(value, np.ndarray):
            reduced = reduce_to_array(value) or reopening(value)
            return self.functions(value) if reduced is NotImplemented and self.functions is not None else reduced
        if type(value) is np.ndarray:
            return NotImplemented if value.dtype.hasobject or not value.itemsize else _reduce(value)
        if value.dtype.isnative or value.dtype.fields is not None:  # a structure keeps its byte orders
            return NotImplemented
        return _astype, (value.astype(value.dtype.newbyteorder('=')), value.dtype)


def _astype(array: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    return array.astype(dtype)


def _reduce(array: NDArray[Any]) -> tuple[Any, ...]:
    """Reduce an array to its bytes, dtype and shape; copied unless its memory is in one piece."""
    if not array.size:
        return np.empty, (array.shape, array.dtype)
    if not array.flags.forc:
        axes = sorted(range(array.ndim), key=lambda axis: -array.strides[axis])
        dense = array.transpose(axes)
        if dense.flags.c_contiguous:
            return np.transpose, (dense, np.argsort(axes).tolist())
        array = np.ascontiguousarray(array)
    order: Any = 'C' if array.flags.c_contiguous else 'F'
    # As bytes: not all dtypes can be those of a buffer.
    buffer: Any = array.reshape(-1, order=order).view(np.uint8)
    return _from_bytes, (pickle.PickleBuffer(buffer), array.dtype, array.shape, order)


def _from_bytes(buffer: Any, dtype: np.dtype[Any], shape: tuple[int, ...], order: Any) -> NDArray[Any]:
    return np.frombuffer(buffer, dtype).reshape(shape, order=order)


def dump(value: Any, keep: Callable[[pickle.PickleBuffer], Any] | None, functions: Functions | None = None) -> bytes:
    """Pickle a value; the memory of its arrays goes to `keep`, and functions through `functions`, if given."""
    file = io.BytesIO()
    pickler = ArrayPickler(file, ARRAY_PROTOCOL, buffer_callback=keep)
    pickler.functions = functions
    pickler.dump(value)
    return file.getvalue()


class Sealed:
    """A value that is pickled as in this module, whatever pickler is used.

    Attributes
    ----------
    value : object
        The value. Its arrays are writable where it arrives.
    """

    def __init__(self, value: Any) -> None:
        self.value = value
        self._data: tuple[bytes, list[pickle.PickleBuffer]] | None = None

    def seal(self, functions: Functions) -> None:
        """Pickle the value now; raise `TypeError` if that fails."""
        buffers: list[pickle.PickleBuffer] = []
        try:
            self._data = dump(self.value, buffers.append, functions), buffers
        except Exception as error:
            raise unsendable(error) from error

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        apart = protocol >= ARRAY_PROTOCOL
        if self._data is not None:
            data, buffers = self._data
            return _unsealed, (data, buffers if apart else [bytes(buffer.raw()) for buffer in buffers])
        buffers = []
        try:
            data = dump(self.value, buffers.append if apart else None)
        except Exception:
            # What does not pickle is left to picklers that can do more.
            return Sealed, (self.value,)
        return _unsealed, (data, buffers)


def _unsealed(data: bytes, buffers: Sequence[Any]) -> Sealed:
    writable = [bytearray(buffer) if memoryview(buffer).readonly else buffer for buffer in buffers]
    return Sealed(pickle.loads(data, buffers=writable))
