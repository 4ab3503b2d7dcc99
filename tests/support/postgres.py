"""PostgreSQL of the tests' own: a cluster in a folder, killed at the end.

Owns: PostgreSQL, need_postgres.  May import: psycopg, and what tests use.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests.support.ports import free_port
from tests.support.project import eventually


def _found(name: str) -> str | None:
    # Debian keeps the server's programs out of PATH, a folder for each version.
    versions = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return shutil.which(name) or (str(versions[-1]) if versions else None)


POSTGRES, INITDB = _found("postgres"), _found("initdb")


def need_postgres() -> None:
    """Skip a test where no server is installed; fail it where CI is set."""
    if POSTGRES is None or INITDB is None:
        if os.environ.get("CI"):
            pytest.fail("postgresql is not installed: tools/servers.sh")
        pytest.skip("postgresql is not installed")


def _account() -> dict[str, Any]:
    """Return as whom the server runs: it refuses to be root."""
    if os.getuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            found = pwd.getpwnam(name)
            return {"user": found.pw_uid, "group": found.pw_gid, "extra_groups": []}
    raise AssertionError("no account to run PostgreSQL with")


class PostgreSQL:
    """One server process; it keeps its port and its data over a restart.

    :param settings: lines of its configuration.
    """

    user = "celeriac"

    def __init__(self, **settings: object) -> None:
        need_postgres()
        # Not in pytest's folders, which only their owner may pass through, and the server is not root.
        self.folder, self.port = Path(tempfile.mkdtemp(prefix="celeriac-postgres-")), free_port()
        self.popen: subprocess.Popen[bytes] | None = None
        self._account = _account()
        self._databases = 0
        if self._account:
            os.chown(self.folder, self._account["user"], self._account["group"])
        data = self.folder / "data"
        subprocess.run(
            [str(INITDB), "-D", data, "-U", self.user, "-A", "trust", "-E", "UTF8", "--locale=C",
             "--no-sync"],
            check=True, capture_output=True, cwd=self.folder, **self._account,
        )  # fmt: skip
        lines = {
            "port": self.port,
            "listen_addresses": "'127.0.0.1'",
            "unix_socket_directories": "''",
            "fsync": "off",  # nothing is to outlive the machine
            "shared_buffers": "16MB",
            **settings,
        }
        with (data / "postgresql.conf").open("a") as conf:
            conf.writelines(f"{name} = {value}\n" for name, value in lines.items())

    def start(self) -> PostgreSQL:
        """Start it and wait until it answers."""
        with (self.folder / "postgres.log").open("ab") as log:
            self.popen = subprocess.Popen(
                [str(POSTGRES), "-D", self.folder / "data"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder,
                start_new_session=True,  # Ctrl-C in the tests is not for it
                **self._account,
            )  # fmt: skip
        eventually(self._answers, within=20, saying="PostgreSQL")
        return self

    def _answers(self) -> bool:
        import psycopg

        assert self.popen is not None and self.popen.poll() is None, self.log()
        try:
            self.execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def log(self) -> str:
        """Return what it has said."""
        return (self.folder / "postgres.log").read_text(errors="replace")

    def execute(self, sql: str, *params: Any, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run a statement on a connection of its own; return its rows."""
        import psycopg

        with psycopg.connect(
            host="127.0.0.1", port=self.port, user=self.user, dbname=database,
            autocommit=True, connect_timeout=5,
        ) as connection:  # fmt: skip
            found = connection.execute(sql, params or None)  # type: ignore[call-overload]
            return [] if found.description is None else found.fetchall()

    def database(self) -> dict[str, Any]:
        """Make an empty database; return what Django's DATABASES say of it."""
        self._databases += 1
        name = f"celeriac_{self._databases}"
        self.execute(f"CREATE DATABASE {name}")
        return {
            "ENGINE": "django.db.backends.postgresql",
            "HOST": "127.0.0.1",
            "PORT": self.port,
            "USER": self.user,
            "NAME": name,
        }

    def clients(self, database: str) -> list[int]:
        """Return the server's processes that serve connections to a database."""
        sql = "SELECT pid FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()"
        return [row[0] for row in self.execute(sql, database)]

    def restart(self) -> PostgreSQL:
        """End every connection at once, and start again."""
        self.kill()
        return self.start()

    def stop(self) -> None:
        """End it for good, its data too."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def kill(self) -> None:
        """End it at once, its connections too."""
        if self.popen is not None and self.popen.poll() is None:
            self.popen.send_signal(signal.SIGQUIT)
            self.popen.wait(20)
