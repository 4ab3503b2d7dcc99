"""Remote control: every command end to end, over the memory driver."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from celeriac import Celeriac
from celeriac.client.compose import compose
from celeriac.control.inbox import TOPIC
from celeriac.kernel.wire import pack, unpack
from celeriac.testing.eventually import eventually
from celeriac.testing.running import running_worker
from celeriac.worker.control import control_command, inspect_command

GO = threading.Event()


@pytest.fixture
def app() -> Iterator[Celeriac]:
    app = Celeriac("ctl", set_as_current=False)

    @app.task(name="add")
    def add(x: int, y: int) -> int:
        return x + y

    @app.task(name="hold")
    def hold(name: str = "") -> str:
        GO.wait(20)
        return name

    GO.clear()
    yield app
    GO.set()


@pytest.fixture
def worker(app: Celeriac) -> Iterator[Any]:
    with running_worker(app, hostname="w1@here", concurrency=2) as worker:
        yield worker
        GO.set()


def asked(app: Celeriac, command: str, **arguments: Any) -> Any:
    """Return the one worker's answer."""
    reply = app.control.inspect(limit=1).request(command, 20.0, **arguments)
    assert reply is not None
    assert list(reply) == ["w1@here"]
    return reply["w1@here"]


def test_every_question_of_celery(app: Celeriac, worker: Any) -> None:
    inspect = app.control.inspect(destination=["w1@here"], timeout=20.0)
    assert inspect.ping() == {"w1@here": {"ok": "pong"}}
    # Shared tasks of other tests' modules are there too.
    assert {"add", "hold"} <= set(inspect.registered("rate_limit")["w1@here"])
    assert inspect.scheduled() == {"w1@here": []}
    assert inspect.active_queues()["w1@here"][0]["name"] == "celery"
    assert inspect.conf(with_defaults=True)["w1@here"]["task_default_queue"] == "celery"
    assert "celeriac:" in inspect.report()["w1@here"]["ok"]
    assert inspect.clock()["w1@here"]["clock"] > 0
    assert inspect.memsample()["w1@here"].endswith("MB")
    assert "rss (end)" in inspect.memdump()["w1@here"]
    assert "error" in inspect.objgraph()["w1@here"]
    assert inspect.hello("w2@there", ["id-of-another"])["w1@here"]["revoked"] == ["id-of-another"]
    stats = inspect.stats()["w1@here"]
    assert stats["pool"]["max-concurrency"] == 2
    assert {"total", "pid", "uptime", "rusage", "broker", "prefetch_count"} <= set(stats)


def test_what_runs_and_what_waits(app: Celeriac, worker: Any) -> None:
    results = [app.send_task("hold", (str(i),)) for i in range(2)]
    inspect = app.control.inspect(destination=["w1@here"], timeout=20.0)
    eventually(lambda: len(inspect.active()["w1@here"]) == 2)
    active = inspect.active()["w1@here"]
    assert {one["args"][0] for one in active} == {"0", "1"}
    assert all(one["name"] == "hold" and one["time_start"] and one["worker_pid"] for one in active)
    found = inspect.query_task(results[0].id, "nobody")["w1@here"]
    assert list(found) == [results[0].id]
    assert found[results[0].id][0] == "active"
    GO.set()
    assert [result.get(timeout=10) for result in results] == ["0", "1"]
    eventually(lambda: inspect.stats()["w1@here"]["total"] == {"hold": 2})


def test_a_revoked_waiting_task_is_withdrawn(app: Celeriac, worker: Any) -> None:
    late = app.send_task("add", (1, 2), countdown=3600)
    app.control.revoke(late.id)
    assert late.state == "REVOKED"
    assert app.broker.count(["celery"])["celery"].delayed == 0


def test_revocations_reach_workers_that_start_later(app: Celeriac) -> None:
    app.control.revoke("to-come")
    with running_worker(app, hostname="w1@here", in_memory=False) as worker:
        assert worker.revoked.ids() == ["to-come"]


def test_revoked_stamps(app: Celeriac, worker: Any) -> None:
    reply = app.control.revoke_by_stamped_headers(
        {"customer": ["c1"]}, reply=True, timeout=20.0, limit=1
    )
    assert "flagged as revoked" in reply[0]["w1@here"]["ok"]
    envelope, _ = compose(app, "add", (1, 2), {}, {}, app.tasks["add"])
    head, payload = unpack(envelope.body)
    head.stamped_headers, head.stamps = ["customer"], {"customer": ["c1"]}
    envelope.body = pack(head, payload)
    app.broker.publish([envelope])
    eventually(lambda: app.AsyncResult(envelope.id).state == "REVOKED")
    assert app.send_task("add", (1, 2)).get(timeout=10) == 3


def test_pause_and_resume(app: Celeriac, worker: Any) -> None:
    app.control.pause("celery", reply=True, timeout=20.0, limit=1)
    assert app.control.paused() == ["celery"]
    assert asked(app, "active_queues")[0]["paused"] is True
    result = app.send_task("add", (1, 2))
    with running_worker(app, hostname="w2@here", in_memory=False) as second:
        assert second.remote.paused == {"celery"}
        assert not second._fetcher.consuming.is_set()
        assert app.broker.count(["celery"])["celery"].ready == 1
        app.control.resume("celery")
        assert result.get(timeout=10) == 3
    assert app.control.paused() == []


def test_queues_come_and_go(app: Celeriac, worker: Any) -> None:
    reply = app.control.add_consumer("more", reply=True, timeout=20.0, limit=1)
    assert reply == [{"w1@here": {"ok": "add consumer more"}}]
    assert app.send_task("add", (1, 2), queue="more").get(timeout=10) == 3
    topic = asked(app, "add_consumer", queue="q", exchange="e", exchange_type="topic")
    assert "topic exchange (e), which only RabbitMQ can do" in topic["error"]
    assert "no argument 'nonsense'" in asked(app, "add_consumer", queue="q", nonsense=1)["error"]
    assert asked(app, "cancel_consumer", queue="more") == {"ok": "no longer consuming from more"}
    assert [one["name"] for one in asked(app, "active_queues")] == ["celery"]


def test_the_pool_grows_and_shrinks(app: Celeriac, worker: Any) -> None:
    assert asked(app, "pool_grow", n=2) == {"ok": "pool will grow"}
    assert worker.pool.size() == 4
    assert asked(app, "pool_shrink", n=3) == {"ok": "pool will shrink"}
    assert worker.pool.size() == 1
    assert "error" in asked(app, "pool_shrink", n="many")
    assert "error" in asked(app, "pool_restart")
    assert asked(app, "autoscale", max=3, min=1) == {"ok": "autoscale now max=3 min=1"}
    assert "autoscale" in asked(app, "pool_grow")["error"]
    held = [app.send_task("hold") for _ in range(3)]
    eventually(lambda: worker.pool.size() == 3)
    GO.set()
    assert [one.get(timeout=10) for one in held] == [""] * 3


def test_limits(app: Celeriac, worker: Any) -> None:
    good = asked(app, "rate_limit", task_name="add", rate_limit="100/m")
    assert good == {"ok": "new rate limit set successfully"}
    assert worker.rates._buckets["add"].rate == pytest.approx(100 / 60)
    assert "error" in asked(app, "rate_limit", task_name="add", rate_limit="often")
    off = asked(app, "rate_limit", task_name="add", rate_limit="0")
    assert off == {"ok": "rate limit disabled successfully"}
    assert asked(app, "rate_limit", task_name="none", rate_limit="1/s") == {"error": "unknown task"}
    assert "cannot keep" in asked(app, "time_limit", task_name="add", hard=2.0)["error"]


def test_own_commands(app: Celeriac, worker: Any) -> None:
    @inspect_command(name="whoami")
    def whoami(state: Any) -> str:
        return f"{state.hostname} of {state.app.main}"

    @control_command(args=[("n", int)], signature="<n>")
    def set_level(state: Any, n: int) -> dict[str, int]:
        return {"ok": n}

    assert asked(app, "whoami") == "w1@here of ctl"
    assert app.control.broadcast("set_level", {"n": 3}, reply=True, timeout=20.0, limit=1) == [
        {"w1@here": {"ok": 3}}
    ]


def test_addressing(app: Celeriac, worker: Any) -> None:
    ping = app.control.ping
    assert ping(pattern="w?@*", limit=1, timeout=20.0)
    assert ping(pattern=r"w\d@", matcher="pcre", limit=1, timeout=20.0)
    assert ping(pattern="x*", timeout=0.2) == []
    seen: list[Any] = []
    app.control.broadcast("ping", callback=seen.append, limit=1, timeout=20.0)
    assert seen == [{"w1@here": {"ok": "pong"}}]


def test_silence_ends_at_its_timeout_and_has_names(
    app: Celeriac, worker: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert app.control.ping(["w1@here", "gone@here"], timeout=0.3) == [
            {"w1@here": {"ok": "pong"}}
        ]
    assert "no answer within 0.3 s from gone@here" in caplog.text


def test_hostile_messages_are_refused_and_logged_once(
    app: Celeriac, worker: Any, caplog: pytest.LogCaptureFixture
) -> None:
    hostile = [
        b"\xff\x00 not json",
        b"[]",
        b'{"method": 7}',
        b'{"method": "revoke", "arguments": {"task_id": {"a": 1}}}',
        b'{"method": "ping", "arguments": [1]}',
        b'{"method": "shutdown", "destination": "w1@here"}',
        b"[" * 100_000,
        b'{"method": "ping", "arguments": {"x": "' + b"x" * 10_000_000 + b'"}}',
    ]
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            app.bus.send(TOPIC, hostile)
        assert "no command" in asked(app, "no_such_command")["error"]
        assert "unexpected" in asked(app, "pool_grow", n=1, wrong=2).get("error", "unexpected")
        assert "missing" in asked(app, "cancel_consumer")["error"]
    assert asked(app, "ping") == {"ok": "pong"}
    assert caplog.text.count("dropped unread") == 1
    assert caplog.text.count("cannot be read was dropped") == 1
    assert caplog.text.count("task_id is an id") == 1
    assert not worker.shutdown.asked


def test_log_level(app: Celeriac, worker: Any) -> None:
    logger = logging.getLogger("ctl.own")
    assert "ok" in asked(app, "log_level", level="debug", logger="ctl.own")
    assert logger.level == logging.DEBUG
    assert "error" in asked(app, "log_level", level="loud")


def test_stack_and_profile(app: Celeriac, worker: Any) -> None:
    held = app.send_task("hold", ("me",))
    eventually(lambda: worker.pool.running())
    (found,) = asked(app, "stack", task_id=held.id)
    assert any("in hold" in line for one in found["threads"] for line in one["stack"])
    assert asked(app, "stack", task_id="nobody") == []
    (profile,) = asked(app, "profile", seconds=0.2)
    assert profile["samples"] > 2
    assert any("hold" in stack for stack in profile["stacks"])


@pytest.mark.parametrize("pool", ["asyncio", "threads", "solo"])
def test_stack_and_profile_of_every_pool(app: Celeriac, pool: str) -> None:
    @app.task(name="nest")
    async def nest() -> None:
        async def inner_wait() -> None:
            while not GO.is_set():
                ends = time.monotonic() + 0.03  # long enough to be interrupted in
                while time.monotonic() < ends:
                    sum(range(100))
                await asyncio.sleep(0)

        await inner_wait()

    with running_worker(app, pool=pool, hostname="w1@here", concurrency=2) as worker:
        try:
            names = {"nest": "inner_wait", "hold": "hold"}
            held = {name: app.send_task(name) for name in names}
            count = 1 if pool == "solo" else 2
            eventually(lambda: len(worker.pool.running()) == count)
            for name, result in held.items():
                if all(one.task_id != result.id for one in worker.pool.running()):
                    assert asked(app, "stack", task_id=result.id) == []
                    continue

                def stacks(task_id: str = result.id) -> list[str]:
                    (found,) = asked(app, "stack", task_id=task_id)
                    kinds = ("threads", "coroutines")
                    return [line for kind in kinds for one in found[kind] for line in one["stack"]]

                # A task that has begun may not be inside of its function yet.
                eventually(lambda: any(f"in {names[name]}" in line for line in stacks()))
                if pool == "asyncio":
                    other = names["hold" if name == "nest" else "nest"]
                    assert not any(f"in {other}" in line for line in stacks())
                (profile,) = asked(app, "profile", seconds=0.3, task_id=result.id)
                assert any(names[name] in stack for stack in profile["stacks"]), profile
            (everything,) = asked(app, "profile", seconds=0.3)
            (looked,) = asked(app, "stack")
            assert everything["samples"] > 2
            for one in worker.pool.running():
                name = next(n for n, result in held.items() if result.id == one.task_id)
                assert any(names[name] in stack for stack in everything["stacks"])
                assert one.task_id in looked["tasks"]
        finally:
            GO.set()


@pytest.mark.parametrize("pool", ["asyncio", "threads"])
def test_what_cannot_be_terminated_is_said(app: Celeriac, pool: str) -> None:
    with running_worker(app, pool=pool, hostname="w1@here") as worker:
        held = app.send_task("hold", ("me",))
        eventually(lambda: worker.pool.running())
        for signal in ("TERM", "USR1"):
            said = app.control.terminate(held.id, signal=signal, reply=True, limit=1, timeout=20.0)
            assert "use -P prefork" in said[0]["w1@here"]["error"]
        assert "unknown" in asked(app, "terminate", task_id="nobody", signal="TERM")["ok"]
        GO.set()
        assert held.get(timeout=10) == "me"


def test_events_are_turned_on_and_off(app: Celeriac, worker: Any) -> None:
    receiver = app.events.Receiver()
    receiver.listen()
    heard: list[dict[str, Any]] = []

    def kinds(task_id: str | None = None) -> list[str]:
        heard.extend(receiver.poll(0.05))
        return [e["type"] for e in heard if e.get("uuid") == task_id]

    def run() -> str:
        result = app.send_task("add", (1, 2))
        assert result.get(timeout=10) == 3
        return str(result.id)

    with receiver:
        quiet = run()
        assert asked(app, "enable_events") == {"ok": "task events enabled"}
        assert asked(app, "enable_events") == {"ok": "task events already enabled"}
        told = run()
        eventually(lambda: "task-succeeded" in kinds(told))
        assert asked(app, "disable_events") == {"ok": "task events disabled"}
        assert asked(app, "disable_events") == {"ok": "task events already disabled"}
        silent = run()
        told_of = kinds().count("worker-heartbeat")
        app.control.heartbeat()
        # It is sent after whatever the last task would have said.
        eventually(lambda: kinds().count("worker-heartbeat") > told_of, within=1.5)
        assert kinds(quiet) == kinds(silent) == []


def test_shutdown(app: Celeriac, worker: Any) -> None:
    app.control.shutdown(destination=["w1@here"])
    eventually(lambda: worker.shutdown.asked)
