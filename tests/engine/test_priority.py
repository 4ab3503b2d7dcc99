"""The most urgent runs first: the same thirty tasks on every broker, while the only slot is busy."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from celeriac import Celeriac
from celeriac.testing.eventually import eventually
from tests.support.redis import RedisServer


@pytest.fixture
def redis_url(tmp_path: Path) -> Iterator[str]:
    with RedisServer(tmp_path / "redis") as server:
        yield server.url()


@pytest.fixture(params=["sqlite", "redis", "rabbitmq"])
def app(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Celeriac]:
    if request.param == "rabbitmq":
        pytest.importorskip("celeriac.drivers.amqp")
        url = request.getfixturevalue("rabbitmq").url
    elif request.param == "redis":
        pytest.importorskip("celeriac.drivers.redis")
        url = request.getfixturevalue("redis_url")
    else:
        url = f"sqlite:///{tmp_path / 'app.db'}"
    app = Celeriac(
        "t",
        broker=url,
        backend="disabled",
        task_default_queue="priorities",
        task_queue_max_priority=10,
        task_acks_late=True,
        worker_prefetch_multiplier=1,
        worker_enable_remote_control=False,
        set_as_current=False,
    )
    yield app
    app.close()


@pytest.mark.timeout(120)
def test_the_order_of_thirty(app: Celeriac) -> None:
    # RabbitMQ's queues with x-max-priority 10 know a tenth above the ninth.
    levels = 11 if app.broker_url.startswith("amqp") else 10
    begun, gate, ran = threading.Event(), threading.Event(), list[tuple[int, int]]()

    @app.task(name="hold")
    def hold() -> None:
        begun.set()
        gate.wait(60)

    @app.task(name="note")
    def note(priority: int, number: int) -> None:
        ran.append((priority, number))

    worker = app.Worker(pool="threads", concurrency=1)
    thread = threading.Thread(target=worker.start, daemon=True)
    thread.start()
    try:
        assert worker.ready.wait(30)
        hold.delay()
        assert begun.wait(30)
        for number in range(30):
            note.apply_async((number * 7 % levels, number), priority=number * 7 % levels)
        gate.set()
        eventually(lambda: len(ran) == 30, within=30)
    finally:
        gate.set()
        worker.stop()
        thread.join(30)
    assert ran == sorted(ran, key=lambda one: (-one[0], one[1]))
