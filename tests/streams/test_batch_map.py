"""Gathering results of a function over batches."""

import fcntl
import functools
import itertools
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from functools import partial

import numpy as np
import pytest

from batchup._streams.gathering import batch_map_concat, batch_map_mean
from batchup.data_source import ArrayDataSource, CompositeDataSource, IteratorDataSource
from batchup.errors import NonFiniteError

from ..cases import FailsOnce

X = np.random.RandomState(0).rand(11, 3)
Y = np.arange(11)
SOURCE = ArrayDataSource([X, Y])


def test_concat_of_one_array():
    (result,) = SOURCE.batch_map_concat(lambda x, y: x * 2, 4)
    np.testing.assert_array_equal(result, X * 2)


@pytest.mark.parametrize('kind', [tuple, list])
def test_concat_of_several_arrays(kind):
    results = SOURCE.batch_map_concat(lambda x, y: kind([y, x[:, 0]]), 4)
    assert isinstance(results, tuple)
    np.testing.assert_array_equal(results[0], Y)
    np.testing.assert_array_equal(results[1], X[:, 0])


def test_concat_refuses_another_shape_at_its_batch():
    calls = []
    with pytest.raises(
        ValueError, match=r'rows of array 1 have shape \(3,\) for batch 1 and \(2,\) for batch 3'
    ) as error:
        SOURCE.batch_map_concat(lambda x, y: calls.append(1) or (y, [x[:0], x, x, x[:, :2]][y[0] // 2]), 2)
    assert (len(calls), error.value.__notes__) == (4, ['in batch 3 of epoch 0, with indices range(6, 8)'])


def test_concat_refuses_another_kind_of_values_at_its_batch():
    kinds = [Y, Y.astype('M8[s]'), Y.astype(str), np.zeros(11, [('a', int)]), np.zeros(11, [('b', int)])]
    for one, other in itertools.permutations(kinds, 2):
        with pytest.raises(
            TypeError, match=r'values of one kind, but array 0 has dtype .* for batch 0 and .* for batch 1'
        ):
            SOURCE.batch_map_concat(lambda x, y, one=one, other=other: [one, other, one][y[0] // 4][y], 4)


def test_concat_puts_numbers_of_all_kinds_together():
    kinds = iter([bool, np.int8, np.float32])
    (result,) = SOURCE.batch_map_concat(lambda x, y: (y % 2).astype(next(kinds)), 4)
    assert (result.dtype, result.tolist()) == (np.float32, (Y % 2).tolist())


def test_batches_without_rows_change_no_dtype():
    (result,) = SOURCE.batch_map_concat(lambda x, y: np.array([str(k) for k in y if k > 5]), 4)
    assert result.tolist() == ['6', '7', '8', '9', '10']


def test_batches_of_which_none_has_rows_need_no_common_form():
    empty = [np.zeros((0, 3)), np.zeros((0, 4), 'M8[s]'), np.zeros(0, 'U3')]
    (result,) = SOURCE.batch_map_concat(lambda x, y: empty[y[0] // 4], 4)
    assert (result.shape, result.dtype) == ((0, 3), np.float64)


def test_concat_refuses_times_without_a_common_unit_at_their_batch():
    units = iter(['m8', 'm8[M]', 'm8[D]'])
    with pytest.raises(TypeError, match='values of one kind') as error:
        SOURCE.batch_map_concat(lambda x, y: y.astype(next(units)), 4)
    assert error.value.__notes__[0][:10] == 'in batch 2'


def test_concat_keeps_masks():
    (result,) = SOURCE.batch_map_concat(lambda x, y: np.ma.masked_array(y, y % 3 == 0), 4)
    assert result.tolist() == [None if k % 3 == 0 else k for k in range(11)]


def test_tensors_are_converted_when_they_come():
    torch, calls = pytest.importorskip('torch'), []
    with pytest.raises(RuntimeError, match='requires grad') as error:
        SOURCE.batch_map_concat(lambda x, y: calls.append(1) or torch.zeros(len(y), requires_grad=True), 4)
    assert (len(calls), error.value.__notes__[0][:10]) == (1, 'in batch 0')
    with pytest.raises(RuntimeError, match='requires grad') as error:
        SOURCE.batch_map_mean(lambda x, y: torch.ones((), requires_grad=bool(y[0] == 4)), 4)
    assert error.value.__notes__[0][:10] == 'in batch 1'
    (result,) = SOURCE.batch_map_concat(lambda x, y: torch.from_numpy(y) * 2, 4)
    np.testing.assert_array_equal(result, Y * 2)


def test_concat_keeps_batches_that_are_returned_as_they_are():
    (result,) = ArrayDataSource([np.random.RandomState(0).rand(64, 2**16)]).batch_map_concat(lambda x: x, 8)
    np.testing.assert_array_equal(result, np.random.RandomState(0).rand(64, 2**16))


def test_concat_of_nothing():
    assert SOURCE.batch_map_concat(lambda x, y: None, 4) is None
    assert ArrayDataSource([np.zeros((0, 3))]).batch_map_concat(lambda x: x, 4) == ()
    assert SOURCE.batch_map_concat(lambda x, y: x, 4, n_batches=0) == ()


@pytest.mark.parametrize('result', [3, 'abc', 2.5, {}, [1, 2], (np.zeros(3), None), np.float64(3), np.array(3)])
def test_concat_refuses_what_is_no_array(result):
    with pytest.raises(TypeError, match='func must return an array with a value for each sample'):
        SOURCE.batch_map_concat(lambda x, y: result, 4)


def test_concat_refuses_another_number_of_arrays():
    results = iter([(Y,), (Y, Y), (Y,)])
    with pytest.raises(TypeError, match='got 1 for batch 0 and 2 for batch 1'):
        SOURCE.batch_map_concat(lambda x, y: next(results), 4)
    results = iter([(Y,), None, (Y,)])
    with pytest.raises(TypeError, match='got 1 for batch 0 and 0 for batch 1'):
        SOURCE.batch_map_concat(lambda x, y: next(results), 4)


def test_mean_of_sums():
    total, by_column = SOURCE.batch_map_mean(lambda x, y: (y.sum(), x.sum(axis=0)), 4)
    assert total == 5.0
    np.testing.assert_allclose(by_column, X.mean(axis=0))


@pytest.mark.parametrize('sum_axis', [0, (0,), (0, 1)])
def test_mean_of_values_of_samples(sum_axis):
    (mean,) = SOURCE.batch_map_mean(lambda x, y: x, 4, sum_axis=sum_axis)
    np.testing.assert_allclose(mean, X.sum(axis=sum_axis) / 11)


@pytest.mark.parametrize('value', [1, 1.0, True, np.float32(1), np.array(1), [1], (1,), np.int8(1)])
def test_mean_of_numbers(value):
    assert batch_map_mean(lambda x: value, [(np.zeros(2),), (np.zeros(2),)]) == (0.5,)


def test_integer_sums_do_not_overflow():
    (mean,) = batch_map_mean(lambda x: x, [(np.full(4, 100, np.int8),)] * 100, sum_axis=0)
    assert mean == 100


def test_small_terms_keep_their_digits():
    terms = [(np.full(1000, 0.1, np.float32),)] * 2000
    (mean,) = batch_map_mean(lambda x: x, terms, sum_axis=0)
    assert abs(mean - np.float32(0.1)) < 1e-12


def test_complex_sums():
    assert batch_map_mean(np.sum, [(np.array([1j, 2]),)]) == (1 + 0.5j,)


def test_mean_refuses_values_of_samples_without_sum_axis():
    with pytest.raises(ValueError, match='pass sum_axis=0'):
        SOURCE.batch_map_mean(lambda x, y: y, 4)


@pytest.mark.parametrize('result', ['abc', {}, [None], np.ma.masked, np.ma.masked_array([1, 2], [0, 1])])
def test_mean_refuses_what_is_no_sum(result):
    with pytest.raises(TypeError, match='func must return sums'):
        SOURCE.batch_map_mean(lambda x, y: result, 4)


def test_mean_of_nothing():
    assert SOURCE.batch_map_mean(lambda x, y: None, 4) is None
    assert SOURCE.batch_map_mean(lambda x, y: None, 4, sum_axis=0) is None
    assert batch_map_mean(lambda x: None, [({'name': 'no array'},)]) is None


def test_mean_refuses_none_for_some_batches():
    for results, none, some in (([None, 3], 0, 1), ([3, 3, None], 2, 0)):
        with pytest.raises(TypeError, match=f'there are none for batch {none}, and some for batch {some}'):
            SOURCE.batch_map_mean(lambda x, y, values=results: values[y[0] // 4], 4)


def test_mean_of_no_samples_is_an_error():
    with pytest.raises(ValueError, match='no samples to average over'):
        ArrayDataSource([np.zeros((0, 3))]).batch_map_mean(np.sum, 4)


@pytest.mark.parametrize('gather', [batch_map_concat, batch_map_mean])
def test_exactly_n_batches_are_pulled(gather):
    batches = iter([(np.full(2, k),) for k in range(5)])
    gather(lambda x: x, batches, n_batches=3)
    assert next(batches)[0].tolist() == [3, 3]


@pytest.mark.parametrize('method', ['batch_map_concat', 'batch_map_mean'])
def test_endless_data_needs_n_batches(method):
    for source in (ArrayDataSource([Y], repeats=-1), IteratorDataSource(itertools.repeat((Y,)), np.inf)):
        with pytest.raises(ValueError, match='n_batches='):
            getattr(source, method)(np.sum, 4)
    assert ArrayDataSource([Y], repeats=-1).batch_map_mean(np.sum, 11, n_batches=3) == (5.0,)


@pytest.mark.parametrize(('n_batches', 'error'), [(-1, ValueError), (1.5, TypeError), (True, TypeError)])
def test_wrong_n_batches(n_batches, error):
    with pytest.raises(error, match='n_batches'):
        SOURCE.batch_map_concat(lambda x, y: x, 4, n_batches=n_batches)


def gathers():
    return (batch_map_concat, batch_map_mean, functools.partial(batch_map_concat, out=np.zeros(11)))


def fails_at(number):
    def func(x, y):
        if y[0] == number:
            raise OSError('disk gone')
        return y

    return func


@pytest.mark.parametrize('gather', gathers())
def test_an_error_of_the_function_names_its_batch(gather):
    stream = SOURCE.batch_iterator(4)
    stream.skip(1)
    with pytest.raises(OSError, match='disk gone') as error:
        gather(fails_at(8), stream)
    assert error.value.__notes__ == ['in batch 2 of epoch 0, with indices range(8, 11)']


@pytest.mark.parametrize('gather', gathers())
def test_an_error_names_a_batch_without_a_plan_by_its_number(gather):
    batches = list(SOURCE.batch_iterator(4))
    for batch_iter in (batches, iter(batches), IteratorDataSource(iter(batches)).batch_iterator(4)):
        with pytest.raises(OSError, match='disk gone') as error:
            gather(fails_at(4), batch_iter)
        assert error.value.__notes__ == ['in batch 1']


def test_an_error_names_its_batch_where_a_progress_bar_reads_ahead():
    with pytest.raises(OSError, match='disk gone') as error:
        SOURCE.batch_map_mean(fails_at(4), 4, lambda batches, total, leave: iter(list(batches)))
    assert error.value.__notes__[0][:10] == 'in batch 1'


def test_an_error_of_the_stream_has_one_note():
    with pytest.raises(OSError, match='disk gone') as error:
        SOURCE.map(FailsOnce(2)).batch_map_concat(lambda x, y: y, 4)
    assert error.value.__notes__ == ['in batch 1 of epoch 0, with indices range(4, 8)']


@pytest.mark.parametrize('result', [3, np.ones((2, 2)), {}, 'abc'])
def test_an_error_about_a_result_names_its_batch(result):
    for gather in gathers():
        with pytest.raises((TypeError, ValueError), match='func') as error:
            gather(lambda x, y: Y[y] * 1.0 if y[0] < 8 else result, SOURCE.batch_iterator(4))
        assert 'in batch 2 of epoch 0' in error.value.__notes__[0]


def test_prepended_arguments():
    (result,) = SOURCE.batch_map_concat(lambda a, b, x, y: y * a + b, 4, prepend_args=(10, 1))
    np.testing.assert_array_equal(result, Y * 10 + 1)
    assert SOURCE.batch_map_mean(lambda a, x, y: a * y.sum(), 4, prepend_args=[2]) == (10.0,)


def test_keywords_go_to_batch_iterator():
    (result,) = SOURCE.batch_map_concat(lambda x, y: y, 4, shuffle=3, drop_last=True)
    order = np.concatenate([request.indices for request in SOURCE.plan(4, 3, drop_last=True)])
    np.testing.assert_array_equal(result, order)


@pytest.mark.parametrize(('n_batches', 'total'), [(None, 3), (2, 2), (9, 3)])
def test_progress_has_the_shape_of_tqdm(n_batches, total):
    calls = []

    def progress(iterator, total, leave):
        calls.append((total, leave))
        return iterator

    SOURCE.batch_map_concat(lambda x, y: y, 4, progress_iter_func=progress, n_batches=n_batches)
    SOURCE.batch_map_mean(lambda x, y: y.sum(), 4, progress, n_batches=n_batches)
    assert calls == [(total, False)] * 2


def test_progress_of_an_unknown_number_of_batches():
    calls = []
    batch_map_concat(lambda x: x, iter([(Y,)]), lambda iterator, total, leave: calls.append(total) or iterator)
    assert calls == [None]


def test_progress_counts_what_is_left_of_a_stream():
    calls = []
    stream = SOURCE.batch_iterator(4)
    next(stream)
    batch_map_concat(lambda x, y: y, stream, lambda iterator, total, leave: calls.append(total) or iterator)
    assert calls == [2]


SHOW_PROGRESS = """
import numpy as np
from batchup import ArrayDataSource
ArrayDataSource([np.arange(11)]).batch_map_concat(lambda y: y, 4, progress=True)
"""


def test_progress_is_a_bar_in_a_terminal():
    terminal, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack('HHHH', 24, 80, 0, 0))
    subprocess.run([sys.executable, '-c', SHOW_PROGRESS], stderr=end, check=True)
    os.close(end)
    assert b'0/3' in os.read(terminal, 10_000)
    os.close(terminal)


def test_progress_is_silent_elsewhere():
    result = subprocess.run([sys.executable, '-c', SHOW_PROGRESS], capture_output=True, check=True)
    assert result.stdout + result.stderr == b''


def test_nested_batches_are_counted_by_their_first_array():
    source = CompositeDataSource([SOURCE, SOURCE], flatten=False)
    assert source.batch_map_mean(lambda one, other: one[1].sum(), 4) == (5.0,)


@pytest.mark.parametrize('batch', [np.zeros(3), 5, None])
def test_a_batch_must_be_a_tuple(batch):
    with pytest.raises(TypeError, match='a batch must be a tuple or list of arrays'):
        batch_map_concat(lambda *arrays: None, [batch])


# NaN and infinity.


def spoiled(value, dtype=float, at=(2, 1)):
    """Return a function whose result for batch 2 has a value that is not finite."""

    def function(x, y):
        values = x.astype(dtype)
        if 9 in y:
            values[at] = value
        return y, values

    return function


def test_values_that_are_not_finite_are_refused_at_their_batch():
    for value, dtype in [(np.nan, float), (-np.inf, np.float32), (complex(0, np.inf), complex)]:
        for method in (SOURCE.batch_map_concat, partial(SOURCE.batch_map_mean, sum_axis=0)):
            with pytest.raises(NonFiniteError, match='for batch 2, array 1 that func returned has') as error:
                method(spoiled(value, dtype), 4, check_finite=True)
            assert 'at [2, 1] (1 of 9 values are not finite)' in str(error.value)
            assert error.value.__notes__ == ['in batch 2 of epoch 0, with indices range(8, 11)']
            np.testing.assert_array_equal(SOURCE.replay(error.value)[1], [8, 9, 10])


def test_a_value_that_is_not_finite_says_how_to_make_its_batch_again():
    arguments = {'shuffle': 42, 'epoch': 3, 'drop_last': True}
    with pytest.raises(NonFiniteError, match=r'the array that func returned has nan at \[\d\]') as error:
        SOURCE.batch_map_concat(lambda x, y: np.where(y == 9, np.nan, y), 4, check_finite=True, **arguments)
    (call,) = re.findall(r'source\.batch\(.*\) makes', str(error.value))
    again = eval(call.removesuffix(' makes'), {'source': SOURCE})
    assert 9 in again[1]
    np.testing.assert_array_equal(SOURCE.replay(error.value)[1], again[1])


def test_sums_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match=r'for batch 1, the array that func returned is inf\b'):
        batch_map_mean(lambda y: np.inf if y[0] else 0.0, [(Y[:4],), (Y[4:],)], check_finite=True)


def test_sparse_results_are_looked_at():
    sparse = pytest.importorskip('scipy.sparse')

    with pytest.raises(NonFiniteError, match=r'batch 1, .* has nan at \[2, 2\] \(1 of'):
        SOURCE.batch_map_concat(
            lambda x, y: sparse.csr_array(np.diag(np.where(y == 6, np.nan, y))), 4, check_finite=True
        )


def test_what_has_no_floats_and_what_is_masked_counts_as_finite():
    def function(x, y):
        hidden = np.ma.masked_array(np.where(y == 9, np.nan, y), y == 9)
        return y, y.astype(str), y.astype('M8[s]'), hidden, y > 3, np.array([None] * len(y))

    for given in (SOURCE.batch_map_concat(function, 4, check_finite=True), SOURCE.batch_map_concat(function, 4)):
        assert len(given) == 6
    assert SOURCE.batch_map_concat(lambda x, y: None, 4, check_finite=True) is None


def test_a_rank_without_samples_may_return_what_is_not_finite():
    sums = SOURCE.batch_map_mean(lambda x, y: y.sum() if len(y) else np.nan, 1, shard=(0, 2), check_finite=True)
    assert sums.count == 0


def test_without_the_check_values_that_are_not_finite_are_results():
    _, values = SOURCE.batch_map_concat(spoiled(np.nan), 4)
    assert np.isnan(values).sum() == 1
    with pytest.raises(TypeError, match='check_finite must be True or False'):
        SOURCE.batch_map_mean(spoiled(np.nan), 4, check_finite=1)
