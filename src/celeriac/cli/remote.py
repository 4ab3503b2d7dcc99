"""`celeriac inspect` and `celeriac control`: ask workers, and tell them what to do.

Owns: the two commands.  May import: everything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from celeriac.cli.output import json_option, print_json
from celeriac.cli.session import Command, Session, pass_session, say

F = TypeVar("F", bound=Callable[..., Any])

NO_WORKER = 69
"""The exit code where no worker answers, or one that was named does not (EX_UNAVAILABLE)."""
REFUSED = 1
"""The exit code where a worker refused."""


def _addressed(command: F) -> F:
    """Add the options that say who is meant and how long to wait."""
    for option in (
        json_option,
        click.option("-j", "as_json_too", is_flag=True, hidden=True),
        click.option("-d", "--destination", multiple=True, metavar="NODE", help="Only these."),
        click.option("-p", "--pattern", metavar="GLOB", help="Only nodes whose name matches."),
        click.option("--matcher", type=click.Choice(["glob", "pcre"]), help="What -p is."),
        click.option(
            "-t", "--timeout", type=click.FloatRange(0), metavar="SECONDS", help="Wait so long."
        ),
    ):
        command = option(command)
    return command


def _list(ctx: click.Context, kind: str) -> None:
    import celeriac.control.inbox  # noqa: F401 - fills the panel
    from celeriac.client.panel import PANEL

    say(f"{ctx.get_usage()}\n\nCommands:")
    seen = {one.name: one for one in PANEL.values() if one.kind == kind and one.visible}
    for name, command in sorted(seen.items()):
        say(f"  {f'{name} {command.signature}':<44} {command.help}".rstrip())


def _run(session: Session, ctx: click.Context, kind: str, words: Sequence[str], **how: Any) -> int:
    app = session.connected()
    app.import_modules()  # commands of the program's own are registered there
    import celeriac.control.inbox  # noqa: F401 - fills the panel
    from celeriac.cli.find import nearest
    from celeriac.client.panel import PANEL, CommandRefused

    if not words:
        _list(ctx, kind)
        return 0
    name, *rest = words
    command = PANEL.get(name)
    if command is None or command.kind != kind:
        known = [one.name for one in PANEL.values() if one.kind == kind]
        ctx.fail(f"no {kind} command is called {name!r}{nearest(name, known)}")
    try:
        arguments = command.read(rest)
    except CommandRefused as error:
        ctx.fail(str(error))
    destination = [node for part in how["destination"] for node in part.split(",") if node]
    timeout = how["timeout"] if how["timeout"] is not None else command.default_timeout
    if command.name == "profile":
        timeout = max(timeout, arguments.get("seconds", 5.0) + 5.0)
    options: dict[str, Any] = {
        "reply": True,
        "timeout": timeout,
        "destination": destination or None,
        "pattern": how["pattern"],
        "matcher": how["matcher"],
    }
    replies = _send(app, command.name, arguments, options)
    answers = {node: value for one in replies or () for node, value in one.items()}
    if how["as_json"] or how["as_json_too"]:
        # Celery's shapes: a list of replies from `control`, one object from `inspect`.
        print_json(answers if kind == "inspect" else list(replies or ()))
    else:
        for node, value in sorted(answers.items()):
            _show(node, value)
    silent = [node for node in destination if node not in answers]
    if silent:
        say(f"no answer within {timeout:g} s from {', '.join(silent)}", err=True)
    elif not answers:
        say(f"no worker answered within {timeout:g} s", err=True)
    if silent or not answers:
        return NO_WORKER
    refused = any(isinstance(value, dict) and "error" in value for value in answers.values())
    return REFUSED if refused else 0


def _send(app: Any, name: str, arguments: dict[str, Any], options: dict[str, Any]) -> Any:
    """Send a command; those that leave an order behind go through `app.control`."""
    control = app.control
    if name in ("pause", "resume"):
        return getattr(control, name)(arguments.get("queue", ""), **options)
    if name in ("revoke", "terminate"):
        return getattr(control, name)(arguments.pop("task_id", []), **arguments, **options)
    if name == "revoke_by_stamped_headers":
        return control.revoke_by_stamped_headers(arguments.pop("headers", []), **options)
    return control.broadcast(name, arguments, **options)


def _show(node: str, value: Any) -> None:
    if isinstance(value, dict) and set(value) == {"ok"}:
        say(f"->  {node}: OK")
        value = value["ok"]
    elif isinstance(value, dict) and set(value) == {"error"}:
        say(f"->  {node}: ERROR")
        value = value["error"]
    else:
        say(f"->  {node}: OK")
    if isinstance(value, str):
        say("\n".join(f"    {line}" for line in value.splitlines()))
    elif value in ([], {}, None):
        say("    - empty -")
    elif isinstance(value, list):
        for item in value:
            _show_item(item)
    else:
        _show_item(value)


def _show_item(item: Any) -> None:
    if isinstance(item, str):
        say(f"    * {item}")
        return
    import json

    text = json.dumps(item, indent=2, default=str, ensure_ascii=False)
    say("\n".join(f"    {line}" for line in text.splitlines()))


@click.command(cls=Command)
@click.argument("words", nargs=-1, metavar="COMMAND [ARGUMENT]...")
@_addressed
@click.pass_context
@pass_session
def inspect(session: Session, ctx: click.Context, /, words: tuple[str, ...], **how: Any) -> int:
    """Ask workers; without a command, list what can be asked.

    \b
    celeriac inspect active
    celeriac inspect stack 7e0d2a1c-... -d w1@host
    celeriac inspect profile 10 --json
    """
    return _run(session, ctx, "inspect", words, **how)


@click.command(cls=Command)
@click.argument("words", nargs=-1, metavar="COMMAND [ARGUMENT]...")
@_addressed
@click.pass_context
@pass_session
def control(session: Session, ctx: click.Context, /, words: tuple[str, ...], **how: Any) -> int:
    """Tell workers what to do; without a command, list what they can be told.

    \b
    celeriac control rate_limit proj.tasks.mail 10/m
    celeriac control pause mail
    celeriac control revoke 7e0d2a1c-...
    """
    return _run(session, ctx, "control", words, **how)
