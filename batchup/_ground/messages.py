"""What users are told: warnings, notes on exceptions, and texts that several errors share."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import StateMismatchError

# The types that the facts of a state have.
PLAIN = (str, int, float, np.generic, type(None))


def state_mismatch(saved: Mapping[str, Any], own: Mapping[str, Any]) -> StateMismatchError:
    """Make the error for a state of another stream; it shows every difference, in two lines."""
    lines = ['this state does not fit this stream:']
    for name in [*own, *(name for name in saved if name not in own)]:
        if saved.get(name) != own.get(name):
            lines.append(f'  {name} of the state:  {saved.get(name, "(missing)")}')
            lines.append(f'  {name} of the stream: {own.get(name, "(missing)")}')
    lines.append('Make the stream with the same source and arguments as the one that was saved.')
    return StateMismatchError('\n'.join(lines))


def check_facts(state: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Raise `StateMismatchError` unless a state has all the facts in `own`, with the same values."""
    # Other values, such as arrays, may not even compare.
    saved = {
        name: state[name] if isinstance(state[name], PLAIN) else repr(state[name]) for name in own if name in state
    }
    if any(saved.get(name) != value for name, value in own.items()):
        raise state_mismatch(saved, own)


def installed_by(extra: str) -> str:
    """Say how to install what an extra needs; by the name of batchup alone, pip would find another package."""
    return f"pip install '.[{extra}]' in a copy of batchup's repository"


def warn_user(message: str) -> None:
    """Warn at the line outside the package from which the user came."""
    package = __name__.partition('.')[0]
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_globals.get('__name__', '').partition('.')[0] == package:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, stacklevel=level)


def add_note(error: BaseException, note: str) -> None:
    """Add a line below the message of an exception, on Python 3.10 too, unless it takes none.

    Python 3.10 keeps the note without showing it. An exception of a frozen dataclass, for
    example, refuses notes: it arrives without one.
    """
    with contextlib.suppress(Exception):
        if hasattr(error, 'add_note'):
            error.add_note(note)
        else:
            vars(error).setdefault('__notes__', []).append(note)
