"""Rows in any order arrive in storage, and whole chunks of them are written once."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from batchup._streams.gatherer import Chunked, Gatherer


class Chunks(Chunked):
    """Rows in memory, and how often each was written."""

    def __init__(self, n_rows, chunk_rows, known):
        self.chunk_rows = chunk_rows
        self.n_rows = n_rows if known else math.inf
        self.rows = np.full((n_rows, 2), -1)
        self.counts = np.zeros(n_rows, int)

    def read(self, start, stop):
        assert 0 <= start < stop <= len(self.rows)
        return self.rows[start:stop].copy()

    def write(self, start, values):
        assert start + len(values) <= len(self.rows)
        self.rows[start : start + len(values)] = values
        self.counts[start : start + len(values)] += 1


@given(st.data(), st.integers(1, 60), st.integers(1, 20), st.integers(0, 600), st.booleans())
def test_every_row_arrives(data, n_rows, chunk_rows, waiting, known):
    order = np.array(data.draw(st.permutations(range(n_rows))))
    chunks = Chunks(n_rows, chunk_rows, known)
    gatherer = Gatherer(chunks, (2,), chunks.rows.dtype)
    gatherer._most, gatherer._least, gatherer._due = max(2 * chunk_rows, waiting), chunk_rows, chunk_rows
    edges = sorted(data.draw(st.sets(st.integers(1, n_rows))) | {n_rows})
    for start, stop in zip([0, *edges], edges):
        gatherer.add(order[start:stop], np.stack([order[start:stop]] * 2, axis=1))
        assert gatherer._count <= gatherer._most
    gatherer.flush()
    np.testing.assert_array_equal(chunks.rows, np.stack([np.arange(n_rows)] * 2, axis=1))
    if waiting >= 2 * n_rows and known:
        assert chunks.counts.tolist() == [1] * n_rows


def test_rows_are_copied():
    chunks, buffer = Chunks(4, 2, True), np.zeros((1, 2), int)
    gatherer = Gatherer(chunks, (2,), chunks.rows.dtype)
    for place in range(4):
        buffer[:] = place
        gatherer.add(range(place, place + 1), buffer)
    gatherer.flush()
    assert chunks.rows[:, 0].tolist() == [0, 1, 2, 3]
