"""Sources over functions and iterators that make batches: they have no plan."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from typing import Any

from .._ground.arguments import check_batch_size, check_count, function_name, overridden, single_size
from .._ground.randomness import Path
from .._ground.words import samples as samples_in_words
from .._plans.options import Asked
from .._plans.plan import count_batches
from .._streams.iterators import IteratorFeed, as_stream, user_batches
from .._streams.stream import Stream
from .base import AbstractDataSource


class CallableDataSource(AbstractDataSource):
    """A source whose batches come from a function that returns an iterator.

    Parameters
    ----------
    batch_iterator_fn : callable
        `batch_iterator_fn(batch_size, **kwargs)` returns an iterator over batches. Called
        when `batch_iterator` is, with exactly the keywords given there.
    num_samples_fn : callable, int, np.inf or None
        The number of samples of an epoch, or a function of the same keywords that returns
        it; `np.inf` if endless, `None` if unknown.
    """

    def __init__(
        self,
        batch_iterator_fn: Callable[..., Any],
        num_samples_fn: Callable[..., Any] | int | float | None = None,
    ) -> None:
        if not callable(batch_iterator_fn):
            raise TypeError(f'batch_iterator_fn must be callable, got {type(batch_iterator_fn).__name__}')
        if not callable(num_samples_fn):
            check_count('num_samples_fn must be a callable, or the number itself: it', num_samples_fn)
        self.batch_iterator_fn = batch_iterator_fn
        self.num_samples_fn = num_samples_fn

    def _words(self) -> str:
        told = None if callable(self.num_samples_fn) else self.num_samples_fn
        return function_name(self.batch_iterator_fn) + samples_in_words(told)

    def num_samples(self, **kwargs: Any) -> int | float | None:
        if callable(self.num_samples_fn):
            return check_count('the result of num_samples_fn', _call('num_samples_fn', self.num_samples_fn, **kwargs))
        return self.num_samples_fn

    def batch_iterator(self, batch_size: int, **kwargs: Any) -> Stream:
        """Return a stream over the batches of an epoch; keywords go to the function."""
        return self._open_called(Asked(check_batch_size(batch_size), kwargs))

    def _open(self, asked: Asked, path: Path) -> Stream:
        return super()._open(asked, path) if overridden(self, 'batch_iterator') else self._open_called(asked)

    def _open_called(self, asked: Asked) -> Stream:
        """Open a stream over what the function returns."""
        size = single_size(asked.batch_size, type(self).__name__)
        batches = _call('batch_iterator_fn', self.batch_iterator_fn, size, **asked.keywords_for(self.batch_iterator_fn))
        return as_stream(batches, self._origin, asked, self._told_length(asked))

    def _told_length(self, asked: Asked) -> int | float | None:
        told = self.num_samples_fn if callable(self.num_samples_fn) else self.num_samples
        samples = self.num_samples(**asked.keywords_for(told))
        return count_batches(samples, single_size(asked.batch_size, type(self).__name__), asked.drop_last)

    def _check_asked(self, asked: Asked) -> None:
        if overridden(self, 'batch_iterator'):
            super()._check_asked(asked)
        else:
            single_size(asked.batch_size, type(self).__name__)
            asked.check_epochs(self.batch_iterator_fn, self._origin)

    @property
    def _origin(self) -> str:
        """What makes the batches, for errors."""
        return f'batch_iterator_fn ({function_name(self.batch_iterator_fn)})'


def _call(name: str, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a user's function; if it does not take the arguments, the error says how it is called.

    An error that is raised inside the function stays what it is.
    """
    try:
        return fn(*args, **kwargs)
    except TypeError as error:
        problem = _misfit(fn, args, kwargs)
        if problem is None:
            raise
        form = 'fn(batch_size, **kwargs)' if args else 'fn(**kwargs)'
        given = ', '.join([*map(repr, args), *(f'{key}={value!r}' for key, value in kwargs.items())])
        raise TypeError(
            f'{name} ({function_name(fn)}) is called as {form} with the keywords that are given to the method, '
            f'here as fn({given}), which it does not take: {problem}'
        ) from error


def _misfit(fn: Callable[..., Any], args: Any, kwargs: Any) -> TypeError | None:
    """Return why a function cannot be called with some arguments; `None` if it can, or that is not known."""
    try:
        signature = inspect.signature(fn)
    except (TypeError, ValueError):  # some functions in C have none
        return None
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        return error
    return None


class IteratorDataSource(AbstractDataSource):
    """A source over one given iterator, which can be gone through once.

    Parameters
    ----------
    batch_iter : iterator of batches
        Gives the batches.
    n_samples : int, np.inf or None
        The number of samples; `np.inf` if endless, `None` if unknown.
    """

    def __init__(self, batch_iter: Iterator[Any], n_samples: int | float | None = None) -> None:
        if not hasattr(batch_iter, '__next__'):
            raise TypeError(
                f'batch_iter must be an iterator over batches, got {type(batch_iter).__name__}; iter(x) makes one'
            )
        self.batch_iter = batch_iter
        self._batches = user_batches(batch_iter, type(self).__name__)
        self.n_samples = check_count('n_samples', n_samples)

    def _words(self) -> str:
        return type(self.batch_iter).__name__ + samples_in_words(self.n_samples)

    def num_samples(self, **kwargs: Any) -> int | float | None:
        return self.n_samples

    def batch_iterator(self, batch_size: int | None = None, *args: Any, **kwargs: Any) -> Stream:
        """Return a stream over the rest of the iterator; all arguments are ignored.

        Warns when the iterator has ended for an earlier stream, so that there is no rest.
        """
        if self._batches.iterator is not self.batch_iter:
            self._batches = user_batches(self.batch_iter, type(self).__name__)
        return Stream(IteratorFeed(self._batches, type(self).__name__, self._own_length, owned=False))

    def _count_batches(self, asked: Asked) -> int | float | None:
        return super()._count_batches(asked) if overridden(self, 'batch_iterator') else self._own_length

    def _check_asked(self, asked: Asked) -> None:
        if overridden(self, 'batch_iterator'):
            super()._check_asked(asked)

    @property
    def _own_length(self) -> float | None:
        """The number of batches, which the number of samples does not tell: the iterator makes them as it likes."""
        return math.inf if self.n_samples == math.inf else None
