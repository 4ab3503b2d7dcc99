"""The tutorial, run from its first block to its last in one folder, with real workers.

A `python` block that begins with `# name.py` becomes that file; any other is run as a script, and
what it prints must be what its `# -> ` comments say.  In a `console` block each `$ ` line is run; the
lines below it must be in its output, where `...` stands for anything.  A worker runs until the next
one is started.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorial.md"
BLOCK = re.compile(r"^```(python|console)\n(.*?)^```", re.DOTALL | re.MULTILINE)
FILE = re.compile(r"# (\w+\.py)\n")
BIN = Path(sys.executable).parent


class Reader:
    """Follows the tutorial in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.worker: subprocess.Popen[bytes] | None = None
        self.log = folder / "worker.log"
        self.env = {
            **os.environ,
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(folder),
            "COLUMNS": "200",
        }

    def python(self, block: str) -> None:
        """Write a file, or run a script."""
        if named := FILE.match(block):
            (self.folder / named[1]).write_text(block)
            return
        done = self.run([sys.executable, "-c", block])
        wanted = re.findall(r"# -> (.*)$", block, re.MULTILINE)
        assert done.splitlines() == wanted, f"{block}\nprinted:\n{done}"

    def console(self, block: str) -> None:
        """Run each command."""
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, expected = part.partition("\n")
            if " worker" in command:
                self.start(command)
                output = self.log.read_text()
            else:
                output = self.run(command)
            for line in expected.splitlines():
                pattern = ".*".join(re.escape(part.strip()) for part in line.split("..."))
                assert re.search(pattern, output), f"$ {command}\n{output}\nhas no line {line!r}"

    def run(self, command: str | list[str]) -> str:
        """Run a command to its end and return what it prints."""
        done = subprocess.run(
            command,
            shell=isinstance(command, str),
            cwd=self.folder,
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        log = self.log.read_text()[-3000:] if self.log.exists() else ""
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}\n--- worker:\n{log}"
        return done.stdout

    def start(self, command: str) -> None:
        """Start a worker in the place of the former one, and wait until it is ready."""
        self.stop()
        with self.log.open("wb") as out:
            self.worker = subprocess.Popen(
                command.split(), cwd=self.folder, env=self.env, stdout=out, stderr=out
            )
        ends = time.monotonic() + 30
        while " ready." not in self.log.read_text():
            assert self.worker.poll() is None, self.log.read_text()
            assert time.monotonic() < ends, self.log.read_text()
            time.sleep(0.02)

    def stop(self) -> None:
        """End the worker as Ctrl-C does."""
        if self.worker is not None:
            self.worker.send_signal(signal.SIGINT)
            try:
                assert self.worker.wait(30) == 0, self.log.read_text()
            finally:
                self.worker.kill()
                self.worker.wait()
                self.worker = None


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    reader = Reader(tmp_path)
    yield reader
    reader.stop()


def test_the_tutorial(reader: Reader) -> None:
    blocks = BLOCK.findall(TUTORIAL.read_text())
    assert len(blocks) > 12
    for language, block in blocks:
        getattr(reader, language)(block)
