"""Sends what is due: the entries of code and store, tick by tick, so that none is sent twice or missed.

A tick is sent and noted in one step where store and broker are one; any number of beats may try,
and the first wins.  Where they are not, a beat claims a tick, publishes it and notes it; one that
was claimed by a beat which died then is looked up in the results first.

Owns: Ticker.  Thread rule: one thread.  May import: kernel, ports, client, beat.
"""

from __future__ import annotations

import datetime as dt
import logging
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from celeriac.beat.entries import Item, code_of, decode, encode
from celeriac.beat.ticks import Owed, owed, tick_id
from celeriac.kernel.errors import BrokerRejected, BrokerUnavailable, CeleryError
from celeriac.kernel.message import Envelope
from celeriac.ports.schedules import Entry, ScheduleStore, Tick

if TYPE_CHECKING:
    from celeriac.client.app import Celeriac

logger = logging.getLogger("celeriac.beat")

LIMIT = 200
"""Entries that are sent in one step."""
LEASE = 30.0
"""Seconds for which a tick is claimed where it cannot be sent and noted in one step."""


class Ticker:
    """The entries of one program, and what sends them.

    :param items: those that the program itself has.
    :param store: where all entries are.
    :param joined: whether the store publishes to the app's broker.
    """

    def __init__(
        self,
        app: Celeriac,
        scope: str,
        items: Mapping[str, Item],
        store: ScheduleStore,
        *,
        joined: bool,
    ) -> None:
        self.app, self.scope, self._items, self._store = app, scope, dict(items), store
        self._joined = joined
        self._owner = f"{socket.gethostname()}:{os.getpid()}:{id(self)}"
        self._read: dict[str, tuple[bytes, Item | None]] = {}
        self._skipped: set[str] = set()

    # -- code and store -------------------------------------------------------------------------

    def sync(self) -> None:
        """Bring the program's own entries into the store, and out those that it has no more."""
        for _ in range(10):
            if not self._synced():
                return
        logger.warning("other beats keep changing the entries: some are not stored")

    def _synced(self) -> Sequence[str]:
        now = self.app.clock.time()
        stored = {entry.name: entry for entry in self._store.entries(self.scope)}
        put = []
        for name, item in self._items.items():
            entry = self._updated(item, stored.get(name), now)
            if entry is not None:
                put.append(entry)
        gone = [e.name for e in stored.values() if e.from_code and e.name not in self._items]
        if gone:
            logger.info("entries that the program has no more: %s", ", ".join(gone))
            self._store.remove(self.scope, gone)
        return self._store.put(self.scope, put) if put else ()

    def _updated(self, item: Item, old: Entry | None, now: float) -> Entry | None:
        """Return how an entry of the program must be stored; None where it is stored so."""
        spec = encode(item, self.app, from_code=True)
        if old is None:
            return Entry(item.name, spec, first_tick(item, now), from_code=True)
        if not old.from_code:
            logger.warning(
                "the entry %r is in the store, made by hand: the program's own is left out",
                item.name,
            )
            return None
        digest, form = code_of(spec)
        old_digest, old_form = code_of(old.spec)
        if digest == old_digest:
            return None  # as it was, or edited since: the edit stays until the code changes
        next_at = old.next_at
        if form != old_form or next_at is None:
            next_at = first_tick(item, now)
        return replace(old, spec=spec, next_at=None if old.paused else next_at)

    def upcoming(self) -> list[tuple[Item, float]]:
        """Return every item and its next tick, as they are after a `sync`; write nothing."""
        now = self.app.clock.time()
        stored = {entry.name: entry for entry in self._store.entries(self.scope)}
        entries = {e.name: e for e in stored.values() if not e.from_code}
        for name, own in self._items.items():
            entries[name] = self._updated(own, stored.get(name), now) or stored[name]
        return [
            (item, entry.next_at)
            for entry in entries.values()
            if entry.next_at is not None and (item := self._item(entry)) is not None
        ]

    def _item(self, entry: Entry) -> Item | None:
        """Return what can be run of an entry; None, and a line in the log, where nothing can."""
        read = self._read.get(entry.name)
        if read is not None and read[0] == entry.spec:
            return read[1]
        item: Item | None = None
        try:
            own = self._items.get(entry.name)
            if own is not None and encode(own, self.app, from_code=True) == entry.spec:
                item = own
            else:
                item = decode(entry.name, entry.spec, self.app)
        except CeleryError as error:
            logger.error("%s", error)
        self._read[entry.name] = entry.spec, item
        return item

    # -- ticks ----------------------------------------------------------------------------------

    def tick(self) -> float | None:
        """Send all that is due; return when to come again, in unix seconds; None for never.

        :raises BrokerUnavailable: store or broker are away: nothing that was due is lost.
        """
        while True:
            now = self.app.clock.time()
            entries = self._due(now)
            ready = [(entry, item) for entry in entries if (item := self._item(entry)) is not None]
            # What cannot be run here stays first in line: it must not keep the others out.
            self._skipped = {e.name for e in entries} - {e.name for e, _ in ready}
            if not ready:
                return self._store.next_at(self.scope, now)
            self._send([self._tick(entry, item, now) for entry, item in ready])

    def _due(self, now: float) -> Sequence[Entry]:
        limit = LIMIT + len(self._skipped)
        if self._joined:
            return self._store.due(self.scope, now, limit=limit)
        return self._store.due(self.scope, now, limit=limit, owner=self._owner, lease=LEASE)

    def _tick(self, entry: Entry, item: Item, now: float) -> Tick:
        assert entry.next_at is not None
        try:
            if item.schedule.asked:
                due = self._asked(entry, item, now)
            else:
                due = owed(item.schedule, entry.next_at, now, item.misfire, item.grace)
        except Exception:  # a schedule of the user's own may raise anything
            logger.exception("the schedule of %r failed: it is asked again in a minute", item.name)
            due = Owed((), now + 60)
        if due.next_at is None:
            logger.warning("the entry %r never comes again", item.name)
        envelopes: list[Envelope] = []
        for at in due.ticks:
            envelopes += self._envelopes(item, at)
        if due.ticks and due.ticks[0] < now - max(1.0, item.grace):
            logger.warning("%s was due %.0f s ago and runs now", item.name, now - due.ticks[0])
        elif not due.ticks and not item.schedule.asked:
            logger.warning("%s was missed and is skipped", item.name)
        last = due.ticks[-1] if due.ticks else entry.last_at
        return Tick(entry.name, entry.version, due.next_at, last, len(envelopes), tuple(envelopes))

    def _asked(self, entry: Entry, item: Item, now: float) -> Owed:
        """Ask the user's own `is_due`."""
        assert entry.next_at is not None
        last = dt.datetime.fromtimestamp(entry.last_at or entry.next_at, item.schedule.tz)
        is_due, seconds = item.schedule.is_due(last)
        again = now + max(0.001, seconds) if seconds is not None else now + 5
        return Owed((now,) if is_due else (), again)

    def _envelopes(self, item: Item, at: float) -> Sequence[Envelope]:
        """Return the messages of one tick; none, and a line in the log, where that fails."""
        app = self.app
        task_id = tick_id(self.scope, item.name, at)
        when = dt.datetime.fromtimestamp(at, dt.UTC).isoformat()
        options = dict(item.options)
        options["headers"] = {
            **(options.get("headers") or {}),
            "periodic_task_name": item.name,
            "scheduled_for": when,
        }
        try:
            args, kwargs = item.arguments()
            collected = app.collected()
            with collected:
                task = app.tasks.get(item.task)
                if task is not None:
                    task.apply_async(args, kwargs, task_id=task_id, **options)
                else:
                    app.send_task(item.task, args, kwargs, task_id=task_id, **options)
        except Exception:  # arguments, options and `apply_async` are the user's
            logger.exception("the tick of %r at %s cannot be sent", item.name, when)
            return ()
        return collected.envelopes

    # -- sending --------------------------------------------------------------------------------

    def _send(self, ticks: Sequence[Tick]) -> None:
        try:
            moved = self._step(ticks)
        except BrokerUnavailable:
            raise
        except BrokerRejected as error:
            if len(ticks) > 1:  # one of them: the others go
                for tick in ticks:
                    self._send([tick])
                return
            logger.error("the tick of %r is refused and skipped: %s", ticks[0].name, error)
            moved = self._store.sent(self.scope, [replace(ticks[0], envelopes=(), runs=0)])
        if logger.isEnabledFor(logging.INFO):
            names = set(moved)
            for tick in ticks:
                for envelope in tick.envelopes if tick.name in names else ():
                    logger.info("Scheduler: Sending due task %s (%s)", tick.name, envelope.id)

    def _step(self, ticks: Sequence[Tick]) -> Sequence[str]:
        if self._joined:
            return self._store.sent(self.scope, ticks)
        envelopes = [envelope for tick in ticks for envelope in tick.envelopes]
        if envelopes:
            self.app.send_envelopes(self._unknown(envelopes))
        return self._store.sent(self.scope, [replace(tick, envelopes=()) for tick in ticks])

    def _unknown(self, envelopes: Sequence[Envelope]) -> Sequence[Envelope]:
        """Return those that no result tells of: a beat that died may have published the others."""
        if not self.app.keeps_results:
            return envelopes
        known = self.app.results.fetch([envelope.id for envelope in envelopes])
        return [envelope for envelope in envelopes if envelope.id not in known]


def first_tick(item: Item, now: float) -> float | None:
    """Return the first tick of an entry that is new."""
    if item.schedule.asked:
        return now
    return item.schedule.next_after(now)
