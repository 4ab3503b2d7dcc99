"""Entries of schedules in a SQLite file: a tick and its message are one transaction.

Owns: SQLiteSchedules.  Thread rule: see `ports.schedules`.  May import: kernel, ports.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from importlib import resources
from typing import Any

import apsw

from celeriac.drivers.sqlite.broker import insert
from celeriac.drivers.sqlite.db import Database
from celeriac.kernel.message import Envelope
from celeriac.ports.schedules import Entry, Tick

SLICE = 500
"""Names in one query."""

_COLUMNS = "name, spec, next_at, from_code, paused, last_at, runs, version, claims"


def _entry(row: Sequence[Any]) -> Entry:
    name, spec, next_at, from_code, paused, last_at, runs, version, claims = row
    return Entry(name, spec, next_at, bool(from_code), bool(paused), last_at, runs, version, claims)


def _new_version(cursor: apsw.Cursor) -> int:
    rows: list[Any] = cursor.execute(
        "UPDATE entry_version SET last = last + 1 RETURNING last"
    ).fetchall()
    return int(rows[0][0])


class SQLiteSchedules:
    """The entries of one file.

    :param ring: wakes those who wait for what was published.
    """

    publishes = True

    def __init__(self, db: Database, ring: Callable[[Sequence[Envelope]], None]) -> None:
        self._db, self._ring = db, ring
        self._ready = False

    def open(self) -> None:
        """Open the file, and make the table where it is not there."""
        self._db.open()
        if not self._ready:
            if not self._db.read("SELECT 1 FROM sqlite_schema WHERE name='entry_version'"):
                self._db.write(self._make)
            self._ready = True

    def _make(self, cursor: apsw.Cursor) -> None:
        if cursor.execute("SELECT 1 FROM sqlite_schema WHERE name='entry_version'").fetchall():
            return  # another process was first
        schema = resources.files("celeriac.drivers.sqlite").joinpath("schedules.sql").read_text()
        cursor.execute(schema)

    def _read(self, sql: str, bindings: Any) -> list[Any]:
        self.open()
        return self._db.read(sql, bindings)

    def entries(self, scope: str, names: Sequence[str] | None = None) -> Sequence[Entry]:
        """List entries."""
        select = f"SELECT {_COLUMNS} FROM entry WHERE scope=?"
        if names is None:
            return [_entry(row) for row in self._read(f"{select} ORDER BY name", (scope,))]
        found: list[Entry] = []
        for some in _slices(names):
            marks = ",".join("?" * len(some))
            rows = self._read(f"{select} AND name IN ({marks})", (scope, *some))
            found += [_entry(row) for row in rows]
        return sorted(found, key=lambda entry: entry.name)

    def put(self, scope: str, entries: Sequence[Entry]) -> Sequence[str]:
        """Write entries whose version is the stored one."""
        self.open()

        def work(cursor: apsw.Cursor) -> list[str]:
            refused = []
            version = _new_version(cursor)
            for e in entries:
                row = (e.spec, e.next_at, e.from_code, e.paused, e.last_at, e.runs, version)
                if e.version:
                    cursor.execute(
                        "UPDATE entry SET spec=?, next_at=?, from_code=?, paused=?, last_at=?, runs=?,"
                        " version=?, claims=0, owner='', until=0"
                        " WHERE scope=? AND name=? AND version=?",
                        (*row, scope, e.name, e.version),
                    )
                else:
                    cursor.execute(
                        "INSERT INTO entry(spec, next_at, from_code, paused, last_at, runs, version,"
                        " scope, name) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                        (*row, scope, e.name),
                    )
                if not cursor.connection.changes():
                    refused.append(e.name)
            return refused

        return self._db.write(work) if entries else []

    def remove(self, scope: str, names: Sequence[str]) -> int:
        """Delete entries."""
        self.open()

        def work(cursor: apsw.Cursor) -> int:
            gone = 0
            for name in names:
                cursor.execute("DELETE FROM entry WHERE scope=? AND name=?", (scope, name))
                gone += cursor.connection.changes()
            return gone

        return self._db.write(work) if names else 0

    def due(
        self, scope: str, now: float, *, limit: int, owner: str = "", lease: float = 0.0
    ) -> Sequence[Entry]:
        """List what is due; claim it for an owner."""
        sql = f"SELECT {_COLUMNS} FROM entry WHERE scope=? AND next_at<=?"
        order = " ORDER BY next_at, name LIMIT ?"
        if not owner:
            return [_entry(row) for row in self._read(sql + order, (scope, now, limit))]
        clock = time.time()
        free = sql + " AND (owner IN ('', ?) OR until<=?)" + order
        bindings = (scope, now, owner, clock, limit)
        if not self._read(free, bindings):
            return []

        def work(cursor: apsw.Cursor) -> list[Any]:
            rows: list[Any] = cursor.execute(free, bindings).fetchall()
            cursor.executemany(
                "UPDATE entry SET claims=claims + (owner NOT IN ('', ?1)), owner=?1, until=?2"
                " WHERE scope=?3 AND name=?4",
                [(owner, clock + lease, scope, row[0]) for row in rows],
            )
            names = [row[0] for row in rows]
            marks = ",".join("?" * len(names))
            return cursor.execute(
                f"SELECT {_COLUMNS} FROM entry WHERE scope=? AND name IN ({marks})"
                " ORDER BY next_at, name",
                (scope, *names),
            ).fetchall()

        return [_entry(row) for row in self._db.write(work)]

    def sent(self, scope: str, ticks: Sequence[Tick]) -> Sequence[str]:
        """Move entries on, and publish, in one transaction."""
        if not ticks:
            return []
        self.open()
        published: list[Envelope] = []
        if any(tick.envelopes for tick in ticks):
            self._db.check_room()

        def work(cursor: apsw.Cursor) -> list[str]:
            moved = []
            version = _new_version(cursor)
            for tick in ticks:
                cursor.execute(
                    "UPDATE entry SET next_at=?, last_at=?, runs=runs + ?, version=?, claims=0,"
                    " owner='', until=0 WHERE scope=? AND name=? AND version=?",
                    (
                        tick.next_at,
                        tick.last_at,
                        tick.runs,
                        version,
                        scope,
                        tick.name,
                        tick.version,
                    ),
                )
                if cursor.connection.changes():
                    moved.append(tick.name)
                    published.extend(tick.envelopes)
            insert(cursor, published)
            return moved

        moved = self._db.write(work)
        if published:
            self._ring(published)
        return moved

    def next_at(self, scope: str, after: float) -> float | None:
        """Look up the first tick to come."""
        rows = self._read(
            "SELECT min(next_at) FROM entry WHERE scope=? AND next_at>?", (scope, after)
        )
        found: float | None = rows[0][0]
        return found


def _slices(names: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(names), SLICE):
        yield names[start : start + SLICE]
