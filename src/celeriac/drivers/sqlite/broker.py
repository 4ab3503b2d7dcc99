"""Queues in a SQLite file.

Owns: SQLiteBroker, SQLiteConsumer.  Thread rule: see `ports.broker`.
May import: kernel, ports.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, cast

import apsw

from celeriac.drivers.sqlite.db import Database, waits_for_room
from celeriac.drivers.sqlite.files import Alive, Doorbell, boot_id, boot_time, is_dead
from celeriac.drivers.sqlite.results import fill_slots, ring_after, write_records
from celeriac.kernel.message import (
    Buried,
    Delivery,
    Envelope,
    QueueCount,
    Settlement,
    Verdict,
)
from celeriac.ports.caps import Capabilities

READY, HELD, DELAYED = 0, 1, 2
TICK = 0.1
"""Seconds after which a waiting consumer looks for changes by itself (3 us): a ring may have gone
to one that died with it."""
PROMOTE = 500
"""Delayed messages made ready in one claim."""
GRACE_AFTER = 3.0
"""Seconds without upkeep after which hung holders are given time to renew (protocol, reaper grace)."""

Row = tuple[str, str, bytes, int, float, float, int]

_COLUMNS = "id, queue, body, priority, due, expires, attempt"
_INSERT = (
    "INSERT INTO message(id, queue, priority, state, due, expires, attempt, at, body)"
    " VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT(id) DO NOTHING"
)


def _envelope(row: Sequence[Any]) -> Envelope:
    task_id, queue, body, priority, due, expires, attempt = row[:7]
    return Envelope(task_id, queue, body, priority, due, expires, attempt)


def insert(cursor: apsw.Cursor, batch: Sequence[Envelope]) -> None:
    """Put envelopes into their queues; an id that is there already stays as it is."""
    now = time.time()
    cursor.executemany(
        _INSERT,
        [
            (
                e.id,
                e.queue,
                e.priority,
                DELAYED if e.not_before > now else READY,
                e.not_before,
                e.expires_at,
                e.attempt,
                now,
                e.body,
            )
            for e in batch
        ],
    )


class SQLiteBroker:
    """Queues in one file."""

    def __init__(self, db: Database, store: str) -> None:
        self._db = db
        self._declared: dict[str, None] = {}
        self.caps = Capabilities(
            lease="timed",
            delay="native",
            priorities=10,
            counts_deliveries=True,
            dedupes_ids=True,
            withdraws=True,
            peeks=True,
            settles_with=frozenset({store}),
            joins=False,
            wakes=True,
            max_body=1_000_000_000,
        )

    def open(self) -> None:
        """Open the file."""
        self._db.open()

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def declare(self, queues: Sequence[str]) -> None:
        """Remember the names, for `count`; a queue is where messages name it."""
        self._declared.update(dict.fromkeys(queues))

    def publish(self, batch: Sequence[Envelope]) -> None:
        """Write all envelopes, or none."""
        if not batch:
            return
        self._db.open()
        self._db.check_room()
        self._db.write(lambda cursor: insert(cursor, batch))
        self.ring(batch)

    def ring(self, batch: Sequence[Envelope]) -> None:
        """Wake those who wait for what was published."""
        if len(batch) == 1:
            self._db.ringer.queue(batch[0].queue, 1)
            return
        counts: dict[str, int] = {}
        for envelope in batch:
            counts[envelope.queue] = counts.get(envelope.queue, 0) + 1
        for queue, count in counts.items():
            self._db.ringer.queue(queue, count)

    def consume(self, queues: Sequence[str], *, owner: str, lease: float) -> SQLiteConsumer:
        """Return a consumer, registered as a holder."""
        return SQLiteConsumer(self, self._db, queues, owner=owner, lease=lease)

    def withdraw(self, ids: Sequence[str]) -> Sequence[str]:
        """Delete messages that nobody holds."""

        def work(cursor: apsw.Cursor) -> list[str]:
            found = []
            for task_id in ids:
                cursor.execute("DELETE FROM message WHERE id=? AND state<>1", (task_id,))
                if cursor.connection.changes():
                    found.append(task_id)
            return found

        return self._db.write(work)

    def count(self, queues: Sequence[str]) -> Mapping[str, QueueCount]:
        """Count the messages by state."""
        rows = self._db.read(
            "SELECT queue, sum(state=0), sum(state=2), sum(state=1),"
            " min(CASE WHEN state=0 THEN at END) FROM message GROUP BY queue"
        )
        now = time.time()
        found = {
            queue: QueueCount(ready, delayed, held, max(0.0, now - at) if at else 0.0)
            for queue, ready, delayed, held, at in rows
        }
        if not queues:
            return {**{queue: QueueCount() for queue in self._declared}, **found}
        return {queue: found.get(queue, QueueCount()) for queue in queues}

    def peek(self, queue: str, *, limit: int, after: str | None = None) -> Sequence[Envelope]:
        """List what waits: ready by priority and arrival, then delayed by time."""
        order = "ORDER BY state, CASE state WHEN 0 THEN -priority ELSE due END, seq"
        where = "queue=? AND state<>1"
        start = 0
        if after is not None:
            # The bodies are not read: they may be large, and most are not shown.
            ids = self._db.read(f"SELECT id FROM message WHERE {where} {order}", (queue,))
            start = next((i + 1 for i, (own,) in enumerate(ids) if own == after), len(ids))
        rows = self._db.read(
            f"SELECT {_COLUMNS} FROM message WHERE {where} {order} LIMIT ? OFFSET ?",
            (queue, limit, start),
        )
        return [_envelope(row) for row in rows]

    def purge(self, queue: str) -> int:
        """Delete what waits."""

        def work(cursor: apsw.Cursor) -> int:
            cursor.execute("DELETE FROM message WHERE queue=? AND state<>1", (queue,))
            return cursor.connection.changes()

        return self._db.write(work)

    # -- the buried -----------------------------------------------------------------------------

    def buried(self, *, limit: int, after: str | None = None) -> Sequence[Buried]:
        """List the buried, the oldest first."""
        rows = self._db.read(
            f"SELECT {_COLUMNS}, reason, at, handed_out FROM buried"
            " WHERE seq > coalesce((SELECT seq FROM buried WHERE id=?), 0) ORDER BY seq LIMIT ?",
            (after, limit),
        )
        return [Buried(_envelope(row), row[7], row[8], row[9]) for row in rows]

    def requeue(self, ids: Sequence[str]) -> Sequence[str]:
        """Move buried messages back, as if they had never been handed out."""

        def work(cursor: apsw.Cursor) -> list[Envelope]:
            found = []
            for task_id in ids:
                rows: list[Any] = cursor.execute(
                    f"DELETE FROM buried WHERE id=? RETURNING {_COLUMNS}", (task_id,)
                ).fetchall()
                found += [_envelope(row) for row in rows]
            insert(cursor, found)
            return found

        moved = self._db.write(work)
        if moved:
            self.ring(moved)
        return [envelope.id for envelope in moved]

    def drop(self, ids: Sequence[str]) -> Sequence[str]:
        """Delete buried messages."""

        def work(cursor: apsw.Cursor) -> list[str]:
            found = []
            for task_id in ids:
                cursor.execute("DELETE FROM buried WHERE id=?", (task_id,))
                if cursor.connection.changes():
                    found.append(task_id)
            return found

        return self._db.write(work)

    # -- upkeep ---------------------------------------------------------------------------------

    def upkeep(self, now: float) -> None:
        """Give back what dead and hung holders had, make due messages ready, empty the log."""
        boot, mono = boot_id(), boot_time()
        place = self._db.place
        holders = self._db.read("SELECT id, boot, lease_until FROM holder")
        dead = [h for h, their_boot, _ in holders if their_boot != boot or is_dead(place, h)]
        hung = [h for h, _, until in holders if until < mono and h not in dead]
        tick, tick_boot, grace = self._db.read("SELECT tick, boot, grace FROM upkeep")[0]
        due = self._db.read("SELECT 1 FROM message WHERE state=2 AND due<=? LIMIT 1", (now,))
        # The tick tells later upkeeps that somebody was watching; no more often than it must.
        stale = tick_boot != boot or mono - tick > GRACE_AFTER / 2
        if not (dead or hung or due or stale):
            return
        if hung and (tick_boot != boot or mono - tick > GRACE_AFTER):
            grace = mono + 10.0
        if mono < grace:
            hung = []

        def work(cursor: apsw.Cursor) -> list[str]:
            queues: list[str] = []
            for holder in dead:
                queues += _give_back(cursor, holder)
            for holder in hung:
                # Again, now that nobody can write: it may have renewed meanwhile.
                if cursor.execute(
                    "SELECT 1 FROM holder WHERE id=? AND lease_until<?", (holder, mono)
                ).fetchall():
                    queues += _give_back(cursor, holder)
            orphans: list[Any] = cursor.execute(
                "UPDATE message SET state=0, token=NULL, holder=NULL, lost=lost+1"
                " WHERE state=1 AND holder NOT IN (SELECT id FROM holder) RETURNING queue"
            ).fetchall()
            queues += [queue for (queue,) in orphans]
            queues += _promote(cursor, now)
            cursor.execute("UPDATE upkeep SET tick=?, boot=?, grace=?", (mono, boot, grace))
            return queues

        for queue in set(self._db.write(work)):
            self._db.ringer.queue(queue, 8)
        self._db.checkpoint()


def _give_back(cursor: apsw.Cursor, holder: int) -> list[str]:
    """Make what a holder had ready again, counted as lost; return the queues."""
    rows: list[Any] = cursor.execute(
        "UPDATE message SET state=0, token=NULL, holder=NULL, lost=lost+1"
        " WHERE state=1 AND holder=? RETURNING queue",
        (holder,),
    ).fetchall()
    cursor.execute("DELETE FROM holder WHERE id=?", (holder,))
    return list({queue for (queue,) in rows})


def _promote(cursor: apsw.Cursor, now: float) -> list[str]:
    rows: list[Any] = cursor.execute(
        "UPDATE message SET state=0 WHERE seq IN"
        " (SELECT seq FROM message WHERE state=2 AND due<=? ORDER BY due LIMIT ?) RETURNING queue",
        (now, PROMOTE),
    ).fetchall()
    return list({queue for (queue,) in rows})


class SQLiteConsumer:
    """One worker's hold on some queues of a file."""

    def __init__(
        self,
        broker: SQLiteBroker,
        db: Database,
        queues: Sequence[str],
        *,
        owner: str,
        lease: float,
    ) -> None:
        self._broker, self._db, self._owner, self._lease = broker, db, owner, lease
        self._closed = False
        self._woken = threading.Event()
        self._seen = -1
        self._next_due = float("inf")
        db.open()
        self._register()
        self._bell = Doorbell(())
        self._wanted = tuple(queues)
        self._listen(self._wanted)

    def _register(self) -> None:
        """Become a holder: the lock first, so that nobody takes this one for dead."""
        self._holder = random.getrandbits(62)
        self._alive = Alive(self._db.place, self._holder)
        row = (self._holder, self._owner, boot_id(), boot_time() + self._lease, os.getpid())
        self._db.write(
            lambda cursor: cursor.execute("INSERT INTO holder VALUES(?, ?, ?, ?, ?)", row)
        )

    def watch(self, queues: Sequence[str]) -> None:
        """Consume these queues from the next claim on."""
        self._wanted = tuple(queues)
        self.wake()

    def _listen(self, queues: tuple[str, ...]) -> None:
        """Make queries and doorbell for queues; by the thread that claims, which waits on it."""
        former, self._queues = self._bell, queues
        marks = ", ".join("?" * len(queues))
        where = f"queue IN ({marks}) AND state=0" if len(queues) != 1 else "queue=? AND state=0"
        pick = f"SELECT seq FROM message WHERE {where}"
        take = "UPDATE message SET state=1, token=?, holder=? WHERE seq IN ({}) RETURNING "
        take += f"{_COLUMNS}, lost, seq"
        order = "ORDER BY priority DESC, seq LIMIT ?"
        self._take_ready = take.format(f"{pick} AND lost=0 {order}")
        self._take_suspects = take.format(f"{pick} AND lost>0 {order}")
        self._probe = f"SELECT 1 FROM message WHERE {where} AND lost=0 LIMIT 1"
        self._probe_suspects = f"SELECT 1 FROM message WHERE {where} AND lost>0 LIMIT 1"
        self._bell = Doorbell(self._db.place.door(queue) for queue in queues)
        former.close()

    def wake(self) -> None:
        """End a waiting claim."""
        self._woken.set()
        self._bell.wake()

    # -- claiming -------------------------------------------------------------------------------

    def claim(self, limit: int, *, wait: float, suspects: int = 1) -> Sequence[Delivery]:
        """Take envelopes under this holder's lease."""
        ends = time.monotonic() + wait
        while True:
            if self._wanted is not self._queues:
                self._listen(self._wanted)
            if limit <= 0 or not self._queues:
                return ()
            if self._anything(suspects):
                batch = self._take(limit, suspects)
                if batch:
                    if len(batch) >= limit:
                        # There may be more than this worker took: pass the ring on.
                        for queue in self._queues:
                            self._db.ringer.queue(queue, 1)
                    return batch
            left = ends - time.monotonic()
            if left <= 0 or self._closed or self._woken.is_set():
                self._woken.clear()
                return ()
            self._sleep(left)

    def _anything(self, suspects: int) -> bool:
        """Look without a lock whether there is something to take."""
        read = self._db.read
        self._seen = self._db.data_version()
        if read(self._probe, self._queues):
            return True
        if suspects and read(self._probe_suspects, self._queues):
            return True
        now = time.time()
        due = read("SELECT min(due) FROM message WHERE state=2")[0][0]
        self._next_due = due - now if due is not None else float("inf")
        return self._next_due <= 0

    def _sleep(self, left: float) -> None:
        """Wait for a ring, for the next due message, or for somebody's write that did not ring."""
        while left > 0 and not self._woken.is_set():
            step = min(left, TICK, max(0.0, self._next_due))
            begun = time.monotonic()
            self._bell.wait(step + 0.0005 if step == self._next_due else step)
            passed = time.monotonic() - begun
            left -= passed
            self._next_due -= passed
            if passed < step or self._next_due <= 0 or self._db.data_version() != self._seen:
                return

    def _take(self, limit: int, suspects: int) -> list[Delivery]:
        token = random.getrandbits(62)
        now = time.time()
        queues, holder = self._queues, self._holder

        def work(cursor: apsw.Cursor) -> list[Any]:
            # Also while there is other work: what has become due must not wait until that is done.
            _promote(cursor, now)
            self._holds(cursor)
            rows: list[Any] = []
            if suspects:
                # First, or they would wait behind any backlog for ever.
                most = min(suspects, limit)
                rows = cursor.execute(
                    self._take_suspects, (token, holder, *queues, most)
                ).fetchall()
            if len(rows) < limit:
                rows += cursor.execute(
                    self._take_ready, (token, holder, *queues, limit - len(rows))
                ).fetchall()
            return rows

        until = time.monotonic() + self._lease
        rows = self._db.write(work)
        rows.sort(key=lambda row: (-row[3], row[8]))
        return [Delivery(_envelope(row), (token, row[8]), until, row[7] + 1) for row in rows]

    def _holds(self, cursor: apsw.Cursor) -> bool:
        """Check that this holder was not given up; if it was, be a new one of the same name."""
        row = cursor.execute("SELECT 1 FROM holder WHERE id=?", (self._holder,)).fetchall()
        if row:
            return True
        values = (self._holder, self._owner, boot_id(), boot_time() + self._lease, os.getpid())
        cursor.execute("INSERT INTO holder VALUES(?, ?, ?, ?, ?)", values)
        return False

    # -- settling -------------------------------------------------------------------------------

    def settle(self, batch: Sequence[Settlement]) -> Sequence[Delivery]:
        """End deliveries, each with its record, part and follow-ups, in one transaction."""
        if not batch:
            return ()
        with waits_for_room():
            lost, rings, final = self._db.write(lambda cursor: self._settle(cursor, batch))
        for queue in rings:
            self._db.ringer.queue(queue, 8)
        if final:
            ring_after(self._db)
        return lost

    def _settle(
        self, cursor: apsw.Cursor, batch: Sequence[Settlement]
    ) -> tuple[list[Delivery], set[str], bool]:
        # The usual end first, all in one statement: 3 us a message instead of 6.
        done = [s for s in batch if s.verdict is Verdict.ACK]
        lost: list[Delivery] = []
        ours: list[Settlement] = []
        rings: set[str] = set()
        execute = cursor.execute
        for settlement in done:
            token, seq = cast("tuple[int, int]", settlement.delivery.receipt)
            rows: list[Any] = execute(
                "DELETE FROM message WHERE seq=? AND token=? AND state=1 RETURNING 1", (seq, token)
            ).fetchall()
            if rows:
                ours.append(settlement)
            else:
                lost.append(settlement.delivery)
        for settlement in batch:
            if settlement.verdict is not Verdict.ACK:
                queue = self._end(cursor, settlement)
                if queue is None:
                    lost.append(settlement.delivery)
                else:
                    ours.append(settlement)
                    rings.add(queue)
        records = [s.record for s in ours if s.record is not None]
        final = write_records(cursor, records) if records else False
        parts = [s.part for s in ours if s.part is not None]
        follow_ups = [envelope for s in ours for envelope in s.publish]
        if parts:
            ready = fill_slots(cursor, parts)
            follow_ups += [group.envelope for group in ready]
            cursor.executemany(
                "UPDATE chord SET sent=1 WHERE id=?", [(group.group,) for group in ready]
            )
        if follow_ups:
            insert(cursor, follow_ups)
            rings |= {envelope.queue for envelope in follow_ups}
        return lost, rings, final

    def _end(self, cursor: apsw.Cursor, settlement: Settlement) -> str | None:
        """Carry out any verdict but ACK; return the queue to ring, None where it is not ours."""
        token, seq = cast("tuple[int, int]", settlement.delivery.receipt)
        mine = "WHERE seq=? AND token=? AND state=1"
        verdict, envelope = settlement.verdict, settlement.delivery.envelope
        if verdict is Verdict.RETRY:
            again = settlement.again or envelope
            state = DELAYED if again.not_before > time.time() else READY
            # A new row, behind what waits: a retry must not overtake those that came before it.
            rows: list[Any] = cursor.execute(
                f"DELETE FROM message {mine} RETURNING 1", (seq, token)
            ).fetchall()
            if not rows:
                return None
            values = (again.id, again.queue, again.priority, state, again.not_before)
            cursor.execute(
                _INSERT, (*values, again.expires_at, again.attempt, time.time(), again.body)
            )
            return again.queue
        if verdict is Verdict.BURY:
            rows = cursor.execute(
                f"DELETE FROM message {mine} RETURNING 1", (seq, token)
            ).fetchall()
            if not rows:
                return None
            cursor.execute(
                "INSERT OR REPLACE INTO buried(id, queue, priority, due, expires, attempt,"
                " handed_out, at, reason, body) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    envelope.id,
                    envelope.queue,
                    envelope.priority,
                    envelope.not_before,
                    envelope.expires_at,
                    envelope.attempt,
                    settlement.delivery.handed_out,
                    time.time(),
                    settlement.reason,
                    envelope.body,
                ),
            )
            return envelope.queue
        counted = "lost=lost+1" if verdict is Verdict.LOST else "lost=lost"
        rows = cursor.execute(
            f"UPDATE message SET state=0, token=NULL, holder=NULL, {counted} {mine} RETURNING 1",
            (seq, token),
        ).fetchall()
        return envelope.queue if rows else None

    # -- the lease ------------------------------------------------------------------------------

    def extend(self, held: Sequence[Delivery], *, lease: float) -> Sequence[Delivery]:
        """Renew this holder's one row, and look which deliveries are still its own."""
        holder = self._holder

        def work(cursor: apsw.Cursor) -> set[tuple[int, int]]:
            self._holds(cursor)
            cursor.execute(
                "UPDATE holder SET lease_until=? WHERE id=?", (boot_time() + lease, holder)
            )
            rows = cursor.execute(
                "SELECT token, seq FROM message WHERE state=1 AND holder=?", (holder,)
            )
            return {(token, seq) for token, seq in rows}

        until = time.monotonic() + lease
        with waits_for_room():
            own = self._db.write(work)
        lost = []
        for delivery in held:
            if delivery.receipt in own:
                delivery.lease_until = until
            else:
                lost.append(delivery)
        return lost

    def close(self) -> None:
        """Give up the hold."""
        if self._closed:
            return
        self._closed = True
        self.wake()
        try:
            queues = self._db.write(lambda cursor: _give_back(cursor, self._holder))
            for queue in queues:
                self._db.ringer.queue(queue, 8)
        finally:
            # Whoever finds it unlocked gives back what could not be given back here.
            self._alive.close()
            self._bell.close()
