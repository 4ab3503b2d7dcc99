"""The Redis driver under odd timing: clocks apart, tokens that go astray, scripts that meet odd keys."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import re
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from tests.support.project import eventually
from tests.support.redis import RedisServer

from celeriac.client.publisher import Publisher
from celeriac.client.sender import Sender
from celeriac.drivers.redis import RedisFamily
from celeriac.drivers.redis.consumer import RedisConsumer
from celeriac.drivers.redis.script import CELERY_CLAIM, CLAIM, Script
from celeriac.kernel.errors import BrokerFull, BrokerRejected, BrokerUnavailable
from celeriac.kernel.message import Delivery, Envelope, Group, Part, Record, Settlement, Verdict
from celeriac.kernel.wire import Headers, pack

pytestmark = pytest.mark.service


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def server(running: RedisServer) -> RedisServer:
    running.cli("FLUSHALL")
    running.cli("CONFIG", "SET", "maxmemory", "0")
    return running


@pytest.fixture
def family(server: RedisServer) -> Iterator[RedisFamily]:
    family = RedisFamily(server.url(), {})
    yield family
    family.close()


def task(name: str, queue: str = "q", **fields: Any) -> Envelope:
    return Envelope(name, queue, pack(Headers("t", name), b"[[],{},{}]"), **fields)


def celery_task(name: str, queue: str = "q", **fields: Any) -> Envelope:
    return task(name, queue, wire="celery", **fields)


def names(batch: Any) -> list[str]:
    return [delivery.envelope.id for delivery in batch]


def scripts_run(server: RedisServer) -> int:
    return int(server.info("commandstats").get("cmdstat_evalsha", {}).get("calls", 0))


class Worker:
    """A thread that claims once."""

    def __init__(self, consumer: RedisConsumer, limit: int = 1, wait: float = 20.0) -> None:
        self.consumer = consumer
        self.got: list[Delivery] = []
        self.at = 0.0
        self._thread = threading.Thread(target=self._run, args=(limit, wait), daemon=True)
        self._thread.start()

    def _run(self, limit: int, wait: float) -> None:
        self.got += self.consumer.claim(limit, wait=wait)
        self.at = time.monotonic()

    def join(self) -> None:
        self.consumer.wake()
        self._thread.join(5)
        assert not self._thread.is_alive()
        self.consumer.close()


def blocked(server: RedisServer) -> int:
    return int(server.info("clients")["blocked_clients"])


def test_watching_other_queues_while_a_claim_begins_is_not_forgotten(
    family: RedisFamily, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = family.broker()
    consumer = broker.consume(["a", "b"], owner="w", lease=60)
    take = consumer._take

    def late(limit: int, suspects: int) -> list[Delivery]:
        # As another thread would, when the claim has looked at its queues already.
        consumer.watch(["c"])
        return take(limit, suspects)

    monkeypatch.setattr(consumer, "_take", late)
    assert consumer.claim(1, wait=0) == ()
    monkeypatch.setattr(consumer, "_take", take)
    broker.publish([task("one", "c"), task("two", "a")])
    assert names(consumer.claim(5, wait=0)) == ["one"]
    consumer.close()


# -- clocks -----------------------------------------------------------------------------------------


class Clock:
    """The module `time`, with wall clock time that is wrong by some seconds."""

    def __init__(self, off: float) -> None:
        self._off = off

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)

    def time(self) -> float:
        return time.time() + self._off


@pytest.fixture(params=[30.0, -30.0], ids=["ahead", "behind"])
def clock(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock(request.param)
    monkeypatch.setattr("celeriac.drivers.redis.consumer.time", clock)
    monkeypatch.setattr("celeriac.drivers.redis.celery_lists.time", clock)
    return clock


def test_a_worker_whose_clock_is_wrong_wakes_when_a_task_is_due_and_not_all_the_time(
    server: RedisServer, family: RedisFamily, clock: Clock
) -> None:
    broker = family.broker()
    due = time.time() + 0.6
    broker.publish([task("later", not_before=due)])
    consumer = broker.consume(["q"], owner="w", lease=60)
    before = scripts_run(server)
    assert names(consumer.claim(1, wait=5)) == ["later"]
    assert -0.001 < time.time() - due < 0.5
    assert scripts_run(server) - before < 12
    consumer.close()


def test_a_worker_whose_clock_is_wrong_waits_for_celerys_too(
    server: RedisServer, family: RedisFamily, clock: Clock
) -> None:
    broker = family.broker()
    due = time.time() + 0.6
    broker.publish([celery_task("later", not_before=due)])
    consumer = broker.consume(["q"], owner="w", lease=60)
    before = scripts_run(server)
    assert names(consumer.claim(1, wait=5)) == ["later"]
    assert -0.001 < time.time() - due < 0.5
    assert scripts_run(server) - before < 20
    consumer.close()


# -- waking -----------------------------------------------------------------------------------------


def test_a_worker_whose_claim_never_arrived_claims_again_at_once(
    family: RedisFamily, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = family.broker()
    consumer = broker.consume(["q"], owner="w", lease=60)
    run = family.server.run

    def lost(which: Any, keys: Any, args: Any) -> Any:
        if which is CLAIM:
            raise BrokerUnavailable("the connection broke before it was sent")
        return run(which, keys, args)

    assert consumer.claim(1, wait=0) == ()
    broker.publish([task("a")])
    monkeypatch.setattr(family.server, "run", lost)
    with pytest.raises(BrokerUnavailable):
        consumer.claim(1, wait=0)
    monkeypatch.setattr(family.server, "run", run)
    assert names(consumer.claim(1, wait=0)) == ["a"]
    consumer.close()


@pytest.mark.parametrize(("make", "waits"), [(task, 1), (celery_task, 5)], ids=["own", "celery"])
def test_what_a_dead_worker_had_wakes_as_many_workers(
    server: RedisServer, family: RedisFamily, make: Any, waits: int
) -> None:
    broker = family.broker()
    broker.publish([make(f"t{n}") for n in range(4)])
    dead = broker.consume(["q"], owner="dead", lease=60)
    assert len(dead.claim(4, wait=0)) == 4
    workers = [Worker(broker.consume(["q"], owner=f"w{n}", lease=60), limit=8) for n in range(4)]
    eventually(lambda: blocked(server) == 4 * waits)
    began = time.monotonic()
    dead.close()
    eventually(lambda: all(worker.got for worker in workers), within=3)
    assert max(worker.at for worker in workers) - began < 0.4
    assert sorted(names(d for w in workers for d in w.got)) == ["t0", "t1", "t2", "t3"]
    for worker in workers:
        worker.join()


def test_a_worker_that_is_full_takes_no_ring_from_another(
    server: RedisServer, family: RedisFamily
) -> None:
    broker = family.broker()
    first = Worker(broker.consume(["q"], owner="first", lease=60))
    eventually(lambda: blocked(server) == 1)
    broker.publish([celery_task("celery")])
    # One of Celery's fills it, while it waits to be rung for its own.
    eventually(lambda: first.got)
    eventually(lambda: blocked(server) == 0)
    second = Worker(broker.consume(["q"], owner="second", lease=60))
    eventually(lambda: blocked(server) == 5)
    began = time.monotonic()
    broker.publish([task("own")])
    eventually(lambda: second.got, within=10)
    assert second.at - began < 0.4
    first.join()
    second.join()


@pytest.mark.parametrize("known", [False, True], ids=["unknown", "known"])
def test_an_idle_worker_runs_hardly_a_script(
    server: RedisServer, family: RedisFamily, known: bool
) -> None:
    if known:
        for queue in ("a", "b", "c"):
            server.cli("SADD", f"_kombu.binding.{queue}", "x")
    consumer = family.broker().consume(["a", "b", "c"], owner="w", lease=60)
    before = scripts_run(server)
    for _ in range(5):
        assert consumer.claim(4, wait=0.7) == ()
    # Two looks at first; perhaps two more when the bell is asked again.
    assert scripts_run(server) - before <= 5
    consumer.close()


def test_a_queue_that_celery_learns_of_later_is_looked_at_beside_one_it_knows(
    server: RedisServer, family: RedisFamily
) -> None:
    server.cli("SADD", "_kombu.binding.known", "x")
    worker = Worker(family.broker().consume(["known", "new"], owner="w", lease=60))
    eventually(lambda: blocked(server) == 5)
    began = time.monotonic()
    family.broker().publish([celery_task("a", "new")])
    eventually(lambda: worker.got)
    assert worker.at - began < 2.5
    worker.join()


# -- scripts that meet what they do not expect ------------------------------------------------------


@pytest.mark.parametrize("make", [task, celery_task], ids=["own", "celery"])
@pytest.mark.parametrize(
    ("there", "record"),
    [
        ("RPUSH", Record("bad", "SUCCESS", b'{"status": "SUCCESS"}')),
        ("", Record("bad", "SUCCESS", b'{"status": "SUCCESS"}', expires_at=1e18)),
    ],
    ids=["other type", "expires never"],
)
def test_a_result_that_redis_will_not_have_takes_no_task_with_it(
    server: RedisServer, family: RedisFamily, make: Any, there: str, record: Record
) -> None:
    if there:
        server.cli(there, "celery-task-meta-bad", "x")
    broker = family.broker()
    broker.publish([make("first"), make("bad"), make("last")])
    consumer = broker.consume(["q"], owner="w", lease=60)
    held = consumer.claim(3, wait=0)
    first, bad, last = held
    batch = [
        Settlement(first, Verdict.RELEASE),
        Settlement(bad, Verdict.ACK, record=record, publish=(task("next"),)),
        Settlement(last, Verdict.ACK),
    ]
    assert list(consumer.settle(batch)) == []
    assert sorted(names(consumer.claim(9, wait=0))) == ["first", "next"]
    assert family.results().fetch(["bad"])["bad"].state == "SUCCESS"
    consumer.close()


def test_a_reason_that_is_no_text_can_be_written(family: RedisFamily) -> None:
    broker = family.broker()
    broker.publish([task("a")])
    consumer = broker.consume(["q"], owner="w", lease=60)
    (held,) = consumer.claim(1, wait=0)
    assert list(consumer.settle([Settlement(held, Verdict.BURY, reason="file \udcff")])) == []
    assert broker.buried(limit=1)[0].reason == "file \\udcff"
    consumer.close()


@pytest.mark.parametrize(
    "headers",
    [{"compression": ["gzip"]}, {"task": "t", "id": "a", "retries": -1}],
    ids=["compression", "retries"],
)
def test_a_message_that_is_wrong_in_an_odd_way_ends_no_worker(
    server: RedisServer, family: RedisFamily, headers: dict[str, Any]
) -> None:
    body = base64.b64encode(b"[[],{},{}]").decode()
    raw = {"body": body, "headers": headers, "properties": {"body_encoding": "base64"}}
    server.cli("LPUSH", "q", json.dumps(raw))
    consumer = family.broker().consume(["q"], owner="w", lease=60)
    assert consumer.claim(1, wait=0) == ()
    assert server.cli("LLEN", "{celeriac}:quarantine:q") == 1
    consumer.close()


def test_outcomes_wait_while_the_server_refuses_the_login(
    server: RedisServer, family: RedisFamily
) -> None:
    broker = family.broker()
    broker.publish([task("a")])
    consumer = broker.consume(["q"], owner="w", lease=60)
    (held,) = consumer.claim(1, wait=0)
    server.cli("CONFIG", "SET", "requirepass", "another")
    try:
        server.cli("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        with contextlib.suppress(BrokerUnavailable):
            consumer.extend([held], lease=60)  # it finds out that the connection is gone
        with pytest.raises(BrokerUnavailable, match="refused the login"):
            consumer.extend([held], lease=60)
        with pytest.raises(BrokerUnavailable, match="refused the login"):
            consumer.settle([Settlement(held, Verdict.ACK)])
        with pytest.raises(BrokerRejected, match="refused the login"):
            broker.publish([task("b")])
    finally:
        server.cli("CONFIG", "SET", "requirepass", "")
    assert list(consumer.extend([held], lease=60)) == []
    assert list(consumer.settle([Settlement(held, Verdict.ACK)])) == []
    consumer.close()


@pytest.mark.parametrize("make", [task, celery_task], ids=["own", "celery"])
def test_a_server_whose_clock_goes_back_does_not_keep_what_the_dead_had(
    server: RedisServer, family: RedisFamily, make: Any
) -> None:
    broker = family.broker()
    broker.publish([make("a")])
    dead = broker.consume(["q"], owner="dead", lease=1)
    (held,) = dead.claim(1, wait=0)
    broker.upkeep(time.time())
    # As it looks when the clock has gone back by an hour.
    hour = 3_600_000
    server.cli("HINCRBY", "{celeriac}:t", "tick", hour)
    for key in ("{celeriac}:l", "{celeriac}:cl"):
        for holder in server.cli("ZRANGE", key, 0, -1):
            server.cli("ZINCRBY", key, hour, holder)
    broker.upkeep(time.time())  # from now on it has a time of grace
    server.cli("HSET", "{celeriac}:t", "grace", 0)

    def is_back() -> bool:
        broker.upkeep(time.time())
        return broker.count(["q"])["q"].ready == 1

    eventually(is_back, within=6)
    assert list(dead.settle([Settlement(held, Verdict.ACK)])) == [held]
    dead.close()


def test_before_redis_7_a_full_server_lets_work_end_too(
    server: RedisServer, family: RedisFamily
) -> None:
    broker, results = family.broker(), family.results()
    broker.open()
    # Scripts without flags mean the same to every version.
    family.server.modern = False
    broker.publish([task("a"), task("b"), celery_task("c")])
    results.open_group(Group("g", 2, task("body"), task("error"), 0.0))
    consumer = broker.consume(["q"], owner="w", lease=60)
    held = [*consumer.claim(3, wait=0), *consumer.claim(3, wait=0)]
    assert len(held) == 3
    server.cli("CONFIG", "SET", "maxmemory", "1mb")
    with pytest.raises(BrokerFull):
        broker.publish([task("more")])
    broker.upkeep(time.time())
    assert list(consumer.extend(held, lease=60)) == []
    results.store([Record("a", "SUCCESS", b"{}")])
    assert results.close_parts([Part("g", 0, Record("a", "SUCCESS", b"{}"))]) == []
    assert results.grow_group("g", 1) == 2
    results.mark_sent(["g"])
    ends = [Settlement(one, Verdict.ACK) for one in held[1:]]
    assert list(consumer.settle([Settlement(held[0], Verdict.LOST), *ends])) == []
    consumer.close()


class Older(RedisFamily):
    """A family on what says that it is Redis 6.2, and takes no flags."""

    def __init__(self, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(url, {})
        call, run = self.server.call, self.server.run

        def told(*command: Any) -> Any:
            reply = call(*command)
            return re.sub(rb"redis_version:\S+", b"redis_version:6.2.14", reply) if command == (
                "INFO", "server"
            ) else reply  # fmt: skip

        def refuses(script: Script, keys: Any, args: Any) -> Any:
            assert not script.text(self.server.modern).startswith("#!")
            return run(script, keys, args)

        monkeypatch.setattr(self.server, "call", told)
        monkeypatch.setattr(self.server, "run", refuses)


def test_results_alone_on_an_older_server(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    family = Older(server.url(), monkeypatch)
    results = family.results()
    results.open()
    results.store([Record("a", "SUCCESS", b"{}")])
    assert results.fetch(["a"])["a"].state == "SUCCESS"
    family.close()


def test_one_coroutines_odd_envelope_fails_no_other(family: RedisFamily) -> None:
    broker = family.broker()
    sender = Sender(Publisher(lambda: broker, 10.0), None)

    async def both() -> list[Any]:
        sends = [sender.send([task("good")]), sender.send([task("bad", "q" * 70_000)])]
        return await asyncio.gather(*sends, return_exceptions=True)

    good, bad = asyncio.run(both())
    sender.close()
    assert good is None
    assert isinstance(bad, Exception)
    assert broker.count(["q"])["q"].ready == 1


@pytest.mark.parametrize("make", [task, celery_task])
@pytest.mark.parametrize("verdict", [Verdict.ACK, Verdict.RETRY])
def test_what_follows_cannot_be_sent_and_the_task_is_not_ended_half_way(
    server: RedisServer, family: RedisFamily, make: Any, verdict: Verdict
) -> None:
    broker = family.broker()
    server.cli("SET", "taken", "by another program")
    broker.publish([make("a"), make("b")])
    consumer = broker.consume(["q"], owner="w", lease=60)
    first, second = consumer.claim(2, wait=0)
    follow = (celery_task("good", "good", priority=9), celery_task("bad", "taken", priority=9))
    record = Record(first.envelope.id, "SUCCESS", b'{"status": "SUCCESS"}')
    batch = [
        Settlement(first, verdict, record=record, publish=follow, again=first.envelope),
        Settlement(second, Verdict.ACK),
    ]
    with pytest.raises(BrokerRejected, match="taken is no list"):
        consumer.settle(batch)
    assert family.results().fetch([first.envelope.id]) == {}
    assert server.cli("LLEN", "good") == 0
    # Both are still held, and end in another way.
    refused = Settlement(first, Verdict.BURY, reason="its outcome was refused")
    assert list(consumer.settle([refused, Settlement(second, Verdict.ACK)])) == []
    assert [one.envelope.id for one in broker.buried(limit=9)] == [first.envelope.id]
    consumer.close()


def test_a_batch_with_a_message_that_cannot_be_sent_is_not_sent_half(
    server: RedisServer, family: RedisFamily
) -> None:
    server.cli("SET", "taken", "by another program")
    batch = [celery_task("a", "good", priority=9), celery_task("b", "taken", priority=9)]
    with pytest.raises(BrokerRejected, match="taken is no list"):
        family.broker().publish(batch)
    assert server.cli("LLEN", "good") == 0


def test_the_list_that_a_message_came_from_is_none_any_more(
    server: RedisServer, family: RedisFamily
) -> None:
    broker = family.broker()
    broker.publish([celery_task("a", priority=9), celery_task("b", priority=9)])
    consumer = broker.consume(["q"], owner="w", lease=60)
    first, second = consumer.claim(2, wait=0)
    server.cli("SET", "q", "by another program")
    later = Settlement(second, Verdict.RETRY, again=second.envelope)
    with pytest.raises(BrokerRejected, match="q is no list"):
        consumer.settle([Settlement(first, Verdict.RELEASE), later])
    released = [Settlement(one, Verdict.RELEASE) for one in (first, second)]
    assert list(consumer.settle(released)) == []
    assert sorted(names(consumer.claim(2, wait=0, suspects=2))) == ["a", "b"]
    consumer.close()


# -- on the way to the worker ------------------------------------------------------------------------


@pytest.mark.parametrize("make", [task, celery_task])
def test_what_is_asked_for_again_is_not_given_back_on_its_way_to_the_worker(
    family: RedisFamily, monkeypatch: pytest.MonkeyPatch, make: Any
) -> None:
    broker = family.broker()
    broker.publish([make("a")])
    consumer = broker.consume(["q"], owner="w", lease=60)
    run = family.server.run
    wanted = CLAIM if make is task else CELERY_CLAIM

    def lost(which: Any, keys: Any, args: Any) -> Any:
        found = run(which, keys, args)
        if which is wanted:
            raise BrokerUnavailable("the reply was lost")
        return found

    monkeypatch.setattr(family.server, "run", lost)
    with pytest.raises(BrokerUnavailable):
        consumer.claim(1, wait=0)
    monkeypatch.setattr(family.server, "run", run)
    consumer.extend([], lease=60)
    (held,) = consumer.claim(1, wait=0)
    # The worker has it in its hands, and has not noted it yet.
    consumer.extend([], lease=60)
    assert list(consumer.settle([Settlement(held, Verdict.ACK)])) == []
    consumer.close()


@pytest.mark.parametrize("make", [task, celery_task])
def test_what_is_long_on_its_way_is_not_given_back(
    family: RedisFamily, monkeypatch: pytest.MonkeyPatch, make: Any
) -> None:
    broker = family.broker()
    broker.publish([make("a")])
    consumer = broker.consume(["q"], owner="w", lease=60)
    run = family.server.run
    wanted = CLAIM if make is task else CELERY_CLAIM

    def slow(which: Any, keys: Any, args: Any) -> Any:
        found = run(which, keys, args)
        if which is wanted:
            for _ in range(3):
                consumer.extend([], lease=60)
        return found

    monkeypatch.setattr(family.server, "run", slow)
    (held,) = consumer.claim(1, wait=0)
    monkeypatch.setattr(family.server, "run", run)
    assert list(consumer.settle([Settlement(held, Verdict.ACK)])) == []
    consumer.close()


def test_outcomes_that_were_given_up_are_not_remembered(
    server: RedisServer, family: RedisFamily
) -> None:
    broker = family.broker()
    broker.publish([task(f"t{n}") for n in range(20)])
    consumer = broker.consume(["q"], owner="w", lease=60)
    held = list(consumer.claim(20, wait=0))
    server.cli("CONFIG", "SET", "requirepass", "another")
    try:
        server.cli("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        for delivery in held:
            # The last attempt: the engine gives up at the end of the lease.
            delivery.lease_until = time.monotonic()
            with pytest.raises(BrokerUnavailable):
                consumer.settle([Settlement(delivery, Verdict.ACK)])
    finally:
        server.cli("CONFIG", "SET", "requirepass", "")
    assert len(consumer._maybe) <= 1
    consumer.close()


# -- many queues -------------------------------------------------------------------------------------


def test_names_of_empty_queues_are_forgotten_where_there_are_many(
    server: RedisServer, family: RedisFamily
) -> None:
    broker = family.broker()
    broker.declare([f"reply-{n}" for n in range(1_500)])
    broker.publish([task("waits", "kept"), task("later", "due", not_before=time.time() + 60)])

    def names_left() -> int:
        server.cli("HDEL", "{celeriac}:t", "tick")  # as if time had passed
        broker.upkeep(time.time())
        return int(server.cli("SCARD", "{celeriac}:queues"))

    eventually(lambda: names_left() <= 1_000)
    found = broker.count([])
    assert (found["kept"].ready, found["due"].delayed) == (1, 1)
    broker.publish([task("new", "reply-1")])
    assert broker.count([])["reply-1"].ready == 1


def test_upkeep_of_celerys_lists_looks_only_at_queues_with_something_delayed(
    server: RedisServer, family: RedisFamily
) -> None:
    broker = family.broker()
    broker.declare([f"idle-{n}" for n in range(900)])
    broker.publish([celery_task("a", not_before=time.time() + 0.5)])
    consumer = broker.consume(["q"], owner="w", lease=60)
    assert consumer.claim(1, wait=0) == ()
    assert server.cli("SMEMBERS", "{celeriac}:cdq") == {b"q"}
    server.cli("CONFIG", "RESETSTAT")
    broker.upkeep(time.time())
    ranges = server.info("commandstats")["cmdstat_zrangebyscore"]["calls"]
    assert ranges < 10

    def promoted() -> bool:
        broker.upkeep(time.time())
        return int(server.cli("LLEN", "q\x06\x169")) == 1

    eventually(promoted)
    assert server.cli("EXISTS", "{celeriac}:cdq") == 0
    consumer.close()
