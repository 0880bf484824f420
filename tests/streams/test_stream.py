"""Streams: errors and what follows them, skipping, states that do not fit."""

import copy
import gc
import itertools
import math
import pickle
import weakref

import numpy as np
import pytest

from batchup.data_source import (
    ArrayDataSource,
    CallableDataSource,
    ChoiceDataSource,
    CompositeDataSource,
    RandomAccessDataSource,
    batch_map_concat,
)
from batchup.errors import ReplayError, StateMismatchError

from ..cases import SHUFFLE_ARGUMENTS, FailsOnce, PlainSampler, PlainSource, assert_same_batches, keep, take_until_error

DATA = np.arange(20)


def failing_iterator(batch_size, **kwargs):
    return (batch for batch in ArrayDataSource([DATA]).batch_iterator(batch_size))


FAILING = {
    'map': lambda fn: ArrayDataSource([DATA]).map(fn),
    'map of composite': lambda fn: CompositeDataSource([ArrayDataSource([DATA]), ArrayDataSource([DATA])]).map(fn),
    'composite of map': lambda fn: CompositeDataSource([ArrayDataSource([DATA]), ArrayDataSource([DATA]).map(fn)]),
    'choice of map': lambda fn: ChoiceDataSource([ArrayDataSource([DATA]), ArrayDataSource([DATA]).map(fn)]),
    'map of callable': lambda fn: CallableDataSource(failing_iterator).map(fn),
    'composite of callable': lambda fn: CompositeDataSource(
        [CallableDataSource(failing_iterator), ArrayDataSource([DATA]).map(fn)]
    ),
}
failing = pytest.mark.parametrize('name', FAILING)


@failing
@pytest.mark.filterwarnings('ignore:to resume at batch')
def test_after_an_error_the_same_batch_comes_next_here_and_from_the_state(name):
    for make in SHUFFLE_ARGUMENTS.values():
        expected = list(FAILING[name](keep).batch_iterator(3, shuffle=make()))
        stream = FAILING[name](FailsOnce(at=3)).batch_iterator(3, shuffle=make())
        received, state = take_until_error(stream), stream.state_dict()
        assert stream.position == len(received) > 0
        assert_same_batches([*received, *stream], expected)
        resumed = FAILING[name](keep).batch_iterator(3, shuffle=make())
        resumed.load_state_dict(state)
        assert_same_batches([*received, *resumed], expected)


@failing
def test_skipping_after_an_error_goes_over_the_batch_that_failed(name):
    expected = list(FAILING[name](lambda *batch: batch).batch_iterator(3))
    stream = FAILING[name](FailsOnce(at=3)).batch_iterator(3)
    received = take_until_error(stream)
    assert stream.skip(1) == 1
    assert_same_batches(stream, expected[len(received) + 1 :])


def test_an_error_keeps_its_type_and_says_where_it_arrived():
    stream = ArrayDataSource([DATA]).map(FailsOnce(3, KeyError)).batch_iterator(3, shuffle=3, epoch=7)
    with pytest.raises(KeyError) as caught:
        list(stream)
    indices = ArrayDataSource([DATA]).plan(3, 3, epoch=7)[2].indices
    assert caught.value.__notes__ == [f'in batch 2 of epoch 7, with indices {indices!r}']


def test_keyboard_interrupt_keeps_the_place():
    stream = ArrayDataSource([DATA]).map(FailsOnce(3, KeyboardInterrupt)).batch_iterator(3)
    with pytest.raises(KeyboardInterrupt):
        list(stream)
    assert next(stream)[0].tolist() == [6, 7, 8]


def test_stop_iteration_in_a_mapped_function_is_an_error():
    def stop(x):
        raise StopIteration

    with pytest.raises(RuntimeError, match='StopIteration'):
        list(ArrayDataSource([DATA]).map(stop).batch_iterator(3))


class BadSource(RandomAccessDataSource):
    def samples_by_indices_nomapping(self, indices):
        raise IndexError('no such file')


def test_an_index_error_of_a_source_does_not_end_the_stream():
    with pytest.raises(IndexError, match='no such file'):
        list(BadSource(10).batch_iterator(3))


def open_drawn():
    return ArrayDataSource([DATA], repeats=3).batch_iterator(3, shuffle=np.random.RandomState(3))


def test_a_drawn_stream_cannot_go_back():
    stream = open_drawn()
    state = stream.state_dict()
    list(itertools.islice(stream, 4))
    with pytest.raises(StateMismatchError, match='at position 4 and cannot go back to 0'):
        stream.load_state_dict(state)


def test_a_drawn_plan_cannot_go_back():
    plan = ArrayDataSource([DATA], repeats=3).plan(3, np.random.RandomState(3))
    assert plan[15].number == 15
    with pytest.raises(ReplayError, match='use a seed'):
        plan[0]


def test_a_pure_stream_goes_back_and_forth():
    stream = ArrayDataSource([DATA], repeats=3).batch_iterator(3, shuffle=3)
    expected = list(ArrayDataSource([DATA], repeats=3).batch_iterator(3, shuffle=3))
    start = stream.state_dict()
    stream.skip(17)
    later = stream.state_dict()
    for state, position in ((start, 0), (later, 17), (start, 0)):
        stream.load_state_dict(state)
        assert stream.position == position
        assert_same_batches([next(stream)], [expected[position]])


def test_a_generator_in_another_state_is_noticed():
    state_of = open_drawn()
    next(state_of)
    other = ArrayDataSource([DATA], repeats=3).batch_iterator(3, shuffle=np.random.RandomState(4))
    with pytest.raises(StateMismatchError, match='indices of the state'):
        other.load_state_dict(state_of.state_dict())


def test_other_data_is_noticed():
    state = ArrayDataSource([DATA], indices=[1, 2, 3]).batch_iterator(2).state_dict()
    with pytest.raises(StateMismatchError, match='indices of the state'):
        ArrayDataSource([DATA], indices=[1, 5, 3]).batch_iterator(2).load_state_dict(state)


def test_a_mismatch_shows_both_values_on_aligned_lines():
    state = ArrayDataSource([DATA]).batch_iterator(3, shuffle=1).state_dict()
    with pytest.raises(StateMismatchError) as caught:
        ArrayDataSource([np.arange(21)]).batch_iterator(4, shuffle=1).load_state_dict(state)
    assert str(caught.value).splitlines() == [
        'this state does not fit this stream:',
        '  plan of the state:  20 samples x 1',
        '  plan of the stream: 21 samples x 1',
        '  batch_size of the state:  3',
        '  batch_size of the stream: 4',
        'Make the stream with the same source and arguments as the one that was saved.',
    ]


@pytest.mark.parametrize('position', [-1, 8, None, 'x', 2.0])
def test_a_wrong_position_is_refused(position):
    stream = ArrayDataSource([DATA]).batch_iterator(3)
    with pytest.raises(StateMismatchError, match='position'):
        stream.load_state_dict({**stream.state_dict(), 'position': position})


ODD = [
    None,
    True,
    -1,
    3,
    2**70,
    1.5,
    float('nan'),
    'x',
    b'x',
    [],
    [1],
    {},
    {'a': 1},
    (1, 2),
    {1},
    np.arange(3),
    object(),
]

OPENED = {
    **{name: make for name, make in FAILING.items() if name != 'choice of map'},
    'array': lambda fn: ArrayDataSource([DATA]),
    'rounds': lambda fn: CompositeDataSource([ArrayDataSource([DATA]), PlainSource(5).map(fn)], stop=0),
}


def places_of(state, above=()):
    """Go through the places of all values of a state, nested ones as well."""
    for key, value in state.items() if isinstance(state, dict) else enumerate(state):
        yield (*above, key)
        if isinstance(value, (dict, list)):
            yield from places_of(value, (*above, key))


@pytest.mark.parametrize('name', OPENED)
@pytest.mark.parametrize('shuffle', [None, 3])
def test_an_odd_state_is_refused_or_fits_and_moves_nothing_if_refused(name, shuffle):
    saved, stream = (OPENED[name](lambda *batch: batch).batch_iterator(3, shuffle=shuffle) for _ in range(2))
    saved.skip(3)
    refused = 0
    for place, odd in itertools.product([*places_of(saved.state_dict()), ('digest_of',), ('digest',)], ODD):
        state = inner = saved.state_dict()
        for key in place[:-1]:
            inner = inner[key]
        inner[place[-1]] = odd
        try:
            stream.check_state(state)
        except StateMismatchError:
            refused += 1
    assert refused > len(ODD)
    assert stream.position == 0
    assert_same_batches(stream, OPENED[name](lambda *batch: batch).batch_iterator(3, shuffle=shuffle))


@pytest.mark.parametrize('digest_of', ['x', -1, 9, 1.0])
def test_a_digest_of_no_batch_is_refused(digest_of):
    stream = ArrayDataSource([DATA]).batch_iterator(3)
    next(stream)
    state = {**stream.state_dict(), 'digest_of': digest_of}
    with pytest.raises(StateMismatchError, match=f'at position 1, it has the digest .* of batch {digest_of!r}'):
        stream.load_state_dict(state)
    assert next(stream)[0].tolist() == [3, 4, 5]


@pytest.mark.parametrize('state', [None, [], 'x', 3])
def test_a_state_must_be_a_dict(state):
    with pytest.raises(TypeError, match='made by state_dict'):
        ArrayDataSource([DATA]).batch_iterator(3).load_state_dict(state)


def test_an_empty_dict_is_no_state():
    with pytest.raises(StateMismatchError, match=r'version of the state:  \(missing\)'):
        ArrayDataSource([DATA]).batch_iterator(3).load_state_dict({})


def test_a_closed_stream_refuses_to_move():
    stream = ArrayDataSource([DATA]).batch_iterator(3)
    state = stream.state_dict()
    stream.close()
    with pytest.raises(ValueError, match='the stream is closed'):
        stream.skip(1)
    with pytest.raises(ValueError, match='the stream is closed'):
        stream.load_state_dict(state)


class BreaksOff(PlainSampler):
    """A user's sampler that fails at batch 600."""

    def shuffled_indices_batch_iterator(self, batch_size, shuffle_rng):
        yield from itertools.islice(super().shuffled_indices_batch_iterator(batch_size, shuffle_rng), 600)
        raise OSError('disk gone')


def test_an_error_while_skipping_arrives_at_its_batch():
    source = ArrayDataSource([np.arange(1000)], sampler=BreaksOff(1000))
    stream = source.batch_iterator(1, shuffle=np.random.RandomState(3))
    with pytest.raises(OSError, match='disk gone') as caught:
        stream.skip(900)
    assert (stream.position, caught.value.__notes__) == (600, ['in batch 600 of epoch 0'])


@pytest.mark.parametrize(('n', 'error'), [(-1, ValueError), (1.5, TypeError), (True, TypeError)])
def test_a_wrong_number_to_skip(n, error):
    with pytest.raises(error, match='n must be'):
        ArrayDataSource([DATA]).batch_iterator(3).skip(n)


def test_a_seeded_endless_stream_is_resumed_at_once_anywhere():
    source = ArrayDataSource([DATA], repeats=-1)
    stream = source.batch_iterator(7, shuffle=3)
    stream.skip(10**15)
    resumed = source.batch_iterator(7, shuffle=3)
    resumed.load_state_dict(stream.state_dict())
    assert_same_batches([next(resumed)], [next(stream)])


def test_a_run_resumes_with_another_number_of_ranks():
    source = ArrayDataSource([DATA])
    whole = [batch[0] for batch in source.batch_iterator(6, shuffle=3)]
    saved = source.batch_iterator(6, shuffle=3, shard=(0, 2))
    next(saved)
    state = saved.state_dict()
    rest = []
    for rank in range(3):
        stream = source.batch_iterator(6, shuffle=3, shard=(rank, 3))
        stream.load_state_dict(state)
        rest.append([batch[0] for batch in stream])
    for parts, batch in zip(zip(*rest), whole[1:]):
        np.testing.assert_array_equal(np.concatenate(parts), batch)


def test_states_of_many_members_stay_small():
    members = [ArrayDataSource([np.arange(k + 1)]) for k in range(200)]
    state = CompositeDataSource(members).batch_iterator(3, shuffle=1).state_dict()
    assert len(str(state)) < 4096
    members[150] = ArrayDataSource([np.arange(1000)])
    with pytest.raises(StateMismatchError, match='plan of the state'):
        CompositeDataSource(members).batch_iterator(3, shuffle=1).load_state_dict(state)


def test_lengths():
    assert ArrayDataSource([DATA], repeats=-1).batch_iterator(3).length == math.inf
    assert ArrayDataSource([DATA]).batch_iterator(3).length == 7


def test_a_stream_is_its_own_iterator():
    stream = ArrayDataSource([DATA]).batch_iterator(3)
    assert iter(stream) is stream


AGAIN = (
    r'stream has ended: it gives no more; go through source.loader\(...\), where each pass is the next epoch, '
    r'or call batch_iterator\(...\) again'
)

GONE_THROUGH = {
    'for': lambda stream: [batch for batch in stream],  # noqa: C416 - list() asks for the length, too
    'list': list,
    'batch_map_concat': lambda stream: batch_map_concat(np.negative, stream),
    'with a bar': lambda stream: batch_map_concat(np.negative, stream, lambda batches, **_: iter(batches)),
}


@pytest.mark.parametrize('make', FAILING.values(), ids=FAILING)
def test_a_stream_that_is_gone_through_again_warns(make):
    stream = make(lambda *batch: batch).batch_iterator(3)
    assert list(stream)
    for _ in range(2):
        with pytest.warns(UserWarning, match=AGAIN) as caught:
            assert list(stream) == []
        assert [warning.filename for warning in caught] == [__file__]


@pytest.mark.parametrize('name', GONE_THROUGH)
def test_every_way_to_go_through_again_warns_once(name):
    stream = ArrayDataSource([DATA]).batch_iterator(3)
    assert len(GONE_THROUGH[name](stream)) > 0
    with pytest.warns(UserWarning, match=AGAIN) as caught:
        assert len(GONE_THROUGH[name](stream)) == 0
    assert len(caught) == 1


def test_a_closed_stream_that_is_gone_through_warns():
    with ArrayDataSource([DATA]).batch_iterator(3) as stream:
        next(stream)
    with pytest.warns(UserWarning, match='stream is closed: it gives no more; go through source.loader'):
        assert list(stream) == []


def test_a_stream_that_goes_on_does_not_warn():
    stream = ArrayDataSource([DATA]).batch_iterator(3)
    start = stream.state_dict()
    assert [len(list(itertools.islice(stream, n))) for n in (2, 3)] == [2, 3]
    assert len(list(stream)) == 2
    assert next(stream, None) is None
    stream.load_state_dict(start)
    assert len(list(stream)) == 7


@pytest.mark.parametrize('n', [0, 20])
def test_an_epoch_without_batches_does_not_warn_at_first(n):
    source, ended = ArrayDataSource([DATA[:n]]), ArrayDataSource([DATA[:n]]).batch_iterator(3)
    list(ended)
    resumed, skipped = source.batch_iterator(3), source.batch_iterator(3)
    resumed.load_state_dict(ended.state_dict())
    skipped.skip(9)
    assert list(resumed) == list(skipped) == []


def test_an_abandoned_stream_goes_away():
    stream = ArrayDataSource([DATA]).batch_iterator(3)
    next(stream)
    gone = weakref.ref(stream)
    del stream
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize(
    ('number', 'error'), [(slice(0, 2), TypeError), (1.0, TypeError), (7, IndexError), (-8, IndexError)]
)
def test_wrong_numbers_of_batches(number, error):
    plan = ArrayDataSource([DATA]).plan(3)
    assert plan[-1].number == 6
    with pytest.raises(error, match='batch'):
        plan[number]


@pytest.mark.parametrize('copied', [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_copy_of_a_stream_is_refused(copied):
    for source in [ArrayDataSource([DATA]), CallableDataSource(failing_iterator)]:
        stream = source.batch_iterator(3)
        with pytest.raises(TypeError, match=r'keep its state_dict\(\), make another stream .* of batch_iterator\(\)'):
            copied(stream)
        assert next(stream)[0].tolist() == [0, 1, 2]
