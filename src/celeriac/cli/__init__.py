"""The `celeriac` command.  Imports nothing itself: each command loads what it runs.

Owns: main.  May import: everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from celeriac.client.app import Celeriac


def main(argv: Sequence[str] | None = None, app: Celeriac | None = None) -> int:
    """Run the command line and return its exit code.

    :param argv: the words after `celeriac`; those of the process where None.
    :param app: the app to work with, instead of the one that `-A` names.
    """
    from celeriac.cli.root import run

    return run(argv, app)
