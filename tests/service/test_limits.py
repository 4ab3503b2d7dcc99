"""Time limits with real processes: what is asked is kept, or refused at start."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from tests.support.project import Project, eventually

from celeriac.kernel.errors import SoftTimeLimitExceeded, TimeLimitExceeded

LIMITED = """
    import ctypes

    @app.task(time_limit=1)
    def sleep_in_c():
        ctypes.CDLL(None).sleep(30)

    @app.task(time_limit=1)
    def spin():
        while True:
            pass

    @app.task(soft_time_limit=0.5, time_limit=10)
    def caught():
        from celeriac.exceptions import SoftTimeLimitExceeded
        try:
            while True:
                pass
        except SoftTimeLimitExceeded:
            return "caught"

    @app.task(soft_time_limit=0.5)
    def soft():
        time.sleep(30)

    @app.task(soft_time_limit=0.5)
    async def soft_async():
        import asyncio
        from celeriac.exceptions import SoftTimeLimitExceeded
        try:
            await asyncio.sleep(30)
        except SoftTimeLimitExceeded:
            return "caught"

    @app.task(acks_on_timeout=False, time_limit=0.5, max_deliveries=2)
    def again():
        with open(HERE / "again", "a") as file:
            file.write("x")
        time.sleep(30)

    @app.task
    def add(x, y):
        return x + y
    """


def test_prefork_keeps_every_limit(project: Callable[[str], Project]) -> None:
    made = project(LIMITED)
    made.worker("-c", "2")
    for name in ("sleep_in_c", "spin"):
        begun = time.monotonic()
        with pytest.raises(TimeLimitExceeded):
            made.send(name).get(timeout=20)
        assert time.monotonic() - begun < 8
    assert made.send("caught").get(timeout=20) == "caught"
    assert made.send("soft_async").get(timeout=20) == "caught"
    with pytest.raises(SoftTimeLimitExceeded):
        made.send("soft").get(timeout=20)
    assert made.send("add", 1, 2).get(timeout=20) == 3
    with pytest.raises(TimeLimitExceeded):  # the call's own limit, for a task that has none
        made.send("add", 1, 2, time_limit=30).get(timeout=20)
        made.send("sleep_in_c", time_limit=0.5).get(timeout=20)


def test_a_timeout_that_is_no_end_is_delivered_again_and_buried(
    project: Callable[[str], Project],
) -> None:
    made = project(LIMITED)
    made.worker("-c", "1")
    result = made.send("again")
    eventually(lambda: made.app.broker.buried(limit=1), saying="a burial")
    assert (made.folder / "again").read_text() == "xx"
    assert result.state == "FAILURE"


@pytest.mark.parametrize("pool", ["threads", "asyncio", "solo"])
def test_what_cannot_be_kept_is_refused_at_start(
    project: Callable[[str], Project], pool: str
) -> None:
    made = project(LIMITED)
    worker = made.worker("-P", pool, ready=False)
    assert worker.popen.wait(30) != 0
    assert "time_limit" in worker.output()
    assert "-P prefork" in worker.output()
    assert "Traceback" not in worker.output()
