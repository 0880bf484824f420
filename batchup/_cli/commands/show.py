"""`show`: the arrays of a data set or a .npz file, and a picture of some samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .base import CommandError
from .datasets import find, look_up
from .npz import labels_of, read_arrays
from .sheet import class_text, write_sheet

# The attributes of data sets that hold arrays.
ATTRIBUTES = ('train_X', 'train_y', 'train_y_coarse', 'test_X', 'test_y', 'test_y_coarse', 'unl_X', 'X', 'y')

# Labels with more different values are no classes.
MOST_CLASSES = 1000


def show(name: str, png: str | None, count: int, seed: int, x: str | None = None, y: str | None = None) -> None:
    """Print shapes, dtypes and class counts; write a picture of a batch if wanted.

    Parameters
    ----------
    name : str
        A data set, or the path of a .npz file.
    png : str, optional
        Where to write the picture.
    count : int
        The number of samples in it.
    seed : int
        Selects them.
    x, y : str, optional
        The names of the arrays to draw, and of their labels. By default, the first images.
    """
    arrays, class_names = _open(name)
    for given in (x, y):
        if given is not None and given not in arrays:
            raise CommandError(f'{name} has no array {given}; it has: {", ".join(arrays) or "no arrays"}')
    width = max((len(array_name) for array_name in arrays), default=0)
    for array_name, array in arrays.items():
        print(f'{array_name:<{width}}  {array.dtype!s:<8} {" x ".join(map(str, array.shape)) or "one value"}')
    for array_name, array in arrays.items():
        _print_classes(array_name, array, class_names)
    if png is not None:
        images, labels = _images_and_labels(name, arrays, x, y)
        write_sheet(png, images, labels, class_names, count, seed)
        print(f'{png}: {min(count, len(images))} samples of {len(images):,}')


def _open(name: str) -> tuple[dict[str, Any], Sequence[str] | None]:
    """Return arrays by name, and the names of the classes if they are known."""
    if name.endswith('.npz') or (look_up(name) is None and Path(name).exists()):
        arrays: dict[str, Any] = dict(read_arrays(name))
        names = arrays.pop('class_names', None)
        return arrays, None if names is None else [str(one) for one in names]
    entry = find(name)
    if entry.state() == 'not fetched':
        raise CommandError(f'{entry.name} is not here yet; run: python -m batchup datasets fetch {entry.name}')
    dataset = entry.open()
    found = {attribute: getattr(dataset, attribute) for attribute in ATTRIBUTES if hasattr(dataset, attribute)}
    return found, getattr(dataset, 'class_names', None)


def _print_classes(name: str, labels: Any, class_names: Sequence[str] | None) -> None:
    """Print how many samples each class has, if these are labels."""
    if labels.dtype.kind not in 'iubSU' or len(labels.shape) != 1 or not len(labels):
        return
    classes, counts = np.unique(np.asarray(labels), return_counts=True)
    if len(classes) > MOST_CLASSES or len(classes) == len(labels):
        return
    print(f'\n{name}: {len(classes)} classes')
    named = 'coarse' not in name
    texts = [class_text(label, class_names if named else None) for label in classes]
    width = max(map(len, texts))
    for text, count in zip(texts, counts):
        print(f'  {text:<{width}}  {count:>7,}')


def _images_and_labels(
    name: str, arrays: Mapping[str, Any], x: str | None, y: str | None
) -> tuple[Any, NDArray[Any] | None]:
    """Return the images of a name, or the first ones, and their labels if there are any."""
    for array_name in arrays if x is None else [x]:
        array = arrays[array_name]
        if len(array.shape) >= 3 and len(array) and array.dtype.kind in 'biuf':
            labels = arrays.get(y or labels_of(array_name, arrays) or '')
            fits = labels is not None and labels.shape == (len(array),)
            if y is not None and not fits:
                raise CommandError(f'{name}: {y} does not hold a label for each of the {len(array):,} in {array_name}')
            return array, labels if fits else None
    if x is not None:
        raise CommandError(f'{name}: {x} has shape {arrays[x].shape}; images have (n, height, width), or channels, too')
    raise CommandError(f'{name} has no images to draw: no array of shape (n, height, width), with or without channels')
