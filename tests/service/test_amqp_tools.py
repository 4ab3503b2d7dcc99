"""Over RabbitMQ: the process pool, remote control, beat, and Celery's own tools beside them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.celery import open_celery
from tests.support.ports import free_port
from tests.support.rabbitmq import RabbitMQ

from celeriac import Celeriac
from celeriac.testing.eventually import eventually

celery = pytest.importorskip("celery")
pytest.importorskip("celeriac.drivers.amqp")
pytestmark = [pytest.mark.service, pytest.mark.timeout(150)]

PROGRAM = """
from celeriac import Celeriac

app = Celeriac("proj", broker={url!r}, backend="rpc://", set_as_current=False)
app.conf.beat_schedule = {{"tick": {{"task": "tick", "schedule": 0.5}}}}

@app.task(name="add")
def add(x, y):
    return x + y

@app.task(name="tick")
def tick():
    with open("ticks", "a") as file:
        file.write(".")
"""


@pytest.fixture(scope="module")
def url(rabbitmq: RabbitMQ) -> str:
    return rabbitmq.vhost("tools")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, url: str) -> Path:
    found = tmp_path_factory.mktemp("tools")
    (found / "tasks.py").write_text(PROGRAM.format(url=url))
    return found


@pytest.fixture
def app(url: str) -> Iterator[Celeriac]:
    with Celeriac("proj", broker=url, backend="rpc://", set_as_current=False) as app:
        yield app


def run(folder: Path, *words: str, **environment: str) -> subprocess.Popen[bytes]:
    """Start a program in the project's folder; what it says is in `<first word>.log`."""
    with (folder / f"{words[0]}.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", *words],
            cwd=folder,
            env={**os.environ, **environment},
            stdout=log,
            stderr=log,
        )


@pytest.fixture(scope="module")
def worker(url: str, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a worker of two processes with beat in it."""
    words = ("worker", "-P", "prefork", "-c", "2", "-B", "-E", "-n", "w1@here")
    process = run(folder, "celeriac", "-A", "tasks", *words, "--heartbeat-interval", "0.5")
    try:
        with Celeriac("ping", broker=url, set_as_current=False) as app:
            eventually(lambda: bool(app.control.ping(["w1@here"], timeout=0.5)), within=40)
        yield process
        process.terminate()
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait(10)


@pytest.mark.usefixtures("worker")
def test_our_control_and_beat(app: Celeriac, folder: Path) -> None:
    assert app.send_task("add", (1, 2)).get(timeout=20) == 3
    assert app.control.inspect(timeout=5, limit=1).active_queues()["w1@here"][0]["name"] == "celery"
    assert app.control.pool_grow(1, ["w1@here"], reply=True, timeout=5, limit=1) == [
        {"w1@here": {"ok": "pool will grow"}}
    ]
    # A revocation of what waits: it is stopped when the worker meets it.
    late = app.send_task("add", (1, 1), countdown=3)
    app.control.revoke(late.id)
    eventually(lambda: (folder / "ticks").exists() and len((folder / "ticks").read_text()) > 2)
    eventually(lambda: late.state == "REVOKED", within=20)


@pytest.mark.usefixtures("worker")
def test_celery_inspects_and_hears(app: Celeriac, url: str) -> None:
    code = f"import celery; celery.Celery('c', broker={url!r}).start(['inspect', 'ping', '--json'])"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=60
    )
    assert json.loads(done.stdout.splitlines()[0]) == {"w1@here": {"ok": "pong"}}, done.stderr
    heard: list[dict[str, Any]] = []
    with open_celery("c", broker=url) as theirs:
        stats = theirs.control.inspect(timeout=5, limit=1).stats()["w1@here"]
        assert stats["pool"]["max-concurrency"] >= 2
        with theirs.connection() as connection:
            receiver = theirs.events.Receiver(connection, handlers={"*": heard.append})
            thread = threading.Thread(
                target=receiver.capture, kwargs={"wakeup": False, "timeout": 60}, daemon=True
            )
            thread.start()
            eventually(lambda: any(one["type"] == "worker-heartbeat" for one in heard))
            result = app.send_task("add", (1, 2))
            eventually(
                lambda: (
                    {"task-received", "task-started", "task-succeeded"}
                    <= {one["type"] for one in heard if one.get("uuid") == result.id}
                )
            )
            receiver.should_stop = True
            app.send_task("add", (1, 2))
            thread.join(20)


@pytest.mark.usefixtures("worker")
def test_flower_sees_it(app: Celeriac, url: str, folder: Path) -> None:
    pytest.importorskip("flower")
    port = free_port()
    words = ("-b", url, "flower", "--address=127.0.0.1", f"--port={port}")
    flower = run(folder, "celery", *words, FLOWER_UNAUTHENTICATED_API="true")

    def get(path: str) -> Any:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
                return json.load(answer)
        except OSError:
            return None

    try:
        eventually(lambda: get("/api/tasks") is not None, within=60)

        def one_that_ended() -> Any:
            app.send_task("add", (1, 2))
            found = (get("/api/tasks") or {}).values()
            return next((one for one in found if one["state"] == "SUCCESS" and one["args"]), None)

        assert eventually(one_that_ended, within=40)["worker"] == "w1@here"
        workers = eventually(lambda: get("/api/workers?refresh=1"), within=20)
        assert workers["w1@here"]["active_queues"][0]["name"] == "celery"
    finally:
        flower.kill()
        flower.wait(10)
