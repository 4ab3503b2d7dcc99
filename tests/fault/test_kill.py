"""Workers are killed at random: each task runs at least once, none is left, each result is there."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from celeriac.kernel.states import FAILURE, SUCCESS
from tests.support.project import Process, Project, eventually

pytestmark = pytest.mark.fault

NOTES = """
    app.conf.worker_log_tasks = False

    @app.task
    def note(number):
        with open(HERE / "begun", "a") as file:
            file.write(f"{number}\\n")
        time.sleep(0.001)
        with open(HERE / "lines", "a") as file:
            file.write(f"{number}\\n")
        return number

    @app.task
    def poison(number):
        with open(HERE / "poison", "a") as file:
            file.write(f"{number}\\n")
        os.kill(os.getpid(), signal.SIGKILL)
    """

TASKS = int(os.environ.get("CELERIAC_FAULT_TASKS", "5000"))


def _send_notes(project: Project, count: int) -> list[str]:
    with project.app.batch():
        return [project.send("note", number).id for number in range(count)]


def _lines(folder: Path, name: str = "lines") -> Counter[int]:
    path = folder / name
    if not path.exists():
        return Counter()
    return Counter(int(line) for line in path.read_text().split())


def _strike_child(worker: Process) -> None:
    children = worker.children()
    if children:
        try:
            os.kill(random.choice(children), signal.SIGKILL)
        except ProcessLookupError:
            pass


def _strike_parent(worker: Process) -> None:
    worker.popen.kill()
    worker.popen.wait(10)


@pytest.mark.parametrize("seed", [1])
@pytest.mark.parametrize("victim", ["child", "parent", "group"])
def test_sigkill_loses_nothing(project: Callable[[str], Project], victim: str, seed: int) -> None:
    random.seed(seed)
    made = project(NOTES)
    ids = _send_notes(made, TASKS)
    worker = made.worker("-c", "2", level="WARNING", ready=False)
    strikes = 0

    def step() -> bool:
        nonlocal worker, strikes
        if made.left() == 0:
            return True
        time.sleep(random.uniform(0.05, 0.6))
        if strikes < 15:
            strikes += 1
            if victim == "child":
                _strike_child(worker)
            elif victim == "parent":
                _strike_parent(worker)
            else:
                worker.kill_group()
        if worker.popen.poll() is not None:
            worker = made.worker("-c", "2", level="WARNING", ready=False)
        return False

    eventually(step, within=100, saying="an empty queue")
    lines, begun = _lines(made.folder), _lines(made.folder, "begun")
    assert set(begun) >= set(range(TASKS))
    assert set(lines) == set(range(TASKS)), "a task was lost"
    doubled = sum(count - 1 for count in begun.values())
    # A delivery that was interrupted runs again: at most what two children had in hand at a strike
    # of theirs, and all that a parent's worker held (it cannot say which had begun).
    assert doubled <= strikes * (2 if victim == "child" else 2 * 512)
    records = {}
    for start in range(0, len(ids), 500):
        records.update(made.app.results.fetch(ids[start : start + 500]))
    assert {record.state for record in records.values()} == {SUCCESS}
    assert len(records) == TASKS
    assert not made.app.broker.buried(limit=1)


def test_sigterm_runs_nothing_twice(project: Callable[[str], Project]) -> None:
    made = project(NOTES)
    ids = _send_notes(made, 3000)
    for _ in range(4):
        worker = made.worker("-c", "2")
        before = len(_lines(made.folder))
        eventually(lambda: len(_lines(made.folder)) > before + 100 or made.left() == 0)
        assert worker.stop() == 0, worker.output()
        assert made.app.broker.count(["celery"])["celery"].held == 0
    made.worker("-c", "2")
    eventually(lambda: made.left() == 0, within=60, saying="an empty queue")
    assert _lines(made.folder, "begun") == Counter(range(3000))
    assert len(made.app.results.fetch(ids[:500])) == 500


def test_poison_is_buried_and_innocents_are_not(project: Callable[[str], Project]) -> None:
    made = project(NOTES)
    with made.app.batch():
        before = [made.send("note", number) for number in range(50)]
        poison = made.send("poison", 1)
        after = [made.send("note", number) for number in range(50, 100)]
    made.worker("-c", "2")
    eventually(lambda: made.left() == 0, within=60, saying="an empty queue")
    assert [item.envelope.id for item in made.app.broker.buried(limit=10)] == [poison.id]
    assert sum(_lines(made.folder, "poison").values()) == made.app.conf.task_max_deliveries
    assert poison.state == FAILURE
    assert "WorkerLostError" in type(poison.result).__name__
    assert all(result.get(timeout=10) is not None for result in before + after)


def test_a_killed_parent_leaves_no_orphan(project: Callable[[str], Project]) -> None:
    made = project(
        """
        @app.task
        def sleeper():
            (HERE / "pid").write_text(str(os.getpid()))
            time.sleep(60)
        """
    )
    worker = made.worker("-c", "2")
    made.send("sleeper")
    pid_file = made.folder / "pid"
    eventually(lambda: pid_file.exists() and pid_file.read_text())
    family = [int(pid_file.read_text()), *worker.children()]
    _strike_parent(worker)

    def gone(pid: int) -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            return True

    eventually(lambda: all(gone(pid) for pid in family), within=5, saying="no orphans")


def test_a_task_that_hogs_the_gil_keeps_its_lease(project: Callable[[str], Project]) -> None:
    made = project(
        """
        app.conf.worker_lease = 1.0

        @app.task
        def hog():
            with open(HERE / "hogs", "a") as file:
                file.write("x")
            # One bytecode that holds the interpreter's lock for seconds.
            ends = time.monotonic() + 3
            while time.monotonic() < ends:
                sum(range(3_000_000))
            return "done"
        """
    )
    made.worker("-c", "1")
    other = made.worker("-c", "1", "-n", "other@%h")
    result = made.send("hog")
    assert result.get(timeout=30) == "done"
    assert (made.folder / "hogs").read_text() == "x"
    assert other.popen.poll() is None
