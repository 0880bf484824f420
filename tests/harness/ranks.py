"""A source, and ways to take the results of its ranks."""

import numpy as np

from batchup._ground.batch import leaves
from batchup.data_source import ArrayDataSource
from batchup.sampling import ComputedShuffle

from ..cases import SHUFFLES

N = 23
X = np.random.RandomState(0).rand(N, 3).astype(np.float32)
SOURCE = ArrayDataSource([X, np.arange(N)])

SHUFFLE_KINDS = {**SHUFFLES, 'computed': lambda: {'shuffle': ComputedShuffle(7)}}


def double(x, y):
    return x * 2, y


def first_array(*batch):
    return batch[0]


def first_column(*batch):
    leaf = next(leaves(batch))
    return leaf if leaf.ndim == 1 else leaf[:, 0]


def take_part(source, rank, count, func=double, batch_size=4, **kwargs):
    return source.batch_map_concat(func, batch_size, shard=(rank, count), **kwargs)


def take_parts(source, count, make_kwargs=dict, **kwargs):
    return [take_part(source, rank, count, **kwargs, **make_kwargs()) for rank in range(count)]


def take_sums(count, source=SOURCE, **kwargs):
    return [source.batch_map_mean(lambda x, y: x.sum(axis=0), 4, shard=(k, count), **kwargs) for k in range(count)]


def assert_same_results(results, expected):
    """Assert that results are equal to the last bit."""
    assert type(results) is tuple
    assert len(results) == len(expected)
    for result, other in zip(results, expected):
        assert (result.dtype, result.shape) == (other.dtype, other.shape)
        assert result.tobytes() == other.tobytes()


def zeros():
    return np.zeros((N, 3), np.float32), np.full(N, -1)
