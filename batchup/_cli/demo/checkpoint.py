"""Checkpoints of the demo: one .npz file, always whole, with arrays and a JSON text."""

from __future__ import annotations

import glob
import io
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ..commands.base import CommandError

# The name of the array that holds the JSON text.
FACTS = 'facts'


def save_checkpoint(path: str, arrays: Mapping[str, NDArray[Any]], facts: Mapping[str, Any]) -> None:
    """Write a checkpoint, so that the file holds either this one or the one before it.

    Parameters
    ----------
    path : str
        The file.
    arrays : dict of arrays
        The numbers.
    facts : dict
        All other values, of types that JSON can hold.

    Raises
    ------
    CommandError
        If the file cannot be written.
    """
    buffer = io.BytesIO()
    content: dict[str, Any] = {FACTS: np.array(json.dumps(facts)), **arrays}
    np.savez(buffer, **content)
    try:
        # Through a link, to the file that it leads to.
        _write_whole(os.path.realpath(path), buffer.getvalue())
    except OSError as error:
        raise CommandError(f'cannot write the checkpoint {path}: {error.strerror or error}') from None


def _write_whole(path: str, content: bytes) -> None:
    """Write a file under another name, and rename it when all of it is on the disk."""
    unfinished = _unfinished(path, str(os.getpid()))
    try:
        _write(unfinished, content)
        os.replace(unfinished, path)
    except BaseException:
        with suppress(OSError):
            os.remove(unfinished)
        raise


def _write(path: str, content: bytes) -> None:
    """Write a new file. Where the system can do so, it has no name until it is whole: a kill leaves nothing."""
    if hasattr(os, 'O_TMPFILE'):
        with suppress(OSError):  # the file system cannot do so, or the disk is full, which raises again below
            with open(os.open(os.path.dirname(path), os.O_TMPFILE | os.O_WRONLY, 0o666), 'wb') as file:
                _write_out(file, content)
                os.link(f'/proc/self/fd/{file.fileno()}', path, src_dir_fd=file.fileno())
            return
    with open(path, 'wb') as file:
        _write_out(file, content)


def _write_out(file: BinaryIO, content: bytes) -> None:
    file.write(content)
    file.flush()
    os.fsync(file.fileno())


def _unfinished(path: str, process: str) -> str:
    folder, name = os.path.split(path)
    return os.path.join(folder, f'.{name}.{process}.tmp')


def remove_unfinished(path: str) -> None:
    """Delete the unfinished files of runs that were killed while they wrote a checkpoint."""
    for left in glob.glob(_unfinished(glob.escape(os.path.realpath(path)), '*')):
        with suppress(OSError):
            os.remove(left)


def load_checkpoint(path: str) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Read the arrays and the facts of a checkpoint.

    Raises
    ------
    CommandError
        If the file cannot be read.
    """
    try:
        with open(path, 'rb') as raw, np.load(raw, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        return arrays, json.loads(str(arrays.pop(FACTS)))
    except OSError as error:
        raise CommandError(f'cannot read the checkpoint {path}: {error.strerror or error}') from None
    except Exception:  # a damaged file can make NumPy, zipfile and json raise nearly anything
        raise not_a_checkpoint(path) from None


def not_a_checkpoint(path: str) -> CommandError:
    """Make the error for a file that holds something else, or is damaged."""
    return CommandError(f'{path} is not a checkpoint of this demo, or it is damaged; choose another file, or remove it')
