"""Columns of Arrow tables as NumPy arrays: the types of the columns determine dtype and shape."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray


class NullsError(ValueError):
    """Values are missing, and the dtype has nothing to stand for them.

    Attributes
    ----------
    column : str
        The name of the column, if it is known.
    rows : array of shape (n,)
        The numbers of the rows, from 0 on.
    """

    def __init__(self, column: str, rows: NDArray[np.intp]) -> None:
        super().__init__(column, rows)
        self.column = column
        self.rows = rows


def numpy_type(arrow_type: Any) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """Return the dtype and the shape of a value of a column.

    Parameters
    ----------
    arrow_type : pyarrow.DataType
        Numbers, bools, dates and times have dtypes of their own. Strings and bytes are objects, and so are decimals
        and times of day. The values of fixed-size lists are arrays.

    Raises
    ------
    TypeError
        If the type has no equal in NumPy: lists of different lengths, structs and the like.
    """
    types = sys.modules['pyarrow'].types
    if types.is_fixed_size_list(arrow_type):
        dtype, shape = numpy_type(arrow_type.value_type)
        return dtype, (arrow_type.list_size, *shape)
    if types.is_dictionary(arrow_type):
        return numpy_type(arrow_type.value_type)
    if types.is_integer(arrow_type) or types.is_floating(arrow_type) or types.is_boolean(arrow_type):
        return np.dtype(arrow_type.to_pandas_dtype()), ()
    if types.is_timestamp(arrow_type) or types.is_duration(arrow_type):
        return np.dtype(f'{"M" if types.is_timestamp(arrow_type) else "m"}8[{arrow_type.unit}]'), ()
    if types.is_date(arrow_type):
        return np.dtype('M8[D]' if types.is_date32(arrow_type) else 'M8[ms]'), ()
    if types.is_nested(arrow_type) or types.is_null(arrow_type) or types.is_interval(arrow_type):
        raise TypeError(f'has type {arrow_type}, which is no NumPy dtype')
    return np.dtype(object), ()


def numpy_values(array: Any, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return the values of n rows of a column.

    Parameters
    ----------
    array : pyarrow.Array
        n values.
    dtype : numpy.dtype
        That of `numpy_type`.

    Returns
    -------
    array of shape (n, ...)
        Where values are missing: NaN, NaT, or in arrays of objects `None`. May be read-only.

    Raises
    ------
    NullsError
        If integers, bools or lists are missing.
    """
    types = sys.modules['pyarrow'].types
    shape: tuple[int, ...] = (len(array),)
    while types.is_fixed_size_list(array.type):
        _refuse_nulls(array, shape)
        shape = (*shape, array.type.list_size)
        array = array.flatten()
    if dtype.kind in 'iub':
        _refuse_nulls(array, shape)
    if types.is_dictionary(array.type):
        array = array.dictionary_decode()
    values: NDArray[Any] = array.to_numpy(zero_copy_only=False)
    return values.astype(dtype, copy=False).reshape(shape)


def _refuse_nulls(array: Any, shape: tuple[int, ...]) -> None:
    """Raise `NullsError` if some values of an array, which is to have a shape, are missing."""
    if array.null_count:
        places = np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False))
        raise NullsError('', np.unique(np.unravel_index(places, shape)[0]))


class Columns:
    """How columns of tables become the rows of one array.

    Parameters
    ----------
    columns : str or sequence of str
        One name, for the values of that column; or several. Columns of one dtype are put side by side; others
        become the fields of a structured array.
    schema : pyarrow.Schema
        The types of the columns.

    Attributes
    ----------
    names : tuple of str
        The names of the columns.
    dtype : numpy.dtype
        The dtype of the array.
    row_shape : tuple of int
        The shape of a row.

    Raises
    ------
    KeyError
        If there is no such column.
    TypeError
        If a column has no dtype in NumPy.
    """

    def __init__(self, columns: str | Sequence[str], schema: Any) -> None:
        self.names = (columns,) if isinstance(columns, str) else tuple(columns)
        types = [self._type(name, schema) for name in self.names]
        self._dtypes = [dtype for dtype, _ in types]
        self._side_by_side = not isinstance(columns, str) and all(found == types[0] for found in types)
        self.dtype, self.row_shape = types[0]
        if self._side_by_side:
            self.row_shape = (len(types), *self.row_shape)
        elif not isinstance(columns, str):
            fields = [(name, dtype, shape) for name, (dtype, shape) in zip(self.names, types)]
            self.dtype, self.row_shape = np.dtype(fields), ()

    def _type(self, name: str, schema: Any) -> tuple[np.dtype[Any], tuple[int, ...]]:
        if schema.names.count(name) != 1:
            count = schema.names.count(name)
            found = f'there are {count} columns' if count else 'there is no column'
            raise KeyError(f'{found} {name!r}; the columns are {", ".join(map(repr, schema.names))}')
        try:
            return numpy_type(schema.field(name).type)
        except TypeError as error:
            raise TypeError(f'column {name!r} {error}; choose others by columns=[...]') from None

    def fill(self, first: int, table: Any, output: NDArray[Any]) -> None:
        """Copy some of the columns, those from number `first` on, to rows.

        Parameters
        ----------
        first : int
            The number of the first one.
        table : pyarrow.Table of n rows
            The columns, in this order.
        output : array of shape (n, ...)
            Where they go.

        Raises
        ------
        NullsError
            If values are missing.
        """
        start = 0
        for batch in table.to_batches():
            try:
                self._fill(first, batch, output[start : start + len(batch)])
            except NullsError as error:
                raise NullsError(error.column, error.rows + start) from None
            start += len(batch)

    def _fill(self, first: int, batch: Any, output: NDArray[Any]) -> None:
        """Copy the columns of a record batch, those from number `first` on."""
        if self._side_by_side:
            columns = self._by_column(first, batch)
            output[:, first : first + len(columns)] = columns.swapaxes(0, 1)
            return
        for k, (name, column) in enumerate(zip(batch.schema.names, batch.columns)):
            target = output if self.dtype.names is None else output[name]
            target[:] = self._values(first + k, column)

    def _by_column(self, first: int, batch: Any) -> NDArray[Any]:
        """Return the values of columns of one dtype, from number `first` on, in an array of (columns, rows, ...).

        To fill rows from memory that lies column by column is faster than to go through all rows for every column.
        """
        if self.dtype.kind in 'iuf' and len(self.row_shape) == 1 and hasattr(batch, 'to_tensor'):
            with suppress(sys.modules['pyarrow'].ArrowException):  # it cannot do missing values, nor dictionaries
                values: NDArray[Any] = batch.to_tensor(row_major=False).to_numpy().T
                return values
        values = np.empty((batch.num_columns, len(batch), *self.row_shape[1:]), self.dtype)
        for k, column in enumerate(batch.columns):
            values[k] = self._values(first + k, column)
        return values

    def _values(self, k: int, array: Any) -> NDArray[Any]:
        """Return the values of an array of column number `k`."""
        try:
            return numpy_values(array, self._dtypes[k])
        except NullsError as error:
            raise NullsError(self.names[k], error.rows) from None
