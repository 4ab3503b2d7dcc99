"""The bus in a SQLite file: a short memory of what was said, and FIFOs that wake the listeners.

Owns: SQLiteBus, SQLiteSubscription.  Thread rule: see `ports.bus`.  May import: kernel, ports.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Sequence

import apsw

from celeriac.drivers.sqlite.db import Database
from celeriac.drivers.sqlite.files import Doorbell
from celeriac.kernel.events import TOPIC as EVENTS

KEPT_FOR = 60.0
"""Seconds that a message is remembered."""
KEPT = 10_000
"""Messages that are remembered at the most."""
EVENTS_KEPT_FOR = 5.0
"""Seconds that messages of events are remembered."""
LISTENS = ".events"
"""How the name of a listener to events ends, in the folder of those who wait."""
LOOK = 0.5
"""Seconds after which a listener looks for changes by itself."""


class SQLiteBus:
    """Fan-out between the processes that share a file."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def send(self, topic: str, batch: Sequence[bytes]) -> None:
        """Say something on a topic."""
        now = time.time()

        def work(cursor: apsw.Cursor) -> None:
            cursor.executemany(
                "INSERT INTO news(topic, at, body) VALUES(?, ?, ?)",
                [(topic, now, body) for body in batch],
            )
            cursor.execute(
                "DELETE FROM news WHERE at < ? OR seq <= (SELECT max(seq) FROM news) - ?",
                (now - KEPT_FOR, KEPT),
            )
            if topic == EVENTS:
                # A thousand events are one message: a minute of them would be gigabytes.
                cursor.execute(
                    "DELETE FROM news WHERE topic = ? AND at < ?", (topic, now - EVENTS_KEPT_FOR)
                )

        if batch and self.heard(topic):
            self._db.write(work)
            self._db.ringer.waiters()

    def heard(self, topic: str) -> bool:
        """Tell whether somebody listens to events: many megabytes that nobody would read otherwise."""
        if topic != EVENTS:
            return True
        self._db.open()
        try:
            # Looked at each time, ten times a second: what was remembered may be old.
            return any(name.endswith(LISTENS) for name in os.listdir(self._db.place.waiters))
        except OSError:
            return True

    def subscribe(self, topics: Sequence[str]) -> SQLiteSubscription:
        """Listen to topics from now on."""
        return SQLiteSubscription(self._db, topics)


class SQLiteSubscription:
    """One listener."""

    def __init__(self, db: Database, topics: Sequence[str]) -> None:
        self._db, self._topics = db, tuple(topics)
        db.open()
        # Its name says so before the first row is looked for: what is said from now on is written.
        mark = LISTENS if EVENTS in self._topics else ""
        self._path = db.place.waiters / f"{os.getpid()}-{uuid.uuid4().hex}{mark}"
        self._bell = Doorbell.own(self._path)
        marks = ",".join("?" * len(self._topics))
        self._query = (
            f"SELECT seq, topic, body FROM news WHERE seq > ? AND topic IN ({marks}) ORDER BY seq"
        )
        # The sequence itself, not the newest row: rows are deleted, numbers never come again.
        rows = db.read("SELECT seq FROM sqlite_sequence WHERE name='news'")
        self._seen: int = rows[0][0] if rows else 0

    def poll(self, wait: float) -> Sequence[tuple[str, bytes]]:
        """Return what was said since the last poll."""
        ends = time.monotonic() + wait
        while True:
            rows = self._db.read(self._query, (self._seen, *self._topics))
            if rows:
                self._seen = rows[-1][0]
                return [(topic, body) for _, topic, body in rows]
            left = ends - time.monotonic()
            if left <= 0 or self._bell.wait(min(left, LOOK)):
                return []

    def wake(self) -> None:
        """End a waiting poll."""
        self._bell.wake()

    def close(self) -> None:
        """Stop listening."""
        self._path.unlink(missing_ok=True)
        self._bell.close()
