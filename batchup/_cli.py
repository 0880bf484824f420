"""The command line: `python -m batchup COMMAND`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from . import __version__
from ._command import CommandError

# Exit codes: as argparse ends for bad arguments, and as shells report SIGINT and SIGPIPE.
BAD_USAGE = 2
INTERRUPTED = 130
OUTPUT_CLOSED = 141

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
    """Keep Python from writing to a broken standard output once more, at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _end(message: str, code: int) -> int:
    """Show a message as one line, and return the exit code."""
    print('batchup:', ' '.join(message.split()), file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='python -m batchup', description='Mini-batches of samples, for data that is held as arrays.'
    )
    parser.add_argument('--version', action='version', version=f'batchup {__version__}')
    commands = parser.add_subparsers(title='commands', metavar='COMMAND', required=True)
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
    return parser


def _add_demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--data',
        metavar='FILE.npz',
        help='train on the arrays X (n, ...) and y (n class labels) of this file; images are (n, h, w) or (n, c, h, w)',
    )
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
    from . import _demo  # noqa: PLC0415 - to show help, NumPy is not needed

    _demo.run(_demo.Options(arguments.data, arguments.epochs, arguments.batch_size, arguments.seed, arguments.resume))


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
