"""`python -m batchup datasets` and `show`."""

import os
import subprocess
import sys

import numpy as np
import pytest

from batchup._cli.main import main
from batchup.datasets import cifar10, mnist
from batchup.datasets._catalogue import CATALOGUE
from batchup.datasets.dataset import DownloadSourceFile

from ..harness import dataset_files as files
from ..harness.homes import ROOT, files_in

pytestmark = pytest.mark.usefixtures('home')

Image = pytest.importorskip('PIL.Image')

PACKAGED = 'digits'
FETCHED = [name for name in CATALOGUE if name != PACKAGED]


@pytest.fixture
def run(capsys):
    """Run a command; return the lines that it prints, or, if it fails, its error."""

    def run(*arguments):
        code = main([str(argument) for argument in arguments])
        output, errors = capsys.readouterr()
        assert code == (2 if errors else 0)
        return errors if errors else output.splitlines()

    return run


@pytest.fixture
def place(monkeypatch, tmp_path):
    """Place the small files of a data set where it takes them from."""

    def place(module, fetch, make):
        files.place(monkeypatch, fetch, make().files, tmp_path / module)

    return place


@pytest.fixture
def small_mnist(place):
    place('mnist', mnist.fetch_mnist, files.mnist)


@pytest.fixture
def small_cifar10(place):
    place('cifar10', cifar10.fetch_cifar10, files.cifar10)


def line_of(name, lines):
    (line,) = [line for line in lines if line.split()[0] == name]
    return line


def images(n=30):
    return np.random.default_rng(0).integers(0, 256, (n, 12, 10), np.uint8)


def saved(folder, **arrays):
    path = folder / 'data.npz'
    np.savez(path, **arrays)
    return path


# datasets


def test_all_data_sets_are_listed(run):
    header, *lines = run('datasets', 'list')
    assert header.split() == ['name', 'samples', 'shape', 'on', 'disk', 'state']
    assert [line.split()[0] for line in lines] == list(CATALOGUE)


def test_at_first_there_is_only_what_ships_with_the_package(run):
    lines = run('datasets', 'list')
    assert line_of('mnist', lines).split('  ')[-1] == 'not fetched'
    assert line_of(PACKAGED, lines).split('  ')[-1] == 'in the package'
    assert '60,000 + 10,000' in line_of('mnist', lines)
    assert '1 x 28 x 28' in line_of('mnist', lines)


def test_in_a_narrow_terminal_every_line_of_the_list_fits(run, monkeypatch):
    monkeypatch.setenv('COLUMNS', '40')
    lines = run('datasets', 'list')
    assert max(map(len, lines)) <= 40
    assert [line.split()[0] for line in lines[::2]] == list(CATALOGUE)
    assert '  5,000 + 8,000 + 100,000 of 3 x 96 x 96' in lines


def test_a_fetched_data_set_is_listed_with_its_size(run, small_mnist):
    run('datasets', 'fetch', 'mnist')
    line = line_of('mnist', run('datasets', 'list'))
    assert line.endswith('ready')
    assert 'kB' in line


def test_fetching_tells_where_the_data_sets_are(run, small_mnist, small_cifar10, home):
    data = home / '.batchup' / 'data'
    assert run('datasets', 'fetch', 'mnist', 'CIFAR10') == [f'mnist: {data / "mnist"}', f'cifar10: {data / "cifar10"}']
    assert run('datasets', 'fetch', 'digits') == ['digits: ships with batchup']


def test_a_failed_download_tells_all_addresses(run, monkeypatch, server):
    missing = DownloadSourceFile('images.gz', base_url=[server.url, f'{server.url}/mirror'], sha256='0' * 64)
    monkeypatch.setattr(mnist.fetch_mnist, 'source_files', [missing])
    lines = run('datasets', 'fetch', 'mnist').splitlines()
    assert lines[0] == 'batchup: error: cannot download images.gz:'
    assert [line.rpartition(': ')[2] for line in lines[1:3]] == ['HTTP 404 Not Found'] * 2
    assert lines[3].startswith('Or place the file by hand at ')


def test_a_right_data_set_is_verified(run, small_mnist):
    run('datasets', 'fetch', 'mnist')
    lines = run('datasets', 'verify')
    assert line_of('mnist:', lines) == 'mnist: right'
    assert line_of('usps:', lines) == 'usps: not fetched'


def test_a_named_data_set_that_is_not_there_is_not_verified(run, small_mnist):
    run('datasets', 'fetch', 'mnist')
    error = 'batchup: error: not fetched: usps; run: python -m batchup datasets fetch usps\n'
    assert run('datasets', 'verify', 'mnist', 'usps') == error


def test_a_changed_file_is_found(run, small_mnist):
    run('datasets', 'fetch', 'mnist')
    path = mnist.fetch_mnist.path / 'train_y.npy'
    path.write_bytes(path.read_bytes()[:-1] + b'\xff')
    assert 'damaged: mnist; to have it made again, first run: python -m batchup datasets clear mnist' in run(
        'datasets', 'verify', 'mnist'
    )


def test_a_data_set_without_its_facts_is_damaged(run, small_mnist):
    run('datasets', 'fetch', 'mnist')
    (mnist.fetch_mnist.path / 'dataset.json').unlink()
    assert line_of('mnist', run('datasets', 'list')).endswith('damaged')
    assert 'datasets clear mnist' in run('datasets', 'fetch', 'mnist')
    assert 'datasets clear mnist' in run('datasets', 'verify')


def test_clearing_leaves_nothing(run, small_mnist, home):
    run('datasets', 'fetch', 'mnist')
    (line,) = run('datasets', 'clear', 'mnist')
    assert line.startswith('mnist: ')
    assert line.endswith('kB deleted')
    assert files_in(home) == []


def test_what_a_killed_conversion_has_left_is_counted_and_cleared(run, home):
    left = home / '.batchup' / 'data' / 'usps.partial'
    left.mkdir(parents=True)
    (left / 'usps').write_bytes(bytes(1500))
    assert run('datasets', 'clear', 'usps') == ['usps: 1.5 kB deleted']
    assert files_in(home) == []


def test_what_is_not_there_can_be_cleared(run):
    assert run('datasets', 'clear', 'usps') == ['usps: 0 B deleted']


def test_paths(run, home):
    data = home / '.batchup' / 'data'
    assert run('datasets', 'path') == [str(data)]
    assert run('datasets', 'path', 'stl') == [str(data / 'stl')]


@pytest.mark.parametrize('action', ['fetch', 'verify', 'clear', 'path'])
def test_an_unknown_name_is_answered_with_all_names(run, action):
    error = run('datasets', action, 'minst')
    assert error == f"batchup: error: there is no data set 'minst'; there are: {', '.join(CATALOGUE)}\n"


@pytest.mark.parametrize('action', ['clear', 'path'])
def test_the_digits_have_no_folder(run, action):
    assert 'digits ships with batchup' in run('datasets', action, 'digits')


@pytest.mark.parametrize('arguments', [[], ['fetch'], ['clear'], ['list', 'mnist'], ['fetsch'], ['list', '--all']])
def test_bad_usage(capsys, arguments):
    with pytest.raises(SystemExit) as caught:
        main(['datasets', *arguments])
    assert caught.value.code == 2
    usage, *_, error = capsys.readouterr().err.splitlines()
    assert usage.startswith('usage: python -m batchup ')
    assert error.startswith('batchup: error: ')


@pytest.mark.parametrize('command', [['datasets'], ['show'], *(['datasets', action] for action in ['list', 'fetch'])])
def test_every_command_has_help(capsys, command):
    with pytest.raises(SystemExit) as caught:
        main([*command, '--help'])
    assert caught.value.code == 0
    assert 'usage: ' in capsys.readouterr().out


def test_without_a_command_there_is_help(run):
    lines = run()
    assert lines[0] == 'usage: python -m batchup [-h] [--version] COMMAND ...'
    assert {'demo', 'datasets', 'show'} <= {line.split()[0] for line in lines if line.startswith('    ')}


# show


def test_shapes_and_dtypes_are_shown(run):
    lines = run('show', 'digits')
    assert lines[0].split() == ['train_X', 'float32', '1438', 'x', '1', 'x', '8', 'x', '8']
    assert lines[3].split() == ['test_y', 'int32', '359']


def test_classes_are_counted(run):
    lines = run('show', 'digits')
    counts = [line.split() for line in lines[lines.index('test_y: 10 classes') + 1 :]]
    assert counts[0] == ['0', '27']
    assert sum(int(count) for _, count in counts) == 359


def test_classes_have_names(run, small_cifar10):
    run('datasets', 'fetch', 'cifar10')
    assert any(line.split()[:2] == ['9', 'truck'] for line in run('show', 'cifar10'))


def test_a_data_set_that_is_not_here_is_not_downloaded(run):
    assert 'run: python -m batchup datasets fetch mnist' in run('show', 'mnist')


def test_what_is_neither_a_name_nor_a_file(run):
    assert "there is no data set 'nothing'" in run('show', 'nothing')
    assert 'cannot read nothing.npz' in run('show', 'nothing.npz')


def test_arrays_of_a_file(run, tmp_path):
    path = saved(tmp_path, X=images(), y=np.arange(30) % 3, class_names=['a', 'b', 'c'], scale=np.float64(2))
    lines = run('show', path)
    assert [line.split() for line in lines[:3]] == [
        ['X', 'uint8', '30', 'x', '12', 'x', '10'],
        ['y', 'int64', '30'],
        ['scale', 'float64', 'one', 'value'],
    ]
    assert [line.split() for line in lines[-3:]] == [['0', 'a', '10'], ['1', 'b', '10'], ['2', 'c', '10']]


def test_labels_that_are_words_are_counted(run, tmp_path):
    lines = run('show', saved(tmp_path, y=np.array(['no', 'yes', 'no'])))
    assert [line.split() for line in lines[-2:]] == [['no', '2'], ['yes', '1']]


def test_numbers_that_all_differ_are_no_classes(run, tmp_path):
    assert len(run('show', saved(tmp_path, y=np.arange(50)))) == 1


def test_a_damaged_file(run, tmp_path):
    path = saved(tmp_path, X=images())
    path.write_bytes(path.read_bytes()[:400])
    assert f'{path} is no .npz file' in run('show', path)


# Pictures: 96 pixels for an image, 8 between two, and 16 for the name of a class.


def test_a_picture_has_as_many_images_as_asked_for(run, tmp_path):
    sheet = tmp_path / 'sheet.png'
    lines = run('show', 'digits', '--png', sheet, '--count', 6)
    assert lines[-1] == f'{sheet}: 6 samples of 1,438'
    with Image.open(sheet) as picture:
        assert picture.format == 'PNG'
        assert picture.size == (3 * 104 + 8, 2 * 120 + 8)


def test_a_picture_shows_the_pixels(run, tmp_path):
    path, sheet = saved(tmp_path, X=images(1)), tmp_path / 'sheet.png'
    run('show', path, '--png', sheet)
    with Image.open(sheet) as picture:
        drawn = np.asarray(picture)[8 : 8 + 96 : 8, 8 : 8 + 80 : 8]
    np.testing.assert_array_equal(drawn, np.repeat(images(1)[0][:, :, np.newaxis], 3, axis=2))


@pytest.mark.parametrize(
    'shape', [(5, 7), (1, 5, 7), (3, 5, 7), (4, 5, 7), (5, 7, 1), (5, 7, 3), (5, 7, 4), (3, 7, 3), (1, 1)], ids=str
)
def test_images_of_many_shapes_are_drawn(run, tmp_path, shape):
    path, sheet = saved(tmp_path, X=np.random.default_rng(0).random((3, *shape))), tmp_path / 'sheet.png'
    run('show', path, '--png', sheet)
    with Image.open(sheet) as picture:
        assert picture.size == (2 * 104 + 8, 2 * 104 + 8)


def test_floats_are_drawn_from_the_lowest_to_the_highest(run, tmp_path):
    values = np.array([[[-3.0, 1.0], [5.0, np.nan]]])
    path, sheet = saved(tmp_path, X=values), tmp_path / 'sheet.png'
    run('show', path, '--png', sheet)
    with Image.open(sheet) as picture:
        drawn = np.asarray(picture)[[8 + 24, 8 + 72]][:, [8 + 24, 8 + 72], 0]
    assert drawn.tolist() == [[0, 128], [255, 0]]


def test_the_names_of_classes_are_written_below(run, tmp_path):
    def below(**arrays):
        sheet = tmp_path / 'sheet.png'
        run('show', saved(tmp_path, X=images(1), y=np.array([0]), **arrays), '--png', sheet)
        with Image.open(sheet) as picture:
            return np.asarray(picture)[8 + 96 : 8 + 112]

    number, name = below(), below(class_names=np.array(['a rather long name that is cut where the image ends']))
    assert (number < 128).any()
    assert (name < 128).sum() > (number < 128).sum()
    assert (name[:, 8 + 96 + 2 :] == 255).all()


NAMES = [('x', 'y'), ('x_train', 'y_train'), ('images', 'labels'), ('train_X', 'train_y')]


@pytest.mark.parametrize(('x', 'y'), NAMES)
def test_labels_are_found_by_usual_names_and_others_by_options(run, tmp_path, x, y):
    def drawn(names, *options):
        path, sheet = (
            saved(tmp_path, first=images(9), **dict(zip(names, (images(3), np.arange(3))))),
            tmp_path / 'sheet',
        )
        assert run('show', path, '--png', sheet, *options)[-1] == f'{sheet}: 3 samples of 3'
        return sheet.read_bytes()

    assert drawn((x, y), '--x', x) == drawn(('a', 'b'), '--x', 'a', '--y', 'b')


def test_wrong_names_of_arrays(run, tmp_path):
    path = saved(tmp_path, X=images(3), y=np.arange(3), z=np.arange(4))
    for options, message in {
        ('--x', 'images'): 'has no array images; it has: X, y, z',
        ('--y', 'z'): 'z does not hold a label for each of the 3 in X',
        ('--x', 'y'): 'y has shape (3,); images have',
    }.items():
        assert message in run('show', path, '--png', tmp_path / 'sheet.png', *options)


def test_the_seed_selects_the_samples(run, tmp_path):
    pictures = []
    for number, seed in enumerate([0, 0, 1]):
        sheet = tmp_path / f'{number}.png'
        run('show', 'digits', '--png', sheet, '--count', 4, '--seed', seed)
        pictures.append(sheet.read_bytes())
    assert pictures[0] == pictures[1] != pictures[2]


def test_data_without_images(run, tmp_path):
    path = saved(tmp_path, X=np.zeros((5, 4)))
    assert f'{path} has no images to draw' in run('show', path, '--png', tmp_path / 'sheet.png')


def test_arrays_that_are_no_images(run, tmp_path):
    path = saved(tmp_path, X=np.zeros((5, 4, 6, 9)))
    path = saved(tmp_path, X=np.zeros((5, 6, 6, 9)))
    assert 'got (5, 6, 6, 9)' in run('show', path, '--png', tmp_path / 'sheet.png')


def test_a_picture_that_cannot_be_written(run, tmp_path):
    sheet = tmp_path / 'missing' / 'sheet.png'
    assert f'cannot write {sheet}: No such file or directory' in run('show', 'digits', '--png', sheet)


def test_without_pillow_the_error_says_what_to_install(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'PIL', None)
    assert "pip install '.[plot]' in a copy of batchup's repository" in run(
        'show', 'digits', '--png', tmp_path / 'sheet.png'
    )


# As users run it.


def test_in_a_process_of_its_own(home):
    command = [sys.executable, '-W', 'error', '-m', 'batchup', 'datasets', 'path']
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, '')
    assert done.stdout.strip() == str(home / '.batchup' / 'data')


def test_the_script_of_the_package():
    script = os.path.join(os.path.dirname(sys.executable), 'batchup')
    done = subprocess.run([script, 'show', 'nothing'], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert done.stdout == ''
    assert done.stderr.startswith("batchup: error: there is no data set 'nothing'")
