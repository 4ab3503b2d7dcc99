"""Large workflows on Redis: flat memory on both sides, short messages, a body that begins at once.

The short form runs always; the sizes that are promised, and times beside them, are marked `long`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("redis")

from tests.support.project import Process, Project, eventually
from tests.support.redis import RedisServer

from celeriac.kernel.states import SUCCESS

pytestmark = pytest.mark.service

MANY, LARGE = 5_000, 100_000
STEPS, LONG = 500, 10_000
GROWTH = {MANY: 16.0, LARGE: 40.0}
"""MiB that a worker may grow by; a chord's body holds the list of its arguments."""

TASKS = """
    app.conf.worker_log_tasks = False

    @app.task(name="same")
    def same(number):
        return number

    @app.task(name="more")
    def more(number):
        return number + 1

    @app.task(name="total")
    def total(numbers):
        (HERE / "begun").write_text(repr(time.time()))
        return sum(numbers)
    """

PRODUCER = """
import json, resource, sys, time
from celeriac import chain, chord, group
from proj import app, more, same, total

kind, count = sys.argv[1], int(sys.argv[2])

def memory():
    # In MiB: the peak is never less than what a parent had, so that it is no measure here.
    for line in open("/proc/self/status"):
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024

def parts(most):
    global peak
    for number in range(most):
        if number % 500 == 0:
            peak = max(peak, memory())
        yield same.s(number)

peak = 0.0
if kind != "chain":
    group(parts(100)).apply_async()
before, peak, began = memory(), 0.0, time.perf_counter()
if kind == "group":
    result = group(parts(count)).apply_async()
elif kind == "chord":
    result = chord(parts(count), total.s()).apply_async()
else:
    result = chain(more.s(0), *(more.s() for _ in range(count - 1))).apply_async()
took = time.perf_counter() - began
members = result.results if kind == "group" else result.parent.results if kind == "chord" else []
sample = [members[place].id for place in (0, count // 2, count - 1)] if members else []
grown = max(peak, memory()) - before
print(json.dumps({"id": result.id, "took": took, "grown": grown, "sample": sample}))
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path / "redis") as server:
        yield server


@pytest.fixture
def project(tmp_path: Path, server: RedisServer) -> Iterator[Project]:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "produce.py").write_text(PRODUCER)
    made = Project(folder, TASKS, url=server.url(), result_backend=server.url())
    yield made
    made.close()


def produce(project: Project, kind: str, count: int) -> dict[str, Any]:
    """Send a workflow from a process of its own and return what that says of it."""
    done = subprocess.run(
        [sys.executable, "produce.py", kind, str(count)],
        cwd=project.folder,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def peak(worker: Process) -> float:
    """Return the most MiB that the worker's process has held."""
    for line in Path(f"/proc/{worker.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("no VmHWM")


def grown(project: Project, run: Callable[[Process], Any]) -> float:
    """Return by how many MiB a worker's peak grew in `run`; its queues are empty then."""
    worker = project.worker("-P", "threads", "-c", "2", level="WARNING", ready=False)
    project.app.send_task("same", (0,)).get(timeout=30)
    before = peak(worker)
    run(worker)
    eventually(lambda: project.left() == 0, within=100, saying="an empty queue")
    found = peak(worker) - before
    assert worker.stop() == 0, worker.output()
    return found


def ended(record_body: bytes) -> float:
    """Return when a task ended, by its record."""
    return datetime.fromisoformat(json.loads(record_body)["date_done"]).astimezone(UTC).timestamp()


@pytest.mark.parametrize("count", [MANY, pytest.param(LARGE, marks=pytest.mark.long)])
def test_a_group_of_a_generator(project: Project, count: int) -> None:
    sent: dict[str, Any] = {}
    growth = grown(project, lambda _: sent.update(produce(project, "group", count)))
    # A list of the signatures alone has 70 MiB at 100,000.
    assert sent["grown"] < 8, sent
    assert growth < GROWTH[count]
    found = project.app.results.fetch(sent["sample"])
    assert [json.loads(found[one].body or b"")["result"] for one in sent["sample"]] == [
        0,
        count // 2,
        count - 1,
    ]


@pytest.mark.parametrize("count", [MANY, pytest.param(LARGE, marks=pytest.mark.long)])
def test_a_chord_of_a_generator(project: Project, server: RedisServer, count: int) -> None:
    sent: dict[str, Any] = {}
    growth = grown(project, lambda _: sent.update(produce(project, "chord", count)))
    assert sent["grown"] < 8, sent
    assert growth < GROWTH[count]
    body = project.app.AsyncResult(sent["id"])
    assert body.get(timeout=30, follow_parents=False) == sum(range(count))
    begun = float((project.folder / "begun").read_text())
    before = "{celeriac}:p:"
    names = server.keys()
    [group] = [name.removeprefix(before) for name in names if name.startswith(before)]
    last = max(ended(one.body) for one in project.app.results.parts(group) if one.id != group)
    # A second of a machine that does nothing else; others' work takes its share of it.
    most = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    assert begun - last <= most, f"the body of {count:,} began {begun - last:.2f} s after the last"


@pytest.mark.parametrize("steps", [STEPS, pytest.param(LONG, marks=pytest.mark.long)])
def test_a_long_chain_has_short_messages(project: Project, server: RedisServer, steps: int) -> None:
    sent = produce(project, "chain", steps)
    [message] = server.client.hvals("{celeriac}:m")
    # It is as long as one of a chain of 64 steps, however many there are.
    assert len(message) < 64 * 512
    stored = server.info("memory")["used_memory_dataset"]  # without buffers of connections
    worker = project.worker("-P", "threads", "-c", "2", level="WARNING", ready=False)
    result = project.app.AsyncResult(sent["id"])
    assert result.get(timeout=110, follow_parents=False) == steps
    assert server.info("memory")["used_memory_dataset"] < stored + steps * 2048
    assert worker.stop() == 0, worker.output()


@pytest.mark.long
def test_time_grows_in_line_with_size(project: Project) -> None:
    worker = project.worker("-P", "threads", "-c", "2", level="WARNING", ready=False)
    small, large = 20_000, LARGE
    took: dict[int, float] = {}
    for count in (small, large):
        sent = produce(project, "chord", count)
        result = project.app.AsyncResult(sent["id"])
        assert result.get(timeout=100, follow_parents=False) == sum(range(count))
        assert result.state == SUCCESS
        took[count] = sent["took"]
    # Five times as many take five times as long; twice that is a machine that others use too.
    assert took[large] < 10 * took[small], took
    assert worker.stop() == 0, worker.output()
