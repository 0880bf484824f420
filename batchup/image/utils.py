"""Images stored as bytes, read as floating point numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._ground.allocation import empty
from .._ground.words import Worded

__all__ = ['ImageArrayUInt8ToFloat32']


class ImageArrayUInt8ToFloat32(Worded):
    """An array-like that converts uint8 images to float32 when they are read.

    Parameters
    ----------
    arr_u8 : array-like of shape (n, ...), uint8
        The images; memory-mapped ones stay on disk.
    val_lower, val_upper : float
        What 0 and 255 become.

    Attributes
    ----------
    shape : tuple of ints
        The shape of the images.
    ndim : int
        The number of dimensions.
    dtype : dtype
        float32.

    Raises
    ------
    TypeError
        If the images are not uint8.
    ValueError
        If the two bounds are equal.

    >>> images = ImageArrayUInt8ToFloat32(np.array([[0, 255], [51, 102]], np.uint8))
    >>> images[1]
    array([0.2, 0.4], dtype=float32)
    """

    def __init__(self, arr_u8: Any, val_lower: float = 0.0, val_upper: float = 1.0) -> None:
        if getattr(arr_u8, 'dtype', None) != np.uint8:
            raise TypeError(f'arr_u8 must be an array of uint8, got {_kind(arr_u8)}')
        if val_lower == val_upper:
            raise ValueError(f'val_lower and val_upper must differ, got {val_lower} for both')
        self.arr_u8 = arr_u8
        self.val_lower = val_lower
        self.val_upper = val_upper
        self.shape: tuple[int, ...] = tuple(arr_u8.shape)
        self.ndim = len(self.shape)
        self.dtype = np.dtype(np.float32)

    def _words(self) -> str:
        return f'shape {self.shape}, from {self.val_lower} to {self.val_upper}'

    def __len__(self) -> int:
        return len(self.arr_u8)

    def __getitem__(self, index: Any) -> NDArray[np.float32]:
        images_u8 = self.arr_u8[index]
        if type(images_u8) is not np.ndarray:
            return self._convert(images_u8)
        return self._convert(images_u8, empty(images_u8.shape, np.float32))

    def _convert(self, images_u8: Any, output: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """Convert images that were read; into `output`, if it is given."""
        steps = 255 / (self.val_upper - self.val_lower)
        images: NDArray[np.float32] = np.divide(images_u8, steps, out=output, dtype=np.float32)
        return np.add(images, np.float32(self.val_lower), out=output) if self.val_lower else images

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError('the images are converted when they are read: an array of them is a copy')
        return self[:].astype(self.dtype if dtype is None else dtype, copy=False)


def _kind(array: Any) -> str:
    dtype = getattr(array, 'dtype', None)
    return type(array).__name__ if dtype is None else f'dtype {dtype}'
