"""Sparse matrices and arrays of SciPy, which is recognised once the user has imported it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any


def is_sparse(array: Any) -> bool:
    """Say whether something is a sparse matrix or array of SciPy, in any format."""
    module = sys.modules.get('scipy.sparse')
    return module is not None and bool(module.issparse(array))


def stack(parts: Sequence[Any]) -> Any:
    """Put sparse matrices, or sparse arrays, one below the other; the result is CSR."""
    return sys.modules['scipy.sparse'].vstack(parts, format='csr')


def dense(array: Any) -> Any:
    """Return a sparse matrix as an array of NumPy, which has room for all elements; anything else as it is."""
    return array.toarray() if is_sparse(array) else array
