"""Draw `visits.svg`, which shows when the rows of a file are visited: `python docs/visits.py`.

>>> PICTURE.read_text() == draw()
True
"""

from pathlib import Path

import numpy as np

from batchup.sampling import BlockShuffle, StandardSampler

PICTURE = Path(__file__).with_name('visits.svg')
N_ROWS, CHUNK_ROWS, BATCH_SIZE = 640, 40, 16
ORDERS = {'shuffle=42': 42, 'BlockShuffle(42, window=4)': BlockShuffle(42, CHUNK_ROWS, window=4), 'in order': None}
# Where the panels are in the picture, and how wide and high they are.
LEFTS, TOP, SIZE = (40, 268, 496), 34, 208

STYLE = """
    .batchup-visits { width: 100%; max-width: 720px; color: var(--color-foreground-primary, #1f2328); }
    .batchup-visits:root { color-scheme: light dark; }
    .batchup-visits rect { fill: currentColor; fill-opacity: 0.07; stroke: currentColor; stroke-opacity: 0.5; }
    .batchup-visits path { fill: none; stroke: currentColor; stroke-width: 2.4; stroke-linecap: round; }
    .batchup-visits .chunks { stroke-opacity: 0.2; stroke-width: 0.5; }
    .batchup-visits text { fill: currentColor; font: 13px sans-serif; }
    .batchup-visits .name { font: bold 12px monospace; }
    @media (prefers-color-scheme: dark) {
      .batchup-visits:root { color: #e6e6e6; }
    }"""


def draw_panel(name, shuffle, left):
    """Return a panel with a dot for each row: from left to right the batches, from top to bottom the file."""
    rows = np.concatenate([request.indices for request in StandardSampler(N_ROWS).plan(BATCH_SIZE, shuffle)])
    x, y = left + (np.arange(N_ROWS) + 0.5) * SIZE / N_ROWS, TOP + (rows + 0.5) * SIZE / N_ROWS
    dots = ''.join(f'M{a:.1f} {b:.1f}h0' for a, b in zip(x, y))
    lines = ''.join(f'M{left} {TOP + row * SIZE / N_ROWS:g}h{SIZE}' for row in range(CHUNK_ROWS, N_ROWS, CHUNK_ROWS))
    return f"""
  <text class="name" x="{left}" y="{TOP - 10}">{name}</text>
  <rect x="{left}" y="{TOP}" width="{SIZE}" height="{SIZE}"/>
  <path class="chunks" d="{lines}"/>
  <path d="{dots}"/>"""


def draw():
    """Return the picture."""
    panels = [draw_panel(*order, left) for order, left in zip(ORDERS.items(), LEFTS)]
    return f"""<svg class="batchup-visits" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 270" role="img">
  <title>The rows of a file, by the batches they are in: fully shuffled, in shuffled blocks, and in order</title>
  <style>{STYLE}
  </style>{''.join(panels)}
  <text x="40" y="262">batches of an epoch</text>
  <text transform="translate(30 242) rotate(-90)">rows of the file</text>
</svg>
"""


if __name__ == '__main__':
    PICTURE.write_text(draw())
