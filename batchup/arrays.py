"""Arrays in storage that open their files themselves."""

from __future__ import annotations

from ._arrays.h5_files import H5Array
from ._arrays.parquet import ParquetArray

__all__ = ['H5Array', 'ParquetArray']
