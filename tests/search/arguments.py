"""Mistakes in arguments, and the errors that they end in, at the call."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np

from batchup.data_source import (
    ArrayDataSource,
    CallableDataSource,
    ChoiceDataSource,
    CompositeDataSource,
    ConcatDataSource,
    RandomAccessDataSource,
)
from batchup.errors import StateMismatchError
from batchup.sampling import (
    BlockShuffle,
    BucketSampler,
    ComputedShuffle,
    GroupSampler,
    PKSampler,
    QuotaSampler,
    StandardSampler,
    SubsetSampler,
    WeightedSampler,
)

from .cases import Case
from .checks import is_refused

# A value, the error that it ends in, and what its message names.
Mistake = tuple[Any, tuple[type[Exception], ...], str]

ANY = (TypeError, ValueError)
NO_FLAGS: list[Any] = [3, 0, None, 'yes', 1.0, [True], np.int64(1)]
NO_POSITIVE_INTEGERS: list[Mistake] = [
    (0, (ValueError,), ''),
    (-1, (ValueError,), ''),
    (2.0, (TypeError,), ''),
    ('a', (TypeError,), ''),
    (True, (TypeError,), ''),
    (np.True_, (TypeError,), ''),
    (None, (TypeError,), ''),
    (np.float64(3), (TypeError,), ''),
]

# Mistakes in the keywords of `batch_iterator`.
ITERATING: dict[str, list[Mistake]] = {
    'batch_size': [*NO_POSITIVE_INTEGERS, ((), ANY, ''), ({}, ANY, ''), ((1, 0), ANY, ''), (np.array([2]), ANY, '')],
    'shuffle': [
        ('yes', (TypeError,), ''),
        (1.5, (TypeError,), ''),
        (-1, (ValueError,), ''),
        ([1], (TypeError,), ''),
        (ComputedShuffle, (TypeError,), ''),
    ],
    'epoch': [(-1, (ValueError,), ''), (1.5, (TypeError,), ''), ('a', (TypeError,), ''), (True, (TypeError,), '')],
    'drop_last': [(flag, (TypeError,), '') for flag in NO_FLAGS],
    'shard': [
        ((2, 2), (ValueError,), ''),
        ((-1, 2), (ValueError,), ''),
        ((0, 0), (ValueError,), ''),
        ((0,), (TypeError,), ''),
        (3, (TypeError,), ''),
        ((0.0, 2), (TypeError,), ''),
        ('all', (TypeError,), ''),
        ((True, 2), (TypeError,), ''),
    ],
    'uneven': [('cut', (ValueError,), ''), (None, ANY, ''), (3, ANY, '')],
    'shufle': [(1, (TypeError,), '')],
    'batchsize': [(1, (TypeError,), '')],
}


def data() -> list[Any]:
    return [np.arange(6), np.arange(12).reshape(6, 2)]


def source(**kwargs: Any) -> ArrayDataSource:
    return ArrayDataSource(data(), **kwargs)


def same(*batch: Any) -> Any:
    return batch


def flags(name: str, make: Callable[..., Any]) -> list[tuple[Callable[[], Any], tuple[type[Exception], ...], str]]:
    return [(lambda flag=flag: make(**{name: flag}), (TypeError,), name) for flag in NO_FLAGS]


def positive(name: str, make: Callable[..., Any], but: Any = ()) -> list[Any]:
    wrong = [(value, errors) for value, errors, _ in NO_POSITIVE_INTEGERS if not any(value is each for each in but)]
    return [(lambda value=value: make(**{name: value}), errors, name) for value, errors in wrong]


# Mistakes in what sources, samplers and shuffles are made of.
MAKING: list[tuple[Callable[[], Any], tuple[type[Exception], ...], str]] = [
    *flags('include_indices', source),
    *flags('include_indices', lambda **kwargs: RandomAccessDataSource(3, **kwargs)),
    *flags('include_indices', lambda **kwargs: ConcatDataSource([source()], **kwargs)),
    *flags('flatten', lambda **kwargs: CompositeDataSource([source()], **kwargs)),
    *flags('trim', lambda **kwargs: CompositeDataSource([source()], **kwargs)),
    *flags('stratified', lambda **kwargs: ChoiceDataSource([source()], **kwargs)),
    *flags('rng', lambda **kwargs: source().map(same, **kwargs)),
    *flags('same_length', lambda **kwargs: source().map(same, **kwargs)),
    *flags('replace', lambda **kwargs: WeightedSampler([1, 2], **kwargs)),
    *positive('repeats', source, but=(-1,)),
    *positive('repeats', lambda **kwargs: StandardSampler(5, **kwargs), but=(-1,)),
    *positive('repeats', lambda **kwargs: GroupSampler([1, 2], **kwargs), but=(-1,)),
    *positive('block_size', lambda **kwargs: BlockShuffle(3, **kwargs), but=(None,)),
    *positive('window', lambda **kwargs: BlockShuffle(3, 4, **kwargs)),
    *positive('batches_per_bucket', lambda **kwargs: BucketSampler([1, 2], **kwargs)),
    *positive('max_elements', lambda **kwargs: BucketSampler([1, 2], **kwargs), but=(None,)),
    (lambda: source().map(3), (TypeError,), 'fn'),
    (lambda: source().map(same, rng=np.random.default_rng(3)), (TypeError,), 'rng'),
    (lambda: ArrayDataSource(np.arange(3)), (TypeError,), 'list'),
    (lambda: ArrayDataSource([np.arange(3), np.arange(4)]), (ValueError,), '3.*4'),
    (lambda: ArrayDataSource([[1, 2]]), (TypeError,), 'list'),
    (lambda: ArrayDataSource([np.array(3)]), (TypeError,), 'dimension'),
    (lambda: source(indices=[0, 9]), (IndexError,), '9'),
    (lambda: source(indices=np.ones(6, bool)), (TypeError,), 'flatnonzero'),
    (lambda: source(indices=[0.5]), (TypeError,), 'indices'),
    (lambda: source(indices=[[0]]), (ValueError,), 'indices'),
    (lambda: source(indices=[0], sampler=StandardSampler(6)), (ValueError,), 'sampler'),
    (lambda: source(repeats=2, sampler=StandardSampler(6)), (ValueError,), 'sampler'),
    (lambda: source(sampler=3), (TypeError,), 'sampler'),
    (lambda: source(sampler=StandardSampler(7)), (ValueError,), '7'),
    (lambda: SubsetSampler([0], 0), (ValueError,), 'repeats'),
    (lambda: WeightedSampler([0, 0]), (ValueError,), 'weights'),
    (lambda: WeightedSampler([1, -1]), (ValueError,), 'weights'),
    (lambda: WeightedSampler([1, np.nan]), (ValueError,), 'weights'),
    (lambda: WeightedSampler('balanced'), ANY, 'weights'),
    (lambda: QuotaSampler([0, 1], [3, 3]), (ValueError,), 'class'),
    (lambda: PKSampler([0, 1], 3, 1), (ValueError,), 'p is 3'),
    (lambda: CompositeDataSource([]), (ValueError,), ''),
    (lambda: CompositeDataSource(source()), (TypeError,), 'datasets'),
    (lambda: CompositeDataSource([data()]), (TypeError,), 'data source 0'),
    (lambda: CompositeDataSource([source()], stop='first'), (ValueError,), 'stop'),
    (lambda: CompositeDataSource([source()], stop=1), (ValueError,), 'stop'),
    (lambda: ChoiceDataSource([source()], stop='longest'), (ValueError,), 'stop'),
    (lambda: ChoiceDataSource([source()], stop=0), (ValueError,), 'stop'),
    (lambda: ChoiceDataSource([source()], weights=[1, 2]), (ValueError,), 'weights'),
    (lambda: ChoiceDataSource([source()], stratified=True, weights=[1]), (ValueError,), 'weights'),
    (lambda: ConcatDataSource([source(), ArrayDataSource(data()[:1])]), (ValueError,), 'arrays'),
    (lambda: ConcatDataSource([source(repeats=2)]), (ValueError,), 'repeats'),
    (lambda: ConcatDataSource([CompositeDataSource([source()])]), (TypeError,), 'data source 0'),
    (lambda: CallableDataSource(3), (TypeError,), 'batch_iterator_fn'),
    (lambda: CallableDataSource(same, 'a'), (TypeError,), 'num_samples_fn'),
]


def check_arguments(case: Case, tally: Counter[str]) -> None:
    """A mistake ends in an error at the call that names the argument; what it was called on goes on as before."""
    random = case.random
    if is_refused(case, tally):
        return
    for make, errors, name in random.sample(MAKING, 3):
        expect(make, errors, name)
        tally['arguments: making sources'] += 1
    tree: Any = case.make()
    for name in random.sample(list(ITERATING), 2):
        value, errors, _ = random.choice(ITERATING[name])
        if not case.planned and name != 'batch_size':
            continue  # what other keywords mean is for the members to say
        if name == 'batch_size' and isinstance(value, tuple) and isinstance(case.size, tuple):
            continue
        arguments = {'batch_size': case.size, **case.arguments(), name: value}
        expect(lambda arguments=arguments: tree.batch_iterator(**arguments), errors, name)
        tally['arguments: batch_iterator'] += 1
        if case.planned and name in ('batch_size', 'shuffle', 'epoch', 'drop_last', 'shufle'):
            expect(lambda arguments=arguments: tree.plan(**arguments), errors, name)
            tally['arguments: plan'] += 1
    check_stream_arguments(case, tree, random, tally)


def check_stream_arguments(case: Case, tree: Any, random: Random, tally: Counter[str]) -> None:
    stream = case.open(tree)
    expect(lambda: stream.skip(-1), (ValueError,), 'n')
    expect(lambda: stream.skip(1.5), (TypeError,), 'n')
    state = stream.state_dict()
    wrong: list[tuple[Any, tuple[type[Exception], ...]]] = [
        (None, (TypeError,)),
        ('state', (TypeError,)),
        ({}, (StateMismatchError,)),
        ({**state, 'position': -1}, (StateMismatchError,)),
        ({**state, 'position': 'x'}, (StateMismatchError,)),
        ({**state, 'batch_size': 99}, (StateMismatchError,)),
        ({**state, 'version': 99}, (StateMismatchError,)),
    ]
    if 'digest_of' in state:
        wrong += [({**state, 'digest': 'abc'}, (StateMismatchError,))]
        wrong += [({**state, 'digest_of': value}, (StateMismatchError,)) for value in ('x', -1, 1.5)]
    value, errors = random.choice(wrong)
    expect(lambda: stream.load_state_dict(value), errors, '')
    assert stream.position == 0, 'a refused state has moved the stream'
    for name, mistakes in (('n_batches', [-1, 'a', 1.5, True]), ('progress', NO_FLAGS), ('prepend_args', [3])):
        gather, mistake = random.choice([tree.batch_map_concat, tree.batch_map_mean]), random.choice(mistakes)
        arguments = {'n_batches': 0, **case.arguments(), name: mistake}
        expect(lambda gather=gather, arguments=arguments: gather(same, case.size, **arguments), ANY, name)
        tally['arguments: gathering'] += 1


def expect(call: Callable[[], Any], errors: tuple[type[Exception], ...], name: str) -> None:
    """Assert that a call fails with one of these errors, whose message names the argument."""
    caught: Exception | None = None
    try:
        result = call()
    except Exception as error:
        caught = error
    assert caught is not None, f'a wrong {name} is taken: {result!r:.80}'
    if not isinstance(caught, errors):
        raise AssertionError(f'{type(caught).__name__} for a wrong {name}: {caught}') from caught
    message = str(caught)
    assert re.search(name, message, re.DOTALL), f'{name!r} is not in the message {message!r}'
