"""Budgets of Python calls, which are the same on every machine: one send, and one task that runs."""

from __future__ import annotations

import cProfile
import pstats
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from celeriac import Celeriac
from celeriac.beat.service import ticker_of
from celeriac.kernel.message import QueueCount, Record, Verdict
from celeriac.ports.pool import PoolTraits
from celeriac.testing.eventually import quickest
from celeriac.worker.execute import Execution

TIMES = 50

pytestmark = pytest.mark.perf


def calls(call: Callable[[], Any]) -> float:
    """Return Python calls of `call`, a mean."""
    for _ in range(5):
        call()
    profile = cProfile.Profile(builtins=False)
    profile.enable()
    for _ in range(TIMES):
        call()
    profile.disable()
    stats = pstats.Stats(profile)
    return float(stats.total_calls) / TIMES  # type: ignore[attr-defined]


@pytest.fixture
def app(request: pytest.FixtureRequest) -> Iterator[Celeriac]:
    app = Celeriac("calls", broker=f"memory://{request.node.name}", set_as_current=False)

    @app.task(name="calls.add")
    def add(x: int, y: int) -> int:
        return x + y

    yield app
    app.close()


def test_delay(app: Celeriac) -> None:
    add = app.tasks["calls.add"]
    assert calls(lambda: add.delay(1, 2)) <= 40


class Frame:
    """Lends a task nothing."""

    def limits(self, soft: float | None, hard: float | None) -> None:
        """Do nothing."""

    def noted(self, batch: Sequence[Record]) -> None:
        """Do nothing."""

    def told(self, batch: Sequence[bytes]) -> None:
        """Do nothing."""


def test_a_task_run_and_settled(app: Celeriac) -> None:
    add = app.tasks["calls.add"]
    for _ in range(TIMES + 5):
        add.delay(1, 2)
    execution = Execution(
        app,
        Frame(),
        hostname="celery@calls",
        traits=PoolTraits("calls", stops_hard=True, stops_soft=True, isolates=True),
    )
    consumer = app.broker.consume(["celery"], owner="calls", lease=30.0)
    # Claimed beforehand, as a worker does it: in batches.
    claimed = iter(consumer.claim(TIMES + 5, wait=0.0))
    ended = []

    def run() -> None:
        settlement = execution(next(claimed))
        assert consumer.settle([settlement]) == []
        ended.append(settlement)

    try:
        assert calls(run) <= 60
    finally:
        consumer.close()
        execution.close()
    assert len(ended) == TIMES + 5
    assert {settlement.verdict for settlement in ended} == {Verdict.ACK}
    assert all(s.record is not None and s.record.state == "SUCCESS" for s in ended)
    assert app.broker.count(["celery"])["celery"] == QueueCount()


def test_a_look_at_a_schedule_of_ten_thousand(tmp_path: Path) -> None:
    """Between ticks beat asks for the next one: as many calls, and rows read, as with ten entries."""
    found = {}
    for count in (10, 10_000):
        url = f"sqlite:///{tmp_path}/{count}.db"
        with Celeriac("calls", broker=url, set_as_current=False) as app:
            each = {"task": "t", "schedule": 86_400.0}
            app.conf.beat_schedule = {f"entry-{n}": each for n in range(count)}
            ticker = ticker_of(app)
            ticker.sync()
            assert (ticker.tick() or 0.0) > 80_000
            found[count] = calls(ticker.tick), quickest(lambda: _seconds(ticker.tick), enough=0.002)
    assert found[10_000][0] <= found[10][0] + 1
    assert found[10_000][1] < 0.002, found


def _seconds(work: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun
