"""Scripts that use pools: with and without a guard, that end in all ways, and are interrupted."""

import os
import signal
import subprocess
import sys
import textwrap
import time
import types

import pytest

from batchup.work_pool import WorkerProcessPool, WorkerThreadPool

from ..harness.leftovers import shared_files
from ..harness.pools import MAY_FORK, METHODS, SOME_METHODS, interpreters_first, whole_batches
from ..harness.scripts import Script, run_script
from ..harness.waiting import until

pytestmark = MAY_FORK

POOLS = {
    'threads': lambda: WorkerThreadPool(2),
    **{method: lambda method=method: WorkerProcessPool(2, start_method=method) for method in METHODS},
}
IMPORTING = [pytest.param('forkserver', marks=pytest.mark.slow), 'spawn']
SLOW_THREADS = pytest.param('threads', marks=pytest.mark.slow)


# Scripts without a guard.

UNGUARDED = """
    import sys
    import numpy as np
    with open({log!r}, 'a') as file:
        file.write('.')
    from batchup.data_source import ArrayDataSource
    from batchup.work_pool import WorkerProcessPool

    def main():
        pool = WorkerProcessPool(2{arguments})
        for (x,) in pool.parallel_data_source(ArrayDataSource([np.arange(3000)])).batch_iterator(10):
            pass
        print('done')

    main()
"""


@pytest.mark.parametrize('arguments', ['', ", start_method='forkserver'"])
def test_a_script_without_a_guard_is_told_so_before_a_worker_starts(arguments, tmp_path):
    log = tmp_path / 'imports'
    code, out, err = run_script(tmp_path, UNGUARDED.format(log=str(log), arguments=arguments))
    assert (code, out) == (1, '')
    assert "if __name__ == '__main__':" in err
    assert log.read_text() == '.'


@pytest.mark.slow
@pytest.mark.parametrize('start_method', IMPORTING)
def test_a_script_whose_guard_is_none_is_told_so_by_the_workers(start_method, tmp_path):
    text = f"""
        from batchup.work_pool import WorkerProcessPool
        if 'python':
            pool = WorkerProcessPool(2, start_method={start_method!r})
            print(pool.work_stream([(abs, (-1,))]).retrieve())
    """
    code, out, err = run_script(tmp_path, text)
    assert (code, out) == (1, '')
    assert "if __name__ == '__main__':" in err
    assert err.count('Traceback') <= 3


@pytest.mark.slow
def test_a_guard_of_another_kind_will_do(tmp_path):
    text = """
        import sys
        from multiprocessing import current_process
        from batchup.work_pool import WorkerProcessPool
        def main():
            if current_process().name == 'MainProcess':
                print(WorkerProcessPool(1).work_stream([(abs, (-1,))]).retrieve())
        main()
    """
    assert run_script(tmp_path, text) == (0, '1\n', '')


def test_a_script_without_a_guard_may_fork(tmp_path):
    text = """
        from batchup.work_pool import WorkerProcessPool
        pool = WorkerProcessPool(2, start_method='fork')
        print(pool.work_stream([(abs, (-1,))]).retrieve())
    """
    assert run_script(tmp_path, text) == (0, '1\n', '')


# Scripts with one.

GUARDED = """
    import sys
    import numpy as np
    from batchup.data_source import ArrayDataSource, RandomAccessDataSource
    from batchup.work_pool import WorkerProcessPool

    class Squares(RandomAccessDataSource):
        def samples_by_indices_nomapping(self, indices):
            return (np.asarray(indices) ** 2,)

    def halve(x, rng):
        return (x / 2 + rng.integers(10, size=x.shape),)

    def pid():
        import os, time
        time.sleep(0.02)
        return os.getpid()

    if __name__ == '__main__':
        ds = Squares(100).map(halve, rng=True)
        with WorkerProcessPool(2, start_method=sys.argv[1]) as pool:
            pids = set(pool.work_stream([(pid,)] * 10).retrieve_iter())
            batches = list(pool.parallel_data_source(ds).batch_iterator(7, shuffle=4))
        for one, other in zip(batches, ds.batch_iterator(7, shuffle=4)):
            assert (one[0] == other[0]).all()
        print(len(batches), pid() in pids)
"""


@interpreters_first
def test_a_script_with_a_guard_works(method, tmp_path):
    assert run_script(tmp_path, GUARDED, method) == (0, '15 False\n', '')


@pytest.mark.slow
@interpreters_first
def test_a_module_that_is_run_works(method, tmp_path):
    (tmp_path / 'training.py').write_text(textwrap.dedent(GUARDED))
    command = [sys.executable, '-m', 'training', method]
    done = subprocess.run(command, check=False, cwd=tmp_path, capture_output=True, text=True, timeout=90)
    assert (done.returncode, done.stdout, done.stderr) == (0, '15 False\n', '')


ONE_LINER = """
    import sys
    import numpy as np
    from batchup.data_source import ArrayDataSource
    from batchup.work_pool import WorkerProcessPool
    ds = ArrayDataSource([np.sqrt(np.arange(100))])
    pool = WorkerProcessPool(2, start_method=sys.argv[1])
    print(pool.work_stream([(abs, (-3,))]).retrieve())
    print(sum(x.sum() for x in (b[0] for b in pool.parallel_data_source(ds).batch_iterator(7))) > 600)
"""


@pytest.mark.slow
@interpreters_first
def test_python_dash_c_works(method):
    assert run_script(None, ONE_LINER, method) == (0, '3\nTrue\n', '')


@pytest.mark.slow
@interpreters_first
def test_a_script_from_stdin_works(method):
    text = textwrap.dedent(ONE_LINER)
    command = [sys.executable, '-', method]
    done = subprocess.run(command, check=False, input=text, capture_output=True, text=True, timeout=90)
    assert (done.returncode, done.stdout, done.stderr) == (0, '3\nTrue\n', '')


@pytest.mark.slow
@pytest.mark.parametrize('start_method', IMPORTING)
def test_a_function_of_python_dash_c_gives_a_clear_error(start_method):
    text = """
        import sys
        from batchup.work_pool import WorkerProcessPool
        def double(x):
            return 2 * x
        with WorkerProcessPool(2, start_method=sys.argv[1]) as pool:
            print(pool.work_stream([(double, (3,))]).retrieve())
    """
    code, out, err = run_script(None, text, start_method)
    assert (code, out) == (1, '')
    assert 'double' in err
    assert 'importable' in err or 'top level' in err


# What workers cannot import, told when a source is handed to the pool.

NAMED = """
    import functools, sys
    import numpy as np
    from batchup.data_source import ArrayDataSource
    from batchup.work_pool import WorkerProcessPool

    def above(x):
        return (x,)

    if __name__ == '__main__':
        def below(x):
            return (x,)
        class Below:
            def __call__(self, x):
                return (x,)
        source = ArrayDataSource([np.arange(8)])
        with WorkerProcessPool(1, start_method=sys.argv[1]) as pool:
            def later(x):
                return (x,)
            for fn in (above, functools.partial(above), below, functools.partial(below), Below(), later):
                try:
                    pool.parallel_data_source(source.map(fn))
                    print('fine')
                except TypeError as error:
                    print(error)
"""


@pytest.mark.parametrize('start_method', IMPORTING)
def test_what_is_defined_below_the_guard_is_refused_at_the_call(start_method, tmp_path):
    code, out, _ = run_script(tmp_path, NAMED, start_method)
    lines = out.splitlines()
    assert (code, lines[:2]) == (0, ['fine', 'fine'])
    assert 'MapDataSource.fn (the function of map).func cannot be sent' in lines[3]
    for name, line in zip(('below', 'below', 'Below', 'later'), lines[2:], strict=True):
        assert f"{name} is defined below `if __name__ == '__main__':`" in line


def test_what_forked_workers_do_not_have_is_refused_at_the_call(tmp_path):
    code, out, _ = run_script(tmp_path, NAMED, 'fork')
    lines = out.splitlines()
    assert (code, lines[:-1]) == (0, ['fine'] * 5)
    assert 'later was defined after the workers were forked' in lines[-1]
    assert 'make the pool after it' in lines[-1]


TYPED = """
    import numpy as np
    from batchup.data_source import ArrayDataSource
    from batchup.work_pool import WorkerProcessPool
    def double(x):
        return (2 * x,)
    pool = WorkerProcessPool(1)
    pool.parallel_data_source(ArrayDataSource([np.arange(8)]).map(double))
"""


@pytest.mark.parametrize('place', ['the text of `python -c`', pytest.param('standard input', marks=pytest.mark.slow)])
def test_what_is_in_no_file_is_refused_at_the_call(place):
    text = textwrap.dedent(TYPED)
    command = [sys.executable, *(['-'] if place == 'standard input' else ['-c', text])]
    done = subprocess.run(command, check=False, input=text, capture_output=True, text=True, timeout=90)
    assert done.returncode == 1
    assert f'double is defined in {place}, which workers cannot import; put it into a module' in done.stderr


def test_what_is_in_a_module_that_workers_do_not_find_is_refused_at_the_call(monkeypatch):
    module = types.ModuleType('made_by_hand')
    exec('def double(x): return (2 * x,)', vars(module))
    monkeypatch.setitem(sys.modules, 'made_by_hand', module)
    with WorkerProcessPool(1) as pool, pytest.raises(TypeError, match='workers find no module made_by_hand'):
        pool.parallel_data_source(whole_batches(3).map(module.double))


@pytest.mark.parametrize('start_method', IMPORTING)
def test_a_lambda_gives_a_clear_error(start_method):
    with WorkerProcessPool(1, start_method=start_method) as pool:
        with pytest.raises(TypeError, match=r'lambda.*top level of a module, or a WorkerThreadPool'):
            pool.parallel_data_source(whole_batches(3).map(lambda *batch: batch))
        with pytest.raises(TypeError, match=r'lambda.*top level of a module, or a WorkerThreadPool'):
            pool.work_stream([(lambda: 1,)]).retrieve()


# Scripts that end, in all ways.

ENDING = """
    import os, sys, time
    import numpy as np
    from batchup.data_source import ArrayDataSource
    from batchup.work_pool import WorkerProcessPool, WorkerThreadPool

    def wait(*batch):
        time.sleep(SECONDS)
        return batch

    SECONDS = float(sys.argv[2])
    if __name__ == '__main__':
        pool = WorkerThreadPool(2) if sys.argv[1] == 'threads' else WorkerProcessPool(2, start_method=sys.argv[1])
        list(pool.work_stream([(abs, (1,))] * 8).retrieve_iter())
        stream = pool.parallel_data_source(ArrayDataSource([np.arange(4000)]).map(wait), 8).batch_iterator(4)
        busy = pool.work_stream([(time.sleep, (float(sys.argv[3]),))] * 4)
        for _ in range(int(sys.argv[4])):
            next(stream)
        print('ready', flush=True)
        BODY
"""


def ending(body):
    lines = textwrap.dedent(body).strip().splitlines()
    return ENDING.replace('BODY', '\n        '.join(lines))


@pytest.mark.parametrize('kind', [SLOW_THREADS, *SOME_METHODS])
@pytest.mark.parametrize(('body', 'expected'), [('', 0), ('sys.exit(5)', 5), ('pool.close()', 0)])
def test_a_script_that_ends_without_closing_ends(kind, body, expected, tmp_path):
    code, out, err = run_script(tmp_path, ending(body), kind, '0.01', '0', '3')
    assert (code, out, err) == (expected, 'ready\n', '')


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['threads', *SOME_METHODS])
def test_a_script_that_ends_by_an_error_shows_just_that(kind, tmp_path):
    code, _, err = run_script(tmp_path, ending("raise ValueError('of the user')"), kind, '0.01', '0', '3')
    assert code == 1
    assert err.strip().splitlines()[-1] == 'ValueError: of the user'
    assert err.count('Traceback') == 1


@pytest.mark.slow
def test_a_script_that_ends_while_its_workers_are_busy_ends_soon(method, tmp_path):
    start = time.monotonic()
    code, _, err = run_script(tmp_path, ending(''), method, '0.01', '1000', '1')
    assert (code, err) == (0, '')
    assert time.monotonic() - start < 60


LAST_WORK = """
    import sys, weakref
    import numpy as np
    from batchup.data_source import ArrayDataSource
    from batchup.work_pool import WorkerProcessPool

    def double(x):
        return (2 * x,)

    class Model:
        pass

    def evaluate():
        print(*[int(x.sum()) for (x,) in source.batch_iterator(250_000)])

    if __name__ == '__main__':
        model = Model()
        pool = WorkerProcessPool(1, start_method=sys.argv[1])
        list(pool.work_stream([(abs, (1,))]).retrieve_iter())
        weakref.finalize(model, evaluate)  # these run in reverse order: before the pool is closed
        source = pool.parallel_data_source(ArrayDataSource([np.ones(1_000_000)]).map(double), 4)
"""


@pytest.mark.slow
def test_a_pool_can_be_used_until_it_is_closed_at_the_end_of_a_script(tmp_path):
    assert run_script(tmp_path, LAST_WORK, 'spawn') == (0, '500000 500000 500000 500000\n', '')


OPEN_FILE = """
    import threading, time
    from batchup.work_pool import WorkerThreadPool

    class File:
        def __del__(self):
            time.sleep(0.3)
            print('closed')

    opened = threading.local()
    pool = WorkerThreadPool(1)
    list(pool.work_stream([(setattr, (opened, 'file', File()))]).retrieve_iter())
"""


def test_what_threads_have_opened_is_closed_before_the_script_ends(tmp_path):
    assert run_script(tmp_path, OPEN_FILE) == (0, 'closed\n', '')


def test_a_script_that_ends_by_os_exit_leaves_nothing(method, tmp_path):
    before = shared_files()
    code, _, err = run_script(tmp_path, ending('os._exit(7)'), method, '0.01', '0', '3')
    assert (code, err) == (7, '')
    assert until(lambda: shared_files() <= before)


@pytest.mark.parametrize('busy', ['0', '1000'])
def test_workers_end_when_their_parent_is_killed(method, busy, tmp_path):
    before = shared_files()
    script = Script(tmp_path, ending('for _ in stream: pass'), method, '0.01', busy, '1' if busy != '0' else '5')
    try:
        script.wait_for_line('ready')
        time.sleep(0.1)
        assert len(script.processes()) >= 3
        script.process.kill()
        assert script.leaves_nothing()
        code, _, err = script.finish()
    finally:
        script.kill_all()
    assert (code, err) == (-signal.SIGKILL, '')
    assert until(lambda: shared_files() <= before)


def test_workers_end_when_their_parent_is_terminated(method, tmp_path):
    script = Script(tmp_path, ending('time.sleep(100)'), method, '0.01', '1000', '1')
    try:
        script.wait_for_line('ready')
        script.process.terminate()
        assert script.leaves_nothing()
        assert script.finish()[0] == -signal.SIGTERM
    finally:
        script.kill_all()


# Ctrl-C.


def interrupt(script, after=0.2):
    """Press Ctrl-C, which all processes of a terminal get."""
    script.wait_for_line('ready')
    time.sleep(after)
    os.killpg(script.process.pid, signal.SIGINT)


@pytest.mark.parametrize('kind', ['threads', *SOME_METHODS])
def test_ctrl_c_is_a_keyboard_interrupt_in_the_main_process_only(kind, tmp_path):
    body = """
        try:
            for _ in stream:
                pass
        except KeyboardInterrupt:
            print('interrupted')
        pool.close()
    """
    script = Script(tmp_path, ending(body), kind, '0.01', '0', '3')
    try:
        interrupt(script)
        assert script.finish() == (0, 'interrupted\n', '')
        assert script.leaves_nothing()
    finally:
        script.kill_all()


@pytest.mark.parametrize('kind', [SLOW_THREADS, *SOME_METHODS])
def test_ctrl_c_that_nobody_catches_ends_a_script_cleanly(kind, tmp_path):
    script = Script(tmp_path, ending('for _ in stream: pass'), kind, '0.01', '0', '3')
    try:
        interrupt(script)
        code, _, err = script.finish()
        assert code == -signal.SIGINT
        assert err.count('Traceback') == 1
        assert err.strip().endswith('KeyboardInterrupt')
        assert script.leaves_nothing()
    finally:
        script.kill_all()


@pytest.mark.parametrize('kind', [SLOW_THREADS, *SOME_METHODS])
def test_a_stream_goes_on_after_ctrl_c(kind, tmp_path):
    body = """
        received = 3
        while received < 200:
            try:
                for (x,) in stream:
                    assert x[0] == 4 * received, (x, received)
                    received += 1
                    if received == 200:
                        break
            except KeyboardInterrupt:
                print('interrupted', len(x))
        print(received)
        pool.close()
    """
    script = Script(tmp_path, ending(body), kind, '0.01', '0', '3')
    try:
        interrupt(script)
        code, out, err = script.finish()
        assert (code, out, err) == (0, 'interrupted 4\n200\n', '')
    finally:
        script.kill_all()


STARTING = """
    import sys, time
    from batchup.work_pool import WorkerProcessPool
    if __name__ == '__main__':
        pool = WorkerProcessPool(2, start_method=sys.argv[1])
        print('ready', flush=True)
        print(pool.work_stream([(time.sleep, (30,))]).retrieve())
"""


@pytest.mark.slow
# Workers of Python's forkserver are reached by a Ctrl-C that comes before they can ignore it.
@pytest.mark.parametrize(
    'after', [0.0, pytest.param(0.05, marks=pytest.mark.slow), 0.1, pytest.param(0.2, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize('start_method', ['fork', 'spawn'])
def test_ctrl_c_while_workers_start_is_clean(start_method, after, tmp_path):
    script = Script(tmp_path, STARTING, start_method)
    try:
        interrupt(script, after)
        code, _, err = script.finish()
        assert code == -signal.SIGINT
        assert err.count('Traceback') == 1
        assert script.leaves_nothing()
    finally:
        script.kill_all()


@pytest.mark.slow
def test_ctrl_c_twice_ends_a_script(method, tmp_path):
    script = Script(tmp_path, ending('for _ in stream: pass'), method, '0.01', '1000', '1')
    try:
        interrupt(script)
        time.sleep(0.1)
        if script.process.poll() is None:
            os.killpg(script.process.pid, signal.SIGINT)
        script.finish(seconds=10)
        assert script.leaves_nothing()
    finally:
        script.kill_all()
