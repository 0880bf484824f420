"""Arrays in files, which open themselves in every process that reads them."""

from __future__ import annotations

from ._arrays.parquet import ParquetArray

__all__ = ['ParquetArray']
