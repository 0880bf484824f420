"""Exceptions on their way from a worker to the user."""

from __future__ import annotations

import builtins
import contextlib
import pickle
import traceback
from collections.abc import Iterator
from typing import Any, NamedTuple, NoReturn

from .._ground.messages import add_note


class WorkerTraceback(Exception):  # noqa: N818 - it shows where an error comes from, and is none itself
    """The traceback of a worker, as the cause of the exception that came from there."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n\n{self.text}'


class Failure:
    """An exception that a worker has caught, to be raised where its result is asked for.

    It keeps its type on the way between processes. One that does not pickle is made anew
    from the parts that do: its type, or the nearest base of it, its arguments and attributes.

    Attributes
    ----------
    error : BaseException
        The exception.
    worker : str
        The worker that has caught it; empty for the user's own thread.
    """

    def __init__(self, error: BaseException) -> None:
        self.error = error
        self.worker = ''

    def by(self, worker: str) -> Failure:
        """Note, on the exception too, which worker has caught it."""
        self.worker, note = worker, f'in {worker}'
        known = False
        with contextlib.suppress(Exception):  # the type may refuse to show notes
            known = note in self.error.__notes__
        if not known:
            add_note(self.error, note)
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrive, (_pickled(self.error), _remains(self.error), _traceback_of(self.error), self.worker)

    def throw(self) -> NoReturn:
        """Raise the exception."""
        error = self.error
        try:
            raise error
        finally:
            # An error and a frame that refer to each other are freed late.
            del self, error


def _pickled(error: BaseException) -> bytes | None:
    """Pickle an exception; `None` if no exception of its type comes back."""
    try:
        data = pickle.dumps(error)
        revived = pickle.loads(data)
        # Dask has exceptions pickled in a way of its own, which forgets what is in slots.
        whole = type(revived) is type(error) and len([*_in_slots(revived)]) == len([*_in_slots(error)])
        return data if whole else None
    except Exception:
        return None


class _Remains(NamedTuple):
    """The parts of an exception that pickle.

    Attributes
    ----------
    base : type
        The type of the exception, or the nearest base of it.
    names : (str, str)
        The name of the type, and its qualified name.
    arguments : tuple
        The arguments; texts stand for those that do not pickle.
    attributes : dict
        Its attributes, those in slots too.
    members : list
        The exceptions of a group; `None` for any other exception.
    """

    base: type[BaseException]
    names: tuple[str, str]
    arguments: tuple[Any, ...]
    attributes: dict[str, Any]
    members: list[tuple[bytes | None, _Remains]] | None

    def made_anew(self) -> BaseException:
        """Make an exception of these parts, as far as it can be."""
        error = self._made()
        for name, value in self.attributes.items():
            with contextlib.suppress(Exception):
                # Not by `setattr`: the type may refuse it, as a frozen dataclass does.
                object.__setattr__(error, name, value)
        return error

    def _made(self) -> BaseException:
        name, qualified = self.names
        kind, arguments = self.base, self.arguments
        if self.members is not None:
            arguments = (*arguments[:1], [_revived(*member) for member in self.members])
        try:
            if kind.__qualname__ != qualified:
                kind = type(name, (kind,), {'__qualname__': qualified})
            error: BaseException = kind.__new__(kind, *arguments)
            return error
        except Exception:
            return RuntimeError(f'{name}: {", ".join(_text(argument) for argument in arguments)}')


def _remains(error: BaseException) -> _Remains:
    base = next(kind for kind in type(error).__mro__ if _pickles(kind))
    arguments = tuple(argument if _pickles(argument) else _text(argument) for argument in error.args)
    attributes = {name: value for name, value in _attributes(error) if _pickles(value)}
    members = None
    if _is_group(error):
        members = [(_pickled(member), _remains(member)) for member in error.exceptions]  # type: ignore[attr-defined]
    return _Remains(base, (type(error).__name__, type(error).__qualname__), arguments, attributes, members)


def _is_group(error: BaseException) -> bool:
    group = getattr(builtins, 'BaseExceptionGroup', None)  # since Python 3.11
    return group is not None and isinstance(error, group)


def _attributes(error: BaseException) -> Iterator[tuple[str, Any]]:
    """Go through the attributes of an exception that its type has added, with their values."""
    yield from _in_slots(error)
    with contextlib.suppress(Exception):
        yield from vars(error).items()


def _in_slots(error: BaseException) -> Iterator[tuple[str, Any]]:
    for kind in type(error).__mro__:
        slots = vars(kind).get('__slots__', ())
        for name in (slots,) if isinstance(slots, str) else slots:
            with contextlib.suppress(Exception):
                yield name, object.__getattribute__(error, name)


def _text(value: Any) -> str:
    try:
        return value if isinstance(value, str) else repr(value)
    except Exception:
        return f'({type(value).__name__})'


def _pickles(value: Any) -> bool:
    try:
        pickle.loads(pickle.dumps(value))
    except Exception:
        return False
    return True


def _traceback_of(error: BaseException) -> str:
    """Return the traceback of an exception, as text; shorter if it cannot even be printed."""
    try:
        return ''.join(traceback.format_exception(type(error), error, error.__traceback__))
    except Exception:
        return ''.join(traceback.format_tb(error.__traceback__)) + type(error).__name__


def _revived(data: bytes | None, remains: _Remains) -> BaseException:
    """Unpickle an exception, or make it anew from its parts."""
    try:
        return pickle.loads(data) if data is not None else remains.made_anew()
    except Exception:
        return remains.made_anew()


def _arrive(data: bytes | None, remains: _Remains, text: str, worker: str) -> Failure:
    """Unpickle a failure; its exception gets the worker's traceback as its cause."""
    error = _revived(data, remains)
    with contextlib.suppress(Exception):
        # Not by `setattr`: the type may refuse it.
        BaseException.__setattr__(error, '__cause__', WorkerTraceback(text))
    return Failure(error).by(worker) if worker else Failure(error)
