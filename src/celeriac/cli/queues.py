"""`celeriac list`, `purge` and `buried`: what is in the queues, and what was taken out of them.

Owns: the commands.  May import: everything.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from celeriac.cli.output import ago, json_option, moment, print_json, print_table
from celeriac.cli.session import Command, GroupCommand, Session, pass_session, say
from celeriac.kernel.errors import CeleryError
from celeriac.kernel.message import Buried
from celeriac.kernel.routing import declared_queues
from celeriac.kernel.wire import task_name, unpack

if TYPE_CHECKING:
    from celeriac.client.app import Celeriac

PAGE = 500
"""Buried envelopes that are asked for at once."""


def _words(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> list[str]:
    return [word.strip() for part in value for word in part.split(",") if word.strip()]


def _declared(app: Celeriac) -> list[str]:
    return list(declared_queues(app.conf.task_queues, app.conf.task_default_queue))


# -- list and purge -----------------------------------------------------------------------------


@click.command("list", cls=Command)
@click.argument("what", type=click.Choice(["all", "queues", "tasks", "bindings"]), default="all")
@json_option
@pass_session
def list_(session: Session, what: str, as_json: bool) -> None:
    """List the queues, what they hold, and the tasks that the app knows."""
    app = session.connected()
    from celeriac.cli.find import users_code

    with users_code("importing the app's tasks"):
        app.import_modules()
    queues = _queue_rows(app) if what != "tasks" else []
    tasks = sorted(app.tasks.regular()) if what in {"all", "tasks"} else []
    if as_json:
        print_json(
            {"queues": [dict(zip(_COLUMNS, row, strict=True)) for row in queues], "tasks": tasks}
        )
        return
    if what != "tasks":
        shown = [(*row[:-1], ago(row[-1]) if row[1] else "") for row in queues]
        print_table(_COLUMNS, shown, color=session.color)
    if tasks:
        if what == "all":
            say("")
        print_table(["task"], [[name] for name in tasks], color=session.color)


_COLUMNS = ("queue", "ready", "delayed", "held", "oldest")


def _queue_rows(app: Celeriac) -> list[tuple[Any, ...]]:
    counts = dict(app.broker.count([]))
    missing = [name for name in _declared(app) if name not in counts]
    if missing:
        counts.update(app.broker.count(missing))
    return [
        (name, count.ready, count.delayed, count.held, round(count.oldest, 3))
        for name, count in sorted(counts.items())
    ]


@click.command(cls=Command)
@click.option("-f", "--force", is_flag=True, help="Do not ask.")
@click.option(
    "-Q",
    "--queues",
    multiple=True,
    callback=_words,
    metavar="A,B",
    help="These queues; the app's where none are given.",
)
@click.option(
    "-X",
    "--exclude-queues",
    multiple=True,
    callback=_words,
    metavar="A,B",
    help="All of the app's but these.",
)
@pass_session
def purge(session: Session, *, force: bool, queues: list[str], exclude_queues: list[str]) -> None:
    """Drop every task that waits in the queues, delayed ones too.  There is no way back.

    What a worker holds at that moment stays.
    """
    app = session.connected()
    names = [name for name in queues or _declared(app) if name not in exclude_queues]
    if not names:
        raise click.UsageError("no queue is left to purge")
    counts = app.broker.count(names)
    waiting = sum(count.ready + count.delayed for count in counts.values())
    if not waiting:
        say(f"nothing waits in {', '.join(names)}")
        return
    if not force:
        click.confirm(f"Drop {waiting} tasks from {', '.join(names)}?", abort=True)
    dropped = sum(app.broker.purge(name) for name in names)
    say(f"{dropped} tasks dropped from {', '.join(names)}")


# -- buried -------------------------------------------------------------------------------------


@click.group(cls=GroupCommand)
def buried() -> None:
    """Look after tasks that could not be run: rejected, undecodable, deadly or unknown ones."""


def _all_buried(app: Celeriac) -> Iterator[Buried]:
    after: str | None = None
    while page := app.broker.buried(limit=PAGE, after=after):
        yield from page
        after = page[-1].envelope.id


def _name(envelope: Any) -> str:
    try:
        return task_name(envelope.body)
    except CeleryError:
        return "?"  # it is buried because it cannot be read


@buried.command("list")
@click.option("-n", "--limit", type=click.IntRange(1), default=100, show_default=True)
@json_option
@pass_session
def list_buried(session: Session, limit: int, as_json: bool) -> None:
    """List what is buried, the oldest first."""
    app = session.connected()
    found = app.broker.buried(limit=limit)
    if as_json:
        print_json([_facts(one) for one in found])
        return
    if not found:
        say("nothing is buried")
        return
    rows = [
        (
            one.envelope.id,
            _name(one.envelope),
            one.envelope.queue,
            f"{ago(max(0.0, time.time() - one.at))} ago",
            one.reason,
        )
        for one in found
    ]
    print_table(["id", "task", "queue", "buried", "reason"], rows, color=session.color)


def _facts(one: Buried) -> dict[str, Any]:
    envelope = one.envelope
    return {
        "id": envelope.id,
        "task": _name(envelope),
        "queue": envelope.queue,
        "reason": one.reason,
        "buried_at": moment(one.at),
        "handed_out": one.handed_out,
        "retries": envelope.attempt,
        "priority": envelope.priority,
    }


@buried.command("show")
@click.argument("task_id", metavar="ID")
@json_option
@pass_session
def show_buried(session: Session, task_id: str, as_json: bool) -> None:
    """Show one buried task: why, when, and what it was called with."""
    app = session.connected()
    one = next((one for one in _all_buried(app) if one.envelope.id == task_id), None)
    if one is None:
        raise click.ClickException(f"no buried task has the id {task_id}")
    facts = {**_facts(one), **_contents(one.envelope.body)}
    if as_json:
        print_json(facts)
        return
    width = max(map(len, facts)) + 1
    for name, value in facts.items():
        say(f"{name + ':':<{width}} {value}")


def _contents(body: bytes) -> dict[str, Any]:
    """Return what can be read of a message without running any of its codecs but JSON."""
    try:
        head, payload = unpack(body)
    except CeleryError as error:
        return {"unreadable": str(error), "bytes": len(body)}
    facts: dict[str, Any] = {"origin": head.origin, "content_type": head.content_type}
    if head.extra:
        facts["headers"] = head.extra
    if head.argsrepr is not None:
        facts["args"], facts["kwargs"] = head.argsrepr, head.kwargsrepr
    elif head.content_type == "application/json" and not head.compression:
        try:
            args, kwargs, *_ = json.loads(payload)
        except (ValueError, RecursionError) as error:
            facts["unreadable"] = str(error)
        else:
            facts["args"], facts["kwargs"] = repr(args)[:1000], repr(kwargs)[:1000]
    facts["bytes"] = len(body)
    return facts


def _chosen(app: Celeriac, ids: Sequence[str], every: bool) -> list[str]:
    if bool(ids) == every:
        raise click.UsageError("name the ids, or give --all")
    return [one.envelope.id for one in _all_buried(app)] if every else list(ids)


def _report(done: Iterable[str], wanted: Sequence[str], word: str) -> int:
    changed = set(done)
    say(f"{len(changed)} tasks {word}")
    for task_id in wanted:
        if task_id not in changed:
            say(f"{task_id} is not buried", err=True)
    return 0 if len(changed) == len(set(wanted)) else 1


def _in_pages(function: Callable[[Sequence[str]], Sequence[str]], ids: list[str]) -> list[str]:
    done: list[str] = []
    for start in range(0, len(ids), PAGE):
        done += function(ids[start : start + PAGE])
    return done


@buried.command("requeue")
@click.argument("ids", nargs=-1)
@click.option("--all", "every", is_flag=True, help="Every one.")
@pass_session
def requeue(session: Session, ids: tuple[str, ...], every: bool) -> int:
    """Put buried tasks back into their queues, and forget the failures that are stored."""
    app = session.connected()
    wanted = _chosen(app, ids, every)

    def send_again(part: Sequence[str]) -> Sequence[str]:
        # The failure first: a final record is never overwritten by what the next run brings.
        if app.keeps_results:
            app.results.forget(_still_buried(app, part))
        return app.broker.requeue(part)

    return _report(_in_pages(send_again, wanted), wanted, "put back")


def _still_buried(app: Celeriac, ids: Sequence[str]) -> list[str]:
    """Return those that are buried: the result of any other id is none of our business."""
    wanted = set(ids)
    return [one.envelope.id for one in _all_buried(app) if one.envelope.id in wanted]


@buried.command("drop")
@click.argument("ids", nargs=-1)
@click.option("--all", "every", is_flag=True, help="Every one.")
@click.option("-f", "--force", is_flag=True, help="Do not ask.")
@pass_session
def drop(session: Session, ids: tuple[str, ...], every: bool, force: bool) -> int:
    """Delete buried tasks.  There is no way back."""
    app = session.connected()
    wanted = _chosen(app, ids, every)
    if every and wanted and not force:
        click.confirm(f"Delete {len(wanted)} buried tasks?", abort=True)
    return _report(_in_pages(app.broker.drop, wanted), wanted, "deleted")
