"""A file that says which process is the worker, so that there are not two.

Owns: Pidfile.  May import: kernel.
"""

from __future__ import annotations

import os
from pathlib import Path

from celeriac.kernel.errors import CeleryCommandException

CANNOT_CREATE = 73
"""The exit code where another worker has the file (EX_CANTCREAT), as in Celery."""


class Pidfile:
    """Holds a pid file while a `with` block runs.

    One whose process is gone is replaced.  One that names this very process is too: in a
    container every worker is process 1.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)

    def __enter__(self) -> Pidfile:
        self._take()
        return self

    def __exit__(self, *error: object) -> None:
        if self._owner() == os.getpid():
            self.path.unlink(missing_ok=True)

    def _take(self) -> None:
        for _ in range(2):
            try:
                file = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
            except FileExistsError:
                self._remove_stale()
            except OSError as error:
                raise CeleryCommandException(
                    f"the pid file {self.path} cannot be written: {error.strerror}", CANNOT_CREATE
                ) from error
            else:
                with os.fdopen(file, "w") as opened:
                    opened.write(f"{os.getpid()}\n")
                return
        raise CeleryCommandException(
            f"the pid file {self.path} was taken by another worker just now", CANNOT_CREATE
        )

    def _remove_stale(self) -> None:
        owner = self._owner()
        if owner is not None and owner != os.getpid() and _alive(owner):
            raise CeleryCommandException(
                f"a worker is running already: process {owner}, by the pid file {self.path}",
                CANNOT_CREATE,
            )
        self.path.unlink(missing_ok=True)

    def _owner(self) -> int | None:
        """Return the process that the file names; None where it is missing or unreadable."""
        try:
            return int(self.path.read_text().strip())
        except (OSError, ValueError):
            return None


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # it is another user's
    return True
