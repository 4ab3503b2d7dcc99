"""Task states and chord counts in a SQLite file.

Owns: SQLiteResults, SQLiteWatch.  Thread rule: see `ports.results`.  May import: kernel, ports.
"""

from __future__ import annotations

import json
import os
import threading
import time
import uuid
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import apsw

from celeriac.drivers.sqlite.db import Database, waits_for_room
from celeriac.drivers.sqlite.files import Doorbell
from celeriac.kernel.message import Envelope, Group, Part, Ready, Record
from celeriac.kernel.states import READY_STATES, SUCCESS
from celeriac.ports.caps import Capabilities

SLICE = 500
"""Ids in one query, slots in one reading, and rows in one deletion."""
GROWN = "GROWN"
"""The state of a record that says which slot a group got by a call that may be repeated."""
LOOK = 0.5
"""Seconds after which a waiter looks for changes by itself."""

_STORE = (
    "INSERT INTO result(id, state, final, attempt, handed_out, expires, body)"
    " VALUES(?, ?, ?, ?, ?, ?, ?) ON CONFLICT(id) DO UPDATE SET state=excluded.state,"
    " final=excluded.final, attempt=excluded.attempt, handed_out=excluded.handed_out,"
    " expires=excluded.expires, body=excluded.body"
    " WHERE (final=0 AND (excluded.attempt, excluded.handed_out) >= (attempt, handed_out))"
    " OR (expires > 0 AND expires <= ?)"
)


def write_records(cursor: apsw.Cursor, records: Sequence[Record]) -> bool:
    """Write records by the rule of `Record`; return whether one of them is final."""
    now = time.time()
    cursor.executemany(
        _STORE,
        [
            (
                r.id,
                r.state,
                r.state in READY_STATES,
                r.fence[0],
                r.fence[1],
                r.expires_at,
                r.body,
                now,
            )
            for r in records
        ],
    )
    return any(record.state in READY_STATES for record in records)


def fill_slots(cursor: apsw.Cursor, parts: Sequence[Part]) -> list[Ready]:
    """Fill each part's slot once; return the complete groups that are not marked sent."""
    for part in parts:
        record = part.record
        cursor.execute(
            "INSERT INTO part SELECT id, ?, ?, ?, ?, ?, ?, ? FROM chord WHERE id=?"
            " ON CONFLICT DO NOTHING",
            (
                part.index,
                record.id,
                record.state,
                record.fence[0],
                record.fence[1],
                record.expires_at,
                record.body,
                part.group,
            ),
        )
    ready = []
    for group in {part.group: None for part in parts}:
        rows: list[Any] = cursor.execute(
            "SELECT body, on_error, size, (SELECT count(*) FROM part WHERE chord=?1),"
            " EXISTS(SELECT 1 FROM part WHERE chord=?1 AND state<>?2)"
            " FROM chord WHERE id=?1 AND sent=0",
            (group, SUCCESS),
        ).fetchall()
        for body, on_error, size, filled, failed in rows:
            if filled >= size:
                ready.append(Ready(group, _load(on_error if failed else body)))
    return ready


def ring_after(db: Database) -> None:
    """Wake those who wait for results."""
    db.ringer.waiters()


def _dump(envelope: Envelope) -> bytes:
    return json.dumps({**asdict(envelope), "body": b64encode(envelope.body).decode()}).encode()


def _load(data: bytes) -> Envelope:
    values = json.loads(data)
    return Envelope(**{**values, "body": b64decode(values["body"])})


def _slices(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), SLICE):
        yield ids[start : start + SLICE]


class SQLiteResults:
    """The result store of one file."""

    def __init__(self, db: Database, name: str, caps: Capabilities) -> None:
        self._db, self.name, self.caps = db, name, caps

    def open(self) -> None:
        """Open the file."""
        self._db.open()

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def store(self, batch: Sequence[Record]) -> None:
        """Write records."""
        with waits_for_room():
            final: bool = bool(batch) and self._db.write(
                lambda cursor: write_records(cursor, batch)
            )
        if final:
            ring_after(self._db)

    def fetch(self, ids: Sequence[str]) -> Mapping[str, Record]:
        """Read records."""
        found: dict[str, Record] = {}
        now = time.time()
        for some in _slices(ids):
            marks = ",".join("?" * len(some))
            for row in self._db.read(
                "SELECT id, state, body, attempt, handed_out, expires FROM result"
                f" WHERE id IN ({marks}) AND (expires=0 OR expires>?)",
                (*some, now),
            ):
                found[row[0]] = Record(row[0], row[1], row[2], (row[3], row[4]), row[5])
        return found

    def watch(self) -> SQLiteWatch:
        """Return a new watch."""
        return SQLiteWatch(self, self._db)

    def forget(self, ids: Sequence[str]) -> None:
        """Delete records."""
        if ids:
            self._db.write(
                lambda cursor: cursor.executemany(
                    "DELETE FROM result WHERE id=?", [(task_id,) for task_id in ids]
                )
            )

    def open_group(self, group: Group) -> None:
        """Begin to count."""
        row = (group.id, group.size, group.expires_at, _dump(group.body), _dump(group.on_error))
        self._db.write(
            lambda cursor: cursor.execute(
                "INSERT INTO chord(id, size, expires, body, on_error) VALUES(?, ?, ?, ?, ?)"
                " ON CONFLICT DO NOTHING",
                row,
            )
        )

    def grow_group(self, group: str, by: int, *, once: str = "") -> int:
        """Add slots."""

        def work(cursor: apsw.Cursor) -> int:
            rows: list[Any] = cursor.execute(
                "SELECT size, expires FROM chord WHERE id=? AND sent=0", (group,)
            ).fetchall()
            if not rows:
                return -1
            size, expires = rows[0]
            if once:
                # A record of its own, which is kept as long as the group.
                name = f"{group}/{once}"
                known: list[Any] = cursor.execute(
                    "SELECT body FROM result WHERE id=?", (name,)
                ).fetchall()
                if known:
                    return int(known[0][0])
                write_records(cursor, [Record(name, GROWN, b"%d" % size, expires_at=expires)])
            cursor.execute("UPDATE chord SET size=size+? WHERE id=?", (by, group))
            return int(size)

        return self._db.write(work)

    def close_parts(self, parts: Sequence[Part]) -> Sequence[Ready]:
        """Fill slots."""
        return self._db.write(lambda cursor: fill_slots(cursor, parts)) if parts else ()

    def parts(self, group: str) -> Iterator[Record]:
        """Read the filled slots, some at a time."""
        last = -1
        while True:
            rows = self._db.read(
                "SELECT id, state, body, attempt, handed_out, expires, slot FROM part"
                " WHERE chord=? AND slot>? ORDER BY slot LIMIT ?",
                (group, last, SLICE),
            )
            for row in rows:
                yield Record(row[0], row[1], row[2], (row[3], row[4]), row[5])
            if len(rows) < SLICE:
                return
            last = rows[-1][6]

    def mark_sent(self, groups: Sequence[str]) -> None:
        """Note that follow-ups were published."""
        self._db.write(
            lambda cursor: cursor.executemany(
                "UPDATE chord SET sent=1 WHERE id=?", [(group,) for group in groups]
            )
        )

    def expire(self, before: float, *, limit: int) -> int:
        """Delete what expired, in one slice."""
        if not self._db.read(
            "SELECT 1 FROM result WHERE expires>0 AND expires<?1 UNION ALL"
            " SELECT 1 FROM chord WHERE expires>0 AND expires<?1 LIMIT 1",
            (before,),
        ):
            return 0

        def work(cursor: apsw.Cursor) -> int:
            cursor.execute(
                "DELETE FROM result WHERE id IN"
                " (SELECT id FROM result WHERE expires>0 AND expires<? LIMIT ?)",
                (before, limit),
            )
            count: int = cursor.connection.changes()
            gone = cursor.execute(
                "DELETE FROM chord WHERE id IN (SELECT id FROM chord WHERE expires>0 AND expires<?"
                " LIMIT ?) RETURNING id",
                (before, limit - count),
            ).fetchall()
            cursor.executemany("DELETE FROM part WHERE chord=?", gone)
            return count + len(gone)

        return self._db.write(work)


class SQLiteWatch:
    """Waits on a FIFO of its own, which whoever stores a final record rings."""

    def __init__(self, results: SQLiteResults, db: Database) -> None:
        self._results, self._db = results, db
        db.open()
        self._path = db.place.waiters / f"{os.getpid()}-{uuid.uuid4().hex}"
        self._bell = Doorbell.own(self._path)
        self._lock = threading.Lock()
        self._ids: dict[str, None] = {}
        self._new: list[str] = []

    def add(self, ids: Sequence[str]) -> None:
        """Watch these too."""
        with self._lock:
            self._ids.update(dict.fromkeys(ids))
            self._new.extend(ids)
        self._bell.wake()

    def discard(self, ids: Sequence[str]) -> None:
        """Watch these no longer."""
        with self._lock:
            for task_id in ids:
                self._ids.pop(task_id, None)

    def poll(self, wait: float) -> Mapping[str, Record]:
        """Wait for final records."""
        ends = time.monotonic() + wait
        version = self._db.data_version()
        with self._lock:
            self._new = []
            look = list(self._ids)
        found = self._final(look)
        while not found and (left := ends - time.monotonic()) > 0:
            self._bell.wait(min(left, LOOK))
            now = self._db.data_version()
            with self._lock:
                new, self._new = self._new, []
                look = list(self._ids) if now != version else new
            version = now
            found = self._final(look)
            if new:
                break
        return found

    def _final(self, ids: Sequence[str]) -> dict[str, Record]:
        if not ids:
            return {}
        found = {
            task_id: record
            for task_id, record in self._results.fetch(ids).items()
            if record.state in READY_STATES
        }
        with self._lock:
            for task_id in found:
                self._ids.pop(task_id, None)
        return found

    def close(self) -> None:
        """Let go of the FIFO."""
        self._path.unlink(missing_ok=True)
        self._bell.close()
