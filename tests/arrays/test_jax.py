"""Arrays of JAX keep the contract of all kinds, in an interpreter of their own."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from batchup.data_source import ArrayDataSource

from .cases import ONLY_JAX

HERE = Path(__file__).parent

if ONLY_JAX:

    def test_they_become_numpy_arrays_when_asked():
        import jax.numpy as jnp

        source = ArrayDataSource([jnp.arange(6.0)], to_numpy=True)
        assert type(source.data[0]) is np.ndarray
        np.testing.assert_array_equal(next(source.batch_iterator(6))[0], np.arange(6.0))

else:

    @pytest.mark.slow
    @pytest.mark.skipif(importlib.util.find_spec('jax') is None, reason='JAX is not installed')
    def test_in_an_interpreter_of_their_own():
        command = [sys.executable, '-m', 'pytest', '-q', '-n', '0', '-m', 'slow or not slow']
        run = subprocess.run(
            [*command, *[HERE / f'test_{name}.py' for name in ('kinds', 'jax', 'pointers')]],
            env={**os.environ, 'ONLY_JAX': '1'},
            cwd=HERE.parent.parent,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert run.returncode == 0, run.stdout
        assert 'passed' in run.stdout
