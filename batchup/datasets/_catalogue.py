"""All standard data sets by name, for the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from .._files.placing import partial_of
from ..errors import DatasetError
from . import cifar10, cifar100, digits, fashion_mnist, mnist, stl, svhn, usps
from ._store import Folder
from .dataset import FetchedDataset


class Entry(NamedTuple):
    """A standard data set.

    Attributes
    ----------
    name : str
        What users call it.
    samples : str
        How many samples its parts have.
    shape : tuple of int
        The shape of a sample.
    open : callable
        Opens it without a part for validation; fetches it first, if need be.
    fetch : FetchedDataset, optional
        Fetches it, unless it ships with the package.
    """

    name: str
    samples: str
    shape: tuple[int, ...]
    open: Callable[[], Any]
    fetch: FetchedDataset | None = None

    def state(self) -> str:
        """Say whether it can be opened: 'ready', 'not fetched', 'damaged' or 'in the package'."""
        if self.fetch is None:
            return 'in the package'
        if not self.fetch.path.exists():
            return 'not fetched'
        try:
            Folder(str(self.fetch.path))
        except DatasetError:
            return 'damaged'
        return 'ready'

    def size(self) -> int:
        """Return its bytes on the disk, with those of downloads for it, and of what a killed process has left."""
        if self.fetch is None:
            return Path(digits.__file__).with_name('digits.npz').stat().st_size
        folders = (self.fetch.path, self.fetch.source_folder, partial_of(self.fetch.path))
        return sum(path.stat().st_size for folder in folders for path in folder.rglob('*') if path.is_file())


CATALOGUE = {
    entry.name: entry
    for entry in (
        Entry('cifar10', '50,000 + 10,000', (3, 32, 32), lambda: cifar10.CIFAR10(None), cifar10.fetch_cifar10),
        Entry('cifar100', '50,000 + 10,000', (3, 32, 32), lambda: cifar100.CIFAR100(None), cifar100.fetch_cifar100),
        Entry('digits', '1,438 + 359', (1, 8, 8), lambda: digits.Digits(None)),
        Entry(
            'fashion_mnist',
            '60,000 + 10,000',
            (1, 28, 28),
            lambda: fashion_mnist.FashionMNIST(None),
            fashion_mnist.fetch_fashion_mnist,
        ),
        Entry('mnist', '60,000 + 10,000', (1, 28, 28), lambda: mnist.MNIST(None), mnist.fetch_mnist),
        Entry('stl', '5,000 + 8,000 + 100,000', (3, 96, 96), lambda: stl.STL(None), stl.fetch_stl),
        Entry('svhn', '73,257 + 26,032', (3, 32, 32), lambda: svhn.SVHN(None), svhn.fetch_svhn),
        Entry('svhn_extra', '531,131', (3, 32, 32), svhn.SVHNExtra, svhn.fetch_svhn_extra),
        Entry('usps', '7,291 + 2,007', (1, 16, 16), lambda: usps.USPS(None), usps.fetch_usps),
    )
}
