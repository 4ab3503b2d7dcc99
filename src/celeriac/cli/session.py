"""One call of the command line: what the global options say, and the app that they lead to.

Owns: Session, Command, GroupCommand, pass_session, say.  May import: client.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from celeriac.client.app import Celeriac


@dataclass
class Session:
    """What the global options say."""

    given: Celeriac | None = None
    """The app that the caller of `main` handed in."""
    app_name: str | None = None
    broker: str | None = None
    result_backend: str | None = None
    config: str | None = None
    no_color: bool = False
    quiet: bool = False
    bare: bool = False
    """The app has no tasks: it was made here, because none was named or found."""
    _app: Celeriac | None = field(default=None, repr=False)

    @property
    def color(self) -> bool:
        """Whether colours are wanted, as far as the options and the environment say."""
        return not self.no_color and not os.environ.get("NO_COLOR")

    @property
    def has_app(self) -> bool:
        """Whether an app is named: by option, by environment or by the caller."""
        return bool(self.given or self.name)

    @property
    def name(self) -> str | None:
        """What `-A` or the environment says."""
        environment = os.environ.get("CELERIAC_APP") or os.environ.get("CELERY_APP")
        return self.app_name or environment or None

    def app(self, *, tasks: bool = True) -> Celeriac:
        """Return the app: the given one, the one that is named, or one found in the folder.

        :param tasks: the command needs the program's tasks; without, a bare app will do.
        :raises NoApp: there is none; the message lists what was tried.
        """
        if self._app is None:
            self._app = self._find(tasks)
            self._apply(self._app)
        return self._app

    def _find(self, tasks: bool) -> Celeriac:
        from celeriac.cli.find import NoApp, find_app, find_here

        if self.given is not None:
            return self.given
        if self.name:
            app = find_app(self.name)
        else:
            found = find_here()
            if found is None and tasks:
                raise NoApp(
                    "no app: name it with -A (as in `celeriac -A proj worker`) or CELERIAC_APP;"
                    " no celery_app.py or tasks.py with an app is in this folder"
                )
            app = found or self._bare_app()
        app.set_default()
        return app

    def _bare_app(self) -> Celeriac:
        from celeriac.client.app import Celeriac

        app = Celeriac("default")
        # Where the app of a tasks.py in this folder would have its file.
        app._home = (Path.cwd(), "tasks")
        self.bare = True
        return app

    def _apply(self, app: Celeriac) -> None:
        """Let the options beat the settings."""
        if self.config:
            app.config_from_object(self.config)
        said = {"broker_url": self.broker, "result_backend": self.result_backend}
        said = {name: value for name, value in said.items() if value}
        if said:
            app.conf.load(said, "command line")
        from celeriac.client.signals import user_preload_options

        if user_preload_options.receivers:
            options = {"app": self.name, "config": self.config, **said}
            user_preload_options.send(sender=None, app=app, options=options)

    def connected(self) -> Celeriac:
        """Return an app whose broker is known, with its tasks or without.

        :raises NoApp: nothing says where the broker is.
        """
        from celeriac.cli.find import NoApp

        app = self.app(tasks=False)
        if self.bare and not app.conf.broker_url:
            raise NoApp("no app and no broker: name one with -A or -b (or CELERIAC_BROKER_URL)")
        return app

    def close(self) -> None:
        """Let go of the app's connections, where this call made them."""
        if self._app is not None and self.given is None:
            self._app.close()


def _remember(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    """Keep a global option, wherever among the words it stood."""
    if value and not ctx.resilient_parsing and param.name:
        setattr(ctx.ensure_object(Session), param.name, value)


def _change_folder(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    if value and not ctx.resilient_parsing:
        try:
            os.chdir(value)
        except OSError as error:
            raise click.BadParameter(f"{value}: {error.strerror}", ctx, param) from None


def global_options(*, hidden: bool) -> list[click.Option]:
    """Return the options that stand before the command or behind it."""
    made: list[click.Option] = []

    def add(*names: str, **options: Any) -> None:
        made.append(click.Option(names, expose_value=False, hidden=hidden, **options))

    remember = {"callback": _remember}
    add(
        "-A",
        "--app",
        "app_name",
        metavar="APP",
        help="The app: proj, proj.mod or proj.mod:app.",
        **remember,
    )
    add("-b", "--broker", metavar="URL", help="The broker, instead of the app's.", **remember)
    add(
        "--result-backend",
        metavar="URL",
        help="The result store, instead of the app's.",
        **remember,
    )
    add("--config", metavar="MODULE", help="A module with settings.", **remember)
    add(
        "--workdir",
        metavar="DIR",
        is_eager=True,
        callback=_change_folder,
        help="Change to this folder first.",
    )
    add("-C", "--no-color", is_flag=True, help="No colours.", **remember)
    add("-q", "--quiet", is_flag=True, help="Say less.", **remember)
    return made


class Command(click.Command):
    """A command that takes the global options too, unseen in its help."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("context_settings", {"help_option_names": ["-h", "--help"]})
        super().__init__(*args, **kwargs)
        self.params.extend(global_options(hidden=True))


class GroupCommand(click.Group):
    """A command with commands; takes the global options too.

    :param show_globals: list them in its help.
    """

    command_class = Command

    def __init__(self, *args: Any, show_globals: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params[:0] = global_options(hidden=not show_globals)


pass_session = click.make_pass_decorator(Session, ensure=True)
"""Hands the session to a command as its first argument."""


def say(text: str, *, err: bool = False) -> None:
    """Print a line."""
    # Flushed, since a worker that forks would write what is left in the buffer once per child.
    print(text, file=sys.stderr if err else sys.stdout, flush=True)
