"""Tables and columns of pandas."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._ground.indices import Leaf, as_array
from .by_batch import BatchRows


def is_pandas(data: Any) -> bool:
    """Say whether something is a table or a column of pandas."""
    pandas = sys.modules.get('pandas')
    return pandas is not None and isinstance(data, (pandas.Series, pandas.DataFrame))


class FrameRows(BatchRows):
    """The rows of a table, or the values of a column, by position: index labels do not matter."""

    def read(self, indices: Leaf) -> Any:
        """Read rows as a new table or column, which keeps their index labels."""
        taken = self.array.take(as_array(indices))
        # All rows in order are not copied, but share their memory until it is written to.
        return taken.copy() if len(indices) == len(self.array) else taken


def join_frames(parts: Any) -> Any:
    """Put tables, or columns, one below the other."""
    return sys.modules['pandas'].concat(parts)


def frame_to_numpy(frame: Any) -> NDArray[Any]:
    """Return a table as a 2-D array of the common dtype, a column as a 1-D one, a view where possible."""
    # pandas holds the columns of a table one after the other; rows are then far apart.
    return np.ascontiguousarray(frame.to_numpy())
