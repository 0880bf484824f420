"""The sequences that a `RandomState` gives, as literal values, and those of seeds, as digests: promises."""

import itertools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from batchup._ground.randomness import Purpose, keyed_generator
from batchup.data_source import ArrayDataSource, ChoiceDataSource, CompositeDataSource
from batchup.sampling import StandardSampler, SubsetSampler, WeightedSampler, WeightedSubsetSampler

from . import golden

ROOT = Path(__file__).parent.parent
WEIGHTS = [1, 2, 3, 4]

SAMPLERS = {
    'standard': (lambda: StandardSampler(7), 3, [[6, 3, 4], [0, 1, 5], [2]]),
    'standard, 2 repeats': (lambda: StandardSampler(5, repeats=2), 4, [[0, 4, 3, 1], [2, 3, 0, 2], [1, 4]]),
    'subset': (lambda: SubsetSampler([10, 20, 30, 40, 50]), 2, [[10, 50], [40, 20], [30]]),
    'endless subset': (
        lambda: SubsetSampler([10, 20, 30], repeats=-1),
        4,
        [[10, 20, 30, 10], [30, 20, 30, 20], [10, 20, 10, 30]],
    ),
    'weighted': (lambda: WeightedSampler(WEIGHTS), 5, [[3, 2, 1, 1, 2], [2, 3, 3, 3, 3], [3, 3, 0, 1, 1]]),
    'weighted subset': (
        lambda: WeightedSubsetSampler(WEIGHTS, [9, 8, 7, 6]),
        5,
        [[6, 7, 8, 8, 7], [7, 6, 6, 6, 6], [6, 6, 9, 8, 8]],
    ),
    'weighted, 7 samples': (
        lambda: WeightedSampler(WEIGHTS, n_samples=7),
        5,
        [[3, 2, 1, 1, 2], [2, 3]],
    ),
    'weighted without replacement': (lambda: WeightedSampler(WEIGHTS, replace=False), 3, [[3, 2, 1], [0]]),
    'weighted subset without replacement': (
        lambda: WeightedSubsetSampler(WEIGHTS, [9, 8, 7, 6], n_samples=3, replace=False),
        2,
        [[6, 7], [8]],
    ),
    'class balancing': (
        lambda: WeightedSampler.class_balancing_sampler([0, 0, 0, 0, 1]),
        6,
        [[4, 2, 1, 1, 4, 4], [4, 4, 4, 4, 4, 4]],
    ),
}


@pytest.mark.parametrize('name', SAMPLERS)
def test_random_state_sequences_of_samplers(name):
    make, batch_size, expected = SAMPLERS[name]
    batches = make().shuffled_indices_batch_iterator(batch_size, np.random.RandomState(12345))
    assert [batch.tolist() for batch in itertools.islice(batches, len(expected))] == expected


def three_sources():
    return [ArrayDataSource([np.arange(n)]) for n in (6, 4, 2)]


def test_random_state_sequence_of_a_composite():
    stream = CompositeDataSource(three_sources()[:2]).batch_iterator(2, shuffle=np.random.RandomState(12345))
    assert [[part.tolist() for part in batch] for batch in stream] == [[[5, 3], [3, 0]], [[4, 0], [1, 2]]]


def test_random_state_sequence_of_a_choice():
    source = ChoiceDataSource(three_sources())
    batches = source.batch_indices_iterator(2, shuffle=np.random.RandomState(12345))
    expected = [(0, [2, 3]), (1, [3, 0]), (2, [0, 1])]
    assert [(batch.ds_index, batch.sample_indices.tolist()) for batch in batches] == expected


def test_random_state_sequence_of_a_stratified_choice():
    source = ChoiceDataSource(three_sources(), stratified=True)
    batches = source.batch_indices_iterator(2, shuffle=np.random.RandomState(12345))
    expected = [(2, [1, 0]), (1, [0, 3]), (1, [2, 1]), (0, [0, 4]), (0, [2, 3]), (0, [5, 1])]
    assert [(batch.ds_index, batch.sample_indices.tolist()) for batch in batches] == expected


@pytest.mark.parametrize('make_rng', [np.random.RandomState, np.random.default_rng])
def test_a_repetition_is_one_permutation(make_rng):
    rng = make_rng(3)
    expected = np.concatenate([rng.permutation(10), rng.permutation(10)])
    batches = StandardSampler(10, repeats=2).shuffled_indices_batch_iterator(4, make_rng(3))
    np.testing.assert_array_equal(np.concatenate(list(batches)), expected)


@pytest.mark.parametrize('make_rng', [np.random.RandomState, np.random.default_rng])
def test_weighted_draws_equal_choice(make_rng):
    weights = np.random.RandomState(0).rand(1000) ** 4
    sampler, rng = WeightedSampler(weights), make_rng(3)
    batches = sampler.shuffled_indices_batch_iterator(64, make_rng(3))
    for batch in itertools.islice(batches, 20):
        np.testing.assert_array_equal(batch, rng.choice(1000, size=64, p=sampler.weights))


@pytest.mark.parametrize('make_rng', [np.random.RandomState, np.random.default_rng])
def test_weighted_subset_draws_equal_choice(make_rng):
    indices = np.arange(50)[::-2]
    sampler, rng = WeightedSubsetSampler(np.arange(25), indices), make_rng(3)
    batches = sampler.shuffled_indices_batch_iterator(16, make_rng(3))
    for batch in itertools.islice(batches, 20):
        np.testing.assert_array_equal(batch, rng.choice(indices, size=16, p=sampler.sub_weights))


@pytest.mark.parametrize('make_rng', [np.random.RandomState, np.random.default_rng])
def test_a_stratified_choice_shuffles_the_member_numbers(make_rng):
    rng = make_rng(3)
    members = np.repeat([0, 1, 2], [3, 2, 1])
    rng.shuffle(members)
    batches = ChoiceDataSource(three_sources(), stratified=True).batch_indices_iterator(2, shuffle=make_rng(3))
    assert [batch.ds_index for batch in batches] == members.tolist()


def test_turns_are_a_permutation_each_round():
    rng = np.random.RandomState(3)
    members = [ArrayDataSource([np.zeros(100)], repeats=-1) for _ in range(4)]
    batches = ChoiceDataSource(members).batch_indices_iterator(100, shuffle=np.random.RandomState(3))
    drawn = [batch.ds_index for batch in itertools.islice(batches, 8)]
    expected = []
    for _ in range(2):
        turns = rng.permutation(4)
        expected += turns.tolist()
        for _member in turns:
            rng.permutation(100)
    assert drawn == expected


def test_true_is_the_global_generator():
    np.random.seed(12345)
    assert [batch[0].tolist() for batch in ArrayDataSource([np.arange(7)]).batch_iterator(3, shuffle=True)] == [
        [6, 3, 4],
        [0, 1, 5],
        [2],
    ]


def test_two_iterators_on_one_generator_draw_in_the_order_of_use():
    rng = np.random.RandomState(12345)
    source = ArrayDataSource([np.arange(5)])
    first, second = source.batch_iterator(5, shuffle=rng), source.batch_iterator(5, shuffle=rng)
    drawn = [next(second)[0].tolist(), next(first)[0].tolist()]
    reference = np.random.RandomState(12345)
    assert drawn == [reference.permutation(5).tolist(), reference.permutation(5).tolist()]


def test_promised_sequences():
    given = {name: golden.digest(name) for name in golden.CASES}
    assert given == {name: digest for name, (digest, _) in golden.CASES.items()}


def printed(python, **environment):
    """Return what another Python gives for the sequences."""
    command = [python, '-m', 'tests.golden']
    environment = {**os.environ, **environment}
    result = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, env=environment)
    return result.stdout.splitlines()


PROMISED = [f'{digest} {name}' for name, (digest, _) in golden.CASES.items()]


@pytest.mark.slow
def test_promised_sequences_without_vector_instructions():
    """NumPy sorts and adds by other algorithms then."""
    found = np.show_config(mode='dicts')['SIMD Extensions'].get('found', [])
    assert printed(sys.executable, NPY_DISABLE_CPU_FEATURES=' '.join(found)) == PROMISED


# The oldest supported NumPy, and the oldest that later versions of Python can have.
OLDEST = {'3.10': '1.22.0', '3.11': '1.23.2', '3.12': '1.26.0', '3.13': '2.1.0', '3.14': '2.3.2'}


def find_python(version):
    """Return a Python on the path, or one beside this one; `None` if there is none."""
    beside = Path(sys.base_prefix).parent.glob(f'{version}.*/bin/python{version}')
    for python in filter(None, [shutil.which(f'python{version}'), *beside]):
        if subprocess.run([python, '-c', 'import venv'], capture_output=True, check=False).returncode == 0:
            return python
    return None


def other_numpys():
    """Return Pythons with what to install for them: the oldest NumPy of all and of this Python, and the newest."""
    this = f'{sys.version_info.major}.{sys.version_info.minor}'
    found = {version: find_python(version) for version in OLDEST} | {this: sys.executable}
    pythons = {version: python for version, python in found.items() if python}
    oldest = {(pythons[version], f'numpy=={OLDEST[version]}') for version in (min(pythons), this)}
    return [*oldest, (pythons[max(pythons)], 'numpy')]


@pytest.mark.slow
def test_promised_sequences_with_the_oldest_numpy_and_the_newest(tmp_path):
    for number, (python, numpy) in enumerate(other_numpys()):
        subprocess.run([python, '-m', 'venv', '--without-pip', tmp_path / str(number)], check=True)
        made = tmp_path / str(number) / 'bin' / 'python'
        pip = [sys.executable, '-m', 'pip', '--quiet', '--python', made]
        subprocess.run([*pip, 'install', '--only-binary', ':all:', numpy, 'six', 'tqdm'], check=True)
        assert printed(made) == PROMISED


def test_a_seed_draws_in_keyed_chunks():
    """Far from the start, and at the end of a chunk, too: draws are those of the keyed generator."""
    weights = np.arange(1.0, 1001.0)
    cumulative = WeightedSampler(weights).weights.cumsum()
    rng = keyed_generator(42, Purpose.ORDER, 3, 10**12)
    expected = (cumulative / cumulative[-1]).searchsorted(rng.random(4096), side='right')
    plan = WeightedSampler(weights).plan(4096, 42, epoch=3)
    np.testing.assert_array_equal(plan[10**12].indices, expected)


def test_sequence_of_random_functions():
    def draw(*batch, rng):
        return (*batch, rng.integers(0, 100, 2))

    once = ArrayDataSource([np.arange(5)]).map(draw, rng=True, same_length=False)
    source = once.map(draw, rng=True, same_length=False)
    assert [[part.tolist() for part in batch] for batch in source.batch_iterator(2, shuffle=42, epoch=1)] == [
        [[3, 4], [22, 28], [48, 68]],
        [[2, 0], [34, 84], [25, 7]],
        [[1], [50, 87], [41, 16]],
    ]
