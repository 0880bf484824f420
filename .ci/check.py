"""Run every check, and stop at the first that fails; arguments go to pytest.

In an environment with the package and its development tools:

    python .ci/check.py
"""

import subprocess
import sys
from pathlib import Path

CHECKS = [
    ['ruff', 'format', '--check', '.'],
    ['ruff', 'check', '.'],
    ['mypy'],
    ['sphinx', '--fail-on-warning', '--keep-going', '--nitpicky', '--quiet', '-b', 'html', 'docs', 'docs/_build'],
    ['pytest', '-q', '-n', '2', *sys.argv[1:]],  # in two processes; with less to wait for, -n 0 is faster
]

for command in CHECKS:
    print('+', *command, flush=True)
    result = subprocess.run([sys.executable, '-m', *command], cwd=Path(__file__).parent.parent, check=False)
    if result.returncode:
        sys.exit(f'{command[0]} failed')
