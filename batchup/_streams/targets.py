"""What takes the rows of one array of the results: an array in memory, a file, or an array in storage."""

from __future__ import annotations

import abc
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._ground.indices import Leaf


class Target(abc.ABC):
    """What takes the rows of one array of the results.

    Attributes
    ----------
    name : str
        What it is called in errors.
    row_shape : tuple of int or None
        The shape of a row; `None` until the first batch says.
    dtype : numpy.dtype
        The dtype of the rows, as far as it is known.
    masked : bool
        Whether values can be masked.
    strings : bool
        Whether it is for strings of any length.
    new : bool
        Whether it takes its form from the results.
    """

    name: str
    row_shape: tuple[int, ...] | None = None
    dtype: np.dtype[Any]
    masked: bool = False
    strings: bool = False
    new: bool = False

    @property
    def form(self) -> str:
        """What rows have to be like, for errors."""
        return f'with rows of shape {self.row_shape} and dtype {self.dtype}, as in the first batch'

    def check_rows(self, n_rows: float) -> None:  # noqa: B027 - a file has as many as come
        """Raise `ValueError` unless there can be so many rows; `math.inf` stands for any number."""

    def check_ranks(self, count: int) -> None:  # noqa: B027 - memory can be shared
        """Raise `ValueError` if so many ranks cannot write their rows at the same time."""

    def take_form(self, values: NDArray[Any], n_rows: int | None) -> None:  # noqa: B027 - most have one
        """Take the form of rows from values, if it is `new`; `n_rows` is how many there will be, if known."""

    @abc.abstractmethod
    def check_last(self, last: int) -> None:
        """Raise `ValueError` if a row of this number cannot be written."""

    @abc.abstractmethod
    def put(self, rows: Leaf, values: NDArray[Any]) -> None:
        """Put values into some rows."""

    def complete(self) -> None:  # noqa: B027 - memory needs nothing
        """Write all that is left to be written."""

    @abc.abstractmethod
    def result(self) -> Any:
        """Return what the user gets, after `complete`."""

    def abandon(self) -> None:  # noqa: B027 - what is in memory stays there
        """Give up after an error: no file is left, and rows in storage are those of the batches before."""


class ArrayTarget(Target):
    """An array in memory, or mapped to a file.

    Parameters
    ----------
    name : str
        What it is called in errors.
    array : array
        With at least one dimension. `ValueError` if it is read-only.
    """

    def __init__(self, name: str, array: NDArray[Any]) -> None:
        if not array.flags.writeable:
            raise ValueError(f'{name} is read-only; open a memory map with mode "r+" or "w+"')
        self.name = name
        self.row_shape = array.shape[1:]
        self.dtype = array.dtype
        self.masked = isinstance(array, np.ma.MaskedArray)
        self._array = array

    @property
    def form(self) -> str:
        return f'of shape {self._array.shape}'

    def check_rows(self, n_rows: float) -> None:
        if n_rows not in (len(self._array), math.inf):
            raise ValueError(f'{self.name} must have a row for each of {n_rows} samples, got shape {self._array.shape}')

    def check_last(self, last: int) -> None:
        if last >= len(self._array):
            raise ValueError(f'the results have a row {last}, but {self.name} has {len(self._array)} rows')

    def put(self, rows: Leaf, values: NDArray[Any]) -> None:
        self._array[slice(rows.start, rows.stop) if isinstance(rows, range) else rows] = values

    def result(self) -> NDArray[Any]:
        return self._array
