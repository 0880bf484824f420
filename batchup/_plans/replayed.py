"""Plans over users' iterators of indices, which give one batch after the other and cannot jump."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

from .._ground.indices import IndexTree, first_leaf
from .._ground.randomness import Shuffle
from ..errors import EndOfPlanError
from .orders import passed
from .plan import Plan, count_batches

# An iterator that gives more than this many times the expected samples may be endless: its batches
# are not counted. Larger: more time is lost on such an iterator. Smaller: fewer plans know their length.
MOST_EPOCHS = 10

# After so many short batches in a row, an iterator is taken to give no others. Larger: more time
# before the error, about a microsecond each. Smaller: an error where a full batch might follow.
MOST_SHORT = 100_000


class UserIterator(Iterator[Any]):
    """Wraps a user's iterator, so that no item is lost without an error.

    An item that fails the check is not passed over: the next call checks it again. If the iterator
    itself raises, the next call asks it again. If it ends then, that is an error, too: a generator
    that has raised is finished, and the items that it has not given yet would be missing.

    Parameters
    ----------
    iterator : iterator
        The user's iterator.
    name : str
        What made it, for error messages.
    check : callable
        `check(item)` returns the item to give, or raises an error.

    Attributes
    ----------
    given : int
        How many items were given or skipped.
    """

    def __init__(self, iterator: Iterator[Any], name: str, check: Callable[[Any], Any]) -> None:
        self.iterator = iterator
        self.given = 0
        self._name = name
        self._check = check
        # The item that failed the check, in a tuple; empty if there is none.
        self._item: tuple[Any, ...] = ()
        # The latest error of the iterator, as text: the exception would keep the variables of its frames alive.
        self._raised = ''

    @property
    def found_wrong(self) -> bool:
        """Whether the next item is one that has failed the check."""
        return bool(self._item)

    def __next__(self) -> Any:
        item = self._item[0] if self._item else self._next_item()
        try:
            checked = self._check(item)
        except BaseException:
            self._item = (item,)
            raise
        self._item = ()
        self.given += 1
        return checked

    def skip(self) -> None:
        """Skip the next item, without a check."""
        if not self._item:
            self._next_item()
        self._item = ()
        self.given += 1

    def _next_item(self) -> Any:
        try:
            item = next(self.iterator)
        except StopIteration:
            if self._raised:
                raise self._ended() from None
            raise
        except BaseException as error:
            self._raised = repr(error)
            raise
        self._raised = ''
        return item

    def _ended(self) -> RuntimeError:
        return RuntimeError(
            f'the iterator of {self._name} has ended with an error, {self._raised}: a generator that has raised gives '
            'no more. To go on, make a new one with a new stream, and go to this batch with load_state_dict(state) or '
            'skip(n)'
        )


class ReplayPlan(Plan):
    """Take indices from an iterator, one batch after the other.

    To go forward, indices are drawn and dropped, and no data is read. To go back, which needs a
    pure shuffle, the iterator is made again.

    Parameters
    ----------
    name : str
        What the iterator goes through.
    make_iterator : callable
        `make_iterator(shuffle)` makes the iterator of index batches; called at once.
    num_samples : int, math.inf or None
        About how many samples the iterator gives; `None` if that is not known.
    batch_size : int
        The number of samples of a full batch.
    drop_last : bool
        Whether to leave out all batches with fewer samples.
    check : callable
        `check(name, indices)` returns the indices of a batch as a tree, or raises an error.
    exact : bool
        Whether there are exactly `num_samples`, all in full batches but for the last one. If
        not, and `num_samples` is finite, batches are counted when their number is needed.
    """

    def __init__(
        self,
        name: str,
        make_iterator: Callable[[Shuffle], Iterator[Any]],
        num_samples: int | float | None,
        batch_size: int,
        shuffle: Shuffle,
        drop_last: bool,
        check: Callable[[str, Any], IndexTree],
        exact: bool = False,
    ) -> None:
        self._name = name
        self._make_iterator = make_iterator
        self._num_samples = num_samples
        self._batch_size = batch_size
        self._drop_last = drop_last
        self._check = check
        self._known = exact or num_samples is None or num_samples == math.inf
        self.shuffle = shuffle
        self.pure = shuffle.pure
        self._start()

    def _start(self) -> None:
        self._iterator = self._open(self.shuffle)
        self._reached = 0
        self._latest: IndexTree = None

    def _open(self, shuffle: Shuffle) -> UserIterator:
        def check(indices: Any) -> IndexTree:
            return self._check(f'batch {iterator.given} of {self._name}', indices)

        iterator = UserIterator(iter(self._make_iterator(shuffle)), self._name, check)
        return iterator

    def _open_copy(self) -> UserIterator:
        """Open another iterator, with a copy of a sequential generator: nothing is drawn from the user's."""
        return self._open(self.shuffle.apart())

    def _next_batch(self, iterator: UserIterator) -> IndexTree:
        """Return the next batch that `drop_last` does not leave out."""
        for _ in range(MOST_SHORT):
            indices = next(iterator)
            if not self._drop_last or len(first_leaf(indices)) >= self._batch_size:
                return indices
        raise ValueError(
            f'drop_last=True leaves out batches of fewer than {self._batch_size} samples, but {self._name} has given '
            f'{MOST_SHORT} such batches in a row; choose a smaller batch_size, or leave drop_last out'
        )

    def describe(self) -> str:
        return self._name

    @property
    def length(self) -> int | float | None:  # type: ignore[override]
        return self._counted[0]

    @property
    def length_at_hand(self) -> int | float | None:
        return self.length if self._known or '_counted' in vars(self) else None

    @property
    def exact(self) -> bool:  # type: ignore[override]
        return self._known or (self.pure and self._counted[1])

    @cached_property
    def empty(self) -> bool | None:
        """Whether there is no batch; if the length is not known, the first batch is drawn to find out."""
        if self.length is not None:
            return super().empty
        try:
            self._next_batch(self._open_copy())
        except StopIteration:
            return True
        except Exception:  # it is raised again at the batch that it belongs to
            return False
        return False

    @cached_property
    def _counted(self) -> tuple[int | float | None, bool]:
        """The number of batches, and whether it is certain; if need be, they are counted, as any may be short."""
        expected = count_batches(self._num_samples, self._batch_size, self._drop_last)
        if self._known:
            return expected, True
        try:
            count = self._count_batches()
        except Exception:  # it is raised again at the batch that it belongs to
            return expected, False
        return count, count is not None

    def _count_batches(self) -> int | None:
        """Count the batches of an iterator made for this alone; return `None` if it may be endless."""
        assert self._num_samples is not None
        count = samples = 0
        iterator = self._open_copy()
        while samples <= MOST_EPOCHS * (self._num_samples + 1):
            try:
                indices = self._next_batch(iterator)
            except StopIteration:
                return count
            count, samples = count + 1, samples + max(1, len(first_leaf(indices)))
        return None

    def _indices(self, number: int, limit: int) -> tuple[IndexTree, int]:
        if number < self._reached - 1:
            if not self.pure:
                raise passed(f'batch {number}')
            self._start()
        while self._reached <= number:
            self._latest = self._next_indices()
            self._reached += 1
        return self._latest, 1

    def _next_indices(self) -> IndexTree:
        try:
            return self._next_batch(self._iterator)
        except StopIteration:
            self._end = self._reached
            raise EndOfPlanError(f'there is no batch {self._reached}: {self._name} gave no more indices') from None
        except BaseException:
            if self.pure and not self._iterator.found_wrong:
                self._start()  # an iterator that has failed may go no further
            raise
