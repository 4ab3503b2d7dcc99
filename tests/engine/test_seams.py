"""Where features meet: canvas, signals, events, revocations and limits in one worker."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from celeriac import Celeriac, chord, signals
from celeriac.client.compose import compose
from celeriac.client.panel import PANEL
from celeriac.client.signals import SIGNALS
from celeriac.control import inbox
from celeriac.control.ears import Ears
from celeriac.drivers.memory import MemoryFamily
from celeriac.kernel.errors import BrokerUnavailable, WireError
from celeriac.kernel.message import Delivery, Settlement, Verdict
from celeriac.kernel.wire import pack, unpack
from celeriac.testing import TaskKit
from celeriac.testing.eventually import eventually
from celeriac.testing.running import running_worker
from celeriac.worker.control import inspect_command
from celeriac.worker.gates import RateGate, RevokedStamps

Heard = list[tuple[str, dict[str, Any]]]
RUN = ("task_prerun", "task_postrun", "task_success", "task_failure", "task_retry")


@pytest.fixture(autouse=True)
def nobody_listens_afterwards() -> Iterator[None]:
    before = {signal: signal.receivers for signal in SIGNALS}
    yield
    for signal, receivers in before.items():
        signal.receivers = receivers


def hear(*names: str) -> Heard:
    """Connect to signals by name and return what will be heard."""
    heard: Heard = []

    def listen(name: str) -> None:
        def receiver(signal: Any, **kwargs: Any) -> None:
            heard.append((name, kwargs))

        getattr(signals, name).connect(receiver, weak=False)

    for name in names:
        listen(name)
    return heard


def names(heard: Heard) -> list[str]:
    return [name for name, _ in heard]


class Listener:
    """Keeps the events of an app."""

    def __init__(self, app: Celeriac) -> None:
        self.receiver = app.events.Receiver(None, handlers={"*": lambda event: None})
        self.events: list[dict[str, Any]] = []
        self.receiver.listen()

    def of(self, uuid: str) -> list[str]:
        """Return the kinds of events of a task."""
        self.events += self.receiver.poll(0.05)
        return [event["type"] for event in self.events if event.get("uuid") == uuid]


@pytest.fixture
def listener(app: Celeriac) -> Iterator[Listener]:
    with app.standing_in(MemoryFamily("memory://seams", {"private": True})):
        made = Listener(app)
        yield made
        made.receiver.close()


@pytest.mark.parametrize("ignore", [False, True])
def test_a_result_that_cannot_be_written_is_a_failure_once(
    app: Celeriac, listener: Listener, ignore: bool
) -> None:
    @app.task
    def after(x: Any) -> None: ...

    @app.task(ignore_result=ignore)
    def odd() -> object:
        return object()

    heard = hear(*RUN)
    with running_worker(app, in_memory=False, task_events=True):
        result = odd.apply_async(link=after.s())
        eventually(lambda: len(listener.of(result.id)) == 3)
    assert listener.of(result.id)[-1] == "task-failed"
    [failed] = [one for one in listener.events if one["type"] == "task-failed"]
    assert "object" in failed["exception"]
    assert names(heard).count("task_failure") == 1


def test_a_retry_that_cannot_be_sent_is_a_failure_once(app: Celeriac, listener: Listener) -> None:
    @app.task(bind=True)
    def again(self: Any, x: Any = None) -> None:
        self.retry(args=(object(),), countdown=0)

    heard = hear(*RUN)
    with running_worker(app, in_memory=False, task_events=True):
        result = again.delay()
        with pytest.raises(Exception, match="object"):
            result.get(timeout=10)
        eventually(lambda: len(listener.of(result.id)) == 3)
    assert listener.of(result.id)[-1] == "task-failed"
    assert names(heard).count("task_failure") == 1


def test_retries_of_a_chord_part(app: Celeriac, listener: Listener) -> None:
    @app.task(bind=True, max_retries=3)
    def flaky(self: Any, x: int) -> int:
        if self.request.retries < 2:
            raise self.retry(countdown=0)
        return x

    @app.task
    def total(xs: list[int]) -> int:
        return sum(xs)

    heard = hear(*RUN, "task_received")
    with running_worker(app, in_memory=False, task_events=True):
        result = chord([flaky.s(1), flaky.s(2)])(total.s())
        assert result.get(timeout=10) == 3
        part = result.parent.results[0].id
        eventually(lambda: len(listener.of(part)) == 9)
    kinds = [kind.removeprefix("task-") for kind in listener.of(part)]
    assert kinds == [*["received", "started", "retried"] * 2, "received", "started", "succeeded"]
    assert names(heard).count("task_retry") == 4
    assert names(heard).count("task_success") == 3
    assert names(heard).count("task_received") == names(heard).count("task_prerun") == 7
    assert names(heard).count("task_failure") == 0


def test_a_part_that_is_buried_is_a_failed_one(app: Celeriac, kit: TaskKit) -> None:
    """Its errback is called, its chord fails, and who listens hears of one failure."""
    called: list[Any] = []

    @app.task
    def part(x: int) -> int:
        return x

    @app.task
    def total(xs: list[int]) -> int:
        return sum(xs)

    @app.task
    def errback(request: Any, exc: Any, traceback: Any) -> None:
        called.append((request.id, type(exc).__name__))

    heard = hear("task_failure", "task_rejected")
    body = total.s()
    body.link_error(errback.s())
    header = [part.s(1).set(link_error=[errback.s()]), part.s(2)]
    result = chord(header)(body)
    lost = result.parent.results[0].id
    kit.crash_before_settle(part, times=5)
    kit.run_until_empty(failures="keep")
    assert app.AsyncResult(lost).state == "FAILURE"
    assert result.state == "FAILURE"
    assert [(r["task_id"], r["sender"]) for n, r in heard if n == "task_failure"][:1] == [
        (lost, part)
    ]
    assert "task_rejected" not in names(heard)
    assert called == [(lost, "WorkerLostError"), (result.id, "ChordError")]


def test_handed_out_too_often_is_a_failure(app: Celeriac, listener: Listener) -> None:
    """Workers that vanish tell nobody: the one that buries the task tells of its failure."""

    @app.task(max_deliveries=1)
    def work() -> None: ...

    heard = hear("task_failure", "task_rejected")
    result = work.delay()
    gone = app.broker.consume(["celery"], owner="gone", lease=0.01)
    assert gone.claim(1, wait=1.0)
    with running_worker(app, in_memory=False, task_events=True):
        eventually(lambda: result.state == "FAILURE")
        eventually(lambda: listener.of(result.id))
    assert listener.of(result.id) == ["task-failed"]
    assert names(heard) == ["task_failure"]
    assert (heard[0][1]["sender"], heard[0][1]["task_id"]) == (work, result.id)


def test_nobody_knew_it_is_a_failure_in_the_end(app: Celeriac, listener: Listener) -> None:
    heard = hear("task_unknown", "task_failure", "task_rejected")
    app.conf.task_unknown_patience = 0.0
    with running_worker(app, in_memory=False, task_events=True):
        result = app.send_task("nobody.knows")
        eventually(lambda: result.state == "FAILURE")
        eventually(lambda: listener.of(result.id))
    assert listener.of(result.id) == ["task-failed"]
    assert names(heard) == ["task_unknown"]


def test_monitors_hear_of_what_is_taken_back(app: Celeriac, listener: Listener) -> None:
    """They were told that it was sent: it must not look as if it waited for ever."""
    app.conf.task_send_sent_event = True
    result = app.send_task("waits")
    app.control.revoke(result.id)
    eventually(lambda: listener.of(result.id) == ["task-sent", "task-revoked"])
    [revoked] = [one for one in listener.events if one["type"] == "task-revoked"]
    assert (revoked["terminated"], revoked["expired"]) == (False, False)


# -- gates ----------------------------------------------------------------------------------------


def delivery_of(app: Celeriac, task: Any) -> Delivery:
    envelope, _ = compose(app, task.name, (), {}, {}, task)
    return Delivery(envelope, "receipt", float("inf"))


def test_a_rate_that_is_changed_forgets_the_old_queue(app: Celeriac) -> None:
    """Hours of waiting at one task an hour are not those of ten a second."""
    task = app.task(name="t")(lambda: None)
    gate = RateGate({"t": "1/h"})
    for _ in range(50):
        gate(delivery_of(app, task))
    gate.limit("t", "10/s")
    gate(delivery_of(app, task))
    late = gate(delivery_of(app, task))
    assert late is not None
    assert late.again is not None
    assert late.again.not_before < time.time() + 5


def test_who_is_put_off_comes_a_turn_after_another(app: Celeriac) -> None:
    task = app.task(name="t")(lambda: None)
    gate = RateGate({"t": "1/m"})
    began = time.time()
    assert gate(delivery_of(app, task)) is None
    late = [gate(delivery_of(app, task)) for _ in range(3)]
    turns = [round(one.again.not_before - began) for one in late if one and one.again]
    assert turns == [60, 120, 180]


def test_a_rate_that_goes_while_it_is_asked(app: Celeriac) -> None:
    """Remote control takes limits away in a thread of its own: the fetcher must not die of it."""
    task = app.task(name="t")(lambda: None)
    gate = RateGate({"t": "1/h"})
    assert gate(delivery_of(app, task)) is None
    bucket = gate._buckets["t"]

    class Slow:
        """A bucket that is asked while its limit goes."""

        rate = bucket.rate

        def take(self, now: float) -> bool:
            gate.limit("t", None)
            return bucket.take(now)

        def wait(self, now: float) -> float:
            return bucket.wait(now)

    gate._buckets["t"] = Slow()  # type: ignore[assignment]
    gate(delivery_of(app, task))


def test_stamps_that_are_none_harm_nobody(app: Celeriac) -> None:
    """What is in a message's stamps is what somebody sent."""
    task = app.task(name="t")(lambda: None)
    gate = RevokedStamps(lambda delivery: Settlement(delivery, Verdict.ACK))
    gate.add({"customer": ["c1"]})
    for stamps in ([1, 2], "text", 5, {"customer": {"a": 1}}, {"customer": None}):
        delivery = delivery_of(app, task)
        head, payload = unpack(delivery.envelope.body)
        head.stamps = stamps  # type: ignore[assignment]
        try:
            delivery.envelope.body = pack(head, payload)
        except WireError:
            continue
        assert gate(delivery) is None


# -- standing orders and remote control -----------------------------------------------------------


def test_counts_are_read_while_tasks_end(app: Celeriac) -> None:
    """`stats` looks at totals that the pool's thread is changing."""
    with running_worker(app) as worker:
        remote = worker.remote
        stop = threading.Event()

        def change() -> None:
            number = 0
            while not stop.is_set():
                number += 1
                remote.totals[str(number % 50).encode()] = 1
                remote.totals.pop(str((number - 25) % 50).encode(), None)

        thread = threading.Thread(target=change)
        thread.start()
        try:
            for _ in range(2000):
                remote.stats()
        finally:
            stop.set()
            thread.join()


def test_a_resumed_queue_is_taken_from_after_a_long_absence(app: Celeriac) -> None:
    """The order that took a pause back may be gone when a worker hears again."""
    task = app.task(name="t")(lambda: 1)
    with running_worker(app) as worker:
        app.control.pause("celery")
        eventually(lambda: worker.remote.paused == {"celery"})
        app.orders._orders.clear()
        [ears] = [one for one in worker._services if isinstance(one, Ears)]
        ears._ears[0]._read_at -= 10_000  # type: ignore[union-attr]
        eventually(lambda: not worker.remote.paused)
        assert task.delay().get(timeout=5) == 1


def test_autoscale_of_a_pool_of_one_size_is_refused(app: Celeriac) -> None:
    with running_worker(app, pool="solo"):
        [reply] = app.control.autoscale(4, 2, reply=True, timeout=5.0, limit=1)
    [said] = reply.values()
    assert "error" in said


def test_autoscale_stays_below_what_a_pool_can_be(app: Celeriac) -> None:
    """Asked for more than a pool has room for, it goes on with what there is."""
    with running_worker(app, pool="threads", concurrency=1) as worker:
        real = worker.pool.resize
        worker.pool.resize = lambda size: real(min(size, 3))  # type: ignore[method-assign]
        app.control.autoscale(8, 5, reply=True, timeout=5.0, limit=1)
        scaler = worker.remote.autoscaler
        assert scaler is not None
        eventually(lambda: scaler.info() == {"max": 3, "min": 3, "current": 3})
        app.control.autoscale(2, 1, reply=True, timeout=5.0, limit=1)
        eventually(lambda: worker.pool.size() == 2)


def test_a_bus_that_is_away_is_said_once(
    app: Celeriac, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A night without a broker is not a line a second in the log."""
    monkeypatch.setattr(inbox, "AWAY", 0.01, raising=False)
    caplog.set_level(logging.INFO, logger="celeriac.control")
    tries: list[float] = []
    with running_worker(app) as worker:
        [ears] = [one for one in worker._services if isinstance(one, Ears)]
        subscription: Any = ears._ears[0]._subscription  # type: ignore[union-attr]
        real = subscription.poll

        def away(wait: float) -> Any:
            tries.append(wait)
            raise BrokerUnavailable("away")

        subscription.poll = away
        subscription.wake()
        eventually(lambda: len(tries) > 4)
        subscription.poll = real
        assert app.control.ping(timeout=5.0, limit=1)
    said = [r.message for r in caplog.records if r.name == "celeriac.control"]
    assert [text.partition(":")[0] for text in said] == [
        "remote control is deaf until the broker is back",
        "remote control hears again",
    ]


def test_a_slow_answer_after_the_end_opens_nothing(app: Celeriac, tmp_path: Path) -> None:
    """Who asked for a profile of a worker that stops hears nothing; its app stays closed."""
    app = Celeriac("slow", broker=f"sqlite:///{tmp_path}/q.db", set_as_current=False)
    go, begun = threading.Event(), threading.Event()

    @inspect_command(name="seams_slow", slow=True)
    def slow(state: Any, **ignored: Any) -> str:
        begun.set()
        go.wait(20)
        return "late"

    try:
        with running_worker(app, pool="solo", in_memory=False, timeout=30):
            ask = threading.Thread(
                target=lambda: (
                    Celeriac("asks", broker=app.broker_url, set_as_current=False)
                    .control.inspect(timeout=1.0)
                    .request("seams_slow")
                )
            )
            ask.start()
            assert begun.wait(10)
        app.close()
        go.set()
        eventually(lambda: "celeriac-command" not in {t.name for t in threading.enumerate()})
        assert not app._families
        ask.join(10)
    finally:
        PANEL.pop("seams_slow")


def test_a_limit_of_this_worker_is_not_sent_on_with_a_retry() -> None:
    """Another worker, whose pool keeps no limits, would bury what carries one."""
    app = Celeriac("lent", set_as_current=False)

    @app.task(name="later", bind=True)
    def later(self: Any, changed: bool) -> None:
        self.retry(countdown=3600, **({"args": (True,)} if changed else {}))

    with app.standing_in(MemoryFamily("memory://lent", {"private": True})):
        with running_worker(app, pool="prefork", in_memory=False, timeout=30) as worker:
            [reply] = app.control.time_limit("later", hard=50.0, reply=True, timeout=5.0, limit=1)
            assert "set successfully" in str(reply)
            for changed in (False, True):
                later.delay(changed)
            own = later.apply_async((False,), time_limit=20)
            eventually(lambda: app.broker.count(["celery"])["celery"].delayed == 3)
            assert not worker.new_limits._lent
        again = {one.id: unpack(one.body)[0] for one in app.broker.peek("celery", limit=9)}
    assert again.pop(own.id).timelimit == (20, None)
    assert [head.timelimit for head in again.values()] == [(None, None)] * 2
