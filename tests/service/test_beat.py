"""`celeriac beat`, `worker -B` and `celeriac schedule` with real processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.project import Process, Project, eventually

PROGRAM = """
@app.task
def note(word):
    with open(HERE / "ran.txt", "a") as out:
        out.write(f"{word} {time.time()}\\n")

app.conf.beat_schedule["second"] = {"task": "proj.note", "schedule": 1.0, "args": ("second",)}
app.conf.beat_schedule["wrong"] = {"task": "proj.note", "schedule": "x"}

@app.on_after_configure.connect
def more(sender, **kwargs):
    sender.add_periodic_task(1000, note.s("late"), name="late")
"""


@pytest.fixture
def made(project: Callable[[str], Project]) -> Project:
    return project(PROGRAM)


def celeriac(made: Project, *words: str, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "celeriac", "-A", "proj", *words],
        cwd=made.folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr  # what is logged comes last


@pytest.fixture
def beat(made: Project) -> Iterator[Process]:
    log = made.folder / "beat.log"
    with log.open("wb") as out:
        popen = subprocess.Popen(
            [
                *(sys.executable, "-m", "celeriac", "-A", "proj", "beat", "-l", "INFO"),
                *("--pidfile", "beat.pid", "--max-interval", "60"),
            ],
            cwd=made.folder,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    process = Process(popen, log)
    eventually(lambda: "beat: Starting" in process.output() or popen.poll() is not None)
    yield process
    process.kill_group()


def ran(made: Project) -> list[str]:
    file: Path = made.folder / "ran.txt"
    return [line.split()[0] for line in file.read_text().splitlines()] if file.exists() else []


def test_a_beat_in_a_worker(made: Project) -> None:
    worker = made.worker("-B", "-P", "threads", "-c", "1")
    eventually(lambda: ran(made).count("second") >= 2)
    assert "'wrong'" in worker.output()
    assert worker.stop() == 0


def test_a_beat_ends_when_asked(made: Project, beat: Process) -> None:
    celeriac(made, "beat", "--pidfile", "beat.pid", code=73)
    assert beat.stop() == 0
    assert not (made.folder / "beat.pid").exists()


def test_what_is_to_come(made: Project) -> None:
    shown = celeriac(made, "beat", "--next", "3", "--json")
    rows: list[dict[str, Any]] = json.loads(shown[: shown.rindex("]\n") + 1])
    assert [row["entry"] for row in rows] == ["second"] * 3


def test_changes_are_seen_within_a_second(made: Project, beat: Process) -> None:
    """Beat sleeps for up to a minute here, when nothing is due: the bus wakes it."""
    celeriac(made, "schedule", "pause", "second")
    assert "paused" in celeriac(made, "schedule", "list")
    made.worker("-P", "threads", "-c", "1", level="WARNING", ready=False)
    eventually(lambda: made.left() == 0, saying="a worker")
    before = ran(made).count("second")
    time.sleep(1.2)
    assert ran(made).count("second") <= before + 1
    api = made.app.schedules
    began = time.time()
    api.add("mine", task="proj.note", schedule=0.2, args=["mine"])
    eventually(lambda: "mine" in ran(made), within=10)
    assert time.time() - began < 5
    first = next(
        float(line.split()[1])
        for line in (made.folder / "ran.txt").read_text().splitlines()
        if line.startswith("mine")
    )
    assert first - began < 1.2
    celeriac(made, "schedule", "remove", "mine")
    assert "no entry is called" in celeriac(made, "schedule", "resume", "mine", code=1)
    celeriac(made, "schedule", "run", "late")
    eventually(lambda: "late" in ran(made))


def test_no_pidfile_is_left_by_what_cannot_start(made: Project) -> None:
    assert "--detach is not offered" in celeriac(made, "beat", "--detach", code=2)
    assert os.listdir(made.folder).count("beat.pid") == 0
