"""Exceptions that refuse what others take: notes, attributes, pickling, printing."""

import copyreg
import dataclasses
import pickle
import sys

import numpy as np
import pytest

from batchup._pools.failures import Failure
from batchup.data_source import ArrayDataSource, CallableDataSource, CompositeDataSource

from ..cases import assert_same_batches
from ..harness.pools import on

DATA = np.arange(40)
BAD = 14


@dataclasses.dataclass(frozen=True)
class FrozenError(Exception):
    code: int
    where: str = 'here'


class SlotsError(Exception):
    __slots__ = ('code', 'where')

    def __init__(self, code, where):
        super().__init__(f'{code} {where}')
        self.code, self.where = code, where


class NoNotesError(Exception):
    code = BAD

    def add_note(self, note):
        raise TypeError('no notes')


class FixedNotesError(Exception):
    code = BAD

    @property
    def __notes__(self):
        raise RuntimeError('no notes')


class FixedError(Exception):
    code = BAD

    def __setattr__(self, name, value):
        raise AttributeError(f'{name} is fixed')


class UnpickledError(Exception):
    code = BAD

    def __reduce__(self):
        raise OSError('cannot be pickled')


class ParticularError(Exception):
    def __init__(self, *, code):
        self.code = code


class UnprintableError(Exception):
    code = BAD

    def __str__(self):
        raise RuntimeError('no text')

    __repr__ = __str__


class UnprintableArgument:
    def __reduce__(self):
        raise OSError('cannot be pickled')

    def __repr__(self):
        raise RuntimeError('no text')


MAKE = {
    'frozen': lambda: FrozenError(BAD),
    'slots': lambda: SlotsError(BAD, 'here'),
    'no notes': lambda: NoNotesError('here'),
    'fixed notes': lambda: FixedNotesError('here'),
    'fixed': lambda: FixedError('here'),
    'not pickled': lambda: UnpickledError('here'),
    'particular': lambda: ParticularError(code=BAD),
    'not printable': lambda: UnprintableError('here'),
    'argument not printable': lambda: FixedError(UnprintableArgument()),
}
KINDS = {
    'frozen': FrozenError,
    'slots': SlotsError,
    'no notes': NoNotesError,
    'fixed notes': FixedNotesError,
    'fixed': FixedError,
    'not pickled': UnpickledError,
    'particular': ParticularError,
    'not printable': UnprintableError,
    'argument not printable': FixedError,
}


@dataclasses.dataclass
class Raises:
    """A function that fails at a batch with an error of a kind."""

    name: str

    def __call__(self, x):
        if BAD in x:
            raise MAKE[self.name]()
        return (x,)


def check_that_it_arrives(stream, kind):
    """Check that an error arrives at its batch, and the batches before and after it as well."""
    received = []
    with pytest.raises(kind) as caught:
        received.extend(batch for batch in stream if received.append(batch))
    assert type(caught.value) is kind
    assert caught.value.code == BAD
    assert stream.position == len(received) == BAD // 3
    assert stream.skip(1) == 1
    expected = list(ArrayDataSource([DATA]).batch_iterator(3))
    assert_same_batches([*received, *stream], expected[: BAD // 3] + expected[BAD // 3 + 1 :])


@pytest.mark.parametrize('name', MAKE)
def test_it_arrives_at_its_batch(name):
    check_that_it_arrives(ArrayDataSource([DATA]).map(Raises(name)).batch_iterator(3), KINDS[name])


@pytest.mark.parametrize('name', MAKE)
def test_it_arrives_at_its_batch_without_a_plan(name):
    iterated = CallableDataSource(
        lambda batch_size, **_: (batch for batch in ArrayDataSource([DATA]).batch_iterator(3))
    )
    check_that_it_arrives(CompositeDataSource([iterated]).map(Raises(name)).batch_iterator(3), KINDS[name])


@pytest.mark.parametrize('name', MAKE)
def test_it_makes_its_batch_again(name):
    source = ArrayDataSource([DATA])
    with pytest.raises(KINDS[name]) as caught:
        list(source.map(Raises(name)).batch_iterator(3))
    assert_same_batches([source.replay(caught.value)], [(DATA[12:15],)])


def test_it_arrives_from_what_is_skipped():
    def fails(batch_size):
        yield (DATA[:3],)
        raise FrozenError(BAD)

    stream = CallableDataSource(fails).batch_iterator(3)
    with pytest.raises(FrozenError):
        stream.skip(2)
    assert stream.position == 1


@on(['threads', 'fork', 'process_executor', 'spawn'], slow=['spawn'])
def test_it_arrives_from_a_worker(pool):
    for name, kind in KINDS.items():
        check_that_it_arrives(
            pool.parallel_data_source(ArrayDataSource([DATA]).map(Raises(name))).batch_iterator(3), kind
        )


@on(['threads', 'fork', 'process_executor', 'spawn'], slow=['spawn'])
def test_it_arrives_in_place_of_a_result(pool):
    for name, kind in KINDS.items():
        stream = pool.work_stream((Raises(name), (DATA[k : k + 1],)) for k in range(BAD - 1, BAD + 2))
        assert stream.retrieve()[0] == BAD - 1
        with pytest.raises(kind):
            stream.retrieve()
        assert stream.retrieve()[0] == BAD + 1


def grouped(x):
    if BAD in x:
        raise ExceptionGroup(
            'several', [ValueError('one'), FrozenError(BAD), ExceptionGroup('inner', [UnpickledError('two')])]
        )
    return (x,)


@pytest.mark.skipif(sys.version_info < (3, 11), reason='there are no groups of exceptions before Python 3.11')
@on(['threads', 'fork', 'process_executor'])
def test_a_group_arrives_with_its_members(pool):
    stream = pool.parallel_data_source(ArrayDataSource([DATA]).map(grouped)).batch_iterator(3)
    with pytest.raises(ExceptionGroup, match='several') as caught:
        list(stream)
    one, frozen, inner = caught.value.exceptions
    assert [type(one), type(frozen), type(inner.exceptions[0])] == [ValueError, FrozenError, UnpickledError]
    assert (str(one), frozen.code, inner.exceptions[0].args) == ('one', BAD, ('two',))
    assert stream.position == BAD // 3


def test_what_a_way_of_pickling_forgets_arrives(monkeypatch):
    """Dask, once it is imported, has exceptions pickled in such a way."""
    forgetful = lambda error: (Exception.__new__, (SlotsError, *error.args))  # noqa: E731
    monkeypatch.setitem(copyreg.dispatch_table, SlotsError, forgetful)
    error = pickle.loads(pickle.dumps(Failure(SlotsError(BAD, 'here')))).error
    assert (error.code, error.where) == (BAD, 'here')
