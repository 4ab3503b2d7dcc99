"""Bad days of beat, control and events on a Redis that is killed, written to and not read from."""

from __future__ import annotations

import base64
import datetime as dt
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.project import Process, Project, eventually
from tests.support.redis import RedisServer

pytestmark = pytest.mark.fault

PROGRAM = """
from celeriac.kernel.clock import SystemClock

class Ahead(SystemClock):
    def time(self):
        return super().time() + float(os.environ.get("AHEAD", "0"))

app.clock = Ahead()

@app.task(bind=True, acks_late=False)
def note(self):
    with open(HERE / "ran.txt", "a") as out:
        out.write(self.request.headers["scheduled_for"] + "\\n")

@app.task
def add(x, y):
    return x + y

app.conf.beat_schedule["a"] = {"task": "proj.note", "schedule": 0.5, "misfire": "all"}
app.conf.beat_schedule["broken"] = {"task": "proj.note", "schedule": "no"}
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path / "redis", fsync="always") as server:
        yield server


@pytest.fixture
def project(server: RedisServer, tmp_path: Path) -> Iterator[Project]:
    made = Project(tmp_path, PROGRAM, url=server.url(2), result_backend=server.url(2))
    yield made
    made.close()


def beat(project: Project, ahead: float) -> Process:
    """Start a beat whose clock is `ahead` seconds ahead."""
    log = project.folder / f"beat{ahead:+.0f}.log"
    words = [sys.executable, "-m", "celeriac", "-A", "proj", "beat", "-l", "INFO"]
    with log.open("ab") as out:
        popen = subprocess.Popen(
            words,
            cwd=project.folder,
            env={**os.environ, "AHEAD": str(ahead)},
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    made = Process(popen, log)
    eventually(lambda: "beat: Starting" in made.output(), saying="a beat that runs")
    return made


def ran(project: Project) -> list[float]:
    """Return the ticks that ran."""
    path = project.folder / "ran.txt"
    lines = path.read_text().split() if path.exists() else []
    return [dt.datetime.fromisoformat(line).timestamp() for line in lines]


def test_beats_with_clocks_apart_killed_and_stopped(project: Project, server: RedisServer) -> None:
    project.worker("-P", "threads", "-c", "2")
    beats = [beat(project, 0.0), beat(project, 30.0), beat(project, -30.0)]
    try:

        def more(count: int) -> None:
            seen = len(ran(project))
            eventually(lambda: len(ran(project)) >= seen + count, saying="more ticks")

        more(6)
        assert "an entry is left out" in beats[1].output()
        assert "30.0 s ahead" in beats[1].output()
        beats[0].kill_group()
        more(4)
        beats[1].signal(signal.SIGSTOP)
        more(11)
        beats[1].signal(signal.SIGCONT)
        # The server is killed under all of them, and comes back with what it had promised.
        server.restart()
        more(6)
        beats[2].kill_group()
        more(4)
        assert beats[1].stop() == 0
    finally:
        for one in beats:
            one.kill_group()
    eventually(lambda: project.left() == 0, saying="an empty queue")
    counts = Counter(round(at, 2) for at in ran(project))
    assert {at: n for at, n in counts.items() if n != 1} == {}
    ticks = sorted(counts)
    assert ticks == [pytest.approx(ticks[0] + 0.5 * n, abs=0.02) for n in range(len(ticks))]
    assert abs(ticks[-1] - time.time()) < 20, "the clock of the store is the one that counts"


def frame(body: bytes, **properties: Any) -> bytes:
    """Return a body in kombu's envelope."""
    said = {
        "body": base64.b64encode(body).decode(),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {},
        "properties": {"body_encoding": "base64", **properties},
    }
    return json.dumps(said).encode()


def test_hostile_frames_on_celerys_channel(project: Project, server: RedisServer) -> None:
    worker = project.worker("-P", "threads", "-c", "2", "-n", "w1@here")
    hostile = [
        b"\xff\x00 not json",
        b"[" * 100_000,
        b"{}",
        b'{"body": 3}',
        b'{"body": "***", "properties": {"body_encoding": "base64"}}',
        frame(b"\xff not json"),
        frame(b"[]"),
        frame(b'{"method": 7}'),
        frame(b'{"method": "no_such_command", "arguments": {}}'),
        frame(b'{"method": "revoke", "arguments": {"task_id": {"a": 1}}}'),
        frame(b'{"method": "shutdown", "destination": "w1@here"}'),
        frame(b'{"method": "ping", "arguments": {}, "reply_to": {"exchange": 1}}'),
        frame(b'{"method": "ping", "arguments": {"x": "' + b"x" * 10_000_000 + b'"}}'),
    ]
    for _ in range(3):
        for one in hostile:
            assert server.client.publish("/2.celery.pidbox", one) >= 1
    said = eventually(lambda: project.app.control.ping(["w1@here"], timeout=2.0), within=30)
    assert said == [{"w1@here": {"ok": "pong"}}]
    eventually(lambda: "bytes was dropped" in worker.output(), saying="the largest refused")
    for once in ("bytes was dropped", "no_such_command", "task_id is an id"):
        assert worker.output().count(once) == 1, worker.output()
    assert "Traceback" not in worker.output()
    assert "x" * 600 not in worker.output()
    assert project.send("add", 1, 2).get(timeout=10) == 3


def test_a_consumer_of_events_that_never_reads(project: Project, server: RedisServer) -> None:
    """The server cuts it off at its bound; tasks, and those who do read, notice nothing."""
    server.cli("CONFIG", "SET", "client-output-buffer-limit", "pubsub 8mb 8mb 1")
    worker = project.worker("-P", "threads", "-c", "2", "-E", "-n", "w1@here")
    deaf = socket.create_connection(("127.0.0.1", server.port))
    receiver = project.app.events.Receiver()
    try:
        deaf.sendall(b"PSUBSCRIBE *\r\n")
        eventually(lambda: server.cli("PUBSUB", "NUMPAT"))
        receiver.listen()
        done = 0
        with project.app.batch():
            results = [project.send("add", "x" * 500, str(number)) for number in range(4_000)]
        ends = time.monotonic() + 60
        while done < 4_000 and time.monotonic() < ends:
            done += sum(e["type"] == "task-succeeded" for e in receiver.poll(0.2))
        assert done == 4_000
        assert results[-1].get(timeout=10).endswith("3999")
        assert worker.popen.poll() is None
        assert server.info("memory")["used_memory"] < 100_000_000
    finally:
        receiver.close()
        deaf.close()
