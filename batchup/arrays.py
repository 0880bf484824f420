"""Arrays in storage that open their files themselves, and memory for arrays of batches."""

from __future__ import annotations

from ._arrays.h5_files import H5Array
from ._arrays.parquet import ParquetArray
from ._ground.allocation import empty

__all__ = ['H5Array', 'ParquetArray', 'empty']
