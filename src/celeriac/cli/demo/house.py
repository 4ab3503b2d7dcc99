"""The demo's surroundings: a folder that goes away, a fresh SQLite file, a worker process.

Owns: House.  Thread rule: main thread.  May import: the standard library, cli.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from celeriac.cli.parent import MARK

CHILDREN = 2
PATIENCE = 15.0
"""Seconds that the worker gets to end."""


class House:
    """A worker of two processes on a file of its own; leaves nothing behind."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="celeriac-demo-")
        self.folder = Path(self._folder.name)
        self.url = f"sqlite:///{self.folder / 'demo.db'}"
        self._log = self.folder / "worker.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the worker: the very command that a user would type."""
        words = [
            *("-A", "celeriac.cli.demo.tasks", "-b", self.url, "--result-backend", self.url),
            *("worker", "-q", "-P", "prefork", "-c", str(CHILDREN), "-n", "demo@%h", "-l", "INFO"),
        ]
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("CELERIAC_", "CELERY_"))  # the user's own settings
        }
        environment[MARK] = str(os.getpid())
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "celeriac", *words],
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # A Ctrl-C is for the demo, which then ends the worker in good order.
                start_new_session=True,
            )

    def alive(self) -> bool:
        """Tell whether the worker runs."""
        return self._process is not None and self._process.poll() is None

    def log(self) -> str:
        """Return the end of what the worker wrote."""
        try:
            return "\n".join(self._log.read_text(errors="replace").splitlines()[-30:])
        except OSError:
            return ""

    def close(self) -> bool:
        """End the worker and remove the folder; tell whether it ended by itself, with code 0."""
        good = False
        process = self._process
        if process is not None:
            if process.poll() is None:
                process.terminate()
            try:
                good = process.wait(PATIENCE) == 0
            except subprocess.TimeoutExpired:
                pass
            try:
                os.killpg(process.pid, signal.SIGKILL)  # whatever is left of it
            except ProcessLookupError:
                pass
            process.wait()
        self._folder.cleanup()
        return good
