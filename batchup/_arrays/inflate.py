"""Decompressing what zlib and gzip have compressed."""

from __future__ import annotations

import zlib
from functools import cache
from typing import Any


def inflate(data: bytes, nbytes: int) -> bytes:
    """Decompress data that takes `nbytes` bytes then, by isal if it is installed: more than twice as fast as zlib.

    Raises
    ------
    OSError
        If the data is damaged.
    """
    library = _library()
    # With just as much memory as is needed, isal takes more, and gives it back every time.
    room = nbytes if library is zlib else nbytes + 1
    try:
        decompressed: bytes = library.decompress(data, bufsize=room)
    except library.error as error:
        raise OSError(f'compressed data is damaged: {error}') from error
    return decompressed


@cache
def _library() -> Any:
    """Return isal's replacement of zlib, if it is installed, or else zlib."""
    try:
        from isal import isal_zlib  # noqa: PLC0415
    except ImportError:
        return zlib
    return isal_zlib
