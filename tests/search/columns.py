"""Arrays of every kind and layout, whose rows tell which samples they belong to."""

from __future__ import annotations

import atexit
import functools
import importlib.util
import shutil
import tempfile
import threading
from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from batchup.image.utils import ImageArrayUInt8ToFloat32

from ..arrays.chunked import Chunked

STRUCTURE = np.dtype([('a', '>i4'), ('b', '<f8', (2,)), ('c', 'S4'), ('d', '?')])
ALIGNED = np.dtype([('a', 'u1'), ('b', 'f8')], align=True)
WITH_OBJECTS = np.dtype([('a', '<i8'), ('o', object)])


def records(dtype: np.dtype[Any], numbers: Any, **fields: Any) -> Any:
    array = np.zeros(len(numbers), dtype)
    for name, values in fields.items():
        array[name] = values
    return array


def half_empty(numbers: Any) -> Any:
    return np.where(numbers % 3 == 0, np.nan, numbers / 7)


def objects(numbers: Any) -> Any:
    array = np.empty(len(numbers), object)
    array[:] = [{'n': int(number)} if number % 2 else f'n{number}' for number in numbers]
    return array


# What is made of the numbers of samples.
KINDS: dict[str, Callable[[Any], Any]] = {
    **{
        dtype: functools.partial(lambda dtype, numbers: numbers.astype(dtype), dtype)
        for dtype in ('<i8', '<i4', '>i4', '>i8', '>u2', 'u1', '<u8', '<f4', '>f4', '<f8', '>f8', 'c8', '>c16')
    },
    'bool': lambda numbers: numbers % 2 == 0,
    'half': lambda numbers: (numbers % 2000).astype('f2'),
    'nan': half_empty,
    'longdouble': lambda numbers: numbers.astype(np.longdouble) / 3,
    'days': lambda numbers: np.datetime64('2020-01-01', 'D') + numbers,
    'big nanoseconds': lambda numbers: (np.datetime64('2020-01-01', 'ns') + numbers).astype('>M8[ns]'),
    'seconds': lambda numbers: numbers.astype('m8[s]'),
    'bytes': lambda numbers: np.array([b'%d' % number for number in numbers], 'S6'),
    'text': lambda numbers: np.array([f'n{number}' for number in numbers], 'U7'),
    'big text': lambda numbers: np.array([f'n{number}' for number in numbers], '>U7'),
    'object': objects,
    'structure': lambda numbers: records(
        STRUCTURE, numbers, a=numbers, b=np.stack([numbers, -numbers], 1), c=b'ab', d=numbers % 2
    ),
    'aligned': lambda numbers: records(ALIGNED, numbers, a=numbers % 256, b=numbers / 3),
    'with objects': lambda numbers: records(WITH_OBJECTS, numbers, a=numbers, o=objects(numbers)),
}
SHAPES = [(), (), (), (3,), (2, 2), (1,), (0,)]


def strided(values: Any) -> Any:
    larger = np.zeros((2 * len(values), *values.shape[1:]), values.dtype)
    larger[::2] = values
    return larger[::2]


def unaligned(values: Any) -> Any:
    if values.dtype.hasobject:
        return values
    memory = np.zeros(values.nbytes + 1, np.uint8)
    array = memory[1:].view(values.dtype).reshape(values.shape) if values.size else values.copy()
    array[...] = values
    return array


def read_only(values: Any) -> Any:
    array = values.copy()
    array.flags.writeable = False
    return array


def part_of_larger(values: Any) -> Any:
    larger = np.zeros((len(values) + 5, *values.shape[1:], 3), values.dtype)
    larger[2:-3, ..., 1] = values
    return larger[2:-3, ..., 1]


# The same values, placed in memory in other ways.
LAYOUTS: dict[str, Callable[[Any], Any]] = {
    'contiguous': np.copy,
    'columns first': np.asfortranarray,
    'backwards': lambda values: np.ascontiguousarray(values[::-1])[::-1],
    'strided': strided,
    'unaligned': unaligned,
    'read-only': read_only,
    'part of larger': part_of_larger,
    'transposed': lambda values: np.ascontiguousarray(values.T).T,
}


class Lazy:
    """A user's array-like: its rows are made when they are asked for, by an array of indices."""

    def __init__(self, values: Any, way: str) -> None:
        self.values = values
        self.way = way
        # A source that several threads read has to allow for that.
        self.local = threading.local()

    def __reduce__(self) -> Any:
        return Lazy, (self.values, self.way)

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, indices: Any) -> Any:
        assert type(indices) is np.ndarray, f'indices are {type(indices)}'
        assert indices.ndim == 1, f'indices have shape {indices.shape}'
        found = self.values[indices]
        if self.way == 'columns first':
            return np.asfortranarray(found)
        if self.way == 'read-only':
            found.flags.writeable = False
        if self.way == 'view':
            table = self.local.__dict__.setdefault('table', np.zeros((100, *found.shape[1:]), found.dtype))
            table[: len(indices)] = found
            return table[: len(indices)]
        return found


class Column:
    """What a source reads, and what its batches are to be.

    Attributes
    ----------
    name : str
        The kind and the layout.
    data : array-like
        What is handed to the source.
    whole : array or table
        The same, apart from it in memory, as batches are to be.
    """

    def __init__(self, name: str, data: Any, whole: Any) -> None:
        self.name = name
        self.data = data
        self.whole = whole

    def read(self, indices: Any) -> Any:
        """Return the rows of a batch."""
        whole = self.whole.iloc if hasattr(self.whole, 'iloc') else self.whole
        return whole[np.array(indices, np.intp)]

    @property
    def joins(self) -> str:
        """What must be equal for columns of several sources to be joined."""
        return self.name.partition(' | ')[0]


FOLDER = None


@functools.cache
def mapped(dtype: str) -> Any:
    """Map a file of all numbers."""
    global FOLDER  # noqa: PLW0603 - made when it is first needed, once for a process
    if FOLDER is None:
        FOLDER = tempfile.mkdtemp(prefix='batchup-search-')
        atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)
    path = f'{FOLDER}/{dtype[1:]}-{ord(dtype[0])}'
    np.arange(100_000).astype(dtype).tofile(path)
    return np.memmap(path, dtype, 'r')


def array_column(numbers: Any, kind: str, shape: tuple[int, ...], layout: str) -> Column:
    size = int(np.prod(shape, dtype=int))
    several = (numbers[:, np.newaxis] * max(size, 1) + np.arange(size)).reshape(-1)
    values = KINDS[kind](several).reshape(len(numbers), *shape)
    return Column(f'{kind} {shape} | {layout}', LAYOUTS[layout](values), values)


def windows(numbers: Any, dtype: str) -> Column:
    first = numbers[0] if len(numbers) else 0
    recording = (first + np.arange(len(numbers) + 3)).astype(dtype)
    view = sliding_window_view(recording, 3)[: len(numbers)]
    return Column(f'windows {dtype} | windows', view, view.copy())


def broadcast(numbers: Any) -> Column:
    data = np.broadcast_to(np.arange(3, dtype='>i4'), (len(numbers), 3))
    return Column('row | broadcast', data, data.copy())


def memory_mapped(numbers: Any, dtype: str, way: int) -> Column:
    first, n = (int(numbers[0]) % 50_000, len(numbers)) if len(numbers) else (0, 0)
    data = [lambda m: m[first : first + n], lambda m: m[first : first + 2 * n : 2], lambda m: m[: first + n][::-1][:n]]
    view = data[way](mapped(dtype))
    return Column(f'{dtype} () | mapped {way}', view, np.array(view))


def masked(numbers: Any, dtype: str, way: str) -> Column:
    values = np.stack([numbers, numbers + 1], 1).astype(dtype)
    mask = {'some': values % 3 == 0, 'few': values % 11 == 0, 'none': np.ma.nomask}[way]
    whole = np.ma.masked_array(values, mask)
    return Column(f'masked {dtype} | {way}', whole.copy(), whole)


def lazy(numbers: Any, kind: str, way: str) -> Column:
    values = KINDS[kind](numbers)
    return Column(f'lazy {kind} | {way}', Lazy(values.copy(), way), values)


class Stored(Chunked):
    """An array in chunks, which a user's source reads by arrays of indices."""

    def __getitem__(self, rows: Any) -> Any:
        return super().__getitem__(rows) if isinstance(rows, slice) else self.array[rows]


def stored(numbers: Any, dtype: str) -> Column:
    """Make a column in chunks of any number of rows; some are in memory, to be joined with others."""
    values = np.stack([numbers, numbers + 1], 1).astype(dtype)
    data = values.copy() if len(values) % 4 == 3 else Stored(values.copy(), 1 + len(values) % 5)
    return Column(f'stored {dtype} | {type(data).__name__}', data, values)


def image(numbers: Any) -> Column:
    pixels = np.stack([numbers, numbers + 1], 1).astype(np.uint8)
    data = ImageArrayUInt8ToFloat32(pixels, -1.0, 1.0)
    return Column('image', data, data[:])


def table(numbers: Any, series: bool) -> Column:
    import pandas as pd

    frame = pd.DataFrame(
        {'n': numbers, 'half': numbers / 2, 'text': pd.Series([f'n{number}' for number in numbers], dtype=str)}
    )
    frame.index = numbers[::-1] + 7
    frame = frame['half'] if series else frame
    return Column(f'table {series}', frame, frame.copy())


def tensor(numbers: Any, wide: bool) -> Column:
    import torch

    values = torch.from_numpy(np.stack([numbers] * 3, 1).astype(np.float32) if wide else numbers.copy())
    return Column(f'tensor {wide}', values, values.clone())


HAVE_TORCH = importlib.util.find_spec('torch') is not None
HAVE_PANDAS = importlib.util.find_spec('pandas') is not None


def draw_maker(random: Random) -> Callable[[Any], Column]:
    """Draw what makes a column of the numbers of samples, so that columns of several sources can be alike."""
    dtype = random.choice(['<i8', '>i4'])
    special = [
        lambda numbers: windows(numbers, random_dtype),
        broadcast,
        lambda numbers: memory_mapped(numbers, dtype, way),
        lambda numbers: masked(numbers, dtype, filling),
        lambda numbers: lazy(numbers, kind, lazy_way),
        image,
        *[lambda numbers: stored(numbers, random_dtype)] * 4,
    ]
    random_dtype, way = random.choice(['<f8', '>f4', 'u1', '>i4']), random.randrange(3)
    filling, lazy_way = (
        random.choice(['some', 'few', 'none']),
        random.choice(['', 'columns first', 'read-only', 'view']),
    )
    kind = random.choice(list(KINDS))
    drawn = random.random()
    if drawn < 0.25:
        return random.choice(special)
    if drawn < 0.29 and HAVE_PANDAS:
        series = random.random() < 0.5
        return lambda numbers: table(numbers, series)
    if drawn < 0.33 and HAVE_TORCH:
        wide = random.random() < 0.5
        return lambda numbers: tensor(numbers, wide)
    shape, layout = random.choice(SHAPES), random.choice(list(LAYOUTS))
    return lambda numbers: array_column(numbers, kind, shape, layout)
