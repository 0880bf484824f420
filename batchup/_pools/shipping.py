"""How values reach worker processes: arrays through shared memory, mapped files by name."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import mmap
import os
import pickle
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._arrays.arrow import is_arrow
from .._arrays.h5_files import reopening
from .._arrays.through_memory import MemoryRows
from .._sources.base import AbstractDataSource, MapDataSource
from .importing import TO_THE_TOP, Unimportable
from .memory import machine
from .packing import store_whole
from .pickling import ARRAY_PROTOCOL, ArrayPickler, Functions
from .pieces import Pieces, byte_bounds, is_whole, make_view

# How deep the search goes for what cannot be pickled.
SEARCH_DEPTH = 6


class Shipment:
    """A value in shared memory, from which any number of workers take it.

    Parameters
    ----------
    value : object
        The value.
    functions : callable, optional
        How functions and classes in it are reduced, if not by name.

    Attributes
    ----------
    segment : Segment
        The memory.
    spans : list of (int, int)
        Where in it the pickle is, and where its arrays are.
    """

    def __init__(self, value: Any, functions: Functions | None = None) -> None:
        self._functions = functions
        pickled_value = _Pickled(value, functions)
        self.segment, self.spans = store_whole([pickled_value.pickle, *pickled_value.buffers])
        self._places = {_address(buffer): span for buffer, span in zip(pickled_value.buffers, self.spans[1:])}
        if isinstance(value, AbstractDataSource):
            del pickled_value  # it refers to the arrays
            value._move_arrays(self._shared)
            pickled_value = _Pickled(value, functions)
        self._places.clear()
        self._signature = pickled_value.signature()

    def fits(self, value: Any) -> bool:
        """Say whether a value is as it was when it was shipped: the same arrays, and all else equal."""
        pickled, arrays = _Pickled(value, self._functions).signature()
        own_pickle, own_arrays = self._signature
        return (
            pickled == own_pickle
            and len(arrays) == len(own_arrays)
            and all(one() is other() is not None for one, other in zip(own_arrays, arrays))
        )

    def _shared(self, array: NDArray[Any]) -> NDArray[Any] | None:
        """Return an array over the shared copy of an array that has memory of its own."""
        span = self._places.get(array.ctypes.data)
        if span is None or span[1] - span[0] != array.nbytes or not array.flags.owndata:
            return None
        return np.ndarray(array.shape, array.dtype, self.segment.view, span[0], array.strides)


class _Pickled:
    """A pickled value, and the buffers of its arrays, not copied.

    Raises `TypeError` if the value cannot be pickled, and names the attribute that is at fault.
    """

    def __init__(self, value: Any, functions: Functions | None) -> None:
        self._functions = functions
        survey = self._dump(value, None)
        pieces = Pieces(survey.in_memory)
        self._arrays = survey.arrays if pieces.plain else self._dump(value, pieces).arrays

    def _dump(self, value: Any, pieces: Pieces | None) -> _ConstantPickler:
        self.buffers: list[memoryview] = []
        file = io.BytesIO()
        pickler = _ConstantPickler(file, self._keep, pieces, self._functions)
        try:
            pickler.dump(value)
        except Exception as error:
            raise self._explained(value, error) from error
        self.pickle = file.getvalue()
        return pickler

    def _explained(self, value: Any, error: Exception) -> TypeError:
        """Make the error that names the part of a value which cannot be sent, and says what to do."""
        path, culprit = _culprit(value, type(value).__name__, error, SEARCH_DEPTH, self._functions)
        why = f'got {_short(culprit)}: {error}'
        if not isinstance(error, Unimportable):
            why = f'{_short(culprit)} does not pickle ({error}); {TO_THE_TOP}'
        return TypeError(f'{path} cannot be sent to worker processes: {why}')

    def _keep(self, buffer: pickle.PickleBuffer) -> bool:
        raw = buffer.raw()
        if raw.nbytes:
            self.buffers.append(raw)
        return not raw.nbytes  # True: it stays in the pickle

    def signature(self) -> tuple[bytes, list[weakref.ref[NDArray[Any]]]]:
        """Return what differs if a value has changed, except for the contents of its arrays."""
        return hashlib.blake2b(self.pickle).digest(), [weakref.ref(array) for array in self._arrays]


def _address(buffer: memoryview) -> int:
    address: int = np.frombuffer(buffer, np.uint8).ctypes.data
    return address


class _ConstantPickler(ArrayPickler):
    """Pickles mapped files by name, and arrays so that their memory may be shared.

    Parameters
    ----------
    file : file
        Where the pickle goes.
    keep : callable
        Takes the memory of arrays.
    pieces : Pieces or None
        Which memory is shipped; with `None`, arrays are only listed.
    functions : callable, optional
        How functions and classes are reduced, if not by name.

    Attributes
    ----------
    arrays : list of arrays
        All arrays that were found, also those of other libraries.
    in_memory : list of arrays
        Those whose memory is shipped.
    """

    def __init__(
        self,
        file: Any,
        keep: Callable[[pickle.PickleBuffer], Any],
        pieces: Pieces | None,
        functions: Functions | None = None,
    ) -> None:
        super().__init__(file, ARRAY_PROTOCOL, buffer_callback=keep)
        self.functions = functions
        self._pieces = pieces
        self.arrays: list[Any] = []
        self.in_memory: list[NDArray[Any]] = []
        # Objects that are made to pickle others, by their ids: they stand for no array of the value.
        self._made: dict[int, Any] = {}
        # Those of other libraries that a source reads through their memory. Any others, such as the parameters
        # of a model, are part of the pickle: it tells when they have changed.
        self._read: set[int] = set()

    def reducer_override(self, value: Any) -> Any:
        if type(value) not in (np.ndarray, np.memmap):
            return self._reduce_other(value)
        self._list(value)
        mapped = _mapped_file(value)
        if mapped is not None:
            return _map_again, mapped
        if value.dtype.hasobject or not value.nbytes:
            return super().reducer_override(value)
        self.in_memory.append(value)
        if self._pieces is None:
            return super().reducer_override(value) if is_whole(value) else (tuple, ())
        return self._pieces.reduce(value) or super().reducer_override(np.asarray(value))

    def _reduce_other(self, value: Any) -> Any:
        """Reduce what is no plain array; list it if its memory is handed over."""
        if isinstance(value, np.ndarray):
            return super().reducer_override(value)
        if isinstance(value, MemoryRows):
            self._read.add(id(value.array))
        elif is_arrow(value):
            return self._by_parts(value, value.__reduce__())
        elif id(value) in self._read:
            return self._by_parts(value, super().reducer_override(value))
        reduced = reopening(value)
        return self.functions(value) if reduced is NotImplemented and self.functions is not None else reduced

    def _by_parts(self, value: Any, reduced: tuple[Any, ...]) -> tuple[Any, ...]:
        """List what is pickled by parts that are made for this."""
        self._list(value)
        for part in reduced[1]:
            for made in part if isinstance(part, list) else (part,):
                self._made[id(made)] = made
        return reduced

    def _list(self, array: Any) -> None:
        if id(array) not in self._made:
            self.arrays.append(array)


def _mapped_file(array: NDArray[Any]) -> tuple[Any, ...] | None:
    """Return the arguments of `_map_again` for an array in a mapped file; `None` if it cannot be mapped again."""
    owner: Any = array
    # `as_strided` puts an object between a view and what it is a view of.
    while getattr(owner, '_mmap', None) is None and getattr(owner, 'base', None) is not None:
        owner = owner.base
    mapping = getattr(owner, '_mmap', None)
    # An array in mode "c" may have changes that the file does not have.
    if mapping is None or owner.filename is None or owner.mode == 'c' or not array.size:
        return None
    address = np.frombuffer(mapping, np.uint8).ctypes.data
    inode = _inode_at(address)
    if inode != _inode(owner.filename):
        return None
    low, high = byte_bounds(array)
    begin = owner.offset - owner.offset % mmap.ALLOCATIONGRANULARITY + low - address
    return (
        os.path.abspath(owner.filename),
        (machine(), os.getpid(), inode),
        begin,
        high - low,
        array.ctypes.data - low,
        array.shape,
        array.dtype,
        array.strides,
        array.flags.writeable,
    )


def _inode_at(address: int) -> int | None:
    """Return the inode of the file that is mapped at an address; `None` if the system does not tell."""
    with contextlib.suppress(OSError), open('/proc/self/maps') as maps:
        for line in maps:
            fields = line.split(maxsplit=5)
            if int(fields[0].partition('-')[0], 16) == address:
                return int(fields[4])
    return None


def _inode(path: Any) -> int | None:
    """Return the inode of a file, -1 if there is none; `None` if the system does not tell those of mapped files."""
    with contextlib.suppress(OSError):
        return os.stat(path).st_ino if machine() is not None else None
    return -1


def _map_again(
    filename: str,
    origin: tuple[str | None, int, int | None],
    begin: int,
    size: int,
    offset: int,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    strides: tuple[int, ...],
    writeable: bool,
) -> NDArray[Any]:
    """Map a part of a file; what is written to the array stays in this process."""
    mapped = np.memmap(_path_of(filename, *origin), np.uint8, 'c', begin, (size,))
    return make_view(mapped, shape, dtype, offset, strides, writeable)


def _path_of(filename: str, where: str | None, pid: int, inode: int | None) -> str:
    """Return a path to a file that process `pid` has mapped; another one may have its name by now."""
    if where is None or where != machine() or _inode(filename) == inode:
        return filename
    folder = f'/proc/{pid}/fd'
    with contextlib.suppress(OSError):
        for fd in os.listdir(folder):
            if _inode(f'{folder}/{fd}') == inode:
                return f'{folder}/{fd}'
    raise FileNotFoundError(f'{filename} is no longer the file that was mapped')


def _culprit(value: Any, path: str, error: Exception, depth: int, functions: Functions | None) -> tuple[str, Any]:
    """Follow what raises the same error through attributes and items; return the path to the innermost, and that."""
    for name, part in _parts(value) if depth else ():
        if str(_error_of(part, functions)) == str(error):
            return _culprit(part, f'{path}{name}', error, depth - 1, functions)
    return path, value


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """Go through the attributes and items of a value, with the text that leads to each."""
    if isinstance(value, (list, tuple)):
        yield from ((f'[{number}]', item) for number, item in enumerate(value))
    elif isinstance(value, dict):
        yield from ((f'[{key!r}]', item) for key, item in value.items())
    elif isinstance(value, functools.partial):
        yield from (('.func', value.func), ('.args', value.args), ('.keywords', value.keywords))
    elif not isinstance(value, type):
        names = vars(value) if hasattr(value, '__dict__') else ()
        # Public names first: they say more to the user.
        for name in sorted(names, key=lambda name: name.startswith('_')):
            mapped = name == 'fn' and isinstance(value, MapDataSource)
            yield f'.{name}{" (the function of map)" * mapped}', vars(value)[name]


def _error_of(value: Any, functions: Functions | None) -> Exception | None:
    """Return the error that pickling raises; `None` if there is none."""
    try:
        _ConstantPickler(_Nowhere(), lambda buffer: None, None, functions).dump(value)
    except Exception as error:
        return error
    return None


class _Nowhere:
    """A file that forgets what is written to it."""

    def write(self, data: Any) -> int:
        return len(data)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f'{text[:97]}...'
