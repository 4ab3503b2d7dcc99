"""The sides of the comparison: a library, and how its tasks are run.

Owns: Side, open_side.
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from celeriac import Celeriac
from tests.compat.canvas_tasks import make_app
from tests.support.celery import close_celery
from tests.support.ports import free_port
from tests.support.project import eventually

ROOT = Path(__file__).parents[2]

PATIENCE = 10.0
"""Seconds after which what should have ended is said to wait for ever."""


class Side:
    """What a behaviour is written against: one library's names, and its tasks."""

    def __init__(self, name: str, notes: Path, **settings: Any) -> None:
        self.name = name
        self.library, _, self.way = name.partition("-")
        self.eager = self.way == "eager"
        self.notes_folder = notes
        package = importlib.import_module(self.library)
        self.chain, self.group, self.chord = package.chain, package.group, package.chord
        self.chunks, self.signature = package.chunks, package.signature
        self.xmap, self.xstarmap = package.xmap, package.xstarmap
        self.package = package
        self.canvas = importlib.import_module(f"{self.library}.canvas")
        self.results = importlib.import_module(f"{self.library}.result")
        self.errors = importlib.import_module(f"{self.library}.exceptions")
        if self.eager:
            settings["task_always_eager"] = True
        self.app, self.t = make_app(self.library, str(notes), **settings)
        self._keys = itertools.count()

    def key(self) -> str:
        """Return a new key for notes."""
        return f"{self.name}-{next(self._keys)}"

    def notes(self, key: str, lines: int) -> list[Any]:
        """Wait until `key` has at least so many notes and return them all, in order."""
        path = self.notes_folder / key

        def read() -> list[Any]:
            return [json.loads(x) for x in path.read_text().splitlines()] if path.exists() else []

        if lines:
            eventually(lambda: len(read()) >= lines, within=PATIENCE, saying=f"{lines} notes")
        return read()

    def settled(self) -> None:
        """Wait until what was sent before has been run, as far as one more task can tell."""
        for result in [self.t.ident.delay(0) for _ in range(4)]:
            result.get(timeout=PATIENCE)

    def outcome(self, result: Any, timeout: float = PATIENCE) -> Any:
        """Wait and return the state with the value, or the error's class and text."""
        try:
            value = result.get(timeout=timeout, propagate=False)
        except self.errors.TimeoutError:
            return ("waits for ever",)
        except Exception as error:  # GroupResult.get raises where AsyncResult does not
            return "raises", type(error).__name__, _plain(error)
        state = getattr(result, "state", None)
        if isinstance(value, BaseException):
            return state, type(value).__name__, _plain(value)
        return state, value

    def raised(self, call: Callable[[], Any]) -> Any:
        """Call and return the name of the exception's class, or what was returned."""
        try:
            return "returned", call()
        except Exception as error:
            return type(error).__name__


def _plain(error: BaseException) -> str:
    """Return an exception's text without the ids in it."""
    return re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "<id>", str(error))


@contextlib.contextmanager
def _redis(folder: Path) -> Iterator[str]:
    import redis

    server = shutil.which("redis-server")
    if server is None:
        if os.environ.get("CI"):
            pytest.fail("redis-server is not installed (tools/servers.sh installs it)")
        pytest.skip("redis-server is not installed")
    port = free_port()
    command = [server, "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    with (folder / "redis.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--dir", str(folder), "--appendonly", "no"],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        client = redis.Redis(port=port)

        def answers() -> bool:
            with contextlib.suppress(redis.ConnectionError):
                return bool(client.info("server")["process_id"] == process.pid)
            return False

        eventually(answers, saying="a Redis server")
        client.close()
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait(10)


@contextlib.contextmanager
def _worker(library: str, folder: Path, notes: Path, broker: str, backend: str) -> Iterator[None]:
    environment = {
        **os.environ,
        "COMPAT_LIBRARY": library,
        "COMPAT_NOTES": str(notes),
        "COMPAT_BROKER": broker,
        "COMPAT_BACKEND": backend,
        "PYTHONPATH": str(ROOT),
    }
    options = ["-l", "INFO", "-P", "prefork", "-c", "4", "-n", "compat@%h"]
    if library == "celery":
        options += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    log = folder / f"{library}-worker.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", library, "-A", "tests.compat.canvas_tasks", "worker", *options],
            cwd=ROOT,
            env=environment,
            stdout=out,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    try:
        eventually(
            lambda: " ready." in log.read_text(errors="replace") or process.poll() is not None,
            saying="a ready worker",
        )
        assert process.poll() is None, log.read_text(errors="replace")
        yield
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 9)
            process.wait(10)


@contextlib.contextmanager
def open_side(name: str, folder: Path) -> Iterator[Side]:
    """Start what a side needs, and end it."""
    notes = folder / "notes"
    notes.mkdir()
    library, _, way = name.partition("-")
    with contextlib.ExitStack() as stack:
        if way == "eager":
            urls = {"broker": "memory://", "backend": "cache+memory://"}
            if library == "celeriac":
                urls["backend"] = "memory://"
        elif way == "redis":
            url = stack.enter_context(_redis(folder))
            urls = {"broker": url, "backend": url}
        elif way == "sqlite":
            url = f"sqlite:///{folder / 'compat.db'}"
            urls = {"broker": url, "backend": url}
        else:
            urls = {"broker": "memory://", "backend": "memory://"}
        side = Side(name, notes, **urls)
        if way in ("redis", "sqlite"):
            stack.enter_context(_worker(library, folder, notes, urls["broker"], urls["backend"]))
        elif way == "memory":
            from celeriac.testing import running_worker

            stack.enter_context(running_worker(side.app, concurrency=4))
        close = close_celery if library == "celery" else Celeriac.close
        stack.callback(close, side.app)
        side.app.set_current()
        yield side
