"""`python -m batchup demo`, run as users run it: in a process of its own."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import batchup
from batchup._cli.demo.batches import augment, shift_images, training_source
from batchup._cli.demo.checkpoint import load_checkpoint, save_checkpoint
from batchup._cli.main import THREAD_LIMITS, main

from ..harness.homes import files_in, start_script

ROOT = Path(batchup.__file__).parents[1]
DEMO = [sys.executable, '-W', 'error', '-m', 'batchup', 'demo']
ACCURACY = re.compile(r'test accuracy (\S+) % \((\d+) of (\d+)\)')


def run(*arguments, limit=None):
    """Run the demo to its end; `limit` is the size in KiB that its files may have."""
    command = [*DEMO, *map(str, arguments)]
    if limit is not None:
        command = ['sh', '-c', f'ulimit -f {limit}; exec "$@"', 'sh', *command]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def run_here(capsys, monkeypatch):
    """Run the demo in this process, where what is wrong is shown sooner."""
    for name in THREAD_LIMITS:
        monkeypatch.setenv(name, '1')

    def run_main(*arguments):
        code = main(['demo', *map(str, arguments)])
        return subprocess.CompletedProcess(arguments, code, *capsys.readouterr())

    return run_main


def lines(process):
    """Return the lines of a successful run, without the speed."""
    assert (process.returncode, process.stderr) == (0, '')
    return re.sub(r'  \S+ samples/s', '', process.stdout).splitlines()


def error(process):
    """Return the one line with which a run has failed."""
    assert process.returncode == 2
    (line,) = process.stderr.splitlines()
    assert line.startswith('batchup: error: ')
    return line.removeprefix('batchup: error: ')


def save(folder, **arrays):
    np.savez(folder / 'points.npz', **arrays)
    return folder / 'points.npz'


def points(n=60):
    """Make samples of two classes that are far apart."""
    y = np.arange(n) % 2
    return np.random.default_rng(0).normal(size=(n, 3)) + 10 * y[:, np.newaxis], y


# The run with the default settings.


@pytest.fixture(scope='module')
def default_run():
    return run()


def test_accuracy(default_run):
    percent, correct, total = ACCURACY.fullmatch(lines(default_run)[-1]).groups()
    assert float(percent) >= 95
    assert percent == f'{100 * int(correct) / int(total):.2f}'


def test_line_for_each_epoch(default_run):
    pattern = r'epoch +\d+/25  loss \d\.\d+  val loss \d\.\d+  val error \d+\.\d\d %  [\d,]+ samples/s'
    assert len(re.findall(f'^{pattern}$', default_run.stdout, re.MULTILINE)) == 25


@pytest.mark.slow
def test_same_numbers_with_other_thread_limits(default_run, monkeypatch):
    monkeypatch.setenv('OPENBLAS_NUM_THREADS', '2')
    assert lines(run()) == lines(default_run)


def test_other_numbers_with_another_seed():
    assert lines(run('--epochs', 1, '--seed', 1))[1:] != lines(run('--epochs', 1))[1:]


def test_bars_in_a_terminal():
    fcntl, termios = pytest.importorskip('fcntl'), pytest.importorskip('termios')
    terminal, screen = os.openpty()
    fcntl.ioctl(screen, termios.TIOCSWINSZ, np.array([24, 80, 0, 0], np.uint16).tobytes())
    output = subprocess.check_output([*DEMO, '--epochs', '1'], cwd=ROOT, stderr=screen, timeout=60)
    os.close(screen)
    assert b'epoch 1/1:   0%|' in os.read(terminal, 10_000)
    os.close(terminal)
    assert b'%|' not in output


def test_output_that_nobody_reads():
    with subprocess.Popen([*DEMO], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b''
    assert process.returncode == 141


# The batches.


def epoch_of_batches(y, batch_size, half):
    x = np.arange(len(y)) * 1000.0
    source = training_source(x, y, batch_size, lambda x, y: (x, y))
    return list(source.batch_iterator(half, shuffle=0, epoch=1))


def test_first_half_visits_every_sample_once():
    visited = np.concatenate([x[: len(x) // 2] for x, _ in epoch_of_batches(np.arange(50) % 3, 8, 4)])
    assert sorted(np.round(visited / 1000)) == list(range(50))


def test_second_half_is_balanced():
    labels = np.concatenate([y[4:] for _, y in epoch_of_batches((np.arange(4000) % 100 == 0).astype(int), 8, 4)])
    assert 0.45 < labels.mean() < 0.55


def test_odd_batch_size():
    assert [len(x) for x, _ in epoch_of_batches(np.arange(8) % 2, 5, 3)] == [5, 5, 4]


@pytest.mark.parametrize('shape', [(1, 4, 5), (1, 2, 4, 5)])
def test_shifts(shape):
    image = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    framed = np.pad(image, [*[(0, 0)] * (image.ndim - 2), (1, 1), (1, 1)], mode='edge')
    expected = {framed[..., down : down + 4, right : right + 5].tobytes() for down in range(3) for right in range(3)}
    rng = np.random.default_rng(0)
    assert {shift_images(image, rng).tobytes() for _ in range(100)} == expected


def test_plain_features_are_not_shifted():
    x = np.arange(200, dtype=np.float32).reshape(1, 5, 4, 10)  # five channels are too many for an image
    augmented, _ = augment(x, np.zeros(1), rng=np.random.default_rng(0))
    assert np.abs(augmented - x).max() < 1


# Stopping and continuing.


def stop_in_epoch(arguments, checkpoint, number):
    """Start the demo, and send a signal as soon as it has a checkpoint in the middle of an epoch."""
    # Where the tests run in the background, the demo is to heed SIGINT all the same.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    command = [*DEMO, *map(str, arguments), '--resume', str(checkpoint)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    signal.signal(signal.SIGINT, handler)
    while process.poll() is None and not batches_in_epoch(checkpoint):
        time.sleep(0.01)
    process.send_signal(number)
    return process, *process.communicate(timeout=60)


def batches_in_epoch(checkpoint):
    return load_checkpoint(str(checkpoint))[1]['progress']['stream']['position'] if checkpoint.exists() else 0


@pytest.mark.slow
@pytest.mark.skipif(os.name != 'posix', reason='needs signals')
def test_a_run_that_was_killed_or_interrupted_continues(tmp_path):
    x, y = points(4000)
    path = save(tmp_path, X=np.tile(x, 20), y=y)
    # An epoch takes a quarter of a second or more.
    arguments = ('--data', path, '--epochs', 2, '--batch-size', 2)
    expected = lines(run(*arguments))
    for checkpoint, number in ((tmp_path / 'killed.npz', signal.SIGKILL), (tmp_path / 'run.npz', signal.SIGINT)):
        ended = stop_in_epoch(arguments, checkpoint, number)
        assert batches_in_epoch(checkpoint) > 0
        resumed = lines(run(*arguments, '--resume', checkpoint))
        assert resumed[0] == expected[0]
        assert re.fullmatch(r'continuing from \S+.npz, at epoch [12], batch [1-9]\d*', resumed[1])
        assert resumed[2:] == expected[-len(resumed) + 2 :]
        assert_ended_by(number, *ended)


def assert_ended_by(number, process, output, message):
    if number == signal.SIGKILL:
        assert process.returncode == -number
    else:
        assert process.returncode == 130
        assert re.fullmatch(
            r'batchup: interrupted after [\d,]+ batches; the same command continues from \S+\n', message
        )
        assert 'test accuracy' not in output


# Saves a checkpoint, and sends itself a signal while it writes the next one.
STOPPED_WHILE_WRITING = """
    import os, sys
    import numpy as np
    from batchup._cli.demo.checkpoint import save_checkpoint
    save_checkpoint(sys.argv[1], {'number': np.array(1)}, {})
    os.fsync = lambda file: os.kill(os.getpid(), int(sys.argv[2]))
    save_checkpoint(sys.argv[1], {'number': np.array(2)}, {})
"""


def nameless_files(folder):
    try:
        os.close(os.open(folder, os.O_TMPFILE | os.O_WRONLY))
    except (AttributeError, OSError):
        return False
    return True


@pytest.mark.skipif(os.name != 'posix', reason='needs signals')
@pytest.mark.parametrize('number', [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_whatever_stops_a_run_leaves_its_last_checkpoint_and_nothing_else(tmp_path, number):
    if number != signal.SIGINT and not nameless_files(tmp_path):
        pytest.skip('needs files without a name')
    process = start_script(STOPPED_WHILE_WRITING, tmp_path / 'run.npz', int(number))
    process.communicate(timeout=60)
    assert process.returncode == -number
    assert files_in(tmp_path) == ['run.npz']
    assert load_checkpoint(str(tmp_path / 'run.npz'))[0]['number'] == 1


def test_the_next_run_removes_what_others_could_not(tmp_path):
    (tmp_path / '.[run].npz.123.tmp').write_bytes(b'half')
    (tmp_path / '.other.npz.123.tmp').write_bytes(b'half')
    lines(run('--epochs', 1, '--resume', tmp_path / '[run].npz'))
    assert files_in(tmp_path) == ['.other.npz.123.tmp', '[run].npz']


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
    """A finished run: its arguments, its checkpoint, and what it has printed."""
    checkpoint = tmp_path_factory.mktemp('finished') / 'run.npz'
    arguments = ('--epochs', 2, '--resume', checkpoint)
    return arguments, checkpoint, lines(run(*arguments))


def test_finished_run_shows_its_accuracy_again(finished):
    arguments, checkpoint, output = finished
    assert lines(run(*arguments)) == [output[0], f'continuing from {checkpoint}, at the end', output[-1]]


def test_only_the_checkpoint_is_left(finished):
    _, checkpoint, _ = finished
    assert [path.name for path in checkpoint.parent.iterdir()] == ['run.npz']


@pytest.mark.parametrize(
    ('other', 'message'),
    [
        (('--seed', 3), '--seed is 0 there, 3 here'),
        (('--batch-size', 32), '--batch-size is 64 there, 32 here'),
        (('--epochs', 3), '--epochs is 2 there, 3 here'),
    ],
)
def test_checkpoint_of_another_run(run_here, finished, other, message):
    arguments, checkpoint, _ = finished
    assert error(run_here(*arguments, *other)) == f'{checkpoint} belongs to another run: {message}'


def test_checkpoint_of_other_data(run_here, finished, tmp_path):
    x, y = points()
    message = error(run_here(*finished[0], '--data', save(tmp_path, X=x, y=y)))
    assert re.search(r'the data is digits \(\w+\) there, an array of shape \(60, 3\) \(\w+\) here', message)


@pytest.mark.parametrize('damage', ['cut', 'changed', 'text', 'own data'])
def test_damaged_checkpoint_is_left_alone(run_here, finished, tmp_path, damage):
    content = finished[1].read_bytes()
    content = {
        'cut': content[:1000],
        'changed': content[:1000] + b'?' + content[1001:],
        'text': b'my notes',
        'own data': save(tmp_path, X=1).read_bytes(),
    }[damage]
    (tmp_path / 'run.npz').write_bytes(content)
    assert 'run.npz is not a checkpoint of this demo, or it is damaged' in error(
        run_here('--resume', tmp_path / 'run.npz')
    )
    assert (tmp_path / 'run.npz').read_bytes() == content


def test_checkpoint_of_another_network(run_here, finished, tmp_path):
    arrays, facts = load_checkpoint(str(finished[1]))
    save_checkpoint(str(tmp_path / 'run.npz'), {**arrays, 'hidden_bias': np.zeros(3, np.float32)}, facts)
    message = error(run_here('--epochs', 2, '--resume', tmp_path / 'run.npz'))
    assert 'is not a checkpoint of this demo' in message


def test_checkpoint_in_a_missing_folder(run_here, tmp_path):
    message = error(run_here('--resume', tmp_path / 'missing' / 'run.npz'))
    assert message.startswith(f'cannot write the checkpoint {tmp_path}')


@pytest.mark.skipif(os.name != 'posix', reason='needs ulimit')
def test_checkpoint_that_does_not_fit(tmp_path):
    assert 'cannot write the checkpoint' in error(run('--resume', tmp_path / 'run.npz', limit=64))
    assert list(tmp_path.iterdir()) == []


# The user's own data.


def test_labels_may_be_strings(tmp_path):
    x, y = points()
    path = save(tmp_path, X=x, y=np.array(['left', 'right'])[y])
    assert lines(run('--data', path, '--epochs', 3))[-1] == 'test accuracy 100.00 % (12 of 12)'


def test_labels_may_be_any_integers(tmp_path):
    x, y = points()
    path = save(tmp_path, X=x, y=np.array([-5, 10**12])[y])
    assert lines(run('--data', path, '--epochs', 3))[-1] == 'test accuracy 100.00 % (12 of 12)'


@pytest.mark.parametrize('shape', [(60,), (60, 3, 2, 4)])
def test_samples_may_have_any_shape(tmp_path, shape):
    y = np.arange(60) % 2
    x = np.broadcast_to(y.reshape(60, *[1] * (len(shape) - 1)), shape)
    assert lines(run('--data', save(tmp_path, X=x, y=y), '--epochs', 3))[-1].startswith('test accuracy 100.00 %')


def test_batches_larger_than_the_data(tmp_path):
    x, y = points()
    path = save(tmp_path, X=x, y=y)
    assert lines(run('--data', path, '--epochs', 5, '--batch-size', 10**12))[-1].startswith('test accuracy 100.00 %')


X, Y = points()
BAD_ARRAYS = {
    'no X': ({'a': X, 'y': Y}, 'has no array X; it has: a, y; --x and --y say which are'),
    'no y': ({'X': X}, 'has no array y; it has: X;'),
    'no arrays': ({}, 'has no array X; it has: no arrays;'),
    'another name': ({'images': X, 'labels': Y + 0.25}, 'labels must hold class labels, got 0.25'),
    'lengths': ({'X': X, 'y': Y[1:]}, 'X and y must have the same length, got 60 and 59'),
    'object X': ({'X': X.astype(object), 'y': Y}, 'X is an object array'),
    'object y': ({'X': X, 'y': Y.astype(object)}, 'y is an object array'),
    'text X': ({'X': X.astype(str), 'y': Y}, 'X must hold numbers, got dtype <U32'),
    '0-d X': ({'X': 1.0, 'y': Y}, 'X is a single value'),
    '2-D y': ({'X': X, 'y': X}, 'y must have one dimension, a class label for each sample, got shape (60, 3)'),
    'regression': ({'X': X, 'y': Y + 0.25}, 'y must hold class labels, got 0.25'),
    'NaN': ({'X': np.where(np.arange(3) == 2, np.nan, X), 'y': Y}, 'got nan at X[0, 2]'),
    'infinite': ({'X': np.where(np.arange(3) == 2, -np.inf, X), 'y': Y}, 'got -inf at X[0, 2]'),
    'empty': ({'X': X[:0], 'y': Y[:0]}, 'X is empty, with shape (0, 3)'),
    'too few': ({'X': X[:19], 'y': Y[:19]}, 'at least 20 samples are needed, got 19'),
    'one class': ({'X': X, 'y': 0 * Y}, 'at least two classes are needed'),
    'too many classes': ({'X': X, 'y': np.arange(60)}, '60 different labels for 60 samples'),
}


@pytest.mark.parametrize('case', BAD_ARRAYS)
def test_bad_arrays(run_here, tmp_path, case):
    arrays, message = BAD_ARRAYS[case]
    assert message in error(run_here('--data', save(tmp_path, **arrays)))


@pytest.mark.parametrize('names', [('x', 'y'), ('x_train', 'y_train'), ('images', 'labels'), ('a', 'b')])
def test_arrays_are_found_by_usual_names_and_others_by_options(run_here, tmp_path, names):
    path = save(tmp_path, other=X, **dict(zip(names, (X, Y))))
    options = ('--x', 'a', '--y', 'b') if names == ('a', 'b') else ()
    assert lines(run_here('--data', path, '--epochs', 1, *options))[-1].endswith('of 12)')


def test_names_of_arrays_without_a_file(run_here):
    assert error(run_here('--x', 'a')) == '--x and --y name arrays of a file, which --data FILE.npz gives'


def test_missing_file(tmp_path):
    path = tmp_path / 'missing.npz'
    assert error(run('--data', path)) == f'cannot read {path}: No such file or directory'


def test_no_npz_file(run_here, tmp_path):
    np.save(tmp_path / 'x.npy', X)
    assert 'x.npy is no .npz file' in error(run_here('--data', tmp_path / 'x.npy'))


def test_damaged_npz_file(run_here, tmp_path):
    path = save(tmp_path, X=X, y=Y)
    content = path.read_bytes()
    path.write_bytes(content[:500] + bytes([content[500] ^ 1]) + content[501:])
    assert 'points.npz is damaged: Bad CRC-32' in error(run_here('--data', path))


# The command line.


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (('--epochs', 0), 'argument --epochs: must be at least 1, got 0'),
        (('--batch-size', 1), 'argument --batch-size: must be at least 2, got 1'),
        (('--seed', -1), 'argument --seed: must be at least 0, got -1'),
        (('--seed', 'x'), "argument --seed: must be an integer, got 'x'"),
        (('--sed', 1), 'unrecognized arguments: --sed 1'),
    ],
)
def test_bad_options(run_here, capsys, arguments, message):
    with pytest.raises(SystemExit) as ended:
        run_here(*arguments)
    assert ended.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1] == f'batchup: error: {message}'


def test_help():
    process = run('--help')
    assert process.returncode == 0
    for option in ('--data', '--x', '--y', '--epochs', '--batch-size', '--seed', '--resume'):
        assert option in process.stdout


def test_version():
    output = subprocess.check_output([*DEMO[:-1], '--version'], cwd=ROOT, text=True, timeout=60)
    assert output == f'batchup {batchup.__version__}\n'
