"""Array-likes: reading them by arrays of indices, and concatenating them, each kind in its own way.

Other libraries are recognised once the user has imported them; batchup imports none.
"""

from __future__ import annotations

import array
import mmap
import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any

import numpy as np
import six

from .._ground.batch import Destination
from .._ground.indices import IndexArray, Leaf, as_array, own_array
from .._ground.ownership import owned
from .h5 import is_closed, is_h5
from .rows import is_plain
from .zarrs import is_zarr

# Types that have a length and items, but no rows that an array of indices could choose.
_BUFFERS = (array.array, memoryview)
_BYTES = (bytes, bytearray, mmap.mmap)
_NO_ARRAYS = (*six.string_types, *_BYTES, *_BUFFERS, list, tuple, range, deque, Mapping, Set)


def check_array_like(number: int, data: Any) -> None:
    """Raise `TypeError` unless data has rows that can be chosen by an array of indices."""
    if not ((hasattr(data, '__len__') or is_zarr(data)) and hasattr(data, '__getitem__')) or isinstance(
        data, _NO_ARRAYS
    ):
        raise TypeError(
            f'data[{number}] must be an array-like with __len__ and __getitem__ that takes index arrays, '
            f'got {type(data).__name__}; {_advice(data)}'
        )
    if is_closed(data):
        raise ValueError(
            f'data[{number}] is a data set of an h5py file that is closed; keep the file open while batches are read'
        )
    if getattr(data, 'shape', 0) in ((), None):  # `None`: an empty data set of h5py
        raise TypeError(f'data[{number}] is an array with no dimensions: it has no samples')


def length_of(data: Any) -> int:
    """Return the number of rows of an array-like; an array of zarr has no length of its own."""
    n_rows: int = data.shape[0] if is_zarr(data) else len(data)
    return n_rows


def _advice(data: Any) -> str:
    """Say how to make an array of something that is none."""
    if isinstance(data, _BUFFERS):
        return 'np.asarray(x) makes one of it, and copies nothing'
    if isinstance(data, _BYTES):
        return 'np.frombuffer(x, np.uint8) makes one of it, and copies nothing'
    if hasattr(data, '__next__'):
        return 'an iterator over batches is for IteratorDataSource(x)'
    return 'lists and numbers become one by np.asarray'


class ArrayLikeRows:
    """The samples of an array-like that is no plain NumPy array; each batch is read by one call.

    pandas objects are read by position (`iloc`).

    Parameters
    ----------
    array : array-like
        What is read.
    """

    def __init__(self, array: Any) -> None:
        self.array = array
        self._rows = array.iloc if hasattr(array, 'iloc') else array

    def read(self, indices: Leaf) -> Any:
        """Read the rows that indices choose, by one call of `__getitem__` with an index array."""
        return owned([self._rows[own_array(indices)]])

    def batches(self, indices: Leaf, n_batches: int, to: Destination) -> Iterator[Any]:
        """Read several batches of equal size one by one; the array-like gives the memory for them."""
        return (self.read(part) for part in as_array(indices).reshape(n_batches, -1))


def kind_of(array: Any) -> str:
    """Name the kind of array that a part of a batch is.

    >>> kind_of(np.arange(3)), kind_of(np.ma.arange(3)), kind_of([1, 2])
    ('numpy.ndarray', 'numpy.ma.MaskedArray', 'numpy.ndarray')
    """
    if isinstance(array, np.ma.MaskedArray):
        return 'numpy.ma.MaskedArray'
    torch = sys.modules.get('torch')
    if torch is not None and isinstance(array, torch.Tensor):
        return 'torch.Tensor'
    if is_plain(array) or not _keeps_its_kind(array):
        return 'numpy.ndarray'
    return f'{type(array).__module__.partition(".")[0]}.{type(array).__qualname__}'


def as_kind(array: Any) -> Any:
    """Return a part of a batch as it is, or as a NumPy array if arrays of its kind cannot be concatenated."""
    return array if _keeps_its_kind(array) and not is_plain(array) else np.asarray(array)


def join_rows(parts: Sequence[Any], places: IndexArray | None = None) -> Any:
    """Concatenate arrays of one kind, in its own way, and then choose the rows that `places` name, in that order.

    >>> join_rows([np.ma.masked_equal([1, 2], 2), np.ma.masked_equal([3], 2)], np.array([2, 1, 0]))
    masked_array(data=[3, --, 1],
                 mask=[False,  True, False],
           fill_value=2)
    """
    first, kind = parts[0], kind_of(parts[0])
    joined: Any
    if kind == 'numpy.ma.MaskedArray':
        joined = _in_byte_order(np.ma.concatenate(parts), first.dtype)  # type: ignore[no-untyped-call]
        joined.fill_value = first.fill_value
    elif kind == 'torch.Tensor':
        joined = sys.modules['torch'].cat(list(parts))
    elif _is_pandas(first):
        joined = sys.modules['pandas'].concat(parts)
    elif not isinstance(first, np.ndarray) and hasattr(first, '__array_namespace__'):
        joined = first.__array_namespace__().concat(list(parts))
    else:
        joined = _in_byte_order(np.concatenate(parts), first.dtype)
        if isinstance(first, np.ndarray) and not is_plain(first):
            joined = joined.view(type(first))
    if places is None:
        return joined
    return joined.iloc[places] if _is_pandas(joined) else joined[places]


def _in_byte_order(joined: Any, dtype: np.dtype[Any]) -> Any:
    """Give concatenated arrays their byte order back: NumPy has given them that of the machine."""
    same_size = dtype.newbyteorder('=') == joined.dtype.newbyteorder('=')
    # Strings have become as long as the longest of all.
    return joined.astype(dtype if same_size else joined.dtype.newbyteorder(dtype.byteorder), copy=False)


def columns_of(array: Any) -> Any:
    """Return the dtype of an array; of a pandas object, each name with its dtype; `None` if it has none."""
    if not _is_pandas(array):
        return getattr(array, 'dtype', None)
    return [(array.name, array.dtype)] if array.ndim == 1 else list(array.dtypes.items())


def text_kind(array: Any) -> str | None:
    """Return `'U'` or `'S'` for an array of strings, whose dtype says how long the longest is; else `None`."""
    kind = getattr(getattr(array, 'dtype', None), 'kind', None)
    return kind if kind in ('U', 'S') else None


def known_kind(data: Any) -> str | None:
    """Return the kind of arrays that is read from data, without reading; `None` if it is not known."""
    if is_h5(data):
        return 'numpy.ndarray'
    return kind_of(data) if _keeps_its_kind(data) else None


def _keeps_its_kind(array: Any) -> bool:
    """Say whether arrays of this kind can be concatenated without becoming NumPy arrays."""
    torch = sys.modules.get('torch')
    if isinstance(array, np.ndarray) or _is_pandas(array) or (torch is not None and isinstance(array, torch.Tensor)):
        return True
    return hasattr(array, '__array_namespace__') or hasattr(array, '__array_function__')


def _is_pandas(data: Any) -> bool:
    pandas = sys.modules.get('pandas')
    return pandas is not None and isinstance(data, (pandas.Series, pandas.DataFrame))
