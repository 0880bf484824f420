"""What every source offers on top of what its class implements: loaders, and the number of batches."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NoReturn

from .._ground.arguments import BatchSize, check_batch_sizes, check_flag, check_keywords
from .._ground.calls import names_class
from .._ground.words import Worded
from .._plans.options import KEYWORDS, Asked
from .._streams.loader import Loader
from .protocol import Reachable

# What `loader` takes, by name, as long as nothing else is given. Users' code is not called with these.
DEFAULTS: dict[str, Any] = {'shuffle': None, 'drop_last': False, 'shard': None, 'uneven': 'share'}


class Offers(Worded, Reachable):
    """The public methods that no source has to implement, and what a source says to what it is not."""

    def __len__(self) -> int:
        raise TypeError(
            f'{type(self).__name__} has no len(): write source.num_samples() for the number of samples, and '
            'source.num_batches(batch_size) for that of batches'
        )

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> NoReturn:
        raise TypeError(
            f'{type(self).__name__} is not gone through by itself: write source.batch_iterator(batch_size) for one '
            'epoch, or source.loader(batch_size), where each pass is the next epoch'
        )

    @names_class
    def loader(
        self,
        batch_size: BatchSize,
        shuffle: Any = None,
        *,
        epoch: int = 0,
        drop_last: bool = False,
        shard: tuple[int, int] | str | None = None,
        uneven: str = 'share',
        **others: Any,
    ) -> Loader:
        """Return the batches as an object to be gone through again: each pass is the next epoch.

        Parameters are those of `RandomAccessDataSource.batch_iterator`. A `RandomState` or a
        `Generator` is drawn on from in every pass; a seed gives each epoch an order of its own.
        Functions and users' sources, which have a `batch_iterator` of their own, are given what
        differs from the defaults here, other keywords too, and the epoch if they take `epoch=`.

        Parameters
        ----------
        epoch : int
            The epoch of the first pass.

        >>> import numpy as np
        >>> from batchup.data_source import ArrayDataSource
        >>> loader = ArrayDataSource([np.arange(4)]).loader(2, shuffle=42)
        >>> for epoch in range(3):
        ...     print(loader.epoch, [x.tolist() for x, in loader])
        0 [[2, 0], [3, 1]]
        1 [[2, 3], [0, 1]]
        2 [[2, 1], [3, 0]]
        """
        if self._follows_plan():
            check_keywords(f'{type(self).__name__}.loader', others, KEYWORDS)
        given = {'shuffle': shuffle, 'drop_last': drop_last, 'shard': shard, 'uneven': uneven}
        told = {name: value for name, value in given.items() if value is not DEFAULTS[name]}
        return Loader(self, Asked(check_batch_sizes(batch_size), {**told, **others, 'epoch': epoch}, counted=True))

    @names_class
    def num_batches(self, batch_size: BatchSize, drop_last: bool = False) -> int | float | None:
        """Return the number of batches of an epoch; `np.inf` if endless, `None` if unknown.

        No data is read. Where the number depends on how samples are shuffled, it is that of samples
        in order. Takes `batch_size` and `drop_last` as `batch_iterator` does.

        >>> import numpy as np
        >>> from batchup.data_source import ArrayDataSource
        >>> source = ArrayDataSource([np.arange(10)])
        >>> source.num_batches(4), source.num_batches(4, drop_last=True)
        (3, 2)
        """
        told = {'drop_last': True} if check_flag('drop_last', drop_last) else {}
        asked = Asked(check_batch_sizes(batch_size), told, counted=True)
        try:
            return self._count_batches(asked)
        except NotImplementedError:  # such as weighted samples, which have no order
            return self._count_batches(replace(asked, keywords={**told, 'shuffle': 0}))
