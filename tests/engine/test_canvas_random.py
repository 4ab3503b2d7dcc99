"""Random workflows: sent and run by a worker they give what they give when they are run in place."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import HealthCheck, given, settings

from celeriac import Celeriac
from celeriac.kernel.signature import signature
from celeriac.testing import TaskKit
from tests.support.canvases import build, canvases

app = Celeriac("random", broker="memory://", set_as_current=False)


@app.task(name="show")
def show(*args: Any) -> Any:
    return list(args)


def outcome(call: Any) -> Any:
    result = call()
    return "nothing" if result is None else result.get()


def plain(value: Any) -> Any:
    return json.loads(json.dumps(value))


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(canvases)
def test_a_worker_gives_what_eager_gives(plan: Any) -> None:
    sig = build(plan, show)
    sig.app = app
    eager = plain(outcome(lambda: sig.apply(("in",))))
    with TaskKit(app) as kit:
        assert outcome(lambda: sig.apply_async(("in",))) == eager
        assert kit.run_until_empty() == []
    travelled = signature(plain(sig), app=app)
    assert plain(outcome(lambda: travelled.apply(("in",)))) == eager


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(canvases)
def test_every_worker_dies_once_after_each_task(plan: Any) -> None:
    sig = build(plan, show)
    sig.app = app
    eager = plain(outcome(lambda: sig.apply(("in",))))
    with TaskKit(app) as kit:
        kit.crash_before_settle(times=5)
        with kit.settings(task_max_deliveries=10):
            assert outcome(lambda: sig.apply_async(("in",))) == eager


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(canvases)
def test_frozen_ids_are_the_ones_that_run(plan: Any) -> None:
    sig = build(plan, show)
    sig.app = app
    frozen = sig.freeze()
    with TaskKit(app):
        result = sig.apply_async(("in",))
        if result is None:
            return
        assert outcome(lambda: result) == frozen.get()
