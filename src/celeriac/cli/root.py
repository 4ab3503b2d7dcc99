"""The root of the command line: the table of commands, the global options, and how errors end.

Owns: run, cli.  May import: everything; commands are imported when they are called.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from celeriac.cli.session import GroupCommand, Session, say
from celeriac.kernel.errors import (
    BrokerUnavailable,
    CeleryCommandException,
    CeleryError,
)

if TYPE_CHECKING:
    from celeriac.client.app import Celeriac

COMMANDS = {
    "worker": ("celeriac.cli.worker:worker", "Start a worker."),
    "beat": ("celeriac.cli.beat:beat", "Send periodic tasks."),
    "schedule": ("celeriac.cli.schedule:schedule", "Look at the schedule, and change it."),
    "call": ("celeriac.cli.calls:call", "Send a task by its name."),
    "result": ("celeriac.cli.calls:result", "Show the result of a task."),
    "graph": ("celeriac.cli.graph:graph", "Show how far a workflow is, as a tree."),
    "status": ("celeriac.cli.inspect:status", "Show the workers that answer."),
    "inspect": ("celeriac.cli.remote:inspect", "Ask workers: active, stats, stack, ..."),
    "control": ("celeriac.cli.remote:control", "Tell workers: pause, revoke, rate_limit, ..."),
    "top": ("celeriac.cli.top:top", "Watch workers, queues, rates and running tasks."),
    "events": ("celeriac.cli.events:events", "Print events, or take snapshots of the fleet."),
    "list": ("celeriac.cli.queues:list_", "List the queues, what they hold, and the tasks."),
    "purge": ("celeriac.cli.queues:purge", "Drop what waits in the queues."),
    "buried": ("celeriac.cli.queues:buried", "Look after tasks that could not be run."),
    "settings": ("celeriac.cli.settings:settings", "Show the settings in force, and their help."),
    "doctor": ("celeriac.cli.doctor:doctor", "Check app, settings, broker, store and clock."),
    "report": ("celeriac.cli.inspect:report", "Show versions and settings, for a bug report."),
    "shell": ("celeriac.cli.shell:shell", "Open a Python shell with the app and its tasks."),
    "demo": ("celeriac.cli.demo.run:demo", "See a worker do real work: nothing else to install."),
    "completion": ("celeriac.cli.shell:completion", "Print the completion for a shell."),
    "version": ("celeriac.cli.inspect:version", "Show the version."),
}
"""Every command: where it is, and its line in the help, so that neither imports it."""

UNAVAILABLE = 69
"""The exit code where the broker or every worker is away (EX_UNAVAILABLE)."""


class Commands(GroupCommand):
    """The commands of the table, imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or say which was meant."""
        if args and args[0] not in COMMANDS:
            from celeriac.cli.find import nearest

            ctx.fail(f"no command is called {args[0]!r}{nearest(args[0], COMMANDS)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


def _version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from celeriac import __version__

        say(__version__)
        ctx.exit()


@click.command(
    cls=Commands,
    show_globals=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_version,
    help="Show the version and exit.",
)
def cli() -> None:
    """A distributed task queue: Celery's API on a new engine."""


def run(argv: Sequence[str] | None, app: Celeriac | None) -> int:
    """Run the command line; return its exit code.  An error of the user's is one line."""
    words = list(sys.argv[1:] if argv is None else argv)
    session = Session(given=app)
    try:
        code: Any = cli.main(
            args=words,
            prog_name="celeriac",
            standalone_mode=False,
            obj=session,
            complete_var="_CELERIAC_COMPLETE",
        )
        return code if isinstance(code, int) else 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        say("aborted", err=True)
        return 1
    except CeleryCommandException as error:
        say(f"Error: {error}", err=True)
        return error.exit_code
    except BrokerUnavailable as error:
        say(f"Error: {error}", err=True)
        return UNAVAILABLE
    except CeleryError as error:
        # `NotRegistered` and `QueueNotFound` are KeyErrors, whose str() is a repr.
        text = error.args[0] if isinstance(error, KeyError) and error.args else error
        say(f"Error: {text}", err=True)
        return 1
    except BrokenPipeError:
        # The reader of a pipe is gone, as in `celeriac list | head`: nothing is left to be said.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    finally:
        session.close()
