"""Speed on arrays in memory, as ratios to the least work that NumPy can do.

Run `python benchmarks/in_memory.py`; names of rows choose some of them: `in_memory.py 1 4`.

The *floor* is a generator that yields `array.take(indices, 0, out, 'clip')` for each array,
into the same output every time, over a permutation drawn beforehand. It breaks the promise
that batches belong to the user: each overwrites the one before. For rows 1 to 5, `batchup`
is given the same permutation (as `indices=`); the column `drawn` also draws a new one by a
seed, inside the time. `two outputs` are takes into two outputs in turn: what the floor costs
where a loop still holds a batch while the next one is made. Every figure is the best of several rounds, taken in turns.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from batchup.data_source import ArrayDataSource
from batchup.image.utils import ImageArrayUInt8ToFloat32
from batchup.sampling import WeightedSampler

Work = Callable[[], Iterable[Any]]
Arrays = tuple[np.ndarray, np.ndarray]

ROUNDS = 9


def best_times(works: dict[str, Work], rounds: int = ROUNDS) -> dict[str, float]:
    """Time loops over each iterable in turns; return the best time of each, in seconds."""
    best = dict.fromkeys(works, float('inf'))
    for _ in range(rounds):
        for name, work in works.items():
            start = time.perf_counter()
            for _batch in work():
                pass
            best[name] = min(best[name], time.perf_counter() - start)
    return best


def make_output(arrays: Arrays, batch_size: int) -> Arrays:
    """Make arrays for one batch, in memory that was written before."""
    images, labels = arrays
    return np.ones((batch_size, *images.shape[1:]), images.dtype), np.ones(batch_size, labels.dtype)


def takes(arrays: Arrays, order: np.ndarray, batch_size: int, outputs: list[Arrays]) -> Iterator[Any]:
    """Yield the floor: takes into one reused output (or several, in rotation)."""
    images, labels = arrays
    for number, start in enumerate(range(0, len(order), batch_size)):
        indices = order[start : start + batch_size]
        out_images, out_labels = outputs[number % len(outputs)] if len(outputs) > 1 else outputs[0]
        if len(indices) == batch_size:
            yield images.take(indices, 0, out_images, 'clip'), labels.take(indices, 0, out_labels, 'clip')
        else:
            size = len(indices)
            yield images.take(indices, 0, out_images[:size], 'clip'), labels.take(indices, 0, out_labels[:size], 'clip')


def fancy(arrays: Arrays, order: np.ndarray, batch_size: int) -> Iterator[Any]:
    """Yield batches by plain fancy indexing."""
    images, labels = arrays
    for start in range(0, len(order), batch_size):
        indices = order[start : start + batch_size]
        yield images[indices], labels[indices]


def copied_slices(arrays: Arrays, batch_size: int) -> Iterator[Any]:
    """Yield copies of slices: the floor of iteration in order."""
    images, labels = arrays
    for start in range(0, len(labels), batch_size):
        yield images[start : start + batch_size].copy(), labels[start : start + batch_size].copy()


def conversions(
    arrays: Arrays, order: np.ndarray, batch_size: int, outputs: list[Arrays], convert: Callable[..., Any]
) -> Iterator[Any]:
    """Yield the floor of images in bytes: takes of 128 KB into one buffer, converted into reused outputs."""
    images, labels = arrays
    step = max(1, 2**17 // images[0].nbytes)
    buffer = np.ones((step, *images.shape[1:]), np.uint8)
    for number, start in enumerate(range(0, len(order) - batch_size + 1, batch_size)):
        indices = order[start : start + batch_size]
        out_images, out_labels = outputs[number % len(outputs)]
        for first in range(0, batch_size, step):
            part = indices[first : first + step]
            convert(images.take(part, 0, buffer[: len(part)], 'clip'), out_images[first : first + step])
        yield out_images, labels.take(indices, 0, out_labels, 'clip')


def report(row: str, what: str, ratio: float, target: float, extra: str = '') -> None:
    """Print a line of the table."""
    verdict = 'met' if ratio <= target else 'MISSED'
    print(f'{row:>3}  {what:<46} {ratio:6.3f}  target {target:<5} {verdict:<6} {extra}', flush=True)


def shuffled(row: str, what: str, arrays: Arrays, batch_size: int, target: float) -> None:
    """Compare shuffled iteration with the floor."""
    order = np.random.RandomState(0).permutation(len(arrays[1]))
    given, drawn = ArrayDataSource(list(arrays), indices=order), ArrayDataSource(list(arrays))
    outputs = [make_output(arrays, batch_size) for _ in range(2)]
    works: dict[str, Work] = {
        'floor': lambda: takes(arrays, order, batch_size, outputs[:1]),
        'batchup': lambda: given.batch_iterator(batch_size),
        'drawn': lambda: drawn.batch_iterator(batch_size, shuffle=42),
        'fancy': lambda: fancy(arrays, order, batch_size),
        'two outputs': lambda: takes(arrays, order, batch_size, outputs),
    }
    times = best_times(works)
    floor = times.pop('floor')
    ratio = times['batchup'] / floor
    against_fancy = times.pop('batchup') / times['fancy']
    others = ', '.join(f'{name} {seconds / floor:.2f}' for name, seconds in times.items())
    batches = -(-len(order) // batch_size)
    extra = f'(against fancy indexing {against_fancy:.2f}; {others}; floor {floor / batches * 1e6:.1f} us a batch)'
    report(row, what, ratio, target, extra)


def converted(row: str, what: str, arrays: Arrays, batch_size: int, target: float, n_outputs: int) -> None:
    """Compare images in bytes that are read as float32 with a loop that converts block by block.

    The floor multiplies. batchup divides by 255, which has other bits, and takes longer: `divided` is the floor with
    a division. Large batches are compared with takes into two outputs in turn, as in rows 2, 3 and 5.
    """
    images, labels = arrays
    order = np.random.RandomState(0).permutation(len(labels))
    order = order[: len(order) // batch_size * batch_size]
    source = ArrayDataSource([ImageArrayUInt8ToFloat32(images), labels], indices=order)
    zeros = np.zeros((batch_size, *images.shape[1:]), np.float32)
    outputs = [make_output((zeros, labels), batch_size) for _ in range(n_outputs)]
    steps, factor = np.float32(255), np.float32(1 / 255)
    times = best_times(
        {
            'floor': lambda: conversions(
                arrays, order, batch_size, outputs, lambda u8, to: np.multiply(u8, factor, to)
            ),
            'divided': lambda: conversions(arrays, order, batch_size, outputs, lambda u8, to: np.divide(u8, steps, to)),
            'batchup': lambda: source.batch_iterator(batch_size),
            'whole batches': lambda: (
                np.divide(images[batch], 255.0, dtype=np.float32) for batch in order.reshape(-1, batch_size)
            ),
        }
    )
    floor = times['floor']
    extra = (
        f'(against division {times["batchup"] / times["divided"]:.2f}; division {times["divided"] / floor:.2f}, whole '
        f'batches {times["whole batches"] / floor:.2f}; floor {floor / len(order) * batch_size * 1e6:.1f} us a batch)'
    )
    report(row, what, times['batchup'] / floor, target, extra)


def in_order(row: str, what: str, arrays: Arrays, batch_size: int, target: float) -> None:
    """Compare iteration in order with copying slices."""
    source = ArrayDataSource(list(arrays))
    times = best_times(
        {'floor': lambda: copied_slices(arrays, batch_size), 'batchup': lambda: source.batch_iterator(batch_size)}
    )
    report(row, what, times['batchup'] / times['floor'], target)


def labels_for(n: int) -> np.ndarray:
    return np.random.RandomState(1).randint(0, 10, n).astype(np.int32)


def mnist_like() -> Arrays:
    return np.random.RandomState(2).rand(60_000, 784).astype(np.float32), labels_for(60_000)


def cifar_like() -> Arrays:
    return np.random.RandomState(3).randint(0, 256, (50_000, 3, 32, 32), np.uint8), labels_for(50_000)


def mnist_bytes() -> Arrays:
    return np.random.RandomState(2).randint(0, 256, (60_000, 784), np.uint8), labels_for(60_000)


def imagenet_bytes() -> Arrays:
    return np.random.RandomState(2).randint(0, 256, (1024, 3, 224, 224), np.uint8), labels_for(1024)


def tiny_rows() -> Arrays:
    return np.random.RandomState(4).rand(200_000, 10).astype(np.float32), labels_for(200_000)


def imagenet_like() -> Arrays:
    return np.ones((1024, 3, 224, 224), np.float32), labels_for(1024)


def weighted() -> None:
    """Compare weighted draws, rows 12 and 13, with one binary search of as many uniforms.

    The table for draws by a seed is made in the first round, of which the best is not.
    """
    weights = np.random.RandomState(5).rand(1_000_000)
    sampler = WeightedSampler(weights)
    cumulative = sampler.weights.cumsum()
    cumulative /= cumulative[-1]
    uniforms = np.random.RandomState(6).rand(1000, 64)
    rng = np.random.RandomState(7)
    times = best_times(
        {
            'floor': lambda: (cumulative.searchsorted(u, side='right') for u in uniforms),
            'batchup': lambda: (b for b, _ in zip(sampler.shuffled_indices_batch_iterator(64, rng), range(1000))),
            'seed': lambda: (b for b, _ in zip(sampler.plan(64, shuffle=42).index_batches(), range(1000))),
        },
        rounds=5,
    )
    extra = f'(floor {times["floor"] * 1e3:.1f} us a batch)'
    report('12', '1,000,000 weights, RandomState, batch 64', times['batchup'] / times['floor'], 1.3, extra)
    start = time.perf_counter()
    next(WeightedSampler(weights).plan(64, shuffle=42).index_batches())
    extra = f'({times["seed"] * 1e3:.1f} us a batch; sampler and first batch {time.perf_counter() - start:.3f} s)'
    report('13', '1,000,000 weights, a seed, batch 64', times['seed'] / times['floor'], 0.26, extra)


def import_time(row: str) -> None:
    """Compare a fresh interpreter that imports everyday names with one that imports NumPy."""

    def seconds(statement: str) -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, '-c', statement], check=True)
        return time.perf_counter() - start

    statements = {
        'nothing': 'pass',
        'numpy': 'import numpy',
        'batchup': 'import numpy, batchup',
        'sources': 'import numpy; from batchup import ArrayDataSource, StandardSampler',
    }
    rounds = [{name: seconds(statement) for name, statement in statements.items()} for _ in range(25)]
    times = {name: min(times[name] for times in rounds) for name in statements}
    ratio = times['batchup'] / times['numpy']
    extra = f'(from batchup import ArrayDataSource: {times["sources"] / times["numpy"]:.2f})'
    report(row, 'import batchup against import numpy', ratio, 1.25, extra)


def state_size(row: str) -> None:
    """Measure the state of a stream by seed over ten million samples, in bytes of JSON."""
    source = ArrayDataSource([np.zeros(10_000_000, np.uint8)], repeats=-1)
    times = {}
    for position in (1, 10**12):
        stream = source.batch_iterator(64, shuffle=42)
        stream.skip(position)
        start = time.perf_counter()
        next(stream)
        times[f'a new order and a batch at {position:.0e}'] = time.perf_counter() - start
        state = json.dumps(stream.state_dict())
        resumed, start = source.batch_iterator(64, shuffle=42), time.perf_counter()
        resumed.load_state_dict(json.loads(state))
        next(resumed)
        times[f'load and a batch at {position:.0e}'] = time.perf_counter() - start
    extra = f'(bytes / 4096; {", ".join(f"{name} {seconds:.2f} s" for name, seconds in times.items())})'
    report(row, f'state_dict: {len(state)} bytes', len(state) / 4096, 1.0, extra)


ROWS: dict[str, Callable[[], None]] = {
    '1': lambda: shuffled('1', '60,000 x 784 float32, batch 64', mnist_like(), 64, 1.1),
    '2': lambda: shuffled('2', '60,000 x 784 float32, batch 256', mnist_like(), 256, 1.05),
    '3': lambda: shuffled('3', '50,000 x 3 x 32 x 32 uint8, batch 256', cifar_like(), 256, 1.05),
    '4': lambda: shuffled('4', '200,000 x 10 float32, batch 64', tiny_rows(), 64, 1.0),
    '5': lambda: shuffled('5', '1,024 x 3 x 224 x 224 float32, batch 64', imagenet_like(), 64, 1.1),
    '7': lambda: [  # type: ignore[func-returns-value]
        in_order('7', 'in order, 60,000 x 784 float32, batch 64', mnist_like(), 64, 1.15),
        in_order('7', 'in order, 60,000 x 784 float32, batch 256', mnist_like(), 256, 1.15),
        in_order('7', 'in order, 50,000 x 3 x 32 x 32 uint8, batch 256', cifar_like(), 256, 1.15),
    ],
    '12': weighted,
    '15': lambda: import_time('15'),
    '18': lambda: state_size('18'),
    '34': lambda: [  # type: ignore[func-returns-value]
        converted('34', 'bytes to float32, 784, batch 64', mnist_bytes(), 64, 1.1, 1),
        converted('34', 'bytes to float32, 3 x 32 x 32, batch 256', cifar_like(), 256, 1.1, 2),
        converted('34', 'bytes to float32, 3 x 224 x 224, batch 64', imagenet_bytes(), 64, 1.1, 2),
    ],
}


if __name__ == '__main__':
    for row in sys.argv[1:] or ROWS:
        ROWS[row]()
