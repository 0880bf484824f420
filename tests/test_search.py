"""Random sources, gone through in random ways, against a model of their own: a part of `python -m tests.search`."""

from collections import Counter

import pytest

from .search.pools import close_pools
from .search.running import CHECKS, run_example

# Workers that are new interpreters take long to start.
DEFAULT = [name for name in CHECKS if name != 'processes by spawn']

# The checks that say what a batch is, where it stands, and whose part of it is whose.
OFTEN = ['contents', 'plan', 'resume', 'shards']


@pytest.fixture(scope='module', autouse=True)
def _closed():
    yield
    close_pools()


def run(name, seeds):
    covered = Counter()
    failures = [run_example(seed, name, covered) for seed in seeds]
    assert not any(failures), '\n'.join(failure.details for failure in failures if failure)
    return covered


@pytest.mark.parametrize('name', DEFAULT)
def test_some_examples(name):
    assert run(name, range(60 if name in OFTEN else 30)).total()


@pytest.mark.slow
@pytest.mark.parametrize('name', CHECKS)
def test_many_examples(name):
    count = 200 if 'process' in name else 500
    assert run(name, range(1000, 1000 + count)).total() > count / 4
