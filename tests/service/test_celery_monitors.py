"""Celery's own monitors beside workers of celeriac on one Redis: `celery events`, its State, Flower."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery.events.state import State
from tests.support.celery import open_celery
from tests.support.ports import free_port
from tests.support.project import Project, eventually
from tests.support.redis import RedisServer

pytestmark = pytest.mark.service

SOURCE = """
app.conf.task_send_sent_event = True

@app.task
def add(x, y):
    return x + y

@app.task
def fail():
    raise ValueError("out of paper")
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """Run a Redis server of the test's own; give its URL."""
    with RedisServer(tmp_path / "redis") as server:
        yield server.url(3)


@pytest.fixture
def running(server: str, tmp_path: Path) -> Iterator[Project]:
    made = Project(tmp_path, SOURCE, url=server)
    try:
        made.worker("-c", "2", "-E", "-n", "w1@here", "--heartbeat-interval", "0.5")
        yield made
    finally:
        made.close()


class Monitor:
    """A program of Celery's, killed at the end."""

    def __init__(self, folder: Path, *words: str) -> None:
        self._log = folder / "monitor.log"
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONWARNINGS": "ignore"}
        environment["FLOWER_UNAUTHENTICATED_API"] = "true"
        with self._log.open("wb") as out:
            self._popen = subprocess.Popen(
                [sys.executable, "-m", *words],
                cwd=folder,
                env=environment,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def output(self) -> str:
        """Return what it printed."""
        assert self._popen.poll() is None, self._log.read_text()
        return self._log.read_text()

    def __enter__(self) -> Monitor:
        return self

    def __exit__(self, *error: object) -> None:
        os.killpg(self._popen.pid, signal.SIGKILL)
        self._popen.wait(10)


def test_celery_events_dump(running: Project, server: str, tmp_path: Path) -> None:
    with Monitor(tmp_path, "celery", "-b", server, "events", "--dump") as monitor:
        eventually(lambda: "w1@here" in monitor.output(), saying="a heartbeat")
        result = running.send("add", 1, 2)
        for said in ("received", "started", "succeeded"):
            eventually(
                lambda said=said: f"task {said}: proj.add({result.id})" in monitor.output(),
                saying=said,
            )
        assert "result=3" in monitor.output()
        assert "args=[1, 2]" in monitor.output()


def test_celerys_picture_of_a_fleet(running: Project, server: str) -> None:
    state = State()
    heard: list[str] = []

    def take(event: dict[str, Any]) -> None:
        state.event(event)
        heard.append(event["type"])

    with open_celery("monitor", broker=server) as app, app.connection() as connection:
        receiver = app.events.Receiver(connection, handlers={"*": take})
        thread = threading.Thread(
            target=receiver.capture, kwargs={"wakeup": False, "timeout": 60}, daemon=True
        )
        thread.start()
        eventually(lambda: "worker-heartbeat" in heard)
        good, bad = running.send("add", 1, 2), running.send("fail")
        eventually(lambda: {"task-succeeded", "task-failed"} <= set(heard))
        running.send("add", 3, 4)
        receiver.should_stop = True
        thread.join(20)
    worker = state.workers["w1@here"]
    assert worker.alive
    assert (worker.sw_ident, worker.freq) == ("celeriac", 0.5)
    done, failed = state.tasks[good.id], state.tasks[bad.id]
    assert (done.state, done.name, done.args, done.result) == ("SUCCESS", "proj.add", "[1, 2]", "3")
    assert done.runtime >= 0
    assert done.worker is worker
    assert (failed.state, failed.exception) == ("FAILURE", "ValueError('out of paper')")
    assert "raise ValueError" in failed.traceback
    assert abs(done.timestamp - time.time()) < 60


def test_flower(running: Project, server: str, tmp_path: Path) -> None:
    pytest.importorskip("flower")
    port = free_port()
    url = f"http://127.0.0.1:{port}"

    def get(path: str) -> Any:
        try:
            with urllib.request.urlopen(url + path, timeout=5) as answer:
                return json.load(answer)
        except OSError:
            return None

    words = ("flower", "--address=127.0.0.1", f"--port={port}")
    with Monitor(tmp_path, "celery", "-b", server, *words):
        eventually(lambda: get("/api/tasks") is not None, saying="flower")

        def one_that_ended() -> Any:
            # It answers before it listens: send until it has seen one to its end.
            running.send("add", 1, 2)
            found = (get("/api/tasks") or {}).values()
            return next((task for task in found if task["state"] == "SUCCESS"), None)

        task = eventually(one_that_ended, step=0.3)
        assert (task["name"], task["args"], task["result"]) == ("proj.add", "[1, 2]", "3")
        assert task["worker"] == "w1@here"


CELERY = """
import celery

app = celery.Celery("old", broker={url!r}, backend={url!r})

@app.task(name="old.add")
def add(x, y):
    return x + y
"""


def test_celerys_workers_are_heard_too(running: Project, server: str, tmp_path: Path) -> None:
    (tmp_path / "old.py").write_text(CELERY.format(url=server))
    words = ("-A", "old", "worker", "-E", "-n", "old@here", "-P", "solo", "-Q", "old", "-lINFO")
    heard: list[dict[str, Any]] = []
    receiver = running.app.events.Receiver()
    receiver.listen()

    def kinds(host: str) -> list[str]:
        heard.extend(receiver.poll(0.1))
        return [event["type"] for event in heard if event["hostname"] == host]

    try:
        with (
            Monitor(tmp_path, "celery", *words) as worker,
            open_celery("c", broker=server) as sender,
        ):
            eventually(lambda: "ready." in worker.output(), saying="a worker of Celery's")
            sender.send_task("old.add", (1, 2), queue="old")
            eventually(lambda: "task-succeeded" in kinds("old@here"))
            own = running.send("add", 3, 4)
            eventually(lambda: "task-succeeded" in kinds("w1@here"))
            top = [sys.executable, "-m", "celeriac", "-A", running.name, "top", "--json", "-i", "4"]
            seen = json.loads(subprocess.check_output(top, cwd=tmp_path, timeout=60))
    finally:
        receiver.close()
    theirs = {e["type"] for e in heard if e["hostname"] == "old@here"}
    assert {"worker-online", "task-received", "task-started"} <= theirs
    (done,) = [e for e in heard if (e["hostname"], e["type"]) == ("old@here", "task-succeeded")]
    assert done["result"] == "3"
    # celeriac's own are repeated for Celery's monitors, and heard once all the same.
    times = [e["type"] for e in heard if e.get("uuid") == own.id and e["hostname"] == "w1@here"]
    assert sorted(times) == ["task-received", "task-started", "task-succeeded"]
    assert {"old@here", "w1@here"} <= {worker["worker"] for worker in seen["workers"]}
