"""Handwritten digits that ship inside the package: 1,797 images of 8 x 8 pixels.

They are the test set of "Optical Recognition of Handwritten Digits" by E. Alpaydin and
C. Kaynak, from the UCI Machine Learning Repository (CC BY 4.0).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..image.utils import ImageArrayUInt8ToFloat32
from ._images import SplitDataset, check_n_val

# A pixel counts the dark dots in a block of 4 x 4 dots.
LARGEST_PIXEL = 16

# Every fifth image is for testing. The images come writer by writer: this way, every writer
# has images in all parts.
TEST_EVERY = 5


class Digits(SplitDataset):
    """Real handwritten digits, for examples and tests; read in milliseconds.

    Parameters
    ----------
    n_val : int or None
        The number of images kept for validation, out of 1,438 that are not for testing; 0 or
        `None` for none.
    val_lower, val_upper : float
        The values that 0 (only paper) and 16 (only ink) become.

    Attributes
    ----------
    train_X, val_X, test_X : array-likes of shape (n, 1, 8, 8), float32
        The images, converted when they are read.
    train_X_u8, val_X_u8, test_X_u8 : arrays of shape (n, 1, 8, 8), uint8
        The images as they are stored, from 0 to 16.
    train_y, val_y, test_y : arrays of shape (n,), int32
        The digits; 359 for testing.

    >>> digits = Digits(n_val=200)
    >>> digits.train_X.shape, digits.val_X.shape, digits.test_X.shape
    ((1238, 1, 8, 8), (200, 1, 8, 8), (359, 1, 8, 8))
    """

    def __init__(self, n_val: int | None = 200, val_lower: float = 0.0, val_upper: float = 1.0) -> None:
        with np.load(Path(__file__).with_name('digits.npz')) as file:
            images, labels = file['X'][:, np.newaxis], file['y'].astype(np.int32)
        for_test = np.arange(len(labels)) % TEST_EVERY == TEST_EVERY - 1
        n_known = int(np.count_nonzero(~for_test))
        n_val = check_n_val(n_val)
        if n_val > n_known:
            raise ValueError(f'n_val must be at most {n_known}, the number of images not for testing, got {n_val}')
        # Spread evenly, for the same reason as the images for testing.
        for_val = np.zeros(n_known, np.bool_)
        for_val[np.arange(n_val) * n_known // max(n_val, 1)] = True

        def convert(images_u8: NDArray[np.uint8]) -> Any:
            # The array-like maps 0 to 255; these images end at 16.
            top = val_lower + (val_upper - val_lower) * 255 / LARGEST_PIXEL
            return ImageArrayUInt8ToFloat32(images_u8, val_lower, top)

        known_images, known_labels = images[~for_test], labels[~for_test]
        self.train_X_u8, self.train_y = known_images[~for_val], known_labels[~for_val]
        self.val_X_u8, self.val_y = known_images[for_val], known_labels[for_val]
        self.test_X_u8, self.test_y = images[for_test], labels[for_test]
        self.train_X, self.val_X = convert(self.train_X_u8), convert(self.val_X_u8)
        self.test_X = convert(self.test_X_u8)
