"""Prints celeriac beside Celery and a bare loop, measured in one run: `python benchmarks/run.py`.

Figures are for ratios within one run; machines differ and are noisy.  Celery runs on a Redis that
is started here; without `redis-server` or Celery its column stays empty.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import os
import pstats
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import apsw  # noqa: E402

from celeriac import Celeriac  # noqa: E402

Row = tuple[str, str, str, str]


def rate(value: float) -> str:
    """Return a number of events per second for the table."""
    return f"{value:,.0f}/s"


def milliseconds(value: float) -> str:
    """Return seconds as milliseconds for the table."""
    return f"{value * 1000:.2f} ms"


class Celery:
    """The rival: Celery on Redis, in worker processes of its own."""

    module = "benchmarks.celery_app"

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.redis = subprocess.Popen(
            ["redis-server", "--port", str(port), "--save", "", "--bind", "127.0.0.1"],
            cwd=folder,
            stdout=subprocess.DEVNULL,
        )
        self.url = f"redis://127.0.0.1:{port}/0"
        self.environment = {"CELERY_BROKER_URL": self.url, "CELERY_RESULT_BACKEND": self.url}
        os.environ.update(self.environment)
        import celery
        import redis

        client = redis.Redis.from_url(self.url)
        while True:
            try:
                client.ping()
                break
            except redis.ConnectionError:
                time.sleep(0.02)
        self.client = client
        self.app = celery.Celery("bench", broker=self.url, backend=self.url)
        for name in self.environment:
            del os.environ[name]

    def left(self) -> int:
        """Return how many messages wait or are held."""
        return int(self.client.llen("celery")) + int(self.client.hlen("unacked"))

    def command(self, pool: str, concurrency: int) -> list[str]:
        """Return the command of a worker."""
        return [
            *(sys.executable, "-m", "celery", "-A", self.module, "worker", "-l", "WARNING"),
            *("-P", pool, "-c", str(concurrency)),
            *("--without-gossip", "--without-mingle", "--without-heartbeat"),
        ]

    def send_many(self, name: str, count: int) -> None:
        """Send tasks, one by one as Celery does."""
        for number in range(count):
            self.app.send_task(name, (number,))

    def close(self) -> None:
        """End the server."""
        self.app.close()
        self.client.close()
        self.redis.terminate()
        self.redis.wait()


class Ours:
    """celeriac on a SQLite file, synchronous=FULL."""

    module = "benchmarks.celeriac_app"

    def __init__(self, folder: Path) -> None:
        self.url = f"sqlite:///{folder / 'bench.db'}"
        self.environment = {"CELERIAC_BROKER_URL": self.url}
        self.app = Celeriac("bench", broker=self.url)

    def left(self) -> int:
        """Return how many messages wait or are held."""
        counts = self.app.broker.count(["celery"])["celery"]
        return counts.ready + counts.delayed + counts.held

    def command(self, pool: str, concurrency: int) -> list[str]:
        """Return the command of a worker."""
        return [
            *(sys.executable, "-m", "celeriac", "-A", self.module, "worker", "-l", "WARNING"),
            *("-P", pool, "-c", str(concurrency)),
        ]

    def send_many(self, name: str, count: int) -> None:
        """Send tasks in a batch."""
        with self.app.batch():
            for number in range(count):
                self.app.send_task(name, (number,))

    def close(self) -> None:
        """Let go of the file."""
        self.app.close()


@contextmanager
def worker(side: Any, pool: str, concurrency: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run a worker; end it by SIGTERM."""
    popen = subprocess.Popen(
        side.command(pool, concurrency),
        cwd=ROOT,
        env={**os.environ, **side.environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield popen
    finally:
        popen.terminate()
        try:
            popen.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(popen.pid, signal.SIGKILL)
            popen.wait()


def drain(side: Any, name: str, pool: str, concurrency: int, count: int) -> float:
    """Return tasks per second from the first that has ended to the last."""
    side.send_many(name, count)
    with worker(side, pool, concurrency):
        deadline = time.monotonic() + 120
        while side.left() > count * 0.95:
            time.sleep(0.005)
            if time.monotonic() > deadline:
                return float("nan")
        first, begun = side.left(), time.perf_counter()
        while (left := side.left()) > 0 and time.monotonic() < deadline:
            time.sleep(0.002)
        return (first - left) / (time.perf_counter() - begun)


def per_second(call: Callable[[], Any], seconds: float = 2.0) -> float:
    """Return how often `call` runs in a second."""
    call()
    count, begun = 0, time.perf_counter()
    while time.perf_counter() - begun < seconds:
        call()
        count += 1
    return count / (time.perf_counter() - begun)


def bare_insert(folder: Path) -> float:
    """Return single FULL inserts per second into a table shaped like the queue's."""
    db = apsw.Connection(str(folder / "bare.db"))
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=FULL")
    db.execute(
        "CREATE TABLE m(seq INTEGER PRIMARY KEY, id TEXT UNIQUE, queue TEXT, prio INT, state INT,"
        " due REAL, expires REAL, attempt INT, lost INT, body BLOB)"
    )
    db.execute("CREATE INDEX ready ON m(queue, prio DESC, seq) WHERE state=0")
    body, number = b"x" * 300, 0

    def insert() -> None:
        nonlocal number
        number += 1
        db.execute(
            "INSERT INTO m(id, queue, prio, state, due, expires, attempt, lost, body)"
            " VALUES(?, 'celery', 0, 0, 0, 0, 0, 0, ?)",
            (f"01234567-{number:028d}", body),
        )

    found = per_second(insert)
    db.close()
    return found


def latency(side: Any, folder: Path, pool: str) -> tuple[float, float]:
    """Return p50 and p99 seconds from send to start on an idle worker."""
    path = folder / f"late-{side.module}"
    path.touch()
    with worker(side, pool, 1):
        for number in range(120):
            side.app.send_task("bench.stamp", (str(path), time.time()))
            while path.read_text().count("\n") <= number:
                time.sleep(0.001)
            time.sleep(0.005)
    late = sorted(float(line) for line in path.read_text().split())[20:]
    return statistics.median(late), late[int(len(late) * 0.99) - 1]


def round_trip(side: Any) -> float:
    """Return the median seconds from send to the result in hand."""
    with worker(side, "threads" if side.module.endswith("celeriac_app") else "prefork", 1):
        times = []
        for _ in range(60):
            begun = time.perf_counter()
            side.app.send_task("bench.noop", (1,)).get(timeout=60)
            times.append(time.perf_counter() - begun)
    return statistics.median(times[10:])


def _tree(pid: int) -> list[int]:
    try:
        below = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return [pid]
    return [pid, *(one for child in below for one in _tree(int(child)))]


def _cpu(pids: list[int]) -> float:
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _pss(pids: list[int]) -> float:
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total / 1024


def idle(side: Any) -> tuple[float, float]:
    """Return CPU per cent and PSS in MiB of an idle prefork worker with two children."""
    with worker(side, "prefork", 2) as popen:
        side.app.send_task("bench.noop_ignored", (1,))
        while side.left():
            time.sleep(0.05)
        time.sleep(2.0)
        pids = _tree(popen.pid)
        before = _cpu(pids)
        time.sleep(10.0)
        return (_cpu(pids) - before) * 10, _pss(pids)


def startup(side: Any, folder: Path) -> float:
    """Return the median seconds from the start of the command to the first task's start."""
    times = []
    for number in range(3):
        path = folder / f"start-{side.module}-{number}"
        path.touch()
        begun = time.time()
        side.app.send_task("bench.stamp", (str(path), begun))
        with worker(side, "prefork", 2):
            while not path.read_text():
                time.sleep(0.002)
        times.append(float(path.read_text().split()[0]))
    return statistics.median(times)


def calls(call: Callable[[], Any], times: int = 50) -> float:
    """Return Python calls of `call`, a mean."""
    for _ in range(5):
        call()
    profile = cProfile.Profile(builtins=False)
    profile.enable()
    for _ in range(times):
        call()
    profile.disable()
    total = pstats.Stats(profile).total_calls  # type: ignore[attr-defined]
    return float(total) / times


def enqueue_calls() -> float:
    """Return Python calls per `delay()`, without the driver."""
    app = Celeriac("calls", broker="memory://calls", set_as_current=False)

    @app.task(name="calls.add")
    def add(x: int, y: int) -> int:
        return x + y

    return calls(lambda: add.delay(1, 2))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=30_000, help="tasks of a drain on celeriac")
    parser.add_argument("--quick", action="store_true", help="drains and sends only")
    parser.add_argument("--no-celery", action="store_true", help="measure celeriac alone")
    parser.add_argument("--json", type=Path, help="write the rows there too")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="celeriac-bench-"))
    ours = Ours(folder)
    theirs: Celery | None = None
    if not options.no_celery:
        try:
            theirs = Celery(folder)
        except (FileNotFoundError, ImportError) as error:
            print(f"without Celery: {error}")
    rows: list[Row] = []

    def row(what: str, show: Callable[[float], str], mine: float, other: float | None) -> None:
        ratio = f"{mine / other:.1f}x" if other else ""
        rows.append((what, show(mine), show(other) if other else "", ratio))
        print(f"{what:48} {rows[-1][1]:>14} {rows[-1][2]:>14} {ratio:>8}", flush=True)

    print(f"{'':48} {'celeriac':>14} {'Celery, Redis':>14}")
    try:
        fewer = max(1, options.tasks // 10)
        for label, pool, concurrency in (
            ("threads -c 2", "threads", 2),
            ("prefork -c 2", "prefork", 2),
            ("solo", "solo", 1),
            ("asyncio -c 2", "asyncio", 2),
        ):
            for kind, name in (("results", "bench.noop"), ("no results", "bench.noop_ignored")):
                mine = drain(ours, name, pool, concurrency, options.tasks)
                other = None
                if theirs is not None and pool in ("prefork", "solo"):
                    other = drain(theirs, name, pool, concurrency, fewer)
                row(f"drain, {label}, {kind}", rate, mine, other)
        ours.app.broker.purge("celery")

        def send_ours() -> None:
            ours.app.send_task("bench.noop_ignored", (1,))

        def send_theirs() -> None:
            assert theirs is not None
            theirs.app.send_task("bench.noop_ignored", (1,))

        bare = bare_insert(folder)
        mine = per_second(send_ours)
        row("delay()", rate, mine, per_second(send_theirs) if theirs else None)
        rows.append(("bare loop of single FULL inserts", rate(bare), "", f"{bare / mine:.2f}x"))
        print(
            f"{'bare loop of single FULL inserts':48} {rate(bare):>14} {'':14} {bare / mine:.2f}x"
        )
        begun = time.perf_counter()
        ours.send_many("bench.noop_ignored", 50_000)
        row("app.batch()", rate, 50_000 / (time.perf_counter() - begun), None)
        ours.app.broker.purge("celery")
        if theirs is not None:
            theirs.client.flushall()
        row("Python calls per delay()", lambda value: f"{value:.0f}", enqueue_calls(), None)
        if not options.quick:
            for pool in ("threads", "prefork"):
                mine_late = latency(ours, folder, pool)
                their_late = latency(theirs, folder, "prefork") if theirs else None
                for index, quantile in enumerate(("p50", "p99")):
                    other = their_late[index] if their_late else None
                    row(
                        f"idle send to start, {pool}, {quantile}",
                        milliseconds,
                        mine_late[index],
                        other,
                    )
                for path in folder.glob("late-*"):
                    path.unlink()
            row(
                "round trip", milliseconds, round_trip(ours), round_trip(theirs) if theirs else None
            )
            row(
                "start to first task",
                milliseconds,
                startup(ours, folder),
                startup(theirs, folder) if theirs else None,
            )
            mine_idle = idle(ours)
            their_idle = idle(theirs) if theirs else None
            row(
                "idle CPU",
                lambda value: f"{value:.2f} %",
                mine_idle[0],
                their_idle and their_idle[0],
            )
            row(
                "idle PSS",
                lambda value: f"{value:.0f} MiB",
                mine_idle[1],
                their_idle and their_idle[1],
            )
    finally:
        ours.close()
        if theirs is not None:
            theirs.close()
        shutil.rmtree(folder, ignore_errors=True)
    if options.json is not None:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
