"""Scripts that run in processes of their own."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import psutil

from .waiting import PATIENCE, until

# Scripts.


class Script:
    """A script that runs in a session of its own, so that all its processes are known.

    Parameters
    ----------
    folder : where its file goes; `None` for one that is given to `python -c`
    text : the script
    *arguments : of the script
    """

    def __init__(self, folder: Any, text: str, *arguments: str, interpreter: tuple[str, ...] = ()) -> None:
        text = textwrap.dedent(text)
        command = [sys.executable, '-u', *interpreter]
        if folder is None:
            command += ['-c', text]
        else:
            path = Path(folder) / 'script.py'
            path.write_text(text)
            command.append(str(path))
        self.process = subprocess.Popen(
            [*command, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, 'PYTHONWARNINGS': 'default'},
        )
        self.out = self.err = ''

    def wait_for_line(self, text: str) -> None:
        """Wait until the script prints a line."""
        assert self.process.stdout is not None
        timer = threading.Timer(30, self.kill_all)
        timer.start()
        for line in self.process.stdout:
            if line.strip() == text:
                timer.cancel()
                return
        timer.cancel()
        raise AssertionError(f'the script ended before it printed {text!r}:\n{self.finish()[2]}')

    def finish(self, stdin: str | None = None, seconds: float = 90.0) -> tuple[int, str, str]:
        """Return the exit code, what was printed, and the errors."""
        try:
            self.out, self.err = self.process.communicate(stdin, timeout=seconds)
        except subprocess.TimeoutExpired:
            self.kill_all()
            self.out, self.err = self.process.communicate(timeout=seconds)
            raise AssertionError(f'the script hangs:\n{self.out}\n{self.err}') from None
        return self.process.returncode, self.out, self.err

    def processes(self) -> list[psutil.Process]:
        """Return all processes of the session of the script."""
        found = []
        for process in psutil.process_iter():
            try:
                if os.getsid(process.pid) == self.process.pid and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (ProcessLookupError, psutil.NoSuchProcess):
                pass
        return found

    def leaves_nothing(self, seconds: float = PATIENCE) -> bool:
        """Wait until no process of the script is there any more; end those that stay."""
        gone = until(lambda: not self.processes(), seconds)
        self.kill_all()
        return gone

    def kill_all(self) -> None:
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


def run_script(folder: Any, text: str, *arguments: str, stdin: str | None = None) -> tuple[int, str, str]:
    """Run a script to its end; return the exit code, what it printed, and its errors."""
    script = Script(folder, text, *arguments)
    try:
        result = script.finish(stdin)
        assert script.leaves_nothing(), 'processes of the script are left'
    finally:
        script.kill_all()
    return result
