"""The arguments of `batch_iterator`: as they were given, and as sources with a plan understand them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from .._ground.arguments import (
    BatchSize,
    check_batch_sizes,
    check_flag,
    check_keywords,
    is_integer,
    member_sizes,
    takes_keyword,
)
from .._ground.randomness import SeededShuffle, Shuffle, understood
from .shards import Shard

# The keywords of `plan`, and those of `batch_iterator`.
PLAN_KEYWORDS: Final = ('batch_size', 'shuffle', 'epoch', 'drop_last')
KEYWORDS: Final = (*PLAN_KEYWORDS, 'shard', 'uneven')


@dataclass(frozen=True)
class Options:
    """How an epoch is cut into batches.

    Attributes
    ----------
    batch_size : int or tuple
        The number of samples in a batch, or a tuple with one for each member.
    shuffle : Shuffle
        How samples are shuffled, and the epoch.
    drop_last : bool
        Whether a short last batch is left out.
    shard : Shard
        Which part of every batch to take.
    """

    batch_size: BatchSize
    shuffle: Shuffle
    drop_last: bool
    shard: Shard

    @classmethod
    def check(
        cls,
        batch_size: Any,
        shuffle: Any = None,
        epoch: Any = 0,
        drop_last: bool = False,
        shard: Any = None,
        uneven: Any = 'share',
    ) -> Options:
        """Check the arguments of `batch_iterator`."""
        drop_last = check_flag('drop_last', drop_last)
        shuffle = Shuffle.coerce(shuffle, epoch)
        check_ranks(shuffle, shard)
        return cls(check_batch_sizes(batch_size), shuffle, drop_last, Shard.check(shard, uneven))

    def of_members(self, count: int) -> list[Options]:
        """Return the options of each of `count` members."""
        return [replace(self, batch_size=size) for size in member_sizes(self.batch_size, count)]

    def apart(self) -> Options:
        """Return the same options with a copy of a sequential generator: nothing is drawn from the user's."""
        return replace(self, shuffle=self.shuffle.apart())

    def facts(self) -> dict[str, Any]:
        """Return the arguments that a saved state must agree with: all but the shard."""
        return {
            'batch_size': _fact(self.batch_size),
            'drop_last': self.drop_last,
            'shuffle': str(self.shuffle),
            'epoch': self.shuffle.epoch,
        }


@dataclass(frozen=True)
class Asked:
    """The arguments of `batch_iterator` as the user gave them.

    Sources with a plan take them as `options`, which are checked. Users' own sources are given
    the keywords as they are, and may have others.

    Attributes
    ----------
    batch_size : int or tuple
        The number of samples in a batch, or a tuple with one for each member.
    keywords : mapping
        The other arguments, by their names.
    counted : bool
        Whether the epoch is counted by a loader: code that does not take `epoch=` is called without it.
    """

    batch_size: BatchSize
    keywords: Mapping[str, Any]
    counted: bool = False

    def options(self, source: str) -> Options:
        """Check the arguments; an error for an unknown keyword names the source's class, which is given."""
        check_keywords(f'{source}.batch_iterator', self.keywords, KEYWORDS)
        return Options.check(self.batch_size, **self.keywords)

    def at(self, epoch: int) -> Asked:
        """Return the arguments for an epoch."""
        return replace(self, keywords={**self.keywords, 'epoch': epoch})

    def keywords_for(self, fn: Callable[..., Any]) -> Mapping[str, Any]:
        """Return the keywords to call a user's function with."""
        if not self.counted or takes_keyword(fn, 'epoch'):
            return self.keywords
        return {name: value for name, value in self.keywords.items() if name != 'epoch'}

    def check_epochs(self, fn: Callable[..., Any], name: str) -> None:
        """Raise `TypeError` if a function that makes batches would shuffle every epoch of a loader alike."""
        seeded = self.shuffle is not None and self.shuffle.seed is not None
        if seeded and 'epoch' not in self.keywords_for(fn):
            raise TypeError(
                f'{name} does not take epoch=, so that each pass of a loader would have the same order by the seed '
                f'shuffle={self.keywords["shuffle"]!r}: let it take epoch=0, and shuffle by both, or give a '
                'RandomState or a Generator, from which each pass draws on'
            )

    def of_members(self, count: int) -> list[Asked]:
        """Return the arguments for each of `count` members."""
        return [replace(self, batch_size=size) for size in member_sizes(self.batch_size, count)]

    @property
    def shuffle(self) -> Shuffle | None:
        """How samples are shuffled, without the epoch; `None` if only users' code can tell."""
        return understood(self.keywords.get('shuffle'))

    @property
    def drop_last(self) -> bool:
        """Whether a short last batch is left out."""
        return bool(self.keywords.get('drop_last'))

    def check_ranks(self) -> None:
        """Raise `ValueError` if the ranks that share batches would shuffle by different generators."""
        check_ranks(self.shuffle, self.keywords.get('shard'))

    def facts(self) -> dict[str, Any]:
        """Return the arguments that a saved state must agree with: all but the shard."""
        given, epoch = self.keywords.get('shuffle'), self.keywords.get('epoch', 0)
        others = {
            name: value if isinstance(value, (str, bool, float)) or is_integer(value) else type(value).__name__
            for name, value in sorted(self.keywords.items())
            if name not in ('shuffle', 'epoch', 'shard', 'uneven')
        }
        return {
            'batch_size': _fact(self.batch_size),
            'shuffle': type(given).__name__ if self.shuffle is None else str(self.shuffle),
            'epoch': int(epoch) if is_integer(epoch) else str(epoch),
            **({'keywords': str(others)} if others else {}),
        }

    def key(self) -> tuple[int, int, int]:
        """Return the seed, the epoch and the rank as a key of draws, with 0 for what is not known."""
        keywords = self.keywords
        return _key_part(keywords.get('shuffle')), _key_part(keywords.get('epoch')), _rank(keywords.get('shard'))


def check_ranks(shuffle: Shuffle | None, shard: Any) -> None:
    """Raise `ValueError` if the ranks that share batches would shuffle by different generators."""
    if shard is not None and shuffle is not None and shuffle.is_global:
        raise ValueError(
            "shuffle=True draws from NumPy's global generator, and every process has its own global generator: the "
            'ranks of shard= would not shuffle alike, and see some samples twice and others never; give all ranks the '
            'same seed, such as shuffle=42, or each a RandomState or a Generator in the same state'
        )


def _fact(batch_size: BatchSize) -> int | str:
    """Return a batch size as JSON keeps it: it has no tuples."""
    return str(batch_size) if isinstance(batch_size, tuple) else batch_size


def _key_part(value: Any) -> int:
    """Return what the value of a keyword adds to a key: an integer, or the first one of a sequence.

    Other values, which only users' sources understand, add 0.
    """
    if isinstance(value, SeededShuffle):
        value = value.seed
    if isinstance(value, (tuple, list)) and value:
        value = value[0]
    return abs(int(value)) if is_integer(value) else 0


def _rank(shard: Any) -> int:
    """Return the rank of a shard; for another kind of value, what it adds to a key."""
    try:
        return Shard.check(shard).rank
    except (TypeError, ValueError):
        return _key_part(shard)
