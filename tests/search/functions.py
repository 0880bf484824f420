"""Functions to map over batches of any structure.

They pickle, so worker processes can have them. What makes a batch of the model calls the same
functions, without `rng`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .structures import Pair, leaves, length_of, rows

# What functions return views of; it must stay as it is.
TABLE = np.arange(4000.0).reshape(1000, 4)


class Function:
    """A function to map.

    Attributes
    ----------
    row_wise : bool
        Whether each row of the results is made of the same row of the batch alone.
    same_length : bool
        Whether results have as many rows as the batch.
    flat : bool
        Whether a flat tuple becomes a flat tuple.
    keeps : bool
        Whether arrays are kept from call to call.
    """

    row_wise = True
    same_length = True
    flat = True
    keeps = True

    def __repr__(self) -> str:
        return type(self).__name__


class Keep(Function):
    def __call__(self, *batch: Any) -> Any:
        return batch


class Twice(Function):
    """Appends an array of another byte order."""

    def __call__(self, *batch: Any) -> Any:
        return (*batch, np.full(length_of(batch), 3, '>f4'))


class Tabled(Function):
    """Appends a view of a table that the function keeps."""

    row_wise = False

    def __call__(self, *batch: Any) -> Any:
        return (*batch, TABLE[: length_of(batch)])


class ReadOnly(Function):
    """Appends arrays that cannot be written into."""

    def __call__(self, *batch: Any) -> Any:
        fixed = np.zeros(length_of(batch), 'i2')
        fixed.flags.writeable = False
        return (*batch, np.broadcast_to(np.float64(2), (length_of(batch), 2)), fixed)


class Backwards(Function):
    """Puts rows in the opposite order; arrays become views of what they were."""

    row_wise = False

    def __call__(self, *batch: Any) -> Any:
        if all(isinstance(part, np.ndarray) for part in batch):
            return tuple(part[::-1] for part in batch)
        return rows(batch, np.arange(length_of(batch))[::-1])


class InPlace(Function):
    """Puts rows in the opposite order in the batch itself."""

    row_wise = False

    def __call__(self, *batch: Any) -> Any:
        if not all(isinstance(part, np.ndarray) for part in leaves(batch)):
            return rows(batch, np.arange(length_of(batch))[::-1])
        for part in leaves(batch):
            part[...] = part[::-1].copy()
        return batch


class Counted(Function):
    """Appends the number of rows, for each of them."""

    row_wise = False

    def __call__(self, *batch: Any) -> Any:
        n = length_of(batch)
        return (*batch, np.full(n, n))


class Named(Function):
    """Returns a dict in a tuple."""

    flat = False

    def __call__(self, *batch: Any) -> Any:
        return ({'first': batch[0], 'others': batch[1:]},)


class Listed(Function):
    """Returns lists in a tuple."""

    flat = False

    def __call__(self, *batch: Any) -> Any:
        return [batch[0]], list(batch)[::-1]


class Paired(Function):
    """Returns a named tuple, which holds another tuple."""

    flat = False

    def __call__(self, *batch: Any) -> Any:
        return Pair(batch[0], batch)


class Deep(Function):
    """Returns one array far down."""

    flat = False

    def __call__(self, *batch: Any) -> Any:
        return ({'a': [(batch[0],)]}, (batch, ()))


class Repeated(Function):
    """Returns every row twice."""

    row_wise = False
    same_length = False

    def __call__(self, *batch: Any) -> Any:
        return rows(batch, np.repeat(np.arange(length_of(batch)), 2))


class Thinned(Function):
    """Leaves out every third row."""

    row_wise = False
    same_length = False

    def __call__(self, *batch: Any) -> Any:
        return rows(batch, np.flatnonzero(np.arange(length_of(batch)) % 3 != 1))


class Keeper(Function):
    """Keeps the arrays that it was given and has made, and appends whether any has changed since."""

    def __init__(self) -> None:
        self.kept: list[tuple[Any, Any]] = []

    def __getstate__(self) -> dict[str, Any]:
        return {'kept': []}

    def __call__(self, *batch: Any) -> Any:
        changed = self.keeps and any(not np.array_equal(array, copy) for array, copy in self.kept)
        first = next((part for part in leaves(batch) if type(part) is np.ndarray and part.dtype.kind in 'iu'), None)
        made = np.full(length_of(batch), int(changed))
        self.kept = [*self.kept[-4:], (made, made.copy()), *([] if first is None else [(first, first.copy())])]
        return (*batch, made)


class Noise(Function):
    """Appends random numbers; with `scale=0`, zeros in their place."""

    row_wise = False

    def __init__(self, scale: int = 0) -> None:
        self.scale = scale

    def __call__(self, *batch: Any, rng: Any = None) -> Any:
        n = length_of(batch)
        return (*batch, np.zeros(n, int) if rng is None else self.scale * rng.integers(1, 2**40, n))


class Mixed(Noise):
    """Mixes the rows; with `scale=0`, leaves them in order."""

    def __call__(self, *batch: Any, rng: Any = None) -> Any:
        order = np.arange(length_of(batch))
        return rows(batch, rng.permutation(order) if rng is not None and self.scale else order)


class Uneven(Function):
    """Returns arrays of different lengths."""

    row_wise = False
    same_length = False

    def __call__(self, *batch: Any) -> Any:
        return (rows(batch[0], np.arange(0, length_of(batch), 2)), batch)


class FailsAt(Function):
    """Fails at batches that begin like a certain one: always, or once."""

    def __init__(self, mark: str, once: bool) -> None:
        self.mark = mark
        self.left = 1 if once else 10**9

    def __call__(self, *batch: Any) -> Any:
        if self.left and mark_of(batch) == self.mark:
            self.left -= 1
            raise OSError('disk gone')
        return batch


def mark_of(batch: Any) -> str:
    """Return what a batch is known by."""
    return repr([np.asarray(part).tolist() for part in leaves(batch)])


ROW_WISE: list[type[Function]] = [Keep, Twice, ReadOnly, Keeper]
SAME_LENGTH: list[type[Function]] = [*ROW_WISE, Tabled, Backwards, InPlace, Counted, Named, Listed, Paired, Deep]
RANDOM: list[type[Noise]] = [Noise, Mixed]
CHANGING: list[type[Function]] = [Repeated, Thinned]
