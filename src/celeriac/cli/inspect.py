"""`celeriac status`, `report` and `version`: what runs, and on what.

Owns: the three commands.  May import: everything.
"""

from __future__ import annotations

import importlib.metadata
import platform
import sys
from typing import TYPE_CHECKING, Any

import click

from celeriac.cli.output import json_option, print_json
from celeriac.cli.session import Command, Session, pass_session, say

if TYPE_CHECKING:
    from celeriac.client.app import Celeriac

NO_WORKER = 69
"""The exit code of `status` where no worker answers (EX_UNAVAILABLE), as in Celery."""

LIBRARIES = (
    "apsw click msgspec rich redis hiredis pika psycopg django pydantic pyyaml brotli "
    "backports.zstd watchfiles starlette uvicorn opentelemetry-api"
).split()


@click.command(cls=Command)
@click.option(
    "-t",
    "--timeout",
    type=float,
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for answers.",
)
@click.option("-d", "--destination", multiple=True, metavar="NODE", help="Ask only these.")
@json_option
@pass_session
def status(session: Session, timeout: float, destination: tuple[str, ...], as_json: bool) -> int:
    """Show the workers that answer; exits with 69 where none does."""
    app = session.connected()
    asked = [node for part in destination for node in part.split(",") if node] or None
    answers: dict[str, Any] = {}
    for answer in app.control.ping(timeout=timeout, destination=asked):
        answers.update(answer)
    if as_json:
        print_json(answers)
    else:
        for node in sorted(answers):
            say(f"->  {node}: OK")
        count = len(answers)
        if count:
            say(f"\n{count} {'node' if count == 1 else 'nodes'} online.")
        else:
            say(f"no worker answered within {timeout:g} s", err=True)
    missing = set(asked or ()) - set(answers)
    return NO_WORKER if not answers or missing else 0


@click.command(cls=Command)
def version() -> None:
    """Show the version."""
    from celeriac import __version__

    say(__version__)


def versions() -> dict[str, str]:
    """Return the versions of celeriac, Python, the system and every library in use."""
    from celeriac import __version__

    found = {
        "celeriac": __version__,
        "python": f"{platform.python_version()} ({platform.python_implementation()})",
        "platform": platform.platform(),
        "executable": sys.executable,
    }
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    try:
        import apsw

        found["sqlite"] = apsw.sqlite_lib_version()
    except ImportError:
        pass
    return found


@click.command(cls=Command)
@json_option
@pass_session
def report(session: Session, as_json: bool) -> None:
    """Show versions, platform and settings for a bug report; secrets are left out."""
    app = session.app(tasks=False)
    facts = {"versions": versions(), "app": _app(app), "settings": _settings(app)}
    if as_json:
        print_json(facts)
        return
    for title, values in facts.items():
        say(f"[{title}]")
        width = max(map(len, values), default=0)
        for name, value in values.items():
            say(f"{name:<{width}}  {value}")
        if not values:
            say("(none)")
        say("")


def _app(app: Celeriac) -> dict[str, Any]:
    from celeriac.cli.banner import shown_url

    return {
        "main": app.main,
        "broker": shown_url(app.broker_url),
        "results": shown_url(app.backend_url),
        "tasks": len(app.tasks.regular()),
    }


def _settings(app: Celeriac) -> dict[str, Any]:
    """Return what is set by anybody, fit to be shown."""
    from celeriac.cli.settings import rows

    return {row.name: row.shown for row in rows(app) if row.origin != "default"}
