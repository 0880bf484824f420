"""Jobs on their way to worker processes."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..channel import QueuedTask
from ..importing import unsendable
from ..jobs import Job, Result, SharedConstant
from ..memory import Slot
from ..packing import Packed, Packer
from ..pickling import ARRAY_PROTOCOL, ArrayPickler
from ..shipping import Shipment

if TYPE_CHECKING:
    from .handles import WorkerHandle
    from .pool import ProcessChannel


class ProcessTask(QueuedTask):
    """A task of worker processes.

    Attributes
    ----------
    outcome : Packed or callable
        The result, or a function that makes the error which says why there is none. An error that was made
        already would keep alive what its traceback refers to.
    packed, used
        The pickled job, and how much of the slot it takes.
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
    """

    channel: ProcessChannel
    outcome: Packed | Callable[[], Exception] | None

    def __init__(self, job: Job, channel: ProcessChannel, slot: Slot | None) -> None:
        super().__init__(job, channel)
        self.slot = slot
        self.packed, self.used, self.shipments = _pack(job, slot)
        self.worker: WorkerHandle | None = None
        self.given = False
        self.losses = 0

    def withdraw(self) -> bool:
        if not self.claim():
            return False
        self.slot = None  # another task can have it
        return True

    def settle(self, outcome: Packed | Callable[[], Exception]) -> None:
        self.worker = None
        super().settle(outcome)

    def message(self) -> tuple[Any, ...]:
        """Return what a worker is sent."""
        if self.slot is None:
            return 'run', self.packed, self.used, None, (0, 0)
        end = self.slot.start + memoryview(self.slot.memory).nbytes
        return 'run', self.packed, self.used, self.slot.segment.id, (self.slot.start, end)

    def _is_over(self, seconds: float) -> bool:
        supervisor = self.channel.supervisor
        if self.done.up or supervisor.is_down or self.done.wait(seconds):
            return True
        supervisor.ring()  # the thread that should have rung may have been interrupted
        return False

    def _arrived(self) -> Result:
        outcome = self.outcome if self.done.up else self.channel.supervisor.end_error
        if isinstance(outcome, Packed):
            return self.channel.unpack(outcome, self.slot)
        assert outcome is not None
        raise outcome()

    def stacks(self) -> str:
        return self.channel.supervisor.stacks()

    def _give_up(self) -> str:
        worker = self.worker
        if worker is None:
            self.withdraw()
            return 'no worker was ready to run it'
        return worker.give_up(self)


class _TaskPickler(ArrayPickler):
    """Pickles jobs, with a number in place of each shared constant."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.shipments: list[Shipment] = []

    def persistent_id(self, value: Any) -> int | None:
        if not isinstance(value, SharedConstant):
            return None
        shipment = value.shipment
        if not isinstance(shipment, Shipment):
            raise TypeError(f'{value!r} was made by another pool')
        self.shipments.append(shipment)
        return shipment.segment.id


def _pack(job: Job, slot: Slot | None) -> tuple[Packed, int, list[Shipment]]:
    """Pickle a job, its arrays into the slot as far as there is room; return also the bytes used, and shipments."""
    packer = Packer(slot.memory if slot is not None else bytearray())
    file = io.BytesIO()
    pickler = _TaskPickler(file, ARRAY_PROTOCOL, buffer_callback=packer.place)
    try:
        pickler.dump(job)
    except Exception as error:
        raise unsendable(error) from error
    return packer.packed(file), packer.used, pickler.shipments
