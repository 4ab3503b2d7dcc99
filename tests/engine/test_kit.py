"""celeriac.testing itself: what a user's tests rely on."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from celeriac import Celeriac
from celeriac.kernel.errors import InvalidTaskError, NotRegistered
from celeriac.result import allow_join_result
from celeriac.testing import TaskKit, running_worker


class Boom(Exception):
    """What tasks here fail with."""


@pytest.fixture
def add(app: Celeriac) -> Any:
    @app.task(name="add")
    def add(x: int, y: int) -> int:
        return x + y

    return add


def test_the_apps_own_broker_is_back_afterwards() -> None:
    app = Celeriac("x", broker="memory://own", set_as_current=False)
    t = app.task(name="t")(lambda: None)
    app.broker.purge("celery")
    t.delay()
    with TaskKit(app) as kit:
        assert kit.run_until_empty() == []
        t.delay()
        t.delay()
        assert len(kit.run_until_empty()) == 2
    assert app.broker.count(["celery"])["celery"].ready == 1
    assert app.broker.purge("celery") == 1


def test_settings_are_restored(app: Celeriac) -> None:
    app.conf.task_always_eager = True
    t = app.task(name="t")(lambda: 1)
    with TaskKit(app) as kit:
        assert app.conf.task_always_eager is False
        t.delay()
        kit.assert_sent(t)
        with kit.settings(task_default_queue="q"):
            t.delay()
            kit.assert_sent(queue="q")
        assert app.conf.task_default_queue == "celery"
    assert app.conf.task_always_eager is True


def test_follow_ups_run_too(app: Celeriac, kit: TaskKit, add: Any) -> None:
    @app.task(name="fan")
    def fan(n: int) -> None:
        for index in range(n):
            add.delay(index, index)

    fan.delay(3)
    assert [ran.task for ran in kit.run_until_empty()] == ["fan", "add", "add", "add"]


def test_get_runs_what_waits(kit: TaskKit, add: Any) -> None:
    assert add.delay(1, 2).get() == 3


def test_get_says_why_there_is_nothing(kit: TaskKit, add: Any) -> None:
    later = add.apply_async((1, 2), countdown=60)
    with pytest.raises(AssertionError, match="waits for the clock"):
        later.get()
    kit.clock.advance(minutes=1)
    assert later.get() == 3
    with pytest.raises(AssertionError, match="never sent"):
        kit.app.AsyncResult("nothing").get()


def test_failures_are_raised_or_kept(app: Celeriac, kit: TaskKit) -> None:
    def boom() -> None:
        raise Boom("text")

    t = app.task(name="t")(boom)
    after = app.task(name="after")(lambda: None)
    result = t.delay()
    after.delay()
    with pytest.raises(Boom, match="text") as caught:
        kit.run_until_empty()
    assert "in boom" in str(caught.value.__cause__)
    assert result.state == "FAILURE", "it is settled before it is raised"
    assert len(kit.run_until_empty()) == 1, "the rest is still there"
    t.delay()
    [ran] = kit.run_until_empty(failures="keep")
    assert isinstance(ran.error, Boom)
    assert [one.task for one in kit.failures] == ["t", "t"]


def test_wrong_messages_are_raised(app: Celeriac, kit: TaskKit, add: Any) -> None:
    app.send_task("add", (1,))
    with pytest.raises(InvalidTaskError):
        kit.run_until_empty()
    app.send_task("nobody.knows")
    with pytest.raises(NotRegistered):
        kit.run_until_empty()


def test_sent_and_its_asserts(kit: TaskKit, add: Any) -> None:
    with pytest.raises(AssertionError, match="nothing was sent"):
        kit.assert_sent(add)
    kit.assert_not_sent()
    add.apply_async((1, 2), queue="q", countdown=10)
    add.delay(x=1, y=2)
    assert kit.assert_sent(add, args=(1, 2)).queue == "q"
    kit.assert_sent("add", kwargs={"x": 1, "y": 2})
    kit.assert_sent(add, times=2)
    kit.assert_not_sent(add, args=[2, 1])
    assert [one.countdown for one in kit.sent()] == [pytest.approx(10), 0]
    with pytest.raises(AssertionError, match=r"add\(1, 2\) to q in 10 s"):
        kit.assert_sent(add, args=[9, 9])
    with pytest.raises(AssertionError, match="was sent 2 times, not 1"):
        kit.assert_sent(add, times=1)
    with pytest.raises(AssertionError, match="was sent"):
        kit.assert_not_sent(add)
    kit.clear()
    kit.assert_not_sent()
    assert kit.run_until_empty() == []


def test_args_are_compared_after_the_serializer(kit: TaskKit, add: Any) -> None:
    add.delay((1, 2), {"a": (3,)})
    kit.assert_sent(add, args=[(1, 2), {"a": (3,)}])


def test_the_clock(kit: TaskKit, add: Any) -> None:
    for hours in (1, 2, 3):
        add.apply_async((hours, 0), countdown=3600 * hours)
    kit.clock.advance(hours=2)
    assert len(kit.run_until_empty()) == 2
    kit.clock.advance(days=1)
    assert len(kit.run_until_empty()) == 1
    with pytest.raises(ValueError, match="advanced"):
        kit.clock.advance(-1)


def test_an_endless_loop_is_noticed(app: Celeriac, kit: TaskKit) -> None:
    @app.task(name="loop")
    def loop() -> None:
        loop.delay()

    loop.delay()
    with pytest.raises(AssertionError, match="endless loop"):
        kit.run_until_empty(limit=20)


def test_running_the_queue_inside_a_task_is_refused(app: Celeriac, kit: TaskKit) -> None:
    @app.task(name="t")
    def t() -> None:
        kit.run_until_empty()

    t.delay()
    with pytest.raises(AssertionError, match="slot"):
        kit.run_until_empty()


def test_a_task_that_may_wait_runs_the_others(app: Celeriac, kit: TaskKit, add: Any) -> None:
    @app.task(name="outer")
    def outer() -> int:
        with allow_join_result():
            return add.delay(1, 2).get() + 1

    assert outer.delay().get() == 4
    assert [ran.task for ran in kit.ran] == ["add", "outer"]


def test_coroutines_wait_side_by_side(kit: TaskKit, add: Any) -> None:
    async def main() -> list[int]:
        return list(await asyncio.gather(*(add.delay(n, n).aget() for n in range(20))))

    assert asyncio.run(main()) == [2 * n for n in range(20)]


def test_an_async_task_that_waits_is_refused(app: Celeriac, kit: TaskKit, add: Any) -> None:
    @app.task(name="t")
    async def t() -> int:
        return int(await add.delay(1, 2))

    with pytest.raises((AssertionError, RuntimeError), match="slot"):
        t.delay().get()


def test_only_some_queues(kit: TaskKit, add: Any) -> None:
    add.apply_async((1, 1), queue="a")
    add.apply_async((2, 2), queue="b")
    assert len(kit.run_until_empty(queues=["a"])) == 1
    assert [one.queue for one in kit.waiting()] == ["b"]


def test_a_worker_that_does_not_start_says_why(app: Celeriac) -> None:
    def broken(*args: Any, **kwargs: Any) -> Any:
        raise Boom("no broker")

    with pytest.raises(AssertionError, match="did not start") as caught:
        with running_worker(app) as worker:
            pass
        worker = app.Worker(pool="threads", concurrency=1)
        worker._begin = broken
        app.Worker = lambda **options: worker  # type: ignore[method-assign]
        with running_worker(app):
            pass
    assert isinstance(caught.value.__cause__, Boom)


# -- the plugin, in a pytest of its own -----------------------------------------------------------


@pytest.fixture
def run_pytest(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    def run(test: str, *args: str, **files: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "test_it.py").write_text(textwrap.dedent(test))
        for name, text in files.items():
            suffix = "ini" if name == "pytest" else "py"
            (tmp_path / f"{name}.{suffix}").write_text(textwrap.dedent(text))
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", *args],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


SHOP = """
    from celeriac import Celeriac, shared_task

    app = Celeriac("shop")

    @app.task
    def mail(address): return f"sent to {address}"

    @shared_task
    def shared(): return "shared"
"""


def test_the_fixtures(run_pytest: Any) -> None:
    done = run_pytest(
        """
        import shop

        def test_kit(celeriac_kit):
            result = shop.mail.delay("a@b")
            celeriac_kit.assert_sent(shop.mail, args=["a@b"])
            celeriac_kit.run_until_empty()
            assert result.get() == "sent to a@b"
            assert shop.shared.delay().get() == "shared"

        def test_nothing_is_left_of_the_other(celeriac_kit):
            celeriac_kit.assert_not_sent()
            assert celeriac_kit.app is shop.app

        def test_worker(celeriac_worker):
            assert shop.mail.delay("c@d").get(timeout=10) == "sent to c@d"
        """,
        shop=SHOP,
        pytest="""
        [pytest]
        celeriac_app = shop
        """,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_app_by_a_fixture(run_pytest: Any) -> None:
    done = run_pytest(
        """
        import pytest, shop

        def test_kit(celeriac_kit):
            assert shop.mail.delay("a").get() == "sent to a"

        def test_two_apps_of_one_test(celeriac_kit, celeriac_app):
            assert celeriac_kit.app is celeriac_app is shop.app
        """,
        shop=SHOP,
        conftest="""
        import pytest, shop

        @pytest.fixture
        def celeriac_app():
            return shop.app
        """,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_fixture_imports_nothing(run_pytest: Any) -> None:
    done = run_pytest(
        """
        import sys

        def test_nothing():
            assert "celeriac.testing.plugin" in sys.modules
            assert "celeriac.client.app" not in sys.modules
            assert "celeriac.testing.kit" not in sys.modules
        """
    )
    assert done.returncode == 0, done.stdout + done.stderr
