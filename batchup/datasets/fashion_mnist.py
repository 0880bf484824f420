"""Fashion-MNIST: 70,000 images of clothes, shoes and bags, 28 x 28 pixels.

"Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning Algorithms", H. Xiao,
K. Rasul and R. Vollgraf, 2017.
"""

from __future__ import annotations

from typing import ClassVar

from . import _idx
from ._images import ImageDataset
from .dataset import fetch_and_convert_dataset

MIRRORS = ['http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/']
SHA256 = {
    'train-images-idx3-ubyte.gz': '3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84',
    'train-labels-idx1-ubyte.gz': 'a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845',
    't10k-images-idx3-ubyte.gz': '346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073',
    't10k-labels-idx1-ubyte.gz': '67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5',
}


@fetch_and_convert_dataset(_idx.source_files(MIRRORS, SHA256), 'fashion_mnist')
def fetch_fashion_mnist(source_paths: list[str], target_path: str) -> None:
    """Fetch the data set, and return its folder."""
    _idx.convert(source_paths, target_path)


def delete_cache() -> None:
    """Delete the converted data set, and what was downloaded for it."""
    fetch_fashion_mnist.delete()


class FashionMNIST(ImageDataset):
    """Clothes, shoes and bags: 60,000 images for training and validation, 10,000 for testing.

    Parameters and attributes are those of `batchup.datasets.mnist.MNIST`.

    Attributes
    ----------
    class_names : list of str
        What the labels mean.
    """

    fetch = fetch_fashion_mnist
    class_names: ClassVar[list[str]] = [
        'T-shirt/top', 'trouser', 'pullover', 'dress', 'coat', 'sandal', 'shirt', 'sneaker', 'bag', 'ankle boot'
    ]  # fmt: skip
