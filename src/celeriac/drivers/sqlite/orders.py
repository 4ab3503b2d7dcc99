"""Standing orders in a SQLite file.

Owns: SQLiteOrders.  Thread rule: any thread.  May import: kernel, ports, drivers.sqlite.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import apsw

from celeriac.drivers.sqlite.db import Database
from celeriac.ports.orders import KEPT, Order

_TABLE = """
CREATE TABLE IF NOT EXISTS standing(
    seq INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL,
    expires REAL NOT NULL, UNIQUE(kind, key));
CREATE INDEX IF NOT EXISTS standing_expiry ON standing(expires) WHERE expires > 0;
"""
"""Made with the first order, not with the file: files of an older release have none."""


class SQLiteOrders:
    """The orders of one file."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._there = False

    def give(self, orders: Sequence[Order]) -> None:
        """Write orders; those that have expired, or are too many, make room."""
        rows = [(order.kind, order.key, order.value, order.expires_at) for order in orders]

        def work(cursor: apsw.Cursor) -> None:
            cursor.execute(_TABLE)
            cursor.executemany(
                "INSERT OR REPLACE INTO standing(kind, key, value, expires) VALUES(?, ?, ?, ?)",
                rows,
            )
            cursor.execute(
                "DELETE FROM standing WHERE expires > 0 AND expires <= ?", (time.time(),)
            )
            cursor.execute(
                "DELETE FROM standing WHERE seq IN (SELECT seq FROM standing WHERE expires > 0"
                " ORDER BY expires DESC, seq DESC LIMIT -1 OFFSET ?)",
                (KEPT,),
            )

        if rows:
            self._db.write(work)

    def since(self, mark: int) -> tuple[int, Sequence[Order]]:
        """Return what was given after `mark`."""
        self._db.open()
        if not self._there:
            found = self._db.read("SELECT 1 FROM sqlite_schema WHERE name='standing'")
            self._there = bool(found)
            if not found:
                return mark, ()
        rows = self._db.read(
            "SELECT seq, kind, key, value, expires FROM standing WHERE seq > ? ORDER BY seq",
            (mark,),
        )
        now = time.time()
        orders = [Order(*row[1:]) for row in rows if not 0 < row[4] <= now]
        return (rows[-1][0] if rows else mark), orders
