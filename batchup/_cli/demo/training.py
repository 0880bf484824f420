"""Training, and the lines that it prints.

`batches.training_source` makes the batches: shuffled, balanced and augmented. `Training`
goes through them epoch by epoch, validates with `batch_map_mean`, tests with
`batch_map_concat`, and can stop and continue at any batch.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..._ground.arguments import check_non_negative
from ..._streams.loader import Loader
from ...data_source import ArrayDataSource
from ..commands.base import CommandError, hold_back_interrupt
from .batches import Floats, Standardise, training_source
from .checkpoint import load_checkpoint, not_a_checkpoint, remove_unfinished, save_checkpoint
from .data import Data, load_digits, load_file
from .model import Network

# The first learning rate; it falls to 0 along half a wave of the cosine.
LEARNING_RATE = 0.005

# Larger: less work is lost with a crash. Smaller: less time goes into writing.
CHECKPOINTS_PER_EPOCH = 4

EVALUATION_BATCH_SIZE = 256


@dataclass(frozen=True)
class Options:
    """What the user asks for.

    Attributes
    ----------
    data : str or None
        The .npz file with the data; `None` for the digits in the package.
    epochs, batch_size, seed : int
        How long to train, on how large batches, and with which random draws.
    resume : str or None
        The file of the checkpoint, if one is kept.
    x, y : str or None
        The names of the samples and the labels in the file with the data; `None` for usual ones.
    """

    data: str | None
    epochs: int
    batch_size: int
    seed: int
    resume: str | None
    x: str | None = None
    y: str | None = None


def run(options: Options) -> None:
    """Train and test the network, and print how it goes."""
    data = _load(options)
    _print(data)
    training = Training(data, options)
    if options.resume is not None:
        remove_unfinished(options.resume)
        if os.path.exists(options.resume):
            training.load(options.resume)
    with hold_back_interrupt() as interrupted:
        training.run(interrupted)
    predictions, labels = training.predict_test(), data.test[1]
    correct = int(np.sum(predictions == labels))
    _print(f'test accuracy {100 * correct / len(labels):.2f} % ({correct:,} of {len(labels):,})')


def _load(options: Options) -> Data:
    """Read the data that the user asks for."""
    if options.data is not None:
        return load_file(options.data, options.seed, options.x, options.y)
    if options.x is not None or options.y is not None:
        raise CommandError('--x and --y name arrays of a file, which --data FILE.npz gives')
    return load_digits()


class Training:
    """A run of the demo: the network, and how far it has come.

    The loader counts the epochs, and knows the place within one.
    """

    def __init__(self, data: Data, options: Options) -> None:
        prepare = Standardise(ArrayDataSource(list(data.train)))
        train_x, train_y = data.train
        # A half has all samples at most.
        batch_size = min(options.batch_size, 2 * len(train_y))
        half = batch_size - batch_size // 2
        self._options = options
        self._data = data
        self._loader = training_source(train_x, train_y, batch_size, prepare).loader(half, shuffle=options.seed)
        self._val = ArrayDataSource(list(data.val)).map(prepare)
        self._test = ArrayDataSource(list(data.test)).map(prepare)
        # No draws of the library have the key (ord('w'),): its own keys are longer.
        rng = np.random.default_rng(np.random.SeedSequence(options.seed, spawn_key=(ord('w'),)))
        self._network = Network(math.prod(train_x.shape[1:]), data.n_classes, rng)
        # Of the batches of the epoch so far.
        self._loss_sum, self._samples = 0.0, 0

    def run(self, interrupted: Callable[[], bool]) -> None:
        """Train for all epochs that are left.

        Parameters
        ----------
        interrupted : callable
            Says whether to save and stop, as `KeyboardInterrupt`; asked after every batch.
        """
        if self._loader.epoch < self._options.epochs:
            # Before the first epoch, which would be lost if the file cannot be written.
            self.save()
        for epoch in range(self._loader.epoch, self._options.epochs):
            self._run_epoch(epoch, interrupted)

    def _run_epoch(self, epoch: int, interrupted: Callable[[], bool]) -> None:
        """Train on the rest of the batches of an epoch, validate, and print a line."""
        started, samples_before = time.perf_counter(), self._samples
        with _progress_bar(self._loader, f'epoch {epoch + 1}/{self._options.epochs}') as batches:
            for x, y in batches:
                self._train_on(x, y)
                if interrupted():
                    self._stop()
                self._save_if_due()
        speed = (self._samples - samples_before) / (time.perf_counter() - started)
        self._print_epoch(epoch, speed)
        self._loss_sum, self._samples = 0.0, 0
        self.save()
        if interrupted():
            self._stop()

    def _train_on(self, x: Floats, y: NDArray[Any]) -> None:
        # Counted to the middle of this batch: at its end, the rate of an only batch would be 0.
        finished = (self._loader.epoch + (self._loader.position - 0.5) / len(self._loader)) / self._options.epochs
        learning_rate = LEARNING_RATE * (1 + math.cos(math.pi * finished)) / 2
        self._loss_sum += self._network.train(x, y, learning_rate)
        self._samples += len(y)

    def _print_epoch(self, epoch: int, speed: float) -> None:
        val_loss, val_error = self._val.batch_map_mean(
            self._network.sum_losses_and_errors, EVALUATION_BATCH_SIZE, progress=_in_terminal()
        )
        epochs = str(self._options.epochs)
        _print(
            f'epoch {epoch + 1:{len(epochs)}}/{epochs}  loss {self._loss_sum / self._samples:.4f}  '
            f'val loss {val_loss:.4f}  val error {100 * val_error:.2f} %  {speed:,.0f} samples/s'
        )

    def predict_test(self) -> NDArray[np.intp]:
        """Return the predicted class of every sample for testing."""
        results = self._test.batch_map_concat(
            lambda x, y: self._network.predict(x), EVALUATION_BATCH_SIZE, progress=_in_terminal()
        )
        assert results is not None  # as it would be if predict() returned None
        predictions: NDArray[np.intp] = results[0]
        return predictions

    def save(self) -> None:
        """Write a checkpoint, if one is wanted."""
        if self._options.resume is not None:
            progress = {
                'loss_sum': self._loss_sum,
                'samples': self._samples,
                'steps': self._network.steps,
                'stream': self._loader.state_dict(),
            }
            save_checkpoint(self._options.resume, self._network.arrays, {'run': self._facts(), 'progress': progress})

    def load(self, path: str) -> None:
        """Continue from a checkpoint.

        Raises
        ------
        CommandError
            If it cannot be read, is damaged, or belongs to another run.
        """
        arrays, facts = load_checkpoint(path)
        try:
            differences = [
                f'{name} is {facts["run"][name]} there, {own} here'
                for name, own in self._facts().items()
                if facts['run'][name] != own
            ]
            if not differences:
                self._restore(arrays, facts['progress'])
        except (KeyError, TypeError, ValueError):
            raise not_a_checkpoint(path) from None
        if differences:
            raise CommandError(f'{path} belongs to another run: {"; ".join(differences)}')
        epoch = self._loader.epoch
        place = 'the end' if epoch == self._options.epochs else f'epoch {epoch + 1}, batch {self._loader.position}'
        _print(f'continuing from {path}, at {place}')

    def _facts(self) -> dict[str, Any]:
        """Return what must be equal to continue a run."""
        options = self._options
        return {
            'the data': self._data.name,
            '--epochs': options.epochs,
            '--batch-size': options.batch_size,
            '--seed': options.seed,
        }

    def _restore(self, arrays: Mapping[str, NDArray[Any]], progress: Mapping[str, Any]) -> None:
        self._loader.load_state_dict(progress['stream'])
        self._loss_sum = float(progress['loss_sum'])
        self._samples = check_non_negative('samples', progress['samples'])
        self._network.load(arrays, check_non_negative('steps', progress['steps']))

    def _save_if_due(self) -> None:
        done, batches = self._loader.position, len(self._loader)
        before, now = ((count * CHECKPOINTS_PER_EPOCH) // batches for count in (done - 1, done))
        # The end of the epoch is saved after the validation.
        if now > before and done < batches:
            self.save()

    def _stop(self) -> None:
        """Save, and end as Ctrl-C does."""
        self.save()
        path = self._options.resume
        hint = (
            'with --resume FILE, it could be continued' if path is None else f'the same command continues from {path}'
        )
        raise KeyboardInterrupt(f'interrupted after {self._network.steps:,} batches; {hint}')


def _progress_bar(batches: Loader, description: str) -> AbstractContextManager[Iterable[Any]]:
    """Return the batches with a progress bar, or without one where no terminal shows it."""
    if not _in_terminal():
        return nullcontext(batches)
    from tqdm import tqdm  # noqa: PLC0415 - imported when a bar is first shown

    bar: AbstractContextManager[Iterable[Any]] = tqdm(
        batches, description, initial=batches.position, leave=False, unit='batch'
    )
    return bar


def _in_terminal() -> bool:
    return sys.stderr.isatty()


def _print(line: Any) -> None:
    print(line, flush=True)
