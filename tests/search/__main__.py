"""The command line of the search."""

from __future__ import annotations

import argparse
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from .running import CHECKS, Summary, run_range

# Larger: fewer lines of progress. Smaller: the work is shared more evenly.
EXAMPLES_AT_ONCE = 1000


def main() -> int:
    parser = argparse.ArgumentParser(prog='python -m tests.search', description=__doc__)
    parser.add_argument('--examples', type=int, default=10_000, help='how many (default: 10000)')
    parser.add_argument('--seed', type=int, default=0, help='the seed of the first one (default: 0)')
    parser.add_argument('--only', choices=sorted(CHECKS), help='one check alone')
    parser.add_argument('--jobs', type=int, default=1, help='processes that share the seeds (default: 1)')
    parser.add_argument('--processes', action=argparse.BooleanOptionalAction, default=True, help='pools of processes')
    arguments = parser.parse_args()
    stop = arguments.seed + arguments.examples
    ranges = [
        (start, min(start + EXAMPLES_AT_ONCE, stop), arguments.only, arguments.processes)
        for start in range(arguments.seed, stop, EXAMPLES_AT_ONCE)
    ]
    total, began = Summary(), time.monotonic()
    if arguments.jobs == 1:
        for part in map(run_range, ranges):
            tell(part, total.add(part), arguments.examples, began)
    else:
        with ProcessPoolExecutor(arguments.jobs, get_context('spawn')) as executor:
            for part in executor.map(run_range, ranges):
                tell(part, total.add(part), arguments.examples, began)
    print(total.report())
    return 1 if total.failures else 0


def tell(part: Summary, total: Summary, examples: int, began: float) -> None:
    """Say which of the latest examples failed, and how far the search has come."""
    for failure in part.failures:
        print(f'--only {failure.check!r} --seed {failure.seed}: {failure.error}', file=sys.stderr)
    done = sum(total.examples.values())
    rate = done / (time.monotonic() - began)
    print(f'{done} of {examples} examples, {len(total.failures)} failures, {rate:.0f} a second', file=sys.stderr)


if __name__ == '__main__':
    sys.exit(main())
