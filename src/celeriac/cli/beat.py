"""`celeriac beat`: sends periodic tasks, or shows which ones are to come.

Owns: the command.  May import: everything.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import heapq
import logging
import os
import signal
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from celeriac.cli.logs import read_level, setup_logging
from celeriac.cli.output import json_option, print_json, print_table
from celeriac.cli.parent import tie_to_parent
from celeriac.cli.session import Command, Session, pass_session, say
from celeriac.kernel.redact import redact_url

if TYPE_CHECKING:
    from celeriac.client.app import Celeriac

EX_SOFTWARE = 70
"""Exit status of a beat that died."""


@click.command(cls=Command)
@click.option(
    "-l",
    "--loglevel",
    callback=read_level,
    metavar="LEVEL",
    help="DEBUG, INFO, WARNING, ERROR, CRITICAL.",
)
@click.option("-f", "--logfile", metavar="FILE", help="Log there.")
@click.option(
    "-s",
    "--schedule",
    "file",
    metavar="FILE",
    help="Keep the entries in this SQLite file, instead of at the broker.",
)
@click.option("-S", "--scheduler", metavar="CLASS", help="Another scheduler, as module:Class.")
@click.option(
    "--max-interval",
    type=click.FloatRange(0, min_open=True),
    metavar="SECONDS",
    help="Sleep no longer than this.",
)
@click.option("--pidfile", metavar="FILE", help="Refuse to start where its process is alive.")
@click.option("--next", "show", type=click.IntRange(1), metavar="N", help="Show the next N runs.")
@click.option("--detach", is_flag=True, hidden=True)
@json_option
@pass_session
def beat(
    session: Session,
    /,
    *,
    loglevel: int | None,
    logfile: str | None,
    file: str | None,
    scheduler: str | None,
    max_interval: float | None,
    pidfile: str | None,
    show: int | None,
    detach: bool,
    as_json: bool,
) -> int:
    """Send periodic tasks.

    Any number of beats may run; each tick is sent once.

    \b
    celeriac -A proj beat -l INFO
    celeriac -A proj beat --next 20
    """
    from celeriac.cli.find import users_code

    if detach:
        raise click.UsageError(
            "--detach is not offered: run beat under systemd, supervisor or a container, which"
            " restart it too"
        )
    app = session.app()
    app.set_current()
    with users_code("importing the app's tasks"):
        app.import_modules()
    setup_logging(app, level=loglevel, logfile=logfile, color=session.color)
    if show:
        _show(app, file, show, as_json)
        return os.EX_OK
    tie_to_parent()
    with _pidfile(pidfile) if pidfile else contextlib.nullcontext():
        return _run(session, app, file=file, scheduler=scheduler, max_interval=max_interval)


def _run(session: Session, app: Celeriac, scheduler: str | None, **options: Any) -> int:
    ended = threading.Event()
    made = app.Beat(on_death=lambda _: ended.set(), **options)
    former = {
        number: signal.signal(number, lambda *_: ended.set())
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT)
    }
    try:
        if not session.quiet:
            say(f"celeriac beat: entries at {redact_url(app.broker_url)}")
        made.start()
        made.ready.wait()
        if made.error is None:
            logging.getLogger("celeriac.beat").info("beat: Starting...")
        ended.wait()
        made.stop()
        made.join(10.0)
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
    return EX_SOFTWARE if made.error is not None else os.EX_OK


def _pidfile(path: str) -> contextlib.AbstractContextManager[Any]:
    from celeriac.cli.pidfile import Pidfile

    return Pidfile(path)


# -- what is to come --------------------------------------------------------------------------------


def _show(app: Celeriac, file: str | None, count: int, as_json: bool) -> None:
    rows: list[tuple[str, str, str]] = []
    for at, entry, task in _coming(app, file):
        if len(rows) == count:
            break
        when = dt.datetime.fromtimestamp(at, app.timezone)
        rows.append((when.isoformat(sep=" ", timespec="seconds"), entry, task))
    if as_json:
        print_json([{"at": at, "entry": entry, "task": task} for at, entry, task in rows])
    else:
        print_table(("at", "entry", "task"), rows)


def _coming(app: Celeriac, file: str | None) -> Iterator[tuple[float, str, str]]:
    """Yield the ticks to come, by time: of the program's entries, and of the stored ones."""
    from celeriac.beat.service import ticker_of

    heap = [(at, item.name, item) for item, at in ticker_of(app, file).upcoming()]
    heapq.heapify(heap)
    while heap:
        at, name, item = heap[0]
        yield at, name, item.task
        following = None if item.schedule.asked else item.schedule.next_after(at)
        if following is None:
            heapq.heappop(heap)
        else:
            heapq.heapreplace(heap, (following, name, item))
