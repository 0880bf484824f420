"""Gathers from mapped files: what is asked for, and when."""

from __future__ import annotations

import itertools
import mmap
import os
from pathlib import Path

import numpy as np
import pytest

from batchup import ArrayDataSource, ConcatDataSource
from batchup._arrays import mapped
from batchup._arrays.mapped import ASKED_GATHERS, AskingTake, make_take

from .chunked import Chunked

pytestmark = pytest.mark.skipif(not hasattr(mmap, 'MADV_WILLNEED'), reason='this system takes no advice')

PAGE = mmap.PAGESIZE
ROW_BYTES = PAGE // 2 + 8


class RecordingMap(mmap.mmap):
    """A mapping that keeps what is asked of it."""

    asked: list[tuple[int, ...]]

    def madvise(self, option: int, *part: int) -> None:
        assert option == mmap.MADV_WILLNEED
        self.asked.append(part)
        super().madvise(option, *part)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / 'rows'
    path.write_bytes(np.random.RandomState(0).bytes(1000 * ROW_BYTES + 24))
    return path


@pytest.fixture
def take(file: Path) -> AskingTake:
    """Takes rows that begin 24 bytes after the start of the file."""
    with file.open('rb') as opened:
        mapping = RecordingMap(opened.fileno(), 0, access=mmap.ACCESS_READ)
    mapping.asked = []
    return AskingTake(np.frombuffer(mapping, np.uint8, offset=24).reshape(1000, ROW_BYTES), mapping)


def waits(monkeypatch: pytest.MonkeyPatch, each: int) -> None:
    """Let every row that is read first wait for the disk so often."""
    count = itertools.count(step=each)
    monkeypatch.setattr(mapped, '_waits', lambda: next(count))


def test_what_is_asked_for_are_the_pages_of_the_rows(take, monkeypatch):
    waits(monkeypatch, 1)
    indices = np.array([-1, 500, 3, 7, 500])
    take(indices, 0, None, 'wrap')
    starts = 24 + indices % 1000 * ROW_BYTES
    expected = {page for start in starts for page in range(start // PAGE, (start + ROW_BYTES - 1) // PAGE + 1)}
    asked = {page for start, size in take._mapping.asked for page in range(start // PAGE, (start + size) // PAGE)}
    assert asked == expected


def test_rows_that_touch_are_asked_for_at_once(take, monkeypatch):
    waits(monkeypatch, 1)
    take(np.random.RandomState(0).permutation(100), 0, None, 'wrap')
    assert len(take._mapping.asked) == 1


def test_rows_are_the_same_as_those_of_take(file, monkeypatch):
    waits(monkeypatch, 1)
    plain, rows = np.fromfile(file, np.uint8), np.memmap(file, np.uint8, 'r')
    source = ArrayDataSource([rows[24:].reshape(1000, -1)])
    for indices, (batch,) in zip(source.batch_indices_iterator(64, shuffle=1), source.batch_iterator(64, shuffle=1)):
        assert np.array_equal(batch, plain[24:].reshape(1000, -1)[indices])


def test_rows_in_memory_are_not_asked_for(take):
    for _ in range(10):
        take(np.arange(5), 0, None, 'wrap')
    assert take._mapping.asked == []


def test_once_all_is_in_memory_nothing_is_asked_for_any_more(take, monkeypatch):
    waits(monkeypatch, 1)
    take(np.arange(5), 0, None, 'wrap')
    waits(monkeypatch, 0)
    for _ in range(ASKED_GATHERS + 10):
        take(np.arange(5), 0, None, 'wrap')
    assert len(take._mapping.asked) == ASKED_GATHERS


def test_views_of_mapped_files_ask_and_arrays_in_memory_do_not(file):
    rows = np.memmap(file, np.uint8, 'r')
    assert isinstance(make_take(np.asarray(rows)[5:].reshape(-1, 1)), AskingTake)
    assert not isinstance(make_take(rows.copy()), AskingTake)


# Files that become shorter, as they are read.

LAYOUTS = {
    'rows': lambda rows: rows,
    'backwards': lambda rows: rows[::-1],
    'parts of rows': lambda rows: rows[:, 100:-100],
    'columns': lambda rows: rows[:, :1000].T,
}


@pytest.fixture
def rows(file: Path) -> np.memmap:
    return np.memmap(file, np.uint8, 'r')[24:].reshape(1000, ROW_BYTES)


@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('shuffle', [None, 3])
def test_a_file_that_has_become_shorter_is_an_error_where_rows_are_missing(file, rows, layout, shuffle):
    array = LAYOUTS[layout](rows)
    source = ArrayDataSource([array])
    size = 500 * ROW_BYTES
    ends = [each.ctypes.data + (len(each) - 1) * each.strides[0] + 1 - rows.ctypes.data + 24 for each in array]
    whole = [max(ends[k] for k in indices) <= size for indices in source.batch_indices_iterator(4, shuffle)]
    os.truncate(file, size)
    stream = source.batch_iterator(4, shuffle)
    for is_whole in whole:
        if is_whole:
            next(stream)
        else:
            with pytest.raises(
                OSError, match=r'rows has become shorter since it was mapped: it has .* and row .* ends'
            ):
                next(stream)
            stream.skip(1)


def test_a_shorter_file_is_an_error_in_a_source_of_several(file, rows):
    others = rows[:50].copy(), Chunked(rows[:50].copy(), 10)
    sources = [ConcatDataSource([ArrayDataSource([rows]), ArrayDataSource([other])]) for other in others]
    os.truncate(file, 500 * ROW_BYTES)
    for source in sources:
        for shuffle in (None, 3):
            with pytest.raises(OSError, match='has become shorter'):
                list(source.batch_iterator(400, shuffle))
