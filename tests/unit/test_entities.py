"""Queues, exchanges and bindings, ours and kombu's."""

from __future__ import annotations

from typing import Any

import pytest

from celeriac.kernel.entities import Broadcast, Exchange, Queue, binding
from celeriac.kernel.errors import ImproperlyConfigured
from celeriac.kernel.routing import declared_queues, refuse_exchanges


def test_a_queue_by_its_name() -> None:
    queue = Queue("q")
    assert (queue.exchange, queue.routing_key) == (Exchange("q"), "q")
    assert queue.all_bindings() == [(Exchange("q"), "q", None)]
    assert queue.durable and not queue.needs_amqp()


def test_shorthands() -> None:
    queue = Queue("q", max_priority=10, message_ttl=1.5, expires=60, max_length=5)
    assert queue.queue_arguments == {
        "x-max-priority": 10,
        "x-message-ttl": 1500,
        "x-expires": 60_000,
        "x-max-length": 5,
    }


def test_bindings() -> None:
    media = Exchange("media", "topic")
    queue = Queue("q", [binding(media, "video.#"), binding(media, "image.*")])
    assert queue.by_bindings and queue.exchange_type == "topic"
    assert queue.way == ("media", "video.#")
    assert [key for _, key, _ in queue.all_bindings()] == ["video.#", "image.*"]
    assert Queue("q", binding(media, "a")).way == ("media", "a")
    more = Queue("q", Exchange("e"), "k", bindings=[binding(media, "a")])
    assert [(e.name, key) for e, key, _ in more.all_bindings()] == [("e", "k"), ("media", "a")]


def test_kombus_own_objects() -> None:
    kombu = pytest.importorskip("kombu")
    media = kombu.Exchange("media", type="topic", durable=False)
    theirs = kombu.Queue(
        "q", media, "video.#", queue_arguments={"x-queue-type": "quorum"}, max_priority=3
    )
    ours = Queue.of(theirs)
    assert ours.exchange == Exchange("media", "topic", durable=False)
    assert ours.way == ("media", "video.#")
    assert ours.queue_arguments == {"x-queue-type": "quorum", "x-max-priority": 3}
    bound = kombu.Queue("b", [kombu.binding(media, "a"), kombu.binding(media, "b")])
    assert {key for _, key, _ in Queue.of(bound).all_bindings()} == {"a", "b"}


def test_a_mapping() -> None:
    options = {"exchange": "e", "exchange_type": "topic", "binding_key": "a.#"}
    found = declared_queues({"q": options}, "celery")
    assert found["q"].exchange == Exchange("e", "topic")
    assert found["q"].routing_key == "a.#"


def test_broadcast() -> None:
    one, two = Broadcast("news"), Broadcast("news")
    assert one.exchange == two.exchange == Exchange("news", "fanout")
    assert one.name != two.name and one.auto_delete


def test_a_wrong_type_or_argument() -> None:
    with pytest.raises(ImproperlyConfigured, match=r"'topics'.*direct, topic, fanout, headers"):
        Exchange("e", "topics")
    with pytest.raises(ImproperlyConfigured, match="max_prio"):
        Queue("q", max_prio=5)


@pytest.mark.parametrize(
    ("queue", "says"),
    [
        (Queue("q", Exchange("e", "topic"), "a.#"), "a topic exchange"),
        (Broadcast("news", queue="q"), "a fanout exchange"),
        (Queue("q", exclusive=True), "an exclusive queue"),
    ],
)
def test_what_only_amqp_can(queue: Queue, says: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=f"'q' has {says}.*amqp://"):
        refuse_exchanges([queue], "celery")


@pytest.mark.parametrize("queues", [None, ["a"], [Queue("a", Exchange("e"), "k")]])
def test_what_every_broker_can(queues: Any) -> None:
    refuse_exchanges(queues, "celery")
