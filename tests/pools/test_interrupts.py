"""Interrupts at any instruction: no batch or result is lost or given twice, and nothing waits for ever."""

from pathlib import Path

import pytest

from ..harness import interrupted
from ..harness.pools import MAY_FORK, METHODS
from ..harness.scripts import run_script

pytestmark = MAY_FORK

# Of pools, and how many interrupts there are. More are for `python -m tests.harness.interrupted`.
CASES = [
    *(pytest.param(kind, '100', id=kind) for kind in ('threads', 'fork')),
    *(pytest.param(kind, '300', id=f'{kind}-long', marks=pytest.mark.slow) for kind in ('threads', *METHODS)),
]


def run_interrupted(folder, *arguments):
    """Run the script, which ends by itself if something takes too long; return what it says at the end."""
    code, out, err = run_script(folder, Path(interrupted.__file__).read_text(), *arguments)
    assert code == 0, err
    return out.split()[0]


@pytest.mark.parametrize(('kind', 'count'), CASES)
def test_streams_are_whole_after_interrupts(kind, count, tmp_path):
    assert run_interrupted(tmp_path, 'stream', kind, count) == 'whole'


@pytest.mark.parametrize(('kind', 'count'), CASES)
def test_results_of_tasks_are_whole_after_interrupts(kind, count, tmp_path):
    assert run_interrupted(tmp_path, 'tasks', kind, count) == 'whole'


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['threads', *METHODS])
def test_pools_close_though_they_are_interrupted(kind, tmp_path):
    assert run_interrupted(tmp_path, 'close', kind, '50') == 'whole'
