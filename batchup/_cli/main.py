"""The command line: `python -m batchup COMMAND`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from .. import __version__
from ..errors import DatasetError
from .commands.base import CommandError

# Exit codes: as argparse ends for bad arguments, and as shells report SIGINT and SIGPIPE.
BAD_USAGE = 2
INTERRUPTED = 130
OUTPUT_CLOSED = 141

# Before what is told on the standard error output.
PREFIX = 'batchup:'

# How many threads the libraries below NumPy use for matrix products.
THREAD_LIMITS = ('OPENBLAS_NUM_THREADS', 'MKL_NUM_THREADS', 'OMP_NUM_THREADS', 'VECLIB_MAXIMUM_THREADS')


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments; by default, those that the process was started with.

    Returns
    -------
    int
        The exit code: 0; 2 for a problem that the user can solve; 130 for Ctrl-C.
    """
    arguments = _parser().parse_args(argv)
    try:
        arguments.run(arguments)
    except CommandError as error:
        return _end(f'error: {error}', BAD_USAGE)
    except DatasetError as error:  # its lines name the addresses that were tried
        print(f'{PREFIX} error: {error}', file=sys.stderr)
        return BAD_USAGE
    except KeyboardInterrupt as error:
        return _end(str(error) or 'interrupted', INTERRUPTED)
    except BrokenPipeError:  # the reader has gone, as `| head` does
        _drop_output()
        return OUTPUT_CLOSED
    except OSError as error:  # as on a full disk
        _drop_output()
        return _end(f'error: {error}', BAD_USAGE)
    return 0


def _drop_output() -> None:
    """Keep Python from writing to a broken standard output again when it exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _end(message: str, code: int) -> int:
    """Show a message as one line, and return the exit code."""
    print(PREFIX, ' '.join(message.split()), file=sys.stderr)
    return code


class _Parser(argparse.ArgumentParser):
    """Tells bad arguments like all other errors, below the usage."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(BAD_USAGE, f'{PREFIX} error: {message}\n')


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog='python -m batchup', description='Mini-batches of samples, for data that is held as arrays.')
    parser.add_argument('--version', action='version', version=f'batchup {__version__}')
    parser.set_defaults(run=lambda _: parser.print_help())
    commands = parser.add_subparsers(title='commands', metavar='COMMAND')
    _add_demo(
        commands.add_parser(
            'demo',
            help='train a small network on handwritten digits, or on your own data',
            description='Train a small network on the handwritten digits that ship with batchup, or on your own data: '
            'shuffled and class-balanced batches, random augmentation, and runs that can be continued.',
            epilog='Every run with the same seed gives the same numbers, however often it was stopped and continued.',
            allow_abbrev=False,
        )
    )
    _add_datasets(
        commands.add_parser(
            'datasets',
            help='list, fetch, verify and delete the standard data sets',
            description='Look after the standard data sets on this machine.',
            allow_abbrev=False,
        )
    )
    _add_show(
        commands.add_parser(
            'show',
            help='show what is in a data set or a .npz file',
            description='Print the shapes, dtypes and class counts of the arrays of a data set or a .npz file, and '
            'draw some samples.',
            allow_abbrev=False,
        )
    )
    _add_bench(
        commands.add_parser(
            'bench',
            help='measure a source with threads, with processes and without a pool',
            description='Measure how fast a loop over the batches of a source is: without a pool, with threads, and '
            'with processes. Say which is best, and print the line of code for it.',
            epilog='MODULE is imported from the current directory, as by `import MODULE`. OBJECT is a source, a list '
            'of arrays, or a function without arguments that returns one.',
            allow_abbrev=False,
        )
    )
    return parser


def _add_demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--data',
        metavar='FILE.npz',
        help='train on the arrays X (n, ...) and y (n class labels) of this file, or x_train and y_train, or images '
        'and labels; images are (n, h, w) or (n, c, h, w)',
    )
    _add_array_names(parser)
    parser.add_argument(
        '--epochs', type=_integer(1), default=25, metavar='N', help='passes over the training data (default: 25)'
    )
    parser.add_argument(
        '--batch-size', type=_integer(2), default=64, metavar='N', help='samples in a batch, at least 2 (default: 64)'
    )
    parser.add_argument(
        '--seed', type=_integer(0), default=0, metavar='N', help='selects all random draws, 0 or more (default: 0)'
    )
    parser.add_argument(
        '--resume',
        metavar='FILE',
        help='keep a checkpoint in this file, several times an epoch; if it exists, continue from it',
    )
    parser.set_defaults(run=_run_demo)


def _run_demo(arguments: argparse.Namespace) -> None:
    # Read when NumPy is loaded. Sums by several threads have other last digits, and what the
    # demo prints must not depend on the number of cores.
    os.environ.update(dict.fromkeys(THREAD_LIMITS, '1'))
    from . import demo as _demo  # noqa: PLC0415 - to show help, NumPy is not needed

    given = arguments
    _demo.run(_demo.Options(given.data, given.epochs, given.batch_size, given.seed, given.resume, given.x, given.y))


def _add_array_names(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--x', metavar='NAME', help='the array of samples, if it has another name')
    parser.add_argument('--y', metavar='NAME', help='the array of their labels, if it has another name')


def _add_datasets(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(title='actions', metavar='ACTION', required=True)

    def add(action: str, does: str, names: str | None, run: Callable[[Any, argparse.Namespace], None]) -> None:
        added = actions.add_parser(action, help=does, description=f'{does[0].upper()}{does[1:]}.', allow_abbrev=False)
        if names is not None:
            added.add_argument('names', nargs=names, metavar='NAME', help='a data set; `datasets list` names them all')
        added.set_defaults(run=lambda arguments: _run_datasets(run, arguments))

    add('list', 'list all data sets: samples, shape, size on disk, state', None, lambda do, _: do.show_list())
    add('fetch', 'download and convert data sets', '+', lambda do, given: do.fetch(given.names))
    add(
        'verify', 'compare data sets with their checksums (default: all)', '*', lambda do, given: do.verify(given.names)
    )
    add('clear', 'delete data sets, and what was downloaded for them', '+', lambda do, given: do.clear(given.names))
    add('path', 'print the folder of all data sets, or of one', '?', lambda do, given: do.show_path(given.names))


def _run_datasets(run: Callable[[Any, argparse.Namespace], None], arguments: argparse.Namespace) -> None:
    from .commands import datasets  # noqa: PLC0415 - to show help, NumPy is not needed

    run(datasets, arguments)


def _add_show(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('name', metavar='NAME|FILE.npz', help='a data set, or a file with arrays')
    parser.add_argument('--png', metavar='FILE', help='write a picture of some samples to this file (needs Pillow)')
    _add_array_names(parser)
    parser.add_argument(
        '--count', type=_integer(1), default=64, metavar='N', help='how many samples to draw (default: 64)'
    )
    parser.add_argument('--seed', type=_integer(0), default=0, metavar='N', help='selects them, 0 or more (default: 0)')
    parser.set_defaults(run=_run_show)


def _run_show(arguments: argparse.Namespace) -> None:
    from .commands.show import show  # noqa: PLC0415

    show(arguments.name, arguments.png, arguments.count, arguments.seed, arguments.x, arguments.y)


def _add_bench(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        'source', metavar='MODULE:OBJECT|NAME|FILE.npz', help='a source of your own, a data set, or a file with arrays'
    )
    parser.add_argument(
        '--batch-size', type=_integer(1), default=64, metavar='N', help='samples in a batch (default: 64)'
    )
    parser.add_argument(
        '--consumer-ms',
        type=_number(0),
        default=0.0,
        metavar='MS',
        help='how long your loop works on a batch, in milliseconds (default: 0)',
    )
    parser.add_argument(
        '--seconds', type=_number(0.1), default=20.0, metavar='S', help='how long to measure in all (default: 20)'
    )
    parser.set_defaults(run=_run_bench)


def _run_bench(arguments: argparse.Namespace) -> None:
    from .commands.bench import bench  # noqa: PLC0415

    bench(arguments.source, arguments.batch_size, arguments.consumer_ms, arguments.seconds)


def _number(minimum: float) -> Callable[[str], float]:
    """Return a function that reads an argument as a finite number of `minimum` or more."""

    def read(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f'must be a number, got {text!r}') from None
        if not minimum <= number < float('inf'):
            raise argparse.ArgumentTypeError(f'must be at least {minimum}, and finite, got {text}')
        return number

    return read


def _integer(minimum: int) -> Callable[[str], int]:
    """Return a function that reads an argument as an integer of `minimum` or more."""

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f'must be an integer, got {text!r}') from None
        if number < minimum:
            raise argparse.ArgumentTypeError(f'must be at least {minimum}, got {number}')
        return number

    return read
