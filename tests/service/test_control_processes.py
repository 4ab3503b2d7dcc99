"""Remote control of a worker of its own process, over SQLite: the command line and the process pool."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from celeriac import Celeriac
from celeriac.testing.eventually import eventually

PROGRAM = """
import asyncio, logging, time
from celeriac import Celeriac
from celeriac.worker.control import inspect_command

app = Celeriac("proj", broker="sqlite:///q.db", backend="sqlite:///q.db", set_as_current=False)

@app.task(name="sleep")
def sleep(seconds):
    time.sleep(seconds)
    return seconds

@app.task(name="nest")
async def nest(seconds):
    async def inner_wait():
        await asyncio.sleep(seconds)
    await asyncio.gather(inner_wait(), asyncio.create_task(asyncio.sleep(seconds), name="beside"))

@app.task(name="spin")
def spin(seconds):
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        busy_loop()

def busy_loop():
    return sum(range(1000))

@app.task(name="debugs")
def debugs():
    return logging.getLogger("proj.some").isEnabledFor(logging.DEBUG)

@inspect_command(args=[("x", int)], signature="<x>")
def twice(state, x):
    return 2 * x
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "tasks.py").write_text(PROGRAM)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def app(folder: Path) -> Iterator[Celeriac]:
    url = "sqlite:///q.db"
    with Celeriac("proj", broker=url, backend=url, set_as_current=False) as app:
        yield app


def start(folder: Path, app: Celeriac, *options: str, name: str = "w1") -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "celeriac", "-A", "tasks", "worker", "-n", f"{name}@here"]
    with (folder / f"{name}.log").open("ab") as log:
        process = subprocess.Popen([*command, *options], cwd=folder, stdout=log, stderr=log)
    try:
        eventually(lambda: bool(app.control.ping([f"{name}@here"], timeout=0.5)), within=60)
    except BaseException:
        process.kill()
        process.wait(10)
        raise
    return process


@pytest.fixture
def worker(folder: Path, app: Celeriac) -> Iterator[subprocess.Popen[bytes]]:
    process = start(folder, app, "-c", "2")
    yield process
    process.kill()
    process.wait(10)


def cli(*words: str) -> tuple[int, Any, str]:
    done = subprocess.run(
        [sys.executable, "-m", "celeriac", "-A", "tasks", *words, "--json"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, json.loads(done.stdout) if done.stdout.strip() else None, done.stderr


def running(app: Celeriac) -> Any:
    return app.control.inspect(["w1@here"], timeout=20.0).active()["w1@here"]


@pytest.mark.service
def test_terminate_ends_what_runs_and_only_that(
    app: Celeriac, worker: subprocess.Popen[bytes]
) -> None:
    long, other = app.send_task("sleep", (60,)), app.send_task("sleep", (1.5,))
    eventually(lambda: len(running(app)) == 2, within=30)
    reply = app.control.revoke(long.id, terminate=True, reply=True, timeout=20.0, limit=1)
    assert reply == [{"w1@here": {"ok": f"terminate: {long.id}"}}]
    eventually(lambda: long.state == "REVOKED", within=30)
    assert other.get(timeout=30) == 1.5


@pytest.mark.service
def test_a_revocation_survives_a_restart(folder: Path, app: Celeriac) -> None:
    first = start(folder, app)
    app.control.pause("celery")
    app.control.revoke("never-run")
    first.send_signal(signal.SIGTERM)
    assert first.wait(20) == 0
    result = app.send_task("sleep", (0,), task_id="never-run")
    kept = app.send_task("sleep", (0,))
    second = start(folder, app, name="w2")
    try:
        counts = app.broker.count(["celery"])["celery"]
        assert (counts.ready, counts.held) == (2, 0)
        app.control.resume("celery")
        assert kept.get(timeout=30) == 0
        eventually(lambda: result.state == "REVOKED", within=30)
    finally:
        second.kill()
        second.wait(10)


@pytest.mark.service
def test_stack_of_a_coroutine_in_a_child(app: Celeriac, worker: subprocess.Popen[bytes]) -> None:
    held = app.send_task("nest", (60,))
    eventually(lambda: len(running(app)) == 1, within=30)
    code, said, _ = cli("inspect", "stack", held.id, "-d", "w1@here")
    assert code == 0
    (process,) = said["w1@here"]
    assert process["tasks"] == [held.id]
    assert process["pid"] != worker.pid
    assert any("MainThread" in one["thread"] for one in process["threads"])
    coroutines = {one["name"]: one["stack"] for one in process["coroutines"]}
    assert "beside" in coroutines
    assert any("inner_wait" in line for stack in coroutines.values() for line in stack)


@pytest.mark.service
def test_profile_of_a_child(app: Celeriac, worker: subprocess.Popen[bytes]) -> None:
    held = app.send_task("spin", (20,))
    eventually(lambda: len(running(app)) == 1, within=30)
    code, said, _ = cli("inspect", "profile", "0.5", held.id)
    assert code == 0
    (process,) = said["w1@here"]
    assert process["samples"] > 5
    assert any("busy_loop (tasks.py" in stack for stack in process["stacks"])


@pytest.mark.service
def test_pool_commands_reach_the_children(app: Celeriac, worker: subprocess.Popen[bytes]) -> None:
    inspect = app.control.inspect(["w1@here"], timeout=20.0)
    before = inspect.stats()["w1@here"]["pool"]["processes"]
    assert len(before) == 2
    to = ("-d", "w1@here", "-t", "20")
    assert cli("control", "pool_grow", "1", *to)[1] == [{"w1@here": {"ok": "pool will grow"}}]
    eventually(lambda: len(inspect.stats()["w1@here"]["pool"]["processes"]) == 3, within=30)
    assert cli("control", "log_level", "DEBUG", "proj.some", *to)[0] == 0
    assert app.send_task("debugs").get(timeout=30) is True
    assert cli("control", "pool_restart", *to)[1] == [{"w1@here": {"ok": "reload started"}}]

    def renewed() -> bool:
        pids = inspect.stats()["w1@here"]["pool"]["processes"]
        return len(pids) == 3 and not set(pids) & set(before)

    eventually(renewed, within=30)
    # Children that came after the change have it too.
    assert app.send_task("debugs").get(timeout=30) is True
    assert inspect.memsample()["w1@here"].endswith("MB")


@pytest.mark.service
def test_time_limits_that_change(app: Celeriac, worker: subprocess.Popen[bytes]) -> None:
    to = ("-d", "w1@here", "-t", "20")
    code, said, _ = cli("control", "time_limit", "sleep", "20", "0.5", *to)
    assert (code, said) == (0, [{"w1@here": {"ok": "time limits set successfully"}}])
    result = app.send_task("sleep", (60,))
    eventually(lambda: result.state == "FAILURE", within=30)
    assert "TimeLimitExceeded" in repr(result.result)


@pytest.mark.service
def test_the_command_line(app: Celeriac, worker: subprocess.Popen[bytes]) -> None:
    to = ("-d", "w1@here", "-t", "20")
    assert cli("inspect", "twice", "21", *to)[1] == {"w1@here": 42}
    assert cli("status", *to)[1] == {"w1@here": {"ok": "pong"}}
    assert cli("control", "add_consumer", "more", *to)[0] == 0
    code, said, error = cli("inspect", "ping", "-d", "w1@here,gone@here", "-t", "2")
    assert (code, said) == (69, {"w1@here": {"ok": "pong"}})
    assert "gone@here" in error
    assert cli("control", "rate_limit", "nobody", "1/s", *to)[0] == 1
    code, _, error = cli("inspect", "stakc")
    assert code == 2
    assert "stack" in error
    assert cli("inspect", "twice", "x")[0] == 2


@pytest.mark.service
def test_autoscale(folder: Path, app: Celeriac) -> None:
    worker = start(folder, app, "--autoscale", "3,1")
    try:
        stats = app.control.inspect(["w1@here"], timeout=20.0).stats
        assert stats()["w1@here"]["pool"]["max-concurrency"] == 1
        results = [app.send_task("sleep", (2,)) for _ in range(3)]
        eventually(lambda: stats()["w1@here"]["autoscaler"]["current"] == 3, within=30)
        assert [result.get(timeout=20) for result in results] == [2, 2, 2]
    finally:
        worker.kill()
        worker.wait(10)
    assert os.path.exists("q.db")
