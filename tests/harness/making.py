"""Functions and sources that make their arrays by `batchup.empty`, and where these arrays are in memory."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

import batchup
from batchup.data_source import RandomAccessDataSource


def file_place(address: int) -> tuple[int, int] | None:
    """Return which byte of which file is mapped at an address, the same in all processes; `None` for other memory."""
    with open('/proc/self/maps') as lines:
        for line in lines:
            span, _, offset, _, inode = line.split()[:5]
            start, end = (int(part, 16) for part in span.split('-'))
            if start <= address < end:
                return (int(inode), int(offset, 16) + address - start) if inode != '0' else None
    return None


def place_of(array: np.ndarray) -> list[int]:
    """Return numbers that say where the memory of an array is, in processes of this machine."""
    address = array.ctypes.data
    return list(file_place(address) or (os.getpid(), address))


def doubled(x: Any) -> np.ndarray:
    """Return twice the numbers of an array, in memory for a batch."""
    output = batchup.empty(x.shape, np.float64)
    np.multiply(x, 2, out=output)
    return output


def double(x: Any) -> tuple[Any, ...]:
    return (doubled(x),)


def with_place(x: Any) -> tuple[Any, ...]:
    """Return a new array, and where it was made."""
    output = doubled(x)
    return output, np.repeat([place_of(output)], len(x), axis=0)


def by_steps(x: Any) -> tuple[Any, ...]:
    """Make arrays on the way that are not returned."""
    return (doubled(doubled(doubled(x))),)


def several(x: Any) -> tuple[Any, ...]:
    return doubled(x), doubled(x), doubled(x[:, :3])


def the_same_twice(x: Any) -> tuple[Any, ...]:
    output = doubled(x)
    return output, output


def transposed(x: Any) -> tuple[Any, ...]:
    return (doubled(x).T,)


def beginning(x: Any) -> tuple[Any, ...]:
    output = batchup.empty((np.int64(len(x) + 5), x.shape[1]), 'f8')
    output[: len(x)] = x
    return (output[: len(x)],)


def end(x: Any) -> tuple[Any, ...]:
    return (doubled(np.concatenate([x, x]))[len(x) :],)


def unused(x: Any) -> tuple[Any, ...]:
    doubled(x)
    return (x + 1,)


def objects(x: Any) -> tuple[Any, ...]:
    output = batchup.empty(len(x), object)
    output[:] = [{'first': int(row[0])} for row in x]
    return output, doubled(x)


def larger_than_a_slot(x: Any) -> tuple[Any, ...]:
    output = batchup.empty((len(x), 3, *x.shape[1:]))
    output[:] = x[:, None]
    return (output,)


class Keeps:
    """A function that keeps what it returns, and sees whether it changes."""

    def __init__(self) -> None:
        self.kept: list[tuple[np.ndarray, np.ndarray]] = []

    def __call__(self, x: Any) -> tuple[Any, ...]:
        output = doubled(x)
        assert all((array == copy).all() for array, copy in self.kept)
        self.kept.append((output, output.copy()))
        return (output,)


MAKING = [
    double,
    by_steps,
    several,
    the_same_twice,
    transposed,
    beginning,
    end,
    unused,
    objects,
    larger_than_a_slot,
    Keeps(),
    double,
]


class Made:
    """An array-like whose `__getitem__` makes a new array for a batch."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, indices: Any) -> np.ndarray:
        output = batchup.empty((len(indices), *self.array.shape[1:]), self.array.dtype)
        return self.array.take(indices, 0, output, 'clip')


class Filled:
    """An array-like that writes rows into memory that it is given."""

    def __init__(self, array: np.ndarray) -> None:
        self.array, self.shape, self.dtype = array, array.shape, array.dtype

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, indices: Any) -> np.ndarray:
        raise AssertionError('take does without a copy')

    def take(self, indices: Any, axis: int = 0, out: Any = None) -> np.ndarray:
        return self.array.take(indices, axis, out, 'clip')


class MadeSource(RandomAccessDataSource):
    """A source of a user's that makes its batches by `batchup.empty`."""

    def __init__(self, array: np.ndarray) -> None:
        super().__init__(len(array))
        self.array = Made(array)

    def samples_by_indices_nomapping(self, indices: Any) -> tuple[Any, ...]:
        return (self.array[indices],)
