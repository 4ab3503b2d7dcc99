"""`celeriac events`: the fleet's events as lines, or as snapshots for a camera.

Owns: the command.  May import: everything.
"""

from __future__ import annotations

import datetime as dt
import json
import sys
from typing import TYPE_CHECKING, Any

import click

from celeriac.cli.session import Command, Session, pass_session

if TYPE_CHECKING:
    from celeriac.client.app import Celeriac

COMMON = {"type", "hostname", "timestamp", "local_received", "pid", "clock", "utcoffset", "uuid"}
"""What each line says anyhow, or nobody reads."""


@click.command(cls=Command)
@click.option("-d", "--dump", is_flag=True, help="Print each event on a line (the default).")
@click.option("--json", "as_json", is_flag=True, help="Print each event as a line of JSON.")
@click.option("-c", "--camera", metavar="CLASS", help="Take snapshots: proj.module.Camera.")
@click.option(
    "-F",
    "--frequency",
    type=click.FloatRange(0, min_open=True),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="Between two snapshots.",
)
@click.option("-r", "--maxrate", metavar="RATE", help="The most snapshots, such as 10/m.")
@click.option("-n", "--limit", type=click.IntRange(1), metavar="N", help="End after N events.")
@click.option("-t", "--type", "pattern", metavar="TYPE", help="Only these, such as 'task.#'.")
@pass_session
def events(
    session: Session,
    /,
    *,
    dump: bool,
    as_json: bool,
    camera: str | None,
    frequency: float,
    maxrate: str | None,
    limit: int | None,
    pattern: str | None,
) -> int:
    """Show what happens: task events come from workers that run with -E.

    \b
    celeriac -A proj events --dump
    celeriac -A proj events --json --type task-failed
    celeriac -A proj events --camera proj.monitor.Camera -F 2
    """
    app = session.connected()
    if camera is not None:
        from celeriac.events.snapshot import evcam

        evcam(camera, freq=frequency, maxrate=maxrate, app=app)
        return 0
    names: dict[str, str] = {}

    def show(event: dict[str, Any]) -> None:
        print(json.dumps(event) if as_json else line(event, names), flush=True)

    receiver = app.events.Receiver(handlers={"*": show}, routing_key=pattern or "#")
    print(f"listening for events on {_where(app)}", file=sys.stderr, flush=True)
    receiver.capture(limit=limit)
    return 0


def _where(app: Celeriac) -> str:
    from celeriac.kernel.redact import redact_url

    return redact_url(app.broker_url)


def line(event: dict[str, Any], names: dict[str, str]) -> str:
    """Return an event as a line for people.

    :param names: tasks' names by id, which only some of their events say; kept here.
    """
    kind, uuid = str(event["type"]), event.get("uuid")
    at = dt.datetime.fromtimestamp(event.get("timestamp") or 0, dt.UTC).astimezone()
    subject = kind.replace("-", " ", 1)
    if uuid is not None:
        if event.get("name"):
            names[uuid] = event["name"]
            if len(names) > 10_000:
                names.pop(next(iter(names)))
        subject += f": {names.get(uuid, '?')}[{uuid}]"
        if kind in ("task-succeeded", "task-failed", "task-revoked", "task-rejected"):
            names.pop(uuid, None)
    said = " ".join(
        f"{name}={_short(value)}"
        for name, value in event.items()
        if name not in COMMON and name != "name" and value is not None
    )
    return f"{event.get('hostname')} [{at:%Y-%m-%d %H:%M:%S.%f}] {subject} {said}".rstrip()


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    text = text.replace("\n", "\\n")
    return text if len(text) <= 200 else text[:199] + "…"
