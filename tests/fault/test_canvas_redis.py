"""Workflows on Redis while workers die: between any two steps of a settlement, and at random.

A final state is published once, when the store accepts it: the tests count those.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("redis")

from hypothesis import HealthCheck, given, settings

from celeriac.canvas import chord
from celeriac.kernel.states import READY_STATES
from tests.fault.test_canvas import SHOW, random_plan, strike
from tests.support.canvases import build, canvases
from tests.support.project import Project, eventually
from tests.support.redis import RedisServer

pytestmark = [pytest.mark.service, pytest.mark.fault]

DYING = """
    from celeriac.drivers.redis.broker import RedisBroker
    from celeriac.drivers.redis.consumer import RedisConsumer
    from celeriac.drivers.redis.results import RedisResults

    app.conf.worker_log_tasks = False

    def dies(owner, name, moment):
        # A worker that is armed dies once, there and then; the one after it goes on.
        inner = getattr(owner, name)
        def call(self, *args, **kwargs):
            armed = HERE / f"{name}-{moment}"
            if moment == "before" and armed.exists():
                armed.rename(HERE / "died")
                os.kill(os.getpid(), signal.SIGKILL)
            found = inner(self, *args, **kwargs)
            if moment == "after" and armed.exists():
                armed.rename(HERE / "died")
                os.kill(os.getpid(), signal.SIGKILL)
            return found
        setattr(owner, name, call)

    for moment in ("before", "after"):
        dies(RedisResults, "store", moment)
        dies(RedisResults, "close_parts", moment)
        dies(RedisBroker, "publish", moment)
        dies(RedisResults, "mark_sent", moment)
        dies(RedisConsumer, "settle", moment)

    def line(name):
        with open(HERE / "lines", "a") as file:
            file.write(name + "\\n")

    @app.task(name="part")
    def part(number):
        if number == 2 and not (HERE / "go").exists():
            (HERE / "first").write_text(str(os.getpid()))
            while not (HERE / "go").exists():
                time.sleep(0.005)
        line("part")
        return number

    @app.task(name="total")
    def total(numbers):
        if (HERE / "first").read_text() == str(os.getpid()):
            time.sleep(60)  # it dies: what began here would have to begin again
        line("total")
        return sum(numbers)

    @app.task(name="double")
    def double(number):
        line("double")
        return 2 * number
    """

STEPS = ("store", "close_parts", "publish", "mark_sent", "settle")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path / "redis") as server:
        yield server


@pytest.fixture
def make(tmp_path: Path, server: RedisServer) -> Iterator[Callable[..., Project]]:
    made: list[Project] = []

    def make(source: str, *, results: int) -> Project:
        folder = tmp_path / f"project{len(made)}"
        folder.mkdir()
        url, store = server.url(), server.url(results)
        made.append(Project(folder, source, url=url, result_backend=store, worker_lease=1.0))
        return made[-1]

    yield make
    for one in made:
        one.close()


@contextmanager
def accepted(server: RedisServer) -> Iterator[Counter[str]]:
    """Count the final records that the store accepts, by task id."""
    found: Counter[str] = Counter()
    ear = server.client.pubsub()
    ear.psubscribe("*celery-task-meta-*")
    ending = threading.Event()

    def listen() -> None:
        while not ending.is_set():
            said = ear.get_message(timeout=0.05)
            if said is not None and said["type"] == "pmessage":
                if json.loads(said["data"])["status"] in READY_STATES:
                    found[said["channel"].decode().rpartition("meta-")[2]] += 1

    thread = threading.Thread(target=listen)
    thread.start()
    try:
        yield found
    finally:
        ending.set()
        thread.join()
        ear.close()


def _steps() -> Iterator[Any]:
    for results in (0, 1):
        for step in STEPS if results else ("settle",):
            for moment in ("before", "after"):
                yield pytest.param(results, step, moment, id=f"db{results}-{moment}-{step}")


@pytest.mark.parametrize(("results", "step", "moment"), list(_steps()))
def test_the_last_part_s_worker_dies_at_a_step(
    make: Callable[..., Project], server: RedisServer, results: int, step: str, moment: str
) -> None:
    made = make(DYING, results=results)
    sign = made.app.signature
    flow = chord([sign("part", (n,)) for n in range(3)], sign("total")) | sign("double")
    worker = made.worker("-P", "threads", "-c", "3", level="WARNING", ready=False)
    with accepted(server) as ends:
        result = flow.apply_async()
        parts = result.parent.parent.results
        eventually(lambda: parts[0].ready() and parts[1].ready())
        eventually(lambda: made.left() == 1, saying="that only the last part is left")
        (made.folder / f"{step}-{moment}").touch()
        (made.folder / "go").touch()
        worker.popen.wait(20)
        assert (made.folder / "died").exists(), worker.output()
        made.worker("-P", "threads", "-c", "3", level="WARNING", ready=False)
        assert result.get(timeout=30) == 6
        eventually(lambda: made.left() == 0, saying="an empty queue")
        eventually(lambda: len(ends) == 5, saying="the five ends")
    assert set(ends.values()) == {1}
    runs = Counter((made.folder / "lines").read_text().split())
    # The part that was not settled runs again, and nothing else.
    assert (runs["total"], runs["double"]) == (1, 1), runs
    assert runs["part"] == (3 if (step, moment) == ("settle", "after") else 4), runs
    assert not made.app.broker.buried(limit=1)


@pytest.mark.parametrize("results", [0, 1])
def test_any_workflow_gives_what_eager_gives(
    make: Callable[..., Project], server: RedisServer, results: int
) -> None:
    dice = random.Random(results)
    made = make(SHOW, results=results)
    show = made.app.task(name="show")(lambda *args: list(args))
    worker = made.worker("-c", "2", level="WARNING", ready=False)

    def outcome(result: Any) -> Any:
        value = "nothing" if result is None else result.get(timeout=30)
        return json.loads(json.dumps(value))

    @settings(
        deadline=None, max_examples=50, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(canvases)
    def example(plan: Any) -> None:
        flow = build(plan, show)
        flow.app = made.app  # an empty group knows none
        eager = outcome(flow.apply(("in",)))
        result = flow.apply_async(("in",))
        if dice.random() < 0.3:
            strike(worker, dice, "child")
        assert outcome(result) == eager

    with accepted(server) as ends:
        example()
        eventually(lambda: made.left() == 0, saying="an empty queue")
    assert max(ends.values()) == 1, "a task ended twice"
    assert not made.app.broker.buried(limit=1)


@pytest.mark.parametrize("results", [0, 1])
@pytest.mark.parametrize("victim", ["child", "group"])
def test_random_workflows_end_though_workers_are_killed(
    make: Callable[..., Project], server: RedisServer, victim: str, results: int
) -> None:
    dice = random.Random(victim == "child")
    made = make(SHOW, results=results)
    show = made.app.task(name="show")(lambda *args: list(args))
    plans = [random_plan(dice, 3) for _ in range(40)]
    flows = [build(plan, show) for plan in plans]
    wanted = [json.loads(json.dumps(flow.apply(("in",)).get())) for flow in flows]
    worker = made.worker("-c", "2", level="WARNING", ready=False)
    strikes = 0
    with accepted(server) as ends:
        sent = [flow.apply_async(("in",)) for flow in flows]

        def step() -> bool:
            nonlocal worker, strikes
            if made.left() == 0:
                return True
            time.sleep(dice.uniform(0.05, 0.3))
            if strikes < 10:
                strikes += 1
                strike(worker, dice, victim)
            if worker.popen.poll() is not None:
                worker = made.worker("-c", "2", level="WARNING", ready=False)
            return False

        eventually(step, within=100, saying="an empty queue")
        for plan, result, value in zip(plans, sent, wanted, strict=True):
            assert result.get(timeout=5) == value, plan
    assert strikes, "nothing was killed"
    assert max(ends.values()) == 1, "a task ended twice"
    assert not made.app.broker.buried(limit=1)
