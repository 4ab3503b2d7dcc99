"""Celery's own clients from PyPI, and Flower, see and steer celeriac workers over Redis."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.celery import open_celery
from tests.support.ports import free_port
from tests.support.redis import RedisServer, listens

from celeriac import Celeriac
from celeriac.testing.eventually import eventually

celery = pytest.importorskip("celery")
pytestmark = pytest.mark.service

PROGRAM = """
import time
from celeriac import Celeriac

app = Celeriac("proj", broker="{url}", backend="{url}", set_as_current=False)

@app.task(name="sleep")
def sleep(seconds):
    time.sleep(seconds)
    return seconds
"""


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    with RedisServer(tmp_path / "redis") as server:
        yield server.url(3)


@pytest.fixture
def app(url: str) -> Iterator[Celeriac]:
    with Celeriac("proj", broker=url, backend=url, set_as_current=False) as app:
        yield app


@pytest.fixture
def worker(url: str, app: Celeriac, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    (tmp_path / "tasks.py").write_text(PROGRAM.format(url=url))
    command = [
        sys.executable,
        "-m",
        "celeriac",
        "-A",
        "tasks",
        "worker",
        "-n",
        "w1@here",
        "-c",
        "2",
    ]
    with (tmp_path / "worker.log").open("ab") as log:
        process = subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log)
    try:
        eventually(lambda: bool(app.control.ping(["w1@here"], timeout=0.5)), within=20)
        yield process
    finally:
        process.kill()
        process.wait(10)


def real(url: str, *words: str) -> tuple[int, Any]:
    """Run the `celery` command of PyPI; return its exit code and JSON."""
    code = f"import celery; celery.Celery('c', broker={url!r}).start({list(words)!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    return done.returncode, json.loads(done.stdout.splitlines()[0]) if done.stdout else done.stderr


def test_celery_inspects_and_controls(
    url: str, app: Celeriac, worker: subprocess.Popen[bytes]
) -> None:
    assert real(url, "inspect", "ping", "--json")[1] == {"w1@here": {"ok": "pong"}}
    held = app.send_task("sleep", (60,))
    eventually(lambda: real(url, "inspect", "active", "--json")[1]["w1@here"], within=20)
    (active,) = real(url, "inspect", "active", "--json")[1]["w1@here"]
    assert (active["id"], active["name"], active["args"]) == (held.id, "sleep", [60])
    stats = real(url, "inspect", "stats", "--json")[1]["w1@here"]
    assert stats["pool"]["max-concurrency"] == 2
    grown = real(url, "control", "pool_grow", "1", "--json")
    assert grown == (0, [{"w1@here": {"ok": "pool will grow"}}])
    stats = real(url, "inspect", "stats", "--json", "-d", "w1@here")[1]["w1@here"]
    assert stats["pool"]["max-concurrency"] == 3
    with open_celery("c", broker=url) as other:
        reply = other.control.revoke(held.id, terminate=True, reply=True, limit=1, timeout=5)
        assert reply == [{"w1@here": {"ok": f"terminate: {held.id}"}}]
        eventually(lambda: held.state == "REVOKED")
        late = app.send_task("sleep", (0,), countdown=3600)
        other.control.revoke(late.id)
        eventually(lambda: late.state == "REVOKED")
        assert app.broker.count(["celery"])["celery"].delayed == 0
        assert [order.key for order in app.orders.since(0)[1]] == [held.id, late.id]
        queues = other.control.inspect(timeout=2, limit=1).active_queues()
        assert queues["w1@here"][0]["name"] == "celery"
        assert "sleep" in other.control.inspect(timeout=2, limit=1).registered()["w1@here"]
        other.control.broadcast("no_such", reply=True, timeout=0.5)
        other.control.shutdown(destination=["w1@here"])
    assert worker.wait(20) == 0


def test_flower_sees_and_steers(url: str, worker: subprocess.Popen[bytes], tmp_path: Path) -> None:
    pytest.importorskip("flower")
    port = free_port()
    (tmp_path / "client.py").write_text(
        f"import celery\napp = celery.Celery('c', broker={url!r})\n"
    )
    command = [sys.executable, "-m", "celery", "-A", "client", "flower"]
    command += [f"--port={port}", "--address=127.0.0.1"]
    log = (tmp_path / "flower.log").open("wb")
    environment = {**os.environ, "FLOWER_UNAUTHENTICATED_API": "true"}
    with log:
        flower = subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=log, stderr=log)
    try:
        eventually(lambda: listens(port), within=30)

        def seen() -> Any:
            address = f"http://127.0.0.1:{port}/api/workers?refresh=1"
            with urllib.request.urlopen(address, timeout=20) as answer:
                return json.load(answer)

        eventually(lambda: "w1@here" in seen(), within=30)
        found = seen()["w1@here"]
        assert found["stats"]["pool"]["max-concurrency"] == 2
        assert [queue["name"] for queue in found["active_queues"]] == ["celery"]
        grow = urllib.request.Request(
            f"http://127.0.0.1:{port}/api/worker/pool/grow/w1@here?n=2", data=b"", method="POST"
        )
        with urllib.request.urlopen(grow, timeout=20) as answer:
            assert "Growing" in json.load(answer)["message"]
        assert seen()["w1@here"]["stats"]["pool"]["max-concurrency"] == 4
    finally:
        flower.kill()
        flower.wait(10)


def test_pause_is_kept_on_redis(app: Celeriac, worker: subprocess.Popen[bytes]) -> None:
    app.control.pause("celery", reply=True, timeout=5.0, limit=1)
    result = app.send_task("sleep", (0,))
    assert app.control.paused() == ["celery"]
    assert app.broker.count(["celery"])["celery"].ready == 1
    app.control.resume("celery")
    assert result.get(timeout=10) == 0
