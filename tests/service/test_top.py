"""`celeriac events` and `celeriac top` beside a real worker, the latter on a terminal of its own."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.support.project import Project, eventually

SOURCE = """
@app.task
def add(x, y):
    return x + y

@app.task
def fail():
    raise ValueError("out of paper")

@app.task
def hold(name):
    (HERE / f"begun-{name}").touch()
    while not (HERE / "go").exists():
        time.sleep(0.02)
"""


def command(project: Project, *words: str) -> list[str]:
    return [sys.executable, "-m", "celeriac", "-A", project.name, *words]


@pytest.fixture
def running(project: Callable[[str], Project]) -> Iterator[Project]:
    made = project(SOURCE)
    made.worker("-P", "threads", "-c", "4", "-E", "-n", "w1@here", "--heartbeat-interval", "0.2")
    yield made
    (made.folder / "go").touch()


def test_events_are_printed(running: Project) -> None:
    for words in (["--json", "--type", "task.#"], ["--dump", "--type", "task.#"]):
        popen = subprocess.Popen(
            command(running, "events", *words, "--limit", "6"),
            cwd=running.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert popen.stderr is not None
            assert "listening for events on sqlite" in popen.stderr.readline()
            # It says so before it subscribes: send until it has heard enough.
            eventually(lambda: running.send("add", 1, 2) and popen.poll() is not None, step=0.2)
            out, err = popen.communicate(timeout=10)
        finally:
            popen.kill()
        assert popen.returncode == 0, err
        lines = out.splitlines()
        assert len(lines) == 6
        if "--json" in words:
            found = [json.loads(line) for line in lines]
            assert {event["hostname"] for event in found} == {"w1@here"}
            assert {event["type"] for event in found} <= {
                *("task-received", "task-started", "task-succeeded"),
            }
        else:
            assert any("task received: proj.add[" in line for line in lines)
            assert any("result=3" in line for line in lines)


def test_top_says_once_what_is_there(running: Project) -> None:
    popen = subprocess.Popen(
        command(running, "top", "--json", "--interval", "4", "--task", "fail"),
        cwd=running.folder,
        stdout=subprocess.PIPE,
        text=True,
    )
    ends = time.monotonic() + 60  # it begins to look when it has started
    while popen.poll() is None and time.monotonic() < ends:
        running.send("fail")
        running.send("add", 1, 2)
        time.sleep(0.2)
    out, _ = popen.communicate(timeout=20)
    found: dict[str, Any] = json.loads(out)
    (worker,) = found["workers"]
    assert (worker["worker"], worker["state"]) == ("w1@here", "ON")
    assert found["rates"]["done"] > 0
    assert found["rates"]["failed"] > 0
    assert found["ended"]
    assert {task["task"] for task in found["ended"]} == {"proj.fail"}
    assert "celery" in {queue["queue"] for queue in found["queues"]}


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, words: list[str], folder: Any) -> None:
        self.text = ""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(folder)
            os.environ.update(TERM="xterm", COLUMNS="160", LINES="50")
            os.execv(words[0], words)

    def read(self) -> str:
        """Return what it wrote lately."""
        while select.select([self.fd], [], [], 0.05)[0]:
            try:
                data = os.read(self.fd, 65536)
            except OSError:
                break
            if not data:
                break
            self.text += data.decode(errors="replace")
        self.text = self.text[-200_000:]
        return self.text

    def press(self, keys: str) -> None:
        """Type, with what it wrote so far forgotten."""
        self.read()
        self.text = ""
        os.write(self.fd, keys.encode())

    def ended(self) -> bool:
        """Tell whether it has ended well."""
        self.read()
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        assert os.waitstatus_to_exitcode(status) == 0
        return pid == self.pid


def test_top_on_a_terminal(running: Project) -> None:
    terminal = Terminal(command(running, "top", "--interval", "0.2"), running.folder)
    eventually(lambda: "w1@here" in terminal.read(), saying="the worker")
    # What began before it looked is not known to it: events have no memory.
    first = running.send("hold", "first")
    second = running.send("hold", "second")
    eventually(lambda: first.id in terminal.read() and second.id in terminal.text)
    terminal.press("/nothing\r")
    eventually(lambda: "task=nothing" in terminal.read() and "0 running" in terminal.text)
    terminal.press("/hold\r")
    eventually(lambda: "task=hold" in terminal.read() and "2 running" in terminal.text)
    terminal.press("\x1b[B")
    terminal.press("r")
    eventually(lambda: "is revoked" in terminal.read())
    (running.folder / "go").touch()
    eventually(lambda: "0 running" in terminal.read())
    terminal.press("q")
    eventually(terminal.ended)


def test_top_knows_what_began_before_it_looked(running: Project) -> None:
    running.send("hold", "early")
    eventually(lambda: (running.folder / "begun-early").exists())
    out = subprocess.run(
        command(running, "top", "--json", "--interval", "0.2"),
        cwd=running.folder,
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
    ).stdout
    (task,) = json.loads(out)["running"]
    assert (task["task"], task["worker"]) == ("proj.hold", "w1@here")
    assert "early" in task["args"]
