"""`python -m batchup bench`."""

import subprocess
import sys

import numpy as np
import pytest

from batchup._cli.commands.bench import ALONE, Bench, Setting
from batchup._cli.main import main
from batchup._pools.calibration import Timing
from batchup.data_source import ArrayDataSource

MODULE = """
import threading, time
import numpy as np
from batchup.data_source import ArrayDataSource

numbers = ArrayDataSource([np.arange(400)])

def nap(*batch):
    time.sleep(0.002)
    return batch

slow = numbers.map(nap)
lambdas = numbers.map(nap).map(lambda *batch: batch)
endless = ArrayDataSource([np.arange(400)], repeats=-1)
arrays = [np.arange(400), np.arange(400)]
empty = ArrayDataSource([np.arange(0)])
number = 7

def make():
    return slow

def batches(batch_size):
    for k in range(0, 400, batch_size):
        yield (np.arange(k, k + batch_size),)

once = batches(10)

def refuse(x):
    raise ValueError('there is a seven')

refused = numbers.map(refuse)

def broken():
    raise OSError('disk gone')
"""


SMALL = ['m:endless', 'digits.npz']


@pytest.fixture
def bench(tmp_path, monkeypatch, capsys):
    """Run the command in a folder with a module; return what it prints, or its error."""
    name = f'measured_{tmp_path.name}'
    (tmp_path / f'{name}.py').write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'path', list(sys.path))

    def bench(source, *options):
        name_of = str(source).replace('m:', f'{name}:')
        code = main(['bench', name_of, '--batch-size', '10', '--seconds', '0.3', *options])
        output, errors = capsys.readouterr()
        assert code == (2 if errors else 0), errors
        return errors.replace(name, 'm') if errors else output.splitlines()

    yield bench
    sys.modules.pop(name, None)


def kinds(lines):
    """Return the kinds of pools in a table, with the numbers of workers."""
    return {tuple(line.split()[:2]) for line in lines if line.startswith(('no pool', 'threads', 'processes'))}


# What is measured.


@pytest.mark.slow
def test_a_source_is_measured_with_all_pools(bench):
    lines = bench('m:slow')
    assert {('no', 'pool'), ('threads', '1'), ('threads', '2'), ('processes', '1'), ('processes', '2')} <= kinds(lines)
    assert lines[-1].startswith('    batches = Worker')
    assert lines[-1].endswith('.batch_iterator(10, shuffle=42)')


@pytest.mark.slow
def test_what_does_not_pickle_is_measured_without_processes(bench):
    lines = bench('m:lambdas')
    assert ('threads', '2') in kinds(lines)
    (line,) = [line for line in lines if line.startswith('processes')]
    assert line.startswith(
        'processes  not measured: MapDataSource.fn (the function of map) cannot be sent to worker processes'
    )


@pytest.mark.slow
def test_the_verdict_and_the_best_are_told(bench):
    *_, verdict, _, measured, line = bench('m:lambdas')
    assert verdict.startswith("Without a pool: Of each batch's ")
    assert measured.startswith('Measured: ')
    assert line.startswith('    batches = ')


@pytest.mark.slow
def test_a_loop_that_takes_long_needs_no_pool(bench):
    lines = bench('m:lambdas', '--consumer-ms', '30')
    assert any('bound by its own body' in line for line in lines)


@pytest.mark.parametrize('source', ['m:arrays', *(pytest.param(x, marks=pytest.mark.slow) for x in SMALL)])
def test_small_copies_of_memory_need_no_pool(bench, source):
    np.savez('digits.npz', X=np.zeros((400, 3)), y=np.arange(400), names=np.array(['a', 'b']))
    lines = bench(source)
    assert [line.split()[0] for line in lines if 'made by your own process, with any pool' in line] == [
        'processes',
        'threads',
    ]
    assert lines[-1] == '    batches = source.batch_iterator(10, shuffle=42)'


@pytest.mark.parametrize(('source', 'kind'), [('m:batches', 'CallableDataSource'), ('m:once', 'IteratorDataSource')])
def test_without_random_access_only_the_loop_without_a_pool_is_measured(bench, source, kind):
    lines = bench(source)
    assert kinds(lines) == {('no', 'pool')}
    assert lines[-2].startswith('Only the loop without a pool was measured: ')
    assert f'({kind}) is not random access' in lines[-2]
    assert lines[-1] == '    batches = source.batch_iterator(10)'


def test_the_cheapest_of_settings_that_are_about_as_fast_is_best():
    bench = Bench(ArrayDataSource([np.arange(5)]), 5, 0.0, 1.0)
    bench.found = {
        ALONE: Timing(0.010, 0.0),
        Setting('processes', 2, 20): Timing(0.00500, 0.0),
        Setting('threads', 4, 20): Timing(0.00501, 0.0),
        Setting('threads', 2, 20): Timing(0.00502, 0.0),
        Setting('threads', 2, 4): Timing(0.00600, 0.0),
    }
    assert bench.best() == Setting('threads', 2, 20)
    assert bench.best().line(64, '') == 'batches = WorkerThreadPool(2).parallel_data_source(source).batch_iterator(64)'
    line = Setting('processes', 8, 4).line(64, '')
    assert 'WorkerProcessPool(8).parallel_data_source(source, batch_buffer_size=4)' in line


# What is wrong.


@pytest.mark.parametrize(
    ('source', 'message'),
    [
        ('nothing', "'nothing' is no data set and no .npz file; a source of your own is MODULE:OBJECT"),
        ('missing.npz', 'cannot read missing.npz: No such file or directory'),
        ('nowhere:source', 'there is no module nowhere, neither in '),
        ('m.py:slow', 'MODULE is a name, as in an import: m in place of m.py'),
        ('m:missing', 'm has no missing; it has: threading, time, np, ArrayDataSource, numbers, nap, slow'),
        ('m:number', 'm:number is no source: a data source, a list or tuple of array-likes'),
        ('m:broken', 'm:broken() failed: OSError: disk gone'),
        ('m:empty', 'the source has too few batches: there is nothing to measure'),
        ('m:refused', 'm:refused: ValueError in batch 0 of epoch 0: there is a seven'),
    ],
)
def test_an_error_says_what_was_wrong(bench, tmp_path, source, message):
    if source == 'm.py:slow':
        (tmp_path / 'm.py').touch()
        assert message in bench('m.py:slow')
    else:
        assert message in bench(source)


def test_a_module_that_fails_is_told(bench, tmp_path):
    (tmp_path / 'failing_module.py').write_text('import not_installed_anywhere')
    assert "cannot import failing_module: No module named 'not_installed_anywhere'" in bench('failing_module:x')
    (tmp_path / 'ending_module.py').write_text('raise SystemExit(3)')
    assert 'cannot import ending_module: SystemExit: 3' in bench('ending_module:x')


def test_a_data_set_that_is_not_here_is_not_downloaded(bench, home):
    assert 'run: python -m batchup datasets fetch mnist' in bench('mnist')


@pytest.mark.parametrize(
    'options', [['--seconds', '0'], ['--seconds', 'inf'], ['--consumer-ms', '-1'], ['--batch-size', '0']]
)
def test_bad_options(options, capsys):
    with pytest.raises(SystemExit) as caught:
        main(['bench', 'digits', *options])
    assert caught.value.code == 2
    assert f'argument {options[0]}: must be at least' in capsys.readouterr().err


@pytest.mark.slow
def test_in_a_process_of_its_own(tmp_path):
    (tmp_path / 'measured.py').write_text(MODULE)
    command = [sys.executable, '-W', 'error', '-m', 'batchup', 'bench', 'measured:make', '--seconds', '1']
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, '')
    assert 'processes' in done.stdout
