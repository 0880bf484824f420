"""Streams that several threads share: each batch goes to one of them, and all go on."""

import gc
import itertools
import signal
import sys
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from batchup._streams import stream as stream_module
from batchup._streams.stream import Phase
from batchup.data_source import ArrayDataSource, CallableDataSource, CompositeDataSource, RandomAccessDataSource
from batchup.work_pool import WorkerThreadPool

from ..harness.pools import on
from ..harness.waiting import PATIENCE

N = 3000
DATA = np.arange(N)


def small():
    return ArrayDataSource([DATA, DATA + 1])


def iterated():
    return CallableDataSource(lambda batch_size, **kwargs: (batch for batch in small().batch_iterator(batch_size)))


SOURCES = {
    'arrays': small,
    'large rows': lambda: ArrayDataSource([np.repeat(DATA[:200, np.newaxis], 20_000, axis=1), DATA[:200]]),
    'mapped': lambda: small().map(increased),
    'composite': lambda: CompositeDataSource([small(), small()]),
    'iterator': iterated,
    'composite of iterators': lambda: CompositeDataSource([iterated(), iterated().map(increased)]),
}


def increased(x, y):
    return x, y + x.dtype.type(0)


def in_threads(work, count=4):
    """Run a function in several threads until all have ended; return what they returned."""
    results, errors = [], []

    def run():
        try:
            results.append(work())
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert errors == []
    return results


@pytest.fixture(autouse=True)
def _restless():
    """Have Python go from thread to thread as often as it can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def first_values(batches):
    return sorted(int(batch[0].flat[0]) for batch in batches)


@pytest.mark.parametrize('name', SOURCES)
def test_each_batch_goes_to_one_thread(name):
    expected = first_values(SOURCES[name]().batch_iterator(2))
    for _ in range(3):
        stream = SOURCES[name]().batch_iterator(2)
        parts = in_threads(lambda: list(stream))  # noqa: B023
        assert first_values(batch for part in parts for batch in part) == expected
        assert stream.position == len(expected)


@on(['threads', 'fork', 'thread_executor', 'process_executor'], slow=['process_executor'])
def test_each_batch_of_a_pool_goes_to_one_thread(pool):
    source = ArrayDataSource([DATA]).map(squared)
    parallel = pool.parallel_data_source(source)
    expected = first_values(source.batch_iterator(3))
    for _ in range(3):
        stream = parallel.batch_iterator(3)
        parts = in_threads(lambda: list(stream))  # noqa: B023
        assert first_values(batch for part in parts for batch in part) == expected


def squared(x):
    return (x**2,)


@on(['threads', 'fork'])
def test_each_result_goes_to_one_thread(pool):
    stream = pool.work_stream((pow, (k, 2)) for k in range(1000))
    parts = in_threads(lambda: list(stream.retrieve_iter()))
    assert sorted(itertools.chain(*parts)) == [k * k for k in range(1000)]


def test_streams_of_one_source_in_several_threads():
    source = SOURCES['large rows']()
    rng = np.random.RandomState(3)
    for part in in_threads(
        lambda: [np.ptp(x, axis=1).sum() + abs(x[:, 0] - y).sum() for x, y in source.batch_iterator(2, rng)]
    ):
        assert part == [0] * 100


@pytest.mark.parametrize('name', ['arrays', 'mapped', 'composite of iterators'])
def test_threads_skip_save_and_iterate(name):
    stream = SOURCES[name]().batch_iterator(2)
    total = len(small().batch_iterator(2))
    received = []

    def work():
        skipped = 0
        for number, batch in enumerate(stream):
            received.append(int(batch[0][0]))
            if number % 7 == 0:
                skipped += stream.skip(2)
                assert stream.state_dict()['position'] > 0
        return skipped

    skipped = sum(in_threads(work))
    assert len(set(received)) == len(received) == total - skipped
    assert stream.position == total


def test_an_error_reaches_one_thread_and_the_others_go_on():
    class Fails(RandomAccessDataSource):
        def samples_by_indices_nomapping(self, indices):
            if indices[0] % 50 == 0 and indices[0] not in seen:
                seen.add(indices[0])
                raise KeyError(indices[0])
            return (indices,)

    def work():
        received = []
        while True:
            try:
                received.extend(int(batch[0][0]) for batch in stream)
            except KeyError as error:
                notes.append((error.args[0], error.__notes__[0]))
            else:
                return received

    seen, notes = set(), []
    stream = Fails(N).batch_iterator(1)
    assert sorted(itertools.chain(*in_threads(work))) == list(range(N))
    assert len(notes) == N // 50
    assert all(note.startswith(f'in batch {number} ') for number, note in notes)


class Blocked:
    """A function that blocks until it may go on."""

    def __init__(self):
        self.reached, self.go_on = threading.Event(), threading.Event()

    def __call__(self, x):
        self.reached.set()
        assert self.go_on.wait(PATIENCE)
        return (x,)


def test_closing_ends_a_loop_over_large_arrays_in_another_thread():
    """The thread has a turn nearly all the time: it finds out when the batch is made."""
    stream = ArrayDataSource([np.zeros((4, 2**20))], repeats=-1).batch_iterator(4)
    begun, received = threading.Event(), []

    def loop():
        for _ in itertools.islice(stream, 1000):
            received.append(stream.position)
            begun.set()

    thread = threading.Thread(target=loop)
    thread.start()
    begun.wait()
    stream.close()
    thread.join()
    assert len(received) < 1000


def test_closing_ends_the_wait_for_a_worker():
    blocked = Blocked()
    with WorkerThreadPool(1) as pool:
        stream = pool.parallel_data_source(ArrayDataSource([DATA]).map(blocked)).batch_iterator(3)
        waiting = threading.Thread(target=lambda: received.extend(stream))
        received = []
        waiting.start()
        blocked.reached.wait(PATIENCE)
        stream.close()
        waiting.join(PATIENCE)
        ended = not waiting.is_alive()
        blocked.go_on.set()
    assert ended
    assert received == []


@on(['threads', 'fork', 'thread_executor', 'process_executor'], slow=['process_executor'])
def test_a_closed_stream_gives_no_batch_in_place_of_another(pool):
    parallel = pool.parallel_data_source(ArrayDataSource([DATA]).map(slowly_squared))
    for _ in range(20):
        stream = parallel.batch_iterator(3)
        closer = threading.Thread(target=close_after_two, args=(stream,))
        closer.start()
        received = [int(batch[0][0]) for batch in stream]
        closer.join()
        assert received == [(3 * k) ** 2 for k in range(len(received))]
        assert stream.phase is Phase.CLOSED


def slowly_squared(x):
    time.sleep(1e-3)
    return squared(x)


def close_after_two(stream):
    while stream.position < 2:
        time.sleep(1e-4)
    stream.close()


def test_a_stream_that_is_closed_while_a_batch_is_made_lets_go():
    class Closing(Iterator):
        closed = False

        def __next__(self):
            stream.close()
            return (DATA,)

        def close(self):
            self.closed = True

    iterator = Closing()
    stream = CallableDataSource(lambda batch_size: iterator).batch_iterator(2)
    assert next(stream, None) is None
    assert iterator.closed


class Saving(Iterator):
    """An iterator that takes its time to save its state."""

    def __init__(self):
        self.begun, self.go_on, self.closed = threading.Event(), threading.Event(), False

    def __next__(self):
        return (DATA,)

    def state_dict(self):
        self.begun.set()
        assert self.go_on.wait(PATIENCE)
        return {}

    def load_state_dict(self, state):
        """Do nothing: it stands still."""

    def close(self):
        self.closed = True


def at_each_line(work):
    """Have this thread do something at each line of the code of `Stream`."""

    def trace(frame, event, _):
        if frame.f_code.co_filename != stream_module.__file__:
            return None
        if event == 'line':
            work()
        return trace

    sys.settrace(trace)


@pytest.mark.parametrize('line', range(20))
def test_a_closed_stream_is_let_go_of_whichever_thread_is_the_last(line):
    """One thread closes it while another one saves the state, and a third one asks for a batch, and stops at a line."""

    def save():
        at_each_line(lambda: time.sleep(1e-4))
        stream.state_dict()

    def close():
        time.sleep(1e-3)
        stream.close()
        iterator.go_on.set()

    iterator, lines, before = Saving(), itertools.count(), sys.gettrace()
    stream = CallableDataSource(lambda batch_size: iterator).batch_iterator(2)
    saving, closing = threading.Thread(target=save), threading.Thread(target=close)
    saving.start()
    iterator.begun.wait(PATIENCE)
    closing.start()
    at_each_line(lambda: saving.join() if next(lines) == line else None)
    assert next(stream, None) is None
    sys.settrace(before)
    closing.join()
    saving.join()
    assert iterator.closed


def test_a_batch_cannot_ask_for_the_next_one():
    stream = ArrayDataSource([DATA]).map(lambda x: next(stream)).batch_iterator(3)
    with pytest.raises(RuntimeError, match='asked for its next batch, or to move, by what makes a batch'):
        next(stream)
    assert stream.position == 0


@pytest.mark.parametrize('name', ['arrays', 'mapped', 'iterator', 'composite of iterators'])
def test_a_signal_handler_saves_the_state(name):
    stream = SOURCES[name]().batch_iterator(2)
    states, received = [], []
    signal.signal(signal.SIGALRM, lambda *_: states.append((stream.state_dict()['position'], len(received))))
    signal.setitimer(signal.ITIMER_REAL, 1e-4, 1e-4)
    try:
        for batch in stream:
            received.append(batch)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
    assert states
    # A batch may have been handed out, and not noted down yet.
    assert all(position - noted in (0, 1) for position, noted in states)


@pytest.fixture
def uncollected():
    """Have no garbage collected: Python loses an interrupt that comes in what is called for that."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize('name', ['arrays', 'mapped'])
def test_an_interrupt_loses_no_batch(name, uncollected):
    def interrupt(*_):
        if armed:
            armed.clear()
            raise KeyboardInterrupt

    stream = SOURCES[name]().batch_iterator(2)
    received, armed, interrupts, ended = [], [], 0, False
    signal.signal(signal.SIGALRM, interrupt)
    while not ended:
        signal.setitimer(signal.ITIMER_REAL, 1e-4)
        try:
            armed.append(True)
            for batch in stream:
                received.append(batch)
            armed.clear()
            ended = True
        except KeyboardInterrupt:
            interrupts += 1
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    assert interrupts
    assert [int(batch[0][0]) for batch in received] == list(range(0, N, 2))
