"""Prints celeriac beside Celery, others and bare loops, measured in one run: `make bench`.

Figures are for ratios within one run; machines differ and are noisy.  What needs a server that is
not installed stays empty.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks import measures, observing, sides, workflows  # noqa: E402

POOLS = (
    ("threads -c 2", "threads", 2),
    ("prefork -c 2", "prefork", 2),
    ("solo", "solo", 1),
    ("asyncio -c 2", "asyncio", 2),
)
KINDS = (("results", "bench.noop"), ("no results", "bench.noop_ignored"))


EACH = 20
"""Sends between two looks at the clock: some rivals open a connection for each series."""


def rate(value: float) -> str:
    """Return a number of events per second for the table."""
    return f"{value:,.0f}/s"


def milliseconds(value: float) -> str:
    """Return seconds as milliseconds for the table."""
    return f"{value * 1000:.2f} ms"


def percent(value: float) -> str:
    """Return per cent for the table."""
    return f"{value:.2f} %"


class Table:
    """One line for each measure, one column for each side; printed as it grows."""

    def __init__(self, labels: list[str]) -> None:
        self.labels = labels
        self.rows: list[tuple[str, list[float | None]]] = []
        print(f"{'':38}" + "".join(f"{label:>18}" for label in labels))

    def add(self, what: str, show: Callable[[float], str], values: list[float | None]) -> None:
        """Print a line; None leaves a place empty."""
        self.rows.append((what, values))
        cells = "".join(f"{'' if one is None else show(one):>18}" for one in values)
        print(f"{what:38}{cells}", flush=True)


@contextmanager
def everyone(options: argparse.Namespace, folder: Path) -> Iterator[list[Any]]:
    """Start all that can be had: ours first, then Celery, then the others."""
    found: list[Any] = []
    servers = []
    if "sqlite" in options.brokers:
        found.append(sides.Ours("SQLite", f"sqlite:///{folder / 'bench.db'}"))
    if shutil.which("redis-server"):
        if "redis" in options.brokers:
            servers.append(sides.RedisServer(folder))
            found.append(sides.Ours("Redis", servers[-1].url))
        rivals: list[type[Any]] = []
        if not options.alone:
            rivals = [sides.Celery, sides.Dramatiq, sides.Taskiq]
        for rival in rivals:
            servers.append(sides.RedisServer(folder))
            try:
                found.append(rival(servers[-1]))
            except ImportError as error:
                print(f"without {rival.label}: {error}")
    if "rabbitmq" in options.brokers and shutil.which("rabbitmq-server"):
        servers.append(sides.RabbitServer(folder))
        found.append(sides.Ours("RabbitMQ", servers[-1].url))
        if not options.alone:
            found.append(sides.CeleryOnRabbit(servers[-1]))
    try:
        yield found
    finally:
        for side in found:
            side.close()
        for server in servers:
            server.close()


def drains(table: Table, every: list[Any], count: int) -> None:
    """Measure how fast a backlog is worked off."""
    for label, pool, concurrency in POOLS:
        for kind, name in KINDS:
            values: list[float | None] = []
            for side in every:
                ours = isinstance(side, sides.Ours)
                has = ours or pool in ("prefork", "threads")
                if isinstance(side, sides.Celery):
                    has = pool in ("prefork", "solo")
                size = count if ours else max(1, count // 10)
                values.append(measures.drain(side, name, pool, concurrency, size) if has else None)
            table.add(f"drain, {label}, {kind}", rate, values)


def observed(table: Table, every: list[Any], count: int) -> None:
    """Measure what is left of a worker's rate when it sends events: at least 80 % is promised."""
    for heard in (False, True):
        for label, pool, concurrency in POOLS[:2]:
            values: list[float | None] = [
                observing.kept(side, pool, concurrency, count, heard=heard)
                if isinstance(side, sides.Ours)
                else None
                for side in every
            ]
            what = "with events that are heard" if heard else "with events"
            table.add(f"drain {what}, {label}", percent, values)


def sends(table: Table, every: list[Any], folder: Path) -> None:
    """Measure sending one by one, in a batch and by coroutines, beside bare loops."""
    one_by_one: list[float | None] = []
    bare: list[float | None] = []
    batch: list[float | None] = []
    coroutines: list[float | None] = []
    for side in every:
        ours = isinstance(side, sides.Ours)
        clear(side)
        sender = side.send_each if ours else side.send_many  # the others' is one by one as well
        send = functools.partial(sender, KINDS[1][1], EACH)
        rates: tuple[float, float | None]
        if ours and side.url.startswith("sqlite"):
            with measures.bare_insert(folder) as insert:
                rates = measures.in_turns(send, insert)
        elif ours and side.url.startswith("redis"):
            with measures.bare_push(side.url) as push:
                rates = measures.in_turns(send, push)
        else:
            rates = measures.per_second(send), None
        one_by_one.append(rates[0] * EACH)
        bare.append(rates[1])
        batch.append(measures.batch(side, 50_000) if ours else None)
        coroutines.append(measures.by_coroutines(side) if ours else None)
        clear(side)
    table.add("send, one by one", rate, one_by_one)
    table.add("bare loop of the same store", rate, bare)
    table.add("send, app.batch()", rate, batch)
    table.add("send, 1,000 coroutines", rate, coroutines)
    calls = measures.enqueue_calls()
    table.add("Python calls per delay()", "{:.0f}".format, [calls] + [None] * (len(every) - 1))


def waits(table: Table, every: list[Any], folder: Path) -> None:
    """Measure latency, start and idle cost."""
    late = [side for side in every if isinstance(side, sides.Ours | sides.Celery)]
    for pool in ("threads", "prefork"):
        found = [
            measures.latency(side, folder, pool if isinstance(side, sides.Ours) else "prefork")
            if side in late
            else None
            for side in every
        ]
        for index, quantile in enumerate(("p50", "p99")):
            values = [one[index] if one else None for one in found]
            table.add(f"idle send to start, {pool}, {quantile}", milliseconds, values)
    values = [measures.round_trip(side) if side in late else None for side in every]
    table.add("round trip", milliseconds, values)
    values = [measures.startup(side, folder) if side in late else None for side in every]
    table.add("start to first task", milliseconds, values)
    idle = [measures.idle(side) if side in late else None for side in every]
    table.add("idle CPU", percent, [one[0] if one else None for one in idle])
    table.add("idle PSS", "{:.0f} MiB".format, [one[1] if one else None for one in idle])


def canvases(table: Table, every: list[Any]) -> None:
    """Measure chords and chains."""
    found = []
    for side in every:
        clear(side)
        found.append(workflows.measure(side))
    for index, (what, _) in enumerate(workflows.MEASURES):
        table.add(what, rate, [one[index] for one in found])


def clear(side: Any) -> None:
    """Take out what the last measure left."""
    if isinstance(side, sides.Ours):
        side.app.broker.purge("celery")
    elif isinstance(side, sides.CeleryOnRabbit):
        side.counts.app.broker.purge("celery")
    else:
        side.client.flushall()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=30_000, help="tasks of a drain on celeriac")
    parser.add_argument(
        "--brokers", default="sqlite,redis,rabbitmq", help="which ones, with commas"
    )
    parser.add_argument("--quick", action="store_true", help="drains and sends only")
    parser.add_argument("--alone", action="store_true", help="without Celery and the others")
    parser.add_argument("--json", type=Path, help="write the rows there too")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="celeriac-bench-"))
    os.environ["PYTHONWARNINGS"] = "ignore"
    began = time.monotonic()
    try:
        with everyone(options, folder) as every:
            table = Table([side.label for side in every])
            drains(table, every, options.tasks)
            observed(table, every, options.tasks)
            sends(table, every, folder)
            canvases(table, every)
            if not options.quick:
                waits(table, every, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{time.monotonic() - began:.0f} s")
    if options.json is not None:
        found = [
            dict(zip(["what", *table.labels], [what, *values], strict=True))
            for what, values in table.rows
        ]
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
