"""One of the examples in a folder of its own: its commands, its processes, its pages.

Owns: Example, Web.  May import: httpx, and what tests use.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

from tests.support.ports import free_port
from tests.support.project import Process, eventually

EXAMPLES = Path(__file__).parents[2] / "examples"
BIN = Path(sys.executable).parent

_databases: dict[str, bytes] = {}
"""A migrated database of each example, empty."""


class Web:
    """A site that is served by a process, and a client that keeps cookies as a browser does.

    :param process: what serves it.
    :param url: where, without a path.
    """

    def __init__(self, process: Process, url: str) -> None:
        self.process, self.url = process, url
        self.client = httpx.Client(base_url=url, timeout=60, follow_redirects=True, trust_env=False)

    def answers(self) -> bool:
        """Return whether anything comes back from its first page."""
        assert self.process.popen.poll() is None, self.process.output()
        try:
            self.client.get("/", timeout=10)
        except httpx.TransportError:
            return False
        return True

    def get(self, path: str = "/", **options: Any) -> httpx.Response:
        """Return a page."""
        return self.client.get(path, **options)

    def submit(self, path: str, fields: dict[str, Any] | None = None, *, page: str = "") -> Any:
        """Send a form as a browser does: look at its page first, and send the token back.

        :param path: where the form goes to.
        :param fields: what is filled in.
        :param page: where the form is, if elsewhere.
        """
        self.client.get(page or path)
        token = self.client.cookies.get("csrftoken", "")
        return self.client.post(path, data={**(fields or {}), "csrfmiddlewaretoken": token})

    def close(self) -> None:
        """Close the client's connections; the process goes on."""
        self.client.close()


class Example:
    """A copy of `examples/NAME`; what it starts is killed at the end.

    :param folder: where the copy is made.
    :param name: which one.
    :param environ: variables for its processes, beside those of the tests.
    """

    def __init__(self, folder: Path, name: str, **environ: str) -> None:
        self.folder, self.name = folder / name, name
        unwanted = shutil.ignore_patterns("__pycache__", "*.sqlite3*", ".venv")
        shutil.copytree(EXAMPLES / name, self.folder, ignore=unwanted)
        self.environ = {
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "PYTHONUNBUFFERED": "1",
            # Without compiled files, which uv does not make, Django takes three times as long to start.
            "PYTHONDONTWRITEBYTECODE": "",
            **environ,
        }
        self._processes: list[Process] = []
        self._webs: list[Web] = []

    @property
    def env(self) -> dict[str, str]:
        """The whole environment of its processes."""
        return {**os.environ, **self.environ}

    # -- commands -------------------------------------------------------------------------------

    def run(self, *words: str, ok: bool = True, timeout: float = 60) -> str:
        """Run a command to its end; return what it printed, errors too where it is to fail."""
        done = subprocess.run(
            words,
            cwd=self.folder,
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert (done.returncode == 0) is ok, f"{words}\n{done.stdout}{done.stderr}"
        return done.stdout if ok else done.stdout + done.stderr

    def manage(self, *words: str, ok: bool = True) -> str:
        """Run `manage.py`."""
        return self.run(sys.executable, "manage.py", *words, ok=ok)

    def migrate(self) -> None:
        """Make the SQLite database; the second time it is a copy of the first one's."""
        file = self.folder / "db.sqlite3"
        if self.name not in _databases:
            self.manage("migrate", "-v0")
            _databases[self.name] = file.read_bytes()
        file.write_bytes(_databases[self.name])

    # -- processes ------------------------------------------------------------------------------

    def start(self, *words: str) -> Process:
        """Start a command and leave it running."""
        log = self.folder / f"process-{len(self._processes)}.log"
        with log.open("wb") as out:
            popen = subprocess.Popen(
                words,
                cwd=self.folder,
                env=self.env,
                stdout=out,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self._processes.append(Process(popen, log))
        return self._processes[-1]

    def celeriac(self, *words: str) -> Process:
        """Start a command of celeriac's, as `celeriac -A NAME worker`, and leave it running."""
        return self.start(sys.executable, "-m", "celeriac", *words)

    def worker(self, *options: str, app: str = "") -> Process:
        """Start a worker and wait until it takes tasks."""
        words = ("-A", app or self.name, "worker", "-l", "INFO", *options)
        return self.celeriac(*words).wait_ready()

    def serve(self, **environ: str) -> Web:
        """Start `manage.py runserver` on a free port and wait until it answers.

        :param environ: variables of this process only.
        """
        port, kept = free_port(), dict(self.environ)
        self.environ |= environ
        address = f"127.0.0.1:{port}"
        process = self.start(sys.executable, "manage.py", "runserver", "--noreload", address)
        self.environ = kept
        web = Web(process, f"http://{address}")
        self._webs.append(web)
        eventually(web.answers, within=60, saying="an answer of the site")
        return web

    def close(self) -> None:
        """Kill what still runs."""
        for web in self._webs:
            web.close()
        for process in self._processes:
            process.kill_group()

    def __enter__(self) -> Example:
        """Return it."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End it."""
        self.close()


Make = Callable[..., Example]
"""How the fixture `example` is called: `example("feedback", REDIS_URL=...)`."""
