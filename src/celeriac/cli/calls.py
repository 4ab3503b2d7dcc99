"""`celeriac call` and `celeriac result`: one task sent, one result shown.

Owns: the two commands.  May import: everything.
"""

from __future__ import annotations

import datetime as dt
import json
from typing import TYPE_CHECKING, Any

import click

from celeriac.cli.output import json_option, print_json
from celeriac.cli.session import Command, Session, pass_session, say
from celeriac.kernel.states import FAILURE, PROPAGATE_STATES, READY_STATES, REVOKED, SUCCESS

if TYPE_CHECKING:
    from celeriac.client.app import Celeriac

NOT_READY = 75
"""The exit code of `result` for a task that has not ended (EX_TEMPFAIL)."""


def _json(kind: type, example: str) -> Any:
    """Return a callback that reads JSON of one type."""

    def read(ctx: click.Context, param: click.Parameter, value: str) -> Any:
        try:
            found = json.loads(value)
        except ValueError as error:
            raise click.BadParameter(
                f"{value!r} is no JSON ({error}); write it as {example}", ctx, param
            ) from None
        if not isinstance(found, kind):
            raise click.BadParameter(
                f"{value!r} is JSON, but not as it is needed: {example}", ctx, param
            )
        return found

    return read


def _moment(ctx: click.Context, param: click.Parameter, value: str | None) -> Any:
    """Read seconds as a number, and a date as a datetime."""
    if value is None:
        return None
    try:
        return float(value)
    except ValueError:
        pass
    try:
        return dt.datetime.fromisoformat(value)
    except ValueError:
        raise click.BadParameter(
            f"{value!r} is neither a number of seconds nor an ISO 8601 date", ctx, param
        ) from None


@click.command(cls=Command)
@click.argument("name")
@click.option(
    "-a",
    "--args",
    callback=_json(list, "'[2, 3]'"),
    default="[]",
    help="Arguments, as a JSON list.",
)
@click.option(
    "-k",
    "--kwargs",
    callback=_json(dict, "'{\"x\": 2}'"),
    default="{}",
    help="Keywords, as a JSON object.",
)
@click.option("--countdown", type=float, metavar="SECONDS", help="Not before so many seconds.")
@click.option("--eta", callback=_moment, metavar="DATE", help="Not before this moment.")
@click.option("--expires", callback=_moment, metavar="DATE|SECONDS", help="Not after it.")
@click.option("--queue", help="Instead of the one that routing finds.")
@click.option("--exchange", hidden=True)
@click.option("--routing-key", help="Instead of the queue's.")
@click.option("--priority", type=click.IntRange(0, 9), help="9 is the most urgent.")
@click.option("--serializer", help="json, msgpack, yaml or pickle.")
@click.option("--wait", type=float, metavar="SECONDS", help="Wait for the result and print it.")
@click.option("--unknown", is_flag=True, help="Send it although the app does not know the name.")
@pass_session
def call(
    session: Session,
    /,
    name: str,
    args: list[Any],
    kwargs: dict[str, Any],
    *,
    eta: Any,
    wait: float | None,
    unknown: bool,
    **options: Any,
) -> int:
    """Send the task NAME and print its id.

    \b
    celeriac -A proj call proj.tasks.add --args '[2, 3]'
    celeriac -A proj call proj.tasks.report --kwargs '{"day": "today"}' --countdown 60
    """
    if isinstance(eta, float):
        raise click.UsageError("--eta is a date; for seconds from now use --countdown")
    if eta is not None and options["countdown"] is not None:
        raise click.UsageError("--eta and --countdown say the same thing: give one")
    app = session.connected()
    given = {key: value for key, value in {**options, "eta": eta}.items() if value is not None}
    task = _task(session, app, name, unknown)
    try:
        if task is None:
            result = app.send_task(name, args, kwargs, **given)
        else:
            result = task.apply_async(args, kwargs, **given)
    except (TypeError, ValueError) as error:
        # What the call itself finds wrong: arguments that do not fit, a limit that cannot be.
        raise click.ClickException(str(error)) from error
    if not session.quiet or wait is None:
        say(result.id)
    return 0 if wait is None else _wait(app, result, wait)


def _task(session: Session, app: Celeriac, name: str, unknown: bool) -> Any:
    """Return the task of that name; None where it is only known elsewhere.

    :raises ClickException: the app has tasks, and none of that name.
    """
    from celeriac.cli.find import nearest, users_code

    with users_code("importing the app's tasks"):
        app.import_modules()
    tasks = app.tasks
    if name in tasks:
        return tasks[name]
    known = tasks.regular()
    if known and not unknown:
        raise click.ClickException(
            f"no task is called {name!r} here{nearest(name, known)}; `celeriac list` shows them,"
            " --unknown sends it anyway"
        )
    return None


def _wait(app: Celeriac, result: Any, seconds: float) -> int:
    from celeriac.kernel.errors import TimeoutError

    try:
        result.get(timeout=seconds, propagate=False)
    except TimeoutError:
        say(f"{result.state} after {seconds:g} s", err=True)
        return NOT_READY
    return _show(result, traceback=False, as_json=False)


@click.command(cls=Command)
@click.argument("task_id", metavar="ID")
@click.option("--traceback", is_flag=True, help="Print the traceback of a failure.")
@click.option("--wait", type=float, metavar="SECONDS", help="Wait until it is there.")
@click.option("-t", "--task", hidden=True, expose_value=False)
@json_option
@pass_session
def result(
    session: Session, task_id: str, *, traceback: bool, wait: float | None, as_json: bool
) -> int:
    """Print what the task ID returned.

    Exits with 0 for a success, 1 for a failure and 75 for a task that has not ended or that
    nothing is known of.
    """
    app = session.connected()
    found = app.AsyncResult(task_id)
    if wait is not None:
        return _wait(app, found, wait)
    return _show(found, traceback=traceback, as_json=as_json)


def _show(found: Any, *, traceback: bool, as_json: bool) -> int:
    state, value = found.state, found.result
    code = 0 if state == SUCCESS else 1 if state in READY_STATES else NOT_READY
    if as_json:
        print_json(
            {
                "id": found.id,
                "state": state,
                "result": repr(value) if isinstance(value, BaseException) else value,
                "traceback": found.traceback,
                "date_done": found.date_done,
            }
        )
    elif traceback and state in PROPAGATE_STATES:
        say((found.traceback or "no traceback is stored").rstrip())
    elif state == SUCCESS:
        say(value if isinstance(value, str) else repr(value))
    elif state in {FAILURE, REVOKED}:
        say(f"{state}: {type(value).__name__}: {value}", err=True)
    else:
        say(f"{state}: {_meaning(found, state)}", err=True)
    return code


def _meaning(found: Any, state: str) -> str:
    if state == "PENDING":
        return "it waits, or nothing is known of that id"
    return repr(found.info)
