"""Real beats, killed, stopped and doubled: each tick runs once, and none is missed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.project import Process, Project, eventually

pytestmark = pytest.mark.fault

PROGRAM = """
@app.task(bind=True, acks_late=False)
def note(self):
    with open(HERE / "ran.txt", "a") as out:
        headers = self.request.headers
        out.write(f"{headers['periodic_task_name']} {headers['scheduled_for']} {time.time()}\\n")

app.conf.beat_schedule["a"] = {"task": "proj.note", "schedule": 0.5, "misfire": "all"}
app.conf.beat_schedule["b"] = {"task": "proj.note", "schedule": 0.7, "misfire": "all"}
app.conf.beat_schedule["broken"] = {"task": "proj.note", "schedule": "no"}
app.conf.beat_schedule["unknown"] = {"task": "proj.nobody", "schedule": 600.0}
"""


class Beats:
    """Beat processes of a project."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.made: list[Process] = []

    def start(self, *options: str) -> Process:
        log = self.project.folder / f"beat-{len(self.made)}.log"
        command = [sys.executable, "-m", "celeriac", "-A", "proj", "beat", "-l", "INFO", *options]
        with log.open("wb") as out:
            popen = subprocess.Popen(
                command, cwd=self.project.folder, stdout=out, stderr=out, start_new_session=True
            )
        self.made.append(Process(popen, log))
        return self.made[-1]

    def started(self, *options: str) -> Process:
        beat = self.start(*options)
        eventually(lambda: "beat: Starting" in beat.output(), saying="a beat that runs")
        return beat


@pytest.fixture
def beats(project: Callable[[str], Project]) -> Any:
    made = Beats(project(PROGRAM))
    yield made
    for beat in made.made:
        try:
            os.kill(beat.pid, signal.SIGCONT)
        except ProcessLookupError:
            pass
        beat.kill_group()


def ran(folder: Path) -> list[tuple[str, float, float]]:
    """Return (entry, its tick, when it ran) of each run."""
    import datetime as dt

    file = folder / "ran.txt"
    if not file.exists():
        return []
    found = []
    for line in file.read_text().splitlines():
        name, when, at = line.split()
        found.append((name, dt.datetime.fromisoformat(when).timestamp(), float(at)))
    return found


def check(folder: Path, name: str, every: float) -> int:
    """Check that each tick of an entry ran once, in one unbroken row; return how many."""
    counts = Counter(round(at, 3) for own, at, _ in ran(folder) if own == name)
    assert {at: n for at, n in counts.items() if n != 1} == {}
    ticks = sorted(counts)
    assert ticks == [pytest.approx(ticks[0] + every * n, abs=0.01) for n in range(len(ticks))]
    return len(ticks)


def ends(beats: Beats) -> None:
    """Stop all beats, let the worker finish, and check."""
    for beat in beats.made:
        if beat.popen.poll() is None:
            assert beat.stop() == 0
    eventually(lambda: beats.project.left() == 0, saying="an empty queue")


def test_two_beats_one_killed_at_random(beats: Beats) -> None:
    beats.project.worker("-P", "threads", "-c", "2")
    choice = random.Random(11)
    keeper = beats.started()
    for _ in range(8):
        other = beats.start()
        time.sleep(choice.uniform(0.2, 1.2))  # the moment of its death
        victim, keeper = (keeper, other) if choice.random() < 0.5 else (other, keeper)
        victim.kill_group()
    beats.started()
    count = len(ran(beats.project.folder))
    eventually(lambda: len(ran(beats.project.folder)) > count + 5)
    ends(beats)
    assert check(beats.project.folder, "a", 0.5) > 10
    assert check(beats.project.folder, "b", 0.7) > 7


def test_a_stopped_beat_and_one_that_goes_on(beats: Beats) -> None:
    folder = beats.project.folder
    beats.project.worker("-P", "threads", "-c", "2")
    stopped, other = beats.started(), beats.started()
    for _ in range(2):
        os.kill(stopped.pid, signal.SIGSTOP)
        count = len(ran(folder))
        eventually(lambda: len(ran(folder)) > count + 12)
        os.kill(stopped.pid, signal.SIGCONT)
        stopped, other = other, stopped
    ends(beats)
    assert check(folder, "a", 0.5) > 10
    check(folder, "b", 0.7)


def test_the_only_beat_stopped_over_ten_ticks(beats: Beats) -> None:
    folder = beats.project.folder
    beats.project.worker("-P", "threads", "-c", "2")
    beat = beats.started()
    eventually(lambda: len(ran(folder)) > 2)
    os.kill(beat.pid, signal.SIGSTOP)
    time.sleep(6)
    os.kill(beat.pid, signal.SIGCONT)
    count = len(ran(folder))
    eventually(lambda: len(ran(folder)) > count + 20)
    ends(beats)
    assert check(folder, "a", 0.5) > 11
    check(folder, "b", 0.7)


def test_ticks_start_in_time(beats: Beats) -> None:
    folder = beats.project.folder
    beats.project.worker("-P", "threads", "-c", "2")
    beats.started()
    eventually(lambda: len(ran(folder)) >= 20)
    late = sorted(at - tick for _, tick, at in ran(folder))
    assert min(late) > -0.001
    assert late[len(late) // 2] < 0.05, late  # the middle: a busy machine may delay some
    ends(beats)
