"""MNIST: 70,000 images of handwritten digits, 28 x 28 pixels.

"Gradient-based learning applied to document recognition", Y. LeCun, L. Bottou, Y. Bengio
and P. Haffner, Proceedings of the IEEE, 1998.
"""

from __future__ import annotations

from . import _idx
from ._images import ImageDataset
from .dataset import fetch_and_convert_dataset

MIRRORS = [
    'https://storage.googleapis.com/cvdf-datasets/mnist/',
    'https://ossci-datasets.s3.amazonaws.com/mnist/',
    'http://yann.lecun.com/exdb/mnist/',
]
SHA256 = {
    'train-images-idx3-ubyte.gz': '440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609',
    'train-labels-idx1-ubyte.gz': '3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c',
    't10k-images-idx3-ubyte.gz': '8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6',
    't10k-labels-idx1-ubyte.gz': 'f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6',
}


@fetch_and_convert_dataset(_idx.source_files(MIRRORS, SHA256), 'mnist')
def fetch_mnist(source_paths: list[str], target_path: str) -> None:
    """Fetch the data set, and return its folder."""
    _idx.convert(source_paths, target_path)


def delete_cache() -> None:
    """Delete the converted data set, and what was downloaded for it."""
    fetch_mnist.delete()


class MNIST(ImageDataset):
    """Handwritten digits: 60,000 for training and validation, 10,000 for testing.

    Downloaded and converted the first time, then opened through memory maps.

    Parameters
    ----------
    n_val : int or None
        How many of the images for training, the last ones, are for validation instead; 0 or
        `None` for none.
    val_lower, val_upper : float
        What pixels of 0 and 255 become.

    Attributes
    ----------
    train_X, val_X, test_X : array-likes of shape (n, 1, 28, 28), float32
        The images, converted when they are read.
    train_X_u8, val_X_u8, test_X_u8 : arrays of shape (n, 1, 28, 28), uint8
        The images as they are stored.
    train_y, val_y, test_y : arrays of shape (n,), int32
        The digits.

    Raises
    ------
    DatasetError
        If the data set cannot be downloaded or stored.
    """

    fetch = fetch_mnist
