"""The demo: train a small network on handwritten digits, with what the library is for.

`batches` is the part to learn from: how the batches for training are made. `training` goes
through them; `data`, `model` and `checkpoint` serve it.
"""

from .training import Options as Options
from .training import run as run
