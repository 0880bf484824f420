"""Calls that do not fit: they name the class that the user wrote, and what it takes."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

Method = TypeVar('Method', bound=Callable[..., Any])


def names_class(method: Method) -> Method:
    """Have the error of a call that does not fit a method name the class of the object, and the arguments.

    >>> class Base:
    ...     @names_class
    ...     def read(self, path, *, mode='r'):
    ...         return path
    >>> class Own(Base):
    ...     pass
    >>> Own().read('a', path='b')
    Traceback (most recent call last):
        ...
    TypeError: Own.read() got multiple values for argument 'path'; it is called as read(path, *, mode)
    """

    @wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return method(self, *args, **kwargs)
        except TypeError as error:
            if error.__traceback__ is None or error.__traceback__.tb_next is not None:
                raise  # it comes from inside the method
            problem = str(error).replace(method.__qualname__, f'{type(self).__name__}.{method.__name__}')
        raise TypeError(f'{problem}; it is called as {method.__name__}({_arguments(method)})')

    return cast(Method, call)


def _arguments(method: Callable[..., Any]) -> str:
    """Name the arguments of a method, without `self` and `**others`."""
    names: list[str] = []
    for parameter in list(inspect.signature(method).parameters.values())[1:]:
        if parameter.kind is parameter.KEYWORD_ONLY and '*' not in names:
            names.append('*')
        if parameter.kind is not parameter.VAR_KEYWORD:
            names.append(parameter.name)
    return ', '.join(names)
