"""`manage.py celeriac worker|beat|...`: the `celeriac` command on the project's app.

Owns: Command.  May import: everything.
"""

from __future__ import annotations

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
        raise SystemExit(self._run(argv[2:]))

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
    """Return the package of the project: CELERIAC_APP in the settings, else that of the settings."""
    name: str = getattr(settings, "CELERIAC_APP", "") or settings.SETTINGS_MODULE
    return name if getattr(settings, "CELERIAC_APP", "") else name.partition(".")[0]
