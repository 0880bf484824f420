"""Sources over functions and iterators, and streams over users' iterators."""

import itertools
import json

import numpy as np
import pytest

from batchup.data_source import (
    ArrayDataSource,
    CallableDataSource,
    CompositeDataSource,
    IteratorDataSource,
    coerce_data_source,
)
from batchup.errors import StateMismatchError

from ..cases import PlainSource, assert_same_batches, call_batches, take_until_error


def batches(n):
    return [(np.full(2, k),) for k in range(n)]


def test_a_callable_is_called_at_once_with_just_the_given_keywords():
    seen = []

    def make(batch_size, **kwargs):
        seen.append((batch_size, kwargs))
        return iter(batches(2))

    source = CallableDataSource(make)
    source.batch_iterator(7)
    source.batch_iterator(8, shuffle=None, mode='x')
    assert seen == [(7, {}), (8, {'shuffle': None, 'mode': 'x'})]


@pytest.mark.parametrize(
    ('num_samples', 'expected'), [(11, 11), (np.inf, np.inf), (None, None), (lambda k=2: 5 * k, 10)]
)
def test_num_samples_of_a_callable(num_samples, expected):
    assert CallableDataSource(call_batches, num_samples).num_samples() == expected


def test_num_samples_fn_takes_the_same_keywords():
    assert CallableDataSource(call_batches, lambda half=False: 5 if half else 10).num_samples(half=True) == 5


@pytest.mark.parametrize('num_samples', ['10', 1.5, True, [3]])
def test_wrong_num_samples(num_samples):
    with pytest.raises(TypeError, match='num_samples_fn'):
        CallableDataSource(call_batches, num_samples)
    with pytest.raises(TypeError, match='n_samples'):
        IteratorDataSource(iter([]), num_samples)


def test_negative_num_samples():
    with pytest.raises(ValueError, match='must be 0 or more, got -1'):
        IteratorDataSource(iter([]), -1)


def test_a_callable_must_be_callable_and_return_an_iterator():
    with pytest.raises(TypeError, match='batch_iterator_fn must be callable, got list'):
        CallableDataSource([])
    with pytest.raises(TypeError, match='must return an iterator over batches, got int'):
        CallableDataSource(lambda batch_size: 3).batch_iterator(2)


def test_len_of_a_callable_follows_from_its_number_of_samples():
    assert len(CallableDataSource(call_batches, 11).batch_iterator(4)) == 3


def test_a_callable_may_return_a_stream():
    inner = ArrayDataSource([np.arange(10)])
    source = CallableDataSource(inner.batch_iterator, inner.num_samples)
    stream = source.batch_iterator(4, shuffle=3)
    next(stream)
    resumed = source.batch_iterator(4, shuffle=3)
    resumed.load_state_dict(stream.state_dict())
    assert_same_batches(resumed, stream)


def test_an_iterator_source_ignores_all_arguments():
    source = IteratorDataSource(iter(batches(3)), n_samples=6)
    assert source.num_samples(shuffle=3, mode='x') == 6
    assert_same_batches(source.batch_iterator(100, 7, shufle=True, mode='x'), batches(3))


def test_an_iterator_source_goes_on_where_it_was():
    source = IteratorDataSource(iter(batches(3)))
    with source.batch_iterator(2) as stream:
        next(stream)
    assert_same_batches(source.batch_iterator(2), batches(3)[1:])


def again(source):
    """Go through a source once more, of which nothing is left."""
    with pytest.warns(
        UserWarning, match='iterator of IteratorDataSource has ended before, and cannot be gone'
    ) as caught:
        assert list(source.batch_iterator(2)) == []
    assert [warning.filename for warning in caught] == [__file__]


def test_an_iterator_source_that_is_gone_through_again_warns():
    source = IteratorDataSource(iter(batches(3)))
    stream = source.batch_iterator(2)
    assert len(list(stream)) == 3
    again(source)
    with pytest.warns(UserWarning, match='stream has ended: .* iterator cannot be gone through twice; make a Callable'):
        assert list(stream) == []
    source.batch_iter = iter(batches(2))
    assert len(list(source.batch_iterator(2))) == 2


def test_an_iterator_whose_end_was_not_seen_warns_too():
    source = IteratorDataSource(iter(batches(3)))
    both = CompositeDataSource([source, ArrayDataSource([np.arange(3)])])
    assert len(list(both.batch_iterator(1))) == 3
    with pytest.warns(UserWarning, match='cannot be gone through twice'):
        assert list(both.batch_iterator(1)) == []


def test_a_function_that_returns_the_same_generator_again_warns():
    shared = (batch for batch in batches(3))
    source = CallableDataSource(lambda batch_size: shared)
    assert len(list(source.batch_iterator(2))) == 3
    with pytest.warns(UserWarning, match='has returned a generator that has ended before') as caught:
        source.batch_iterator(2)
    assert caught[0].filename == __file__


def test_iterators_that_are_new_or_empty_do_not_warn():
    source, empty = CallableDataSource(call_batches), IteratorDataSource(iter([]))
    assert [len(list(source.batch_iterator(4))) for _ in range(2)] == [3, 3]
    assert [list(empty.batch_iterator(4)) for _ in range(2)] == [[], []]


class FailsAtItsThird:
    """An iterator over 5 batches that fails once, and then goes on."""

    def __init__(self):
        self.k = self.failed = 0

    def __iter__(self):
        return self

    def __next__(self):
        if self.k == 2 and not self.failed:
            self.failed = 1
            raise OSError('disk gone')
        if self.k == 5:
            raise StopIteration
        self.k += 1
        return (np.array([self.k - 1]),)


def failing_generator(batch_size):
    yield from FailsAtItsThird()


ENDED = r"has ended with an error, OSError\('disk gone'\): a generator that has raised gives no more"

BROKEN = {
    'generator': lambda: CallableDataSource(failing_generator),
    'function over a generator': lambda: CallableDataSource(lambda size: map(keep_batch, failing_generator(size))),
    'iterator source': lambda: IteratorDataSource(failing_generator(1)),
    'composite': lambda: CompositeDataSource([CallableDataSource(failing_generator), PlainSource(9)]),
    'map': lambda: CallableDataSource(failing_generator).map(lambda x: (x,)),
}


def keep_batch(batch):
    return batch


@pytest.mark.parametrize('name', BROKEN)
def test_a_generator_that_has_raised_does_not_just_end(name):
    stream = BROKEN[name]().batch_iterator(1)
    take_until_error(stream)
    for go_on in (next, lambda stream: stream.skip(1), next):
        with pytest.raises(RuntimeError, match=ENDED):
            go_on(stream)
    assert stream.position == 2


def test_an_iterator_that_has_raised_stays_so_for_the_next_stream():
    source = IteratorDataSource(failing_generator(1))
    take_until_error(source.batch_iterator(1))
    with pytest.raises(RuntimeError, match='the iterator of IteratorDataSource ' + ENDED):
        list(source.batch_iterator(1))


def test_a_new_stream_goes_on_after_a_generator_has_raised():
    calls = itertools.count()

    def fails_once(batch_size):
        return failing_generator(batch_size) if next(calls) == 0 else iter(batches(5))

    source = CallableDataSource(fails_once)
    stream, resumed = source.batch_iterator(2), source.batch_iterator(2)
    received = take_until_error(stream)
    with pytest.warns(UserWarning, match='read again'):
        resumed.load_state_dict(stream.state_dict())
    assert [int(batch[0][0]) for batch in (*received, *resumed)] == [0, 1, 2, 3, 4]


def test_an_iterator_that_can_go_on_is_asked_again():
    stream = CallableDataSource(lambda batch_size: FailsAtItsThird()).batch_iterator(1)
    received = take_until_error(stream)
    assert [int(batch[0][0]) for batch in (*received, *stream)] == [0, 1, 2, 3, 4]


def test_what_is_no_batch_is_not_passed_over():
    stream = CallableDataSource(lambda batch_size: iter([*batches(1), None, *batches(3)[2:]])).batch_iterator(2)
    next(stream)
    for _ in range(2):
        with pytest.raises(TypeError, match='must return a tuple of arrays, got NoneType'):
            next(stream)
    assert stream.skip(1) == 1
    assert_same_batches(stream, batches(3)[2:])


def test_an_iterator_is_needed():
    with pytest.raises(TypeError, match='got list; iter'):
        IteratorDataSource(batches(3))


def test_closing_a_stream_closes_a_generator_made_for_it():
    closed = []

    def make(batch_size):
        try:
            yield from batches(3)
        finally:
            closed.append(True)

    with CallableDataSource(make).batch_iterator(2) as stream:
        next(stream)
    assert closed == [True]


@pytest.mark.parametrize('batch', [np.zeros(3), None, 5])
def test_a_batch_must_be_a_tuple(batch):
    with pytest.raises(TypeError, match='must return a tuple of arrays'):
        next(CallableDataSource(lambda batch_size: iter([batch])).batch_iterator(2))


def test_resuming_an_iterator_warns_of_its_cost():
    saved = CallableDataSource(call_batches).batch_iterator(4)
    list(itertools.islice(saved, 2))
    resumed = CallableDataSource(call_batches).batch_iterator(4)
    with pytest.warns(UserWarning, match='to resume at batch 2, 2 batches of batch_iterator_fn .* are read again'):
        resumed.load_state_dict(saved.state_dict())
    assert_same_batches(resumed, saved)


def test_the_warning_points_to_the_users_line():
    saved = CallableDataSource(call_batches).map(lambda *batch: batch).batch_iterator(4)
    next(saved)
    resumed = CallableDataSource(call_batches).map(lambda *batch: batch).batch_iterator(4)
    with pytest.warns(UserWarning, match='read again') as caught:
        resumed.load_state_dict(saved.state_dict())
    assert caught[0].filename == __file__


def test_resuming_a_drawing_iterator_in_a_composite_warns_of_its_cost():
    def make():
        members = [PlainSource(20), ArrayDataSource([np.arange(3)], repeats=9)]
        return CompositeDataSource(members).batch_iterator(4, shuffle=np.random.RandomState(1))

    saved = make()
    list(itertools.islice(saved, 2))
    resumed = make()
    with pytest.warns(UserWarning, match='2 batches of PlainSource are read again'):
        resumed.load_state_dict(saved.state_dict())
    assert_same_batches(resumed, saved)


@pytest.mark.parametrize(
    'change', [{'batch_size': 5}, {'shuffle': 2}, {'epoch': 1}, {'shuffle': np.random.RandomState(1)}]
)
@pytest.mark.parametrize('wrap', [lambda s: s, lambda s: s.map(lambda x: (x,)), lambda s: CompositeDataSource([s])])
def test_a_state_of_other_arguments_is_refused(wrap, change):
    arguments = {'batch_size': 4, 'shuffle': 1, 'epoch': 0}
    source = wrap(CallableDataSource(call_batches))
    state = source.batch_iterator(**arguments).state_dict()
    with pytest.raises(StateMismatchError, match=f'{next(iter(change))} of the state'):
        source.batch_iterator(**{**arguments, **change}).load_state_dict(state)


@pytest.mark.parametrize('states', [None, [], {}, [{}, {}]])
def test_a_damaged_state_is_refused(states):
    stream = CallableDataSource(call_batches).map(lambda x: (x,)).batch_iterator(4)
    with pytest.raises(StateMismatchError, match='no list of 1 states'):
        stream.load_state_dict({**stream.state_dict(), 'states': states})


def test_a_state_beyond_the_end_of_an_iterator_is_refused():
    saved = IteratorDataSource(iter(batches(3))).batch_iterator()
    list(saved)
    with (
        pytest.warns(UserWarning, match='read again'),
        pytest.raises(StateMismatchError, match='position 3, but the stream ends'),
    ):
        IteratorDataSource(iter(batches(2))).batch_iterator().load_state_dict(saved.state_dict())


class Resumable:
    """A user's iterator with states of its own."""

    def __init__(self):
        self.k = 0

    def __iter__(self):
        return self

    def __next__(self):
        self.k += 1
        return (np.array([self.k]),)

    def state_dict(self):
        return {'k': self.k}

    def load_state_dict(self, state):
        self.k = state['k']


@pytest.mark.parametrize('make', [lambda s: s, lambda s: s.map(lambda x: (x,)), lambda s: CompositeDataSource([s, s])])
def test_states_are_left_to_an_iterator_that_has_them(make):
    def open_stream():
        return make(CallableDataSource(lambda batch_size: Resumable())).batch_iterator(2)

    saved = open_stream()
    list(itertools.islice(saved, 5))
    state = json.loads(json.dumps(saved.state_dict()))
    resumed = open_stream()
    resumed.load_state_dict(state)
    assert_same_batches(itertools.islice(resumed, 3), list(itertools.islice(saved, 3)))


def test_coerce_data_source():
    array_source = ArrayDataSource([np.arange(3)])
    assert coerce_data_source(array_source) is array_source
    assert coerce_data_source([np.arange(3), np.arange(3)]).num_samples() == 3
    assert isinstance(coerce_data_source((np.arange(3),)), ArrayDataSource)
    assert isinstance(coerce_data_source(iter([])), IteratorDataSource)
    assert isinstance(coerce_data_source(call_batches), CallableDataSource)


@pytest.mark.parametrize('nothing', [[], ()])
def test_coerce_refuses_an_empty_list(nothing):
    with pytest.raises(ValueError, match='at least one array'):
        coerce_data_source(nothing)


def test_coerce_refuses_a_list_of_sources():
    with pytest.raises(TypeError, match='CompositeDataSource or ChoiceDataSource'):
        coerce_data_source([ArrayDataSource([np.arange(3)])] * 2)


@pytest.mark.parametrize('wrong', [3, None, 'abc', {'x': 1}, np.arange(3), [3], ['abc'], [[1, 2]]])
def test_coerce_refuses_anything_else(wrong):
    with pytest.raises(TypeError):
        coerce_data_source(wrong)
