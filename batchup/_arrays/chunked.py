"""Array-likes of any kind that say how they are chunked."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .storage import Storage


class ChunkedStorage(Storage):
    """An array-like with `shape`, `dtype`, `chunks`, and a `__getitem__` that takes slices.

    `chunks` is the number of rows of a chunk, or a tuple that begins with it, as in HDF5 and Zarr.
    """

    def __init__(self, array: Any) -> None:
        self.array = array
        self.shape = tuple(array.shape)
        self.dtype = np.dtype(array.dtype)
        chunks = array.chunks
        self.chunk_rows = max(1, int(chunks[0] if isinstance(chunks, tuple) else chunks))

    @staticmethod
    def fits(array: Any) -> bool:
        """Say whether an array-like says how it is chunked."""
        chunks = getattr(array, 'chunks', None)
        rows = chunks[0] if isinstance(chunks, tuple) and chunks else chunks
        return isinstance(rows, int) and hasattr(array, 'shape') and hasattr(array, 'dtype')

    def read(self, start: int, stop: int, output: NDArray[Any]) -> None:
        rows = np.asarray(self.array[start:stop])
        # What NumPy would broadcast or convert to fit is not what was asked for.
        if rows.shape != output.shape:
            raise ValueError(f'{self.name()} gave an array of shape {rows.shape} for {stop - start} rows')
        if not np.can_cast(rows.dtype, self.dtype, 'same_kind'):
            raise TypeError(f'{self.name()} gave an array of dtype {rows.dtype}, but its own dtype is {self.dtype}')
        output[...] = rows

    def name(self) -> str:
        return f'a {type(self.array).__name__} of shape {self.shape}'

    def check(self) -> None:
        if tuple(self.array.shape) != self.shape:
            raise ValueError(f'{self.name()} now has shape {tuple(self.array.shape)}')
