"""Standard data sets, imported when they are first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import cifar10 as cifar10
    from . import cifar100 as cifar100
    from . import dataset as dataset
    from . import digits as digits
    from . import fashion_mnist as fashion_mnist
    from . import mnist as mnist
    from . import stl as stl
    from . import svhn as svhn
    from . import usps as usps

__all__ = ['cifar10', 'cifar100', 'dataset', 'digits', 'fashion_mnist', 'mnist', 'stl', 'svhn', 'usps']


def __getattr__(name: str) -> Any:
    if name in __all__:
        return importlib.import_module(f'.{name}', __name__)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
