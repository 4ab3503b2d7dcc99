"""What the demo shows: a live bar on a terminal, plain lines elsewhere, a table at the end.

Owns: Screen, Row.  Thread rule: `advance` may be called from any thread.  May import: rich.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

PARTS = 5
"""Lines that stand for the bar where there is no terminal."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the closing table."""

    what: str
    outcome: str
    good: bool


class Screen:
    """Prints the demo's progress.

    :param color: whether colours are welcome.
    """

    def __init__(self, *, color: bool = True) -> None:
        self.live = sys.stdout.isatty()
        self.color = color
        self._lock = threading.Lock()
        self._done = 0
        self._total = 0
        self._bar: Any = None
        self._task: Any = None
        self._console: Any = None

    def say(self, text: str) -> None:
        """Print a line, above the bar where one is shown."""
        if self._bar is not None:
            self._bar.console.print(text, highlight=False, markup=False)
        else:
            print(text, flush=True)

    @contextmanager
    def progress(self, title: str, total: int) -> Iterator[None]:
        """Show how much of `total` is done while the block runs."""
        self._done, self._total = 0, total
        if not self.live:
            print(f"{title.strip()}: {total} files", flush=True)
            yield
            return
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
        )

        bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("files"),
            TimeElapsedColumn(),
            console=Console(no_color=not self.color),
        )
        with bar:
            self._bar, self._task = bar, bar.add_task(title, total=total)
            try:
                yield
            finally:
                self._bar = None

    def advance(self) -> None:
        """Count one more as done."""
        with self._lock:
            self._done += 1
            done, total = self._done, self._total
        if self._bar is not None:
            self._bar.advance(self._task)
        elif not self.live and done * PARTS // total > (done - 1) * PARTS // total:
            print(f"  {done} of {total} files", flush=True)

    def table(self, rows: Sequence[Row]) -> None:
        """Print what came of it all."""
        if not self.live:
            width = max(len(row.what) for row in rows)
            for row in rows:
                mark = "ok  " if row.good else "FAIL"
                print(f"{mark} {row.what:<{width}}  {row.outcome}")
            return
        from rich import box
        from rich.console import Console
        from rich.table import Table

        table = Table(box=box.SIMPLE_HEAVY, show_header=False)
        for row in rows:
            mark = "[green]ok[/]" if row.good else "[bold red]FAIL[/]"
            table.add_row(mark, row.what, row.outcome)
        Console(no_color=not self.color, highlight=False).print(table)
