"""What is measured of a side: drains, sends, latency, idle cost, the time to the first task."""

from __future__ import annotations

import asyncio
import cProfile
import os
import pstats
import signal
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw

from benchmarks.sides import Ours
from celeriac import Celeriac

ROOT = Path(__file__).resolve().parent.parent


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
    """Return tasks per second from the first that has ended to the last.

    Looked at every 20 ms: a question to RabbitMQ takes 1.5 ms of CPU, half of it the server's, which
    every 2 ms is half a core less for what is measured.
    """
    side.send_many(name, count)
    with worker(side, pool, concurrency):
        deadline = time.monotonic() + 120
        while side.left() > count * 0.95:
            time.sleep(0.02)
            if time.monotonic() > deadline:
                return float("nan")
        first, begun = side.left(), time.perf_counter()
        while (left := side.left()) > 0 and time.monotonic() < deadline:
            time.sleep(0.02)
        return (first - left) / (time.perf_counter() - begun)


def per_second(call: Callable[[], Any], seconds: float = 2.0) -> float:
    """Return how often `call` runs in a second."""
    call()
    count, begun = 0, time.perf_counter()
    while time.perf_counter() - begun < seconds:
        call()
        count += 1
    return count / (time.perf_counter() - begun)


def in_turns(call: Callable[[], Any], other: Callable[[], Any]) -> tuple[float, float]:
    """Return how often each of two calls runs in a second, in the round of the median ratio.

    They take turns of a fifth of a second: on a machine whose speed changes, figures that were
    taken seconds apart say nothing about each other.
    """
    rounds = [(per_second(call, 0.2), per_second(other, 0.2)) for _ in range(11)]
    return sorted(rounds, key=lambda pair: pair[0] / pair[1])[len(rounds) // 2]


@contextmanager
def bare_insert(folder: Path) -> Iterator[Callable[[], Any]]:
    """Give a call that makes a single FULL insert into a table shaped like the queue's."""
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

    yield insert
    db.close()


@contextmanager
def bare_push(url: str) -> Iterator[Callable[[], Any]]:
    """Give a call that makes a single LPUSH, of a message of a like size."""
    import redis

    client = redis.Redis.from_url(url)
    body = b"x" * 300
    yield lambda: client.lpush("bare", body)
    client.delete("bare")
    client.close()


def batch(side: Any, count: int) -> float:
    """Return sends per second inside `app.batch()`."""
    begun = time.perf_counter()
    side.send_many("bench.noop_ignored", count)
    return count / (time.perf_counter() - begun)


def by_coroutines(side: Any, coroutines: int = 1_000, each: int = 10) -> float:
    """Return `adelay` calls per second of many coroutines."""
    app = side.app

    @app.task(name="bench.noop_ignored", ignore_result=True, shared=False)
    def noop(number: int = 0) -> None:
        pass

    async def one() -> None:
        for number in range(each):
            await noop.adelay(number)

    async def every() -> float:
        begun = time.perf_counter()
        await asyncio.gather(*(one() for _ in range(coroutines)))
        return coroutines * each / (time.perf_counter() - begun)

    return asyncio.run(every())


def latency(side: Any, folder: Path, pool: str) -> tuple[float, float]:
    """Return p50 and p99 seconds from send to start on an idle worker."""
    path = folder / "late"
    path.write_text("")
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
    with worker(side, "threads" if isinstance(side, Ours) else "prefork", 1):
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
    for _ in range(3):
        path = folder / "start"
        path.write_text("")
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
