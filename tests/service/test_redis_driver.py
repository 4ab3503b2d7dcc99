"""The Redis driver where its contract does not look: lost replies, strays, what others may read."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.celery import close_celery
from tests.support.project import eventually
from tests.support.redis import RedisServer

from celeriac.drivers.redis import RedisFamily
from celeriac.drivers.redis.script import CLAIM, SETTLE
from celeriac.kernel.errors import BrokerRejected, BrokerUnavailable, PublishUncertain
from celeriac.kernel.message import Envelope, Record, Settlement, Verdict

pytestmark = pytest.mark.service


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def server(running: RedisServer) -> RedisServer:
    running.cli("FLUSHALL")
    running.cli("CONFIG", "SET", "maxmemory", "0")
    running.cli("CONFIG", "SET", "maxmemory-policy", "noeviction")
    return running


@pytest.fixture
def family(server: RedisServer) -> Iterator[RedisFamily]:
    family = RedisFamily(server.url(), {})
    yield family
    family.close()


def task(name: str, queue: str = "q", **fields: Any) -> Envelope:
    return Envelope(name, queue, b"body", **fields)


def loses_reply(
    monkeypatch: pytest.MonkeyPatch, family: RedisFamily, script: object
) -> Callable[[], None]:
    """Let the next run of a script happen and its reply get lost; call the result to end that."""
    run = family.server.run

    def losing(which: Any, keys: Any, args: Any) -> Any:
        reply = run(which, keys, args)
        if which is script:
            raise PublishUncertain("the reply was lost")
        return reply

    monkeypatch.setattr(family.server, "run", losing)
    return lambda: monkeypatch.setattr(family.server, "run", run)


def test_a_claim_whose_reply_was_lost_is_asked_for_again(
    family: RedisFamily, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = family.broker()
    broker.publish([task("a"), task("b"), task("c")])
    consumer = broker.consume(["q"], owner="w", lease=60)
    mend = loses_reply(monkeypatch, family, CLAIM)
    with pytest.raises(BrokerUnavailable):
        consumer.claim(2, wait=0)
    mend()
    got = consumer.claim(2, wait=0)
    assert [(one.envelope.id, one.handed_out) for one in got] == [("a", 1), ("b", 1)]
    assert [one.envelope.id for one in consumer.claim(2, wait=0)] == ["c"]
    consumer.close()


def test_a_settlement_whose_reply_was_lost_is_not_called_stale(
    family: RedisFamily, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = family.broker()
    broker.publish([task("a")])
    consumer = broker.consume(["q"], owner="w", lease=60)
    (held,) = consumer.claim(1, wait=0)
    end = [Settlement(held, Verdict.ACK, record=Record("a", "SUCCESS", b"{}"))]
    mend = loses_reply(monkeypatch, family, SETTLE)
    with pytest.raises(BrokerUnavailable):
        consumer.settle(end)
    mend()
    assert list(consumer.settle(end)) == []
    assert list(consumer.settle(end)) == [held], "now it is"
    consumer.close()


def test_what_is_held_for_nobody_comes_back(family: RedisFamily) -> None:
    broker = family.broker()
    broker.publish([task("known"), task("stray")])
    consumer = broker.consume(["q"], owner="w", lease=60)
    known, stray = consumer.claim(2, wait=0)
    # The worker has forgotten `stray`, say since its outcome was refused.
    assert list(consumer.extend([known], lease=60)) == []
    assert broker.count(["q"])["q"].held == 2
    assert list(consumer.extend([known], lease=60)) == []
    assert broker.count(["q"])["q"].held == 1
    (again,) = consumer.claim(1, wait=0)
    assert (again.envelope.id, again.handed_out) == ("stray", 2)
    assert list(consumer.settle([Settlement(stray, Verdict.ACK)])) == [stray]
    consumer.close()


def test_idle_connections_that_ended_are_not_used(tmp_path: Path) -> None:
    with RedisServer(tmp_path, fsync="always") as server:
        family = RedisFamily(server.url(), {})
        broker = family.broker()
        broker.publish([task("before")])
        server.restart()
        # Once it may find a dead connection; then it knows.
        try:
            broker.publish([task("after")])
        except BrokerUnavailable:
            broker.publish([task("after")])
        assert broker.count(["q"])["q"].ready == 2
        family.close()


def test_one_upkeep_serves_a_fleet(server: RedisServer, family: RedisFamily) -> None:
    other = RedisFamily(server.url(), {})
    family.broker().upkeep(time.time())
    other.broker().upkeep(time.time())
    before = server.info("commandstats")["cmdstat_evalsha"]["calls"]
    for _ in range(20):
        other.broker().upkeep(time.time())
    assert server.info("commandstats")["cmdstat_evalsha"]["calls"] == before
    other.close()


def test_a_server_that_evicts_tasks_is_refused(server: RedisServer) -> None:
    server.cli("CONFIG", "SET", "maxmemory", "100mb")
    server.cli("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    with pytest.raises(BrokerRejected, match="noeviction"):
        RedisFamily(server.url(), {}).broker().open()
    allowed = RedisFamily(server.url(), {"allow_eviction": True})
    allowed.broker().open()
    allowed.close()


def test_replicas_are_waited_for(server: RedisServer) -> None:
    family = RedisFamily(server.url(), {"replicas": 1, "socket_timeout": 1})
    with pytest.raises(PublishUncertain, match="0 of 1 replicas"):
        family.broker().publish([task("a")])
    family.close()


def test_scripts_that_the_server_forgot_are_sent_again(
    server: RedisServer, family: RedisFamily
) -> None:
    broker = family.broker()
    consumer = broker.consume(["q"], owner="w", lease=60)
    for number in range(3):
        server.cli("SCRIPT", "FLUSH")
        broker.publish([task(str(number))])
        server.cli("SCRIPT", "FLUSH")
        (held,) = consumer.claim(1, wait=1)
        server.cli("SCRIPT", "FLUSH")
        assert list(consumer.settle([Settlement(held, Verdict.ACK)])) == []
    consumer.close()


def test_a_drained_server_is_empty(server: RedisServer, family: RedisFamily) -> None:
    broker, results = family.broker(), family.results()
    consumer = broker.consume(["q", "other"], owner="w", lease=60)
    soon = time.time() + 0.3
    broker.publish([task(f"n{n}", priority=n % 10) for n in range(50)])
    broker.publish([task(f"d{n}", "other", not_before=soon) for n in range(5)])
    broker.publish([task("withdrawn"), task("buried", priority=9)])
    assert broker.withdraw(["withdrawn"]) == ["withdrawn"]
    done = 0
    while done < 56:
        ends = []
        for held in consumer.claim(20, wait=1):
            body = json.dumps({"status": "SUCCESS", "result": None}).encode()
            record = Record(held.envelope.id, "SUCCESS", body, expires_at=soon + 0.5)
            verdict = Verdict.BURY if held.envelope.id == "buried" else Verdict.ACK
            ends.append(Settlement(held, verdict, record=record, reason="because"))
        assert list(consumer.settle(ends)) == []
        done += len(ends)
    assert broker.drop(["buried"]) == ["buried"]
    broker.upkeep(time.time())
    consumer.close()
    results.expire(time.time(), limit=10)
    left = {"{celeriac}:queues", "{celeriac}:t"}
    eventually(lambda: server.keys() == left, saying="nothing but two small keys")


def test_a_waiting_task_costs_little_memory(server: RedisServer, family: RedisFamily) -> None:
    broker, size, count = family.broker(), 1_000, 20_000
    broker.publish([task("warm")])
    before = server.info("memory")["used_memory"]
    # Ids as long as real ones.
    batch = [Envelope(f"{n:036d}", "celery", bytes(size)) for n in range(count)]
    broker.publish(batch)
    each = (server.info("memory")["used_memory"] - before) / count
    assert each <= 1.3 * (size + 200)


def test_real_celery_reads_the_results(server: RedisServer, family: RedisFamily) -> None:
    celery = pytest.importorskip("celery")
    app = celery.Celery("reader", backend=server.url(), set_as_current=False)
    waiting = app.AsyncResult("t1")
    assert waiting.state == "PENDING"
    meta = {
        "status": "SUCCESS",
        "result": [1, 2],
        "traceback": None,
        "children": [],
        "task_id": "t1",
    }
    record = Record("t1", "SUCCESS", json.dumps(meta).encode(), expires_at=time.time() + 60)
    family.results().store([record])
    assert waiting.get(timeout=10) == [1, 2]
    kept = server.cli("GET", "celery-task-meta-t1")
    assert json.loads(kept)["result"] == [1, 2]
    assert 0 < server.cli("TTL", "celery-task-meta-t1") <= 60
    close_celery(app)


@pytest.mark.filterwarnings("ignore:Call to deprecated setex")
def test_what_celery_stored_is_read(server: RedisServer, family: RedisFamily) -> None:
    celery = pytest.importorskip("celery")
    app = celery.Celery("writer", backend=server.url(), set_as_current=False)
    app.backend.store_result("t2", {"x": 1}, "SUCCESS")
    watch = family.results().watch()
    watch.add(["t2", "t3"])
    found = eventually(lambda: watch.poll(1))
    assert json.loads(found["t2"].body or b"")["result"] == {"x": 1}
    app.backend.store_result("t3", ValueError("no"), "FAILURE")
    assert eventually(lambda: watch.poll(1))["t3"].state == "FAILURE"
    watch.close()
    close_celery(app)
