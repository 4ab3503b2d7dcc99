"""`celeriac settings`: what is in force, who said so, and what it means.

Owns: the command, Row, rows.  May import: everything.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from celeriac.cli.output import json_option, print_json, print_table
from celeriac.cli.session import Command, Session, pass_session, say
from celeriac.kernel.redact import bounded_repr, is_secret, redact_url
from celeriac.kernel.setting import Setting
from celeriac.kernel.settings import BY_NAME

if TYPE_CHECKING:
    from celeriac.client.app import Celeriac

DEFAULT = "default"
"""The origin of what nobody set."""


@dataclass(frozen=True, slots=True)
class Row:
    """One setting as it is in force; what must not be seen is not in it."""

    name: str
    value: Any
    """What JSON can carry."""
    shown: str
    origin: str
    default: str
    help: str
    ignored: str


def _hidden(name: str, value: Any) -> Any:
    """Return a value without its secrets, also those deep inside."""
    if value is None:
        return None
    if is_secret(name):
        return "**"
    if isinstance(value, str):
        return redact_url(value)
    if isinstance(value, dict):
        return {key: _hidden(str(key), inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_hidden("", inner) for inner in value]
    return value


def _plain(value: Any) -> Any:
    """Return a value that JSON can carry."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return redact_url(bounded_repr(value, 200))


def _text(value: Any) -> str:
    if isinstance(value, (str, timedelta)):
        return str(value)
    return redact_url(bounded_repr(value, 200))


def _row(app: Celeriac, setting: Setting) -> Row:
    name = setting.name
    value = _hidden(name, app.conf[name])
    return Row(
        name,
        _plain(value),
        _text(value),
        app.conf.origin(name),
        _text(setting.default),
        setting.help,
        setting.ignored,
    )


def rows(app: Celeriac) -> Iterator[Row]:
    """Yield every setting of the table, secrets hidden."""
    for name in sorted(BY_NAME):
        yield _row(app, BY_NAME[name])


@click.command(cls=Command)
@click.argument("name", required=False)
@click.option("--all", "every", is_flag=True, help="Those too that nobody set.")
@json_option
@pass_session
def settings(session: Session, name: str | None, every: bool, as_json: bool) -> None:
    """Show the settings that are set, or the setting NAME with its help.

    NAME may be Celery's old one, as CELERYD_CONCURRENCY.
    """
    app = session.app(tasks=False)
    if name is not None:
        chosen = [_named(app, name)]
    else:
        chosen = [row for row in rows(app) if every or row.origin != DEFAULT]
    if as_json:
        print_json([_facts(row) for row in chosen])
    elif name is not None:
        _print_one(chosen[0])
    elif chosen:
        _print_table(chosen, session.color)
    else:
        say("nothing is set; `celeriac settings --all` shows the defaults")


def _named(app: Celeriac, name: str) -> Row:
    """Return one setting, found by any of its names.

    :raises ClickException: there is none; the message names the nearest.
    """
    from celeriac.cli.find import nearest
    from celeriac.kernel.settings import OLD_NAMES

    own = name if name in BY_NAME else OLD_NAMES.get(name.upper(), name.lower())
    if own not in BY_NAME:
        raise click.ClickException(f"there is no setting {name!r}{nearest(own, BY_NAME)}")
    return _row(app, BY_NAME[own])


def _facts(row: Row) -> dict[str, Any]:
    return {
        "name": row.name,
        "value": row.value,
        "origin": row.origin,
        "default": row.default,
        "help": row.help,
        "ignored": row.ignored,
    }


def _print_table(chosen: list[Row], color: bool) -> None:
    useful = [row for row in chosen if not row.ignored or row.origin != DEFAULT]
    shown = [
        (
            row.name,
            row.shown,
            row.origin,
            f"Without effect: {row.ignored}." if row.ignored else row.help,
        )
        for row in useful
    ]
    print_table(["setting", "value", "from", "meaning"], shown, color=color)
    left = len(chosen) - len(useful)
    if left:
        say(f"{left} more of Celery's are accepted without effect")


def _print_one(row: Row) -> None:
    say(f"{row.name} = {row.shown}")
    say(f"  from:     {row.origin}")
    say(f"  default:  {row.default}")
    say(f"  meaning:  {row.help}")
    if row.ignored:
        say(f"  without effect: {row.ignored}")
    old = ", ".join(BY_NAME[row.name].old)
    if old:
        say(f"  in Celery also: {old}")
