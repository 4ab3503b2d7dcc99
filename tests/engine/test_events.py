"""Events from a worker to who listens, and the picture that is made of them."""

from __future__ import annotations

import logging
import threading
import types
from collections.abc import Iterator
from typing import Any

import pytest

from celeriac import Celeriac, signals
from celeriac.drivers.memory import MemoryFamily
from celeriac.events.emitter import Emitter
from celeriac.events.heart import Heart
from celeriac.events.snapshot import Polaroid, evcam
from celeriac.kernel.errors import BrokerUnavailable, Reject
from celeriac.kernel.events import TASK_FIELDS, WORKER_FIELDS, event, read
from celeriac.testing.eventually import eventually
from celeriac.testing.running import running_worker

COMMON = {"hostname", "pid", "utcoffset", "clock", "timestamp", "type", "local_received"}


class Listener:
    """Keeps the events of an app."""

    def __init__(self, app: Celeriac) -> None:
        self.receiver = app.events.Receiver(None, handlers={"*": lambda event: None})
        self.events: list[dict[str, Any]] = []
        self.receiver.listen()

    def look(self) -> list[dict[str, Any]]:
        """Return all that was heard so far."""
        self.events += self.receiver.poll(0.05)
        return self.events

    def of(self, uuid: str) -> list[str]:
        """Return the kinds of events of a task."""
        return [event["type"] for event in self.look() if event.get("uuid") == uuid]

    def kinds(self) -> set[str]:
        """Return the kinds of all events."""
        return {event["type"] for event in self.look()}


@pytest.fixture
def listener(app: Celeriac) -> Iterator[Listener]:
    family = MemoryFamily("memory://events", {"private": True})
    with app.standing_in(family):
        made = Listener(app)
        yield made
        made.receiver.close()


def test_a_task_from_sent_to_succeeded(app: Celeriac, listener: Listener) -> None:
    @app.task
    def add(x: int, y: int) -> int:
        return x + y

    app.conf.task_send_sent_event = True
    with running_worker(app, in_memory=False, task_events=True, hostname="w1@here"):
        result = add.delay(1, y=2)
        assert result.get(timeout=10) == 3
        eventually(lambda: len(listener.of(result.id)) == 4)
    found = {e["type"]: e for e in listener.events if e.get("uuid") == result.id}
    for kind in ("task-sent", "task-received", "task-started", "task-succeeded"):
        assert set(found[kind]) - {"local_received"} == {
            *TASK_FIELDS[kind],
            *COMMON - {"local_received"},
        }
        assert found[kind]["hostname"] == "w1@here"
    assert found["task-received"]["name"] == add.name
    assert found["task-received"]["args"] == "[1]"
    assert found["task-received"]["kwargs"] == "{'y': 2}"
    assert found["task-succeeded"]["result"] == "3"
    assert found["task-succeeded"]["runtime"] >= 0
    assert found["task-sent"]["queue"] == "celery"
    clocks = [e["clock"] for e in listener.events if e.get("uuid") == result.id]
    assert sorted(set(clocks)) == sorted(clocks)


def test_every_other_end_of_a_task(app: Celeriac, listener: Listener) -> None:
    @app.task
    def fail() -> None:
        raise ValueError("no")

    @app.task(bind=True)
    def again(self: Any) -> None:
        if not self.request.retries:
            raise self.retry(countdown=0)

    @app.task
    def refuse() -> None:
        raise Reject("not now")

    @app.task(send_events=False)
    def quiet() -> None: ...

    with running_worker(app, in_memory=False, task_events=True) as worker:
        worker.revoked.add(["never"])
        fail.apply_async(task_id="fail")
        again.apply_async(task_id="again")
        refuse.apply_async(task_id="refuse")
        fail.apply_async(task_id="never")
        fail.apply_async(task_id="late", expires=-1)
        quiet.apply_async(task_id="quiet").get(timeout=10)
        eventually(lambda: len(listener.of("again")) == 6)
        for uuid, end in (
            ("fail", "task-failed"),
            ("refuse", "task-rejected"),
            ("never", "task-revoked"),
            ("late", "task-revoked"),
        ):
            eventually(lambda uuid=uuid, end=end: end in listener.of(uuid))
    ran = ["task-received", "task-started"]
    assert listener.of("again") == [*ran, "task-retried", *ran, "task-succeeded"]
    assert listener.of("quiet") == []
    for e in listener.events:
        if e["type"].startswith("task-"):
            assert set(e) == {*TASK_FIELDS[e["type"]], *COMMON}
    ends = {e["uuid"]: e for e in listener.events if e["type"] == "task-revoked"}
    assert (ends["never"]["expired"], ends["late"]["expired"]) == (False, True)
    (failed,) = [e for e in listener.events if e["type"] == "task-failed"]
    assert failed["exception"] == "ValueError('no')"
    assert "raise ValueError" in failed["traceback"]


def test_a_worker_comes_beats_and_goes(app: Celeriac, listener: Listener) -> None:
    beats = []
    receiver = signals.heartbeat_sent.connect(lambda **kwargs: beats.append(1), weak=False)
    with running_worker(app, in_memory=False, heartbeat_interval=0.1, hostname="w1@here"):
        eventually(lambda: {"worker-online", "worker-heartbeat"} <= listener.kinds())
    eventually(lambda: "worker-offline" in listener.kinds())
    signals.heartbeat_sent.disconnect(receiver)
    assert beats
    for e in listener.events:
        assert set(e) == {*WORKER_FIELDS[e["type"]], *COMMON}
        assert (e["hostname"], e["sw_ident"], e["freq"]) == ("w1@here", "celeriac", 0.1)


def test_off_nothing_is_said_of_tasks_until_it_is_turned_on(
    app: Celeriac, listener: Listener
) -> None:
    @app.task
    def work() -> None: ...

    with running_worker(app, in_memory=False) as worker:
        assert worker.events is not None
        first = work.delay()
        first.get(timeout=10)
        worker.events.enabled = True
        second = work.delay()
        second.get(timeout=10)
        eventually(lambda: "task-succeeded" in listener.of(second.id))
        worker.events.enabled = False
        third = work.delay()
        third.get(timeout=10)
        worker.events.heartbeat()
        eventually(lambda: "worker-heartbeat" in listener.kinds())
    assert listener.of(first.id) == listener.of(third.id) == []


def test_a_task_sends_events_of_its_own(app: Celeriac, listener: Listener) -> None:
    @app.task(bind=True)
    def work(self: Any) -> None:
        self.send_event("task-progress", done=3, what={1, 2} and object)

    with running_worker(app, in_memory=False, hostname="w1@here"):
        result = work.delay()
        eventually(lambda: listener.of(result.id) == ["task-progress"])
    (found,) = [e for e in listener.events if e["type"] == "task-progress"]
    assert (found["done"], found["hostname"]) == (3, "w1@here")


def test_a_program_sends_events_of_its_own(app: Celeriac, listener: Listener) -> None:
    with app.events.default_dispatcher() as dispatcher:
        dispatcher.send("deploy-begun", version="1.2")
    with app.events.Dispatcher(hostname="ci@here", groups=["deploy"]) as dispatcher:
        dispatcher.send("deploy-done", version="1.2")
        dispatcher.send("other-thing")
    eventually(lambda: len(listener.look()) == 2)
    begun, done = listener.events
    assert begun["hostname"].startswith("gen")
    assert (done["type"], done["hostname"], done["version"]) == ("deploy-done", "ci@here", "1.2")


def test_capture_ends_at_its_limit_and_at_its_timeout(app: Celeriac, listener: Listener) -> None:
    heard = []
    receiver = app.events.Receiver(None, handlers={"a-b": heard.append}, routing_key="a.#")
    with app.events.default_dispatcher() as dispatcher, receiver:
        dispatcher.send("c-d")
        for number in range(3):
            dispatcher.send("a-b", number=number)
        dispatcher.flush()
        receiver.capture(limit=2, wakeup=False)
    assert [e["number"] for e in heard] == [0, 1]
    with pytest.raises(TimeoutError, match=r"0\.05"):
        receiver.capture(timeout=0.05, wakeup=False)


# -- bad days -------------------------------------------------------------------------------------


class Bus:
    """Keeps what is sent, as long as it is there."""

    def __init__(self) -> None:
        self.away, self.listens = False, True
        self.sent: list[dict[str, Any]] = []

    def heard(self, topic: str) -> bool:
        """Tell whether somebody listens."""
        return self.listens

    def send(self, topic: str, batch: Any) -> None:
        """Keep."""
        if self.away:
            raise BrokerUnavailable("away")
        for message in batch:
            self.sent += read(message)


def test_the_oldest_are_dropped_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    bus: Any = Bus()
    emitter = Emitter(lambda: bus, "w1@here", size=100)
    emitter._thread = threading.current_thread()  # nobody empties it meanwhile
    for number in range(250):
        emitter.put([event("a-b", 0.0, {"number": number})])
    assert emitter.dropped == 150
    with caplog.at_level(logging.WARNING):
        emitter.flush()
        emitter.flush()
    assert [e["number"] for e in bus.sent] == list(range(150, 250))
    assert [e["clock"] for e in bus.sent] == list(range(1, 101))
    assert caplog.text.count("150 events were lost so far") == 1


def test_a_bus_that_is_away_costs_events_and_nothing_else(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bus: Any = Bus()
    bus.away = True
    emitter = Emitter(lambda: bus, "w1@here")
    emitter.put([event("a-b", 0.0, {"number": 1})])
    eventually(lambda: emitter.dropped == 1)
    bus.away = False
    emitter.put([event("a-b", 0.0, {"number": 2})])
    emitter.close()
    assert [e["number"] for e in bus.sent] == [2]


def test_what_nobody_hears_is_not_written_and_not_counted_as_lost() -> None:
    bus: Any = Bus()
    emitter = Emitter(lambda: bus, "w1@here")
    emitter._thread = threading.current_thread()  # nobody empties it meanwhile
    bus.listens = False
    emitter.put([event("a-b", 0.0, {})] * 1_000)
    emitter.flush()
    bus.listens = True
    emitter.put([event("a-b", 0.0, {})] * 2_500)
    emitter.flush()
    assert len(bus.sent) == 2_500
    assert emitter.dropped == 0


def test_no_events_are_made_while_nobody_hears_them(app: Celeriac) -> None:
    bus: Any = Bus()
    bus.listens = False
    told: list[bool] = []
    emitter = Emitter(lambda: bus, "w1@here", rest=told.append)
    emitter.put([event("a-b", 0.0, {})] * 1_000)
    eventually(lambda: told == [True, False])
    bus.listens = True
    emitter.put([event("a-b", 0.0, {})] * 1_000)
    emitter.close()
    assert told == [True, False]
    assert len(bus.sent) == 1_000


def test_a_resting_switch_is_on_when_events_are_asked_for() -> None:
    switch = bytearray(1)
    worker: Any = types.SimpleNamespace(app=None, hostname="w1@here")
    heart = Heart(worker, switch, beats=False, frequency=None)
    heart.enabled = True
    heart._rest(True)
    assert (heart.enabled, switch[0]) == (True, 0)
    heart.enabled = True  # a monitor has come
    assert switch[0] == 1
    heart.enabled = False
    heart._rest(False)
    assert (heart.enabled, switch[0]) == (False, 0)


def test_who_never_reads_stops_nobody(app: Celeriac, listener: Listener) -> None:
    """The listener's own bound is the bus's; the worker goes on at its pace."""

    @app.task
    def work() -> None: ...

    with running_worker(app, in_memory=False, task_events=True):
        results = [work.delay() for _ in range(300)]
        for result in results:
            result.get(timeout=10)
    assert len(listener.look()) >= 900


def test_what_is_no_event_is_dropped_and_said(
    app: Celeriac, listener: Listener, caplog: pytest.LogCaptureFixture
) -> None:
    hostile = [b"{", b'{"type": 1}', b"[1]", b'[{"type": 3}]', b"\xff", b"[" * 100_000]
    app.bus.send("events", hostile)
    with app.events.default_dispatcher() as dispatcher:
        dispatcher.send("a-b")
    eventually(lambda: listener.look())
    assert [e["type"] for e in listener.events] == ["a-b"]
    assert "was dropped" in caplog.text


def test_a_camera(app: Celeriac, listener: Listener) -> None:
    seen: list[tuple[int, int]] = []
    stop = threading.Event()

    class Camera(Polaroid):
        """Looks."""

        clear_after = True

        def on_shutter(self, state: Any) -> None:
            """Look."""
            seen.append((state.event_count, state.task_count))
            if state.task_count:
                stop.set()

    @app.task
    def work() -> None: ...

    with running_worker(app, in_memory=False, task_events=True):
        camera = threading.Thread(
            target=evcam, args=(Camera,), kwargs={"freq": 0.05, "app": app, "stop": stop}
        )
        camera.start()
        eventually(lambda: seen)
        work.delay()
        camera.join(10)
        assert not camera.is_alive()
    assert any(tasks == 1 for _, tasks in seen)
