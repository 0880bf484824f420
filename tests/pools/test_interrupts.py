"""Interrupts at any instruction: no batch or result is lost or given twice, and nothing waits for ever."""

import itertools
import sys
from pathlib import Path

import numpy as np
import pytest

from batchup._ground.allocation import Recycler
from batchup._pools.rings import Ring

from ..harness import interrupted
from ..harness.pools import MAY_FORK, METHODS
from ..harness.scripts import run_script

pytestmark = MAY_FORK

# Of pools, and how many interrupts there are. More are for `python -m tests.harness.interrupted`.
CASES = [
    *(pytest.param(kind, '60', id=kind) for kind in ('threads', 'fork')),
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


def interrupted_everywhere(make, call):
    """Make things, each of which has had a call of it interrupted at another instruction of the package."""
    for number in itertools.count(1):
        thing, left = make(), number

        def trace(frame, event, argument):
            nonlocal left
            if not frame.f_globals['__name__'].startswith('batchup.'):
                return None
            frame.f_trace_opcodes = True
            left -= event == 'opcode'
            if not left:
                raise KeyboardInterrupt
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            call(thing)
            return
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(before)
        yield thing


def test_a_ring_loses_no_slot_wherever_an_interrupt_comes():
    for ring in interrupted_everywhere(lambda: Ring(3, 100, 3, lambda segment: None), Ring.take):
        slots = [ring.take() for _ in range(4)]
        assert [slot is None for slot in slots] == [False, False, False, True]


def test_memory_is_not_used_twice_wherever_an_interrupt_comes():
    def array(recycler):
        return recycler.array((2**17,), np.dtype(np.uint8))

    for recycler in interrupted_everywhere(Recycler, array):
        arrays = [array(recycler) for _ in range(3)]
        assert not any(np.shares_memory(*pair) for pair in itertools.combinations(arrays, 2))
