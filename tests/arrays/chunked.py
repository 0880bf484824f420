"""An array-like in chunks that counts how often they are read, and fails when it is told to."""

import numpy as np


class Chunked:
    def __init__(self, array, chunk_rows):
        self.array, self.chunks = array, chunk_rows
        self.shape, self.dtype = array.shape, array.dtype
        self.reads, self.broken = [], set()

    def __len__(self):
        return len(self.array)

    def __getitem__(self, rows):
        chunk = rows.start // self.chunks
        self.reads.append(chunk)
        if chunk in self.broken:
            raise OSError(f'chunk {chunk} is broken')
        return self.array[rows]


def numbers(count, chunk_rows, width=16):
    """Return rows that say where they are, in chunks."""
    return Chunked(np.arange(count * width, dtype=np.int32).reshape(count, width), chunk_rows)
