"""Rows 29 to 33: pools of workers epoch by epoch, from the first one on.

Run by `workers.py`. Each figure is the time of an epoch, as a ratio to a plain loop in the
caller that does the same work and is warm: it runs before each epoch. The making of the pool,
or of torch's DataLoader, counts in epoch 1. Every contender runs in a fresh process, several
times; a figure is the best of these runs. `serial` is the source without a pool; its epochs
are what those of pools may take 1.25 of, the first one included.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from batchup import empty
from batchup.data_source import ArrayDataSource
from batchup.work_pool import WorkerProcessPool, WorkerThreadPool

WORKERS = 2
BATCH_SIZE = 64
BUFFER = 20
EPOCHS = 6
RUNS = 3
# What an epoch of a pool may take of the same epoch of the serial stream.
MOST_OF_SERIAL = 1.25

Batch = tuple[Any, ...]


# The work.


class Own:
    """A user's array: `__getitem__` returns a new array."""

    def __init__(self, images: np.ndarray) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, indices: Any) -> np.ndarray:
        return self.images[indices]


class OwnTake(Own):
    """A user's array that writes where it is told to."""

    @property
    def shape(self) -> tuple[int, ...]:
        return self.images.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.images.dtype

    def take(self, indices: Any, axis: int = 0, out: np.ndarray | None = None) -> np.ndarray:
        return self.images.take(indices, axis, out, 'clip')


class Inflated:
    """Samples that are decompressed one by one, and stacked."""

    def __init__(self, samples: list[bytes], shape: tuple[int, ...]) -> None:
        self.samples = samples
        self.row_shape = shape

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, indices: Any) -> np.ndarray:
        return np.stack([self._row(k) for k in indices])

    def _row(self, k: int) -> np.ndarray:
        return np.frombuffer(zlib.decompress(self.samples[k]), np.uint8).reshape(self.row_shape)


def make_inflated(n: int = 1280, shape: tuple[int, ...] = (3, 224, 224)) -> Inflated:
    rng = np.random.RandomState(8)
    some = [zlib.compress(rng.randint(0, 16, shape, np.uint8).tobytes()) for _ in range(n // 8)]
    return Inflated([bytes(bytearray(some[k % len(some)])) for k in range(n)], shape)


CROP = 112


def _augment(images: np.ndarray, rng: np.random.Generator, output: np.ndarray) -> tuple[np.ndarray]:
    tops, lefts = rng.integers(0, images.shape[-1] - CROP + 1, (2, len(images)))
    flips = rng.integers(0, 2, len(images)) * 2 - 1
    for k, (top, left, flip) in enumerate(zip(tops, lefts, flips)):
        np.multiply(images[k, :, top : top + CROP, left : left + CROP][..., ::flip], np.float32(1 / 255), out=output[k])
    return (output,)


def augment(images: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray]:
    """Crop, flip, and convert to float32."""
    return _augment(images, rng, np.empty((len(images), 3, CROP, CROP), np.float32))


def augment_empty(images: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray]:
    """Do as `augment`, into memory that travels for free."""
    return _augment(images, rng, empty((len(images), 3, CROP, CROP), np.float32))


WORDS = [''.join(chr(97 + (k * p) % 26) for p in (1, 3, 7, 11, 17)[: 2 + k % 4]) for k in range(5000)]
VOCABULARY = {word: k + 1 for k, word in enumerate(WORDS)}
TOKENS = 64


def to_ids(texts: np.ndarray) -> tuple[np.ndarray]:
    """Look up words in pure Python, and pad."""
    rows = []
    for text in texts:
        ids = []
        for word in text.split():
            cleaned = ''.join(letter for letter in word.lower() if letter.isalpha())
            ids.append(VOCABULARY.get(cleaned, 0))
        rows.append((ids + [0] * TOKENS)[:TOKENS])
    return (np.array(rows, np.int32),)


def make_texts(n: int = 2048) -> np.ndarray:
    rng = np.random.RandomState(9)
    return np.array([' '.join(WORDS[k] for k in rng.randint(0, len(WORDS), rng.randint(20, 60))) for _ in range(n)])


class Work(NamedTuple):
    """What is read, and the function that is mapped over it."""

    array: Any
    fn: Callable[..., Any] | None = None
    rng: bool = False

    def source(self) -> Any:
        source = ArrayDataSource([self.array])
        return source if self.fn is None else source.map(self.fn, rng=self.rng)

    def batch(self, indices: Any, rng: np.random.Generator) -> Batch:
        """Make a batch in the plainest way."""
        read = (self.array[indices],)
        if self.fn is None:
            return read
        return self.fn(*read, rng=rng) if self.rng else self.fn(*read)


def augmented(fn: Callable[..., Any], folder: str) -> Work:
    return Work(np.random.RandomState(10).randint(0, 256, (2048, 3, 128, 128), np.uint8), fn, rng=True)


def mapped(kind: Callable[[np.ndarray], Any], folder: str) -> Work:
    return Work(kind(np.load(Path(folder) / 'images.npy', mmap_mode='r')))


class Case(NamedTuple):
    """A line of the table: what is done, with which targets.

    The targets are the best epoch of processes, their six epochs together, and the best epoch of threads.
    """

    what: str
    make: Callable[[str], Work]
    best: float
    six: float
    threads: float | None


CASES: dict[str, list[Case]] = {
    '29': [Case('mapped .npy, 38 MB batches', partial(mapped, lambda images: images), 0.45, 0.75, 0.3)],
    '30': [
        Case("the same behind a user's __getitem__", partial(mapped, Own), 0.85, 0.9, 0.6),
        Case('the same with take(out=)', partial(mapped, OwnTake), 0.65, 0.9, 0.6),
    ],
    '31': [Case('150 KB samples, zlib, one by one', lambda _: Work(make_inflated()), 0.56, 0.65, 0.56)],
    '32': [
        Case('mapped with rng=True: crop, flip, float32, 9.6 MB', partial(augmented, augment), 0.85, 0.85, 0.7),
        Case('the same with batchup.empty', partial(augmented, augment_empty), 0.65, 0.85, 0.7),
    ],
    '33': [Case('mapped pure Python: text to ids, 16 KB', lambda _: Work(make_texts(), to_ids), 0.6, 0.9, None)],
}


# The contenders: each opens the batches of an epoch.

Open = Callable[[int], Iterable[Any]]


def pooled(pool: Any, work: Work) -> Open:
    parallel = pool.parallel_data_source(work.source(), BUFFER)
    return lambda epoch: parallel.batch_iterator(BATCH_SIZE, shuffle=42, epoch=epoch)


def serial(work: Work) -> Open:
    source = work.source()
    return lambda epoch: source.batch_iterator(BATCH_SIZE, shuffle=42, epoch=epoch)


def torch_loader(work: Work) -> Open:
    import torch  # noqa: PLC0415

    class Samples(torch.utils.data.Dataset):  # type: ignore[misc]
        rng = np.random.default_rng(0)

        def __len__(self) -> int:
            return len(work.array)

        def __getitem__(self, k: int) -> Any:
            return tuple(array[0] for array in work.batch(np.array([k]), self.rng))

    torch.multiprocessing.set_sharing_strategy('file_system')
    loader = torch.utils.data.DataLoader(
        Samples(), BATCH_SIZE, True, num_workers=WORKERS, persistent_workers=True, multiprocessing_context='fork'
    )
    return lambda _epoch: loader


POOLS = {'processes': WorkerProcessPool, 'threads': WorkerThreadPool}
CONTENDERS = ['serial', *POOLS, *(['torch'] if importlib.util.find_spec('torch') else [])]


# What a process of its own does.


def inline(work: Work) -> Iterator[Batch]:
    """Do the work in a plain loop: the floor."""
    order, rng = np.random.RandomState(0).permutation(len(work.array)), np.random.default_rng(0)
    for start in range(0, len(order), BATCH_SIZE):
        yield work.batch(order[start : start + BATCH_SIZE], rng)


def seconds_of(batches: Iterable[Any]) -> float:
    start = time.perf_counter()
    for _batch in batches:
        pass
    return time.perf_counter() - start


def time_epochs(contender: str, work: Work) -> tuple[float, list[float]]:
    """Return the best time of the plain loop, and those of all epochs of a contender, in turns with it."""
    if contender == 'torch':
        import torch  # noqa: F401, PLC0415 - the import is no part of an epoch

    floors = [seconds_of(inline(work)) for _ in range(2)]
    start = time.perf_counter()
    pool = POOLS[contender](WORKERS) if contender in POOLS else None
    with pool or nullcontext():
        if pool is not None:
            open_epoch = pooled(pool, work)
        else:
            open_epoch = serial(work) if contender == 'serial' else torch_loader(work)
        making = time.perf_counter() - start
        epochs = []
        for epoch in range(EPOCHS):
            epochs.append(seconds_of(open_epoch(epoch)))
            floors.append(seconds_of(inline(work)))
    epochs[0] += making
    return min(floors), epochs


# What the process of `workers.py` does.


def ratios(row: str, number: int, contender: str, folder: str) -> np.ndarray:
    """Return the epochs of a contender as ratios to the floor: the best of several processes."""
    runs = []
    for _ in range(RUNS):
        command = [sys.executable, __file__, row, str(number), contender, folder]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
        floor, epochs = json.loads(done.stdout.splitlines()[-1])
        runs.append(np.array(epochs) / floor)
    return np.min(runs, axis=0)


def in_short(name: str, epochs: np.ndarray, serial: np.ndarray, targets: list[tuple[str, float, float]]) -> str:
    shown = '  '.join(f'{epochs[k - 1]:6.2f}' for k in (1, 2, 3, 6))
    missed = [f'{what} {figure:.2f} MISSED ({target})' for what, figure, target in targets if figure > target]
    verdict = '; '.join(missed) or ('met' if targets else '')
    of_serial = '' if name == 'serial' else f'{(epochs / serial).max():6.2f}'
    return f'     {name:<10} {shown}  {epochs.min():6.2f}  {epochs.mean():6.2f}  {of_serial:>6}  {verdict}'


def epoch_by_epoch(row: str) -> None:
    """Print a table for each form of a row."""
    with tempfile.TemporaryDirectory() as folder:
        if row in ('29', '30'):
            from workers import make_images  # noqa: PLC0415

            make_images(folder)
        for number, case in enumerate(CASES[row]):
            print(f'{row:>3}  {case.what}, x a warm inline loop')
            print('     epoch           1       2       3       6    best     six  /serial')
            plain = ratios(row, number, 'serial', folder)
            print(in_short('serial', plain, plain, []), flush=True)
            for name in CONTENDERS[1:]:
                epochs = ratios(row, number, name, folder)
                targets = [('best', epochs.min(), case.best), ('six', epochs.mean(), case.six)]
                if name == 'threads':
                    targets = [] if case.threads is None else [('best', epochs.min(), case.threads)]
                if name in POOLS:
                    targets.append(('an epoch of serial', (epochs / plain).max(), MOST_OF_SERIAL))
                print(in_short(name, epochs, plain, targets if name in POOLS else []), flush=True)


if __name__ == '__main__':
    row, number, contender, folder = sys.argv[1:]
    print(json.dumps(time_epochs(contender, CASES[row][int(number)].make(folder))))
