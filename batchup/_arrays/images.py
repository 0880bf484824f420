"""Images stored as bytes, converted while their rows are gathered."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._ground.batch import Destination
from .._ground.indices import IndexArray, Leaf, as_array
from ..image.utils import ImageArrayUInt8ToFloat32
from .rows import Rows, block_size, is_plain, row_bytes

# So many bytes are gathered at a time, and converted while they are in the processor's cache. Larger: they
# leave it, and are read from memory once more. Smaller: more calls.
GATHERED_BYTES = 2**17


def is_images(array: Any) -> bool:
    """Say whether an array is images over plain bytes, with no behaviour added to either."""
    return type(array) is ImageArrayUInt8ToFloat32 and is_plain(array.arr_u8)


class ImageRows(Rows):
    """The samples of images over a plain array of bytes.

    Parameters
    ----------
    images : ImageArrayUInt8ToFloat32
        Images for which `is_images` is true.

    Attributes
    ----------
    memory : array of shape (n, ...), uint8
        The bytes.
    """

    array: Any

    def __init__(self, images: ImageArrayUInt8ToFloat32) -> None:
        super().__init__(np.broadcast_to(np.empty((), images.dtype), images.shape))
        self.array = images
        self.memory: NDArray[np.uint8] = images.arr_u8
        self._bytes = Rows(self.memory)
        self._gathered_rows = max(1, GATHERED_BYTES // max(1, row_bytes(self.memory)))

    def __reduce__(self) -> tuple[Any, ...]:
        return ImageRows, (self.array,)

    def read(self, indices: Leaf) -> NDArray[Any]:
        return self.read_into(self.empty(len(indices)), indices)

    def read_into(self, output: NDArray[Any], indices: Leaf) -> NDArray[Any]:
        if isinstance(indices, range):
            self.array._convert(self.memory[indices.start : indices.stop], output)
        elif len(indices) <= self._gathered_rows:
            self.array._convert(self._bytes.read(indices), output)
        else:
            self._read_in_steps(output, indices)
        return output

    def _read_in_steps(self, output: NDArray[Any], indices: IndexArray) -> None:
        """Gather and convert rows, a few at a time."""
        step = self._gathered_rows
        gathered = self._bytes.empty(step)
        for start in range(0, len(indices), step):
            part = indices[start : start + step]
            images_u8 = self._bytes.read_into(gathered[: len(part)], part)
            self.array._convert(images_u8, output[start : start + step])

    def scatter(self, output: NDArray[Any], places: IndexArray, indices: Leaf) -> None:
        for place, index in zip(places.tolist(), as_array(indices).tolist()):
            self.array._convert(self.memory[index], output[place])

    def batches(self, indices: Leaf, n_batches: int, to: Destination) -> Iterator[NDArray[Any]]:
        size = len(indices) // n_batches
        if to.memory is None and block_size(size * self.row_bytes, to.apart) == 1:
            return (self.read(indices[start : start + size]) for start in range(0, len(indices), size))
        return super().batches(indices, n_batches, to)

    def _blocks(self, indices: Leaf, size: int, n_batches: int, block: int) -> Iterator[NDArray[Any]]:
        # What is gathered for a block is converted at once.
        block = min(block, max(1, self._gathered_rows // max(1, size)))
        if isinstance(indices, range) or not size:
            yield from super()._blocks(indices, size, n_batches, block)
            return
        gathered = self._bytes.empty(block * size)
        for start in range(0, len(indices), block * size):
            part = indices[start : start + block * size]
            output = self.empty(len(part))
            self.array._convert(self._bytes.read_into(gathered[: len(part)], part), output)
            yield output.reshape(len(part) // size, size, *output.shape[1:])
            # For a user who has let go of the block, its memory is free for the next one.
            del output
