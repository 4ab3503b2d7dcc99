"""Sets of results: states, waiting, order, groups of groups, saving, and what they do to the store."""

from __future__ import annotations

import asyncio
import json
import pickle
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from celeriac import AsyncResult, Celeriac
from celeriac.client.eager import EagerResult
from celeriac.client.groups import TASKSET, GroupResult, LazyResults, ResultSet
from celeriac.client.result import allow_join_result, result_from_tuple
from celeriac.kernel.errors import TaskRevokedError, TimeoutError
from celeriac.testing import running_worker
from celeriac.testing.eventually import eventually


@pytest.fixture
def tasks(app: Celeriac) -> Any:
    gates: dict[str, threading.Event] = {name: threading.Event() for name in "abc"}

    @app.task(name="add")
    def add(x: int, y: int) -> int:
        return x + y

    @app.task(name="fail")
    def fail(text: str = "boom") -> None:
        raise ValueError(text)

    @app.task(name="wait")
    def wait(gate: str) -> str:
        assert gates[gate].wait(20)
        return gate

    return SimpleNamespace(add=add, fail=fail, wait=wait, gates=gates)


@pytest.fixture
def worker(app: Celeriac, tasks: Any) -> Iterator[Any]:
    with running_worker(app, concurrency=4) as worker:
        yield worker
        for gate in tasks.gates.values():
            gate.set()


def group_of(app: Celeriac, *results: Any) -> Any:
    return app.GroupResult(None, list(results))


def test_values_in_order(app: Celeriac, worker: Any, tasks: Any) -> None:
    group = group_of(app, *[tasks.add.delay(i, i) for i in range(20)])
    assert group.get(timeout=10) == [2 * i for i in range(20)]
    assert group.join(timeout=10) == group.join_native(timeout=10) == group.get()
    assert (group.ready(), group.successful(), group.failed(), group.waiting()) == (
        *(True, True),
        *(False, False),
    )
    assert group.completed_count() == len(group) == 20
    assert [result.get() for result in group] == group.get()
    assert group[3].get() == 6


def test_as_they_finish(app: Celeriac, worker: Any, tasks: Any) -> None:
    results = {name: tasks.wait.delay(name) for name in "abc"}
    group = group_of(app, *results.values())
    seen = []
    tasks.gates["c"].set()
    for result in group.as_completed(timeout=10):
        seen.append(result.get())
        for name in {"c": "a", "a": "b", "b": ""}[seen[-1]]:
            assert not results[name].ready()
            tasks.gates[name].set()
    assert seen == ["c", "a", "b"]
    assert {task_id: meta["result"] for task_id, meta in group.iter_native()} == {
        result.id: name for name, result in results.items()
    }


def test_no_thread_per_waiter(app: Celeriac, worker: Any, tasks: Any) -> None:
    group = group_of(app, *[tasks.wait.delay(name) for name in "abc"])
    before = threading.active_count()
    ended = group.as_completed(timeout=10)
    tasks.gates["a"].set()
    assert next(ended).get() == "a"
    assert threading.active_count() <= before + 1, "the watcher's, if it was not there"
    ended.close()  # type: ignore[attr-defined]
    assert not app.watcher._waiting, "nobody waits any more"


def test_a_failure_is_raised_at_once_by_get(app: Celeriac, worker: Any, tasks: Any) -> None:
    group = group_of(app, tasks.wait.delay("a"), tasks.fail.delay())
    with pytest.raises(ValueError, match="boom"):
        group.get(timeout=10)
    assert not group.ready()
    assert group.failed() and not group.successful()
    tasks.gates["a"].set()
    value, error = group.get(timeout=10, propagate=False)
    assert value == "a" and isinstance(error, ValueError)


def test_join_raises_in_order(app: Celeriac, worker: Any, tasks: Any) -> None:
    slow, failing = tasks.wait.delay("a"), tasks.fail.delay()
    group = group_of(app, slow, failing)
    failing.get(timeout=10, propagate=False)
    with pytest.raises(TimeoutError):
        group.join(timeout=0.05)
    tasks.gates["a"].set()
    with pytest.raises(ValueError, match="boom"):
        group.join(timeout=10)


def test_callbacks(app: Celeriac, worker: Any, tasks: Any) -> None:
    slow, fast = tasks.wait.delay("a"), tasks.add.delay(1, 1)
    group = group_of(app, slow, fast)
    native: list[Any] = []
    in_order: list[Any] = []

    def note(task_id: str, value: Any) -> None:
        native.append((task_id, value))
        tasks.gates["a"].set()

    assert group.get(timeout=10, callback=note) is None
    assert native == [(fast.id, 2), (slow.id, "a")]
    assert group.join(timeout=10, callback=lambda i, v: in_order.append((i, v))) == []
    assert in_order == [(slow.id, "a"), (fast.id, 2)]


def test_timeout_says_how_many(app: Celeriac, worker: Any, tasks: Any) -> None:
    group = group_of(app, tasks.wait.delay("a"), tasks.add.delay(1, 1), tasks.wait.delay("b"))
    group[1].get(timeout=10)
    begun = time.monotonic()
    with pytest.raises(TimeoutError, match=r"^2 of 2 tasks had not ended after 0\.1 s$"):
        group.get(timeout=0.1)
    assert time.monotonic() - begun < 5
    with pytest.raises(TimeoutError):
        group.get(timeout=0)


def test_on_interval(app: Celeriac, worker: Any, tasks: Any) -> None:
    calls: list[int] = []

    def tick() -> None:
        calls.append(1)
        if len(calls) == 3:
            tasks.gates["a"].set()

    assert group_of(app, tasks.wait.delay("a")).get(interval=0.01, on_interval=tick) == ["a"]
    assert len(calls) >= 3


def test_a_set_may_change(app: Celeriac) -> None:
    a, b = AsyncResult("a", app=app), AsyncResult("b", app=app)
    many = ResultSet([a], app=app)
    many.add(b)
    many.add(b)
    assert [r.id for r in many.results] == ["a", "b"]
    many.remove("a")
    many.discard(a)
    with pytest.raises(KeyError):
        many.remove(a)
    many.update([a, b, AsyncResult("c", app=app), AsyncResult("c", app=app)])
    assert [r.id for r in many] == ["b", "a", "c"]
    assert many == ResultSet(many.results, app=app) != ResultSet([], app=app)
    assert repr(many) == "<ResultSet: [b, a, c]>"
    many.clear()
    assert len(many) == 0 and many.get() == [] and many.ready() and many.successful()


def test_groups_of_groups(app: Celeriac, worker: Any, tasks: Any) -> None:
    inner = group_of(app, tasks.add.delay(1, 1), tasks.add.delay(2, 2))
    outer = group_of(app, inner, tasks.add.delay(3, 3))
    assert outer.get(timeout=10) == [[2, 4], 6]
    assert outer.join(timeout=10) == [[2, 4], 6]
    assert outer.completed_count() == 2


def test_await_and_async_for(app: Celeriac, worker: Any, tasks: Any) -> None:
    async def main() -> Any:
        many = [group_of(app, *[tasks.add.delay(i, n) for i in range(10)]) for n in range(50)]
        before = threading.active_count()
        waited = asyncio.gather(*many)
        values = await waited
        grown = threading.active_count() - before
        seen = [result.result async for result in many[0]]
        slow = group_of(app, tasks.wait.delay("a"))
        with pytest.raises(TimeoutError):
            await slow.aget(timeout=0.05)
        tasks.gates["a"].set()
        with pytest.raises(ValueError, match="boom"):
            await group_of(app, tasks.fail.delay())
        return values, sorted(seen), grown, await slow

    values, seen, grown, slow = asyncio.run(main())
    assert values == [[i + n for i in range(10)] for n in range(50)]
    assert seen == list(range(10)) and slow == ["a"]
    assert grown <= 6, "the watcher and the app's few threads, not one per waiter"


def test_then(app: Celeriac, worker: Any, tasks: Any) -> None:
    called: list[Any] = []
    group = group_of(app, tasks.wait.delay("a"), tasks.add.delay(1, 1))
    group.then(called.append, on_error=lambda g: called.append("error"))
    assert not called
    tasks.gates["a"].set()
    eventually(lambda: called == [group])
    bad = group_of(app, tasks.fail.delay(), tasks.add.delay(1, 1))
    bad.get(timeout=10, propagate=False)
    bad.then(called.append, on_error=lambda g: called.append("error"))
    assert called == [group, "error"]


def test_revoke(app: Celeriac, worker: Any, tasks: Any) -> None:
    group = group_of(app, *[tasks.add.apply_async((1, i), countdown=60) for i in range(3)])
    group.revoke()
    with pytest.raises(TaskRevokedError):
        group.get(timeout=10)
    assert [result.state for result in group] == ["REVOKED"] * 3


def test_forget(app: Celeriac, worker: Any, tasks: Any) -> None:
    group = group_of(app, tasks.add.delay(1, 1), tasks.add.delay(2, 2))
    group.get(timeout=10)
    group.forget()
    assert [result.state for result in group] == ["PENDING", "PENDING"]


def test_saved_and_restored(app: Celeriac, worker: Any, tasks: Any) -> None:
    inner = group_of(app, tasks.add.delay(1, 1))
    before = tasks.add.delay(9, 9)
    group = app.GroupResult("the-group", [inner, tasks.add.delay(2, 2)], parent=before)
    assert group.save() is group
    group.save()
    restored = app.GroupResult.restore("the-group")
    assert restored == group and restored is not None
    assert restored.get(timeout=10) == [[2], 4]
    assert restored.parent.get(timeout=10) == 18
    meta = json.loads(app.results.fetch([TASKSET + "the-group"])[TASKSET + "the-group"].body or b"")
    assert meta == {"result": json.loads(json.dumps(group.as_tuple()))}, "Celery's form"
    assert GroupResult.restore("the-group", app=app) == group
    group.delete()
    assert GroupResult.restore("the-group", app=app) is None


def test_tuples_and_pickles(app: Celeriac) -> None:
    parent = AsyncResult("before", app=app)
    group = GroupResult("g", [AsyncResult("a", app=app)], parent=parent, app=app)
    assert group.as_tuple() == (("g", (("before", None), None)), [(("a", None), None)])
    again = result_from_tuple(json.loads(json.dumps(group.as_tuple())), app)
    assert isinstance(again, GroupResult) and again == group and again.parent == parent
    assert pickle.loads(pickle.dumps(group)) == group
    assert result_from_tuple(group, app) is group
    assert (str(group), repr(group), hash(group)) == ("g", "<GroupResult: g [a]>", hash("g"))
    assert group == "g" and group.children == group.results


def test_lazy_results(app: Celeriac, worker: Any, tasks: Any) -> None:
    lazy = LazyResults(app)
    for i in range(10):
        lazy.add(tasks.add.delay(i, i).id)
    group = app.GroupResult("g", lazy)
    assert len(group) == 10 and group[2].id == lazy[2].id
    assert group == app.GroupResult("g", list(lazy))
    assert group.join(timeout=10) == group.get() == [2 * i for i in range(10)]
    assert group.completed_count() == 10


def test_eager_members(app: Celeriac) -> None:
    good = EagerResult("a", 3, "SUCCESS", app=app)
    bad = EagerResult("b", ValueError("no"), "FAILURE", app=app)
    group = group_of(app, good, bad)
    assert group.ready() and group.failed() and group.completed_count() == 1
    with pytest.raises(ValueError, match="no"):
        group.get(timeout=1)
    assert group.get(propagate=False)[0] == 3
    assert [r.id for r in group.as_completed()] == ["a", "b"]
    called: list[Any] = []
    good.then(called.append)
    assert called == [good]
    group.forget()
    assert good.get() == 3, "it is stored nowhere else"


def test_not_inside_a_task(app: Celeriac, tasks: Any) -> None:
    @app.task(name="waiter")
    def waiter(leave: bool) -> Any:
        group = group_of(app, tasks.add.delay(1, 1))
        if leave:
            with allow_join_result():
                return group.get(timeout=10)
        return group.get(timeout=10)

    with running_worker(app, concurrency=4):
        assert waiter.delay(True).get(timeout=10) == [2]
        with pytest.raises(RuntimeError, match="within a task"):
            waiter.delay(False).get(timeout=10)


def test_one_question_to_the_store(
    app: Celeriac, worker: Any, tasks: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = group_of(app, *[tasks.add.delay(i, i) for i in range(50)])
    group.get(timeout=10)
    for result in group:
        result._meta = None
    asked: list[int] = []
    fetch = app.results.fetch

    def counted(ids: Any) -> Any:
        asked.append(len(ids))
        return fetch(ids)

    monkeypatch.setattr(app.results, "fetch", counted)
    assert group.ready() and group.completed_count() == 50
    assert asked == [50]
