"""Loaders: they can be gone through again, and each pass is the next epoch."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Protocol

from .._ground.arguments import BatchSize, check_non_negative, is_integer
from .._ground.batch import Batch
from .._ground.messages import check_facts
from .._ground.randomness import Path
from .._ground.words import order, place
from .._plans.options import Asked
from .._plans.plan import known_length
from ..errors import StateMismatchError
from .stream import STATE_VERSION, Stream
from .turns import ProcessLock


class Openable(Protocol):
    """What a loader needs of a source."""

    def _open(self, asked: Asked, path: Path) -> Stream: ...

    def _count_batches(self, asked: Asked) -> int | float | None: ...

    def _check_asked(self, asked: Asked) -> None: ...


class Loader(Iterable[Batch]):
    """The batches of a source, to be gone through again and again: each pass is the next epoch.

    Made by `source.loader(...)`. A pass is a `Stream`, which `iter(loader)` opens: only then is
    anything read, and the workers of a pool begin. A pass that is left with `break` is over when
    the next one begins. Passes may also go on side by side, as in `zip(loader, loader)`; each has
    an epoch of its own, and the state is that of the one that was begun last. Threads that go
    through the loader get a pass each; to share the batches of one, they go through one `iter(loader)`.

    `len(loader)` is the number of batches in a pass, where that is finite and known. A `with`
    block closes the loader at its end. It can be copied and pickled if its source can: the next
    pass of the copy is the one that comes next here.

    >>> import numpy as np
    >>> from batchup.data_source import ArrayDataSource
    >>> loader = ArrayDataSource([np.arange(5)]).loader(3, shuffle=42)
    >>> for epoch in range(2):
    ...     print(len(loader), [x.tolist() for x, in loader])
    2 [[3, 0, 2], [4, 1]]
    2 [[3, 4, 2], [0, 1]]
    """

    def __init__(self, source: Openable, asked: Asked) -> None:
        self._next = check_non_negative('epoch', asked.keywords['epoch'])
        source._check_asked(asked)
        self._source = source
        self._asked = asked
        # The latest pass, and its epoch. The pass of a state that was loaded waits until it is begun.
        self._latest: tuple[int, Stream] | None = None
        self._waits = False
        self._passes: weakref.WeakSet[Stream] = weakref.WeakSet()
        self._closed = False
        # Held while a pass is begun, or another one is chosen to be next.
        self._lock = ProcessLock()

    def __repr__(self) -> str:
        latest = self._going_on()
        how = f'batches of {self.batch_size}{order(self._facts(self.epoch))}'
        here = '' if latest is None else f', {place(latest[1].position, latest[1].feed.length_at_hand)}'
        return f'<Loader: {how}{here}{", closed" if self._closed else ""}, of {self._source!r}>'

    def __iter__(self) -> Stream:
        with self._lock:
            self._check_open()
            if not self._waits or self._latest is None:
                self._latest = self._next, self._open(self._next)
                self._next += 1
            self._waits = False
            return self._latest[1]

    def _open(self, epoch: int) -> Stream:
        stream = self._source._open(self._asked.at(epoch), ())
        self._passes.add(stream)
        return stream

    def _going_on(self) -> tuple[int, Stream] | None:
        """Return the epoch and the stream of the latest pass, unless it has come to its end."""
        latest = self._latest
        return None if latest is None or latest[1].ended else latest

    @property
    def source(self) -> Openable:
        """The source of the batches."""
        return self._source

    @property
    def batch_size(self) -> BatchSize:
        """The batch size, or the tuple of those of the members."""
        return self._asked.batch_size

    @property
    def epoch(self) -> int:
        """The epoch of the pass that goes on; after its end, and before the first, that of the next one."""
        latest = self._going_on()
        return self._next if latest is None else latest[0]

    @property
    def position(self) -> int:
        """The number of batches received in the pass that goes on; 0 if there is none."""
        latest = self._going_on()
        return 0 if latest is None else latest[1].position

    @property
    def length(self) -> int | float | None:
        """The number of batches in a pass; `math.inf` if endless, `None` if unknown."""
        latest = self._going_on()
        return self._source._count_batches(self._asked.at(self._next)) if latest is None else latest[1].length

    def __len__(self) -> int:
        return known_length(self.length)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next pass, which begins at its first batch.

        A pass that goes on is left as it is, but `epoch` and the state are now those of the next
        one. If that is to go on from a state that was loaded, in the same epoch, it still does.
        """
        epoch = check_non_negative('epoch', epoch)
        with self._lock:
            self._check_open()
            if not (self._waits and self.epoch == epoch):
                self._leave(epoch)

    def _leave(self, epoch: int) -> None:
        """Forget the latest pass, so that the next one is the whole of an epoch."""
        if self._waits and self._latest is not None:
            self._latest[1].close()
        self._latest, self._waits, self._next = None, False, epoch

    def state_dict(self) -> dict[str, Any]:
        """Return the epoch, the position, and what is needed to check them, as a small dict for JSON.

        It is the state of the stream of the latest pass. After the end of a pass, when the loop
        over it has ended, it is that of the first batch of the next one.
        """
        with self._lock:
            latest, following = self._going_on(), self._next
        if latest is None:
            return self._facts(following)
        return {**latest[1].state_dict(), 'epoch': latest[0]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Have the next pass go on from a saved state, and the ones after it be the epochs after that.

        The state may also be that of a stream of `batch_iterator`. A `RandomState` or a `Generator`
        must be in the state that it had when the saved pass was begun.

        Raises
        ------
        StateMismatchError
            If the state does not fit; the message shows both. The loader is then as it was.
        """
        if not isinstance(state, Mapping):
            raise TypeError(f'state must be a dict made by state_dict(), got {type(state).__name__}')
        epoch: Any = state.get('epoch')
        if not is_integer(epoch) or epoch < 0:
            raise StateMismatchError(f'the state must have an epoch, an integer of 0 or more, got {epoch!r}')
        with self._lock:
            self._check_open()
            if 'plan' not in state:
                check_facts(state, self._facts(epoch))
                self._leave(epoch)
            else:
                stream = self._open_at(epoch, state)
                self._leave(epoch + 1)
                self._latest, self._waits = (epoch, stream), True

    def _open_at(self, epoch: int, state: Mapping[str, Any]) -> Stream:
        """Open a pass at the position of a saved state."""
        stream = self._open(epoch)
        try:
            stream.load_state_dict(state)
        except BaseException:
            stream.close()
            raise
        return stream

    def _facts(self, epoch: int) -> dict[str, Any]:
        """Return what must be equal for a state from between two passes to fit."""
        return {'version': STATE_VERSION, 'keywords': 'none', **self._asked.at(epoch).facts(), 'position': 0}

    def close(self) -> None:
        """End the passes that go on: they give no more batches, and no other can be begun.

        May be called at any time, also while another thread waits for a batch. The state stays as it is.
        """
        with self._lock:
            self._closed = True
            passes = list(self._passes)
        for stream in passes:
            stream.close()

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError('the loader is closed; make a new one with loader()')

    def __reduce__(self) -> tuple[Any, ...]:
        with self._lock:
            asked = self._asked.at(self._next)
            state = self._latest[1].state_dict() if self._waits and self._latest is not None else None
        return _remake, (self._source, asked, state)

    def __enter__(self) -> Loader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _remake(source: Openable, asked: Asked, state: Mapping[str, Any] | None) -> Loader:
    """Make the copy of a loader; its next pass goes on from a state, if there is one."""
    loader = Loader(source, asked)
    if state is not None:
        loader.load_state_dict(state)
    return loader
