"""The batches of the demo: every sample once, classes balanced, images shifted at random."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...data_source import AbstractDataSource, ArrayDataSource, CompositeDataSource, MapDataSource
from ...sampling import WeightedSampler

Floats = NDArray[np.float32]

# The standard deviation of the noise on training samples, where that of the samples is 1.
NOISE = 0.1

# Beyond this many standard deviations, values are cut: one outlier must not drown the rest.
MOST_DEVIATIONS = 10

# Arrays with more "channels" than this are taken as plain features, not as images.
MOST_CHANNELS = 4

STATISTICS_BATCH_SIZE = 256


def training_source(x: Any, y: Any, batch_size: int, prepare: Callable[..., Any]) -> MapDataSource:
    """Make the source of the batches for training, to be iterated in halves of a batch.

    One half goes through all samples once an epoch. The other half draws all classes
    equally often, so that rare ones are not forgotten.

    Parameters
    ----------
    x, y : array-likes of n samples and n labels
        The training data.
    batch_size : int
        The size of a whole batch.
    prepare : callable
        Standardises a batch.
    """
    all_once = ArrayDataSource([x, y])
    balanced = ArrayDataSource([x, y], sampler=WeightedSampler.class_balancing_sampler(y))

    def join(x: NDArray[Any], y: Any, balanced_x: Any, balanced_y: Any) -> tuple[NDArray[Any], NDArray[Any]]:
        # In an odd batch, the half that goes through all samples is the larger one.
        count = batch_size // 2
        return np.concatenate([x, balanced_x[:count]]), np.concatenate([y, balanced_y[:count]])

    return CompositeDataSource([all_once, balanced]).map(join).map(prepare).map(augment, rng=True)


def augment(x: Floats, y: NDArray[Any], rng: np.random.Generator) -> tuple[Floats, NDArray[Any]]:
    """Shift images at random by up to a pixel, and add a little noise to all samples.

    The generator belongs to the batch: each epoch has other draws, each run the same ones.
    """
    shifted = shift_images(x, rng) if is_image(x) else x
    return shifted + np.float32(NOISE) * rng.standard_normal(x.shape, dtype=np.float32), y


def shift_images(images: Floats, rng: np.random.Generator) -> Floats:
    """Shift every image by -1, 0 or 1 pixels down and to the right; borders are repeated."""
    height, width = images.shape[-2:]
    no_border, border = (0, 0), (1, 1)
    framed = np.pad(images, [*[no_border] * (images.ndim - 2), border, border], mode='edge')
    # All nine shifts of every image, as views: (n, ..., 3, 3, height, width).
    shifts: Any = np.lib.stride_tricks.sliding_window_view(framed, (height, width), (-2, -1))  # type: ignore[call-overload, unused-ignore]
    down, right = rng.integers(3, size=(2, len(images)))
    shifted: Floats = shifts[np.arange(len(images)), ..., down, right, :, :]
    return shifted


def is_image(samples: Any) -> bool:
    """Say whether samples are images, of shape (n, h, w) or (n, c, h, w)."""
    return bool(samples.ndim == 3 or (samples.ndim == 4 and samples.shape[1] <= MOST_CHANNELS))


class Standardise:
    """Scale samples to mean 0 and standard deviation 1, as measured on a source.

    Images are scaled by channel, other samples number by number.

    Parameters
    ----------
    source : data source
        Gives batches of samples and labels.
    """

    def __init__(self, source: AbstractDataSource) -> None:
        # Two passes: squares of numbers far from 0 would swallow small deviations.
        (self._mean,) = source.batch_map_mean(self._values, STATISTICS_BATCH_SIZE, sum_axis=0)
        (variance,) = source.batch_map_mean(self._squares, STATISTICS_BATCH_SIZE, sum_axis=0)
        self._deviation = np.where(variance > 0, np.sqrt(variance), 1.0)

    def _values(self, x: NDArray[Any], y: NDArray[Any]) -> NDArray[np.float64]:
        return _by_channel(x.astype(np.float64))

    def _squares(self, x: NDArray[Any], y: NDArray[Any]) -> NDArray[np.float64]:
        return _by_channel((x.astype(np.float64) - self._mean) ** 2)

    def __call__(self, x: NDArray[Any], y: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[Any]]:
        scaled = (x - self._mean) / self._deviation
        return np.clip(scaled, -MOST_DEVIATIONS, MOST_DEVIATIONS).astype(np.float32), y


def _by_channel(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return x.mean(axis=(-2, -1), keepdims=True) if is_image(x) else x
