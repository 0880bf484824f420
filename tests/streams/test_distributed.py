"""Ranks that are programs of their own: their shards, and their results."""

import multiprocessing
import os
import pickle
import socket

import numpy as np
import pytest

from batchup.data_source import ArrayDataSource, ChoiceDataSource, merge
from batchup.sampling import WeightedSampler

COUNT = 2
N = 101


def evaluate(rank, shuffle):
    """Return the part and the sums of one rank."""
    source = ArrayDataSource([np.arange(N) * 0.1, np.arange(N)])
    part = source.batch_map_concat(lambda x, y: (x, y), 8, shuffle=shuffle, shard=(rank, COUNT))
    return part, source.batch_map_mean(lambda x, y: x.sum(), 8, shuffle=shuffle, shard=(rank, COUNT))


def assert_merged(parts, sums):
    x, y = merge(parts)
    assert (x.tobytes(), y.tolist()) == ((np.arange(N) * 0.1).tobytes(), list(range(N)))
    np.testing.assert_allclose(merge(sums), (5.0,), rtol=1e-14)


def write_files(rank, folder):
    (folder / f'{rank}.pickle').write_bytes(pickle.dumps(evaluate(rank, 42)))


def gather_with_torch(rank, port, folder):
    import torch.distributed as dist

    dist.init_process_group('gloo', init_method=f'tcp://127.0.0.1:{port}', rank=rank, world_size=COUNT)
    try:
        gathered = [None] * COUNT
        dist.all_gather_object(gathered, evaluate(rank, 42))
        assert_merged(*zip(*gathered))
        (folder / f'{rank}.done').touch()
    finally:
        dist.destroy_process_group()


def mixture():
    """Make a source whose batches are of one or the other member, and the last ones uneven."""
    weighted = ArrayDataSource([np.arange(N)], sampler=WeightedSampler(np.arange(N), n_samples=57))
    return ChoiceDataSource([weighted, ArrayDataSource([np.arange(1000, 1000 + N)])], stratified=True)


def train_with_torch(rank, port, folder):
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(COUNT), MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port))
    import torch
    import torch.distributed as dist

    dist.init_process_group('gloo')
    try:
        whole = mixture().batch_iterator(16, shuffle=3)
        stream = mixture().batch_iterator(16, shuffle=3, shard='env')
        for (x,), (batch,) in zip(stream, whole, strict=True):
            total = torch.tensor([int(x.sum()), len(x)])
            dist.all_reduce(total)  # hangs, or fails, if one rank has another number of steps
            assert total.tolist() == [int(batch.sum()), len(batch)]
        (folder / f'{rank}.{stream.position}.done').touch()
    finally:
        dist.destroy_process_group()


def run_ranks(target, *args):
    """Run a function in a new interpreter for every rank."""
    context = multiprocessing.get_context('spawn')
    processes = [context.Process(target=target, args=(rank, *args)) for rank in range(COUNT)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        process.kill()
    assert [process.exitcode for process in processes] == [0] * COUNT


def free_port():
    with socket.socket() as listening:
        listening.bind(('127.0.0.1', 0))
        return listening.getsockname()[1]


def test_parts_travel_in_files(tmp_path):
    run_ranks(write_files, tmp_path)
    assert_merged(*zip(*(pickle.loads((tmp_path / f'{rank}.pickle').read_bytes()) for rank in range(COUNT))))


@pytest.mark.slow
def test_parts_travel_with_torch(tmp_path, monkeypatch):
    pytest.importorskip('torch')
    monkeypatch.setenv('GLOO_SOCKET_IFNAME', 'lo')
    run_ranks(gather_with_torch, free_port(), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['0.done', '1.done']


@pytest.mark.slow
def test_ranks_of_torch_share_every_batch(tmp_path, monkeypatch):
    pytest.importorskip('torch')
    monkeypatch.setenv('GLOO_SOCKET_IFNAME', 'lo')
    run_ranks(train_with_torch, free_port(), tmp_path)
    n_batches = len(mixture().batch_iterator(16, shuffle=3))
    assert sorted(path.name for path in tmp_path.iterdir()) == [f'{rank}.{n_batches}.done' for rank in range(COUNT)]
