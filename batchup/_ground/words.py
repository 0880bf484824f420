"""What things say of themselves: the words of their `repr`, which never reads data."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

# So many parts of a thing are named at most; of the others it is only said that they are there.
MOST_PARTS = 6


class Worded:
    """Base of what has a `repr` such as `StandardSampler(1238 samples)`.

    Subclasses implement `_words`. Those that do not, and what is not whole yet, have that of any object.
    """

    def _words(self) -> str:
        """Say what this is, for the brackets."""
        raise NotImplementedError

    def __repr__(self) -> str:
        try:
            return f'{type(self).__name__}({self._words()})'
        except Exception:  # a debugger may look at any time
            return object.__repr__(self)


def counted(number: Any, noun: str, nouns: str | None = None) -> str:
    """Return a number with its noun, and that in the plural unless it takes an s.

    >>> counted(1, 'sample'), counted(1238, 'sample'), counted(2, 'batch', 'batches')
    ('1 sample', '1238 samples', '2 batches')
    """
    return f'{number} {noun if number == 1 else nouns or noun + "s"}'


def times(repeats: int) -> str:
    """Say how often something is gone through, to be appended; nothing for once.

    >>> times(1), times(3), times(-1)
    ('', ', 3 times', ', endless')
    """
    return '' if repeats == 1 else ', endless' if repeats == -1 else f', {repeats} times'


def samples(number: int | float | None) -> str:
    """Say how many samples there are, to be appended; nothing if that is not known.

    >>> samples(11), samples(math.inf), samples(None)
    (', 11 samples', ', endless', '')
    """
    return '' if number is None else ', endless' if number == math.inf else f', {counted(number, "sample")}'


def listing(parts: Iterable[Any]) -> str:
    """Name the first few of some parts.

    >>> listing(range(9))
    '0, 1, 2, 3, 4, 5, ...'
    """
    first = [str(part) for part in islice(parts, MOST_PARTS + 1)]
    return ', '.join([*first[:MOST_PARTS], '...'] if len(first) > MOST_PARTS else first)


def kind_of_rows(array: Any) -> str:
    """Return the dtype of an array-like and the shape of its rows; the name of its class, if it has no such.

    >>> import numpy as np
    >>> kind_of_rows(np.zeros((5, 1, 8, 8), np.float32)), kind_of_rows([1, 2])
    ('float32 (1, 8, 8)', 'list')
    """
    try:
        return f'{array.dtype} {tuple(array.shape[1:])}'
    except Exception:  # such as a data set in a closed file
        return type(array).__name__


def place(position: int, length: int | float | None) -> str:
    """Say how far batches have come.

    >>> place(3, 20), place(3, math.inf), place(3, None)
    ('batch 3 of 20', 'batch 3, endless', 'batch 3')
    """
    return f'batch {position}' + ('' if length is None else ', endless' if length == math.inf else f' of {length}')


def order(facts: Mapping[str, Any]) -> str:
    """Say in which order samples come, from the facts of a stream, to be appended.

    >>> order({'shuffle': 'seed 42', 'epoch': 3}), order({})
    (', seed 42, epoch 3', '')
    """
    named = [str(facts['shuffle'])] if 'shuffle' in facts else []
    return ''.join(f', {part}' for part in named + ([f'epoch {facts["epoch"]}'] if 'epoch' in facts else []))
