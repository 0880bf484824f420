"""Progress bars by tqdm."""

from __future__ import annotations

import sys
from typing import Any


def make_bar(iterator: Any = None, shown: bool = True, **kwargs: Any) -> Any:
    """Make a bar of tqdm, which is shown in a terminal or a notebook only."""
    from tqdm.auto import tqdm  # noqa: PLC0415 - imported when a bar is first shown

    # None: only in a terminal. A notebook is no terminal, but shows bars.
    disable = not shown or (False if 'ipykernel' in sys.modules else None)
    return tqdm(iterator, disable=disable, **kwargs)
