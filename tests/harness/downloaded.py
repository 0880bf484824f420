"""A file that tests download, well or not."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from batchup import config
from batchup.errors import DatasetError, DownloadError

from .homes import files_in

DATA = np.random.default_rng(1).bytes(300_000)
SHA256 = hashlib.sha256(DATA).hexdigest()
MD5 = hashlib.md5(DATA).hexdigest()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """Where to put the file, in a folder that is not there yet."""
    return tmp_path / 'new' / 'file.bin'


def verified(target: Path, url: str | Sequence[str], sha256: str | None = SHA256, **options: Any) -> bytes:
    """Download in little time; return the file."""
    path = config.download_and_verify(target, url, sha256, **{'timeout': 2.0, 'backoff': 0.01, **options})
    assert path == str(target)
    assert files_in(target.parent) == [target.name]
    return target.read_bytes()


def refused(
    target: Path,
    url: str | Sequence[str],
    error: type[DatasetError] = DownloadError,
    sha256: str | None = SHA256,
    **options: Any,
) -> str:
    """Fail to download in little time; return the message."""
    with pytest.raises(error) as caught:
        config.download_and_verify(target, url, sha256, **{'timeout': 2.0, 'backoff': 0.01, 'attempts': 2, **options})
    message = str(caught.value)
    assert f'place the file by hand at {target}' in message
    assert sha256 is None or sha256 in message
    return message
