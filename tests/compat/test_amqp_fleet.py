"""Real Celery producers and workers on the same queues as ours, in both directions, over RabbitMQ."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from celeriac import Celeriac
from celeriac.testing.eventually import eventually
from tests.support.rabbitmq import RabbitMQ
from tests.support.redis import RedisServer

celery = pytest.importorskip("celery")
pytest.importorskip("celeriac.drivers.amqp")

pytestmark = [
    pytest.mark.fault,
    pytest.mark.timeout(150),
    # Celery leaves sockets of its result consumer to the garbage collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

THEIRS = """
import os
from celery import Celery

app = Celery("fleet", broker=os.environ["FLEET_URL"], backend=os.environ["FLEET_BACKEND"])
app.conf.update(
    task_default_queue=os.environ["FLEET_QUEUE"],
    worker_hijack_root_logger=False,
    broker_connection_retry_on_startup=True,
)


@app.task(name="add", shared=False)
def add(x, y):
    return x + y


@app.task(name="fails", shared=False)
def fails():
    raise ValueError("as it should")


@app.task(name="twice", shared=False, bind=True, max_retries=2)
def twice(self):
    if self.request.retries < 1:
        raise self.retry(countdown=0.1)
    return [self.request.retries, self.request.delivery_info["priority"]]
"""


@pytest.fixture
def queue() -> str:
    return f"fleet-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def backend() -> str:
    return "rpc://"


@pytest.fixture
def ours(rabbitmq: RabbitMQ, queue: str, backend: str) -> Iterator[Any]:
    app = Celeriac(
        "fleet",
        broker=rabbitmq.url,
        backend=backend,
        task_default_queue=queue,
        worker_enable_remote_control=False,
        set_as_current=False,
    )

    @app.task(name="add")
    def add(x: int, y: int) -> int:
        return x + y

    @app.task(name="fails")
    def fails() -> None:
        raise ValueError("as it should")

    @app.task(name="twice", bind=True, max_retries=2)
    def twice(self: Any) -> list[Any]:
        if self.request.retries < 1:
            raise self.retry(countdown=0.1)
        return [self.request.retries, self.request.delivery_info["priority"]]

    yield app
    app.close()


@pytest.fixture
def theirs(rabbitmq: RabbitMQ, queue: str, backend: str, tmp_path: Path) -> Iterator[Any]:
    """Return Celery's app; its module is on disk for its worker."""
    (tmp_path / "fleet.py").write_text(THEIRS)
    environment = {
        "FLEET_URL": rabbitmq.url,
        "FLEET_QUEUE": queue,
        "FLEET_BACKEND": backend,
    }
    os.environ.update(environment)
    scope: dict[str, Any] = {"__name__": "fleet"}
    exec(compile(THEIRS, "fleet.py", "exec"), scope)
    yield scope["app"]
    with contextlib.suppress(AttributeError):  # it has never waited for a result
        scope["app"].backend.result_consumer.stop()
    scope["app"].close()
    for name in environment:
        del os.environ[name]


@pytest.fixture
def our_worker(ours: Any) -> Iterator[Any]:
    worker = ours.Worker(pool="threads", concurrency=2)
    thread = threading.Thread(target=worker.start, daemon=True)
    thread.start()
    assert worker.ready.wait(30)
    yield worker
    worker.stop()
    thread.join(30)


@pytest.fixture
def their_worker(theirs: Any, tmp_path: Path) -> Iterator[None]:
    log = (tmp_path / "worker.log").open("wb")
    process = subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", "fleet", "worker", "-P", "solo", "-l", "INFO"],
        cwd=tmp_path,
        stdout=log,
        stderr=log,
    )
    try:
        eventually(lambda: b"ready." in (tmp_path / "worker.log").read_bytes(), within=60)
        yield
    finally:
        process.kill()
        process.wait(20)
        log.close()


@pytest.mark.usefixtures("our_worker")
def test_their_producer_and_our_worker(theirs: Any) -> None:
    assert theirs.tasks["add"].delay(2, 3).get(timeout=20) == 5
    with pytest.raises(ValueError, match="as it should"):
        theirs.tasks["fails"].delay().get(timeout=20)
    retried = theirs.tasks["twice"].apply_async(priority=4)
    assert retried.get(timeout=20) == [1, 4]
    began = time.monotonic()
    assert theirs.tasks["add"].apply_async((1, 1), countdown=1.2).get(timeout=20) == 2
    assert time.monotonic() - began > 1.1
    chained = theirs.tasks["add"].s(1, 2) | theirs.tasks["add"].s(10)
    assert chained().get(timeout=20) == 13


@pytest.mark.usefixtures("their_worker")
def test_our_producer_and_their_worker(
    ours: Any, theirs: Any, request: pytest.FixtureRequest
) -> None:
    assert ours.tasks["add"].delay(2, 3).get(timeout=20) == 5
    with pytest.raises(ValueError, match="as it should"):
        ours.tasks["fails"].delay().get(timeout=20)
    assert ours.tasks["twice"].apply_async(priority=4).get(timeout=20) == [1, 4]
    began = time.monotonic()
    assert ours.tasks["add"].apply_async((1, 1), countdown=1.2).get(timeout=20) == 2
    assert time.monotonic() - began > 1.1
    with ours.batch():
        many = [ours.tasks["add"].delay(n, n) for n in range(50)]
    assert [one.get(timeout=20) for one in many] == [2 * n for n in range(50)]
    # And a worker of each on one queue, with senders of both.
    request.getfixturevalue("our_worker")
    sent = [(n, (ours if n % 2 else theirs).tasks["add"].delay(n, 1)) for n in range(60)]
    assert [one.get(timeout=30) for _, one in sent] == [n + 1 for n, _ in sent]


def test_the_ladder_is_theirs_too(ours: Any, theirs: Any, rabbitmq: RabbitMQ, queue: str) -> None:
    """Declared by us first, then by Celery: the same names with the same arguments."""
    from kombu.transport import native_delayed_delivery as native

    ours.tasks["add"].apply_async((1, 1), countdown=30)
    with theirs.connection() as connection:
        native.declare_native_delayed_delivery_exchanges_and_queues(connection, "quorum")
        key = native.calculate_routing_key(2, queue)
        with connection.SimpleQueue(queue) as inbox:
            connection.Producer().publish(
                b"hello",
                exchange=native.level_name(1),
                routing_key=key,
                content_type="application/octet-stream",
                content_encoding="binary",
            )
            message = inbox.get(timeout=20)
            assert message.body == b"hello"
            message.ack()


@pytest.fixture
def redis_url(tmp_path: Path) -> Iterator[str]:
    with RedisServer(tmp_path / "redis") as server:
        yield server.url(1)


class TestResultsInRedis:
    """The same fleet with its results in a store beside the broker."""

    @pytest.fixture
    def backend(self, redis_url: str) -> str:
        return redis_url

    @pytest.mark.usefixtures("our_worker")
    def test_their_producer_and_our_worker(self, theirs: Any) -> None:
        assert theirs.tasks["add"].delay(2, 3).get(timeout=20) == 5
        with pytest.raises(ValueError, match="as it should"):
            theirs.tasks["fails"].delay().get(timeout=20)
        assert theirs.tasks["twice"].apply_async(priority=4).get(timeout=20) == [1, 4]

    @pytest.mark.usefixtures("their_worker")
    def test_our_producer_and_their_worker(self, ours: Any) -> None:
        assert ours.tasks["add"].delay(2, 3).get(timeout=20) == 5
        with pytest.raises(ValueError, match="as it should"):
            ours.tasks["fails"].delay().get(timeout=20)
        assert ours.tasks["twice"].apply_async(priority=4).get(timeout=20) == [1, 4]
