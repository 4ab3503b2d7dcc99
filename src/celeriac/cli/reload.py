"""`celeriac worker --reload`: a process that restarts the worker when its code changes.

Owns: supervise.  Thread rule: main thread.  May import: the standard library, watchfiles.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType

from celeriac.cli.parent import MARK

POLL = 0.5
"""Seconds between two looks at the files where watchfiles is not installed."""

_SKIP = {"__pycache__", "node_modules", "site-packages", "venv"}


def sources(root: Path) -> Iterator[Path]:
    """Yield the Python files below a folder; hidden and installed ones are left out."""
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if name not in _SKIP and not name.startswith(".")]
        yield from (Path(folder, name) for name in files if name.endswith(".py"))


def snapshot(root: Path) -> Mapping[Path, int]:
    """Return when each source file was last written."""
    found = {}
    for path in sources(root):
        try:
            found[path] = path.stat().st_mtime_ns
        except OSError:
            continue  # removed in this moment
    return found


class _Supervisor:
    """Runs the worker, and starts it again when a file below the folder changes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.process: subprocess.Popen[bytes] | None = None
        self.stopping = False

    def start(self) -> None:
        environment = {**os.environ, MARK: str(os.getpid())}
        # The very words of this process: the worker reads the same options, and MARK.
        # In a group of its own: a Ctrl-C reaches it once, through `forward`, and not twice.
        self.process = subprocess.Popen(
            [sys.executable, *sys.orig_argv[1:]], env=environment, process_group=0
        )

    def forward(self, number: int, frame: FrameType | None) -> None:
        self.stopping = True
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def restart(self, changed: Path) -> None:
        print(f"celeriac: {changed} changed, the worker starts again", flush=True)
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait()
        if not self.stopping:
            self.start()

    def run(self) -> int:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, self.forward)
        self.start()
        for changed in self._changes():
            ended = self.process is not None and self.process.poll() == 0
            if self.stopping or (ended and changed is None):
                break  # told to end, here or by remote control
            if changed is not None:
                self.restart(changed)
        assert self.process is not None
        return self.process.wait()

    def _changes(self) -> Iterator[Path | None]:
        """Yield a changed file, or None now and then."""
        try:
            import watchfiles
        except ImportError:
            yield from self._polled()
            return
        for changes in watchfiles.watch(
            self.root,
            watch_filter=watchfiles.PythonFilter(),
            rust_timeout=int(POLL * 1000),
            yield_on_timeout=True,
            raise_interrupt=False,
        ):
            yield Path(next(iter(changes))[1]) if changes else None

    def _polled(self) -> Iterator[Path | None]:
        before = snapshot(self.root)
        while True:
            # A worker that ended by itself, on a syntax error say, waits for the next change.
            time.sleep(POLL)
            now = snapshot(self.root)
            changed = [p for p in {*before, *now} if before.get(p) != now.get(p)]
            before = now
            yield min(changed) if changed else None


def supervise() -> int:
    """Run this command again as a child, and anew at each change of the code below the folder."""
    return _Supervisor(Path.cwd()).run()
