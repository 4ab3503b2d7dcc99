"""`celeriac shell` and `celeriac completion`.

Owns: the two commands.  May import: everything, IPython where it is installed.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import click

from celeriac.cli.session import Command, Session, pass_session, say


@click.command(cls=Command)
@click.option("--python", "plain", is_flag=True, help="Python's own shell, even beside IPython.")
@pass_session
def shell(session: Session, plain: bool) -> None:
    """Open a Python shell: `app`, `AsyncResult` and every task by its function's name are there."""
    app = session.app(tasks=False)
    from celeriac.cli.find import users_code

    with users_code("importing the app's tasks"):
        app.import_modules()
    names = _names(app)
    head = f"celeriac shell: app is {app!r}; {len(app.tasks.regular())} tasks by their short names"
    if not plain and importlib.util.find_spec("IPython"):
        _ipython(names, head, session.quiet)
    else:
        _python(names, head, session.quiet)


def _names(app: Any) -> dict[str, Any]:
    from celeriac.client.result import AsyncResult

    names: dict[str, Any] = {
        name.rpartition(".")[2]: task for name, task in app.tasks.regular().items()
    }
    # Last, so that no task called `app` hides the app.
    names.update(app=app, celery=app, AsyncResult=AsyncResult)
    return names


def _python(names: dict[str, Any], head: str, quiet: bool) -> None:
    import code

    try:
        import readline
        import rlcompleter

        readline.set_completer(rlcompleter.Completer(names).complete)
        readline.parse_and_bind("tab: complete")
    except ImportError:
        pass  # a Python without readline: no completion
    code.interact(banner="" if quiet else head, local=names, exitmsg="")


def _ipython(names: dict[str, Any], head: str, quiet: bool) -> None:
    ipython: Any = importlib.import_module("IPython")
    if not quiet:
        say(head)
    ipython.start_ipython(argv=["--no-banner"], user_ns=names)


@click.command(cls=Command)
@click.argument("name", metavar="SHELL", type=click.Choice(["bash", "zsh", "fish"]))
def completion(name: str) -> None:
    """Print the completion for a shell.

    \b
    eval "$(celeriac completion bash)"      in ~/.bashrc
    eval "$(celeriac completion zsh)"       in ~/.zshrc
    celeriac completion fish > ~/.config/fish/completions/celeriac.fish
    """
    from click.shell_completion import ZshComplete, get_completion_class

    from celeriac.cli.root import cli

    kind = get_completion_class(name) or ZshComplete
    say(kind(cli, {}, "celeriac", "_CELERIAC_COMPLETE").source())
