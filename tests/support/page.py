"""A page of the documentation, done as its reader would: block by block, in terminals.

In a `console` block each line that begins with `$ ` is run; the lines below it must be in what it
prints, in their order, where `...` stands for anything.  A block whose first line is `# terminal NAME`
happens in that terminal: its last command goes on running, and the lines below are waited for.
`^C` presses Ctrl-C there and waits for the end.  A block of such a terminal with no command shows
what has come there since.  A line ending in a backslash goes on in the next one.  A `pycon` block is typed
into a Python of its own.  With PAGE_LOG set to a file, all that was really printed is written there, for
whoever writes a page.

Owns: Reader, follow, shown_as_they_are.  May import: what tests use.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import termios
import threading
import time
from pathlib import Path

import pytest

from tests.support.project import eventually
from tests.support.web import Example

DOCS = Path(__file__).parents[2] / "docs"

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
TERMINAL = re.compile(r"# terminal (.+)\n")
ESCAPES = re.compile(r"\x1b(\[[0-9;?<>=]*[a-zA-Z]|[()][A-Z0-9]|[=>])|\r")
LOOKS = ("redis-cli ", "curl ")
"""Commands that only look, and may be run again."""


def missing(output: str, expected: str, start: int = 0) -> tuple[str, int]:
    """Return the first of the expected lines that is not in the output, and how far those before it went."""
    for line in filter(None, (line.rstrip() for line in expected.splitlines())):
        pattern = ".*".join(re.escape(part.strip()) for part in line.split("..."))
        if not (found := re.compile(pattern).search(output, start)):
            return line, start
        start = found.end()
    return "", start


class Terminal:
    """A terminal in which a command runs: it is a tty, and is read all the time.

    :param command: for the shell.
    """

    def __init__(self, command: str, folder: Path, env: dict[str, str]) -> None:
        self.command, self.seen = command, 0
        self._text = ""
        self._fd, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 200, 0, 0))
        self.popen = subprocess.Popen(
            command,
            shell=True,
            cwd=folder,
            env=env,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._fd, 65_536)
            except OSError:  # nobody holds the other end any more
                return
            self._text += data.decode(errors="replace")

    @property
    def output(self) -> str:
        """What was written on it, without colours."""
        return ESCAPES.sub("", self._text)

    def wait(self, expected: str, within: float = 30) -> None:
        """Wait until the lines have come, after those that were waited for before."""

        def there() -> bool:
            line, start = missing(self.output, expected, self.seen)
            self.seen = self.seen if line else start
            return not line

        try:
            eventually(there, within=within)
        except AssertionError:
            line, _ = missing(self.output, expected, self.seen)
            raise AssertionError(f"$ {self.command}\n{self.output}\nhas no line {line!r}") from None

    def press(self, keys: str) -> None:
        """Type."""
        os.write(self._fd, keys.encode())

    def interrupt(self) -> None:
        """Press Ctrl-C: everything in there gets the signal; wait for the end."""
        os.killpg(self.popen.pid, signal.SIGINT)
        self.popen.wait(30)
        self._reader.join(10)

    def close(self) -> None:
        """End it."""
        try:
            os.killpg(self.popen.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.popen.wait(10)
        self._reader.join(10)
        os.close(self._fd)


class Reader:
    """Does what a page says.

    :param page: the Markdown file.
    :param folder: where the first terminal is.
    :param env: the environment of its commands.
    :param changes: what stands in the page, as whole words, and what is run and expected instead: ports.
    """

    def __init__(
        self, page: Path, folder: Path, env: dict[str, str], changes: dict[str, str]
    ) -> None:
        text = page.read_text()
        for old, new in changes.items():
            text = re.sub(rf"(?<![\w-]){re.escape(old)}(?![\w-])", new, text)
        self.blocks = BLOCK.findall(text)
        self.folder, self.env = folder, env
        self.terminals: dict[str, Terminal] = {}
        self.ran: list[str] = []

    def read(self) -> None:
        """Do the whole page."""
        for language, block in self.blocks:
            if language == "console":
                self.console(block.replace("\\\n", ""))
            elif language == "pycon":
                self.python(block)

    def console(self, block: str) -> None:
        """Do one block."""
        name = ""
        if named := TERMINAL.match(block):
            name, block = named[1], block[named.end() :]
        before, *parts = re.split(r"^\$ ", block, flags=re.MULTILINE)
        if name and not parts:
            if before.startswith("^C"):
                self.terminals[name].interrupt()
                before = before.partition("\n")[2]
            self.terminals[name].wait(before)
        for number, part in enumerate(parts, 1):
            command, _, expected = part.partition("\n")
            self.ran.append(command)
            if name and number == len(parts):
                if old := self.terminals.get(name):
                    old.close()
                self.terminals[name] = Terminal(command, self.folder, self.env)
                self.terminals[name].wait(expected)
            elif command.startswith("export "):
                variable, _, value = command.removeprefix("export ").partition("=")
                self.env = {**self.env, variable: value}
            elif command.startswith("cd "):
                self.folder = (self.folder / command[3:]).resolve()
            else:
                output = self.run(command)
                line, _ = missing(output, expected)
                ends = time.monotonic() + 10
                # A reader looks a moment later than a program does.
                while line and command.startswith(LOOKS) and time.monotonic() < ends:
                    output = self.run(command)
                    line, _ = missing(output, expected)
                assert not line, f"$ {command}\n{output}\nhas no line {line!r}\n{self.screens()}"

    def python(self, block: str) -> None:
        """Type a session into Python."""
        session = self.folder.parent / "session.txt"
        session.write_text(block)
        self.run(f"python -m doctest -o ELLIPSIS -o NORMALIZE_WHITESPACE {session}")

    def run(self, command: str) -> str:
        """Run a command to its end; return what it printed."""
        done = subprocess.run(
            command,
            shell=True,
            cwd=self.folder,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        self._note(f"$ {command}\n{done.stdout}")
        assert done.returncode == 0, f"$ {command}\n{done.stdout}\n{self.screens()}"
        return done.stdout

    def screens(self) -> str:
        """Return what stands in the terminals, for an error."""
        return "\n".join(f"--- {n}:\n{t.output[-3000:]}" for n, t in self.terminals.items())

    def close(self) -> None:
        """End what still runs."""
        self._note("".join(f"--- {n}:\n{t.output}" for n, t in self.terminals.items()))
        for terminal in self.terminals.values():
            terminal.close()

    def _note(self, printed: str) -> None:
        if path := os.environ.get("PAGE_LOG"):
            with Path(path).open("a") as log:
                log.write(printed)


def follow(page: str, example: Example, changes: dict[str, str]) -> Reader:
    """Do what `docs/PAGE.md` says in a copy of its example; return who did it.

    What the page shows of the example's files must stand in them.
    """
    need_tools(DOCS / f"{page}.md")
    shown_as_they_are(DOCS / f"{page}.md", example.folder)
    reader = Reader(DOCS / f"{page}.md", example.folder, example.env, changes)
    try:
        reader.read()
        return reader
    finally:
        reader.close()


def need_tools(page: Path) -> None:
    """Skip a test where a program that the page uses is not installed; fail it where CI is set."""
    for tool in ("curl", "redis-cli", "redis-server"):
        if f"$ {tool} " in page.read_text() and shutil.which(tool) is None:
            if os.environ.get("CI"):
                pytest.fail(f"{tool} is not installed: tools/servers.sh")
            pytest.skip(f"{tool} is not installed")


def shown_as_they_are(page: Path, example: Path) -> None:
    """Compare each block that begins with `# NAME`, a file of the example, with that file.

    A line `...` or `# ...` stands for lines that the page leaves out.
    """
    named = re.findall(r"^```\w+\n# (\S+)\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    named = [(name, block) for name, block in named if (example / name).is_file()]
    assert named, "the page shows no file"
    for name, block in named:
        whole = (example / name).read_text()
        for part in re.split(r"^ *(?:# )?\.\.\.\n", block, flags=re.MULTILINE):
            assert part.strip("\n") in whole, f"{name} has not:\n{part}"
