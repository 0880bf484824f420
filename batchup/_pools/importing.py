"""What worker processes can import: functions and classes are sent to them by name."""

from __future__ import annotations

import ast
import builtins
import copyreg
import functools
import pickle
import sys
import weakref
from pathlib import Path
from types import FunctionType
from typing import Any, TypeGuard

# The usual end of an error about a function or a class that cannot be sent.
TO_A_MODULE = 'put it into a module (a .py file) and import it from there, or use a WorkerThreadPool'
TO_THE_TOP = 'use functions and classes from the top level of a module, or a WorkerThreadPool'

# What a script may call to define names that it does not spell out.
_DEFINING = {'exec', 'eval', 'globals', 'locals', 'setattr', 'vars'}


class Unimportable(pickle.PicklingError):
    """Why workers cannot import a function or a class, and what to do about it."""

    def __init__(self, reason: str, advice: str) -> None:
        super().__init__(f'{reason}; {advice}')


def unsendable(error: Exception) -> TypeError:
    """Make the error for a job that does not pickle."""
    advice = '' if isinstance(error, Unimportable) else f'; {TO_THE_TOP}'
    return TypeError(f'a job cannot be sent to a worker process: {error}{advice}')


class Imports:
    """Tells whether workers can import a function or a class, as far as that is known before they try.

    Parameters
    ----------
    start_method : str
        How the workers are started. Forked ones have what the program had at that time, which is now.
    """

    def __init__(self, start_method: str) -> None:
        self._forked = start_method == 'fork'
        # Weak references: a cell of a notebook may be run again, and the old functions are freed.
        inherited = vars(sys.modules['__main__']).items() if self._forked else ()
        self._inherited = {name: weakref.ref(value) for name, value in inherited if _goes_by_name(value)}

    def reduce(self, value: Any) -> Any:
        """Return `NotImplemented`, as what a worker can import goes by name; otherwise, raise `Unimportable`."""
        if not _goes_by_name(value):
            return NotImplemented
        path = value.__qualname__.split('.')
        if '<lambda>' in path:
            raise Unimportable('a lambda has no name that workers could import', TO_THE_TOP)
        if '<locals>' in path:
            raise Unimportable(f'{path[-1]} is defined inside {path[path.index("<locals>") - 1]}', TO_THE_TOP)
        if value.__module__ == '__main__':
            self._check_script(path[0])
        elif not self._forked and value.__module__ is not None:
            _check_module(value.__module__.partition('.')[0])
        return NotImplemented

    def _check_script(self, name: str) -> None:
        """Raise `Unimportable` if workers have no such name in `__main__`."""
        if self._forked:
            inherited = self._inherited.get(name, lambda: None)()
            if inherited is None or inherited is not getattr(sys.modules['__main__'], name, None):
                raise Unimportable(
                    f'{name} was defined after the workers were forked from your program',
                    'make the pool after it, or use a WorkerThreadPool',
                )
            return
        path = imported_script()
        if path is None:
            raise Unimportable(f'{name} is defined in {_place_of_main()}, which workers cannot import', TO_A_MODULE)
        defined = _names_defined_in(path)
        if defined is not None and name not in defined:
            raise Unimportable(
                f"{name} is defined below `if __name__ == '__main__':`, which workers leave out of the script",
                'define it above, or use a WorkerThreadPool',
            )


def _goes_by_name(value: Any) -> bool:
    """Say whether a value is a function or a class that pickle writes as its name."""
    return isinstance(value, (FunctionType, type)) and type(value) not in copyreg.dispatch_table


def _check_module(name: str) -> None:
    """Raise `Unimportable` if there is no such module for a new interpreter."""
    if name != '__mp_main__' and not _can_be_found(name, tuple(sys.path)):
        raise Unimportable(f'workers find no module {name} in the folders of sys.path', TO_A_MODULE)


@functools.lru_cache(maxsize=1000)
def _can_be_found(name: str, path: tuple[str, ...]) -> bool:
    """Say whether a module can be imported by its name; `path` is `sys.path`."""
    try:
        return any(finder.find_spec(name, None) is not None for finder in sys.meta_path)
    except Exception:  # of someone else's finder
        return True


def imported_script() -> str | None:
    """Return the path of the script that new interpreters import, as multiprocessing does; `None` if they do not."""
    script = sys.modules['__main__']
    path: str | None = getattr(script, '__file__', None)
    name = getattr(getattr(script, '__spec__', None), 'name', None)
    if path is None or path == '<stdin>' or Path(path).stem == 'ipython':
        return None
    # A package that is run, by its `__main__.py`, is not imported.
    return None if name is not None and name.rpartition('.')[2] == '__main__' else path


def _place_of_main() -> str:
    """Say where code comes from that is in no file which could be imported."""
    shell = getattr(builtins, 'get_ipython', None)
    if shell is not None:
        return 'this notebook' if type(shell()).__name__ == 'ZMQInteractiveShell' else 'this IPython session'
    if hasattr(sys, 'ps1'):
        return 'this interactive session'
    places = {'-c': 'the text of `python -c`', '-': 'standard input', '': 'standard input'}
    return places.get(sys.argv[0], '`__main__`')


def _parsed(path: str) -> ast.Module | None:
    """Return the syntax tree of a script; `None` if there is none."""
    try:
        return _parsed_once(path, Path(path).stat().st_mtime_ns)
    except (OSError, SyntaxError, ValueError):
        return None


@functools.lru_cache(maxsize=10)
def _parsed_once(path: str, changed: int) -> ast.Module:
    return ast.parse(Path(path).read_bytes())


def _names_defined_in(path: str) -> set[str] | None:
    """Return all names that a script may define when it is imported, and perhaps more; `None` if it cannot be told."""
    tree = _parsed(path)
    if tree is None:
        return None
    names: set[str] = set()
    for statement in tree.body:
        for part in statement.orelse if _is_guard(statement) else [statement]:
            for node in ast.walk(part):
                if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                    names.add(node.name)
                elif isinstance(node, ast.alias):
                    names.add((node.asname or node.name).partition('.')[0])
                elif isinstance(node, ast.Name):
                    names.add(node.id if isinstance(node.ctx, ast.Store) or node.id in _DEFINING else '')
    return None if names & {'*', *_DEFINING} else names


def _is_guard(node: ast.AST) -> TypeGuard[ast.If]:
    """Say whether a statement is `if __name__ == '__main__':`."""
    return (
        isinstance(node, ast.If)
        and isinstance(node.test, ast.Compare)
        and isinstance(node.test.ops[0], ast.Eq)
        and {getattr(part, 'id', getattr(part, 'value', None)) for part in (node.test.left, *node.test.comparators)}
        == {'__name__', '__main__'}
    )


# What a function may use to tell a process that imports a script from the one that runs it.
_TELLING_APART = {'__name__', 'current_process', 'parent_process'}

# What may end a script before it comes to its next line.
_LEAVING = {'exit', 'quit', '_exit'}


def lacks_guard() -> bool:
    """Say whether what calls this is sure to be called again when a new interpreter imports the script.

    It is if no `if` of the script is around the line that is being run, none before it ends the script, and no
    function on the way here tells processes apart.
    """
    script, path = sys.modules['__main__'], imported_script()
    tree = None if path is None else _parsed(path)
    frame = sys._getframe(1)
    while frame.f_globals is not vars(script) or frame.f_code.co_name != '<module>':
        own = frame.f_globals.get('__name__', '').partition('.')[0] == __name__.partition('.')[0]
        if frame.f_back is None or (not own and _TELLING_APART.intersection(frame.f_code.co_names)):
            return False
        frame = frame.f_back
    if tree is None or Path(frame.f_code.co_filename).absolute() != Path(str(path)).absolute():
        return False
    before = [statement for statement in tree.body if statement.lineno <= frame.f_lineno]
    return not any(_may_keep_out(statement, frame.f_lineno) for statement in before)


def _may_keep_out(statement: ast.stmt, line: int) -> bool:
    """Say whether, because of a statement, a line at its end or after it may not be run."""
    choices = [node for node in ast.walk(statement) if isinstance(node, (ast.If, ast.Match))]
    if line <= (statement.end_lineno or line):
        return any(node.lineno <= line <= (node.end_lineno or line) for node in choices)
    return isinstance(statement, (ast.If, ast.Match, ast.Try)) and any(
        isinstance(node, ast.Raise) or getattr(node, 'id', getattr(node, 'attr', '')) in _LEAVING
        for node in ast.walk(statement)
    )
