"""What every source promises, written once and run over all of them."""

import itertools
import json
import warnings

import numpy as np
import pytest

from batchup._ground.batch import batch_length
from batchup.errors import StateMismatchError

from .cases import (
    BATCH_SIZE,
    DRAWN,
    DRAWN_SHUFFLES,
    ENDLESS,
    OBJECT_SHUFFLES,
    RANDOM_ACCESS,
    SHUFFLES,
    SINGLE,
    STREAMED,
    UNORDERED,
    assert_same_batches,
    named,
)

# More batches than any finite case has, and enough to pass several repetitions of endless ones.
ENOUGH = 15

FINITE = {**RANDOM_ACCESS, **STREAMED, **DRAWN}
ALL = {**FINITE, **ENDLESS}
PLANNED = {**RANDOM_ACCESS, **DRAWN, **ENDLESS}

finite = pytest.mark.parametrize('name', named(FINITE))
every = pytest.mark.parametrize('name', named(ALL))
ALL_SHUFFLES = {**SHUFFLES, **OBJECT_SHUFFLES}
shuffled = pytest.mark.parametrize('shuffle', ALL_SHUFFLES)


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


@every
@shuffled
def test_the_same_arguments_give_the_same_batches(name, shuffle):
    assert_same_batches(batches_of(name, shuffle), batches_of(name, shuffle))


@finite
@shuffled
def test_len_is_the_number_of_batches_where_it_is_known(name, shuffle):
    stream = open_stream(name, shuffle)
    if stream.length is None:
        with pytest.raises(TypeError, match='number of batches is not known'):
            len(stream)
    else:
        assert len(stream) == len(list(stream))


@pytest.mark.parametrize('name', ENDLESS)
def test_len_of_an_endless_stream_is_a_type_error(name):
    with pytest.raises(TypeError, match='infinite'):
        len(open_stream(name, 'seed'))


@every
@shuffled
@pytest.mark.parametrize('position', range(ENOUGH))
def test_a_state_restores_every_position(name, shuffle, position):
    expected = batches_of(name, shuffle)
    position = min(position, len(expected))
    saved = open_stream(name, shuffle)
    received = list(itertools.islice(saved, position))
    state = json.loads(json.dumps(saved.state_dict()))
    resumed = open_stream(name, shuffle)
    quietly(resumed, state)
    received += itertools.islice(resumed, ENOUGH - position)
    assert_same_batches(received, expected)


@pytest.mark.parametrize('name', named(PLANNED))
@shuffled
@pytest.mark.parametrize('position', [0, 1, 2, 5])
def test_skipping_equals_iterating(name, shuffle, position):
    expected = batches_of(name, shuffle)
    stream = open_stream(name, shuffle)
    assert stream.skip(position) == min(position, len(expected))
    assert stream.position == min(position, len(expected))
    assert_same_batches(itertools.islice(stream, max(ENOUGH - position, 0)), expected[position:])


@pytest.mark.parametrize('name', [*SINGLE, *DRAWN])
@shuffled
def test_drop_last_leaves_out_a_short_last_batch(name, shuffle):
    whole = [batch for batch in batches_of(name, shuffle) if batch_length(batch) == BATCH_SIZE]
    stream = open_stream(name, shuffle, drop_last=True)
    assert len(stream) == len(whole)
    assert_same_batches(stream, whole)


@every
@shuffled
def test_a_closed_stream_ends(name, shuffle):
    with open_stream(name, shuffle) as stream:
        pass
    stream.close()
    assert next(stream, None) is None


@pytest.mark.parametrize('name', named(PLANNED))
def test_an_unknown_keyword_is_named_at_the_call(name):
    with pytest.raises(TypeError, match='shufle'):
        ALL[name]().batch_iterator(BATCH_SIZE, shufle=True)


@pytest.mark.parametrize('name', named(name for name in ALL if name != 'iterator'))
@pytest.mark.parametrize(
    ('batch_size', 'error'), [(0, ValueError), (-3, ValueError), (2.0, TypeError), (True, TypeError)]
)
def test_a_wrong_batch_size_is_an_error_at_the_call(name, batch_size, error):
    with pytest.raises(error, match='batch_size'):
        ALL[name]().batch_iterator(batch_size, shuffle=1)


@pytest.mark.parametrize('name', named(PLANNED))
def test_numpy_integers_are_batch_sizes(name):
    source = ALL[name]()
    assert_same_batches(
        itertools.islice(source.batch_iterator(np.int64(4), shuffle=1), ENOUGH),
        itertools.islice(source.batch_iterator(4, shuffle=1), ENOUGH),
    )


@pytest.mark.parametrize('name', named(PLANNED))
@pytest.mark.parametrize('shuffle', DRAWN_SHUFFLES)
def test_a_generator_is_first_drawn_from_at_the_first_next(name, shuffle):
    rng = DRAWN_SHUFFLES[shuffle]()['shuffle']
    before = repr(state_of(rng))
    stream = ALL[name]().batch_iterator(BATCH_SIZE, shuffle=rng)
    assert repr(state_of(rng)) == before
    next(stream, None)
    assert repr(state_of(rng)) != before or name == 'empty'


def state_of(rng):
    return rng.get_state(legacy=False) if isinstance(rng, np.random.RandomState) else rng.bit_generator.state


@pytest.mark.parametrize('name', named(PLANNED))
@pytest.mark.parametrize('shuffle', DRAWN_SHUFFLES)
def test_a_generator_is_drawn_from_only_as_far_as_batches_need(name, shuffle):
    """What is drawn for k batches does not depend on how far the stream looks ahead."""
    for k in range(1, 6):
        rngs = [DRAWN_SHUFFLES[shuffle]()['shuffle'] for _ in range(2)]
        list(itertools.islice(ALL[name]().batch_iterator(BATCH_SIZE, shuffle=rngs[0]), k))
        source = ALL[name]()
        list(itertools.islice(source.batch_indices_iterator(BATCH_SIZE, shuffle=rngs[1]), k))
        assert repr(state_of(rngs[0])) == repr(state_of(rngs[1]))


@every
@shuffled
def test_states_are_small(name, shuffle):
    stream = open_stream(name, shuffle)
    next(stream, None)
    assert len(json.dumps(stream.state_dict())) < 4096


@pytest.mark.parametrize('name', named(PLANNED))
@pytest.mark.parametrize(
    ('change', 'shown'),
    [
        ({'batch_size': 5}, 'batch_size'),
        ({'shuffle': 43}, 'shuffle'),
        ({'epoch': 4}, 'epoch'),
        ({'drop_last': True}, 'drop_last'),
    ],
)
def test_a_state_that_does_not_fit_is_refused(name, change, shown):
    arguments = {'batch_size': BATCH_SIZE, 'shuffle': 42, 'epoch': 3}
    state = ALL[name]().batch_iterator(**arguments).state_dict()
    with pytest.raises(StateMismatchError, match=f'{shown} of the state'):
        ALL[name]().batch_iterator(**{**arguments, **change}).load_state_dict(state)


@pytest.mark.parametrize('name', named(name for name in PLANNED if name != 'empty'))
def test_epochs_and_seeds_differ(name):
    def indices(**kwargs):
        source = ALL[name]()
        return repr(list(itertools.islice(source.batch_indices_iterator(BATCH_SIZE, **kwargs), 3)))

    drawn = {indices(shuffle=seed, epoch=epoch) for seed in range(4) for epoch in range(4)}
    assert len(drawn) > 12
