"""Jobs on their way to worker processes."""

from __future__ import annotations

import io
from collections.abc import Callable
from pickle import PickleBuffer
from typing import TYPE_CHECKING, Any

from ..channel import QueuedTask
from ..importing import unsendable
from ..jobs import Job, Result, SharedConstant
from ..packing import Packed, Packer
from ..pickling import ARRAY_PROTOCOL, ArrayPickler
from ..rings import Slot
from ..shipping import Shipment

if TYPE_CHECKING:
    from ..waiting import Watch
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
        The pickled job, and how much of the slot it takes; set by `bind`.
    slot : Slot, optional
        Where its result will be; chosen when a worker is about to get the job.
    shipments : list
        The values that it needs.
    worker : WorkerHandle, optional
        The worker that has it.
    given : bool
        Whether a worker was given it.
    withdrawn : bool
        Whether it is not to be given to any.
    awaited : bool
        Whether the user waits for it: it is given to a worker however many results there are that nobody has taken.
    losses : int
        How many workers were lost that ran it.
    """

    packed: Packed
    used: int

    channel: ProcessChannel
    outcome: Packed | Callable[[], Exception] | None

    def __init__(self, job: Job, channel: ProcessChannel) -> None:
        super().__init__(job, channel)
        self.slot: Slot | None = None
        self._data, self._buffers, self.shipments = _pickle(job, channel.has_slots)
        self.worker: WorkerHandle | None = None
        self.given = self.withdrawn = self.awaited = False
        self.losses = 0

    def bind(self, writer: int) -> None:
        """Choose the slot, for a process to write to, and put the arrays of the job there as far as there is room."""
        if self.slot is None:
            self.slot = self.channel.take_slot(writer)
        packer = Packer(self.slot.memory if self.slot is not None else bytearray())
        self.packed = Packed(self._data, [packer.put(buffer) or bytearray(buffer) for buffer in self._buffers], 0)
        self.used = packer.used

    @property
    def sent_bytes(self) -> int:
        """How many bytes go through the pipe."""
        return len(self._data) + sum(len(span) for span in self.packed.spans if isinstance(span, bytearray))

    def withdraw(self) -> bool:
        if not self.claim():
            return False
        self.withdrawn = True
        self.channel.supervisor.ring()  # it may refer to the task until it wakes
        return True

    def settle(self, outcome: Packed | Callable[[], Exception]) -> None:
        self.worker = None
        if isinstance(outcome, Packed) and outcome.kept and self.slot is not None:
            self.channel.lose(self.slot)
        super().settle(outcome)

    def result(self, timeout: float | None, watch: Watch | None = None) -> Result:
        if self.done.up:
            return super().result(timeout)
        self.awaited = True
        if not self.given:
            self.channel.supervisor.ring()
        # A worker may have been idle before, or may be until the result is there.
        self.channel.note_wait()
        result = super().result(timeout, watch)
        self.channel.note_wait()
        return result

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
            result = self.channel.unpack(outcome, self.slot)
            # The slot is the user's now: there may be room for another result.
            self.channel.supervisor.ring_if_hungry()
            return result
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


def _pickle(job: Job, apart: bool) -> tuple[bytes, list[memoryview], list[Shipment]]:
    """Pickle a job; return also the memory of its arrays, if that is to be `apart`, and the shipments it needs."""
    buffers: list[memoryview] = []

    def keep(buffer: PickleBuffer) -> bool:
        raw = buffer.raw()
        if apart and raw.nbytes:
            buffers.append(raw)
            return False
        return True  # it stays in the pickle

    file = io.BytesIO()
    pickler = _TaskPickler(file, ARRAY_PROTOCOL, buffer_callback=keep)
    try:
        pickler.dump(job)
    except Exception as error:
        raise unsendable(error) from error
    return file.getvalue(), buffers, pickler.shipments
