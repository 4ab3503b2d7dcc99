"""Celery's lists on Redis: what kombu puts there is taken, given back and acknowledged exactly."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import kombu
import pytest

from celeriac.drivers.redis import RedisFamily
from celeriac.drivers.redis.broker import RedisBroker
from celeriac.drivers.redis.consumer import RedisConsumer
from celeriac.drivers.redis.script import CELERY_CLAIM, CELERY_SETTLE
from celeriac.kernel.errors import BrokerUnavailable, PublishUncertain
from celeriac.kernel.message import Delivery, Envelope, Record, Settlement, Verdict
from celeriac.kernel.wire import NO_EMBED, Headers, pack, unpack
from tests.support.project import eventually
from tests.support.redis import RedisServer

pytestmark = pytest.mark.service
LEASE = 30.0
SEP = "\x06\x16"


class Fleet:
    """A real kombu on one side, our broker on the other."""

    def __init__(self, server: RedisServer, **options: Any) -> None:
        self.server, self.client = server, server.client
        self.kombu = kombu.Connection(server.url(), transport_options=options)
        self.family = RedisFamily(server.url(), options)
        self.broker: RedisBroker = self.family.broker()
        self.broker.open()
        self._consumers: list[RedisConsumer] = []

    def queue(self, name: str = "q") -> Any:
        return kombu.Queue(name, kombu.Exchange(name), routing_key=name)

    def send(self, number: int = 0, *, queue: str = "q", **options: Any) -> str:
        """Send as Celery does; return the task's id."""
        task_id = options.pop("id", f"task-{number}")
        headers = {
            "lang": "py",
            "task": "t",
            "id": task_id,
            "retries": 0,
            **options.pop("headers", {}),
        }
        body = [[number], {}, NO_EMBED]
        with self.kombu.Producer() as producer:
            producer.publish(
                body, exchange="", routing_key=queue, headers=headers, serializer="json",
                declare=[self.queue(queue)], **options,
            )  # fmt: skip
        return task_id

    def take(self, queue: str = "q") -> Any:
        """Take one message as a Celery worker does, and leave it unacknowledged."""
        channel = self.kombu.default_channel
        return self.queue(queue)(channel).get()

    def consumer(self, *queues: str, lease: float = LEASE) -> RedisConsumer:
        made = self.broker.consume(queues or ("q",), owner="w", lease=lease)
        self._consumers.append(made)
        return made

    def restore(self, *, visibility_timeout: float) -> None:
        """Do what a Celery worker does now and then: put back what was taken too long ago."""
        qos = self.kombu.default_channel.qos
        qos.visibility_timeout = visibility_timeout
        qos._vrestore_count = 0
        qos.restore_visible()

    def left(self) -> set[str]:
        """Return the keys that are there, but for bindings and what every upkeep leaves."""
        known = ("_kombu.binding", "{celeriac}:queues", "{celeriac}:t")
        names = {key.decode() for key in self.client.scan_iter()}
        return {name for name in names if not name.startswith(known)}

    def close(self) -> None:
        for consumer in self._consumers:
            consumer.close()
        self.kombu.release()
        self.family.close()


@pytest.fixture
def fleet(redis_server: RedisServer) -> Iterator[Fleet]:
    made = Fleet(redis_server)
    yield made
    made.close()


def _payload(delivery: Delivery) -> Any:
    return json.loads(unpack(delivery.envelope.body)[1])


def _ack(*deliveries: Delivery) -> list[Settlement]:
    return [Settlement(delivery, Verdict.ACK) for delivery in deliveries]


def _envelope(task_id: str = "a", **options: Any) -> Envelope:
    payload = json.dumps([[1], {}, NO_EMBED]).encode()
    return Envelope(task_id, "q", pack(Headers("t", task_id), payload), wire="celery", **options)


def test_what_kombu_sends_is_claimed_and_nothing_is_left(fleet: Fleet) -> None:
    ids = [fleet.send(n) for n in range(20)]
    consumer = fleet.consumer()
    batch = consumer.claim(100, wait=1)
    assert [d.envelope.id for d in batch] == ids
    assert [_payload(d)[0] for d in batch] == [[n] for n in range(20)]
    assert fleet.broker.count(["q"])["q"].held == 20
    assert consumer.settle(_ack(*batch)) == []
    assert fleet.left() == set()


def test_the_most_urgent_comes_first(fleet: Fleet) -> None:
    for urgency in (9, 3, 0, 6):
        fleet.send(urgency, priority=urgency)
    consumer = fleet.consumer()
    batch = consumer.claim(10, wait=1)
    assert [_payload(d)[0][0] for d in batch] == [0, 3, 6, 9]
    assert [d.envelope.priority for d in batch] == [9, 6, 3, 0]


def test_no_celery_worker_takes_what_is_held(fleet: Fleet) -> None:
    fleet.send(1)
    consumer = fleet.consumer()
    (held,) = consumer.claim(1, wait=1)
    fleet.restore(visibility_timeout=0)
    assert fleet.take() is None
    assert consumer.extend([held], lease=LEASE) == []
    fleet.restore(visibility_timeout=0)
    assert fleet.take() is None
    assert consumer.settle(_ack(held)) == []


def test_celery_takes_over_when_every_celeriac_worker_is_gone(fleet: Fleet) -> None:
    sent = fleet.send(1)
    fleet.consumer(lease=0.05).claim(1, wait=1)
    eventually(lambda: (fleet.restore(visibility_timeout=0), fleet.take())[1], within=5)
    assert fleet.client.hlen("unacked") == 1  # kombu's own, which has it now
    assert sent


def test_a_dead_workers_message_comes_back_counted(fleet: Fleet) -> None:
    fleet.send(1)
    dead = fleet.consumer(lease=0.05)
    assert len(dead.claim(1, wait=1)) == 1
    living = fleet.consumer()

    def back() -> Any:
        fleet.broker.upkeep(time.time())
        return living.claim(1, wait=0.1)

    (again,) = eventually(back)
    assert again.handed_out == 2
    assert _payload(again)[0] == [1]
    assert living.settle(_ack(again)) == []
    assert fleet.left() == set()


def test_suspects_come_one_at_a_time(fleet: Fleet) -> None:
    for n in range(4):
        fleet.send(n)
    fleet_mate = fleet.consumer()
    assert len(fleet_mate.claim(2, wait=1)) == 2
    fleet_mate.close()
    consumer = fleet.consumer()
    batch = consumer.claim(10, wait=1, suspects=1)
    assert sorted(d.handed_out for d in batch) == [1, 1, 2]
    assert consumer.claim(10, wait=0, suspects=0) == ()
    assert len(consumer.claim(10, wait=1, suspects=1)) == 1


def test_a_late_outcome_changes_nothing(fleet: Fleet) -> None:
    fleet.send(1)
    slow = fleet.consumer(lease=0.05)
    (held,) = slow.claim(1, wait=1)
    fast = fleet.consumer()

    def back() -> Any:
        fleet.broker.upkeep(time.time())
        return fast.claim(1, wait=0.1)

    (again,) = eventually(back)
    late = Settlement(
        held, Verdict.ACK, record=Record(held.envelope.id, "SUCCESS", b'{"status": "SUCCESS"}')
    )
    assert slow.settle([late]) == [held]
    assert slow.extend([held], lease=LEASE) == [held]
    assert fleet.client.get("celery-task-meta-task-1") is None
    assert fast.settle(_ack(again)) == []


def test_a_released_message_goes_back_verbatim_and_in_order(fleet: Fleet) -> None:
    for n in range(3):
        fleet.send(n)
    before = fleet.client.lrange("q", 0, -1)
    consumer = fleet.consumer()
    batch = consumer.claim(3, wait=1)
    assert fleet.client.llen("q") == 0
    consumer.settle([Settlement(d, Verdict.RELEASE) for d in batch])
    assert fleet.client.lrange("q", 0, -1) == before


def test_what_is_too_early_waits_on_the_server_and_comes_when_due(fleet: Fleet) -> None:
    due = time.time() + 1.2
    eta = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(due)) + f".{int(due % 1 * 1e6):06d}+00:00"
    fleet.send(1, headers={"eta": eta})
    consumer = fleet.consumer()
    assert consumer.claim(1, wait=0.1) == ()
    count = fleet.broker.count(["q"])["q"]
    assert (count.ready, count.delayed, count.held) == (0, 1, 0)
    assert fleet.client.hlen("unacked") == 0
    (delivery,) = consumer.claim(1, wait=5)
    assert due <= time.time() < due + 0.5
    assert delivery.handed_out == 1
    consumer.settle(_ack(delivery))
    assert fleet.left() <= {"{celeriac}:w:q"}


def test_a_retry_stays_celerys(fleet: Fleet) -> None:
    fleet.send(1, headers={"mine": "kept"}, priority=6)
    consumer = fleet.consumer()
    (delivery,) = consumer.claim(1, wait=1)
    again = Envelope(
        delivery.envelope.id, "q", delivery.envelope.body, delivery.envelope.priority,
        time.time() + 0.3, attempt=1,
    )  # fmt: skip
    consumer.settle([Settlement(delivery, Verdict.RETRY, again)])
    assert fleet.broker.count(["q"])["q"].delayed == 1

    def promoted() -> Any:
        fleet.broker.upkeep(time.time())
        return fleet.take()

    message = eventually(promoted)
    assert message.headers["retries"] == 1
    assert message.headers["mine"] == "kept"
    assert message.properties["priority"] == 6
    assert json.loads(message.body)[0] == [1]


def test_what_is_no_message_is_set_aside_verbatim_and_stops_nothing(fleet: Fleet) -> None:
    wrong = [
        b"nonsense",
        b'{"body": 1}',
        b"[]",
        b'{"half": ',
        b'{"headers": {}, "body": "e30=", "properties": {"body_encoding": "base64"}}',
    ]
    for raw in wrong:
        fleet.client.lpush("q", raw)
    fleet.send(1)
    consumer = fleet.consumer()
    (delivery,) = consumer.claim(10, wait=1)
    assert _payload(delivery)[0] == [1]
    assert set(fleet.client.lrange("{celeriac}:quarantine:q", 0, -1)) == set(wrong)
    assert fleet.client.hkeys("unacked") == [str(delivery.receipt).encode()]


def test_what_we_publish_kombu_reads(fleet: Fleet) -> None:
    soon = time.time() + 100
    fleet.broker.publish(
        [_envelope("a", priority=9, attempt=2, expires_at=soon), _envelope("b", priority=3)]
    )
    assert fleet.client.llen("q") == 1
    assert fleet.client.llen(f"q{SEP}6") == 1
    first, second = fleet.take(), fleet.take()
    assert first.headers["id"] == "a"
    assert first.headers["task"] == "t"
    assert first.headers["retries"] == 2
    assert first.headers["expires"].endswith("+00:00")
    assert 90_000 < int(first.properties["expiration"]) <= 100_000
    assert first.decode() == [[1], {}, NO_EMBED]
    assert second.properties["priority"] == 6
    first.ack()
    second.reject(requeue=True)
    assert fleet.take().headers["id"] == "b"
    table = {tuple(m.decode().split(SEP)) for m in fleet.client.smembers("_kombu.binding.q")}
    assert table == {("q", "", "q")}
    assert fleet.client.smembers("_kombu.binding_permanent.q") == fleet.client.smembers(
        "_kombu.binding.q"
    )


def test_follow_ups_and_outcome_are_one_step(fleet: Fleet) -> None:
    fleet.send(1)
    consumer = fleet.consumer()
    (delivery,) = consumer.claim(1, wait=1)
    follow = _envelope("next", priority=9)
    follow.queue, follow.wire = "other", ""
    body = b'{"status": "SUCCESS", "result": 5}'
    done = Settlement(
        delivery, Verdict.ACK, record=Record("task-1", "SUCCESS", body), publish=(follow,)
    )
    assert consumer.settle([done]) == []
    assert fleet.client.get("celery-task-meta-task-1") == body
    assert fleet.take("other").headers["id"] == "next"


def test_a_native_task_may_lead_to_a_celery_queue(fleet: Fleet) -> None:
    native = _envelope("native")
    native.wire = ""
    fleet.broker.publish([native])
    consumer = fleet.consumer()
    (delivery,) = consumer.claim(1, wait=1)
    follow = _envelope("next")
    follow.queue = "other"
    consumer.settle([Settlement(delivery, Verdict.ACK, publish=(follow,))])
    assert fleet.take("other").headers["id"] == "next"


def test_a_buried_message_can_be_seen_and_put_back(fleet: Fleet) -> None:
    fleet.send(1)
    consumer = fleet.consumer()
    (delivery,) = consumer.claim(1, wait=1)
    consumer.settle([Settlement(delivery, Verdict.BURY, reason="no such task")])
    (buried,) = fleet.broker.buried(limit=10)
    assert (buried.envelope.id, buried.reason) == ("task-1", "no such task")
    assert fleet.client.hlen("unacked") == 0
    assert fleet.broker.requeue(["task-1"]) == ["task-1"]
    (again,) = consumer.claim(1, wait=1)
    assert _payload(again)[0] == [1]
    consumer.settle(_ack(again))


def test_both_forms_share_a_queue(fleet: Fleet) -> None:
    consumer = fleet.consumer()
    fleet.broker.publish([Envelope(f"n{n}", "q", _envelope().body) for n in range(30)])
    for n in range(30):
        fleet.send(n)
    seen = set()
    while len(seen) < 60:
        batch = consumer.claim(4, wait=2)
        assert batch
        consumer.settle(_ack(*batch))
        seen |= {d.envelope.id for d in batch}
        if len(seen) == 8:
            assert {task_id[0] for task_id in seen} == {"n", "t"}  # neither starves
    assert fleet.left() <= {"{celeriac}:w:q"}


@pytest.mark.parametrize("priority", [0, 9])
def test_an_idle_worker_wakes_for_a_celery_producer(fleet: Fleet, priority: int) -> None:
    fleet.send(0)
    consumer = fleet.consumer("other", "q")
    consumer.settle(_ack(*consumer.claim(1, wait=1)))
    waits = []
    raw = None
    for n in range(1, 21):
        fleet.send(n, priority=priority)
        name = f"q{SEP}9" if priority else "q"
        raw = fleet.client.rpop(name)
        assert raw is not None
        assert consumer.claim(1, wait=0) == ()
        started = _later(lambda name=name, raw=raw: fleet.client.lpush(name, raw))
        (delivery,) = consumer.claim(1, wait=5)
        waits.append(time.monotonic() - started[0])
        consumer.settle(_ack(delivery))
    assert sorted(waits)[10] < 0.05, waits


def _later(act: Callable[[], Any]) -> list[float]:
    """Do something on another thread in a moment; the answer holds when."""
    started: list[float] = [0.0]

    def run() -> None:
        time.sleep(0.05)
        started[0] = time.monotonic()
        act()

    threading.Thread(target=run, daemon=True).start()
    return started


def test_a_worker_that_did_not_know_the_queue_finds_the_first_message(fleet: Fleet) -> None:
    consumer = fleet.consumer()
    assert consumer.claim(1, wait=0) == ()
    fleet.send(1)
    (delivery,) = consumer.claim(1, wait=5)
    assert delivery.envelope.id == "task-1"


def test_a_key_of_another_kind_stops_only_celerys_lists(
    fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    fleet.client.set("unacked", "something")
    fleet.send(1)
    native = _envelope("native")
    native.wire = ""
    fleet.broker.publish([native])
    consumer = fleet.consumer()
    assert [d.envelope.id for d in consumer.claim(5, wait=0)] == ["native"]
    assert "Celery keeps other things there" in caplog.text
    assert fleet.client.llen("q") == 1


def test_a_prefix_holds_for_all_keys(redis_server: RedisServer) -> None:
    fleet = Fleet(redis_server, global_keyprefix="app1:")
    try:
        fleet.send(1)
        consumer = fleet.consumer()
        (delivery,) = consumer.claim(1, wait=1)
        assert fleet.client.hlen("app1:unacked") == 1
        consumer.settle(_ack(delivery))
        fleet.broker.publish([_envelope("x")])
        assert fleet.take().headers["id"] == "x"
        assert all(key.startswith(b"app1:") for key in fleet.client.scan_iter())
    finally:
        fleet.close()


def test_task_protocol_1_is_read(fleet: Fleet) -> None:
    body = {
        "task": "t", "id": "old", "args": [4], "kwargs": {"a": 1}, "retries": 2, "eta": None,
        "expires": None, "utc": True, "callbacks": None, "errbacks": None,
        "timelimit": [None, None], "taskset": None, "chord": None,
    }  # fmt: skip
    with fleet.kombu.Producer() as producer:
        producer.publish(body, exchange="", routing_key="q", serializer="json", compression="zlib")
    consumer = fleet.consumer()
    (delivery,) = consumer.claim(1, wait=2)
    assert (delivery.envelope.id, delivery.envelope.attempt) == ("old", 2)
    assert _payload(delivery)[:2] == [[4], {"a": 1}]


def _loses_reply(monkeypatch: pytest.MonkeyPatch, fleet: Fleet, script: object) -> None:
    """Let the next run of a script happen and its reply get lost."""
    run = fleet.family.server.run

    def losing(which: Any, keys: Any, args: Any) -> Any:
        reply = run(which, keys, args)
        if which is script:
            monkeypatch.setattr(fleet.family.server, "run", run)
            raise PublishUncertain("the reply was lost")
        return reply

    monkeypatch.setattr(fleet.family.server, "run", losing)


def test_a_claim_whose_reply_was_lost_is_asked_for_again(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [fleet.send(n) for n in range(3)]
    consumer = fleet.consumer()
    _loses_reply(monkeypatch, fleet, CELERY_CLAIM)
    with pytest.raises(BrokerUnavailable):
        consumer.claim(2, wait=0)
    got = consumer.claim(2, wait=0)
    assert [(d.envelope.id, d.handed_out) for d in got] == [(ids[0], 1), (ids[1], 1)]
    assert [d.envelope.id for d in consumer.claim(2, wait=0)] == [ids[2]]


def test_what_was_to_be_put_aside_is_not_forgotten(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet.client.lpush("q", b'{"body": 1}')
    sent = fleet.send(1)
    consumer = fleet.consumer()
    _loses_reply(monkeypatch, fleet, CELERY_SETTLE)
    with pytest.raises(BrokerUnavailable):
        consumer.claim(2, wait=0)
    assert [d.envelope.id for d in consumer.claim(2, wait=1)] == [sent]
    assert fleet.client.llen("{celeriac}:quarantine:q") == 1


def test_a_settlement_whose_reply_was_lost_is_not_called_stale(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet.send(1)
    consumer = fleet.consumer()
    (held,) = consumer.claim(1, wait=1)
    follow = _envelope("next", priority=9)
    follow.queue = "other"
    done = [Settlement(held, Verdict.ACK, publish=(follow,))]
    _loses_reply(monkeypatch, fleet, CELERY_SETTLE)
    with pytest.raises(BrokerUnavailable):
        consumer.settle(done)
    assert consumer.settle(done) == []
    assert fleet.client.llen("other") == 1, "its follow-up was sent once"
    assert consumer.settle(done) == [held], "now it is"


def test_what_is_held_for_nobody_comes_back(fleet: Fleet) -> None:
    fleet.send(1)
    fleet.send(2)
    consumer = fleet.consumer()
    known, stray = consumer.claim(2, wait=1)
    for held in (2, 1):
        assert consumer.extend([known], lease=LEASE) == []
        assert fleet.broker.count(["q"])["q"].held == held
    (again,) = consumer.claim(1, wait=1)
    assert (again.envelope.id, again.handed_out) == (stray.envelope.id, 2)
    assert consumer.settle(_ack(stray)) == [stray]


def test_a_full_server_is_worked_off(fleet: Fleet) -> None:
    for n in range(50):
        fleet.send(n)
    fleet.client.config_set("maxmemory", "1mb")
    try:
        consumer = fleet.consumer()
        done = 0
        while done < 50:
            batch = consumer.claim(10, wait=5)
            assert batch
            assert consumer.extend(batch, lease=LEASE) == []
            assert consumer.settle(_ack(*batch)) == []
            done += len(batch)
        assert consumer.claim(1, wait=0.1) == ()  # and waiting on a full server is no busy loop
    finally:
        fleet.client.config_set("maxmemory", "0")
    assert fleet.left() <= {"{celeriac}:w:q"}


def test_counts_and_purge_see_both_forms(fleet: Fleet) -> None:
    for n in range(3):
        fleet.send(n, priority=n * 4)
    native = _envelope("native")
    native.wire = ""
    fleet.broker.publish([native])
    assert fleet.broker.count(["q"])["q"].ready == 4
    assert {e.id for e in fleet.broker.peek("q", limit=10)} == {
        "native",
        "task-0",
        "task-1",
        "task-2",
    }
    assert [e.id for e in fleet.broker.peek("q", limit=1, after="native")] == ["task-0"]
    assert fleet.broker.purge("q") == 4
    assert fleet.broker.count(["q"])["q"].ready == 0
    assert fleet.left() <= {"{celeriac}:w:q"}
