"""A data set that is a copy of its file, for tests of fetching."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from batchup.datasets.dataset import FetchedDataset, SourceFile

DATA = np.random.default_rng(1).bytes(100_000)
SHA256 = hashlib.sha256(DATA).hexdigest()
OTHER = '0' * 64


class Counted(FetchedDataset):
    """With what every conversion was given."""

    calls: list[list[str]]


def dataset(
    *source_files: SourceFile, convert: Callable[..., Any] = shutil.copyfile, target: str = 'copy.bin', **options: Any
) -> Counted:
    """Make a function that fetches a copy of a file."""

    def fetch(source_paths: list[str], target_path: str) -> None:
        fetched.calls.append(source_paths)
        convert(*source_paths, target_path)

    fetched = Counted(fetch, source_files, target, **options)
    fetched.calls = []
    return fetched


@pytest.fixture
def data(home: Path) -> Path:
    """The data folder."""
    return home / '.batchup' / 'data'


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / 'source.bin'
    path.write_bytes(DATA)
    return path
