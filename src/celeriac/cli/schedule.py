"""`celeriac schedule`: look at the entries of the schedule, and change them while beat runs.

Owns: the commands.  May import: everything.
"""

from __future__ import annotations

import json
from typing import Any

import click

from celeriac.cli.output import json_option, print_json, print_table
from celeriac.cli.session import GroupCommand, Session, pass_session, say


@click.group(cls=GroupCommand)
def schedule() -> None:
    """Look at the schedule, and change it while beat runs."""


file_option = click.option(
    "-s", "--schedule", "file", metavar="FILE", help="The file that beat was given with -s."
)


def _schedules(session: Session, file: str | None) -> Any:
    from celeriac.beat.schedules import Schedules

    app = session.connected()
    return Schedules(app, file)


def _json(ctx: click.Context, param: click.Parameter, value: str | None) -> Any:
    if value is None:
        return None
    try:
        return json.loads(value)
    except ValueError as error:
        raise click.BadParameter(f"{value!r} is no JSON: {error}", ctx, param) from None


def _parts(options: dict[str, Any]) -> dict[str, Any]:
    """Return the parts of an entry that were given."""
    from celeriac.kernel.schedules import cron, crontab
    from celeriac.kernel.solar import solar

    kinds = ("every", "crontab", "cron", "solar")
    given = {kind: options.pop(kind) for kind in kinds if options.get(kind) is not None}
    if len(given) > 1:
        raise click.UsageError(f"{' and '.join(f'--{kind}' for kind in given)}: give one of them")
    parts = {k: v for k, v in options.items() if v is not None and k not in kinds}
    queue = parts.pop("queue", None)
    if queue is not None:
        parts["options"] = {**(parts.get("options") or {}), "queue": queue}
    try:
        if "every" in given:
            parts["schedule"] = given["every"]
        elif "crontab" in given:
            parts["schedule"] = crontab.from_string(given["crontab"])
        elif "cron" in given:
            parts["schedule"] = cron(given["cron"])
        elif "solar" in given:
            event, lat, lon = given["solar"]
            parts["schedule"] = solar(event, lat, lon)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    return parts


def _entry_options(command: Any) -> Any:
    for option in reversed(
        (
            click.option("--every", type=float, metavar="SECONDS", help="An interval."),
            click.option("--crontab", metavar="'M H DOM MON DOW'", help="As crontab() reads it."),
            click.option("--cron", metavar="'M H DOM MON DOW'", help="As cron itself reads it."),
            click.option(
                "--solar",
                type=(str, float, float),
                metavar="EVENT LAT LON",
                help="Sunrise, sunset, ...",
            ),
            click.option("-a", "--args", callback=_json, metavar="JSON", help="A list."),
            click.option("-k", "--kwargs", callback=_json, metavar="JSON", help="An object."),
            click.option("--options", callback=_json, metavar="JSON", help="Of apply_async."),
            click.option("-Q", "--queue", metavar="NAME", help="Where the task goes."),
            click.option(
                "--misfire",
                type=click.Choice(["skip", "once", "all"]),
                help="What becomes of missed ticks.",
            ),
            click.option("--grace", type=float, metavar="SECONDS", help="How late is missed."),
            click.option("--timezone", metavar="ZONE", help="Europe/Berlin, ..."),
            file_option,
        )
    ):
        command = option(command)
    return command


@schedule.command("list")
@file_option
@json_option
@pass_session
def list_(session: Session, /, *, file: str | None, as_json: bool) -> None:
    """List the entries."""
    from dataclasses import asdict

    found = _schedules(session, file).list()
    if as_json:
        print_json([asdict(entry) for entry in found])
        return
    rows = [
        (
            e.name,
            e.task,
            e.schedule,
            "paused" if e.paused else _time(e.next_at),
            _time(e.last_at),
            e.runs,
            "code" if e.from_code else "store",
        )
        for e in found
    ]
    columns = ("entry", "task", "schedule", "next", "last", "runs", "from")
    print_table(columns, rows, color=session.color)


def _time(moment: Any) -> str:
    return "" if moment is None else moment.isoformat(sep=" ", timespec="seconds")


@schedule.command()
@click.argument("name")
@click.argument("task")
@_entry_options
@pass_session
def add(session: Session, /, *, name: str, task: str, file: str | None, **options: Any) -> None:
    """Add an entry: its name and the task's."""
    made = _schedules(session, file).add(name, task=task, **_parts(options))
    say(f"{name}: {made.schedule}, next at {_time(made.next_at)}")


@schedule.command()
@click.argument("name")
@click.option("--task", metavar="NAME", help="Another task.")
@_entry_options
@pass_session
def change(session: Session, /, *, name: str, file: str | None, **options: Any) -> None:
    """Change parts of an entry."""
    parts = _parts(options)
    if not parts:
        raise click.UsageError("nothing to change: give --every, --crontab, --args, ...")
    made = _schedules(session, file).change(name, **parts)
    say(f"{name}: {made.schedule}, next at {_time(made.next_at)}")


@schedule.command()
@click.argument("names", nargs=-1, required=True)
@file_option
@pass_session
def pause(session: Session, /, *, names: tuple[str, ...], file: str | None) -> None:
    """Let no tick come until the entry is resumed."""
    schedules = _schedules(session, file)
    for name in names:
        schedules.pause(name)
        say(f"{name}: paused")


@schedule.command()
@click.argument("names", nargs=-1, required=True)
@file_option
@pass_session
def resume(session: Session, /, *, names: tuple[str, ...], file: str | None) -> None:
    """Let a paused entry go on with its next tick."""
    schedules = _schedules(session, file)
    for name in names:
        say(f"{name}: next at {_time(schedules.resume(name).next_at)}")


@schedule.command()
@click.argument("names", nargs=-1, required=True)
@file_option
@pass_session
def remove(session: Session, /, *, names: tuple[str, ...], file: str | None) -> None:
    """Delete an entry; one of the program's own comes back at beat's next start."""
    schedules = _schedules(session, file)
    for name in names:
        schedules.remove(name)
        say(f"{name}: removed")


@schedule.command()
@click.argument("name")
@file_option
@pass_session
def run(session: Session, /, *, name: str, file: str | None) -> None:
    """Send the task of an entry now, beside its ticks; print its id."""
    say(_schedules(session, file).run(name).id)
