"""`celeriac demo` as a user runs it: it must end well and leave nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

DEMO = [sys.executable, "-m", "celeriac", "demo"]


def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "TMPDIR": str(folder)}


def members(group: int) -> list[int]:
    """Return the processes of a session, zombies left out."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            state, _, _, session = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(session) == group and state != "Z":
            found.append(int(entry.name))
    return found


def workers_in(folder: Path) -> list[int]:
    """Return the processes whose command line names the folder."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and str(folder).encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def wait_until_gone(folder: Path, seconds: float = 15.0) -> list[int]:
    until = time.monotonic() + seconds
    while (left := workers_in(folder)) and time.monotonic() < until:
        time.sleep(0.1)
    return left


@pytest.mark.timeout(180)
def test_demo_ends_well_and_leaves_nothing(tmp_path: Path) -> None:
    found = subprocess.run(
        DEMO, capture_output=True, text=True, timeout=150, env=environment(tmp_path), check=False
    )
    assert found.returncode == 0, found.stdout + found.stderr
    assert "Nothing was lost." in found.stdout
    assert "FAIL" not in found.stdout
    for line in ("retry with backoff", "delayed task", "soft time limit", "kill -9"):
        assert line in found.stdout
    assert found.stderr == ""
    assert list(tmp_path.iterdir()) == []
    assert wait_until_gone(tmp_path, 1.0) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_demo_that_is_stopped_leaves_no_worker(tmp_path: Path, number: int) -> None:
    process = subprocess.Popen(
        DEMO,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment(tmp_path),
        start_new_session=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "tasks sent" in line:
            break
    else:
        pytest.fail("it ended before it began")
    process.send_signal(number)
    process.communicate(timeout=60)
    assert wait_until_gone(tmp_path) == []
    if number == signal.SIGINT:
        assert process.returncode != 0
        assert list(tmp_path.iterdir()) == []
