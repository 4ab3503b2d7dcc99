"""A Django project in a folder of its own, with real processes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.project import Process

SOURCE = Path(__file__).parent / "site"


class Site:
    """A copy of the project: its commands, its processes.

    :param folder: where.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copytree(SOURCE, folder, ignore=shutil.ignore_patterns("__pycache__"))
        self.environ: dict[str, str] = {"PYTHONDONTWRITEBYTECODE": "1"}
        self._processes: list[Process] = []

    def settings(self, **values: Any) -> None:
        """Change settings of Django's."""
        self.environ["TEST_SETTINGS"] = json.dumps(values)

    @property
    def env(self) -> dict[str, str]:
        """The environment of its processes."""
        return {**os.environ, **self.environ}

    def run(self, *command: str, ok: bool = True, timeout: float = 60) -> str:
        """Run a command of Python's in the folder; return what it printed."""
        done = subprocess.run(
            [sys.executable, *command],
            cwd=self.folder,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert (done.returncode == 0) is ok, done.stdout + done.stderr
        return done.stdout if ok else done.stdout + done.stderr

    def manage(self, *words: str, ok: bool = True) -> str:
        """Run `manage.py`."""
        return self.run("manage.py", *words, ok=ok)

    def shell(self, source: str) -> Any:
        """Run a piece of a program in which Django is set up; return the JSON that it prints."""
        head = "import json, os\nos.environ.setdefault('DJANGO_SETTINGS_MODULE', 'shop.settings')\n"
        head += "import django\ndjango.setup()\n"
        printed = self.run("-c", head + textwrap.dedent(source))
        return json.loads(printed) if printed.strip() else None

    def start(self, *command: str) -> Process:
        """Start a command of Python's."""
        log = self.folder / f"process-{len(self._processes)}.log"
        with log.open("wb") as out:
            popen = subprocess.Popen(
                [sys.executable, *command],
                cwd=self.folder,
                env={**self.env, "PYTHONUNBUFFERED": "1"},
                stdout=out,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self._processes.append(Process(popen, log))
        return self._processes[-1]

    def worker(self, *options: str) -> Process:
        """Start a worker by the `celeriac` command, and wait until it takes tasks."""
        return self.start(
            "-m", "celeriac", "-A", "shop", "worker", "-l", "INFO", *options
        ).wait_ready()

    def close(self) -> None:
        """Kill what still runs."""
        for process in self._processes:
            process.kill_group()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """Make the project, its database migrated."""
    made = Site(tmp_path / "site")
    made.manage("migrate", "-v0")
    yield made
    made.close()
