"""The process pool against what tasks do to their processes."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from tests.support.processes import alive, parent_of

from celeriac.kernel.errors import (
    SoftTimeLimitExceeded,
    Terminated,
    TimeLimitExceeded,
    WorkerLostError,
)
from celeriac.kernel.message import Delivery
from celeriac.pools.processes import ProcessPool
from celeriac.ports.pool import Run, TaskFrame
from celeriac.testing.contract.pool import Gate, Heard, Runner, deliveries, delivery, ids
from celeriac.testing.eventually import eventually, in_thread, quickest

ROOT = Path(__file__).parents[2]
BIG = 20 << 20


class Rough(Runner):
    """A runner of tasks that misbehave."""

    def __init__(self, frame: TaskFrame) -> None:
        super().__init__(frame)
        self.kept: list[bytes] = []

    def do(self, delivery: Delivery, verb: bytes, rest: bytes) -> bytes:
        if verb == b"die":
            os.kill(os.getpid(), int(rest))
        elif verb == b"limit":  # limit SOFT HARD VERB ..., as the engine's tracer does
            soft, hard, inner, *more = rest.split(b" ", 3)
            self.frame.limits(float(soft) or None, float(hard) or None)
            try:
                return self.do(delivery, inner, b"".join(more))
            except SoftTimeLimitExceeded:
                return b"soft"
            finally:
                self.frame.limits(None, None)
        elif verb == b"nap":
            time.sleep(60)
        elif verb == b"nap-in-c":
            # As a C extension that keeps the interpreter's lock; deaf to every handler.
            ctypes.PyDLL(None).sleep(60)
        elif verb == b"spin":
            while True:
                pass
        elif verb == b"caught":
            try:
                time.sleep(60)
            except SoftTimeLimitExceeded:
                return b"caught"
        elif verb == b"hog":
            self.kept.append(b"x" * int(rest))
            return b"%d" % os.getpid()
        elif verb == b"grow":
            return b"x" * int(rest)
        elif verb == b"measure":
            return b"%d" % len(rest)
        elif verb == b"spin-for":
            ends = time.monotonic() + float(rest)
            while time.monotonic() < ends:
                pass
        else:
            return super().do(delivery, verb, rest)
        return b""


def make_run(frame: TaskFrame) -> Run:
    return Rough(frame)


def cannot_make_run(frame: TaskFrame) -> Run:
    raise LookupError("no such app")


Start = Callable[..., ProcessPool]


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def start(heard: Heard) -> Iterator[Start]:
    made: list[ProcessPool] = []

    def start(size: int = 2, make: object = make_run, **options: int) -> ProcessPool:
        pool = ProcessPool(size, **options)
        pool.start(make, heard)  # type: ignore[arg-type]
        made.append(pool)
        return pool

    yield start
    for pool in made:
        pool.stop(deadline=time.monotonic())


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    gate = Gate(tmp_path / "gate")
    yield gate
    gate.open()


def warm(pool: ProcessPool, heard: Heard) -> None:
    """Wait until every child runs tasks, and short ones are known to be short."""
    eventually(lambda: len(pool.pids()) == pool.size(), every=0.005)
    for index in range(10):
        batch = deliveries(f"warm-{index}", 2 * pool.size())
        pool.submit(batch)
        heard.wait(batch)


# Death


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
def test_a_child_that_dies_names_the_signal(
    start: Start, heard: Heard, number: signal.Signals
) -> None:
    pool = start(2)
    if number is signal.SIGTERM:
        # The terminal's signals are the parent's to answer: the task goes on.
        pool.submit([delivery("x", b"die 15")])
        heard.wait([delivery("x")])
        return
    good = deliveries("good", 10)
    pool.submit([delivery("x", b"die %d" % number), *good])
    heard.wait(good)
    error = eventually(lambda: heard.errors().get("x"))
    assert type(error) is WorkerLostError
    assert number.name in str(error)
    assert heard.everything() == sorted(["x", *ids(good)])


def test_what_died_with_a_child_unbegun_runs_elsewhere(start: Start, heard: Heard) -> None:
    pool = start(2)
    batch: list[Delivery] = []
    for index in range(20):
        # Short ones before, so that the child is given many at once.
        batch += deliveries(f"a-{index}", 100)
        batch += [delivery(f"x-{index}", b"die 9")]
    pool.submit(batch)
    eventually(lambda: len(heard.everything()) >= len(batch), within=30)
    assert heard.everything() == sorted(ids(batch))
    errors = heard.errors()
    assert {f"x-{index}" for index in range(20)} <= errors.keys()
    # What had ended and could not say so any more is lost too, and no other.
    for task_id in errors.keys() - {f"x-{index}" for index in range(20)}:
        assert "before its outcome arrived" in str(errors[task_id])
    assert not heard.back


def test_killed_from_outside(start: Start, heard: Heard, gate: Gate) -> None:
    pool = start(2)
    batch = deliveries("held", 2, gate.held)
    pool.submit(batch)
    eventually(lambda: len(gate.begun()) == 2)
    victims = pool.pids()
    os.kill(victims[0], signal.SIGKILL)
    eventually(lambda: len(heard.errors()) == 1)
    gate.open()
    eventually(lambda: len(heard.everything()) == 2)
    assert len(heard.ids()) == 1
    eventually(lambda: len(pool.pids()) == 2 and victims[0] not in pool.pids())
    more = deliveries("more", 50)
    pool.submit(more)
    heard.wait(more)


def test_idle_children_killed_are_replaced(start: Start, heard: Heard) -> None:
    pool = start(2)
    warm(pool, heard)
    before = pool.pids()
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: len(pool.pids()) == 2 and not set(before) & set(pool.pids()))
    more = deliveries("more", 20)
    pool.submit(more)
    heard.wait(more)
    assert not heard.gone


def test_zygote_killed(start: Start, heard: Heard, gate: Gate) -> None:
    pool = start(2)
    warm(pool, heard)
    before = pool.pids()
    (zygote,) = {parent_of(pid) for pid in before}
    assert zygote != os.getpid()
    held = deliveries("held", 2, gate.held)
    pool.submit(held)
    eventually(lambda: len(gate.begun()) == 2)
    os.kill(zygote, signal.SIGKILL)
    eventually(lambda: len(heard.errors()) == 2)
    gate.open()
    more = deliveries("more", 50)
    pool.submit(more)
    heard.wait(more)
    assert all("SIGKILL" in str(error) for error in heard.errors().values())
    eventually(lambda: not any(map(alive, before)))
    assert not pool.stop(deadline=time.monotonic() + 10)


PARENT = """
import sys, time
from celeriac.pools.processes import ProcessPool
from celeriac.testing.contract.pool import Heard, deliveries, make_run
from celeriac.testing.eventually import eventually
pool = ProcessPool(3)
pool.start(make_run, Heard())
eventually(lambda: len(pool.pids()) == 3)
pool.submit(deliveries("x", 2, b"sleep 100"))
print(*pool.pids(), flush=True)
sys.stdin.read()
"""


def test_parent_killed(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    ) as parent:
        try:
            assert parent.stdout is not None
            pids = [int(word) for word in parent.stdout.readline().split()]
            (zygote,) = {parent_of(pid) for pid in pids}
            pids += [zygote, parent_of(zygote)]
            assert len(pids) == 5 and all(map(alive, pids))
            assert parent.pid not in pids
        finally:
            parent.kill()
    eventually(lambda: not any(map(alive, pids)))


# Limits


@pytest.mark.parametrize("what", [b"nap", b"nap-in-c", b"spin"])
def test_hard_limit(start: Start, heard: Heard, what: bytes) -> None:
    pool = start(2)
    warm(pool, heard)
    tries: list[str] = []

    def late() -> float:
        tries.append(f"x-{len(tries)}")
        began = time.monotonic()
        pool.submit([delivery(tries[-1], b"limit 0 0.3 " + what)])
        error = eventually(lambda: heard.errors().get(tries[-1]), every=0.002)
        assert type(error) is TimeLimitExceeded
        return time.monotonic() - began - 0.3

    # Never before its time, and in good time where the machine has any.
    assert 0 <= quickest(late, enough=0.2) <= 0.2
    more = deliveries("more", 10)
    pool.submit(more)
    heard.wait(more)
    assert heard.errors().keys() == set(tries)
    assert not heard.back


def test_hard_limit_spares_what_is_in_time(start: Start, heard: Heard) -> None:
    pool = start(2)
    batch = deliveries("x", 200, b"limit 0 5 sleep 0.001")
    pool.submit(batch)
    heard.wait(batch)
    assert heard.everything() == sorted(ids(batch))
    assert not heard.gone


@pytest.mark.parametrize("what", [b"nap", b"spin"])
def test_soft_limit(start: Start, heard: Heard, what: bytes) -> None:
    pool = start(2)
    batch = deliveries("x", 4, b"limit 0.05 20 " + what)
    pool.submit(batch)
    heard.wait(batch)
    assert set(heard.texts().values()) == {b"soft"}


def test_soft_limit_can_be_caught(start: Start, heard: Heard) -> None:
    pool = start(1)
    batch = deliveries("x", 3, b"limit 0.05 20 caught") + deliveries("y", 3)
    pool.submit(batch)
    heard.wait(batch)
    assert heard.ids() == ids(batch)
    assert [heard.texts()[f"x-{index}"] for index in range(3)] == [b"caught"] * 3


def test_soft_limit_never_fires_late(start: Start, heard: Heard) -> None:
    """Many that end at about their limit: it is raised inside, or not at all."""
    pool = start(2)
    batch: list[Delivery] = []
    for index in range(300):
        after = 0.0005 + index % 40 * 0.00005
        batch.append(delivery(f"x-{index}", b"limit 0.0015 20 spin-for %f" % after))
        batch.append(delivery(f"y-{index}", b"spin-for 0.0005"))
    pool.submit(batch)
    eventually(lambda: len(heard.everything()) >= len(batch), within=30)
    assert heard.everything() == sorted(ids(batch))
    broken = {task_id for task_id in heard.errors() if task_id.startswith("y-")}
    assert not broken, "the limit of one task was raised in another"
    # The test's own run can be hit between its task's end and `limits(None, None)`.
    assert all("SoftTimeLimit" in str(error) for error in heard.errors().values())


# Replacement


def test_max_tasks_per_child(start: Start, heard: Heard) -> None:
    pool = start(2, max_tasks_per_child=5)
    batch = deliveries("x", 60, b"pid")
    pool.submit(batch)
    heard.wait(batch, within=30)
    assert heard.everything() == sorted(ids(batch))
    pids = list(heard.texts().values())
    counts = [pids.count(pid) for pid in set(pids)]
    assert max(counts) == 5
    assert len(counts) >= 12
    eventually(
        lambda: not any(alive(int(pid)) for pid in set(pids) - set(map(to_bytes, pool.pids())))
    )


def to_bytes(number: int) -> bytes:
    return b"%d" % number


def test_max_memory_per_child(start: Start, heard: Heard) -> None:
    limit = resident() + 30_000
    pool = start(1, max_memory_per_child=limit)
    batch = []
    for index in range(4):
        batch += [delivery(f"big-{index}", b"hog 60000000")]
        batch += deliveries(f"small-{index}", 5, b"pid")
    pool.submit(batch)
    heard.wait(batch, within=30)
    assert heard.everything() == sorted(ids(batch))
    texts = heard.texts()
    hogs = {texts[f"big-{index}"] for index in range(4)}
    assert len(hogs) == 4, "each is replaced when it has grown"
    # Nothing is begun in a child that is too large: the small ones behind it are another's.
    assert texts["small-0-0"] not in {texts["big-0"]}
    assert texts["small-0-0"] == texts["big-1"]


def resident() -> int:
    """Return this process's resident memory in KiB, which its children begin with."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024


# Queues


@pytest.mark.parametrize("what", ["held", "spin", "nap-in-c"])
def test_a_long_task_holds_nobody_up(start: Start, heard: Heard, tmp_path: Path, what: str) -> None:
    """What waits behind a long task in its child is given to another within 100 ms."""
    pool = start(2)
    gates: list[Gate] = []

    def last() -> float:
        gate = Gate(tmp_path / f"gate-{len(gates)}")
        gates.append(gate)
        # Batches are deep where all was short.
        warm(pool, heard)
        name = f"r{len(gates)}"
        body = gate.held if what == "held" else what.encode()
        long, short = delivery(f"{name}-long", body), deliveries(f"{name}-short", 30)
        began = time.monotonic()
        pool.submit([long, *short])
        wanted = set(ids(short))
        eventually(lambda: wanted <= set(heard.ids()), every=0.001)
        took = time.monotonic() - began
        assert long.envelope.id not in heard.ids()
        if what == "held":
            gate.open()
            heard.wait([long])
        else:
            assert pool.cancel(long.envelope.id, hard=True)
            eventually(lambda: long.envelope.id in heard.errors())
        return took

    assert quickest(last, enough=0.1) <= 0.1


def test_twenty_megabytes_both_ways(start: Start, heard: Heard) -> None:
    pool = start(2)
    there = delivery("there", b"measure " + b"x" * BIG)
    back = delivery("back", b"grow %d" % BIG)
    small = deliveries("small", 20)
    pool.submit([there, back, *small])
    heard.wait([there, back, *small], within=30)
    assert heard.texts()["there"] == b"%d" % BIG
    assert heard.texts()["back"] == b"x" * BIG


# Cancel


@pytest.mark.parametrize("what", [b"nap", b"nap-in-c", b"spin"])
def test_cancel_hard(start: Start, heard: Heard, what: bytes, gate: Gate) -> None:
    pool = start(2)
    warm(pool, heard)
    other = deliveries("held", 1, gate.held)
    pool.submit([*other, delivery("x", what)])
    eventually(gate.begun)
    # Either it runs and is ended, or it waited and comes back.
    assert pool.cancel("x", hard=True)
    eventually(lambda: "x" in heard.errors() or heard.back)
    if not heard.back:
        assert type(heard.errors()["x"]) is Terminated
    gate.open()
    heard.wait(other)
    more = deliveries("more", 20)
    pool.submit(more)
    heard.wait(more)
    assert len(heard.gone) + len(heard.back) == 1


def test_cancel_hard_hits_nothing_else(start: Start, heard: Heard) -> None:
    """Of tasks that end just as they are cancelled, none takes its neighbour along."""
    pool = start(2)
    batch: list[Delivery] = []
    for index in range(150):
        batch += [delivery(f"x-{index}", b"sleep 0.001"), delivery(f"y-{index}")]
    for at in range(0, len(batch), 2):
        pool.submit(batch[at : at + 2])
        pool.cancel(f"x-{at // 2}", hard=True)
    eventually(lambda: len(heard.everything()) >= len(batch), within=30)
    assert heard.everything() == sorted(ids(batch))
    spared = {task_id: error for task_id, error in heard.errors().items() if task_id[0] == "y"}
    # One whose outcome was still on its way when its child was ended is lost, and says so.
    assert all("before its outcome arrived" in str(error) for error in spared.values())


# Beginning and end


def test_a_pool_that_cannot_begin(start: Start) -> None:
    pool = start(2, cannot_make_run)
    failure = eventually(lambda: pool.failure)
    assert "LookupError: no such app" in failure
    waiting = deliveries("x", 3)
    pool.submit(waiting)
    began = time.monotonic()
    left = pool.stop(deadline=began + 0.1)
    assert time.monotonic() - began < 10
    assert ids(left) == ids(waiting)


def descriptors() -> dict[str, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[name] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue  # the directory itself
    return found


def children() -> set[str]:
    """Return the pids of all processes whose parent is this one, zombies too."""
    found: set[str] = set()
    for task in os.listdir("/proc/self/task"):
        try:
            found.update(Path(f"/proc/self/task/{task}/children").read_text().split())
        except FileNotFoundError:
            continue  # a thread that ends; its children pass to another
    return found


def left_by(work: Callable[[], object]) -> tuple[Sequence[str], set[str]]:
    """Return the descriptors and the processes that `work` leaves behind."""
    files, processes = descriptors(), children()
    work()
    return [f"{k}: {v}" for k, v in descriptors().items() if k not in files], (
        children() - processes
    )


@pytest.mark.parametrize("how", ["idle", "worked", "killed", "abandoned", "failed"])
def test_nothing_is_left_behind(start: Start, heard: Heard, gate: Gate, how: str) -> None:
    def work() -> None:
        pool = start(2, cannot_make_run if how == "failed" else make_run)
        seen: set[int] = set()
        if how == "failed":
            eventually(lambda: pool.failure)
        elif how != "idle":
            warm(pool, heard)
            seen |= set(pool.pids())
        if how == "killed":
            for index in range(3):
                pool.submit([delivery(f"x-{index}", b"die 9")])
            eventually(lambda: len(heard.errors()) == 3)
        if how == "abandoned":
            pool.submit(deliveries("held", 4, gate.held))
            eventually(lambda: len(gate.begun()) == 2)
        seen |= set(pool.pids())
        left = pool.stop(deadline=time.monotonic() + (0.05 if how == "abandoned" else 10))
        assert len(left) == (4 if how == "abandoned" else 0)
        eventually(lambda: not any(map(alive, seen)))

    files, processes = left_by(work)
    assert not files
    assert not processes


def test_stop_hears_the_last_outcomes(start: Start, heard: Heard) -> None:
    """What ends while the pool stops is told of, to the last one."""
    pool = start(2)
    batch = deliveries("x", 40, b"sleep 0.002")
    pool.submit(batch)
    eventually(heard.ids, every=0.001)
    left = pool.stop(deadline=time.monotonic() + 20)
    assert sorted(heard.everything() + ids(left)) == sorted(ids(batch))
    assert not heard.gone


def test_stop_from_two_threads(start: Start, heard: Heard, gate: Gate) -> None:
    pool = start(2)
    batch = deliveries("held", 2, gate.held)
    pool.submit(batch)
    eventually(lambda: len(gate.begun()) == 2)
    with in_thread(lambda: pool.stop(deadline=time.monotonic() + 60)) as first:
        second = pool.stop(deadline=time.monotonic() + 0.1)
        left = first.value()
    assert isinstance(left, list)
    assert sorted(ids([*left, *second]) + heard.everything()) == sorted(ids(batch))
