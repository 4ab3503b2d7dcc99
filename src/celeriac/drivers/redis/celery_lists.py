"""Takes messages from the lists of a Celery fleet, with the safety of celeriac's own queues.

Each step is one script, so that a kill between any two loses nothing.  What is held stands among
Celery's unacknowledged too, under the time at which the lease ends: no Celery worker takes it before,
whatever its visibility timeout, and were every celeriac worker gone for good, Celery would take it
then.

Owns: CeleryLists, Tag, upkeep, count, peek, purge.  Thread rule: as `ports.broker.Consumer`.
May import: kernel, ports, drivers.redis.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from celeriac.drivers.redis.celery_chords import Chord, chord_of, outcome, part_of
from celeriac.drivers.redis.connection import Server
from celeriac.drivers.redis.fields import fields
from celeriac.drivers.redis.keys import Keys
from celeriac.drivers.redis.kombu import Layout, decode, encode
from celeriac.drivers.redis.message import burial_head, pack
from celeriac.drivers.redis.records import part_fields, record_fields
from celeriac.drivers.redis.script import (
    CELERY_CHORD_END,
    CELERY_CHORD_PART,
    CELERY_CLAIM,
    CELERY_COUNT,
    CELERY_EXTEND,
    CELERY_GIVE_BACK,
    CELERY_PURGE,
    CELERY_SETTLE,
    CELERY_UPKEEP,
)
from celeriac.kernel.errors import BrokerRejected, WireError
from celeriac.kernel.message import Delivery, Envelope, QueueCount, Settlement, Verdict
from celeriac.kernel.redact import bounded_repr

logger = logging.getLogger("celeriac.worker")

MOST = 1_000
"""Messages in one claim: about 10 ms of the server's time."""
SLICE = 200
"""Messages in one look at what waits."""
_LETTERS = {
    Verdict.ACK: "A",
    Verdict.RETRY: "R",
    Verdict.RELEASE: "L",
    Verdict.LOST: "X",
    Verdict.BURY: "B",
}


class Tag(str):
    """The receipt of a message from one of Celery's lists: new for each time it is claimed."""

    __slots__ = ()


class CeleryLists:
    """One holder's hold on the lists of some queues.

    :param holder: the name of the holder; another for each consumer.
    :param lease: seconds that a claim lasts unless it is extended.
    """

    def __init__(
        self, server: Server, keys: Keys, layout: Layout, *, holder: str, lease: float
    ) -> None:
        self._server, self._keys, self.layout = server, keys, layout
        self._lease = lease
        self._head = (keys.prefix, holder, layout.unacked, layout.index)
        self.unsure = ""
        """The token of a claim whose messages may not have been seen."""
        self._in_flight = ""
        """The token of a claim that the server is asked for just now."""
        self._handing = threading.Lock()
        """Held while what was taken for a stray is asked for again, or given back."""
        self._strays: set[str] = set()
        """Tags that are held and that nobody here knows of."""
        self._taken = False
        """Whether something may be held."""
        self.known: frozenset[str] = frozenset()
        """The queues that Celery knows too, as the last claim saw them."""
        self.due = float("inf")
        """`time.monotonic()` at which something becomes due."""

    def _run(self, script: Any, *args: Any) -> Any:
        return self._server.run(script, self._keys.messages, (*self._head, *args))

    # -- claiming -------------------------------------------------------------------------------

    def claim(self, queues: Sequence[str], limit: int, suspects: int) -> list[Delivery]:
        """Take up to `limit` messages under the lease, the most urgent first."""
        layout = self.layout
        again = "1" if self.unsure else ""
        token = self.unsure or f"celeriac-{secrets.token_hex(8)}"
        args: list[Any] = [token, again, min(limit, MOST), suspects, int(self._lease * 1000)]
        args.append(len(layout.steps))
        for queue in queues:
            args += (queue, layout.tail(queue), layout.binding(queue)[0], *layout.lists(queue))
        until = time.monotonic() + self._lease
        self.unsure = self._in_flight = token
        try:
            with self._handing if again else contextlib.nullcontext():
                due, broken, known, now, *flat = self._run(CELERY_CLAIM, *args)
                if again:
                    self._strays = set()
        except BrokerRejected:
            self.unsure = ""  # it was not run
            raise
        finally:
            self._in_flight = ""
        if not again:
            self.due = time.monotonic() + max(0.0, float(due)) if due else float("inf")
            self.known = frozenset(
                queue for queue, flag in zip(queues, known, strict=True) if flag == ord("1")
            )
        self._taken = self._taken or bool(flat)
        if broken:
            logger.error("%d messages that are no JSON were put into quarantine", broken)
        batch = self._read(flat, until, float(now))
        self.unsure = ""
        return batch or (self.claim(queues, limit, suspects) if again else batch)

    def exist(self, queues: Sequence[str]) -> bool:
        """Return whether Celery has heard of a queue, or there is a message in one of its lists."""
        layout = self.layout
        names = [layout.binding(queue)[0] for queue in queues]
        names += [name for queue in queues for name in layout.lists(queue)]
        return bool(self._server.call("EXISTS", *names))

    def _read(self, flat: Sequence[Any], until: float, now: float) -> list[Delivery]:
        """Return what can be run; what is too early is delayed, what is wrong set aside.

        :param now: unix seconds by the server's clock, which sees to what is delayed.
        """
        batch: list[Delivery] = []
        aside: list[Any] = []
        for i in range(0, len(flat), 4):
            tag, losses, queue, raw = flat[i : i + 4]
            try:
                envelope = decode(raw, queue=queue.decode(), now=now)
            except Exception as error:
                # Whatever is wrong with it: it must not end one worker after the other.
                logger.error(
                    "a message of queue %s cannot be read and was put into quarantine"
                    " (the list %squarantine:%s): %s: %s",
                    queue.decode(),
                    self._keys.prefix,
                    queue.decode(),
                    error,
                    bounded_repr(raw, 200),
                )
                aside += _plain("Q", tag, "")
                continue
            if envelope.not_before > now:
                aside += _plain("D", tag, f"{envelope.not_before:.6f}")
                self.due = min(self.due, time.monotonic() + envelope.not_before - now)
                continue
            batch.append(Delivery(envelope, Tag(tag.decode()), until, int(losses) + 1))
        if aside:
            self._run(CELERY_SETTLE, *aside)
        return batch

    # -- settling -------------------------------------------------------------------------------

    def settle(self, batch: Sequence[Settlement]) -> Sequence[int]:
        """End deliveries; return the positions of those that were no longer ours."""
        now = time.time()
        args: list[Any] = []
        for settlement in batch:
            chord = chord_of(settlement.delivery.envelope)
            if chord is not None:
                self._close_part(chord, settlement, now)
            self._add(args, settlement, now)
        return [int(position) for position in self._run(CELERY_SETTLE, *args)]

    def _close_part(self, chord: Chord, settlement: Settlement, now: float) -> None:
        """Count a part of a chord; with the last one, send what the chord leads to."""
        part = part_of(settlement)
        if part is None:
            return
        keys, layout, delivery = chord.keys(self._keys.before), self.layout, settlement.delivery
        parts = self._run(CELERY_CHORD_PART, str(delivery.receipt), *keys, chord.place, part)
        if not parts:
            return
        record = settlement.record
        kept = 0.0 if record is None else record.expires_at
        records, calls = outcome(
            chord, parts, queue=delivery.envelope.queue, now=now, expires_at=kept
        )
        args: list[Any] = [*keys, len(records), len(calls)]
        for one in records:
            args += record_fields(one, self._keys)
        for call in calls:
            args += fields(call, now, layout)
        self._run(CELERY_CHORD_END, *args)

    def _add(self, args: list[Any], settlement: Settlement, now: float) -> None:
        delivery, record, part = settlement.delivery, settlement.record, settlement.part
        extra, name, value = "", "", b""
        head: str | bytes = extra
        if settlement.verdict is Verdict.BURY:
            head = burial_head(delivery.handed_out, now, settlement.reason)
            name, value = delivery.envelope.id, pack(delivery.envelope, now)
        elif settlement.verdict is Verdict.RETRY:
            again = settlement.again or delivery.envelope
            name, value = encode(again, self.layout, now=now)
            head = f"{again.not_before:.6f}" if again.not_before > now else ""
        args += (
            _LETTERS[settlement.verdict],
            str(delivery.receipt),
            head,
            name,
            value,
            0 if record is None else 1,
            0 if part is None else 1,
            len(settlement.publish),
        )
        if record is not None:
            args += record_fields(record, self._keys)
        if part is not None:
            args += part_fields(part)
        for envelope in settlement.publish:
            # In the form of what they follow: it may be Celery workers that wait for them.
            args += fields(envelope, now, self.layout, wire="celery")

    # -- the lease ------------------------------------------------------------------------------

    def extend(
        self, held: Sequence[Delivery], lease: float, ending: Collection[tuple[str, str]]
    ) -> Sequence[int]:
        """Make leases last from now; return the positions of those that were no longer ours.

        :param ending: tags and ids that are being settled now.
        """
        if not held and not self._taken:
            return ()
        tags = [str(delivery.receipt) for delivery in held]
        count, *stale = self._run(CELERY_EXTEND, int(lease * 1000), *tags)
        self._taken = bool(count)
        with self._handing:
            strays = count > len(tags) - len(stale)
            self._strays = self._look_for_strays(tags, ending) if strays else set()
        return [int(position) for position in stale]

    def _look_for_strays(
        self, tags: Collection[str], ending: Collection[tuple[str, str]]
    ) -> set[str]:
        """Give back what is held and nobody here knows of; return what may be such.

        A refused settlement leaves one, whose lease would be renewed for ever.  What is just on its
        way to the worker, or being settled, looks the same, but not twice.
        """
        there = self._server.call("HKEYS", f"{self._keys.prefix}ch:{self._head[1]}")
        coming = self._in_flight
        strays = {tag.decode() for tag in there} - set(tags)
        strays = {tag for tag in strays if not (coming and tag.startswith(f"{coming}-"))}
        lost = strays & self._strays - {tag for tag, _ in ending}
        if lost:
            self._run(CELERY_SETTLE, *(arg for tag in lost for arg in _plain("X", tag, "")))
        return strays - lost

    def close(self) -> None:
        """Give back what is held, as lost."""
        self._run(CELERY_GIVE_BACK)


def _plain(letter: str, tag: bytes | str, extra: str) -> tuple[Any, ...]:
    """Return the arguments of a settlement that has nothing with it."""
    return letter, tag, extra, "", "", 0, 0, 0


def upkeep(server: Server, keys: Keys, layout: Layout) -> None:
    """Give back what dead holders had, make ready what is due."""
    server.run(CELERY_UPKEEP, keys.messages, (keys.prefix, "", layout.unacked, layout.index))


def count(
    server: Server, keys: Keys, layout: Layout, queues: Sequence[str]
) -> Mapping[str, QueueCount]:
    """Return what the lists of each queue hold; what Celery workers hold is not known by queue."""
    args: list[Any] = [keys.prefix, "", layout.unacked, layout.index, len(layout.steps)]
    for queue in queues:
        args += (queue, *layout.lists(queue))
    flat = server.run(CELERY_COUNT, keys.messages, args)
    return {queue: QueueCount(*flat[3 * i : 3 * i + 3]) for i, queue in enumerate(queues)}


def peek(
    server: Server, keys: Keys, layout: Layout, queue: str, *, limit: int, after: str | None
) -> list[Envelope]:
    """List what waits in a queue's lists, then what is put aside, from behind id `after` on.

    From the beginning where no such id is there: then it was the last of celeriac's own.
    """
    found: list[Envelope] = []
    skipping = after is not None
    now = time.time()
    for raw in _waiting(server, keys, layout, queue):
        if len(found) >= limit:
            break
        try:
            envelope = decode(raw, queue=queue, now=now)
        except WireError:
            continue  # it is set aside when it is claimed
        if skipping:
            skipping = envelope.id != after
        else:
            found.append(envelope)
    if skipping:
        return peek(server, keys, layout, queue, limit=limit, after=None)
    return found


def _waiting(server: Server, keys: Keys, layout: Layout, queue: str) -> Iterator[bytes]:
    for name in layout.lists(queue):
        last = -1
        while some := server.call("LRANGE", name, last - SLICE + 1, last):
            yield from reversed(some)
            last -= SLICE
    for kind in ("cs", "cd"):
        first = 0
        while tags := server.call(
            "ZRANGE", f"{keys.prefix}{kind}:{queue}", first, first + SLICE - 1
        ):
            for value in server.call("HMGET", f"{keys.prefix}cm", *tags):
                if value is not None:
                    _, size, rest = value.split(b" ", 2)
                    yield rest[int(size) :]
            first += SLICE


def purge(server: Server, keys: Keys, layout: Layout, queue: str) -> int:
    """Delete what waits in a queue's lists and what is put aside; return how many."""
    args = (keys.prefix, "", layout.unacked, layout.index, queue, *layout.lists(queue))
    return int(server.run(CELERY_PURGE, keys.messages, args))
