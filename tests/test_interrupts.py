"""Interrupts at any instruction: no batch or result is lost or given twice, and nothing waits for ever."""

from pathlib import Path

import pytest

from . import interrupted
from .faults import MAY_FORK, METHODS, run_script

pytestmark = MAY_FORK

KINDS = ['threads', 'fork', *(pytest.param(method, marks=pytest.mark.slow) for method in METHODS if method != 'fork')]


def run_interrupted(folder, *arguments):
    """Run the script, which ends by itself if something takes too long; return what it says at the end."""
    code, out, err = run_script(folder, Path(interrupted.__file__).read_text(), *arguments)
    assert code == 0, err
    return out.split()[0]


@pytest.mark.parametrize('kind', KINDS)
def test_streams_are_whole_after_interrupts(kind, tmp_path):
    assert run_interrupted(tmp_path, 'stream', kind, '300') == 'whole'


@pytest.mark.parametrize('kind', KINDS)
def test_results_of_tasks_are_whole_after_interrupts(kind, tmp_path):
    assert run_interrupted(tmp_path, 'tasks', kind, '300') == 'whole'


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['threads', *METHODS])
def test_pools_close_though_they_are_interrupted(kind, tmp_path):
    assert run_interrupted(tmp_path, 'close', kind, '50') == 'whole'
