"""What every source promises, written once and run over all of them."""

import itertools
import json
import warnings

import numpy as np
import pytest

from batchup import sampling
from batchup._ground.batch import batch_length
from batchup.errors import StateMismatchError
from batchup.sampling import AbstractSampler

from .cases import (
    ARRANGED,
    BATCH_SIZE,
    DRAWN,
    DRAWN_SHUFFLES,
    ENDLESS,
    FIXED_SIZE,
    OBJECT_SHUFFLES,
    RANDOM_ACCESS,
    SHUFFLES,
    SINGLE,
    STREAMED,
    UNORDERED,
    assert_same_batches,
)

# More batches than any finite case has, and enough to pass several repetitions of endless ones.
ENOUGH = 15

FINITE = {**RANDOM_ACCESS, **ARRANGED, **STREAMED, **DRAWN}
ALL = {**FINITE, **ENDLESS}
PLANNED = {**RANDOM_ACCESS, **ARRANGED, **DRAWN, **ENDLESS}

finite = pytest.mark.parametrize('name', FINITE)
every = pytest.mark.parametrize('name', ALL)
ALL_SHUFFLES = {**SHUFFLES, **OBJECT_SHUFFLES}


def open_stream(name, shuffle, **kwargs):
    """Open a stream over a new source; weighted sources have no order."""
    source, kwargs = ALL[name](), {**ALL_SHUFFLES[shuffle](), **kwargs}
    if 'shuffle' not in kwargs and name in UNORDERED:
        kwargs['shuffle'] = 7
    if name in STREAMED:
        kwargs.pop('epoch', None)
    return source.batch_iterator(BATCH_SIZE, **kwargs)


def batches_of(name, shuffle, **kwargs):
    stream = open_stream(name, shuffle, **kwargs)
    return list(itertools.islice(stream, ENOUGH))


def quietly(stream, state):
    """Load a state where data is read again, of which a warning tells."""
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', message='to resume at batch')
        stream.load_state_dict(state)


def test_every_sampler_of_the_package_has_a_case():
    offered = {kind for kind in vars(sampling).values() if isinstance(kind, type) and issubclass(kind, AbstractSampler)}
    used = {type(source.sampler) for make in PLANNED.values() if hasattr(source := make(), 'sampler')}
    assert offered - used <= {AbstractSampler}


@every
def test_the_same_arguments_give_the_same_batches(name):
    for shuffle in ALL_SHUFFLES:
        assert_same_batches(batches_of(name, shuffle), batches_of(name, shuffle))


@finite
def test_len_is_the_number_of_batches_where_it_is_known(name):
    for shuffle in ALL_SHUFFLES:
        stream = open_stream(name, shuffle)
        if stream.length is None:
            assert name in STREAMED or shuffle in DRAWN_SHUFFLES
            with pytest.raises(TypeError, match='number of batches is not known'):
                len(stream)
        else:
            assert len(stream) == len(list(stream))


@pytest.mark.parametrize('name', ENDLESS)
def test_len_of_an_endless_stream_is_a_type_error(name):
    with pytest.raises(TypeError, match='infinite'):
        len(open_stream(name, 'seed'))


@every
def test_a_state_restores_every_position(name):
    for shuffle in ALL_SHUFFLES:
        expected, saved, received = batches_of(name, shuffle), open_stream(name, shuffle), []
        for position in range(len(expected) + 1):
            resumed = open_stream(name, shuffle)
            quietly(resumed, json.loads(json.dumps(saved.state_dict())))
            assert resumed.position == position
            assert_same_batches(itertools.islice(resumed, ENOUGH - position), expected[position:])
            received += itertools.islice(saved, 1)
        assert_same_batches(received[:ENOUGH], expected)


@pytest.mark.parametrize('name', PLANNED)
def test_skipping_equals_iterating(name):
    for shuffle, skipped in itertools.product(ALL_SHUFFLES, [0, 1, 2, 5]):
        expected, stream = batches_of(name, shuffle), open_stream(name, shuffle)
        assert stream.skip(skipped) == min(skipped, len(expected))
        assert stream.position == min(skipped, len(expected))
        assert_same_batches(itertools.islice(stream, ENOUGH - skipped), expected[skipped:])


@pytest.mark.parametrize('name', [*SINGLE, *DRAWN])
def test_drop_last_leaves_out_a_short_last_batch(name):
    for shuffle in ALL_SHUFFLES:
        whole = [batch for batch in batches_of(name, shuffle) if batch_length(batch) == BATCH_SIZE]
        stream = open_stream(name, shuffle, drop_last=True)
        assert len(stream) == len(whole)
        assert_same_batches(stream, whole)


@every
def test_a_closed_stream_ends(name):
    for shuffle in ALL_SHUFFLES:
        with open_stream(name, shuffle) as stream:
            next(stream, None)
        stream.close()
        assert next(stream, None) is None


@pytest.mark.parametrize('name', PLANNED)
def test_an_unknown_keyword_is_named_at_the_call(name):
    with pytest.raises(TypeError, match='shufle'):
        ALL[name]().batch_iterator(BATCH_SIZE, shufle=True)


@pytest.mark.parametrize('name', [name for name in ALL if name != 'iterator'])
def test_a_wrong_batch_size_is_an_error_at_the_call(name):
    for batch_size, error in [(0, ValueError), (-3, ValueError), (2.0, TypeError), (True, TypeError)]:
        with pytest.raises(error, match='batch_size'):
            ALL[name]().batch_iterator(batch_size, shuffle=1)


@pytest.mark.parametrize('name', PLANNED)
def test_numpy_integers_are_batch_sizes(name):
    source = ALL[name]()
    assert_same_batches(
        itertools.islice(source.batch_iterator(np.int64(4), shuffle=1), ENOUGH),
        itertools.islice(source.batch_iterator(4, shuffle=1), ENOUGH),
    )


@pytest.mark.parametrize('name', PLANNED)
def test_a_generator_is_first_drawn_from_at_the_first_next(name):
    for make in DRAWN_SHUFFLES.values():
        rng = make()['shuffle']
        before = state_of(rng)
        stream = ALL[name]().batch_iterator(BATCH_SIZE, shuffle=rng)
        assert state_of(rng) == before
        next(stream, None)
        assert state_of(rng) != before or name == 'empty'


def state_of(rng):
    """Return the state of a generator as a text."""
    state = rng.get_state(legacy=False) if isinstance(rng, np.random.RandomState) else rng.bit_generator.state
    return json.dumps(state, default=np.ndarray.tolist)


@pytest.mark.parametrize('name', PLANNED)
def test_a_generator_is_drawn_from_only_as_far_as_batches_need(name):
    """What is drawn for k batches does not depend on how far the stream looks ahead."""
    for make, k in itertools.product(DRAWN_SHUFFLES.values(), range(1, 6)):
        rngs = [make()['shuffle'] for _ in range(2)]
        list(itertools.islice(ALL[name]().batch_iterator(BATCH_SIZE, shuffle=rngs[0]), k))
        source = ALL[name]()
        list(itertools.islice(source.batch_indices_iterator(BATCH_SIZE, shuffle=rngs[1]), k))
        assert state_of(rngs[0]) == state_of(rngs[1])


@every
def test_states_are_small(name):
    for shuffle in ALL_SHUFFLES:
        stream = open_stream(name, shuffle)
        next(stream, None)
        assert len(json.dumps(stream.state_dict())) < 4096


@pytest.mark.parametrize('name', PLANNED)
def test_a_state_that_does_not_fit_is_refused(name):
    arguments = {'batch_size': BATCH_SIZE, 'shuffle': 42, 'epoch': 3}
    state = ALL[name]().batch_iterator(**arguments).state_dict()
    changes = [{'shuffle': 43}, {'epoch': 4}, {'drop_last': True}, *[{'batch_size': 5}] * (name not in FIXED_SIZE)]
    for change in changes:
        with pytest.raises(StateMismatchError, match=f'{next(iter(change))} of the state'):
            ALL[name]().batch_iterator(**{**arguments, **change}).load_state_dict(state)


@pytest.mark.parametrize('name', [name for name in PLANNED if name != 'empty'])
def test_epochs_and_seeds_differ(name):
    def indices(**kwargs):
        source = ALL[name]()
        return repr(list(itertools.islice(source.batch_indices_iterator(BATCH_SIZE, **kwargs), 3)))

    drawn = {indices(shuffle=seed, epoch=epoch) for seed in range(4) for epoch in range(4)}
    assert len(drawn) > 12
