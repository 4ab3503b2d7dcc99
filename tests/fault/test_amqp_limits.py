"""RabbitMQ's own limits: how long a message may be held, how often it may come back."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Iterator

import pytest

from celeriac import Celeriac, Queue
from celeriac.kernel.message import Envelope
from celeriac.testing.eventually import eventually
from tests.support.rabbitmq import RabbitMQ

amqp = pytest.importorskip("celeriac.drivers.amqp")

pytestmark = [pytest.mark.fault, pytest.mark.timeout(120)]


@pytest.fixture
def impatient(rabbitmq: RabbitMQ) -> Iterator[RabbitMQ]:
    """Let the server take back what is held for a second; its channels look twice in that time."""

    def say(timeout: int, tick: int) -> None:
        rabbitmq.ctl(
            "eval",
            f"application:set_env(rabbit, consumer_timeout, {timeout}),"
            f"application:set_env(rabbit, channel_tick_interval, {tick}).",
        )

    say(1_000, 500)
    yield rabbitmq
    say(1_800_000, 60_000)


def test_a_task_longer_than_consumer_timeout(
    impatient: RabbitMQ, caplog: pytest.LogCaptureFixture
) -> None:
    name = f"long-{uuid.uuid4().hex[:8]}"
    app = Celeriac(
        "t",
        broker=impatient.url,
        backend="rpc://",
        task_default_queue=name,
        task_acks_late=True,
        worker_enable_remote_control=False,
        broker_transport_options={"consumer_timeout": 1},
        set_as_current=False,
    )
    runs: list[int] = []
    gate = threading.Event()

    @app.task(name="long")
    def long(number: int) -> int:
        runs.append(number)
        gate.wait(60)
        return number

    worker = app.Worker(pool="threads", concurrency=1)
    thread = threading.Thread(target=worker.start, daemon=True)
    with caplog.at_level(logging.INFO, logger="celeriac"):
        thread.start()
        try:
            assert worker.ready.wait(30)
            result = long.delay(1)
            # Taken back and handed over again, twice; the task goes on.
            consumer = worker._consumer
            assert isinstance(consumer, amqp.consumer.AMQPConsumer)
            eventually(lambda: consumer._epoch >= 3, within=30)
            gate.set()
            assert result.get(timeout=30) == 1
            assert long.delay(2).get(timeout=30) == 2
        finally:
            gate.set()
            worker.stop("cold")
            thread.join(30)
    assert runs == [1, 2]
    eventually(lambda: app.broker.count([name])[name].ready == 0)
    app.close()
    assert "tasks without a time limit: 1" in caplog.text
    assert "consumer_timeout has passed under a running task" in caplog.text


@pytest.mark.parametrize(("limit", "warned"), [(3600, True), (600, False)])
def test_long_limits_are_said_at_start(
    rabbitmq: RabbitMQ, caplog: pytest.LogCaptureFixture, limit: int, warned: bool
) -> None:
    app = Celeriac(
        "t",
        broker=rabbitmq.url,
        backend="disabled",
        task_default_queue=f"start-{uuid.uuid4().hex[:8]}",
        worker_enable_remote_control=False,
        set_as_current=False,
    )

    @app.task(name="long", time_limit=limit)
    def long() -> None:
        pass

    worker = app.Worker(pool="prefork", concurrency=1)
    thread = threading.Thread(target=worker.start, daemon=True)
    thread.start()
    assert worker.ready.wait(30)
    worker.stop()
    thread.join(30)
    app.close()
    said = "task long may run for 3600 s, but the broker takes a message back that is held for 1800"
    assert (said in caplog.text) is warned


def test_a_delivery_limit_loses_nothing(rabbitmq: RabbitMQ) -> None:
    name = f"limit-{uuid.uuid4().hex[:8]}"
    arguments = {"x-queue-type": "quorum", "x-delivery-limit": 2}
    options = {"queues": {name: Queue(name, queue_arguments=arguments)}}
    family = amqp.AMQPFamily(rabbitmq.url, options)
    broker = family.broker()
    broker.declare([name])
    broker.publish([Envelope("one", name, b"x")])
    seen = []
    for _ in range(6):
        # Each worker dies with it in hand.
        consumer = broker.consume([name], owner="dies", lease=60)
        ends = time.monotonic() + 20
        taken = []
        while not taken and time.monotonic() < ends:
            taken = consumer.claim(1, wait=1.0)
        assert taken, f"lost after {seen}"
        seen.append(taken[0].handed_out)
        consumer.close()
    assert seen == [1, 2, 3, 4, 5, 6]
    family.close()
