"""The process pool while the processes below it are killed, stopped, cut off or not to be had.

Below the worker is the keeper, below that the zygote, and below that the children.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from celeriac.kernel.errors import WorkerLostError
from celeriac.kernel.message import Delivery
from celeriac.pools.processes import ProcessPool, nursery, watch
from celeriac.pools.processes.zygote import Keeper
from celeriac.ports.pool import Run, TaskFrame
from celeriac.testing.contract.pool import Gate, Heard, Runner, deliveries, delivery, ids
from celeriac.testing.eventually import eventually
from tests.support.processes import alive, below, parent_of
from tests.support.project import Project

pytestmark = pytest.mark.fault

LOCK = threading.Lock()
"""Held by a thread of the worker whenever it is forked at a bad moment."""


class Locking(Runner):
    """Runs tasks that need what other threads of the worker use."""

    def do(self, delivery: Delivery, verb: bytes, rest: bytes) -> bytes:
        if verb == b"lock":
            with LOCK:
                logging.getLogger("storm").debug("%s", delivery.envelope.id)
            return b"%d" % os.getpid()
        if verb == b"cut":
            os.closerange(3, 256)
            time.sleep(60)
        return super().do(delivery, verb, rest)


def make_run(frame: TaskFrame) -> Run:
    return Locking(frame)


Start = Callable[..., ProcessPool]


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def start(heard: Heard) -> Iterator[Start]:
    made: list[ProcessPool] = []

    def start(size: int = 2, make: Any = make_run, **options: Any) -> ProcessPool:
        pool = ProcessPool(size, **options)
        pool.start(make, heard)
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


def settle(pool: ProcessPool) -> tuple[int, int, list[int]]:
    """Wait until every child is there; return the pids of keeper, zygote and children."""

    def found() -> tuple[int, int, list[int]] | None:
        children = pool.pids()
        zygotes = {parent_of(pid) for pid in children}
        if len(children) != pool.size() or len(zygotes) != 1:
            return None
        (zygote,) = zygotes
        keeper = parent_of(zygote)
        return (keeper, zygote, children) if parent_of(keeper) == os.getpid() else None

    return eventually(found, every=0.005)


def runs(pool: ProcessPool, heard: Heard, name: str, body: bytes = b"lock") -> None:
    batch = deliveries(name, 20, body)
    pool.submit(batch)
    heard.wait(batch)


# The zygote


def test_a_zygote_is_not_forked_beside_threads(start: Start, heard: Heard) -> None:
    """What another thread holds when the zygote is killed is not held for ever in the new one."""
    pool = start(2)
    _, zygote, before = settle(pool)
    with LOCK:
        os.kill(zygote, signal.SIGKILL)
        eventually(lambda: len(pool.pids()) == 2 and not set(before) & set(pool.pids()))
    runs(pool, heard, "x")
    assert settle(pool)[1] != zygote
    eventually(lambda: not any(map(alive, before)))


def test_zygotes_killed_one_after_another(start: Start, heard: Heard) -> None:
    pool = start(2)
    keeper, _, _ = settle(pool)
    seen = set()
    for index in range(10):
        found, zygote, children = settle(pool)
        assert found == keeper
        seen.add(zygote)
        os.kill(zygote, signal.SIGKILL)
        eventually(lambda gone=zygote: not alive(gone))
        runs(pool, heard, f"x-{index}")
        assert not set(children) & set(pool.pids())
    assert len(seen) == 10
    assert not heard.failures


def test_a_zygote_is_killed_before_its_children_began(
    start: Start, heard: Heard, tmp_path: Path
) -> None:
    """Children that died with it do not count as children that cannot begin."""

    def slow(frame: TaskFrame) -> Run:
        while not (tmp_path / "go").exists():
            time.sleep(0.002)
        return Locking(frame)

    pool = start(4, slow)
    for _ in range(10):
        _, zygote, children = settle(pool)
        os.kill(zygote, signal.SIGKILL)
        eventually(lambda gone=children: not any(map(alive, gone)))
        eventually(lambda gone=children: not set(gone) & set(pool.pids()))
    (tmp_path / "go").touch()
    runs(pool, heard, "x")
    assert not heard.failures


def test_a_zygote_that_forks_nothing_is_replaced(
    start: Start, heard: Heard, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(watch, "FORK_WITHIN", 0.5)
    pool = start(2)
    _, zygote, _ = settle(pool)
    os.kill(zygote, signal.SIGSTOP)
    pool.resize(3)
    eventually(lambda: not alive(zygote))
    settle(pool)
    runs(pool, heard, "x")
    said = [record.getMessage() for record in caplog.records]
    assert (
        f"the zygote process {zygote} is killed and replaced: it has forked nothing for 0.5 s"
        in said
    )


def test_a_zygote_that_tells_of_no_end_is_replaced(
    start: Start, heard: Heard, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "END_WITHIN", 0.3)
    pool = start(2)
    _, zygote, children = settle(pool)
    pool.submit(deliveries("held", 2, gate.held))
    eventually(lambda: len(gate.begun()) == 2)
    os.kill(zygote, signal.SIGSTOP)
    for pid in children:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: len(heard.errors()) == 2)
    runs(pool, heard, "x")
    assert not alive(zygote)


def test_no_process_can_be_forked_for_a_while(
    start: Start,
    heard: Heard,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    fork = os.fork
    full = tmp_path / "full"

    def none_left() -> int:
        if full.exists():
            raise BlockingIOError(11, "Resource temporarily unavailable")
        return fork()

    monkeypatch.setattr(os, "fork", none_left)
    monkeypatch.setattr(nursery, "AGAIN", 0.05)
    pool = start(2)
    _, zygote, children = settle(pool)
    full.touch()
    os.kill(children[0], signal.SIGKILL)
    eventually(lambda: sum("cannot be forked" in r.getMessage() for r in caplog.records) >= 5)
    runs(pool, heard, "x")  # by the one that is left
    os.kill(zygote, signal.SIGKILL)
    eventually(lambda: any("zygote process cannot" in r.getMessage() for r in caplog.records))
    full.unlink()
    runs(pool, heard, "y")
    settle(pool)
    assert not heard.failures


# The keeper


def test_the_keeper_is_killed(start: Start, heard: Heard, gate: Gate) -> None:
    """All is told of, nothing lives on, and the pool says that it has failed."""
    pool = start(2)
    keeper, zygote, children = settle(pool)
    batch = deliveries("held", 2, gate.held)
    more = deliveries("more", 5)
    pool.submit(batch)
    eventually(lambda: len(gate.begun()) == 2)
    pool.submit(more)
    os.kill(keeper, signal.SIGKILL)
    eventually(lambda: heard.failures)
    eventually(lambda: set(heard.errors()) == set(ids(batch)))
    assert heard.failures == [f"the keeper process {keeper} was killed: nothing can be forked"]
    assert pool.failure == heard.failures[0]
    assert sorted(ids(pool.stop(deadline=time.monotonic() + 5))) == sorted(ids(more))
    eventually(lambda: not any(map(alive, [zygote, *children])))


SLEEPY = """
    @app.task
    def wait():
        (HERE / "begun").touch()
        while not (HERE / "go").exists():
            time.sleep(0.005)
        return "done"
    """


def test_a_worker_without_keeper_ends(project: Callable[[str], Project]) -> None:
    made = project(SLEEPY)
    worker = made.worker("-c", "2")
    waiting = [made.send("wait") for _ in range(3)]
    eventually((made.folder / "begun").exists)
    (keeper,) = below(worker.pid, 1)
    everybody = below(worker.pid)
    os.kill(keeper, signal.SIGKILL)
    assert worker.popen.wait(20) == 70, worker.output()
    assert "the pool has failed, and the worker ends: the keeper process" in worker.output()
    eventually(lambda: not any(map(alive, everybody)))
    (made.folder / "go").touch()
    made.worker("-c", "2")
    assert [one.get(timeout=20) for one in waiting] == ["done"] * 3


CANNOT_BEGIN = """
    from celeriac.signals import worker_process_init

    @worker_process_init.connect
    def break_down(**_):
        os._exit(3)

    @app.task
    def one():
        return 1
    """


def test_a_worker_whose_children_cannot_begin_ends(project: Callable[[str], Project]) -> None:
    made = project(CANNOT_BEGIN)
    made.send("one")
    worker = made.worker("-c", "2", ready=False)
    assert worker.popen.wait(20) == 70, worker.output()
    assert "children end before they begin: exit status 3" in worker.output()
    assert made.left() == 1, "the task was not given back"


# Children


def test_a_child_that_is_not_ready_is_replaced(
    start: Start, heard: Heard, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def stuck(frame: TaskFrame) -> Run:
        try:
            (tmp_path / "first").touch(exist_ok=False)
        except FileExistsError:
            return Locking(frame)
        (tmp_path / "pid").write_text(str(os.getpid()))
        time.sleep(60)
        raise AssertionError

    pool = start(2, stuck, begin_within=1.0)
    runs(pool, heard, "x")  # by the other
    pid = int(eventually((tmp_path / "pid").read_text))
    eventually(lambda: not alive(pid))
    settle(pool)
    said = [r.getMessage() for r in caplog.records if "replaced" in r.getMessage()]
    assert said == [
        f"process {pid} is killed and replaced: it was not ready within 1 s (worker_proc_alive_timeout)"
    ]
    assert not heard.failures


def test_children_that_are_never_ready(start: Start, heard: Heard) -> None:
    def stuck(frame: TaskFrame) -> Run:
        time.sleep(60)
        raise AssertionError

    pool = start(1, stuck, begin_within=0.2)
    eventually(lambda: heard.failures)
    assert "it was not ready within 0.2 s" in heard.failures[0]
    assert pool.failure == heard.failures[0]


def test_a_child_that_is_cut_off_is_replaced(
    start: Start, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "END_WITHIN", 0.3)
    pool = start(1)
    settle(pool)
    pool.submit([delivery("cut", b"cut")])
    error = eventually(lambda: heard.errors().get("cut"))
    assert type(error) is WorkerLostError
    assert "it has closed its pipe and does not end" in str(error)
    runs(pool, heard, "x")


def test_a_child_that_does_not_take_its_work_is_replaced(
    start: Start, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "TAKE_WITHIN", 0.5)
    pool = start(1)
    runs(pool, heard, "x")
    _, _, (child,) = settle(pool)
    os.kill(child, signal.SIGSTOP)
    runs(pool, heard, "y")
    assert not heard.gone, "it was not begun, so that it is not lost"
    assert not alive(child)


def test_a_long_task_is_no_child_that_hangs(
    start: Start, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "TAKE_WITHIN", 0.2)
    monkeypatch.setattr(watch, "END_WITHIN", 0.2)
    pool = start(1, begin_within=2.0)
    before = settle(pool)
    batch = deliveries("x", 3, b"sleep 0.6")
    pool.submit(batch)
    heard.wait(batch)
    assert settle(pool) == before


# All of it


def storm(pool: ProcessPool, heard: Heard, seconds: float, seed: int) -> int:
    """Kill zygotes and children at random under load; return how many were killed."""
    dice = random.Random(seed)
    ending = threading.Event()

    def busy() -> None:
        # The worker's own threads are never all out of their locks.
        while not ending.is_set():
            with LOCK:
                logging.getLogger("storm").debug("busy")
                time.sleep(0.0005)

    threads = [threading.Thread(target=busy) for _ in range(2)]
    for thread in threads:
        thread.start()
    sent: list[str] = []
    killed = 0
    ends = time.monotonic() + seconds
    try:
        while time.monotonic() < ends:
            if pool.free():
                verb = dice.choice((b"lock", b"lock", b"sleep 0.002", b"sleep 0.05"))
                batch = deliveries(f"x-{len(sent)}", dice.randint(1, 40), verb)
                sent += ids(batch)
                pool.submit(batch)
            time.sleep(dice.uniform(0.0, 0.06))
            targets = pool.pids()
            zygotes = {parent_of(pid) for pid in targets} - {0, 1, os.getpid()}
            if dice.random() < 0.3:
                targets = [pid for pid in zygotes if parent_of(parent_of(pid)) == os.getpid()]
            for pid in dice.sample(targets, min(len(targets), dice.randint(1, 2))):
                ancestors = (parent_of(parent_of(pid)), parent_of(parent_of(parent_of(pid))))
                if os.getpid() in ancestors:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                        killed += 1
        assert heard.failures == []
        runs(pool, heard, "after")
    finally:
        ending.set()
        for thread in threads:
            thread.join()
    sent += ids(deliveries("after", 20))
    eventually(lambda: len(heard.everything()) >= len(sent), within=20)
    assert heard.everything() == sorted(sent), "told of twice, or not at all"
    for error in heard.errors().values():
        assert type(error) is WorkerLostError
    return killed


@pytest.mark.parametrize(
    ("seconds", "seed"),
    [(3.0, 1), pytest.param(60.0, 2, marks=pytest.mark.long)],
    ids=["short", "long"],
)
def test_a_storm_of_kills(start: Start, heard: Heard, seconds: float, seed: int) -> None:
    pool = start(3)
    keeper, _, _ = settle(pool)
    assert storm(pool, heard, seconds, seed) > 5 * seconds
    assert settle(pool)[0] == keeper
    everybody = [keeper, *below(keeper)]
    assert not pool.stop(deadline=time.monotonic() + 10)
    eventually(lambda: not any(map(alive, everybody)))


def test_who_forks_ends_in_silence(capfd: pytest.CaptureFixture[str]) -> None:
    """Its worker is gone and has not read all that it said: that is no error."""
    keeper = Keeper(lambda sock, number: 0)
    zygote = keeper.zygote()
    eventually(lambda: below(keeper.pid))
    select.select([keeper.sock], [], [])  # it said that the zygote is born
    keeper.sock.close()
    zygote.sock.close()
    assert os.waitpid(keeper.pid, 0)[1] == 0
    assert capfd.readouterr().err == ""
