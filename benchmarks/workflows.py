"""Chords and chains, from the call to the result in hand, on a warm prefork worker of two."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from benchmarks.measures import worker
from benchmarks.sides import Celery, Ours

PARTS = 1_000
STEPS = 60
CHAINS = 10


def _canvas(side: Any) -> Any:
    if isinstance(side, Ours):
        import celeriac.canvas as canvas
    else:
        import celery.canvas as canvas
    return canvas


def _timed(call: Callable[[], int], times: int) -> float:
    """Return the events per second of the best of some calls: what other work delays is not it."""
    best = 0.0
    for _ in range(times):
        begun = time.perf_counter()
        best = max(best, call() / (time.perf_counter() - begun))
    return best


def chord(side: Any) -> int:
    """Run a chord of many small parts; return how many."""
    canvas, app = _canvas(side), side.app
    parts = (app.signature("bench.noop", (number,)) for number in range(PARTS))
    result = canvas.chord(parts, app.signature("bench.count"), app=app)()
    assert result.get(timeout=60) == PARTS
    return PARTS


def small_chords(side: Any) -> int:
    """Run fifty chords of ten parts side by side; return how many."""
    canvas, app = _canvas(side), side.app
    results = []
    for _ in range(50):
        header = [app.signature("bench.noop", (number,)) for number in range(10)]
        results.append(canvas.chord(header, app.signature("bench.count"), app=app)())
    for result in results:
        assert result.get(timeout=60) == 10
    return len(results)


def chains(side: Any) -> int:
    """Run some chains side by side; return how many steps they had."""
    canvas, app = _canvas(side), side.app
    results = [
        canvas.chain([app.signature("bench.noop", (1,), immutable=True) for _ in range(STEPS)])()
        for _ in range(CHAINS)
    ]
    for result in results:
        result.get(timeout=60)
    return CHAINS * STEPS


MEASURES: tuple[tuple[str, Callable[[Any], int]], ...] = (
    (f"chord of {PARTS:,}, parts", chord),
    ("50 chords of 10, chords", small_chords),
    (f"{CHAINS} chains of {STEPS}, steps", chains),
)


def measure(side: Any) -> list[float | None]:
    """Return the figures of `MEASURES` for a side; None where it has no workflows."""
    if not isinstance(side, Ours | Celery):
        return [None] * len(MEASURES)
    with worker(side, "prefork", 2):
        side.app.send_task("bench.noop", (1,)).get(timeout=60)
        # rpc:// has no place in which the parts of a chord could be counted.
        counts = isinstance(side, Celery) or not side.url.startswith("amqp")
        return [
            _timed(lambda call=call: call(side), 2) if counts or call is chains else None
            for _, call in MEASURES
        ]
