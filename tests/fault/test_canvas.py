"""Random workflows while workers are killed: each ends, with what it gives when it is run in place."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from celeriac.canvas import chord
from celeriac.kernel.states import READY_STATES
from tests.support.canvases import build
from tests.support.processes import below
from tests.support.project import Project, eventually

pytestmark = pytest.mark.fault

SHOW = """
    app.conf.worker_log_tasks = False
    app.conf.task_max_deliveries = 1000

    @app.task(name="show")
    def show(*args):
        time.sleep(0.001)
        return list(args)

    @app.task(name="total")
    def total(values):
        return sum(values)

    @app.task(name="one")
    def one():
        return 1
    """
FLOWS = int(os.environ.get("CELERIAC_FAULT_FLOWS", "60"))


def random_plan(dice: random.Random, depth: int) -> Any:
    kinds = ["s", "si", "chain", "or", "group", "chord"] if depth else ["s", "si"]
    kind = dice.choice(kinds)
    if kind in ("s", "si"):
        return kind, dice.randint(0, 99)

    def some(least: int) -> list[Any]:
        return [random_plan(dice, depth - 1) for _ in range(dice.randint(least, 3))]

    if kind == "chord":
        return kind, some(1), random_plan(dice, depth - 1)
    return kind, some(2 if kind == "or" else 1)


def strike(worker: Any, dice: random.Random, victim: str) -> None:
    if victim == "child":
        children = worker.children()
        if children:
            try:
                os.kill(dice.choice(children), signal.SIGKILL)
            except ProcessLookupError:
                pass
    elif victim == "any":
        try:  # the keeper too: its worker ends then
            os.kill(dice.choice(below(worker.pid) or [worker.pid]), signal.SIGKILL)
        except ProcessLookupError:
            pass
    else:
        worker.kill_group()


@pytest.mark.parametrize("victim", ["child", "any", "group"])
def test_workflows_end_though_workers_are_killed(
    project: Callable[[str], Project], victim: str
) -> None:
    dice = random.Random(4)
    made = project(SHOW)
    show = made.app.task(name="show")(lambda *args: list(args))
    plans = [random_plan(dice, 3) for _ in range(FLOWS)]
    flows = [build(plan, show) for plan in plans]
    wanted = [json.loads(json.dumps(flow.apply(("in",)).get())) for flow in flows]
    results = [flow.apply_async(("in",)) for flow in flows]
    worker = made.worker("-c", "2", level="WARNING", ready=False)
    strikes = 0

    def step() -> bool:
        nonlocal worker, strikes
        if made.left() == 0:
            return True
        time.sleep(dice.uniform(0.05, 0.4))
        if strikes < 12:
            strikes += 1
            strike(worker, dice, victim)
        if worker.popen.poll() is not None:
            worker = made.worker("-c", "2", level="WARNING", ready=False)
        return False

    eventually(step, within=100, saying="an empty queue")
    assert strikes, "nothing was killed"
    for plan, result, value in zip(plans, results, wanted, strict=True):
        assert result.get(timeout=5) == value, plan
    assert not made.app.broker.buried(limit=1)


def test_a_large_chord_of_a_generator_ends_though_workers_are_killed(
    project: Callable[[str], Project],
) -> None:
    made = project(SHOW)
    count = 3000
    one, total = made.app.signature("one"), made.app.signature("total")
    worker = made.worker("-c", "2", level="WARNING", ready=False)
    flow = chord((one.clone() for _ in range(count)), total)
    result = flow.apply_async()
    for strike in range(1, 4):
        eventually(lambda: made.left() <= count - strike * 500)
        worker.kill_group()
        worker = made.worker("-c", "2", level="WARNING", ready=False)
    assert result.get(timeout=60, follow_parents=False) == count
    eventually(lambda: made.left() == 0)
    records = made.app.results.fetch([part.id for part in result.parent.results[:500]])
    assert {record.state for record in records.values()} <= READY_STATES
