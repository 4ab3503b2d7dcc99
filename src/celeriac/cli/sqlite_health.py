"""What `celeriac doctor` looks at where the broker is a SQLite file.

Owns: check_file.  May import: apsw, cli.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from celeriac.cli.doctor import Finding, fail, ok, warn

if TYPE_CHECKING:
    from celeriac.client.app import Celeriac

SQLITE = (3, 51, 3)
"""The first version that resets its write-ahead log safely."""

FULL = 50 * 2**20
LOW = 2**30
"""Bytes free under which the disk is as good as full, and under which a person should know."""

SMALL = 256 * 2**20
"""Bytes up to which the whole file is checked."""


def file_of(app: Celeriac) -> Path | None:
    """Return the path of the broker's file; None where it has none."""
    path = app.broker_url.partition("://")[2].partition("?")[0]
    path = path.removeprefix("/")
    return Path(path) if path and not path.startswith(":memory:") else None


def check_file(app: Celeriac) -> Iterator[Finding]:
    """Check SQLite's version, the file, its folder, file system and disk."""
    yield _version()
    path = file_of(app)
    if path is None or not path.exists():
        yield warn("file", "the broker has no file yet")
        return
    yield from _permissions(path)
    yield from _file_system(path)
    yield _disk(path)
    yield from _contents(path)


def _version() -> Finding:
    import apsw

    text = apsw.sqlite_lib_version()
    if tuple(map(int, text.split(".")[:3])) < SQLITE:
        least = ".".join(map(str, SQLITE))
        return warn("sqlite", text, f"from {least} on its log is safe: pip install -U apsw")
    return ok("sqlite", text)


def _permissions(path: Path) -> Iterator[Finding]:
    mode = stat.S_IMODE(path.stat().st_mode)
    if not os.access(path, os.R_OK | os.W_OK):
        yield fail("file", f"{path} cannot be written by this user", "run as its owner")
    elif not os.access(path.parent, os.W_OK | os.X_OK):
        yield fail(
            "file", f"{path.parent} cannot be written", "SQLite keeps its log beside the file"
        )
    elif mode & 0o077:
        yield warn("file", f"{path} is open to other users (mode {mode:04o})", f"chmod 600 {path}")
    else:
        yield ok("file", f"{path}, mode {mode:04o}")


def _file_system(path: Path) -> Iterator[Finding]:
    from celeriac.drivers.sqlite.mounts import file_system_of, is_shared

    kind, point = file_system_of(path.parent)
    if is_shared(kind, point):
        yield fail(
            "file system",
            f"{kind}: SQLite's log does not work across machines",
            "put the file on a local disk, or use a server for a broker",
        )
    elif kind:
        yield ok("file system", kind)


def _disk(path: Path) -> Finding:
    free = shutil.disk_usage(path.parent).free
    text = f"{free / 2**30:.1f} GiB free"
    if free < FULL:
        return fail("disk", text, "make room: nothing can be sent when it is full")
    if free < LOW:
        return warn("disk", text, "make room soon")
    return ok("disk", text)


def _contents(path: Path) -> Iterator[Finding]:
    import apsw

    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        connection.set_busy_timeout(2000)
        mode = _one(connection, "pragma journal_mode")
        if mode == "wal":
            yield ok("journal", "wal")
        else:
            yield fail("journal", str(mode), "the file system refuses WAL: use a local disk")
        if path.stat().st_size <= SMALL:
            found = _one(connection, "pragma quick_check(1)")
            if found != "ok":
                yield fail("contents", str(found), "restore the file, or begin a new one")
    finally:
        connection.close()


def _one(connection: Any, query: str) -> Any:
    for row in connection.execute(query):
        return row[0]
    return None
