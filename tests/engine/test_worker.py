"""Whole workers over the memory driver: rates, revocation, queues, endings, services."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from celeriac import Celeriac
from celeriac.control.inbox import Inbox
from celeriac.drivers.memory import MemoryFamily
from celeriac.kernel.errors import BrokerUnavailable, ImproperlyConfigured
from celeriac.kernel.message import Delivery, Envelope, Settlement, Verdict
from celeriac.kernel.wire import Headers, pack
from celeriac.pools.solo import SoloPool
from celeriac.pools.threads import ThreadPool
from celeriac.testing import running_worker
from celeriac.testing.eventually import eventually, in_thread
from celeriac.testing.faults import FlakyBroker
from celeriac.worker.fetcher import Fetcher
from celeriac.worker.gates import RateGate
from celeriac.worker.held import Held
from celeriac.worker.keeper import Complaint, Keeper
from celeriac.worker.service import Service
from celeriac.worker.settler import Settler
from celeriac.worker.worker import EX_SOFTWARE, Worker


@pytest.fixture(params=["solo", "threads"])
def pool(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def memory(app: Celeriac) -> Iterator[MemoryFamily]:
    """Keep one world in the app's place, so that workers come and go on it."""
    family = MemoryFamily("memory://test", {"private": True})
    with app.standing_in(family):
        yield family


def test_a_thousand_tasks(app: Celeriac, pool: str) -> None:
    t = app.task(name="t")(lambda n: n * 2)
    with running_worker(app, pool=pool) as worker:
        with app.batch():
            results = [t.delay(n) for n in range(1000)]
        assert [result.get(timeout=30) for result in results] == [2 * n for n in range(1000)]
        assert worker.held.all() == []
        eventually(lambda: worker.remote.stats()["total"] == {"t": 1000})


def test_async_tasks_in_every_pool(app: Celeriac, pool: str) -> None:
    import asyncio

    @app.task(name="t")
    async def t(n: int) -> int:
        await asyncio.sleep(0.001)
        return n

    with running_worker(app, pool=pool):
        results = [t.delay(n) for n in range(20)]
        assert [result.get(timeout=20) for result in results] == list(range(20))


def test_delayed_tasks_are_never_early(app: Celeriac) -> None:
    started: list[float] = []
    t = app.task(name="t")(lambda: started.append(time.time()))
    with running_worker(app):
        due = time.time() + 0.3
        t.apply_async(countdown=0.3).get(timeout=10)
    assert due - 0.001 <= started[0] <= due + 1.0


def test_rate_limit(app: Celeriac) -> None:
    started: list[float] = []
    limited = app.task(name="limited", rate_limit="20/s")(lambda: started.append(time.monotonic()))
    free = app.task(name="free")(lambda: time.monotonic())
    with running_worker(app):
        results = [limited.delay() for _ in range(8)]
        others = [free.delay() for _ in range(20)]
        ends = [other.get(timeout=10) for other in others]
        for result in results:
            result.get(timeout=20)
    assert len(started) == 8
    span = started[-1] - started[0]
    assert span >= 0.25, "eight at 20/s take at least 0.35 s, but for the burst"
    assert max(ends) < started[-1], "the others were not held up"


def test_what_lost_a_worker_is_not_put_off() -> None:
    gate = RateGate({"t": "1/h"})
    envelope = Envelope("id", "q", pack(Headers("t", "id"), b""))
    assert gate(Delivery(envelope, 1, 0.0)) is None
    second = gate(Delivery(envelope, 2, 0.0))
    assert second is not None
    assert second.verdict is Verdict.RETRY
    assert gate(Delivery(envelope, 3, 0.0, handed_out=2)) is None, "its losses would be forgotten"


def test_rate_limit_zero_is_none_and_nonsense_is_refused(app: Celeriac) -> None:
    app.task(name="none", rate_limit=0)(lambda: None)
    with running_worker(app):
        pass
    app.task(name="bad", rate_limit="fast")(lambda: None)
    with pytest.raises(ImproperlyConfigured, match="rate_limit"):
        Worker(app, pool="threads", concurrency=1)


def test_revoke_of_a_waiting_task(app: Celeriac, memory: MemoryFamily) -> None:
    ran: list[int] = []
    t = app.task(name="t")(lambda: ran.append(1))
    waiting, delayed, kept = t.delay(), t.apply_async(countdown=60), t.delay()
    waiting.revoke()
    delayed.revoke()
    assert (waiting.state, delayed.state) == ("REVOKED", "REVOKED")
    with running_worker(app, in_memory=False):
        kept.get(timeout=10)
    assert ran == [1]


def test_revoke_of_what_a_worker_holds(app: Celeriac) -> None:
    gate = threading.Event()
    ran: list[str] = []

    @app.task(name="block")
    def block() -> None:
        gate.wait(20)

    t = app.task(name="t")(lambda: ran.append("t"))
    with running_worker(app, pool="solo") as worker:
        # Short tasks first, so that the worker learns to hold some ahead.
        for _ in range(50):
            t.delay().get(timeout=10)
        ran.clear()
        with app.batch():
            blocking = block.delay()
            held = t.delay()
        eventually(lambda: worker.held.all())
        worker.remote.revoke([held.id])
        gate.set()
        blocking.get(timeout=10)
        eventually(lambda: held.state == "REVOKED")
    assert ran == []


def test_expired_tasks_are_revoked(app: Celeriac, memory: MemoryFamily) -> None:
    t = app.task(name="t")(lambda: 1)
    result = t.apply_async(expires=0.01)
    time.sleep(0.02)
    with running_worker(app, in_memory=False):
        eventually(lambda: result.state == "REVOKED")


def test_queues_to_consume(app: Celeriac, memory: MemoryFamily) -> None:
    t = app.task(name="t")(lambda: 1)
    mine, others = t.apply_async(queue="a"), t.apply_async(queue="b")
    with running_worker(app, in_memory=False, queues="a, c"):
        assert mine.get(timeout=10) == 1
    assert others.state == "PENDING"
    app.conf.task_queues = ["a", "b"]
    with running_worker(app, in_memory=False, exclude_queues=["a"]):
        assert others.get(timeout=10) == 1
    with pytest.raises(ImproperlyConfigured, match="-X"):
        Worker(app, pool="solo", exclude_queues="nope")
    with pytest.raises(ImproperlyConfigured, match="no queue is left"):
        Worker(app, pool="solo", queues="a", exclude_queues="a")
    app.conf.task_create_missing_queues = False
    with pytest.raises(ImproperlyConfigured, match="task_queues"):
        Worker(app, pool="solo", queues="z")


def test_purge(app: Celeriac, memory: MemoryFamily) -> None:
    t = app.task(name="t")(lambda: 1)
    dropped = t.delay()
    with running_worker(app, in_memory=False, purge=True):
        assert t.delay().get(timeout=10) == 1
    assert dropped.state == "PENDING"


def test_limits_that_the_pool_cannot_keep_are_refused_at_start(app: Celeriac, pool: str) -> None:
    app.task(name="t", time_limit=5)(lambda: None)
    with pytest.raises(ImproperlyConfigured, match="prefork"):
        Worker(app, pool=pool, concurrency=1)


def test_a_call_with_a_limit_goes_back_for_another_pool(
    app: Celeriac, memory: MemoryFamily
) -> None:
    t = app.task(name="t")(lambda: 1)
    t.apply_async(time_limit=5)
    with running_worker(app, in_memory=False):
        eventually(lambda: app.broker.count(["celery"])["celery"].delayed == 1)


def test_warm_shutdown_finishes_what_runs_and_gives_back_the_rest(
    app: Celeriac, memory: MemoryFamily
) -> None:
    begun, gate = threading.Event(), threading.Event()

    @app.task(name="block")
    def block() -> str:
        begun.set()
        assert gate.wait(20)
        return "finished"

    with running_worker(app, pool="solo", in_memory=False) as worker:
        results = [block.delay() for _ in range(5)]
        assert begun.wait(10)
        worker.stop()
        eventually(lambda: worker._fetcher is not None and worker._fetcher.stopping.is_set())
        eventually(lambda: app.broker.count(["celery"])["celery"].ready == 4)
        gate.set()
    assert results[0].get(timeout=1) == "finished"
    count = app.broker.count(["celery"])["celery"]
    assert (count.ready, count.held) == (4, 0)


def test_a_second_request_hurries(app: Celeriac, memory: MemoryFamily) -> None:
    begun, gate = threading.Event(), threading.Event()

    @app.task(name="block")
    def block() -> None:
        begun.set()
        gate.wait(20)

    with running_worker(app, pool="solo", in_memory=False) as worker:
        result = block.delay()
        assert begun.wait(10)
        worker.stop()
        worker.stop()
    gate.set()
    count = app.broker.count(["celery"])["celery"]
    assert (count.ready, count.held) == (1, 0), "what ran is given back"
    assert result.state == "PENDING"


def test_the_deadline_of_a_warm_shutdown(app: Celeriac, memory: MemoryFamily) -> None:
    begun, gate = threading.Event(), threading.Event()

    @app.task(name="block")
    def block() -> None:
        begun.set()
        gate.wait(20)

    app.conf.worker_shutdown_timeout = 0.1
    with running_worker(app, in_memory=False):
        block.delay()
        assert begun.wait(10)
    gate.set()
    assert app.broker.count(["celery"])["celery"].ready == 1


def test_a_task_that_exits_takes_nothing_with_it(app: Celeriac, pool: str) -> None:
    @app.task(name="leave")
    def leave() -> None:
        raise SystemExit(3)

    t = app.task(name="t")(lambda: 1)
    with running_worker(app, pool=pool):
        assert isinstance(leave.delay().get(timeout=10, propagate=False), BaseException)
        assert t.delay().get(timeout=10) == 1


def test_a_dead_part_stops_the_worker(
    app: Celeriac, memory: MemoryFamily, caplog: pytest.LogCaptureFixture
) -> None:
    worker = Worker(app, pool="threads", concurrency=1)
    statuses: list[int] = []
    thread = threading.Thread(target=lambda: statuses.append(worker.start()))
    thread.start()
    assert worker.ready.wait(10)
    flaky: Any = worker._consumer

    def broken(*args: Any, **kwargs: Any) -> Any:
        raise ZeroDivisionError("a bug of the driver's")

    flaky.claim = broken
    flaky.wake()
    thread.join(20)
    assert statuses == [EX_SOFTWARE]
    assert "the fetcher died" in caplog.text


def test_the_broker_goes_away_and_comes_back(app: Celeriac, memory: MemoryFamily) -> None:
    t = app.task(name="t")(lambda n: n)
    flaky = FlakyBroker(memory.broker())
    app._broker = flaky
    with running_worker(app, in_memory=False) as worker:
        assert t.delay(1).get(timeout=10) == 1
        flaky.down()
        with pytest.raises(BrokerUnavailable):
            t.apply_async((2,), retry=False)
        eventually(lambda: flaky.calls["claim"] > 3)
        flaky.up()
        assert t.delay(3).get(timeout=20) == 3
        assert worker.held.all() == []


def test_a_lost_lease_drops_the_outcome(
    app: Celeriac, memory: MemoryFamily, caplog: pytest.LogCaptureFixture
) -> None:
    begun, gate = threading.Event(), threading.Event()

    @app.task(name="t")
    def t() -> str:
        begun.set()
        gate.wait(20)
        return "first"

    with running_worker(app, pool="solo", in_memory=False) as worker:
        result = t.delay()
        assert begun.wait(10)
        [delivery] = worker.held.all()
        with memory._world.shared.lock:  # as another worker's upkeep does
            entry = memory.broker().held(delivery)
            assert entry is not None
            memory.broker().give_back(entry, losses=1)
        gate.set()
        assert result.get(timeout=10) == "first"
        eventually(lambda: "no longer ours" in caplog.text)


# -- services -------------------------------------------------------------------------------------


class _Sink:
    """Takes what a pool says and forgets it."""

    def ended(self, batch: Any) -> None: ...

    def returned(self, batch: Any) -> None: ...

    def lost(self, delivery: Any, error: Any) -> None: ...

    def noted(self, batch: Any) -> None: ...

    def told(self, batch: Any) -> None: ...

    def failed(self, why: str) -> None: ...


def _parts(deaths: list[BaseException]) -> dict[str, Callable[[], Service]]:
    family = MemoryFamily("memory://services", {"private": True})
    broker, results = family.broker(), family.results()
    died = lambda service, error: deaths.append(error)  # noqa: E731

    def settler() -> Settler:
        consumer = broker.consume(["q"], owner="x", lease=30)
        return Settler(consumer, broker, results, Held(1, 0), on_death=died)

    def keeper() -> Keeper:
        consumer = broker.consume(["q"], owner="x", lease=30)
        pool = SoloPool(1)
        return Keeper(consumer, broker, results, pool, Held(1, 0), lease=30, on_death=died)

    def fetcher() -> Fetcher:
        consumer = broker.consume(["q"], owner="x", lease=30)
        pool = ThreadPool(1)
        return Fetcher(
            consumer,
            pool,
            Held(1, 0),
            gates=(),
            ended=lambda batch: None,
            crowded=lambda: False,
            log_tasks=False,
            received=lambda delivery: None,
            on_death=died,
        )

    return {"settler": settler, "keeper": keeper, "fetcher": fetcher}


def test_what_fails_each_second_is_said_at_growing_intervals(
    caplog: pytest.LogCaptureFixture,
) -> None:
    complaint = Complaint(0.0)
    assert [now for now in range(2000) if complaint.is_due(float(now))] == [
        *(0, 10, 30, 70, 150, 310, 630, 1230, 1830),
    ]
    keeper: Any = _parts([])["keeper"]()
    with caplog.at_level(logging.INFO, logger="celeriac.worker"):
        for _ in range(5):
            keeper._quietly("upkeep", _away)
        keeper._quietly("upkeep", lambda: None)
        keeper._quietly("upkeep", lambda: None)
        keeper._quietly("upkeep", _away)
    said = [record.getMessage() for record in caplog.records]
    assert [text.split(",")[0] for text in said] == [
        *("upkeep failed", "upkeep works again", "upkeep failed"),
    ]


def _away() -> None:
    raise BrokerUnavailable("away")


def test_a_claim_that_goes_on_is_waited_for() -> None:
    """Who is told that a queue is paused may rely on it: what claims has the new queues."""

    class Slow:
        began, go = threading.Event(), threading.Event()

        def claim(self, limit: int, **options: Any) -> Any:
            self.began.set()
            self.go.wait(10)
            return ()

        def wake(self) -> None: ...

    slow: Any = Slow()
    fetcher: Any = _parts([])["fetcher"]()
    fetcher._consumer = slow
    fetcher.pass_claim(10)  # nothing is claimed: it returns at once
    fetcher.start()
    assert slow.began.wait(10)
    with in_thread(lambda: fetcher.pass_claim(10)) as waiting:
        fetcher.consuming.clear()
        assert waiting.running
        slow.go.set()
    fetcher.stop()
    assert fetcher.join(10)


def test_standing_orders_hold_where_remote_control_is_off(
    app: Celeriac, memory: MemoryFamily
) -> None:
    t = app.task(name="t")(lambda: 1)
    app.conf.worker_enable_remote_control = False
    app.control.pause("celery")
    app.control.revoke("never")
    result = t.delay()
    with running_worker(app, in_memory=False) as worker:
        assert worker.remote.paused == {"celery"}
        assert worker.revoked.ids() == ["never"]
        assert app.control.ping(timeout=0.1) == []
        assert app.broker.count(["celery"])["celery"].ready == 1
        app.control.resume("celery")
        assert result.get(timeout=20) == 1


@pytest.mark.parametrize("name", ["settler", "keeper", "fetcher"])
def test_services_start_and_stop(name: str) -> None:
    deaths: list[BaseException] = []
    make = _parts(deaths)[name]
    for round_ in range(30):
        service = make()
        if round_ % 3 == 0:
            service.stop()  # before the start: it never runs
        service.start()
        service.start()
        if round_ % 2:
            time.sleep(0.001 * (round_ % 5))
        stoppers = [threading.Thread(target=service.stop) for _ in range(3)]
        for stopper in stoppers:
            stopper.start()
        service.stop()
        for stopper in stoppers:
            stopper.join()
        begun = time.monotonic()
        assert service.join(5.0)
        assert time.monotonic() - begun < 1.0, "a stop ends whatever it waits in"
        service.stop()
        service.start()
        assert service.join(0.0)
    assert deaths == []
    assert not [t for t in threading.enumerate() if t.name == f"celeriac-{name}"]


def test_the_inbox_starts_and_stops(app: Celeriac, memory: MemoryFamily) -> None:
    worker = Worker(app, pool="solo")
    for round_ in range(20):
        inbox = Inbox(worker)
        if round_ % 3 == 0:
            inbox.stop()
        inbox.start()
        inbox.start()
        inbox.stop()
        inbox.stop()
        inbox.join(5.0)
    worker.pool.stop(deadline=0.0)
    eventually(lambda: not [t for t in threading.enumerate() if t.name == "celeriac-control"])


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"[]",
        b"5",
        b"{}",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"method": 5}',
        b'{"method": ["ping"]}',
        b'{"method": "ping", "destination": 5}',
        b'{"method": "ping", "arguments": [1]}',
        b'{"method": "ping", "arguments": {"x": 1}}',
        b'{"method": "ping", "expires": "soon"}',
        b'{"method": "nothing"}',
        b'{"method": "ping", "reply_to": {"a": 1}}',
    ],
)
def test_a_control_message_that_is_none_does_not_make_deaf(
    app: Celeriac, memory: MemoryFamily, message: bytes
) -> None:
    with running_worker(app, in_memory=False) as worker:
        app.bus.send("control", [message])
        app.control.revoke("an-id")
        eventually(lambda: worker.revoked.ids() == ["an-id"])


@pytest.mark.parametrize("name", ["settler", "keeper", "fetcher"])
def test_a_service_stops_from_a_deep_wait(name: str) -> None:
    deaths: list[BaseException] = []
    service = _parts(deaths)[name]()
    service.start()
    time.sleep(0.1)  # into its wait; any moment is right for the test
    begun = time.monotonic()
    service.stop()
    assert service.join(5.0)
    assert time.monotonic() - begun < 0.5


def test_the_settler_ends_only_when_nothing_is_left() -> None:
    family = MemoryFamily("memory://left", {"private": True})
    broker = family.broker()
    consumer = broker.consume(["q"], owner="x", lease=30)
    broker.publish([Envelope(str(n), "q", b"") for n in range(1000)])
    held = Held(1, 0)
    settler = Settler(consumer, broker, family.results(), held)
    deliveries = consumer.claim(1000, wait=0)
    settler.start()
    settler.ended([Settlement(delivery, Verdict.ACK) for delivery in deliveries])
    settler.stop()
    assert settler.join(10)
    assert broker.count(["q"])["q"].held == 0


def test_workers_come_and_go(app: Celeriac, memory: MemoryFamily) -> None:
    before = {t.name for t in threading.enumerate()}
    t = app.task(name="t")(lambda n: n)
    results = [t.delay(n) for n in range(100)]
    for _ in range(10):
        with running_worker(app, in_memory=False):
            pass
    with running_worker(app, in_memory=False):
        assert [result.get(timeout=20) for result in results] == list(range(100))
    assert app.broker.count(["celery"])["celery"].held == 0

    def left() -> set[str]:
        names = {t.name for t in threading.enumerate()} - before
        return {name for name in names if name.startswith("celeriac-") and "watcher" not in name}

    eventually(lambda: not left())


def test_no_root_logger_is_touched(app: Celeriac) -> None:
    root = logging.getLogger()
    before = list(root.handlers), root.level
    with running_worker(app):
        pass
    assert (list(root.handlers), root.level) == before
