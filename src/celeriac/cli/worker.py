"""`celeriac worker`: options in, a running worker, its exit code out.

Owns: the command.  May import: everything.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable
from typing import Any, TypeVar

import click

from celeriac.cli.logs import read_level, setup_logging
from celeriac.cli.parent import tie_to_parent
from celeriac.cli.session import Command, Session, pass_session, say

F = TypeVar("F", bound=Callable[..., Any])

NOT_YET = {
    "detach": (
        "-D/--detach is not offered: run the worker under systemd, supervisor or a container,"
        " which restart it too"
    ),
}
"""Options of Celery's that would change what the worker does, so they are not ignored."""

GREEN = {
    pool: f"-P {pool} is not there: `-P threads` runs blocking code in threads,"
    " `-P asyncio` runs `async def` tasks in one loop"
    for pool in ("gevent", "eventlet")
}


def _words(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> list[str] | None:
    """Split comma-separated lists, given once or several times."""
    words = [word.strip() for part in value for word in part.split(",") if word.strip()]
    return words or None


def _refuse(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    if value and not ctx.resilient_parsing:
        raise click.UsageError(NOT_YET[str(param.name)], ctx)


def _pool(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    if value in GREEN:
        raise click.UsageError(GREEN[value], ctx)
    return value


def _bounds(
    ctx: click.Context, param: click.Parameter, value: str | None
) -> tuple[int, int] | None:
    """Read "10,3"; one number is the most, with at least none to spare."""
    if not value:
        return None
    most, _, least = value.partition(",")
    try:
        found = int(most), int(least or 1)
    except ValueError:
        found = 0, 0
    if not 1 <= found[1] <= found[0]:
        raise click.BadParameter(f"{value!r} is not MAX,MIN, such as 10,3", ctx, param)
    return found


def _concurrency(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    """Read a number; "auto" is the number of processors, the default."""
    if value is None or value == "auto":
        return None
    if not value.isdigit() or int(value) < 1:
        raise click.BadParameter(f"{value!r} is no number from 1 on", ctx, param)
    return int(value)


def _ignored(*names: str, **options: Any) -> Callable[[F], F]:
    """Accept an option of Celery's that celeriac has no need of."""
    return click.option(*names, hidden=True, expose_value=False, **options)


@click.command(cls=Command)
@click.option(
    "-l",
    "--loglevel",
    callback=read_level,
    metavar="LEVEL",
    help="DEBUG, INFO, WARNING, ERROR, CRITICAL.",
)
@click.option("-f", "--logfile", metavar="FILE", help="Log there; %n is the node, %h the host.")
@click.option(
    "-c",
    "--concurrency",
    callback=_concurrency,
    metavar="N",
    help="Tasks at the same time; the number of processors by default.",
)
@click.option(
    "-P",
    "--pool",
    callback=_pool,
    metavar="POOL",
    help="Where tasks run: prefork (the default), threads, asyncio or solo.",
)
@click.option(
    "-Q",
    "--queues",
    multiple=True,
    callback=_words,
    metavar="A,B",
    help="Consume only these queues.",
)
@click.option(
    "-X",
    "--exclude-queues",
    multiple=True,
    callback=_words,
    metavar="A,B",
    help="Consume all but these queues.",
)
@click.option("-n", "--hostname", metavar="NAME", help="The node's name, e.g. w1@%h.")
@click.option(
    "-I",
    "--include",
    multiple=True,
    callback=_words,
    metavar="MODULES",
    help="Import these modules too.",
)
@click.option(
    "--max-tasks-per-child",
    type=click.IntRange(1),
    metavar="N",
    help="Replace a child process after so many tasks.",
)
@click.option(
    "--max-memory-per-child",
    type=click.IntRange(1),
    metavar="KIB",
    help="Replace a child process that grew larger, after its task.",
)
@click.option(
    "--time-limit",
    type=click.FloatRange(0, min_open=True),
    metavar="SECONDS",
    help="End a task that runs longer.",
)
@click.option(
    "--soft-time-limit",
    type=click.FloatRange(0, min_open=True),
    metavar="SECONDS",
    help="Raise SoftTimeLimitExceeded in a task that runs longer.",
)
@click.option(
    "--prefetch-multiplier",
    type=click.IntRange(0),
    metavar="N",
    help="Messages held per slot of the pool.",
)
@click.option("--purge", "--discard", is_flag=True, help="Drop what waits in the queues first.")
@click.option(
    "-E",
    "--task-events",
    "--events",
    is_flag=True,
    default=None,
    help="Send events of tasks, for `celeriac top` and other monitors.",
)
@click.option("--without-heartbeat", is_flag=True, help="Do not tell that the worker is there.")
@click.option("--heartbeat-interval", type=click.FloatRange(0.1), metavar="SECONDS", help="2 s.")
@click.option("--pidfile", metavar="FILE", help="Refuse to start where its process is alive.")
@click.option("--reload", "reload_", is_flag=True, help="Restart when the code changes.")
@click.option("-B", "--beat", is_flag=True, help="Send periodic tasks too.")
@click.option(
    "--autoscale",
    callback=_bounds,
    metavar="MAX,MIN",
    help="Run between MIN and MAX tasks at a time, as the work needs.",
)
@click.option("-D", "--detach", is_flag=True, hidden=True, expose_value=False, callback=_refuse)
@_ignored("-O", "--optimization")
@_ignored("--without-gossip", is_flag=True)
@_ignored("--without-mingle", is_flag=True)
@_ignored("--disable-prefetch", is_flag=True)
@_ignored("-S", "--statedb")
@pass_session
def worker(session: Session, /, *, reload_: bool, **options: Any) -> int:
    """Start a worker.

    \b
    celeriac -A proj worker -l INFO
    celeriac -A proj worker -c 4 -Q high,low
    celeriac -A proj worker -P threads -c 20 -n w1@%h
    """
    tied = tie_to_parent()
    if reload_ and not tied:
        from celeriac.cli.reload import supervise

        return supervise()
    return start(session, **options)


def start(
    session: Session,
    /,
    *,
    loglevel: int | None,
    logfile: str | None,
    pidfile: str | None,
    include: list[str] | None,
    hostname: str | None,
    **options: Any,
) -> int:
    """Import the program, say what will run, and run it; return the exit code."""
    from celeriac.cli.banner import banner
    from celeriac.cli.find import users_code
    from celeriac.cli.nodes import expand, node_name

    app = session.app()
    app.set_current()
    node = node_name(hostname)
    if include:
        app.conf.load({"include": [*app.conf.include, *include]}, "command line")
    with users_code("importing the app's tasks"):
        app.import_modules()
    # After the import, so that a program which has its own logging keeps it.
    setup_logging(app, level=loglevel, logfile=logfile, node=node, color=session.color)
    held = _pidfile(expand(pidfile, node)) if pidfile else contextlib.nullcontext()
    with held:
        made = app.Worker(hostname=node, **options)
        if not session.quiet:
            level = logging.getLogger().level if loglevel is None else loglevel
            say(banner(app, made, show_tasks=level <= logging.INFO))
        return int(made.start() or os.EX_OK)


def _pidfile(path: str) -> contextlib.AbstractContextManager[Any]:
    from celeriac.cli.pidfile import Pidfile

    return Pidfile(path)
