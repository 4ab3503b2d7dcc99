"""Inside a task: the request, retries, and the exceptions that say what becomes of it."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from celeriac import Celeriac
from celeriac.kernel.errors import (
    Ignore,
    MaxRetriesExceededError,
    Reject,
    Retry,
    SoftTimeLimitExceeded,
)
from celeriac.testing import TaskKit


class Flaky(Exception):
    """What tasks here fail with."""


class Fatal(Flaky):
    """What must not be retried."""


def failing(kit: TaskKit, *, times: int, error: type[Exception] = Flaky, **options: Any) -> Any:
    """Return a task that fails so often, then returns how often it ran."""
    runs: list[int] = []

    @kit.app.task(name="flaky", bind=True, **options)
    def flaky(self: Any) -> int:
        runs.append(self.request.retries)
        if len(runs) <= times:
            raise error(len(runs))
        return len(runs)

    flaky.runs = runs
    return flaky


# -- the request ----------------------------------------------------------------------------------


def test_request_fields(app: Celeriac, kit: TaskKit) -> None:
    seen: dict[str, Any] = {}

    @app.task(name="child", bind=True)
    def child(self: Any) -> None:
        seen["child"] = (self.request.root_id, self.request.parent_id)

    @app.task(name="t", bind=True)
    def t(self: Any, x: int, *, y: int) -> None:
        request = self.request
        seen.update(
            id=request.id,
            args=list(request.args),
            kwargs=request.kwargs,
            retries=request.retries,
            root_id=request.root_id,
            parent_id=request.parent_id,
            info=request.delivery_info,
            correlation_id=request.correlation_id,
            eta=request.eta,
            expires=request.expires,
            hostname=request.hostname,
            direct=request.called_directly,
            eager=request.is_eager,
            timelimit=list(request.timelimit),
            group=request.group,
            missing=request.get("nothing", "default"),
            origin=request.origin,
        )
        child.delay()

    eta = kit.clock.now() + dt.timedelta(seconds=10)
    result = t.apply_async(
        (1,), {"y": 2}, queue="q", priority=3, eta=eta, expires=100, time_limit=60, group_id="g"
    )
    kit.clock.advance(20)
    kit.run_until_empty()
    assert seen["id"] == seen["root_id"] == seen["correlation_id"] == result.id
    assert (seen["args"], seen["kwargs"], seen["retries"]) == ([1], {"y": 2}, 0)
    assert seen["parent_id"] is None
    assert seen["info"] == {
        "exchange": "",
        "routing_key": "q",
        "priority": 3,
        "redelivered": False,
    }
    assert dt.datetime.fromisoformat(seen["eta"]) == eta.replace(
        microsecond=dt.datetime.fromisoformat(seen["eta"]).microsecond
    )
    assert seen["expires"] is not None
    assert (seen["direct"], seen["eager"]) == (False, False)
    assert seen["timelimit"] == [60, None]
    assert (seen["group"], seen["missing"]) == ("g", "default")
    assert seen["origin"] == app.origin
    assert seen["child"] == (result.id, result.id)


def test_a_direct_call_has_a_request_of_its_own(app: Celeriac) -> None:
    @app.task(name="t", bind=True)
    def t(self: Any) -> Any:
        return self.request.called_directly, self.request.id, self.request.retries

    assert t() == (True, None, 0)


def test_children_are_noted(app: Celeriac, kit: TaskKit) -> None:
    child = app.task(name="child")(lambda n: n)

    @app.task(name="parent")
    def parent() -> None:
        child.delay(1)
        child.apply_async((2,), add_to_parent=False)

    @app.task(name="quiet", trail=False)
    def quiet() -> None: ...

    result = parent.delay()
    kit.run_until_empty()
    assert [one.get() for one in result.children or ()] == [1]


# -- retry() --------------------------------------------------------------------------------------


def test_retry_with_a_countdown(app: Celeriac, kit: TaskKit) -> None:
    @app.task(name="t", bind=True)
    def t(self: Any, x: int) -> list[Any]:
        if not self.request.retries:
            raise self.retry(countdown=30, exc=Flaky("later"))
        return [self.request.id, self.request.retries, self.request.headers.get("h")]

    result = t.apply_async((1,), headers={"h": "kept"}, queue="q", priority=4)
    kit.run_until_empty()
    assert result.state == "RETRY"
    assert isinstance(result.result, Flaky)
    [waiting] = kit.waiting()
    assert (waiting.id, waiting.queue, waiting.priority) == (result.id, "q", 4)
    kit.clock.advance(29.9)
    assert kit.run_until_empty() == []
    kit.clock.advance(0.2)
    kit.run_until_empty()
    assert result.get() == [result.id, 1, "kept"]


def test_retry_waits_three_minutes_by_default(app: Celeriac, kit: TaskKit) -> None:
    @app.task(name="t", bind=True)
    def t(self: Any) -> None:
        self.retry()

    t.delay()
    kit.run_until_empty()
    assert kit.waiting()[0].countdown == pytest.approx(180)


def test_retry_at_a_naive_eta(app: Celeriac, kit: TaskKit) -> None:
    @app.task(name="t", bind=True)
    def t(self: Any) -> None:
        self.retry(eta=app.now().replace(tzinfo=None) + dt.timedelta(minutes=1))

    with kit.settings(timezone="Asia/Tokyo"):
        t.delay()
        kit.run_until_empty()
    assert kit.waiting()[0].countdown == pytest.approx(60)


def test_max_retries_raises_the_exception(app: Celeriac, kit: TaskKit) -> None:
    @app.task(name="t", bind=True, max_retries=2, default_retry_delay=0)
    def t(self: Any) -> None:
        try:
            raise Flaky("the cause")
        except Flaky as error:
            raise self.retry(exc=error)

    result = t.delay()
    kit.run_until_empty(failures="keep")
    assert len(kit.ran) == 3
    with pytest.raises(Flaky, match="the cause"):
        result.get()


def test_max_retries_without_an_exception(app: Celeriac, kit: TaskKit) -> None:
    @app.task(name="t", bind=True)
    def t(self: Any) -> None:
        self.retry(countdown=0, max_retries=1)

    result = t.delay()
    kit.run_until_empty(failures="keep")
    assert len(kit.ran) == 2
    with pytest.raises(MaxRetriesExceededError, match="t"):
        result.get()


def test_max_retries_none_is_for_ever(app: Celeriac, kit: TaskKit) -> None:
    t = failing(kit, times=50, autoretry_for=(Flaky,), max_retries=None, default_retry_delay=0)
    assert t.delay().get() == 51


def test_retry_with_changed_arguments_and_options(app: Celeriac, kit: TaskKit) -> None:
    @app.task(name="t", bind=True)
    def t(self: Any, n: int, key: str = "") -> list[Any]:
        if n < 2:
            self.retry(args=(n + 1,), kwargs={"key": "new"}, countdown=0, queue="other")
        return [n, key, self.request.id, self.request.delivery_info["routing_key"]]

    done: list[Any] = []

    @app.task(name="after")
    def after(value: Any) -> None:
        done.append(value)

    result = t.apply_async((0,), link=after.s())
    kit.run_until_empty()
    assert result.get() == [2, "new", result.id, "other"]
    assert done == [result.get()], "links survive a retry, and run once"


def test_retry_without_throw(app: Celeriac, kit: TaskKit) -> None:
    went_on: list[int] = []

    @app.task(name="t", bind=True)
    def t(self: Any) -> str:
        if not self.request.retries:
            self.retry(countdown=0, throw=False)
            went_on.append(1)
        return "done"

    assert t.delay().get() == "done"
    assert went_on == [1]
    assert [ran.verdict for ran in kit.ran] == ["retry", "ack"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"countdown": "soon"},
        {"eta": 5},
        {"countdown": 0, "args": [object()]},
        {"countdown": 0, "args": 5},
        {"countdown": 0, "nonsense": 1},
        {"countdown": 0, "priority": "high"},
        {"countdown": 1e400},
    ],
)
def test_a_retry_that_cannot_be_made_is_a_failure(
    app: Celeriac, kit: TaskKit, wrong: dict[str, Any]
) -> None:
    @app.task(name="t", bind=True)
    def t(self: Any) -> None:
        self.retry(**wrong)

    result = t.delay()
    [ran] = kit.run_until_empty(failures="keep")
    assert (ran.verdict, result.state) == ("ack", "FAILURE")


def test_retry_called_directly_raises(app: Celeriac) -> None:
    @app.task(name="t", bind=True)
    def t(self: Any) -> None:
        self.retry(exc=Flaky("direct"))

    with pytest.raises(Flaky, match="direct"):
        t()

    @app.task(name="u", bind=True)
    def u(self: Any) -> None:
        self.retry()

    with pytest.raises(Retry):
        u()


def test_retry_keeps_the_expiry(app: Celeriac, kit: TaskKit) -> None:
    @app.task(name="t", bind=True)
    def t(self: Any) -> None:
        self.retry(countdown=100)

    result = t.apply_async(expires=50)
    kit.run_until_empty()
    kit.clock.advance(100)
    kit.run_until_empty()
    assert result.state == "REVOKED"


# -- autoretry ------------------------------------------------------------------------------------


def test_autoretry(app: Celeriac, kit: TaskKit) -> None:
    t = failing(kit, times=2, autoretry_for=(Flaky,), default_retry_delay=0)
    assert t.delay().get() == 3
    assert t.runs == [0, 1, 2]


def test_autoretry_ends_with_the_error(app: Celeriac, kit: TaskKit) -> None:
    t = failing(
        kit, times=99, autoretry_for=(Flaky,), retry_kwargs={"max_retries": 1, "countdown": 0}
    )
    with pytest.raises(Flaky):
        t.delay().get()
    assert len(t.runs) == 2


def test_dont_autoretry_for(app: Celeriac, kit: TaskKit) -> None:
    t = failing(kit, times=9, error=Fatal, autoretry_for=(Flaky,), dont_autoretry_for=(Fatal,))
    with pytest.raises(Fatal):
        t.delay().get()
    assert len(t.runs) == 1


def test_backoff_doubles_up_to_the_most(app: Celeriac, kit: TaskKit) -> None:
    t = failing(
        kit,
        times=6,
        autoretry_for=(Flaky,),
        retry_backoff=2,
        retry_backoff_max=12,
        retry_jitter=False,
        max_retries=None,
    )
    t.delay()
    waits = []
    for _ in range(6):
        kit.run_until_empty()
        [waiting] = kit.waiting()
        assert waiting.eta is not None
        waits.append(round(waiting.eta.timestamp() - kit.clock.time()))
        kit.clock.advance_to(waiting.eta)
    assert waits == [2, 4, 8, 12, 12, 12]


def test_jitter_stays_below_the_backoff(app: Celeriac, kit: TaskKit) -> None:
    t = failing(kit, times=3, autoretry_for=(Flaky,), retry_backoff=True, max_retries=None)
    t.delay()
    for _ in range(3):
        kit.run_one()
        for waiting in kit.waiting():
            if waiting.eta is not None:
                longest = 2 ** (len(t.runs) - 1)
                assert 0 <= waiting.eta.timestamp() - kit.clock.time() <= longest + 0.01
                kit.clock.advance_to(waiting.eta)
    kit.run_until_empty()
    assert len(t.runs) == 4


# -- what becomes of it ---------------------------------------------------------------------------


def test_ignore_stores_nothing(app: Celeriac, kit: TaskKit) -> None:
    @app.task(name="t", bind=True)
    def t(self: Any) -> None:
        self.update_state(state="HALF", meta={"x": 1})
        raise Ignore

    result = t.delay()
    [ran] = kit.run_until_empty()
    assert (ran.verdict, ran.state) == ("ack", None)
    assert (result.state, result.info) == ("HALF", {"x": 1})


def test_reject_buries_with_the_reason(app: Celeriac, kit: TaskKit) -> None:
    @app.task(name="t")
    def t() -> None:
        raise Reject("no such customer")

    result = t.delay()
    [ran] = kit.run_until_empty()
    assert ran.verdict == "bury"
    assert result.state == "FAILURE"
    [buried] = kit.buried()
    assert "no such customer" in buried.reason


def test_reject_with_requeue_is_delivered_again(app: Celeriac, kit: TaskKit) -> None:
    seen: list[bool] = []

    @app.task(name="t", bind=True)
    def t(self: Any) -> None:
        seen.append(self.request.delivery_info["redelivered"])
        if len(seen) < 3:
            raise Reject("not now", requeue=True)

    result = t.delay()
    assert [ran.verdict for ran in kit.run_until_empty()] == ["release", "release", "ack"]
    assert result.state == "SUCCESS"


def test_custom_states_and_meta(app: Celeriac, kit: TaskKit) -> None:
    seen: list[Any] = []

    @app.task(name="t", bind=True)
    def t(self: Any) -> str:
        self.update_state(state="PROGRESS", meta={"done": 1, "of": 2})
        found = app.AsyncResult(self.request.id)
        seen.append((found.state, found.info))
        return "end"

    assert t.delay().get() == "end"
    assert seen == [("PROGRESS", {"done": 1, "of": 2})]


def test_update_state_of_another_task(app: Celeriac, kit: TaskKit) -> None:
    t = app.task(name="t")(lambda: None)
    t.update_state(task_id="some-id", state="MINE", meta=[1])
    assert (app.AsyncResult("some-id").state, app.AsyncResult("some-id").info) == ("MINE", [1])
    with pytest.raises(RuntimeError, match="task_id"):
        t.update_state(state="MINE")


def test_track_started(app: Celeriac, kit: TaskKit) -> None:
    seen: list[Any] = []

    @app.task(name="t", bind=True, track_started=True)
    def t(self: Any) -> None:
        found = app.AsyncResult(self.request.id)
        seen.append((found.state, sorted(found.info)))

    t.delay().get()
    assert seen == [("STARTED", ["hostname", "pid"])]


def test_a_success_is_not_overwritten(app: Celeriac, kit: TaskKit) -> None:
    t = app.task(name="t")(lambda: 1)
    result = t.delay()
    kit.run_until_empty()
    t.update_state(task_id=result.id, state="PROGRESS", meta={})
    assert app.AsyncResult(result.id).state == "SUCCESS"


def test_throws_are_expected(app: Celeriac, kit: TaskKit, caplog: pytest.LogCaptureFixture) -> None:
    @app.task(name="t", throws=(Flaky,))
    def t() -> None:
        raise Flaky("expected")

    with caplog.at_level("INFO", "celeriac.task"):
        result = t.delay()
        kit.run_until_empty()  # raises nothing
    assert result.state == "FAILURE"
    records = [r for r in caplog.records if "expected" in r.getMessage()]
    assert [r.levelname for r in records] == ["INFO"]
    assert "Traceback" not in records[0].getMessage()


@pytest.mark.parametrize("error", [SystemExit(3), SoftTimeLimitExceeded(), BaseException("base")])
def test_whatever_it_raises_is_a_failure(app: Celeriac, kit: TaskKit, error: BaseException) -> None:
    @app.task(name="t")
    def t() -> None:
        raise error

    result = t.delay()
    kit.run_until_empty(failures="keep")
    assert result.state == "FAILURE"


def test_a_result_that_cannot_be_carried_is_a_failure(app: Celeriac, kit: TaskKit) -> None:
    t = app.task(name="t")(lambda: object())
    result = t.delay()
    kit.run_until_empty(failures="keep")
    assert result.state == "FAILURE"
    assert "object" in str(result.result)


def test_a_result_nested_too_deep_is_a_failure(app: Celeriac, kit: TaskKit) -> None:
    @app.task(name="t")
    def t() -> Any:
        value: Any = []
        for _ in range(100_000):
            value = [value]
        return value

    result = t.delay()
    kit.run_until_empty(failures="keep")
    assert result.state == "FAILURE"


def test_an_exception_that_cannot_be_shown_is_a_failure(app: Celeriac, kit: TaskKit) -> None:
    class Nasty(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

        __repr__ = __str__

    @app.task(name="t")
    def t() -> None:
        raise Nasty(object())

    result = t.delay()
    kit.run_until_empty(failures="keep")
    assert result.state == "FAILURE"


def test_async_tasks(app: Celeriac, kit: TaskKit) -> None:
    import asyncio

    @app.task(name="t", bind=True)
    async def t(self: Any, x: int) -> list[Any]:
        await asyncio.sleep(0)
        return [x, self.request.id, app.current_task.name]

    result = t.delay(2)
    assert result.get() == [2, result.id, "t"]


def test_an_async_task_that_fails(app: Celeriac, kit: TaskKit) -> None:
    @app.task(name="t", autoretry_for=(Flaky,), max_retries=1, default_retry_delay=0)
    async def t() -> None:
        raise Flaky("async")

    with pytest.raises(Flaky, match="async"):
        t.delay().get()
    assert len(kit.ran) == 2


# -- deliveries -----------------------------------------------------------------------------------


def test_a_crash_delivers_again(app: Celeriac, kit: TaskKit) -> None:
    seen: list[tuple[int, bool]] = []

    @app.task(name="t", bind=True)
    def t(self: Any) -> str:
        seen.append((self.request.retries, self.request.delivery_info["redelivered"]))
        return "done"

    result = t.delay()
    kit.crash_before_settle()
    kit.run_until_empty()
    assert seen == [(0, False), (0, True)]
    assert result.get() == "done"


def test_a_poisonous_task_is_buried(app: Celeriac, kit: TaskKit) -> None:
    t = app.task(name="t")(lambda: None)
    other = app.task(name="other")(lambda: 1)
    result = t.delay()
    innocent = other.delay()
    kit.crash_before_settle(t, times=99)
    kit.run_until_empty(failures="keep")
    assert [ran.verdict for ran in kit.ran if ran.task == "t"] == ["lost"] * 4 + ["bury"]
    [buried] = kit.buried()
    assert (buried.envelope.id, "5 times" in buried.reason) == (result.id, True)
    assert result.state == "FAILURE"
    assert innocent.get() == 1


def test_max_deliveries_of_the_task(app: Celeriac, kit: TaskKit) -> None:
    t = app.task(name="t", max_deliveries=2)(lambda: None)
    t.delay()
    kit.crash_before_settle(times=99)
    kit.run_until_empty(failures="keep")
    assert len(kit.ran) == 2


def test_a_retry_counts_deliveries_anew(app: Celeriac, kit: TaskKit) -> None:
    t = failing(kit, times=3, autoretry_for=(Flaky,), default_retry_delay=0, max_deliveries=2)
    result = t.delay()
    kit.crash_before_settle()
    kit.run_until_empty(failures="keep")
    assert result.state == "SUCCESS"


def test_at_most_once(app: Celeriac, kit: TaskKit) -> None:
    runs: list[int] = []
    t = app.task(name="t", acks_late=False)(lambda: runs.append(1))
    result = t.delay()
    kit.crash_before_settle()
    kit.run_until_empty(failures="keep")
    assert runs == [1]
    assert result.state == "FAILURE"


def test_reject_on_worker_lost_false_gives_up(app: Celeriac, kit: TaskKit) -> None:
    runs: list[int] = []
    t = app.task(name="t", reject_on_worker_lost=False)(lambda: runs.append(1))
    result = t.delay()
    kit.crash_before_settle()
    kit.run_until_empty(failures="keep")
    assert runs == [1]
    assert result.state == "FAILURE"


def test_links_are_sent_once_however_often_it_runs(app: Celeriac, kit: TaskKit) -> None:
    done: list[Any] = []
    t = app.task(name="t")(lambda: 1)
    after = app.task(name="after")(done.append)
    t.apply_async(link=after.s())
    kit.crash_before_settle(t, times=2)
    kit.run_until_empty(failures="keep")
    assert done == [1]


def test_acks_on_failure_false_buries(app: Celeriac, kit: TaskKit) -> None:
    def broken() -> None:
        raise Flaky("x")

    t = app.task(name="t", acks_on_failure=False)(broken)
    result = t.delay()
    kit.run_until_empty(failures="keep")
    assert len(kit.buried()) == 1
    assert result.state == "FAILURE"
