"""Calls: options, routes, arguments, serializers, batches."""

from __future__ import annotations

import datetime as dt
import uuid
from decimal import Decimal
from typing import Any

import pytest

from celeriac import Celeriac
from celeriac.kernel.errors import (
    BrokerUnavailable,
    EncodeError,
    ImproperlyConfigured,
    PayloadTooLarge,
    QueueNotFound,
    WireError,
)
from celeriac.testing import TaskKit
from celeriac.testing.faults import FlakyBroker


@pytest.fixture
def echo(app: Celeriac) -> Any:
    @app.task(name="echo")
    def echo(*args: Any, **kwargs: Any) -> Any:
        return [args, kwargs]

    return echo


def test_delay_and_apply_async_send_the_same(kit: TaskKit, echo: Any) -> None:
    echo.delay(1, "x", key=[2])
    echo.apply_async((1, "x"), {"key": [2]})
    echo.apply_async(args=[1, "x"], kwargs={"key": [2]})
    kit.assert_sent(echo, args=[1, "x"], kwargs={"key": [2]}, times=3, queue="celery", priority=0)


def test_countdown_waits_for_the_clock(kit: TaskKit, echo: Any) -> None:
    result = echo.apply_async((1,), countdown=60)
    kit.assert_sent(echo, countdown=60)
    assert kit.run_until_empty() == []
    kit.clock.advance(59)
    assert kit.run_until_empty() == []
    kit.clock.advance(1)
    assert [ran.id for ran in kit.run_until_empty()] == [result.id]


def test_eta_naive_is_in_the_apps_zone(kit: TaskKit, app: Celeriac, echo: Any) -> None:
    with kit.settings(timezone="Europe/Berlin"):
        local = app.now().replace(tzinfo=None) + dt.timedelta(hours=1)
        echo.apply_async(eta=local)
    assert kit.assert_sent(echo).countdown == pytest.approx(3600, abs=1)
    echo.apply_async((2,), eta=kit.clock.now() + dt.timedelta(minutes=5))
    kit.assert_sent(echo, args=[2], countdown=300)


def test_an_eta_that_has_passed_is_now(kit: TaskKit, echo: Any) -> None:
    echo.apply_async(eta=kit.clock.now() - dt.timedelta(days=1))
    echo.apply_async(countdown=-5)
    assert len(kit.run_until_empty()) == 2


@pytest.mark.parametrize("eta", [5, "soon", object()])
def test_an_eta_that_is_no_date_is_refused(kit: TaskKit, echo: Any, eta: Any) -> None:
    with pytest.raises(ImproperlyConfigured, match="eta"):
        echo.apply_async(eta=eta)
    kit.assert_not_sent()


@pytest.mark.parametrize("value", [float("inf"), float("nan"), "soon", object(), True])
def test_times_that_are_none_are_refused(kit: TaskKit, echo: Any, value: Any) -> None:
    with pytest.raises(ImproperlyConfigured, match="countdown"):
        echo.apply_async(countdown=value)
    with pytest.raises(ImproperlyConfigured, match="expires"):
        echo.apply_async(expires=value)
    kit.assert_not_sent()


def test_expires_revokes(kit: TaskKit, echo: Any) -> None:
    result = echo.apply_async(expires=60)
    by_date = echo.apply_async(expires=kit.clock.now() + dt.timedelta(seconds=30))
    in_time = echo.apply_async(expires=3600)
    kit.clock.advance(61)
    kit.run_until_empty()
    assert result.state == by_date.state == "REVOKED"
    assert in_time.state == "SUCCESS"
    assert "expired" in str(result.result)


def test_queue_routing_key_and_priority(kit: TaskKit, echo: Any) -> None:
    echo.apply_async((1,), queue="mails", priority=7)
    echo.apply_async((2,), priority=99)
    echo.apply_async((3,), priority=-1)
    kit.assert_sent(args=[1], queue="mails", priority=7)
    kit.assert_sent(args=[2], priority=9)
    kit.assert_sent(args=[3], priority=0)


def test_the_most_urgent_runs_first(kit: TaskKit, echo: Any) -> None:
    for priority in (0, 9, 5):
        echo.apply_async((priority,), priority=priority, task_id=f"p{priority}")
    assert [ran.id for ran in kit.run_until_empty()] == ["p9", "p5", "p0"]


def test_headers_reach_the_task(app: Celeriac, kit: TaskKit) -> None:
    @app.task(name="t", bind=True)
    def t(self: Any) -> list[Any]:
        return [self.request.headers["tenant"], self.request.get("tenant")]

    assert t.apply_async(headers={"tenant": "a"}).get() == ["a", "a"]
    kit.assert_sent(t, headers={"tenant": "a"})


def test_headers_must_be_plain(kit: TaskKit, echo: Any) -> None:
    with pytest.raises(WireError, match="headers"):
        echo.apply_async(headers={"x": object()})


def test_link_gets_the_result_first(app: Celeriac, kit: TaskKit, echo: Any) -> None:
    add = app.task(name="add")(lambda x, y: x + y)
    add.apply_async((1, 2), link=echo.s("after"))
    kit.run_until_empty()
    kit.assert_sent(echo, args=[3, "after"])
    add.apply_async((1, 2), link=[echo.si("only"), add.s(10)])
    kit.run_until_empty()
    kit.assert_sent(echo, args=["only"])
    kit.assert_sent(add, args=[3, 10])


def test_link_error_gets_the_id(app: Celeriac, kit: TaskKit, echo: Any) -> None:
    def broken() -> None:
        raise ValueError("x")

    t = app.task(name="t")(broken)
    told = app.task(name="told")(lambda task_id, how: None)
    result = t.apply_async(link=echo.s("never"), link_error=told.s("failed"))
    kit.run_until_empty(failures="keep")
    sent = kit.assert_sent(told, args=[result.id, "failed"], times=1)
    assert sent.parent_id == result.id
    kit.assert_not_sent(echo, args=[None, "never"])


def test_shadow(app: Celeriac, kit: TaskKit) -> None:
    @app.task(name="t", bind=True)
    def t(self: Any) -> Any:
        return self.request.shadow

    assert t.apply_async(shadow="other name").get() == "other name"


def test_ignore_result_of_the_call_the_task_and_the_setting(app: Celeriac, kit: TaskKit) -> None:
    t = app.task(name="t")(lambda: 1)
    ignoring = app.task(name="ignoring", ignore_result=True)(lambda: 1)
    kept, dropped = t.delay(), t.apply_async(ignore_result=True)
    by_task, by_call = ignoring.delay(), ignoring.apply_async(ignore_result=False)
    kit.run_until_empty()
    assert (kept.state, dropped.state, by_task.state) == ("SUCCESS", "PENDING", "PENDING")
    assert dropped.get() is None
    assert by_task.get() is None
    assert by_call.state == "SUCCESS", "the call wins"


def test_store_errors_even_if_ignored(app: Celeriac, kit: TaskKit) -> None:
    def broken() -> None:
        raise ValueError("x")

    silent = app.task(name="a", ignore_result=True)(broken).delay()
    told = app.task(name="b", ignore_result=True, store_errors_even_if_ignored=True)(broken).delay()
    kit.run_until_empty(failures="keep")
    assert (silent.state, told.state) == ("PENDING", "FAILURE")


VALUES = [
    {"a": [1, 2.5, None, True, "ü"]},
    {"when": dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)},
    {"id": uuid.UUID(int=7), "sum": Decimal("1.10"), "raw": b"\x00\xff"},
]


@pytest.mark.parametrize("serializer", ["json", "msgpack", "yaml", "pickle"])
@pytest.mark.parametrize("compression", [None, "gzip", "bzip2", "lzma", "zstd", "brotli"])
def test_serializers_and_compressions(
    app: Celeriac, kit: TaskKit, serializer: str, compression: str | None
) -> None:
    seen: list[Any] = []

    @app.task(name="t")
    def t(value: Any) -> None:
        seen.append(value)

    value = {"a": [1, 2.5, None, True, "ü" * 500]}
    with kit.settings(accept_content=["json", "msgpack", "yaml", "pickle"]):
        t.apply_async((value,), serializer=serializer, compression=compression)
        kit.run_until_empty()
    assert seen == [value]


@pytest.mark.parametrize("value", VALUES)
def test_json_changes_nothing_in_silence(app: Celeriac, kit: TaskKit, value: Any) -> None:
    t = app.task(name="t")(lambda x: x)
    assert t.delay(value).get() == value


@pytest.mark.parametrize("value", [{1, 2}, object(), dt.timedelta(1), lambda: 0])
def test_what_cannot_be_carried_is_refused_at_the_caller(
    kit: TaskKit, echo: Any, value: Any
) -> None:
    with pytest.raises(EncodeError):
        echo.delay(value)
    kit.assert_not_sent()


def test_unknown_serializer_and_compression(kit: TaskKit, echo: Any) -> None:
    with pytest.raises(ImproperlyConfigured, match="jsn"):
        echo.apply_async(serializer="jsn")
    with pytest.raises(ImproperlyConfigured, match="gzp"):
        echo.apply_async(compression="gzp")


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [((), {}), ((1, 2, 3), {}), ((1,), {"x": 1}), ((1,), {"z": 1}), ((), {"y": 1})],
)
def test_wrong_arguments_are_a_type_error_at_the_caller(
    app: Celeriac, kit: TaskKit, args: Any, kwargs: Any
) -> None:
    @app.task(name="t")
    def t(x: int, y: int = 0, *, key: str = "") -> None: ...

    with pytest.raises(TypeError):
        t.delay(*args, **kwargs)
    kit.assert_not_sent()


def test_every_kind_of_parameter(app: Celeriac, kit: TaskKit) -> None:
    @app.task(name="t")
    def t(a: int, /, b: int, *rest: int, c: int, d: int = 4, **more: int) -> list[Any]:
        return [a, b, list(rest), c, d, more]

    assert t.delay(1, 2, 3, c=5, e=6).get() == [1, 2, [3], 5, 4, {"e": 6}]
    with pytest.raises(TypeError):
        t.delay(1, 2)
    with pytest.raises(TypeError):
        t.delay(a=1, b=2, c=3)


def test_typing_false_does_not_check(app: Celeriac, kit: TaskKit) -> None:
    t = app.task(name="t", typing=False)(lambda x: x)
    result = t.delay()
    kit.run_until_empty(failures="keep")
    assert result.state == "FAILURE"
    assert isinstance(result.result, TypeError)


def test_args_must_be_a_sequence(kit: TaskKit, echo: Any) -> None:
    with pytest.raises(TypeError, match="list or tuple"):
        echo.apply_async("abc")
    with pytest.raises(TypeError, match="list or tuple"):
        echo.apply_async(5)


def test_an_unknown_option_names_the_right_one(kit: TaskKit, echo: Any) -> None:
    with pytest.raises(TypeError, match="countdown"):
        echo.apply_async(coutdown=5)
    with pytest.raises(TypeError, match="no option"):
        kit.app.send_task("x", tenant=3)


def test_limits_that_contradict_are_refused(kit: TaskKit, echo: Any) -> None:
    with pytest.raises(ValueError, match="soft_time_limit"):
        echo.apply_async(time_limit=1, soft_time_limit=2)


def test_send_task_needs_no_task_here(kit: TaskKit, app: Celeriac) -> None:
    result = app.send_task("elsewhere.t", (1,), {"a": 2}, queue="q", countdown=5)
    kit.assert_sent("elsewhere.t", args=[1], kwargs={"a": 2}, queue="q", countdown=5)
    assert result.id == kit.sent()[0].id


def test_task_id_is_the_callers(kit: TaskKit, echo: Any) -> None:
    assert echo.apply_async(task_id="mine").id == "mine"
    echo.apply_async(task_id="mine")
    assert len(kit.run_until_empty()) == 1, "one id is one task"


def test_a_body_over_the_limit_is_refused(kit: TaskKit, echo: Any) -> None:
    with kit.settings(task_max_body_size=10_000):
        with pytest.raises(PayloadTooLarge, match="task_max_body_size"):
            echo.delay("x" * 20_000)


def test_task_attributes_stand_in_for_options(app: Celeriac, kit: TaskKit) -> None:
    t = app.task(name="t", queue="q", priority=4, expires=60, compression="gzip")(lambda: None)
    t.delay()
    sent = kit.assert_sent(t, queue="q", priority=4)
    assert sent.expires is not None
    t.apply_async(queue="other", priority=1)
    kit.assert_sent(t, queue="other", priority=1)


def test_routes(app: Celeriac, kit: TaskKit) -> None:
    seen: list[str] = []

    def route(name: str, args: Any, kwargs: Any, options: Any, task: Any = None, **kw: Any) -> Any:
        seen.append(name)
        return {"queue": "by-function", "priority": 3} if name == "f" else None

    with kit.settings(task_routes=[route, {"feed.*": "feeds", "exact": {"queue": "one"}}]):
        for name in ("f", "feed.a", "exact", "rest"):
            app.send_task(name)
        app.send_task("exact", queue="explicit")
    queues = [one.queue for one in kit.sent()]
    assert queues == ["by-function", "feeds", "one", "celery", "explicit"]
    assert seen[:4] == ["f", "feed.a", "exact", "rest"]


def test_a_queue_that_is_not_declared(app: Celeriac, kit: TaskKit) -> None:
    with kit.settings(task_create_missing_queues=False, task_queues=["a"]):
        with pytest.raises(QueueNotFound):
            app.send_task("t", queue="b")
        app.send_task("t", queue="a")


def test_batch_sends_at_the_end(kit: TaskKit, app: Celeriac, echo: Any) -> None:
    with app.batch():
        results = [echo.delay(n) for n in range(2500)]
        assert len(kit.sent()) == 2000, "flushed by the thousand"
    assert len(kit.sent()) == 2500
    kit.run_until_empty()
    assert all(result.successful() for result in results)


def test_a_batch_that_raises_sends_nothing(kit: TaskKit, app: Celeriac, echo: Any) -> None:
    with pytest.raises(RuntimeError), app.batch():
        echo.delay(1)
        raise RuntimeError
    kit.assert_not_sent()


def test_publish_is_tried_again_with_the_same_id(kit: TaskKit, app: Celeriac, echo: Any) -> None:
    flaky = FlakyBroker(kit.broker)
    app._broker = flaky
    policy = {"max_retries": 3, "interval_start": 0, "interval_step": 0.01, "interval_max": 0.01}
    flaky.fail("publish")
    flaky.lose_reply("publish", nth=2)
    echo.apply_async(retry=True, retry_policy=policy)
    assert flaky.calls["publish"] == 3
    assert len(kit.run_until_empty()) == 1
    flaky.down()
    with pytest.raises(BrokerUnavailable):
        echo.apply_async(retry=False)
    with pytest.raises(BrokerUnavailable):
        echo.apply_async(retry=True, retry_policy=policy)


async def _adelay(task: Any) -> Any:
    result = await task.adelay(1, key=2)
    late = await task.aapply_async((3,), countdown=60)
    return result, late, await result


def test_adelay(kit: TaskKit, echo: Any) -> None:
    import asyncio

    result, late, value = asyncio.run(_adelay(echo))
    assert value == [[1], {"key": 2}]
    kit.assert_sent(echo, args=[3], countdown=60)


def test_pydantic(app: Celeriac, kit: TaskKit) -> None:
    pydantic = pytest.importorskip("pydantic")

    class Order(pydantic.BaseModel):
        number: int

    seen: list[Any] = []

    def ship(order, again=None):  # type: ignore[no-untyped-def]
        seen.append(order)
        return Order(number=order.number + 1)

    ship.__annotations__ = {"order": Order, "again": Order | None, "return": Order}
    t = app.task(name="t", pydantic=True)(ship)
    assert t.delay(Order(number=1)).get() == {"number": 2}
    assert t.delay({"number": "5"}, again=None).get() == {"number": 6}
    assert [type(order) for order in seen] == [Order, Order]
    bad = t.delay({"number": "x"})
    kit.run_until_empty(failures="keep")
    assert bad.state == "FAILURE"
