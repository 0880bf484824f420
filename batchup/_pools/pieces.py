"""Which memory is shipped for arrays: what they share is shipped once, and nothing that they do not need."""

from __future__ import annotations

import bisect
import pickle
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class _Extent(NamedTuple):
    """The bytes from one address to another, and the size of a copy of the array that lies there."""

    begin: int
    end: int
    copied: int = 0

    @property
    def size(self) -> int:
        return self.end - self.begin

    def is_within(self, other: _Extent) -> bool:
        """Say whether these bytes are all among those of another one."""
        return other.begin <= self.begin and self.end <= other.end


class Pieces:
    """The pieces of memory that are shipped for arrays.

    Arrays whose memory overlaps are shipped as one piece, from the first of their bytes to the
    last, unless copies of them take less, as of a column of a wide table.

    Parameters
    ----------
    arrays : sequence of arrays
        Neither empty nor with objects. They must stay where they are as long as this is used.

    Attributes
    ----------
    plain : bool
        Whether each array is a piece of its own.
    """

    def __init__(self, arrays: Sequence[NDArray[Any]]) -> None:
        extents = [_Extent(*byte_bounds(array), array.nbytes) for array in arrays]
        self._pieces = [_Piece(extent.begin, extent.end) for extent in _chosen(extents)]
        self._begins = [piece.begin for piece in self._pieces]
        self.plain = len(self._pieces) == len(arrays) and all(map(is_whole, arrays))
        for extent in [] if self.plain else extents:
            piece = self._piece(extent)
            if piece is not None:
                piece.n_arrays += 1

    def _piece(self, extent: _Extent) -> _Piece | None:
        """Return the piece that bytes are in, if there is one."""
        k = bisect.bisect_right(self._begins, extent.begin) - 1
        return self._pieces[k] if k >= 0 and extent.end <= self._pieces[k].end else None

    def reduce(self, array: NDArray[Any]) -> tuple[Any, ...] | None:
        """Return how to pickle an array as a view of a piece; `None` if it is in none, or alone in one."""
        piece = self._piece(_Extent(*byte_bounds(array)))
        if piece is None or (piece.n_arrays == 1 and is_whole(array)):
            return None
        offset = array.ctypes.data - piece.begin
        return make_view, (piece, array.shape, array.dtype, offset, array.strides, array.flags.writeable)


class _Piece:
    """Memory to be shipped, which arrives as an array of bytes.

    Attributes
    ----------
    n_arrays : int
        How many arrays are in it.
    """

    def __init__(self, begin: int, end: int) -> None:
        self.begin = begin
        self.end = end
        self.n_arrays = 0
        self.__array_interface__ = {
            'version': 3,
            'shape': (end - begin,),
            'typestr': '|u1',
            'data': (begin, False),
        }

    def __reduce__(self) -> tuple[Any, ...]:
        array: Any = np.asarray(self)
        return np.frombuffer, (pickle.PickleBuffer(array), np.uint8)


def make_view(
    piece: NDArray[Any],
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    offset: int,
    strides: tuple[int, ...],
    writeable: bool,
) -> NDArray[Any]:
    """Make an array over bytes that have arrived."""
    buffer: Any = piece
    array: NDArray[Any] = np.ndarray(shape, dtype, buffer, offset, strides)
    array.flags.writeable = writeable
    return array


def is_whole(array: NDArray[Any]) -> bool:
    """Say whether all bytes of a plain array are side by side, in C or Fortran order."""
    return type(array) is np.ndarray and array.flags.forc


def byte_bounds(array: NDArray[Any]) -> tuple[int, int]:
    """Return the addresses of the first byte of an array and of the end of its last one."""
    low = high = array.ctypes.data
    for length, stride in zip(array.shape, array.strides):
        if stride < 0:
            low += (length - 1) * stride
        else:
            high += (length - 1) * stride
    return low, high + array.itemsize


def _chosen(extents: Iterable[_Extent]) -> Iterator[_Extent]:
    """Choose the memory that is shipped as it is; arrays elsewhere are copied."""
    for group in _overlapping(extents):
        # A short way: there may be very many arrays, and most are alone.
        if len(group) == 1:
            yield from (extent for extent in group if extent.size <= extent.copied)
            continue
        whole = _hull(group)
        # These are shipped in any case, and some of the others may lie in them.
        dense = [_hull(some) for some in _overlapping(extent for extent in group if extent.size <= extent.copied)]
        others = [
            extent for extent in group if not any(one.begin <= extent.begin and extent.end <= one.end for one in dense)
        ]
        apart = sum(one.size for one in dense) + sum(extent.copied for extent in others)
        yield from [whole] if whole.size <= apart else dense


def _overlapping(extents: Iterable[_Extent]) -> Iterator[list[_Extent]]:
    """Put extents of bytes in groups, so that those of different groups do not overlap."""
    group: list[_Extent] = []
    end = 0
    for extent in sorted(extents):
        if group and extent.begin >= end:
            yield group
            group = []
        group.append(extent)
        end = max(end, extent.end)
    if group:
        yield group


def _hull(group: Sequence[_Extent]) -> _Extent:
    """Return the bytes from the first of a group to the last."""
    return _Extent(min(extent.begin for extent in group), max(extent.end for extent in group))
