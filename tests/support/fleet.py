"""One Redis, Celery's processes and celeriac's: the same tasks on both sides.

Owns: Fleet.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import celery

from celeriac import Celeriac
from tests.support.celery import close_celery
from tests.support.project import Process, eventually
from tests.support.redis import RedisServer

TASKS = """
import os, pathlib, time
HERE = pathlib.Path({folder!r})
app = Celery("fleet", broker={url!r}, backend={url!r})
app.conf.update({settings!r})

def note(name, text):
    with open(HERE / name, "a") as out:
        out.write(f"{{SIDE}} {{text}}\\n")

@app.task(name="fleet.add")
def add(x, y):
    return x + y

@app.task(name="fleet.side")
def side(n=0):
    note("ran", n)
    return SIDE

@app.task(name="fleet.slow")
def slow(n, seconds):
    note("begun", n)
    time.sleep(seconds)
    note("ran", n)
    return n

@app.task(name="fleet.total")
def total(numbers):
    return sum(numbers)

@app.task(name="fleet.fail")
def fail(text):
    raise ValueError(text)

@app.task(name="fleet.told")
def told(failed_id):
    note("told", failed_id)

@app.task(name="fleet.headers", bind=True)
def headers(self):
    r = self.request
    return {{
        "side": SIDE, "id": r.id, "root_id": r.root_id, "parent_id": r.parent_id, "group": r.group,
        "retries": r.retries, "mine": getattr(r, "mine", None) or (r.headers or {{}}).get("mine"),
    }}

@app.task(name="fleet.flaky", bind=True, max_retries=5)
def flaky(self, times):
    note("flaky", self.request.retries)
    if self.request.retries < times:
        raise self.retry(countdown=0.2)
    return self.request.retries
"""


class Fleet:
    """Producers in this process, workers in their own."""

    def __init__(self, server: RedisServer, folder: Path, **settings: Any) -> None:
        self.server, self.folder, self.client = server, folder, server.client
        self._workers: list[Process] = []
        for side, head in (
            ("celery", "from celery import Celery"),
            ("celeriac", "from celeriac import Celery"),
        ):
            body = textwrap.dedent(TASKS).format(
                folder=str(folder), url=server.url(), settings=settings
            )
            (folder / f"{side}_side.py").write_text(f"SIDE = {side!r}\n{head}\n{body}")
        self.celery = celery.Celery(
            "fleet", broker=server.url(), backend=server.url(), set_as_current=False
        )
        self.celeriac = Celeriac(
            "fleet", broker=server.url(), backend=server.url(), set_as_current=False
        )
        self.celery.conf.update(settings)
        self.celeriac.conf.update(settings)

    def _start(self, side: str, *options: str) -> Process:
        log = self.folder / f"{side}-{len(self._workers)}.log"
        with log.open("wb") as out:
            popen = subprocess.Popen(
                [sys.executable, "-m", side, "-A", f"{side}_side", "worker", "-l", "INFO", *options],
                cwd=self.folder, stdout=out, stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        worker = Process(popen, log)
        self._workers.append(worker)
        return worker.wait_ready(60)

    def celery_worker(self, *options: str) -> Process:
        """Start a real Celery worker."""
        name = f"celery{len(self._workers)}@here"
        return self._start("celery", "-P", "threads", "-c", "2", "-n", name, *options)

    def celeriac_worker(self, *options: str) -> Process:
        """Start a celeriac worker."""
        return self._start("celeriac", "-c", "2", *(options or ("-P", "threads")))

    def notes(self, name: str = "ran") -> list[list[str]]:
        """Return what tasks have noted: the side and the text."""
        path = self.folder / name
        return (
            [line.split(" ", 1) for line in path.read_text().splitlines()] if path.exists() else []
        )

    def send(self, task: str, *args: Any, **options: Any) -> Any:
        """Send from the Celery side."""
        return self.celery.send_task(f"fleet.{task}", args, **options)

    def waiting(self) -> int:
        """Return how many messages are anywhere: in lists, held, or put aside."""
        lists = sum(self.client.llen(key) for key in self.client.scan_iter("celery*", _type="list"))
        aside = int(self.client.hlen("{celeriac}:cm")) + int(self.client.hlen("unacked"))
        return lists + aside + int(self.client.hlen("{celeriac}:m"))

    def drained(self) -> None:
        """Wait until no message is anywhere."""
        eventually(lambda: not self.waiting(), within=60, saying="an end of all messages")

    def close(self) -> None:
        """Kill what still runs."""
        for worker in self._workers:
            worker.kill_group()
        self.celeriac.close()
        close_celery(self.celery)
