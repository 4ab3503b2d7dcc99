"""Results: reading, waiting, the tree of children, exceptions at the caller, eager results."""

from __future__ import annotations

import asyncio
import datetime as dt
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from celeriac import AsyncResult, Celeriac
from celeriac.client.eager import EagerResult
from celeriac.client.result import allow_join_result, result_from_tuple
from celeriac.kernel.errors import BackendStoreError, TimeoutError
from celeriac.testing import TaskKit, running_worker
from celeriac.testing.eventually import eventually


class OwnError(Exception):
    """An exception of the test's."""

    def __init__(self, code: int, text: str = "text") -> None:
        super().__init__(code, text)
        self.code = code


@pytest.fixture
def tasks(app: Celeriac) -> Any:
    class Tasks:
        gate = threading.Event()

        @staticmethod
        @app.task(name="add")
        def add(x: int, y: int) -> int:
            return x + y

        @staticmethod
        @app.task(name="fail")
        def fail() -> None:
            raise OwnError(7)

        @staticmethod
        @app.task(name="wait")
        def wait() -> str:
            assert Tasks.gate.wait(20)
            return "waited"

    return Tasks


@pytest.fixture
def worker(app: Celeriac, tasks: Any) -> Iterator[Any]:
    with running_worker(app) as worker:
        yield worker
        tasks.gate.set()


def test_get(worker: Any, tasks: Any) -> None:
    result = tasks.add.delay(1, 2)
    assert result.get(timeout=10) == 3
    assert (result.ready(), result.successful(), result.failed()) == (True, True, False)
    assert result.state == result.status == "SUCCESS"
    assert result.result == result.info == 3
    assert result.get() == 3, "again, from what was read"


def test_get_waits_for_the_notice(worker: Any, tasks: Any) -> None:
    result = tasks.wait.delay()
    assert result.ready() is False
    threading.Timer(0.05, tasks.gate.set).start()
    assert result.get(timeout=10) == "waited"


def test_timeout(worker: Any, tasks: Any) -> None:
    result = tasks.wait.delay()
    with pytest.raises(TimeoutError, match=result.id):
        result.get(timeout=0.05)
    with pytest.raises(__builtins__["TimeoutError"]):  # type: ignore[index]
        result.get(timeout=0)


def test_the_tasks_own_exception(worker: Any, tasks: Any) -> None:
    result = tasks.fail.delay()
    with pytest.raises(OwnError) as caught:
        result.get(timeout=10)
    assert caught.value.args == (7, "text")
    assert "raise OwnError(7)" in str(caught.value.__cause__), "the remote traceback is shown"
    assert "OwnError" in (result.traceback or "")
    returned = result.get(propagate=False)
    assert isinstance(returned, OwnError)
    assert (result.failed(), result.successful()) == (True, False)
    with pytest.raises(OwnError):
        result.maybe_throw()


def test_an_exception_of_an_unknown_class_keeps_its_name(kit: TaskKit) -> None:
    def fail() -> None:
        class Local(Exception):
            """Cannot be imported."""

        raise Local("text")

    result = kit.app.task(name="t")(fail).delay()
    kit.run_until_empty(failures="keep")
    with pytest.raises(Exception, match="text") as caught:
        result.get()
    assert type(caught.value).__name__ == "Local"


def test_await(worker: Any, tasks: Any) -> None:
    async def main() -> list[Any]:
        waiting = tasks.wait.delay()
        asyncio.get_running_loop().call_later(0.05, tasks.gate.set)
        added = await tasks.add.delay(1, 2)
        many = await asyncio.gather(*(tasks.add.delay(n, n).aget(10) for n in range(50)))
        with pytest.raises(OwnError):
            await tasks.fail.delay()
        return [added, many, await waiting]

    added, many, waited = asyncio.run(main())
    assert (added, waited) == (3, "waited")
    assert many == [2 * n for n in range(50)]


def test_aget_timeout_and_cancel(worker: Any, tasks: Any, app: Celeriac) -> None:
    async def main() -> None:
        result = tasks.wait.delay()
        with pytest.raises(TimeoutError):
            await result.aget(timeout=0.05)
        waiter = asyncio.ensure_future(result.aget())
        await asyncio.sleep(0)
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
        assert not app.watcher._waiting

    asyncio.run(main())


def test_then(worker: Any, tasks: Any) -> None:
    done: list[Any] = []
    tasks.add.delay(1, 2).then(lambda result: done.append(result.result))
    tasks.fail.delay().then(done.append, on_error=lambda result: done.append(type(result.result)))
    eventually(lambda: len(done) == 2)
    assert sorted(map(str, done)) == sorted(["3", str(OwnError)])


def test_a_callback_that_raises_does_not_stop_the_waiting(worker: Any, tasks: Any) -> None:
    def broken(result: Any) -> None:
        raise RuntimeError("then")

    tasks.add.delay(1, 1).then(broken)
    assert tasks.add.delay(1, 2).get(timeout=10) == 3
    result = tasks.wait.delay()
    tasks.gate.set()
    assert result.get(timeout=10) == "waited"


def test_many_threads_wait(worker: Any, tasks: Any) -> None:
    found: list[int] = []

    def wait(n: int) -> None:
        found.append(tasks.add.delay(n, 0).get(timeout=20))

    threads = [threading.Thread(target=wait, args=(n,)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == list(range(20))


def test_on_interval_and_callback(worker: Any, tasks: Any) -> None:
    ticks: list[int] = []

    def tick() -> None:
        ticks.append(1)
        if len(ticks) == 3:
            tasks.gate.set()

    seen: list[Any] = []
    result = tasks.wait.delay()
    value = result.get(
        timeout=20, interval=0.01, on_interval=tick, callback=lambda i, v: seen.append((i, v))
    )
    assert value == "waited"
    assert len(ticks) >= 3
    assert seen == [(result.id, "waited")]


def test_get_inside_a_task_is_refused(kit: TaskKit) -> None:
    app = kit.app
    inner = app.task(name="inner")(lambda: 1)

    @app.task(name="outer")
    def outer() -> Any:
        return inner.delay().get()

    @app.task(name="allowed")
    def allowed(task_id: str) -> Any:
        with allow_join_result():
            return app.AsyncResult(task_id).get()

    with pytest.raises(RuntimeError, match="within a task"):
        outer.delay().get()
    first = inner.delay()
    kit.run_until_empty()
    assert allowed.delay(first.id).get() == 1


def test_forget(kit: TaskKit) -> None:
    t = kit.app.task(name="t")(lambda: 1)
    result = t.delay()
    assert result.get() == 1
    result.forget()
    assert result.state == "PENDING"
    assert not result.exists()


def test_results_expire(kit: TaskKit) -> None:
    t = kit.app.task(name="t")(lambda: 1)
    result = t.delay()
    kit.run_until_empty()
    kit.clock.advance(hours=23)
    assert kit.app.AsyncResult(result.id).state == "SUCCESS"
    kit.clock.advance(hours=2)
    assert kit.app.AsyncResult(result.id).state == "PENDING"


def test_extended(kit: TaskKit) -> None:
    t = kit.app.task(name="t")(lambda *args, **kwargs: 1)
    with kit.settings(result_extended=True):
        result = t.apply_async((1,), {"a": 2}, queue="q")
        kit.run_until_empty()
        assert (result.name, result.args, result.kwargs, result.queue, result.retries) == (
            "t",
            [1],
            {"a": 2},
            "q",
            0,
        )
        assert result.worker == "celery@kit"
        assert isinstance(result.date_done, dt.datetime)
        assert result.date_done.tzinfo is not None


def test_collect_and_the_tree(kit: TaskKit) -> None:
    app = kit.app

    @app.task(name="tree")
    def tree(depth: int) -> int:
        if depth:
            tree.delay(depth - 1)
            tree.delay(0)
        return depth

    result = tree.delay(2)
    kit.run_until_empty()
    assert sorted(value for _, value in result.collect()) == [0, 0, 0, 1, 2]
    assert len(list(result.iterdeps())) == 5
    assert [child.get() for child in result.children] == [1, 0]


def test_parents_raise(kit: TaskKit) -> None:
    def broken() -> None:
        raise OwnError(1)

    parent = kit.app.task(name="p")(broken).delay()
    child = kit.app.task(name="c")(lambda: 1).delay()
    kit.run_until_empty(failures="keep")
    result: AsyncResult[Any] = AsyncResult(child.id, app=kit.app, parent=parent)
    with pytest.raises(OwnError):
        result.get()
    assert result.get(follow_parents=False) == 1
    again = result_from_tuple(result.as_tuple(), kit.app)
    assert (again.id, again.parent) == (child.id, parent)
    assert result.as_list() == [child.id, parent.id]


def test_identity(kit: TaskKit) -> None:
    one, two = kit.app.AsyncResult("x"), kit.app.AsyncResult("x")
    assert one == two == "x"
    assert len({one, two}) == 1
    assert str(one) == "x"
    with pytest.raises(ValueError, match="id"):
        AsyncResult(None)  # type: ignore[arg-type]


def test_no_store_says_what_to_set() -> None:
    app = Celeriac("x", broker="memory://", backend="disabled", set_as_current=False)
    t = app.task(name="t")(lambda: 1)
    result = t.delay()
    with pytest.raises(BackendStoreError, match="result_backend"):
        result.get(timeout=1)
    app.broker.purge("celery")


# -- eager ----------------------------------------------------------------------------------------


def test_apply(app: Celeriac) -> None:
    @app.task(name="t", bind=True)
    def t(self: Any, x: int) -> list[Any]:
        return [x, self.request.is_eager, self.request.called_directly]

    result = t.apply((1,))
    assert isinstance(result, EagerResult)
    assert result.get() == [1, True, False]
    assert (result.state, result.ready(), result.successful()) == ("SUCCESS", True, True)


def test_apply_retries(app: Celeriac) -> None:
    runs: list[int] = []

    @app.task(name="t", bind=True, max_retries=2)
    def t(self: Any) -> str:
        runs.append(self.request.retries)
        if len(runs) < 3:
            raise self.retry(exc=OwnError(1), countdown=3600)
        return "done"

    assert t.apply().get() == "done"
    assert runs == [0, 1, 2]


def test_apply_gives_up_after_max_retries(app: Celeriac) -> None:
    @app.task(name="t", autoretry_for=(OwnError,), max_retries=2)
    def t() -> None:
        raise OwnError(3)

    result = t.apply()
    assert result.state == "FAILURE"
    with pytest.raises(OwnError):
        result.get()
    assert isinstance(result.get(propagate=False), OwnError)
    with pytest.raises(OwnError):
        t.apply(throw=True)


def test_always_eager() -> None:
    app = Celeriac("x", task_always_eager=True, broker="memory://", set_as_current=False)
    done: list[Any] = []

    @app.task(name="t")
    def t(x: int) -> int:
        return x

    @app.task(name="after")
    def after(x: int) -> None:
        done.append(x)

    @app.task(name="fail")
    def fail() -> None:
        raise OwnError(1)

    assert t.delay(1).get() == 1
    t.apply_async((2,), link=after.s())
    assert done == [2]
    with pytest.raises(TypeError):
        t.delay()
    assert fail.delay().state == "FAILURE"
    app.conf.task_eager_propagates = True
    with pytest.raises(OwnError):
        fail.delay()


def test_store_eager_result() -> None:
    app = Celeriac("x", task_always_eager=True, set_as_current=False)
    kit = TaskKit(app)
    with app.standing_in(kit.family), kit.settings(task_store_eager_result=True):
        result = app.task(name="t")(lambda: 5).delay()
        assert app.AsyncResult(result.id).get() == 5


def test_eager_async_task(app: Celeriac) -> None:
    @app.task(name="t")
    async def t(x: int) -> int:
        await asyncio.sleep(0)
        return x

    assert t.apply((1,)).get() == 1

    async def main() -> Any:
        return t.apply((2,)).get()

    assert asyncio.run(main()) == 2


def test_what_failed_first_is_raised(app: Celeriac, worker: Any, tasks: Any) -> None:
    first = tasks.fail.delay()
    first.get(timeout=10, propagate=False)

    @app.task(name="late")
    def late() -> None:
        assert tasks.gate.wait(20)
        raise KeyError("because of the first")

    class Unasked(AsyncResult[Any]):
        """A parent that had not failed when it was asked first."""

        asked = 0

        def maybe_throw(self, *args: Any, **kwargs: Any) -> Any:
            self.asked += 1
            return super().maybe_throw(*args, **kwargs) if self.asked > 1 else None

    result = late.delay()
    result.parent = Unasked(first.id, app=app)
    tasks.gate.set()
    with pytest.raises(OwnError):
        result.get(timeout=10)
    with pytest.raises(KeyError):
        result.get(timeout=10, follow_parents=False)
