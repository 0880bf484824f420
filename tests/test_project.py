"""What the project says of itself in several places agrees."""

import re
from importlib import metadata
from pathlib import Path

import batchup

ROOT = Path(__file__).parent.parent


def test_ci_runs_the_commands_of_the_readme():
    commands = re.findall(r'```sh\n(.+?)\n```', (ROOT / 'README.md').read_text())
    assert len(commands) == 2
    for command in commands:
        assert f'\n{command}\n' in (ROOT / '.ci' / 'run').read_text()


def test_run_time_dependencies():
    requirements = [name for name in metadata.requires('batchup') if 'extra ==' not in name]
    assert sorted(re.match(r'\w+', line)[0] for line in requirements) == ['numpy', 'six', 'tqdm']


def test_extras_are_installed_from_a_copy_of_the_repository():
    """Package indexes know another package by the name of this one."""
    paths = [ROOT / 'README.md', *(ROOT / 'docs').rglob('*.md'), *(ROOT / 'batchup').rglob('*.py')]
    text = '\n'.join(path.read_text() for path in paths)
    assert not re.search(r'pip install \S*batchup', text)
    named = re.findall(r"pip install '\.\[(\w+)\]'|installed_by\([\"'](\w+)[\"']\)", text)
    extras = {''.join(names) for names in named}
    assert {'plot', 'ray', 'svhn'} <= extras <= set(metadata.metadata('batchup').get_all('Provides-Extra'))


def test_versions():
    assert metadata.version('batchup') == batchup.__version__ == '1.0.0.dev0'
    assert f'## {batchup.__version__}' in (ROOT / 'CHANGELOG.md').read_text()


def test_the_package_is_typed_and_carries_the_digits():
    package = Path(batchup.__file__).parent
    assert (package / 'py.typed').exists()
    assert (package / 'datasets' / 'digits.npz').stat().st_size < 50_000
