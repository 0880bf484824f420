"""Runs examples by their seeds, and sums up what came of them."""

from __future__ import annotations

import re
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from . import arguments, checks, pools, results
from .cases import Case

Check = Callable[[Case, Any], None]

# How often each check comes, among all examples.
CHECKS: dict[str, tuple[Check, float]] = {
    'contents': (checks.check_contents, 4),
    'plan': (checks.check_plan, 2),
    'resume': (checks.check_resume, 3),
    'shards': (checks.check_shards, 3),
    'ownership': (checks.check_ownership, 2),
    'errors': (checks.check_errors, 2),
    'draws': (checks.check_draws, 1),
    'results': (results.check_results, 2),
    'merged': (results.check_merged, 2),
    'out': (results.check_out, 1),
    'arguments': (arguments.check_arguments, 1),
    'threads': (pools.checker('threads'), 2),
    'executor': (pools.checker('executor'), 0.5),
    'processes': (pools.checker('fork'), 1.5),
    'processes by spawn': (pools.checker('spawn'), 0.3),
}


@dataclass(frozen=True)
class Failure:
    """An example that failed: `python -m tests.search --examples 1 --seed SEED --only CHECK` runs it again."""

    seed: int
    check: str
    error: str
    details: str


@dataclass
class Summary:
    """What came of examples: how many there were of each check, what they covered, and which failed."""

    examples: Counter[str] = field(default_factory=Counter)
    covered: Counter[str] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)

    def add(self, other: Summary) -> Summary:
        self.examples += other.examples
        self.covered += other.covered
        self.failures += other.failures
        return self

    def report(self) -> str:
        lines = [f'{count:8} examples of {name}' for name, count in sorted(self.examples.items())]
        lines += [f'{count:8} {name}' for name, count in sorted(self.covered.items())]
        groups: dict[str, list[Failure]] = {}
        for failure in self.failures:
            groups.setdefault(f'{failure.check}: {failure.error}', []).append(failure)
        for name, group in sorted(groups.items(), key=lambda item: -len(item[1])):
            seeds = ', '.join(str(failure.seed) for failure in group[:8])
            lines += ['', f'{len(group)} x {name}', f'   seeds {seeds}', group[0].details]
        return '\n'.join([*lines, '', f'{len(self.failures)} failures'])


def run_range(arguments: tuple[int, int, str | None, bool]) -> Summary:
    """Run the examples of a range of seeds."""
    start, stop, only, processes = arguments
    summary = Summary()
    names = [name for name in CHECKS if processes or not name.startswith('process')]
    weights = [CHECKS[name][1] for name in names]
    try:
        for seed in range(start, stop):
            name = Random(-1 - seed).choices(names, weights)[0] if only is None else only
            summary.examples[name] += 1
            failure = run_example(seed, name, summary.covered)
            if failure is not None:
                summary.failures.append(failure)
    finally:
        pools.close_pools()
    return summary


def run_example(seed: int, name: str, covered: Counter[str]) -> Failure | None:
    """Run one example; return how it failed, if it did."""
    case = None
    try:
        case = Case(seed)
        with warnings.catch_warnings():
            warnings.simplefilter('error')
            warnings.filterwarnings('ignore', 'to resume at batch')
            CHECKS[name][0](case, covered)
    except Exception as error:
        first = f'{type(error).__name__}: {error}'.split('\n')[0]
        return Failure(seed, name, anonymous(first), f'{case!r}\n{traceback.format_exc(limit=-6)}')
    return None


def anonymous(message: str) -> str:
    """Take out of a message what differs between examples of the same fault."""
    if message.startswith('AssertionError: '):
        message = ':'.join(message.split(':')[:2])
    return re.sub(r'[0-9]+', '#', message[:160])
