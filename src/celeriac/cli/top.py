"""`celeriac top`: the fleet on a terminal, as it moves.

Facts (what the queues hold) are asked of the broker; motion (workers, rates, what runs) comes from
events, so workers are asked to send them while it looks.

Owns: the command, Screen.  Thread rule: one thread draws; one listens.  May import: everything.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from celeriac.cli.fleet import Filter, Fleet
from celeriac.cli.output import ago, print_json, print_table
from celeriac.cli.session import Command, Session, pass_session
from celeriac.kernel.errors import CeleryError
from celeriac.kernel.routing import declared_queues

if TYPE_CHECKING:
    from celeriac.client.app import Celeriac

WORKERS = ("worker", "state", "runs", "done", "load", "version")
QUEUES = ("queue", "ready", "delayed", "held", "oldest")
RUNNING = ("id", "task", "worker", "for", "args")
ENDED = ("id", "task", "state", "took", "result")
ANSWER = 1.0
"""Seconds in which workers say what they run."""
HELP = "q quit · ↑↓ choose · r revoke · t terminate · / filter tasks · w filter workers"


@click.command(cls=Command)
@click.option(
    "-i",
    "--interval",
    type=click.FloatRange(0.1),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="Between two looks.",
)
@click.option("--task", default="", metavar="PATTERN", help="Show only tasks like this.")
@click.option("--worker", default="", metavar="PATTERN", help="Show only tasks of workers like it.")
@click.option("--once", is_flag=True, help="Look for one interval, print, and end.")
@click.option("--json", "as_json", is_flag=True, help="As --once, as JSON.")
@pass_session
def top(
    session: Session, /, *, interval: float, task: str, worker: str, once: bool, as_json: bool
) -> int:
    """Watch workers, queues, rates and running tasks; revoke from there.

    \b
    celeriac -A proj top
    celeriac -A proj top --task 'proj.mail.*' --worker w1
    """
    app = session.connected()
    fleet = Fleet(Filter(task, worker))
    with listening(app, fleet) as lock:
        # What began before it looked says nothing any more.
        look = threading.Thread(target=learn, args=(app, fleet, lock), name="celeriac-look")
        look.daemon = True
        look.start()
        if once or as_json or not (sys.stdout.isatty() and sys.stdin.isatty()):
            time.sleep(interval)
            look.join(3 * ANSWER)
            with lock:
                ask(app, fleet)
                if as_json:
                    print_json(as_data(fleet))
                else:
                    _print(fleet, color=session.color)
            return 0
        Screen(app, fleet, lock, interval, color=session.color).run()
    return 0


@contextlib.contextmanager
def listening(app: Celeriac, fleet: Fleet) -> Iterator[threading.Lock]:
    """Keep a fleet's picture up to date inside the block; its lock is held while that changes."""
    lock, over = threading.Lock(), threading.Event()
    receiver = app.events.Receiver()
    receiver.listen()

    def listen() -> None:
        known: set[str] = set()
        while not over.is_set():
            found = receiver.poll(0.2)
            with lock:
                for event in found:
                    fleet.take(event)
            came = {
                str(e["hostname"])
                for e in found
                if e["type"] == "worker-online" and "hostname" in e
            }
            if came - known and not over.is_set():
                known |= came
                # One that starts later sends no events of tasks by itself.
                app.control.broadcast("enable_events", destination=sorted(came))

    thread = threading.Thread(target=listen, name="celeriac-top", daemon=True)
    thread.start()
    app.control.broadcast("enable_events")
    receiver.wakeup_workers()
    try:
        yield lock
    finally:
        over.set()
        thread.join(2.0)
        receiver.close()


def learn(app: Celeriac, fleet: Fleet, lock: threading.Lock) -> None:
    """Ask the workers what they run already, as no event will tell of its begin."""
    try:
        found = app.control.inspect(timeout=ANSWER).active() or {}
    except CeleryError:
        return
    with lock:
        for hostname, tasks in found.items():
            for one in tasks:
                fleet.runs(hostname, one)


def ask(app: Celeriac, fleet: Fleet) -> None:
    """Ask the broker what the queues hold."""
    try:
        broker = app.broker
        conf = app.conf
        declared = list(declared_queues(conf.task_queues, conf.task_default_queue))
        fleet.queues = {**broker.count(declared), **broker.count(())}
        fleet.trouble = ""
    except CeleryError as error:
        fleet.trouble = str(error)


def summary(fleet: Fleet, now: float) -> str:
    """Return the first line."""
    rates = fleet.rates(now)
    alive = sum(1 for one in fleet.workers() if one.alive)
    waiting = sum(count.ready for count in fleet.queues.values())
    text = (
        f"{alive} of {len(fleet.workers())} workers · {len(fleet.running())} running · "
        f"{waiting} waiting · " + " · ".join(f"{rate:.1f}/s {name}" for name, rate in rates.items())
    )
    shown = [
        f"{n}={v}" for n, v in (("task", fleet.wanted.task), ("worker", fleet.wanted.worker)) if v
    ]
    lost = sum(one.dropped for one in fleet.workers())
    if lost:
        shown.append(f"{lost} events lost")
    if fleet.trouble:
        shown.append(f"broker: {fleet.trouble}")
    return text + "".join(f" · {one}" for one in shown)


def rows(fleet: Fleet, now: float, limit: int = 15) -> dict[str, tuple[Any, list[list[Any]]]]:
    """Return (columns, rows) of each table."""
    return {
        "Workers": (
            WORKERS,
            [
                [
                    w.hostname,
                    w.status_string,
                    w.active,
                    w.processed,
                    (w.loadavg or ["?"])[0],
                    w.sw_ver,
                ]
                for w in fleet.workers()[:limit]
            ],
        ),
        "Queues": (
            QUEUES,
            [
                [name, c.ready, c.delayed, c.held, ago(c.oldest) if c.oldest else ""]
                for name, c in sorted(fleet.queues.items())[:limit]
            ],
        ),
        "Running": (
            RUNNING,
            [
                [
                    t.uuid,
                    t.name or "?",
                    t.worker.hostname if t.worker else "",
                    ago(max(0.0, now - (t.started or now))),
                    _cut(f"{t.args or ''} {t.kwargs or ''}"),
                ]
                for t in fleet.running()[:limit]
            ],
        ),
        "Ended": (
            ENDED,
            [
                [
                    t.uuid,
                    t.name or "?",
                    t.state,
                    ago(t.runtime) if t.runtime is not None else "",
                    _cut(t.exception or t.result or ""),
                ]
                for t in fleet.ended(limit)
            ],
        ),
    }


def as_data(fleet: Fleet) -> dict[str, Any]:
    """Return what is seen, for programs."""
    now = time.time()
    found: dict[str, Any] = {"rates": fleet.rates(now), "trouble": fleet.trouble}
    for name, (columns, lines) in rows(fleet, now, limit=1000).items():
        found[name.lower()] = [dict(zip(columns, line, strict=True)) for line in lines]
    return found


def _cut(text: str, length: int = 60) -> str:
    text = " ".join(text.split())
    return text if len(text) <= length else text[: length - 1] + "…"


def _print(fleet: Fleet, *, color: bool) -> None:
    now = time.time()
    print(summary(fleet, now))
    for title, (columns, lines) in rows(fleet, now).items():
        if lines:
            print_table(columns, lines, color=color, title=f"\n{title}")


class Screen:
    """The live view: draws, and does what keys say.

    :param lock: held while the fleet's picture is read.
    """

    def __init__(
        self, app: Celeriac, fleet: Fleet, lock: threading.Lock, interval: float, *, color: bool
    ) -> None:
        self._app, self._fleet, self._lock = app, fleet, lock
        self._interval, self._color = interval, color
        self.chosen: str | None = None
        self.note = HELP
        self._typed: str | None = None
        self._typing = ""
        self._running: list[str] = []

    def run(self) -> None:
        """Draw until q is pressed."""
        from rich.console import Console
        from rich.live import Live

        console = Console(no_color=not self._color, highlight=False)
        with (
            _raw(sys.stdin.fileno()),
            Live(console=console, screen=True, auto_refresh=False) as live,
        ):
            asked_at = 0.0
            while True:
                if time.monotonic() - asked_at >= self._interval:
                    asked_at = time.monotonic()
                    ask(self._app, self._fleet)
                live.update(self.draw(console.height), refresh=True)
                if select.select([sys.stdin], [], [], min(0.5, self._interval))[0]:
                    for key in _keys(os.read(sys.stdin.fileno(), 64)):
                        if not self.press(key):
                            return

    def draw(self, height: int = 40) -> Any:
        """Return the picture as rich shows it."""
        from rich import box
        from rich.console import Group
        from rich.markup import escape
        from rich.table import Table
        from rich.text import Text

        now = time.time()
        with self._lock:
            self._running = [str(task.uuid) for task in self._fleet.running()]
            if self.chosen not in self._running:
                self.chosen = self._running[0] if self._running else None
            head = summary(self._fleet, now)
            tables = rows(self._fleet, now, limit=max(3, (height - 14) // 4))
        parts: list[Any] = [Text(head, style="bold")]
        for title, (columns, lines) in tables.items():
            table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", expand=True)
            for column in columns:
                table.add_column(column, no_wrap=True)
            for line in lines:
                style = "reverse" if title == "Running" and line[0] == self.chosen else ""
                table.add_row(*(escape(str(cell)) for cell in line), style=style)
            parts.append(table)
        said = self.note if self._typed is None else f"{self._typing}: {self._typed}▏"
        return Group(*parts, Text(said, style="dim"))

    def press(self, key: str) -> bool:
        """Do what a key says; False where it ends the view."""
        if self._typed is not None:
            self._type(key)
        elif key in ("q", "\x03"):
            return False
        elif key in ("down", "j", "up", "k"):
            self._choose(1 if key in ("down", "j") else -1)
        elif key in ("r", "t"):
            self._revoke(terminate=key == "t")
        elif key in ("/", "w"):
            self._typing, self._typed = ("task" if key == "/" else "worker"), ""
        else:
            self.note = HELP
        return True

    def _type(self, key: str) -> None:
        assert self._typed is not None
        if key in ("\r", "\n"):
            setattr(self._fleet.wanted, self._typing, self._typed)
            self._typed = None
        elif key == "escape":
            self._typed = None
        elif key in ("\x7f", "\b"):
            self._typed = self._typed[:-1]
        elif len(key) == 1 and key.isprintable():
            self._typed += key

    def _choose(self, step: int) -> None:
        if self._running:
            at = self._running.index(self.chosen) if self.chosen in self._running else 0
            self.chosen = self._running[(at + step) % len(self._running)]

    def _revoke(self, *, terminate: bool) -> None:
        if self.chosen is None:
            self.note = "no task is chosen"
            return
        try:
            self._app.control.revoke(self.chosen, terminate=terminate)
        except CeleryError as error:
            self.note = f"not revoked: {error}"
            return
        word = "terminated, where its pool can" if terminate else "revoked: a retry will not run"
        self.note = f"{self.chosen} is {word}"


_ARROWS = {b"\x1b[A": "up", b"\x1b[B": "down", b"\x1bOA": "up", b"\x1bOB": "down"}


def _keys(data: bytes) -> Iterator[str]:
    """Yield the keys that a terminal sent."""
    while data:
        for sequence, name in _ARROWS.items():
            if data.startswith(sequence):
                yield name
                data = data[len(sequence) :]
                break
        else:
            if data == b"\x1b":
                yield "escape"
                return
            if data.startswith(b"\x1b"):
                return  # another key, of which nothing is known
            text = data.decode(errors="ignore")
            yield from text[:1]
            data = text[1:].encode()


@contextlib.contextmanager
def _raw(fd: int) -> Iterator[None]:
    """Have keys come at once and unseen inside the block."""
    import termios
    import tty

    former = termios.tcgetattr(fd)
    try:
        tty.setcbreak(fd)
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, former)
