"""Imports go down the layers of the design, and `import batchup` stays light."""

import ast
import importlib
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

import batchup
from batchup import _pools
from batchup.data_source import AbstractDataSource

PACKAGE = Path(batchup.__file__).parent

# From top to bottom, a room in each row, with what users import of it. A module may import modules of its own
# room, and of rows below.
LAYERS = {
    'top': ['__init__', '__main__', '_cli'],
    'data': ['datasets'],
    'pools': ['work_pool', '_pools'],
    'sources': ['data_source', '_sources'],
    'arrays': ['arrays', '_arrays'],
    'streams': ['_streams'],
    'samplers': ['sampling', 'splits', '_samplers'],
    'plans': ['_plans'],
    'files': ['config', '_files'],
    'ground': ['padding', 'image', 'errors', '_ground'],
}
RANK = {name: rank for rank, names in enumerate(LAYERS.values()) for name in names}


def modules():
    """Map the name of every module to its file."""
    names = {}
    for path in sorted(PACKAGE.rglob('*.py')):
        parts = path.relative_to(PACKAGE).with_suffix('').parts
        names['.'.join(parts)] = path
    return names


def imports_of(name, path):
    """Return the modules of the package that a module imports anywhere, except for annotations."""
    package = name.split('.')[:-1]
    tree = ast.parse(path.read_text())
    only_types = {
        node
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If) and 'TYPE_CHECKING' in ast.dump(branch.test)
        for statement in branch.body
        for node in ast.walk(statement)
    }
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition('batchup.')[2] for alias in node.names if alias.name.startswith('batchup.')}
        elif isinstance(node, ast.ImportFrom) and node not in only_types:
            module = (node.module or '').split('.') if node.module else []
            if not node.level and module[0] != 'batchup':
                continue
            base = package[: len(package) - node.level + 1] + module if node.level else module[1:]
            found |= {'.'.join([*base, alias.name]) for alias in node.names} | {'.'.join(base)}
    return {target for target in found if target in MODULES or f'{target}.__init__' in MODULES}


MODULES = modules()


@pytest.fixture(scope='module')
def graph():
    """What each module imports."""
    return {name: imports_of(name, path) for name, path in MODULES.items()}


def rank(name):
    return RANK[name.split('.')[0]]


def test_every_module_has_a_layer():
    assert {name for name in MODULES if name.split('.')[0] not in RANK} == set()


def test_the_graph_is_found(graph):
    assert {'_streams.stream', '_ground.indices', '_plans.options'} <= {
        target for targets in graph.values() for target in targets
    }
    assert '_sources.base' in graph['_sources.arrays']


@pytest.mark.parametrize(
    'statement',
    [
        'import batchup._streams.stream',
        'from batchup._streams import stream',
        'from batchup._streams.stream import Stream',
        'from .._streams import stream',
        'from .._streams.stream import Stream',
        'def f():\n    from batchup._streams.stream import Stream',
    ],
)
def test_every_form_of_import_is_found(tmp_path, statement):
    (tmp_path / 'module.py').write_text(statement)
    assert '_streams.stream' in imports_of('_sources.module', tmp_path / 'module.py')


def test_the_picture_in_the_docs_shows_the_layers():
    picture = (PACKAGE.parent / 'docs' / 'layers.svg').read_text()
    shown = {}
    for name, modules in re.findall(r'class="name"[^>]*>(\w+)<.*?class="modules"[^>]*>([^<]+)<', picture, re.DOTALL):
        shown[name] = {module.split('.')[0].rstrip(':') for module in modules.split()}
    assert shown == {layer: set(names) for layer, names in LAYERS.items()}


def test_the_way_of_a_batch_names_calls_that_there_are():
    found = {'source': AbstractDataSource}
    for name in MODULES:
        if name != '__main__':
            found.update(vars(importlib.import_module(f'batchup.{name}'.removesuffix('.__init__'))))
    calls = re.findall(r'\b(_?[A-Z]\w+|source)\.(\w+)', _pools.__doc__)
    assert len(calls) > 20
    assert [call for call in calls if not hasattr(found[call[0]], call[1])] == []


def test_imports_go_down(graph):
    imports = [(name, target) for name, targets in graph.items() for target in targets if target]
    assert [(name, target) for name, target in imports if rank(target) < rank(name)] == []


def rooms(graph):
    """Map every top-level name to those that its modules import."""
    found = defaultdict(set)
    for name, targets in graph.items():
        found[name.split('.')[0]] |= {target.split('.')[0] for target in targets if target}
    return found


@pytest.mark.parametrize('of', [dict, rooms], ids=['modules', 'rooms'])
def test_imports_have_no_cycle(graph, of):
    left = {name.removesuffix('.__init__'): set(targets) for name, targets in of(graph).items()}
    while left:
        free = [name for name, targets in left.items() if not (targets & left.keys()) - {name}]
        assert free, f'a cycle among {sorted(left)}'
        for name in free:
            del left[name]


def fresh(code):
    """Run code in a fresh interpreter; return what it prints."""
    result = subprocess.run([sys.executable, '-W', 'error', '-c', code], capture_output=True, text=True, check=True)
    return result.stdout.split()


# multiprocessing gives the main module a second name.
ALLOWED = {*sys.stdlib_module_names, 'numpy', 'batchup', 'six', '__mp_main__'}


def test_no_other_library_is_loaded():
    code = """
import batchup, batchup.data_source, batchup.sampling, batchup.image.utils
from batchup.datasets.digits import Digits; Digits()
[getattr(batchup, name) for name in batchup.__all__]
batchup.ArrayDataSource([numpy.arange(9)]).batch_map_concat(lambda x: x, 4, shuffle=3)
"""
    found = fresh(f'import sys, numpy.random; before = set(sys.modules); {code}print(*(set(sys.modules) - before))')
    assert {name.split('.')[0] for name in found} <= ALLOWED


def test_import_batchup_loads_nothing_of_it():
    found = fresh('import batchup, sys; print(*(name for name in sys.modules if name.startswith("batchup.")))')
    assert found == []


def test_everyday_names_are_offered():
    for name in batchup.__all__:
        assert getattr(batchup, name) is not None
    assert set(batchup.__all__) <= set(dir(batchup))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'batchup' has no attribute 'nonsense'"):
        batchup.nonsense  # noqa: B018
