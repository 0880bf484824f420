"""The sources that users name on the command line: their own, standard data sets, .npz files."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from functools import reduce
from pathlib import Path
from types import ModuleType
from typing import Any

from ...data_source import AbstractDataSource, ArrayDataSource, coerce_data_source
from ...datasets._catalogue import CATALOGUE
from .base import CommandError
from .datasets import find, look_up
from .npz import read_arrays

# How many names of a module an error tells.
MOST_NAMES = 12


def find_source(name: str) -> AbstractDataSource:
    """Return the source of a name: `MODULE:OBJECT`, a data set, or a .npz file.

    Raises
    ------
    CommandError
        If there is nothing of that name, or it is no source.
    """
    if name.endswith('.npz'):
        return _of_file(name)
    if look_up(name) is not None:
        return _of_data_set(name)
    module, colon, attribute = name.partition(':')
    if not (colon and module and attribute):
        raise CommandError(
            f'{name!r} is no data set and no .npz file; a source of your own is MODULE:OBJECT, such as train:source; '
            f'data sets: {", ".join(CATALOGUE)}'
        )
    value = _made(name, _attribute(_imported(module), attribute))
    try:
        return coerce_data_source(value)
    except (TypeError, ValueError) as error:
        raise CommandError(f'{name} is no source: {error}') from None


def _of_file(path: str) -> AbstractDataSource:
    """Return a source over the arrays of a file that are as long as its first one."""
    arrays = [array for array in read_arrays(path).values() if array.ndim]
    if not arrays:
        raise CommandError(f'{path} has no arrays of samples')
    return ArrayDataSource([array for array in arrays if len(array) == len(arrays[0])])


def _of_data_set(name: str) -> AbstractDataSource:
    entry = find(name)
    if entry.state() == 'not fetched':
        raise CommandError(f'{entry.name} is not here yet; run: python -m batchup datasets fetch {entry.name}')
    dataset = entry.open()
    part = 'train_' if hasattr(dataset, 'train_X') else ''
    return ArrayDataSource([getattr(dataset, f'{part}X'), getattr(dataset, f'{part}y')])


def _imported(module: str) -> ModuleType:
    """Import a module; those of the current directory come first, as for `python script.py`."""
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    if module.endswith('.py') and Path(module).exists():
        raise CommandError(f'MODULE is a name, as in an import: {Path(module).stem} in place of {module}')
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and f'{module}.'.startswith(f'{error.name}.'):
            raise CommandError(f'there is no module {error.name}, neither in {here} nor installed') from None
        raise CommandError(f'cannot import {module}: {error}') from error
    except (Exception, SystemExit) as error:
        raise CommandError(f'cannot import {module}: {type(error).__name__}: {error}') from error


def _attribute(module: ModuleType, attribute: str) -> Any:
    try:
        return reduce(getattr, attribute.split('.'), module)
    except AttributeError:
        names = [name for name in vars(module) if not name.startswith('_')]
        shown = ', '.join(names[:MOST_NAMES]) + (', ...' if len(names) > MOST_NAMES else '')
        raise CommandError(f'{module.__name__} has no {attribute}; it has: {shown or "nothing"}') from None


def _made(name: str, value: Any) -> Any:
    """Return what a function without arguments returns, and anything else as it is."""
    if isinstance(value, AbstractDataSource) or not callable(value) or not _needs_nothing(value):
        return value
    try:
        return value()
    except (Exception, SystemExit) as error:
        raise CommandError(f'{name}() failed: {type(error).__name__}: {error}') from error


def _needs_nothing(function: Any) -> bool:
    """Say whether a function can be called without arguments."""
    try:
        inspect.signature(function).bind()
    except (TypeError, ValueError):
        return False
    return True
