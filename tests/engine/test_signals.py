"""Signals where they are sent: publishing, tasks, eager calls, and the life of a worker."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from celeriac import Celeriac, shared_task, signals
from celeriac.client.signals import SIGNALS
from celeriac.drivers.memory import MemoryFamily
from celeriac.kernel.errors import EncodeError, Ignore, NotRegistered, Reject, WireError
from celeriac.kernel.wire import to_celery, unpack
from celeriac.testing import TaskKit
from celeriac.testing.eventually import eventually
from celeriac.testing.running import running_worker

Heard = list[tuple[str, dict[str, Any]]]


@pytest.fixture(autouse=True)
def nobody_listens_afterwards() -> Iterator[None]:
    before = {signal: signal.receivers for signal in SIGNALS}
    yield
    for signal, receivers in before.items():
        signal.receivers = receivers


@pytest.fixture
def hear() -> Callable[..., Heard]:
    """Return a function that connects to signals by name and returns what will be heard."""

    def connect(*names: str) -> Heard:
        heard: Heard = []

        def listen(name: str) -> None:
            def receiver(signal: Any, **kwargs: Any) -> None:
                heard.append((name, kwargs))

            getattr(signals, name).connect(receiver, weak=False)

        for name in names:
            listen(name)
        return heard

    return connect


RUN = ("task_prerun", "task_postrun", "task_success", "task_failure", "task_retry")


def names(heard: Heard) -> list[str]:
    return [name for name, _ in heard]


def test_a_task_that_succeeds(app: Celeriac, kit: TaskKit, hear: Callable[..., Heard]) -> None:
    @app.task
    def add(x: int, y: int) -> int:
        return x + y

    heard = hear(*RUN)
    result = add.delay(1, y=2)
    kit.run_until_empty()
    assert names(heard) == ["task_prerun", "task_success", "task_postrun"]
    (_, before), (_, success), (_, after) = heard
    assert before["sender"] is before["task"] is add
    assert before["task_id"] == result.id
    assert (list(before["args"]), before["kwargs"]) == ([1], {"y": 2})
    assert (success["sender"], success["result"]) == (add, 3)
    assert success["runtime"] > 0
    assert (after["retval"], after["state"]) == (3, "SUCCESS")


@pytest.mark.parametrize("hooks", [False, True])
def test_a_result_that_cannot_be_kept_is_a_failure_and_nothing_else(
    app: Celeriac, kit: TaskKit, hear: Callable[..., Heard], hooks: bool
) -> None:
    told: list[str] = []

    @app.task
    def give() -> object:
        return object()

    if hooks:
        give.on_success = lambda *args: told.append("on_success")
        give.on_failure = lambda *args: told.append("on_failure")
        give.hooks_end = True
    heard = hear(*RUN)
    result = give.delay()
    kit.run_until_empty(failures="keep")
    assert names(heard) == ["task_prerun", "task_failure", "task_postrun"]
    assert heard[-1][1]["state"] == "FAILURE"
    assert isinstance(heard[1][1]["exception"], EncodeError)
    assert result.state == "FAILURE"
    assert told == (["on_failure"] if hooks else [])


def test_what_policies_make_of_errors_is_not_made_of_a_result_that_cannot_be_kept(
    app: Celeriac, kit: TaskKit, hear: Callable[..., Heard]
) -> None:
    runs: list[int] = []

    @app.task(autoretry_for=(Exception,), default_retry_delay=0)
    def give() -> object:
        runs.append(1)
        return object()

    heard = hear(*RUN)
    result = give.delay()
    kit.run_until_empty(failures="keep")
    assert runs == [1]
    assert names(heard) == ["task_prerun", "task_failure", "task_postrun"]
    assert result.state == "FAILURE"


def test_a_task_that_fails(app: Celeriac, kit: TaskKit, hear: Callable[..., Heard]) -> None:
    @app.task
    def fail() -> None:
        raise ValueError("no")

    heard = hear(*RUN)
    result = fail.delay()
    kit.run_until_empty(failures="keep")
    assert names(heard) == ["task_prerun", "task_failure", "task_postrun"]
    failure, after = heard[1][1], heard[2][1]
    assert failure["task_id"] == result.id
    assert isinstance(failure["exception"], ValueError)
    assert failure["traceback"] is not None
    assert "raise ValueError" in str(failure["einfo"])
    assert failure["einfo"].exception is failure["exception"]
    assert (after["state"], after["retval"]) == ("FAILURE", failure["exception"])


def test_a_task_that_is_retried(app: Celeriac, kit: TaskKit, hear: Callable[..., Heard]) -> None:
    @app.task(autoretry_for=(OSError,), retry_kwargs={"countdown": 0})
    def flaky() -> None:
        if not flaky.request.retries:
            raise OSError("away")

    heard = hear(*RUN)
    flaky.delay()
    kit.run_until_empty()
    assert names(heard) == [
        *("task_prerun", "task_retry", "task_postrun"),
        *("task_prerun", "task_success", "task_postrun"),
    ]
    retry = heard[1][1]
    assert retry["sender"] is flaky
    assert retry["request"].retries == 0
    assert "away" in str(retry["reason"])
    assert isinstance(retry["einfo"].exception, OSError)
    assert heard[2][1]["state"] == "RETRY"


@pytest.mark.parametrize(("error", "state"), [(Ignore(), "IGNORED"), (Reject("x"), "REJECTED")])
def test_what_is_neither_success_nor_failure(
    app: Celeriac, kit: TaskKit, hear: Callable[..., Heard], error: Exception, state: str
) -> None:
    @app.task
    def leave() -> None:
        raise error

    heard = hear(*RUN)
    leave.delay()
    kit.run_until_empty(failures="keep")
    assert names(heard) == ["task_prerun", "task_postrun"]
    assert heard[1][1]["state"] == state


def test_an_async_task(app: Celeriac, hear: Callable[..., Heard]) -> None:
    @app.task
    async def add(x: int) -> int:
        return x + 1

    heard = hear(*RUN)
    with running_worker(app, pool="asyncio"):
        assert add.delay(1).get(timeout=10) == 2
    assert names(heard) == ["task_prerun", "task_success", "task_postrun"]


def test_eager_calls_send_them_too(app: Celeriac, hear: Callable[..., Heard]) -> None:
    @app.task
    def fail() -> None:
        raise ValueError("no")

    heard = hear(*RUN)
    fail.apply()
    assert names(heard) == ["task_prerun", "task_failure", "task_postrun"]


def test_receivers_of_one_task_whether_shared_or_not(app: Celeriac, kit: TaskKit) -> None:
    heard = []

    @shared_task(name="lib.work")
    def work() -> None: ...

    @app.task
    def other() -> None: ...

    @signals.task_prerun.connect(sender=work)
    def of_work(sender: Any, **kwargs: Any) -> None:
        heard.append(sender.name)

    other.delay()
    app.tasks["lib.work"].delay()
    kit.run_until_empty()
    assert heard == ["lib.work"]


def test_a_broken_receiver_harms_nothing(
    app: Celeriac, kit: TaskKit, caplog: pytest.LogCaptureFixture
) -> None:
    @app.task
    def work() -> str:
        return "done"

    @signals.task_prerun.connect
    @signals.before_task_publish.connect
    def broken(**kwargs: Any) -> None:
        raise RuntimeError("out of ink")

    result = work.delay()
    kit.run_until_empty()
    assert result.get() == "done"
    assert caplog.text.count("RuntimeError: out of ink") == 2


# -- publishing -----------------------------------------------------------------------------------


def test_what_receivers_see_of_a_message(
    app: Celeriac, kit: TaskKit, hear: Callable[..., Heard]
) -> None:
    @app.task
    def add(x: int, y: int) -> int:
        return x + y

    heard = hear("before_task_publish", "after_task_publish")
    result = add.apply_async((1,), {"y": 2}, headers={"trace": "t1"}, priority=5, queue="high")
    assert names(heard) == ["before_task_publish", "after_task_publish"]
    (_, before), (_, after) = heard
    for said in (before, after):
        assert said["sender"] == add.name
        assert said["routing_key"] == "high"
        args, kwargs, embed = said["body"]
        assert (list(args), kwargs) == ([1], {"y": 2})
        assert set(embed) == {"callbacks", "errbacks", "chain", "chord"}
        headers = said["headers"]
        assert (headers["id"], headers["task"]) == (result.id, add.name)
        assert headers["argsrepr"] == "(1,)"
        assert headers["trace"] == "t1"
    assert before["properties"]["priority"] == 5
    assert before["properties"]["correlation_id"] == result.id
    assert [queue.name for queue in before["declare"]] == ["high"]


def test_receivers_change_headers_body_and_properties(app: Celeriac, kit: TaskKit) -> None:
    seen: dict[str, Any] = {}

    @app.task(bind=True, ignore_result=False)
    def work(self: Any, x: int, **kwargs: Any) -> None:
        seen.update(kwargs, header=self.request.get("tenant"), all=dict(self.request.headers))

    @signals.before_task_publish.connect
    def add_tenant(headers: Any, body: Any, properties: Any, **kwargs: Any) -> None:
        headers["tenant"] = "acme"
        headers["timelimit"] = [None, None]
        headers["expires"] = datetime(2100, 1, 1, tzinfo=UTC).isoformat()
        body[1]["added"] = True
        properties["priority"] = 7

    given: dict[str, Any] = {}
    work.apply_async((1,), given)
    ((envelope, _),) = kit._sent
    headers, properties, _ = to_celery(envelope)
    assert properties["priority"] == envelope.priority == 7
    assert headers["expires"].startswith("2100-01-01")
    assert unpack(envelope.body)[0].ignore_result is False
    assert given == {}
    kit.run_until_empty()
    assert seen["header"] == "acme"
    assert seen["all"]["tenant"] == "acme"
    assert seen["added"] is True


def test_a_header_that_cannot_be_sent_is_said(app: Celeriac, kit: TaskKit) -> None:
    @app.task
    def work() -> None: ...

    @signals.before_task_publish.connect
    def spoil(headers: Any, **kwargs: Any) -> None:
        headers["retries"] = "many"

    with pytest.raises(WireError, match="many"):
        work.delay()


def test_a_batch_tells_when_it_is_sent(
    app: Celeriac, kit: TaskKit, hear: Callable[..., Heard]
) -> None:
    @app.task
    def work() -> None: ...

    heard = hear("before_task_publish", "after_task_publish")
    with app.batch():
        work.delay()
        work.delay()
        assert names(heard) == ["before_task_publish"] * 2
    assert names(heard)[2:] == ["after_task_publish"] * 2


def test_follow_ups_are_announced_where_they_are_made(
    app: Celeriac, kit: TaskKit, hear: Callable[..., Heard]
) -> None:
    @app.task
    def add(x: int, y: int) -> int:
        return x + y

    add.apply_async((1, 1), link=add.s(3))
    heard = hear("before_task_publish", "after_task_publish")
    kit.run_until_empty()
    assert names(heard) == ["before_task_publish", "after_task_publish"]
    assert list(heard[0][1]["body"][0]) == [2, 3]


# -- what is not run ------------------------------------------------------------------------------


def test_received_revoked_and_unknown(app: Celeriac, hear: Callable[..., Heard]) -> None:
    @app.task
    def work(x: int) -> None: ...

    heard = hear("task_received", "task_revoked", "task_unknown")
    with running_worker(app) as worker:
        worker.revoked.add(["no"])
        work.apply_async((1,), task_id="no")
        work.apply_async((2,), task_id="late", expires=-1)
        app.send_task("nobody.knows", task_id="who")
        eventually(
            lambda: {"task_unknown"} < set(names(heard)) and names(heard).count("task_revoked") == 2
        )
    received = [kwargs["request"] for name, kwargs in heard if name == "task_received"]
    assert {request.id for request in received} <= {"no", "late", "who"}
    revoked = {k["request"].id: k for name, k in heard if name == "task_revoked"}
    assert set(revoked) == {"no", "late"}
    assert revoked["no"]["sender"] is work
    assert (revoked["no"]["expired"], revoked["late"]["expired"]) == (False, True)
    request = revoked["no"]["request"]
    assert (request.name, list(request.args), request.kwargs) == (work.name, [1], {})
    (unknown,) = [k for name, k in heard if name == "task_unknown"][:1]
    assert (unknown["name"], unknown["id"]) == ("nobody.knows", "who")
    assert isinstance(unknown["exc"], NotRegistered)
    assert unknown["message"].headers["task"] == "nobody.knows"


def test_a_message_that_is_no_task_is_rejected(app: Celeriac, hear: Callable[..., Heard]) -> None:
    @app.task
    def work(x: int) -> None: ...

    heard = hear("task_rejected")
    with running_worker(app):
        app.send_task(work.name, ("x", "y", "z"))
        eventually(lambda: heard)
    assert "do not fit" in str(heard[0][1]["exc"])
    assert heard[0][1]["message"].headers["task"] == work.name


# -- the worker -----------------------------------------------------------------------------------


def test_the_life_of_a_worker(app: Celeriac, hear: Callable[..., Heard]) -> None:
    heard = hear(
        "import_modules",
        "celeryd_init",
        "worker_init",
        "celeryd_after_setup",
        "worker_process_init",
        "worker_ready",
        "worker_shutting_down",
        "worker_shutdown",
    )
    with running_worker(app, pool="solo", hostname="w1@here") as worker:
        eventually(lambda: "worker_ready" in names(heard))
    assert names(heard) == [
        "import_modules",
        "celeryd_init",
        "worker_init",
        "celeryd_after_setup",
        "worker_process_init",
        "worker_ready",
        "worker_shutting_down",
        "worker_shutdown",
    ]
    told = dict(heard)
    assert told["celeryd_init"]["sender"] == told["celeryd_after_setup"]["sender"] == "w1@here"
    assert told["celeryd_init"]["instance"] is told["worker_init"]["sender"] is worker
    assert told["celeryd_init"]["conf"] is app.conf
    assert told["worker_shutting_down"]["how"] == "Warm"


def test_settings_of_one_worker(app: Celeriac) -> None:
    @signals.celeryd_init.connect(sender="big@here")
    def more(conf: Any, **kwargs: Any) -> None:
        conf.worker_prefetch_multiplier = 9

    @signals.celeryd_after_setup.connect
    def add_queue(instance: Any, **kwargs: Any) -> None:
        instance.queues.append(type(instance.queues[0]).of("direct"))

    @app.task
    def work() -> str:
        return "done"

    with running_worker(app, hostname="big@here"):
        assert app.conf.worker_prefetch_multiplier == 9
        assert work.apply_async(queue="direct").get(timeout=10) == "done"


@pytest.mark.parametrize("embedded", [False, True])
def test_beat_begins(app: Celeriac, hear: Callable[..., Heard], embedded: bool) -> None:
    heard = hear("beat_init", "beat_embedded_init")
    with app.standing_in(MemoryFamily("memory://beat", {"private": True})):
        beat = app.Beat(embedded=embedded)
        beat.start()
        beat.stop()
        assert beat.join(10)
    assert names(heard) == ["beat_init", "beat_embedded_init"][: 1 + embedded]
    assert heard[0][1]["sender"] is beat


def test_what_import_modules_raises_is_raised(app: Celeriac) -> None:
    @signals.import_modules.connect
    def broken(**kwargs: Any) -> None:
        raise ImportError("no such module")

    with pytest.raises(ImportError, match="no such module"):
        app.import_modules()
