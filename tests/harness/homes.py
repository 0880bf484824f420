"""A home folder of its own, and small or read-only file systems, for tests of files."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from batchup._files.downloads import Patience

from .servers import Server, serving

ROOT = Path(__file__).parents[2]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder that only this test has; downloads there give up soon, and use no proxy."""
    folder = tmp_path / 'home'
    folder.mkdir()
    monkeypatch.setenv('HOME', str(folder))
    monkeypatch.delenv('BATCHUP_HOME', raising=False)
    monkeypatch.setenv('no_proxy', '*')
    monkeypatch.setattr('batchup.datasets.dataset.PATIENCE', Patience(timeout=2.0, attempts=2, backoff=0.01))
    return folder


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as script:
        yield script


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Mount a file system of so many kB."""
    folders: list[Path] = []

    def mount(kilobytes: int = 1024, name: str = 'small') -> Path:
        folder = tmp_path / name
        folder.mkdir()
        run_or_skip('mount', '-t', 'tmpfs', '-o', f'size={kilobytes}k', 'tmpfs', str(folder))
        folders.append(folder)
        return folder

    yield mount
    for folder in folders:
        subprocess.run(['umount', '-l', str(folder)], check=True)


def make_read_only(folder: Path) -> None:
    """Have nobody write there: permissions would not hinder the administrator."""
    run_or_skip('mount', '-o', 'remount,ro', str(folder))


def run_or_skip(*command: str) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f'file systems cannot be mounted here: {error}')


def files_in(folder: Path) -> list[str]:
    """Return the names of the files below a folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob('*') if not path.is_dir())


def start_script(code: str, *arguments: Any) -> subprocess.Popen[str]:
    """Run code in a process of its own, with the test's environment."""
    return subprocess.Popen(
        [sys.executable, '-c', textwrap.dedent(code), *map(str, arguments)],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def finish(process: subprocess.Popen[str], seconds: float = 60.0) -> str:
    """Wait for a process that should go well; return what it prints."""
    try:
        output, errors = process.communicate(timeout=seconds)
    finally:
        process.kill()
    assert process.returncode == 0, errors
    return output.strip()
