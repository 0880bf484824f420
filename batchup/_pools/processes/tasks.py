"""Jobs on their way to worker processes."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..channel import Flag
from ..jobs import Job, SharedConstant
from ..memory import Packed, Packer, Slot
from ..pickling import ARRAY_PROTOCOL, ArrayPickler
from ..shipping import Shipment

if TYPE_CHECKING:
    from .handles import WorkerHandle


# A result, or what makes an error: one that was kept would keep what its traceback refers to.
Outcome = Packed | Callable[[], Exception]


@dataclass(eq=False)
class Task:
    """A job, and what comes of it.

    Attributes
    ----------
    packed, used
        The job, and how much of the slot it takes.
    slot : Slot, optional
        Where its result will be.
    shipments : list
        The values that it needs.
    worker : WorkerHandle, optional
        The worker that has it.
    given : bool
        Whether a worker was given it.
    losses : int
        How many workers were lost that ran it.
    settled : Flag
        Whether there is an outcome.
    outcome : Packed or callable, optional
        Its result, or what makes the error that says why there is none.
    """

    packed: Packed
    used: int
    slot: Slot | None
    shipments: list[Shipment]
    worker: WorkerHandle | None = None
    given: bool = False
    losses: int = 0
    settled: Flag = field(default_factory=Flag)
    outcome: Outcome | None = None
    _open: threading.Lock = field(default_factory=threading.Lock)

    def claim(self) -> bool:
        """Say whether the job is now the caller's, to run it, give it to a worker, or drop it."""
        return self._open.acquire(blocking=False)

    def settle(self, outcome: Outcome) -> None:
        """Keep the outcome, and tell who waits for it."""
        self.worker = None
        self.outcome = outcome
        self.settled.raise_()

    def message(self) -> tuple[Any, ...]:
        """Return what a worker is sent."""
        if self.slot is None:
            return 'run', self.packed, self.used, None, (0, 0)
        end = self.slot.start + memoryview(self.slot.memory).nbytes
        return 'run', self.packed, self.used, self.slot.segment.id, (self.slot.start, end)


class _TaskPickler(ArrayPickler):
    """Pickles jobs, with a number in place of each shared constant."""

    def __init__(self, *args: Any, shipped: Callable[[SharedConstant], Shipment], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._shipped = shipped
        self.shipments: list[Shipment] = []

    def persistent_id(self, value: Any) -> int | None:
        if not isinstance(value, SharedConstant):
            return None
        shipment = self._shipped(value)
        self.shipments.append(shipment)
        return shipment.segment.id


def pack_task(job: Job, shipped: Callable[[SharedConstant], Shipment], slot: Slot | None) -> Task:
    """Pickle a job, with its arrays in the slot as far as there is room."""
    packer = Packer(slot.memory if slot is not None else bytearray())
    file = io.BytesIO()
    pickler = _TaskPickler(file, ARRAY_PROTOCOL, buffer_callback=packer.place, shipped=shipped)
    try:
        pickler.dump(job)
    except Exception as error:
        raise TypeError(
            f'a job cannot be sent to a worker process: {error}; use functions and classes from the top level '
            'of a module, or a WorkerThreadPool'
        ) from error
    return Task(packer.packed(file), packer.used, slot, pickler.shipments)
