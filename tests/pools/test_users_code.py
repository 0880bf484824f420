"""Which sources run code of the user's: the batches of those are made by workers only."""

import os

import numpy as np
import pytest

from batchup._pools.users_code import runs_users_code
from batchup.data_source import ArrayDataSource, ChoiceDataSource, CompositeDataSource
from batchup.datasets.digits import Digits
from batchup.work_pool import WorkerProcessPool

from ..cases import PlainRandomAccess, numbers
from ..harness.pools import MAY_FORK


class Twice:
    """An array-like of a user's."""

    def __len__(self):
        return 20

    def __getitem__(self, indices):
        return np.asarray(indices) * 2


def pid(x):
    return (np.full(len(x), os.getpid()),)


def test_sources_of_the_packages_own_arrays_run_none(tmp_path):
    np.save(tmp_path / 'x.npy', np.arange(20))
    plain = ArrayDataSource([np.arange(20), np.load(tmp_path / 'x.npy', mmap_mode='r')])
    digits = ArrayDataSource([Digits().train_X])
    for source in (plain, digits, CompositeDataSource([plain, digits]), ChoiceDataSource([plain, plain])):
        assert not runs_users_code(source)


@pytest.mark.parametrize(
    'source',
    [
        numbers(20).map(pid),
        ArrayDataSource([np.arange(20), Twice()]),
        PlainRandomAccess(20),
        CompositeDataSource([numbers(20), PlainRandomAccess(20)]),
    ],
    ids=['map', 'array-like', 'source', 'composite'],
)
def test_sources_with_code_of_the_users_are_known(source):
    assert runs_users_code(source)


@MAY_FORK
def test_users_code_runs_in_workers_from_the_first_batch_on():
    with WorkerProcessPool(2, start_method='fork') as pool:
        stream = pool.parallel_data_source(numbers(60).map(pid)).batch_iterator(3)
        pids = {int(x[0]) for (x,) in stream}
    assert pids
    assert os.getpid() not in pids
