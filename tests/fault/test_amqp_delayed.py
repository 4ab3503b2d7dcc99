"""Many delayed tasks wait in RabbitMQ: no worker grows by them, and none comes early or late."""

from __future__ import annotations

import random
import statistics
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.project import Process, Project, eventually
from tests.support.rabbitmq import RabbitMQ

delay = pytest.importorskip("celeriac.drivers.amqp.delay")

RUNGS = [delay.rung(level) for level in range(delay.RUNGS)]
LATE = 10.0
"""Seconds that a busy machine may need from the moment a task is due to its start."""
GROWTH = 16
"""MiB that a worker may grow by what it runs; 18,000 tasks in its hands would be more."""

SOURCE = """
    out = open(HERE / "late", "a", buffering=1)

    @app.task
    def note(due):
        out.write(f"{time.time() - due}\\n")
    """


@pytest.fixture
def project(rabbitmq: RabbitMQ, tmp_path: Path) -> Iterator[Project]:
    queue = f"late-{uuid.uuid4().hex[:8]}"
    settings = {"task_default_queue": queue, "task_ignore_result": True}
    project = Project(tmp_path, SOURCE, url=rabbitmq.url, **settings)
    yield project
    for rung in RUNGS:
        project.app.broker.purge(rung)
    project.close()


def memory(worker: Process) -> float:
    """Return the resident MiB of a worker."""
    for line in Path(f"/proc/{worker.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("no VmRSS")


def late(project: Project) -> list[float]:
    """Return by how many seconds each task that ran came after its time."""
    path = project.folder / "late"
    return [float(line) for line in path.read_text().split()] if path.exists() else []


def in_the_ladder(project: Project) -> int:
    return sum(one.ready for one in project.app.broker.count(RUNGS).values())


@pytest.mark.fault
@pytest.mark.parametrize(
    ("waiting", "due", "rate"),
    [
        pytest.param(18_000, 2_000, 500, marks=pytest.mark.timeout(180)),
        pytest.param(
            980_000, 20_000, 500, marks=[pytest.mark.long, pytest.mark.timeout(1_800)], id="million"
        ),
    ],
)
def test_many_wait_and_some_are_due(project: Project, waiting: int, due: int, rate: int) -> None:
    project.send("note", time.time(), countdown=1)  # the ladder is made with the first
    for rung in RUNGS[5:]:
        project.app.broker.purge(rung)  # what other tests left
    worker = project.worker("-P", "threads", "-c", "2")
    for _ in range(500):
        project.send("note", time.time())
    eventually(lambda: len(late(project)) == 501)
    before = memory(worker)

    dice = random.Random(7)
    with project.app.batch():
        for _ in range(waiting):
            left = dice.uniform(4_000, 80_000)  # an hour to a day
            project.send("note", time.time() + left, countdown=left)
        begun = time.time() + 4
        for number in range(due):
            at = begun + number / rate
            project.send("note", at, countdown=at - time.time())
    eventually(lambda: len(late(project)) == 501 + due, within=due / rate + 60)

    found = late(project)[501:]
    assert min(found) >= 0.0, "a task came before its time"
    assert max(found) < LATE
    assert statistics.median(found) < LATE / 3
    assert in_the_ladder(project) == waiting
    assert memory(worker) - before < GROWTH
    # All that time it was ready for what comes.
    project.send("note", time.time())
    eventually(lambda: len(late(project)) == 502 + due)
