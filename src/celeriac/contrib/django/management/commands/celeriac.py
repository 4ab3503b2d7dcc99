"""`manage.py celeriac worker|beat|...`: the `celeriac` command on the project's app.

Owns: Command.  May import: everything.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from celeriac.cli import main


class Command(BaseCommand):
    """The words behind `celeriac` are those of the `celeriac` command."""

    help = "Run a celeriac command on the project's app: worker, beat, list, top, ..."
    requires_system_checks: Sequence[str] = ()

    def run_from_argv(self, argv: list[str]) -> None:
        """Hand over every word: Django's own options would take some of them."""
        raise SystemExit(self._run(_without_djangos(argv[2:])))

    def handle(self, *args: Any, **options: Any) -> None:
        """Run a command, as `call_command("celeriac", "list")`.

        :raises CommandError: its exit code is not 0.
        """
        code = self._run([str(word) for word in args])
        if code:
            raise CommandError(f"celeriac {' '.join(map(str, args))} ended with {code}")

    def add_arguments(self, parser: Any) -> None:
        """Take any words."""
        parser.add_argument("args", nargs="*")

    def _run(self, words: list[str]) -> int:
        # `-A` and the environment still win; else the package of the project, where celery.py is.
        os.environ.setdefault("CELERIAC_APP", project())
        sys.stdout.flush()
        return main(words)


def project() -> str:
    """Return the package of the project.

    It is CELERIAC_APP in the settings; else the innermost package around the settings that has a
    module `celery`; else the outermost.
    """
    given: str = getattr(settings, "CELERIAC_APP", "")
    if given:
        return given
    name = settings.SETTINGS_MODULE or ""
    around = [name.rsplit(".", count)[0] for count in range(1, name.count(".") + 1)]
    for package in around:
        try:
            if importlib.util.find_spec(f"{package}.celery") is not None:
                return package
        except ModuleNotFoundError:  # what is called a package is a module
            continue
    return name.partition(".")[0]


def _without_djangos(words: list[str]) -> list[str]:
    """Leave out the options that manage.py has acted on before."""
    left, words = [], list(words)
    while words:
        word = words.pop(0)
        if word in ("--settings", "--pythonpath"):
            del words[:1]
        elif not word.startswith(("--settings=", "--pythonpath=")):
            left.append(word)
    return left
