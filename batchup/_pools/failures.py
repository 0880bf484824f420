"""Exceptions on their way from a worker to the user."""

from __future__ import annotations

import pickle
import traceback
from typing import Any, NoReturn


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
    from what does: its type, or the nearest base of it, its arguments and its attributes.
    """

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __reduce__(self) -> tuple[Any, ...]:
        text = ''.join(traceback.format_exception(type(self.error), self.error, self.error.__traceback__))
        return _arrive, (_pickled(self.error), _remains(self.error), text)

    def throw(self) -> NoReturn:
        """Raise the exception."""
        error = self.error
        try:
            raise error
        finally:
            # A frame that an error refers to, and that refers to the error, is freed late.
            del self, error


def _pickled(error: BaseException) -> bytes | None:
    """Pickle an exception, if that gives one like it back."""
    try:
        data = pickle.dumps(error)
        return data if type(pickle.loads(data)) is type(error) else None
    except Exception:
        return None


def _remains(error: BaseException) -> tuple[Any, ...]:
    """Return the parts of an exception that pickle: a base, the name of its type, arguments, attributes."""
    base = next(kind for kind in type(error).__mro__ if _pickles(kind))
    arguments = tuple(argument if _pickles(argument) else repr(argument) for argument in error.args)
    attributes = {name: value for name, value in vars(error).items() if _pickles(value)}
    return base, (type(error).__name__, type(error).__qualname__), arguments, attributes


def _pickles(value: Any) -> bool:
    try:
        pickle.loads(pickle.dumps(value))
    except Exception:
        return False
    return True


def _arrive(data: bytes | None, remains: tuple[Any, ...], text: str) -> Failure:
    """Bring an exception back to life, with the worker's traceback as its cause."""
    error: BaseException
    try:
        error = pickle.loads(data) if data is not None else _made_anew(*remains)
    except Exception:
        error = _made_anew(*remains)
    error.__cause__ = WorkerTraceback(text)
    return Failure(error)


def _made_anew(
    base: type[BaseException], names: tuple[str, str], arguments: tuple[Any, ...], attributes: dict[str, Any]
) -> BaseException:
    name, qualified = names
    kind = base if base.__qualname__ == qualified else type(name, (base,), {'__qualname__': qualified})
    try:
        error: BaseException = kind.__new__(kind, *arguments)
    except Exception:
        error = RuntimeError(f'{name}: {", ".join(str(argument) for argument in arguments)}')
    error.__dict__.update(attributes)
    return error
