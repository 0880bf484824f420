"""Tables and arrays of Arrow, in memory."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._ground.indices import IndexArray, Leaf, from_start
from .by_batch import BatchRows


def is_arrow(data: Any) -> bool:
    """Say whether something is a table, a record batch, an array or a chunked array of pyarrow."""
    return is_arrow_table(data) or is_arrow_array(data)


def is_arrow_table(data: Any) -> bool:
    """Say whether something is a table or a record batch of pyarrow."""
    arrow = sys.modules.get('pyarrow')
    return arrow is not None and isinstance(data, (arrow.Table, arrow.RecordBatch))


def is_arrow_array(data: Any) -> bool:
    """Say whether something is an array or a chunked array of pyarrow."""
    arrow = sys.modules.get('pyarrow')
    return arrow is not None and isinstance(data, (arrow.Array, arrow.ChunkedArray))


class ArrowRows(BatchRows):
    """The rows of an Arrow table, or the values of an Arrow array; batches are of the same kind.

    To take rows out of many chunks, Arrow copies them all into one, for every batch. That is
    done once here, which takes as much memory again. What is in one chunk is not copied.
    """

    def __init__(self, array: Any, number: int) -> None:
        super().__init__(array, number)
        self._whole = in_one_chunk(array)

    def read(self, indices: Leaf) -> Any:
        """Take rows, in memory of their own."""
        return take(self._whole, from_start(indices, len(self.array)))


def take(array: Any, places: IndexArray) -> Any:
    """Take rows of a table, or values of an array, by indices from 0 on."""
    return array.take(sys.modules['pyarrow'].array(places))


def in_one_chunk(array: Any) -> Any:
    """Return a table or a chunked array with its chunks combined; anything else as it is."""
    arrow = sys.modules['pyarrow']
    if isinstance(array, arrow.Table):
        return array.combine_chunks() if any(column.num_chunks > 1 for column in array.columns) else array
    if not isinstance(array, arrow.ChunkedArray) or array.num_chunks <= 1:
        return array
    whole = array.combine_chunks()
    return whole if isinstance(whole, arrow.ChunkedArray) else arrow.chunked_array([whole])


def join_arrow(parts: Any) -> Any:
    """Put tables, or arrays, of one kind one after the other."""
    arrow = sys.modules['pyarrow']
    if isinstance(parts[0], arrow.Table):
        return arrow.concat_tables(parts)
    if isinstance(parts[0], arrow.RecordBatch):
        return arrow.Table.from_batches(parts).combine_chunks().to_batches()[0]
    if isinstance(parts[0], arrow.ChunkedArray):
        return arrow.chunked_array([chunk for part in parts for chunk in part.chunks], parts[0].type)
    return arrow.concat_arrays(parts)


def arrow_to_numpy(data: Any) -> NDArray[Any]:
    """Return a table as a 2-D array of the common dtype, an array as a 1-D one, a view where possible."""
    if is_arrow_table(data):
        columns = [arrow_to_numpy(column) for column in data.columns]
        return np.stack(columns, axis=1) if columns else np.empty((data.num_rows, 0))
    chunked = isinstance(data, sys.modules['pyarrow'].ChunkedArray)
    values: NDArray[Any] = data.to_numpy() if chunked else data.to_numpy(zero_copy_only=False)
    return values
