"""A picture of many images side by side, with the names of their classes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..._ground.messages import installed_by
from ...data_source import ArrayDataSource
from .base import CommandError

# The size of an image in the picture, of the space between two, and of the line below, in pixels.
TILE = 96
GAP = 8
LINE = 16
FONT_SIZE = 12

# Numbers of values a pixel may have: grey, red-green-blue, and the latter with opacity.
CHANNELS = (1, 3, 4)


def write_sheet(path: str, images: Any, labels: Any, class_names: Sequence[str] | None, count: int, seed: int) -> None:
    """Write a PNG file with a batch of images.

    Parameters
    ----------
    images : array-like of shape (n, height, width), (n, channels, height, width) or (n, height, width, channels)
        What to draw from. Integers are drawn from 0 to 255 if they are uint8; others from
        the lowest to the highest value of the batch.
    labels : array of shape (n,), optional
        Their classes, written below.
    """
    try:
        from PIL import Image, ImageDraw, ImageFont  # noqa: PLC0415 - an extra
    except ImportError:
        raise CommandError(f'to draw pictures, Pillow is needed: {installed_by("plot")}') from None
    source = ArrayDataSource([images] if labels is None else [images, labels])
    batch = next(source.batch_iterator(min(count, len(images)), shuffle=seed))
    tiles = _as_pixels(np.asarray(batch[0]))
    columns = math.ceil(math.sqrt(len(tiles)))
    rows = math.ceil(len(tiles) / columns)
    line = LINE if labels is not None else 0
    sheet = Image.new('RGB', (columns * (TILE + GAP) + GAP, rows * (TILE + line + GAP) + GAP), 'white')
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(FONT_SIZE)
    for number, tile in enumerate(tiles):
        row, column = divmod(number, columns)
        left, top = GAP + column * (TILE + GAP), GAP + row * (TILE + line + GAP)
        picture = Image.fromarray(tile)
        scale = TILE / max(picture.size)
        width, height = (max(1, round(side * scale)) for side in picture.size)
        sheet.paste(picture.resize((width, height), Image.Resampling.NEAREST), (left, top))
        if labels is not None:
            text = _shortened(class_text(batch[1][number], class_names), lambda part: font.getlength(part) <= TILE)
            draw.text((left, top + TILE + 1), text, fill='black', font=font)
    try:
        sheet.save(path, 'PNG')
    except OSError as error:
        raise CommandError(f'cannot write {path}: {error.strerror or error}') from None


def class_text(label: Any, class_names: Sequence[str] | None) -> str:
    """Return what to call a class: its number, and its name if it has one."""
    if class_names is None or not isinstance(label, np.integer) or not 0 <= label < len(class_names):
        return str(label)
    return f'{label} {class_names[int(label)]}'


def _shortened(text: str, fits: Any) -> str:
    while len(text) > 1 and not fits(text):
        text = text[:-1]
    return text


def _as_pixels(images: NDArray[Any]) -> NDArray[np.uint8]:
    """Return images of shape (n, height, width) or (n, height, width, channels), from 0 to 255."""
    if images.ndim == 4 and images.shape[1] in CHANNELS and images.shape[3] not in CHANNELS[1:]:
        images = np.moveaxis(images, 1, -1)
    if images.ndim == 4 and images.shape[3] == 1:
        images = images[..., 0]
    if images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] not in CHANNELS):
        raise CommandError(
            'images must have shape (n, height, width), (n, channels, height, width) or (n, height, width, channels) '
            f'with {", ".join(map(str, CHANNELS))} channels, got {images.shape}'
        )
    if images.dtype == np.uint8:
        return np.ascontiguousarray(images)
    values = images.astype(np.float64)
    finite = values[np.isfinite(values)]
    low, high = (finite.min(), finite.max()) if finite.size else (0.0, 1.0)
    scaled = (np.nan_to_num(values, nan=low, posinf=high, neginf=low) - low) / (high - low or 1.0)
    return np.ascontiguousarray(np.round(scaled * 255).astype(np.uint8))
