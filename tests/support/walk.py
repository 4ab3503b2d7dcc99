"""Walk through a page of the docs as a reader does: run its commands, compare what it shows.

In a `console` block each line that begins with `$ ` is a command (a line that ends in a backslash goes
on); the lines below it are what it prints, where `...` stands for anything. A command that ends with ` &` stays and
is waited for until it has printed what the page shows; `kill %1` ends the first of them. A `text` block is what one of those has
printed by then. A `pycon` block is typed into a Python of its own.

With WALK_LOG set to a file's path, all that was really printed is written there: for whoever writes a page.

Owns: Walk, shown_as_they_are.
May import: the standard library, tests.support.project.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from tests.support.project import Process, eventually

DOCS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r"^```(console|pycon|text)\n(.*?)^```", re.DOTALL | re.MULTILINE)
BIN = Path(sys.executable).parent


def _plain(printed: str) -> str:
    # Colours are for terminals, and how wide lines and tables are depends on them too.
    return " ".join(re.sub(r"\x1b\[[0-9;]*m", "", printed).split())


def _pattern(shown: str) -> re.Pattern[str]:
    escaped = re.escape(" ".join(shown.split())).replace(r"\.\.\.", ".*?")
    return re.compile(escaped.replace(r"\ .*?\ ", r"\ (?:.*?\ )?"))


class Walk:
    """A walk through one page.

    :param folder: where its first command is run: the example's copy.
    :param env: what its commands find in their environment.
    :param instead: texts of the page and what stands for them here, such as ports.
    """

    def __init__(
        self, folder: Path, env: dict[str, str] | None = None, instead: dict[str, str] | None = None
    ) -> None:
        self.folder, self.instead = folder, instead or {}
        path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
        self.env = {
            **os.environ,
            "PATH": path,
            "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "COLUMNS": "200",
            **(env or {}),
        }
        self.started: list[tuple[str, Process]] = []
        self.ran: list[str] = []

    def page(self, name: str) -> None:
        """Do all that a page says, from top to bottom."""
        for language, block in BLOCK.findall((DOCS / f"{name}.md").read_text()):
            if language == "text":
                self.printed(block)
            elif language == "pycon":
                self.python(block)
            else:
                self.console(block)

    def console(self, block: str) -> None:
        """Run the commands of a block."""
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            typed = re.match(r"(?:.*\\\n)*.*\n?", part)
            assert typed is not None
            command, shown = typed[0].strip(), part[typed.end() :]
            self.ran.append(command)
            for text, other in self.instead.items():
                command = command.replace(text, other)
            if command.endswith(" &"):
                self.start(command[:-2], shown)
            elif command == "kill %1" or command.startswith("kill %"):
                self.end(int(command.split("%")[1]))
            else:
                printed = self.run(command)
                whole = _pattern(shown).fullmatch(_plain(printed))
                assert whole, f"$ {command}\n{printed}\n-- the page:\n{shown}"

    def python(self, block: str) -> None:
        """Type a session into Python."""
        session = self.folder.parent / "session.txt"
        session.write_text(block)
        self.run(f"{sys.executable} -m doctest -o ELLIPSIS -o NORMALIZE_WHITESPACE {session}")

    def run(self, command: str, timeout: float = 100) -> str:
        """Run a command to its end; return what it printed, in the page's words."""
        done = subprocess.run(
            command,
            shell=True,
            cwd=self.folder,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            check=False,
        )
        output = self._translated(done.stdout)
        self._note(f"$ {command}\n{output}")
        assert done.returncode == 0, f"$ {command}\n{output}\n{self.said()}"
        return output

    def start(self, command: str, shown: str = "") -> Process:
        """Start a command that stays; wait until it has printed what the page shows."""
        log = self.folder.parent / f"{self.folder.name}-{len(self.started)}.log"
        with log.open("wb") as out:
            popen = subprocess.Popen(
                f"exec {command}",
                shell=True,
                cwd=self.folder,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        process = Process(popen, log)
        self.started.append((command, process))

        def there() -> bool:
            assert popen.poll() is None, f"$ {command}\n{process.output()}"
            return bool(_pattern(shown).match(_plain(self._translated(process.output()))))

        if shown.strip():
            try:
                eventually(there, within=40, step=0.05)
            except AssertionError:
                raise AssertionError(f"$ {command}\n{process.output()}\n-- the page:\n{shown}")
        return process

    def printed(self, shown: str) -> None:
        """Wait until one of the commands that stay has printed this."""

        def there() -> bool:
            said = [self._translated(process.output()) for _, process in self.started]
            return any(_pattern(shown).search(_plain(one)) for one in said)

        try:
            eventually(there, within=40, step=0.05)
        except AssertionError:
            raise AssertionError(f"nobody printed:\n{shown}\n{self.said()}")

    def said(self) -> str:
        """Return all that the commands that stay have printed."""
        return "\n".join(f"$ {name} &\n{one.output()}" for name, one in self.started)

    def end(self, number: int) -> None:
        """Ask a command that stays to end, by its number from 1, and wait until it has."""
        command, process = self.started[number - 1]
        code = process.stop()
        # A program that does not catch SIGTERM ends by it, as it should.
        assert code in (0, -signal.SIGTERM, 128 + signal.SIGTERM), f"{command}: {code}\n{process.output()}"

    def close(self) -> None:
        """Kill what still runs."""
        self._note(self.said())
        for _, process in self.started:
            process.kill_group()

    def _note(self, printed: str) -> None:
        if path := os.environ.get("WALK_LOG"):
            with Path(path).open("a") as log:
                log.write(printed)

    def _translated(self, printed: str) -> str:
        for text, other in self.instead.items():
            printed = printed.replace(other, text)
        return printed


def shown_as_they_are(page: str, example: Path) -> None:
    """Compare each block of a page that begins with a file's name with that file, of which it may be a part.

    A line that is `...` alone stands for lines that the page leaves out.
    """
    text = (DOCS / f"{page}.md").read_text()
    named = re.findall(r"^```\w+\n# (\S+\.\w+|\w+)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert named, "the page shows no file"
    for name, block in named:
        whole = (example / name).read_text()
        for part in re.split(r"^ *(?:# )?\.\.\.\n", block, flags=re.MULTILINE):
            assert part.strip("\n") in whole, f"{name} has not:\n{part}"
