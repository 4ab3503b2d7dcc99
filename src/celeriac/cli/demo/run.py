"""The demo from start to end: what is sent, what is checked, what is said of it.

Owns: the command.  May import: celeriac's public names, cli.
"""

from __future__ import annotations

import datetime as dt
import os
import signal
import sysconfig
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import click

from celeriac import AsyncResult, chord
from celeriac.cli.demo.house import CHILDREN, House
from celeriac.cli.demo.screen import Row, Screen
from celeriac.cli.session import Command, Session, pass_session, say
from celeriac.exceptions import ChordError, TimeoutError

DEADLINE = 90.0
"""Seconds after which the demo gives up; it takes about fifteen."""

DELAY = 1.5
"""Seconds that the delayed task is delayed."""

ON_TIME = 1.0
"""Seconds late that still count as on time, with every processor busy."""

KILL_AT = 0.3
"""How much of the work is done when a child is killed."""

FIRST = 9
"""The priority of the tasks that are sent on the side."""


class DemoFailed(click.ClickException):
    """The demo could not go on."""


def library() -> list[Path]:
    """Return every .py file of the running Python's standard library."""
    root = Path(sysconfig.get_paths()["stdlib"])
    others = {"site-packages", "dist-packages", "__pycache__"}
    found = (path for path in root.rglob("*.py") if not others & set(path.parts))
    return sorted(path for path in found if path.is_file() and os.access(path, os.R_OK))


class Work:
    """A chord: one task per file, and one that adds up what they return."""

    def __init__(self, paths: list[str], screen: Screen) -> None:
        self.paths = paths
        self.screen = screen
        self.ended = 0
        self.failed = 0
        self._changed = threading.Condition()

    def send(self, read: Any, add_up: Any) -> float:
        """Send a task per file and what follows them; return how long that took."""
        began = time.perf_counter()
        self.result = chord([read.s(path) for path in self.paths])(add_up.s())
        sent = time.perf_counter() - began
        for result in self.result.parent.results:
            result.then(lambda _: self._one(good=True), on_error=lambda _: self._one(good=False))
        return sent

    def _one(self, *, good: bool) -> None:
        """Count one end, in the thread that watches for them."""
        with self._changed:
            self.ended += 1
            self.failed += not good
            self.screen.advance()
            self._changed.notify_all()

    def total(self, until: float) -> dict[str, Any]:
        """Return what the body of the chord made of it all.

        :raises DemoFailed: it has not by `until`, or a task failed.
        """
        try:
            total: dict[str, Any] = self.result.get(timeout=max(0.1, until - time.monotonic()))
        except (ChordError, TimeoutError) as error:
            raise DemoFailed(f"the files could not be added up: {error!r}") from error
        return total

    def wait(self, count: int, until: float, house: House) -> None:
        """Wait until `count` tasks have ended.

        :raises DemoFailed: they had not by `until`, or the worker is gone.
        """
        with self._changed:
            while self.ended < count:
                if not self._changed.wait(0.5):
                    _check_worker(house)
                if time.monotonic() > until:
                    raise DemoFailed(
                        f"{len(self.paths) - self.ended} of {len(self.paths)} tasks are missing"
                        f" after {DEADLINE:.0f} s.  The worker's log ends:\n{house.log()}"
                    )


def _check_worker(house: House) -> None:
    if not house.alive():
        raise DemoFailed(f"the worker ended.  Its log:\n{house.log()}")


@click.command(cls=Command)
@pass_session
def demo(session: Session) -> int:
    """See a worker do real work: nothing else to install, nothing left behind.

    Starts a worker of two processes on a fresh SQLite file, reads every file of Python's standard
    library in it, kills one of the processes on the way, and checks that nothing was lost.
    """
    screen = Screen(color=session.color)
    house = House()
    try:
        rows = _show(screen, house)
    finally:
        house_ok = house.close()
    rows.append(
        Row(
            "shutdown",
            "the worker ended when it was told to" if house_ok else "the worker had to be killed",
            house_ok,
        )
    )
    say("")
    screen.table(rows)
    good = all(row.good for row in rows)
    say("Nothing was lost." if good else "Something is wrong: see the lines marked FAIL.")
    if good:
        say("The tasks are an ordinary program: celeriac/cli/demo/tasks.py")
    return 0 if good else 1


def _show(screen: Screen, house: House) -> list[Row]:
    from celeriac.cli.demo import tasks

    app = tasks.app
    app.conf.update(broker_url=house.url, result_backend=house.url)
    until = time.monotonic() + DEADLINE
    try:
        ready = _start(screen, house, tasks)
        files = library()
        work = Work([str(path) for path in files], screen)
        side = _Side(tasks)
        rows = [_row_start(ready)]
        began = time.perf_counter()
        with screen.progress("reading the standard library", len(files)):
            sent = work.send(tasks.read, tasks.add_up)
            screen.say(f"{len(files)} tasks sent in {sent:.2f} s")
            side.send()
            work.wait(int(len(files) * KILL_AT), until, house)
            side.kill(screen, house, until)
            work.wait(len(files), until, house)
            total = work.total(until)
        seconds = time.perf_counter() - began
        rows += side.rows(until)
        with screen.progress("the same in a plain loop  ", len(files)):
            plain, alone = _plain_loop(work.paths, tasks, screen)
        check = _row_check(work, total, plain, alone)
        return [rows[0], *_row_work(work, total, seconds), *rows[1:], check]
    finally:
        app.close()


def _start(screen: Screen, house: House, tasks: Any) -> float:
    began = time.perf_counter()
    screen.say(f"starting a worker of {CHILDREN} processes on {house.url}")
    hello: AsyncResult[int] = tasks.hello.delay()
    house.start()
    hello.get(timeout=30, interval=0.5, on_interval=lambda: _check_worker(house))
    return time.perf_counter() - began


def _plain_loop(paths: list[str], tasks: Any, screen: Screen) -> tuple[dict[str, Any], float]:
    measured = []
    began = time.perf_counter()
    for path in paths:
        measured.append(tasks.measure(path))
        screen.advance()
    total: dict[str, Any] = tasks.add_up(measured)
    return total, time.perf_counter() - began


class _Side:
    """The tasks that are sent beside the work: a retry, a delay, a limit, a killed process."""

    def __init__(self, tasks: Any) -> None:
        self.tasks = tasks
        self.killed = 0

    def send(self) -> None:
        tasks = self.tasks
        self.flaky = tasks.flaky.apply_async(priority=FIRST)
        self.due = time.time() + DELAY
        eta = dt.datetime.fromtimestamp(self.due, dt.UTC)
        self.punctual = tasks.punctual.apply_async(eta=eta, priority=FIRST)
        self.endless = tasks.endless.apply_async(priority=FIRST)

    def kill(self, screen: Screen, house: House, until: float) -> None:
        """Kill the process that runs `doomed`, in the middle of it."""
        self.doomed = self.tasks.doomed.apply_async(priority=FIRST)
        while not self.killed and time.monotonic() < until:
            _check_worker(house)
            if self.doomed.state == "WORKING":
                self.killed = int(self.doomed.info["pid"])
                os.kill(self.killed, signal.SIGKILL)
                screen.say(f"kill -9 {self.killed}: a process of the worker, in mid-task")
            else:
                time.sleep(0.02)

    def rows(self, until: float) -> list[Row]:
        return [
            self._retried(until),
            self._delayed(until),
            self._limited(until),
            self._survived(until),
        ]

    def _get(self, result: Any, until: float) -> Any:
        return result.get(timeout=max(0.1, until - time.monotonic()), propagate=False)

    def _retried(self, until: float) -> Row:
        retries = self._get(self.flaky, until)
        first = self.tasks.BACKOFF
        return Row(
            "retry with backoff",
            f"failed twice, waited {first:g} s and {2 * first:g} s, then succeeded"
            if retries == self.tasks.RETRIES
            else f"unexpected: {retries!r}",
            retries == self.tasks.RETRIES,
        )

    def _delayed(self, until: float) -> Row:
        began = self._get(self.punctual, until)
        if not isinstance(began, float):
            return Row("delayed task", f"unexpected: {began!r}", False)
        late = began - self.due
        return Row(
            "delayed task",
            f"asked for in {DELAY:g} s, began {late * 1000:.0f} ms after that moment",
            0 <= late < ON_TIME,
        )

    def _limited(self, until: float) -> Row:
        after = self._get(self.endless, until)
        limit = self.tasks.SOFT_LIMIT
        if not isinstance(after, float):
            return Row("soft time limit", f"unexpected: {after!r}", False)
        return Row(
            "soft time limit",
            f"set to {limit:g} s, caught inside the task after {after:.2f} s",
            after >= limit * 0.9,
        )

    def _survived(self, until: float) -> Row:
        again = self._get(self.doomed, until)
        good = isinstance(again, dict) and again["pid"] not in (0, self.killed)
        return Row(
            "kill -9 of a process",
            f"process {self.killed} died in mid-task; the task ran again in {again['pid']}"
            if good
            else f"unexpected: {again!r} (killed: {self.killed or 'none'})",
            good and self.killed != 0,
        )


def _row_start(ready: float) -> Row:
    return Row("start", f"the first task had run {ready:.2f} s after the command", True)


def _row_work(work: Work, total: dict[str, Any], seconds: float) -> list[Row]:
    files = total["files"]
    top = ", ".join(name for name, _ in Counter(total["modules"]).most_common(3))
    return [
        Row(
            "work",
            f"{files} files in {seconds:.1f} s: {files / seconds:.0f} files/s"
            f" on {CHILDREN} processes",
            not work.failed,
        ),
        Row(
            "sum, by a chord",
            f"{total['lines']:,} lines, {total['words']:,} words, {len(total['modules'])} modules"
            f" imported ({top} most)",
            files > 0,
        ),
    ]


def _row_check(work: Work, total: dict[str, Any], plain: dict[str, Any], seconds: float) -> Row:
    same = total == plain
    missing = len(plain["hashes"].keys() - total["hashes"].keys())
    outcome = (
        f"a plain loop over the same files found the same ({seconds:.1f} s)"
        if same
        else f"a plain loop found something else; {missing} files are missing"
    )
    return Row("nothing lost", outcome, same and len(total["hashes"]) == len(work.paths))
