"""Rows of sparse matrices and sparse arrays of SciPy."""

from __future__ import annotations

from typing import Any

from .._ground.indices import Leaf, as_array
from .._ground.sparse import is_sparse
from .by_batch import BatchRows


def check_sparse(number: int, data: Any) -> None:
    """Raise `TypeError` for a sparse matrix whose rows cannot be read well."""
    if not is_sparse(data):
        return
    if len(data.shape) != 2:
        raise TypeError(f'data[{number}] is a sparse array of shape {data.shape}, but sparse rows need two dimensions')
    if data.format not in ('csr', 'csc'):
        raise TypeError(
            f'data[{number}] is a sparse matrix in {data.format.upper()} format, whose rows cannot be read by index; '
            'write x.tocsr()'
        )


class SparseRows(BatchRows):
    """The rows of a sparse matrix or array, as CSR of the same kind.

    A CSC matrix is converted to CSR first, once. That takes about as long as to copy it, and as
    much memory again.
    """

    def __init__(self, array: Any, number: int) -> None:
        super().__init__(array, number)
        self._rows = array.tocsr()

    def read(self, indices: Leaf) -> Any:
        """Copy rows."""
        # Not by a slice for rows in order: its result may share memory with the matrix.
        return self._rows[as_array(indices)]
