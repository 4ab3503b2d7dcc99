"""Exchanges and bindings on RabbitMQ: each kind leads where the settings say."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.support.rabbitmq import RabbitMQ

from celeriac import Celeriac, Exchange, Queue, binding
from celeriac.kernel.errors import BrokerRejected
from celeriac.kombu import Broadcast
from celeriac.testing.eventually import eventually

pytest.importorskip("celeriac.drivers.amqp")

pytestmark = pytest.mark.timeout(90)

Make = Callable[..., Celeriac]


@pytest.fixture
def make(rabbitmq: RabbitMQ) -> Iterator[Make]:
    made: list[Celeriac] = []

    def make(**settings: Any) -> Celeriac:
        app = Celeriac(
            "t", broker=rabbitmq.url, backend="disabled", set_as_current=False, **settings
        )
        made.append(app)
        return app

    yield make
    for app in made:
        app.close()


@pytest.fixture
def tag() -> str:
    return uuid.uuid4().hex[:8]


def ready(app: Celeriac, *names: str) -> list[int]:
    found = app.broker.count(names)
    return [found[name].ready for name in names]


def test_topic(make: Make, tag: str) -> None:
    media = Exchange(f"media-{tag}", "topic")
    video, every = f"video-{tag}", f"every-{tag}"
    app = make(
        task_queues=[Queue(video, media, "video.#"), Queue(every, media, "#")],
        task_default_queue=every,
        task_routes={"encode": {"exchange": media.name, "routing_key": "video.encode"}},
    )
    app.send_task("encode")
    assert ready(app, video, every) == [1, 1]
    app.send_task("other", exchange=media.name, routing_key="image.scale")
    assert ready(app, video, every) == [1, 2]


def test_fanout_and_broadcast(make: Make, tag: str) -> None:
    names = [f"b1-{tag}", f"b2-{tag}"]
    queues = [Broadcast(f"news-{tag}", queue=name) for name in names]
    app = make(task_queues=queues, task_default_queue=names[0])
    app.broker.declare(names)
    app.send_task("tell")
    assert ready(app, *names) == [1, 1]


def test_delays_through_exchanges(make: Make, tag: str) -> None:
    media, news = Exchange(f"media-{tag}", "topic"), Exchange(f"news-{tag}", "fanout")
    plain = Exchange(f"plain-{tag}", "direct")
    video, heard, exact = f"video-{tag}", f"heard-{tag}", f"exact-{tag}"
    app = make(
        task_queues=[
            Queue(video, media, "video.#"),
            Queue(heard, news, ""),
            Queue(exact, plain, "key"),
        ],
        task_default_queue=video,
    )
    for exchange, key in ((media, "video.encode"), (news, "any"), (plain, "key")):
        app.send_task("t", exchange=exchange.name, routing_key=key, countdown=1.5)
    assert ready(app, video, heard, exact) == [0, 0, 0]
    eventually(lambda: ready(app, video, heard, exact) == [1, 1, 1], within=20)
    with pytest.raises(BrokerRejected, match="no queue of task_queues is bound to"):
        app.send_task("t", exchange=f"nowhere-{tag}", routing_key="x", countdown=5)


def test_headers(make: Make, tag: str) -> None:
    exchange = Exchange(f"headers-{tag}", "headers")
    red = Queue(f"red-{tag}", exchange, binding_arguments={"x-match": "all", "colour": "red"})
    blue = Queue(f"blue-{tag}", exchange, binding_arguments={"x-match": "all", "colour": "blue"})
    app = make(task_queues=[red, blue], task_default_queue=red.name)
    app.broker.declare([red.name, blue.name])
    app.send_task("paint", headers={"colour": "blue"})
    assert ready(app, red.name, blue.name) == [0, 1]


def test_several_bindings(make: Make, tag: str) -> None:
    media = Exchange(f"media-{tag}", "topic")
    name = f"q-{tag}"
    app = make(
        task_queues=[Queue(name, [binding(media, "a"), binding(media, "b")])],
        task_default_queue=name,
    )
    for key in ("a", "b"):
        app.send_task("t", exchange=media.name, routing_key=key)
    assert ready(app, name) == [2]
    with pytest.raises(BrokerRejected, match="no queue takes messages for 'c'"):
        app.send_task("t", exchange=media.name, routing_key="c")


def test_an_exchange_that_is_not_there(make: Make, tag: str) -> None:
    app = make(task_default_queue=f"q-{tag}")
    with pytest.raises(BrokerRejected, match=f"nowhere-{tag}"):
        app.send_task("t", exchange=f"nowhere-{tag}", routing_key="x")
    app.send_task("t")  # the next one goes its way
    assert ready(app, f"q-{tag}") == [1]


def test_a_quorum_queue(make: Make, tag: str) -> None:
    name = f"quorum-{tag}"
    app = make(
        task_queues=[Queue(name, queue_arguments={"x-queue-type": "quorum"})],
        task_default_queue=name,
    )
    for _ in range(20):
        app.send_task("t")
    broker = app.broker
    consumer = broker.consume([name], owner="gone", lease=60)
    first = consumer.claim(3, wait=10)
    assert {one.handed_out for one in first} == {1}
    consumer.close()
    consumer = broker.consume([name], owner="w", lease=60)
    seen: dict[str, int] = {}
    while len(seen) < 20:
        taken = consumer.claim(20, wait=10, suspects=20)
        assert taken, "a message is missing"
        seen.update((one.envelope.id, one.handed_out) for one in taken)
    assert {seen[one.envelope.id] for one in first} == {2}
    consumer.close()
