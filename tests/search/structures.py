"""What a batch may be made of, and whether two batches are the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

# Arrays of these kinds have no values that differ from themselves, and no padding between fields.
BITWISE = 'biufcSU'


class Pair(NamedTuple):
    """A tuple with names, as mapped functions may return them."""

    first: Any
    others: Any


def leaves(batch: Any) -> Iterator[Any]:
    """Go through the arrays of a batch, in whatever structure they are."""
    if isinstance(batch, dict):
        batch = tuple(batch.values())
    if isinstance(batch, (tuple, list)):
        for part in batch:
            yield from leaves(part)
    else:
        yield batch


def each(function: Callable[[Any], Any], batch: Any) -> Any:
    """Apply a function to every array of a batch, and keep the structure."""
    if isinstance(batch, dict):
        return {name: each(function, part) for name, part in batch.items()}
    if isinstance(batch, (tuple, list)):
        parts = [each(function, part) for part in batch]
        return type(batch)(*parts) if hasattr(batch, '_fields') else type(batch)(parts)
    return function(batch)


def length_of(batch: Any) -> int:
    """Return the number of rows of the shortest array of a batch."""
    return min(map(len, leaves(batch)))


def is_even(batch: Any) -> bool:
    """Say whether all arrays of a batch are equally long."""
    return len({len(leaf) for leaf in leaves(batch)}) <= 1


def head(batch: Any, length: int) -> Any:
    """Cut every array of a batch to so many rows."""
    return each(lambda leaf: leaf[:length], batch)


def rows(batch: Any, index: Any) -> Any:
    """Choose rows of every array of a batch by an array of positions; the results are new."""
    return each(lambda leaf: (leaf.iloc if hasattr(leaf, 'iloc') else leaf)[np.array(index, np.intp)], batch)


def row_values(batch: Any) -> Any:
    """Return a number for every row of a batch."""
    for leaf in leaves(batch):
        if isinstance(leaf, np.ndarray) and leaf.dtype.kind in 'iuf' and type(leaf) is np.ndarray and leaf.size:
            return np.nan_to_num(leaf.reshape(len(leaf), -1)[:, 0].astype(np.float64))
    return np.ones(length_of(batch))


def snapshot(batch: Any) -> Any:
    """Copy a batch."""
    return each(lambda leaf: leaf.clone() if hasattr(leaf, 'clone') else leaf.copy(), batch)


def assert_same(actual: Any, expected: Any, where: str = 'batch') -> None:
    """Assert that two batches have the same structure, kinds of arrays, dtypes and bits."""
    assert type(actual) is type(expected), f'another kind: {where} is {kind_of(actual)}, not {kind_of(expected)}'
    if isinstance(expected, dict):
        assert list(actual) == list(expected), f'other keys: {where} has {list(actual)}, not {list(expected)}'
        for name in expected:
            assert_same(actual[name], expected[name], f'{where}[{name!r}]')
    elif isinstance(expected, (tuple, list)):
        assert len(actual) == len(expected), f'other parts: {where} has {len(actual)}, not {len(expected)}'
        for number, (part, other) in enumerate(zip(actual, expected)):
            assert_same(part, other, f'{where}[{number}]')
    elif isinstance(expected, np.ndarray):
        assert_same_array(actual, expected, where)
    else:
        assert_same_table(actual, expected, where)


def kind_of(part: Any) -> str:
    return f'{type(part).__module__}.{type(part).__name__}'


def assert_same_array(actual: Any, expected: Any, where: str) -> None:
    assert actual.dtype == expected.dtype, f'another dtype: {where} is {actual.dtype!r}, not {expected.dtype!r}'
    assert actual.shape == expected.shape, f'another shape: {where} is {actual.shape}, not {expected.shape}'
    if isinstance(expected, np.ma.MaskedArray):
        mask, other = np.ma.getmaskarray(actual), np.ma.getmaskarray(expected)
        assert np.array_equal(mask, other), f'another mask: {where} has {mask}, not {other}'
        actual, expected = actual.filled(), expected.filled()
    if expected.dtype.kind in BITWISE:
        same = actual.tobytes() == expected.tobytes()
    else:
        same = np.array_equal(actual, expected)
    assert same, f'other values: {where} is {actual!r:.200}, not {expected!r:.200}'


def assert_same_table(actual: Any, expected: Any, where: str) -> None:
    """Compare what is no array of NumPy: of pandas, or of torch."""
    if hasattr(expected, 'equals'):
        assert actual.equals(expected), f'other values: {where} is {actual!r:.200}, not {expected!r:.200}'
        assert actual.index.equals(expected.index), f'another index: {where}'
        return
    assert hasattr(expected, 'tolist'), f'{where} is {kind_of(expected)}'
    assert actual.dtype == expected.dtype, f'another dtype: {where} is {actual.dtype}, not {expected.dtype}'
    assert actual.tolist() == expected.tolist(), f'other values: {where} is {actual!r:.200}, not {expected!r:.200}'


def assert_writable(batch: Any) -> None:
    """Assert that the user may write into every array."""
    for leaf in leaves(batch):
        assert not isinstance(leaf, np.ndarray) or leaf.flags.writeable, f'read-only: an array of {leaf.dtype}'


def spoil(batch: Any) -> None:
    """Write into every array of a batch."""
    for leaf in leaves(batch):
        if isinstance(leaf, np.ndarray):
            leaf[...] = np.zeros((), leaf.dtype)
        elif hasattr(leaf, 'zero_'):
            leaf.zero_()
        elif hasattr(leaf, 'iloc'):
            leaf.iloc[:] = leaf.iloc[[0] * len(leaf)].to_numpy()
