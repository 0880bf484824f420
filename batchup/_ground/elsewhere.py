"""Keywords of other libraries, and of other functions of this one: where to find here what they mean."""

from __future__ import annotations

from typing import Final

_WORKERS = (
    'the workers of a pool make batches in the background: with WorkerThreadPool(processes=4) as pool, go through '
    'pool.parallel_data_source(source)'
)
_MAPPED = 'source.map(fn) applies a function to every batch'
_SHUFFLED = 'shuffle= takes a seed, a RandomState or a Generator'
_OF_SOURCE = 'it is an argument of the source, as in ArrayDataSource(data, {}=...)'
_OF_EPOCH = 'it is an argument of source.batch_iterator(batch_size, ...) and source.loader(batch_size, ...)'
_PARTS = 'shard=(rank, count) takes the part of a rank'

ELSEWHERE: Final = {
    **dict.fromkeys(('num_workers', 'workers', 'max_workers', 'n_jobs', 'num_parallel_calls', 'processes'), _WORKERS),
    **dict.fromkeys(('collate_fn', 'transform', 'target_transform', 'transforms', 'map_func'), _MAPPED),
    **dict.fromkeys(('seed', 'random_state', 'generator', 'rng', 'shuffle_rng'), _SHUFFLED),
    **dict.fromkeys(('rank', 'num_replicas', 'world_size', 'num_shards'), _PARTS),
    **{name: _OF_SOURCE.format(name) for name in ('indices', 'repeats', 'sampler', 'include_indices', 'read_ahead')},
    **dict.fromkeys(('batch_size', 'shuffle', 'epoch', 'drop_last', 'shard', 'uneven'), _OF_EPOCH),
    'batch_sampler': 'samplers say what is in a batch: ArrayDataSource(data, sampler=...)',
    'prefetch_factor': 'pools say how many batches are made ahead: parallel_data_source(source, batch_buffer_size=20)',
    'persistent_workers': 'the workers of a pool stay until it is closed',
    'pin_memory': 'batches are NumPy arrays: torch.from_numpy(array).pin_memory() pins one',
    'drop_remainder': 'write drop_last=',
    'num_epochs': 'each pass of source.loader(...) is the next epoch',
}
