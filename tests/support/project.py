"""A user's project in a folder, with real worker processes that can be killed.

Owns: Project, Process, eventually.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from celeriac import Celeriac
from tests.support.processes import below, parent_of

T = TypeVar("T")


def eventually(
    condition: Callable[[], T], *, within: float = 30.0, step: float = 0.02, saying: str = ""
) -> T:
    """Wait until `condition` is true and return what it gave.

    :param within: seconds after which the test fails, with what `saying` names.
    """
    ends = time.monotonic() + within
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > ends:
            raise AssertionError(f"not within {within} s: {saying or condition}")
        time.sleep(step)


class Process:
    """A worker, in a process group of its own, with its output in a file."""

    def __init__(self, popen: subprocess.Popen[bytes], log: Path) -> None:
        self.popen, self.log = popen, log
        self.pid = popen.pid

    def output(self) -> str:
        """Return what it has printed."""
        return self.log.read_text(errors="replace")

    def wait_ready(self, within: float = 30.0) -> Process:
        """Wait until it takes tasks."""
        eventually(
            lambda: " ready." in self.output() or self.popen.poll() is not None,
            within=within,
            saying="a ready worker",
        )
        assert self.popen.poll() is None, self.output()
        return self

    def children(self) -> list[int]:
        """Return the processes that run tasks: those below it that have none below them.

        Where the pool is about to begin that is the zygote; never the keeper, which is essential.
        """
        found = below(self.pid)
        spared = {parent_of(pid) for pid in found} | set(below(self.pid, 1))
        return [pid for pid in found if pid not in spared]

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self.popen.send_signal(number)

    def kill_group(self) -> None:
        """SIGKILL the worker and everything below it at once."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.popen.wait(10)

    def stop(self, within: float = 30.0) -> int:
        """Ask it to end, and wait."""
        if self.popen.poll() is None:
            self.popen.terminate()
        return self.popen.wait(within)


class Project:
    """A folder with a module of tasks and the app that it makes.

    :param folder: where; the SQLite file lies there too.
    :param source: the module's text; it finds `app` made and `HERE`, the folder.
    :param url: the broker; a SQLite file in the folder where it is empty.
    :param settings: of the app, here and in the workers.
    """

    def __init__(
        self, folder: Path, source: str, *, name: str = "proj", url: str = "", **settings: Any
    ) -> None:
        self.folder, self.name = folder, name
        self.url = url or f"sqlite:///{folder / 'queue.db'}"
        self._workers: list[Process] = []
        head = f"""\
            import os, pathlib, signal, sys, time
            from celeriac import Celery
            HERE = pathlib.Path({str(folder)!r})
            app = Celery({name!r}, broker={self.url!r}, **{settings!r})
            """
        text = textwrap.dedent(head) + textwrap.dedent(source)
        (folder / f"{name}.py").write_text(text)
        self.app = Celeriac(name, broker=self.url, set_as_current=False, **settings)

    def send(self, task: str, *args: Any, **options: Any) -> Any:
        """Send a task by its name in the module."""
        return self.app.send_task(f"{self.name}.{task}", args, **options)

    def worker(self, *options: str, ready: bool = True, level: str = "INFO") -> Process:
        """Start a worker of the project."""
        log = self.folder / f"worker-{len(self._workers)}.log"
        command = [
            sys.executable,
            "-m",
            "celeriac",
            "-A",
            self.name,
            "worker",
            "-l",
            level,
            *options,
        ]
        with log.open("wb") as out:
            popen = subprocess.Popen(
                command,
                cwd=self.folder,
                stdout=out,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        worker = Process(popen, log)
        self._workers.append(worker)
        return worker.wait_ready() if ready else worker

    def left(self) -> int:
        """Return how many messages are in the queues, held ones included."""
        counts = self.app.broker.count(()).values()
        return sum(count.ready + count.delayed + count.held for count in counts)

    def close(self) -> None:
        """Kill what still runs."""
        for worker in self._workers:
            worker.kill_group()
        self.app.close()
