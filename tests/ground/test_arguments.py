"""What errors say of arguments that are wrong: all of them are raised at the call."""

import array
import itertools
import mmap
import pathlib
from functools import partial

import h5py
import numpy as np
import pytest

from batchup import config, splits
from batchup._ground.arguments import check_flag
from batchup.data_source import (
    ArrayDataSource,
    CallableDataSource,
    ChoiceDataSource,
    CompositeDataSource,
    ConcatDataSource,
    batch_map_concat,
    batch_map_mean,
    coerce_data_source,
)
from batchup.sampling import StandardSampler, WeightedSampler, WeightedSubsetSampler
from batchup.work_pool import WorkerProcessPool, WorkerThreadPool

from ..cases import PlainSampler, PlainSource, jitter, keep, numbers

X = np.arange(12.0).reshape(6, 2)
Y = np.array([0, 1, 0, 1, 0, 1])


def refused(match, *calls, error=TypeError):
    """Assert that each call raises an error that says something."""
    for call in calls:
        with pytest.raises(error, match=match):
            call()


def test_booleans_are_those_of_python_and_numpy():
    assert [check_flag('it', value) for value in (True, np.True_, False, np.False_)] == [True, True, False, False]
    for value in (3, 0, None, 'yes', np.int8(1), np.array(True), 1.0):
        refused('^it must be True or False, got ', lambda value=value: check_flag('it', value))


SAMPLER = WeightedSampler(np.ones(6))

# A call for each flag, and the name of the flag.
FLAGS = [
    ('drop_last', lambda flag: numbers(6).batch_iterator(4, drop_last=flag)),
    ('drop_last', lambda flag: numbers(6).plan(4, drop_last=flag)),
    ('drop_last', lambda flag: numbers(6).batch_indices_iterator(4, drop_last=flag)),
    ('drop_last', lambda flag: StandardSampler(6).plan(4, drop_last=flag)),
    ('drop_last', lambda flag: PlainSampler(6).plan(4, drop_last=flag)),
    ('drop_last', lambda flag: CompositeDataSource([numbers(6)]).batch_iterator(4, drop_last=flag)),
    ('include_indices', lambda flag: numbers(6, include_indices=flag)),
    ('include_indices', lambda flag: ConcatDataSource([numbers(6)], include_indices=flag)),
    ('flatten', lambda flag: CompositeDataSource([numbers(6)], flatten=flag)),
    ('trim', lambda flag: CompositeDataSource([numbers(6)], trim=flag)),
    ('stratified', lambda flag: ChoiceDataSource([numbers(6)], stratified=flag)),
    ('rng', lambda flag: numbers(6).map(lambda *batch, rng=None: batch, rng=flag)),
    ('replace', lambda flag: WeightedSampler(np.ones(6), replace=flag)),
    ('replace', lambda flag: WeightedSubsetSampler(np.ones(6), range(6), replace=flag)),
    ('replace', lambda flag: WeightedSampler.class_balancing_sampler(Y, replace=flag)),
    ('progress', lambda flag: numbers(6).batch_map_concat(keep, 4, progress=flag)),
    ('progress', lambda flag: numbers(6).batch_map_mean(np.sum, 4, progress=flag)),
    ('progress', lambda flag: batch_map_concat(keep, numbers(6).batch_iterator(4), progress=flag)),
    ('progress', lambda flag: batch_map_mean(np.sum, numbers(6).batch_iterator(4), progress=flag)),
    ('part', lambda flag: batch_map_concat(keep, numbers(6).batch_iterator(4), part=flag)),
    ('part', lambda flag: batch_map_mean(np.sum, numbers(6).batch_iterator(4), part=flag)),
]


@pytest.mark.parametrize(('name', 'call'), FLAGS)
def test_flags_are_booleans(name, call):
    for flag in (True, False, np.True_, np.False_):
        call(flag)
    for wrong in (3, 0, None, 'yes', 1.0):
        refused(f'{name} must be True or False', lambda wrong=wrong: call(wrong))


def test_flags_of_downloads_are_booleans(tmp_path):
    refused(
        'progress must be True or False, got 3',
        lambda: config.download(tmp_path / 'x', 'http://localhost:1/x', progress=3),
        lambda: config.download_and_verify(tmp_path / 'x', 'http://localhost:1/x', None, progress=3),
    )


def test_rng_is_no_seed_and_no_generator():
    refused(
        'rng must be True or False, got 42; .* keyed by the seed and the epoch .*shuffle=',
        lambda: numbers(6).map(jitter, rng=42),
        lambda: numbers(6).map(jitter, 42),
    )
    refused('got Generator', lambda: numbers(6).map(jitter, rng=np.random.default_rng(3)))


# Unknown keywords.


class Wrapped(ArrayDataSource):
    """A user's class."""


def test_an_unknown_keyword_names_the_class_and_the_nearest_one():
    source = Wrapped([X])
    near = "got an unexpected keyword argument 'shufle'; did you mean shuffle"
    for method in ('batch_iterator', 'plan', 'batch_indices_iterator'):
        refused(rf'^Wrapped.{method}\(\) {near}', lambda method=method: getattr(source, method)(4, shufle=3))
    refused(rf'^Wrapped.num_samples\(\) {near}', lambda: source.num_samples(shufle=3))
    refused(rf'^Wrapped.batch_iterator\(\) {near}', lambda: source.batch_map_mean(np.sum, 4, shufle=3))


def test_an_unknown_keyword_near_no_other_shows_all():
    takes = 'it takes batch_size, shuffle, epoch, drop_last, shard and uneven$'
    refused(f"unexpected keyword argument 'colour'; {takes}", lambda: numbers(6).batch_iterator(4, colour=3))
    takes = 'it takes batch_size, shuffle, epoch and drop_last$'
    refused(f"unexpected keyword argument 'colour'; {takes}", lambda: numbers(6).plan(4, colour=3))


def test_a_keyword_of_another_library_says_where_it_is_here():
    source = Wrapped([X])
    for keyword, place in {
        'num_workers': r'pool.parallel_data_source\(source\)',
        'num_worker': r'pool.parallel_data_source\(source\)',
        'collate_fn': r'source.map\(fn\)',
        'prefetch_factor': 'batch_buffer_size=20',
        'pin_memory': 'pin_memory',
        'generator': 'shuffle= takes',
    }.items():
        for method in (source.batch_iterator, source.loader):
            message = rf"^Wrapped.{method.__name__}\(\) .* '{keyword}'; .*{place}"
            refused(message, partial(method, 4, **{keyword: 3}))


def test_a_keyword_of_another_function_says_which_takes_it():
    refused(r"^ArrayDataSource\(\) .* 'shuffle'; .* source.batch_iterator\(", lambda: ArrayDataSource([X], shuffle=42))
    refused(r"^Wrapped\(\) .* 'include_indexes'; did you mean include_indices", lambda: Wrapped([X], include_indexes=1))
    refused(r"'repeats'; .* ArrayDataSource\(data, repeats=", lambda: numbers(6).batch_iterator(4, repeats=3))
    for kind in (WorkerThreadPool, WorkerProcessPool):
        refused(rf"^{kind.__name__}\(\) .* 'num_workers'; .*processes=", partial(kind, num_workers=4))


def test_a_call_that_does_not_fit_names_the_class_and_the_arguments():
    source = Wrapped([X])
    twice = "got multiple values for argument 'batch_size'; it is called as"
    for method in (source.batch_iterator, source.loader):
        name = method.__name__
        message = rf'^Wrapped.{name}\(\) {twice} {name}\(batch_size, shuffle, \*, epoch, drop_last, shard, uneven\)$'
        refused(message, partial(method, 4, batch_size=4))
    refused(rf'^MapDataSource.batch_iterator\(\) {twice}', lambda: source.map(keep).batch_iterator(4, batch_size=4))
    refused(r'^Wrapped.plan\(\) missing 1 required positional argument: .*plan\(batch_size, ', source.plan)
    refused(r"^Wrapped.map\(\) .* 'fm'; .* map\(fn, rng, \*, same_length\)", partial(source.map, keep, fm=1))


def test_an_error_inside_a_method_stays_what_it_is():
    class Failing(ArrayDataSource):
        def batch_indices_iterator(self, batch_size, shuffle=None):
            raise TypeError('own')

    refused('^own$', lambda: Failing([X]).batch_iterator(4))


def test_composed_sources_name_themselves():
    for kind in (CompositeDataSource, ChoiceDataSource, ConcatDataSource):
        source = kind([numbers(6), numbers(6)])
        refused(rf'^{kind.__name__}.batch_iterator\(\) got', lambda source=source: source.batch_iterator(4, epochs=3))
        refused(rf'^{kind.__name__}.num_samples\(\) got', lambda source=source: source.num_samples(epochs=3))
    refused(r'^MapDataSource.plan\(\) got', lambda: numbers(6).map(keep).plan(4, epochs=3))


def test_a_member_beside_one_without_a_plan_names_itself():
    source = CompositeDataSource([numbers(6), PlainSource(6)])
    refused(r"^ArrayDataSource.batch_iterator\(\) .*'shufle'", lambda: source.batch_iterator(4, shufle=3))


def test_parallel_sources_name_themselves(threads):
    source = threads.parallel_data_source(numbers(6))
    near = 'did you mean drop_last'
    refused(rf'^ParallelDataSource.batch_iterator\(\) .*{near}', lambda: source.batch_iterator(4, droplast=True))
    refused(rf'^ParallelDataSource.num_samples\(\) .*{near}', lambda: source.num_samples(droplast=True))


def test_samplers_name_themselves():
    for sampler in (StandardSampler(6), PlainSampler(6)):
        name = type(sampler).__name__
        refused(rf'^{name}.plan\(\) .* did you mean epoch', lambda sampler=sampler: sampler.plan(4, epochs=3))


def test_keywords_of_users_code_are_no_concern_of_the_base():
    class Modes(ArrayDataSource):
        def batch_iterator(self, batch_size, mode=None, **kwargs):
            return super().batch_iterator(batch_size, **kwargs)

    assert Modes([X]).num_samples(mode='test', shuffle=3) == 6
    assert Modes([X]).map(keep).num_samples(mode='test') == 6


# A global generator in several processes.


def shuffled_globally(source):
    for shuffle in (True, np.True_, np.random, np.random.mtrand._rand):
        yield lambda shuffle=shuffle: source.batch_iterator(4, shuffle=shuffle, shard=(0, 2))


def test_a_global_generator_does_not_shuffle_ranks_alike(threads, monkeypatch):
    monkeypatch.setenv('RANK', '0')
    monkeypatch.setenv('WORLD_SIZE', '2')
    message = 'every process has its own global generator.* would not shuffle alike.*shuffle=42.* RandomState'
    sources = [
        numbers(6),
        numbers(6).map(keep),
        CompositeDataSource([numbers(6), numbers(6)]),
        ChoiceDataSource([numbers(6), numbers(6)]),
        ConcatDataSource([numbers(6)]),
        PlainSource(6).map(keep),
        CompositeDataSource([PlainSource(6), numbers(6)]),
        ChoiceDataSource([PlainSource(6), PlainSource(6)]),
        threads.parallel_data_source(numbers(6)),
    ]
    for source in sources:
        refused(message, *shuffled_globally(source), error=ValueError)
        refused(
            message,
            lambda source=source: source.batch_map_concat(keep, 4, shuffle=True, shard='env'),
            lambda source=source: source.batch_map_mean(np.sum, 4, shuffle=True, shard='env'),
            error=ValueError,
        )


def test_nothing_is_drawn_where_a_global_generator_is_refused():
    np.random.seed(3)
    before = np.random.get_state()[1].tolist()
    refused('shuffle alike', *shuffled_globally(numbers(6)), error=ValueError)
    assert np.random.get_state()[1].tolist() == before


def test_generators_in_the_same_state_shuffle_ranks_alike():
    for make in (np.random.RandomState, np.random.default_rng):
        ranks = [numbers(6).batch_iterator(4, shuffle=make(3), shard=(rank, 2)) for rank in range(2)]
        seen = np.concatenate([part for batches in zip(*ranks) for (part,) in batches])
        assert sorted(seen) == list(range(6))


# What is no data.


def test_arrays_without_a_list():
    for make in (ArrayDataSource, lambda *args: coerce_data_source(args[0])):
        refused(r'got ndarray; write \[x\] for one array, and \[X, y\] for several', lambda make=make: make(X, Y))


def test_a_dict_of_arrays():
    message = r'got dict; write list\(d.values\(\)\) for a dict d of arrays'
    refused(message, lambda: ArrayDataSource({'X': X, 'y': Y}), lambda: coerce_data_source({'X': X, 'y': Y}))


def test_an_iterator_is_no_data():
    for make in (lambda: ((X,) for _ in range(2)), lambda: iter([(X,)])):
        refused('IteratorDataSource', lambda make=make: ArrayDataSource(make()))
        refused(r'data\[1\].*IteratorDataSource', lambda make=make: ArrayDataSource([X, make()]))


def test_sources_without_a_list():
    for kind in (CompositeDataSource, ChoiceDataSource, ConcatDataSource):
        refused(r'got ArrayDataSource; write \[a, b\]', lambda kind=kind: kind(numbers(6), numbers(6)))


def test_buffers_are_no_arrays():
    numbers = array.array('d', range(6))
    for buffer in (numbers, memoryview(numbers)):
        message = rf'data\[1\].* got {type(buffer).__name__}; np.asarray\(x\) makes one of it, and copies nothing'
        refused(message, lambda buffer=buffer: ArrayDataSource([X, buffer]))
        assert len(ArrayDataSource([X, np.asarray(buffer)]).batch_iterator(4)) == 2


def test_bytes_are_no_arrays():
    with mmap.mmap(-1, 6) as mapped:
        for buffer in (b'abcdef', bytearray(6), mapped):
            message = rf'data\[0\].* got {type(buffer).__name__}; np.frombuffer\(x, np.uint8\)'
            refused(message, lambda buffer=buffer: ArrayDataSource([buffer]))


def test_paths_are_no_arrays():
    for path, opened in [
        ('x.npy', 'np.load'),
        (pathlib.Path('data/x.H5'), r'batchup.arrays.H5Array\(x, '),
        ('x.parquet', r'batchup.arrays.ParquetArray\(x, '),
        ('data/x.zarr/', r'zarr.open\('),
    ]:
        for data in (path, [X, path]):
            refused(f'if it is a path, open the file first: {opened}', lambda data=data: ArrayDataSource(data))


def test_names_of_weights():
    hint = 'class_balancing_sampler'
    refused(f"weights must be numbers, got 'balanced'; .*{hint}", lambda: WeightedSampler('balanced'))
    refused(f"weights must be numbers, got 'balanced'; .*{hint}", lambda: WeightedSubsetSampler('balanced', [0]))
    refused("weights must be numbers, got 'equal'", lambda: ChoiceDataSource([numbers(6)], weights='equal'))
    refused('weights must be numbers', lambda: WeightedSampler(['a', 'b']), lambda: WeightedSampler([1, None, {}]))


# Splits take numbers and labels, and return indices.


def test_splits_take_no_data():
    for call, shown in [
        (lambda: splits.train_test_split(X, Y), r'train_test_split\(len\(X\)'),
        (lambda: splits.train_test_split(X, Y, test_size=0.5), r'train_test_split\(len\(X\)'),
        (lambda: splits.train_test_split(6, Y), r'train_test_split\(len\(X\)'),
        (lambda: splits.train_test_split(X), r'train_test_split\(len\(X\)'),
        (lambda: splits.split(X, Y, (0.5, 0.5)), r'split\(len\(X\), '),
        (lambda: splits.split(X, (0.5, 0.5)), r'split\(len\(X\), '),
        (lambda: splits.k_fold(X, Y), r'k_fold\(len\(X\), '),
        (lambda: splits.k_fold(6, Y), r'k_fold\(len\(X\), '),
        (lambda: splits.stratified_k_fold(X, Y), r'stratified_k_fold\(y, '),
        (lambda: splits.stratified_k_fold(Y, Y), r'stratified_k_fold\(y, '),
        (lambda: splits.group_k_fold(X, Y, Y), r'group_k_fold\(groups, '),
        (lambda: splits.group_k_fold(X, Y), r'group_k_fold\(groups, '),
        (lambda: splits.time_series_split(X, Y), r'time_series_split\(len\(X\), '),
        (lambda: splits.time_split(X, Y, (0.5, 0.5)), r'time_split\(times, '),
    ]:
        refused(rf'no data.* indices: write {shown}', call)


# Functions.


def test_func_must_be_a_function():
    batches = itertools.count()
    for gather in (batch_map_concat, batch_map_mean):
        refused('func must be a function .*, got NoneType', lambda gather=gather: gather(None, batches))
        refused(
            'func must be a function .*, got Stream', lambda gather=gather: gather(numbers(6).batch_iterator(4), keep)
        )
        refused('batch_iter must be .* batches, got function', lambda gather=gather: gather(keep, keep))
    assert next(batches) == 0


@pytest.mark.parametrize('method', ['batch_map_concat', 'batch_map_mean'])
def test_gathering_is_checked_before_anything_is_opened(method):
    class Unopened(ArrayDataSource):
        def batch_iterator(self, batch_size, **kwargs):
            raise AssertionError('opened')

    gather = getattr(Unopened([X]), method)
    refused('func must be a function .*, got NoneType', lambda: gather(None, 64))
    refused('progress_iter_func must be .*, got True.*progress=True', lambda: gather(keep, 64, True))
    refused('progress_iter_func must be', lambda: gather(keep, 64, progress_iter_func=3))
    refused('progress must be True or False', lambda: gather(keep, 64, progress=3))
    refused('n_batches must be 0 or more', lambda: gather(keep, 64, n_batches=-1), error=ValueError)
    refused('prepend_args must be .* got ndarray', lambda: gather(keep, 64, prepend_args=X))


def test_a_bar_by_its_name():
    for gather in (batch_map_concat, batch_map_mean):
        refused(
            'progress_iter_func must be .*, got True; progress=True shows',
            lambda gather=gather: gather(np.sum, [(X,)], progress_iter_func=True),
        )


def test_a_callable_without_arguments():
    source = CallableDataSource(lambda: iter([(X,)]))
    shown = r'called as fn\(batch_size, \*\*kwargs\).*here as fn\(64, shuffle=42\)'
    refused(f'batch_iterator_fn .*lambda.* is {shown}.* too many', lambda: source.batch_iterator(64, shuffle=42))


def test_a_callable_that_lacks_a_keyword():
    source = CallableDataSource(lambda batch_size: iter([(X,)]), num_samples_fn=lambda epoch: 6)
    refused(r'here as fn\(64, epoch=3\).*epoch', lambda: source.batch_iterator(64, epoch=3))
    refused(r'num_samples_fn .* is called as fn\(\*\*kwargs\).*here as fn\(\)', source.num_samples)


def test_an_error_in_a_callable_stays_what_it_is():
    def broken(batch_size, **kwargs):
        return iter(None)

    for call in (CallableDataSource(broken).batch_iterator, CallableDataSource(broken).map(keep).batch_iterator):
        with pytest.raises(TypeError, match=r"^'NoneType' object is not iterable$"):
            call(64, shuffle=42)


# Files.


def test_a_closed_file_of_h5py(tmp_path):
    with h5py.File(tmp_path / 'data.h5', 'w') as file:
        file['y'] = np.arange(6)
        data = file['y']
        source = ArrayDataSource([X, data])
        stream = source.batch_iterator(4, shuffle=3)
        next(stream)
    with pytest.raises(ValueError, match=r"data set '/y' of .*data.h5: the h5py file is closed") as caught:
        next(stream)
    assert any('in batch 1' in note for note in getattr(caught.value, '__notes__', []))
    message = r'data\[1\] is a data set of an h5py file that is closed'
    refused(message, lambda: ArrayDataSource([X, data]), error=ValueError)
    refused('file is closed', lambda: source.samples_by_indices([0]), error=ValueError)
