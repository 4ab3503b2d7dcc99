"""Queues on a Redis server.

Owns: RedisBroker.  Thread rule: see `ports.broker`.  May import: kernel, ports, drivers.redis.
"""

from __future__ import annotations

import secrets
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from celeriac.drivers.redis import celery_lists
from celeriac.drivers.redis.connection import Server
from celeriac.drivers.redis.consumer import RedisConsumer
from celeriac.drivers.redis.fields import fields
from celeriac.drivers.redis.health import check
from celeriac.drivers.redis.keys import Keys
from celeriac.drivers.redis.message import unpack, unpack_burial
from celeriac.drivers.redis.records import MAX_BODY
from celeriac.drivers.redis.script import (
    BURIED,
    COUNT,
    EXHUME,
    PEEK,
    PUBLISH,
    PURGE,
    UPKEEP,
    WITHDRAW,
)
from celeriac.kernel.errors import PayloadTooLarge, PublishUncertain
from celeriac.kernel.message import Buried, Envelope, QueueCount
from celeriac.ports.caps import Capabilities

T = TypeVar("T")

CHUNK = 2_000
"""Messages in one script, which nothing else on the server can interrupt: about 3 ms."""
CHUNK_BYTES = 32_000_000
SLICE = 500
"""Ids in one script."""
LET_OTHERS = 2.0
"""Seconds for which a worker that found another's upkeep just done leaves it to the others: a fleet
of 100 would ask 100 times a second."""
TICK_MS, GAP_MS, GRACE_MS = 500, 5_000, 10_000
"""Milliseconds between upkeeps of all workers together; without upkeep after which leases are
given time; and how much."""

MOST_NAMES = 1_000
"""Names of queues that are kept whether there is anything in them or not."""


class RedisBroker:
    """Queues of one database.

    :param replicas: how many replicas must have a message before it counts as published.
    """

    def __init__(self, server: Server, keys: Keys, *, replicas: int, evicts: bool) -> None:
        self._server, self._keys = server, keys
        self._replicas, self._evicts = replicas, evicts
        self._open = False
        self._own = secrets.token_hex(4)
        self._others_until = 0.0
        self._bound: set[str] = set()
        """Queues that Celery has been told of."""
        self.caps = Capabilities(
            lease="timed",
            delay="native",
            priorities=10,
            counts_deliveries=True,
            dedupes_ids=True,
            withdraws=True,
            peeks=True,
            settles_with=frozenset({keys.store}),
            joins=False,
            wakes=True,
            max_body=MAX_BODY,
            wires=frozenset() if keys.celery is None else frozenset({"celery"}),
        )

    def open(self) -> None:
        """Connect, and check that the server can be trusted with tasks."""
        if not self._open:
            check(self._server, evicts=self._evicts)
            self._open = True

    def close(self) -> None:
        """Close idle connections."""
        self._open = False
        self._server.close()

    def declare(self, queues: Sequence[str]) -> None:
        """Remember the names, for `count`."""
        if queues:
            self._server.call("SADD", self._keys.queues, *queues)

    def publish(self, batch: Sequence[Envelope]) -> None:
        """Write all envelopes; a batch of more than `CHUNK` in several steps."""
        now = time.time()
        keys = self._keys
        if len(batch) == 1:
            self._send([keys.prefix, *self.fields(batch[0], now)])
            return
        args: list[Any] = [keys.prefix]
        size = 0
        for envelope in batch:
            now += 1e-6  # by which those of one batch are told apart when they are given back
            fields = self.fields(envelope, now)
            size += len(fields[3])
            if len(args) > 4 * CHUNK or (size > CHUNK_BYTES and len(args) > 1):
                self._send(args)
                args, size = [keys.prefix], len(fields[3])
            args += fields
        if len(args) > 1:
            self._send(args)

    def fields(self, envelope: Envelope, now: float | None = None) -> tuple[Any, ...]:
        """Return what the scripts are told of an envelope: id, lane, due and value."""
        if len(envelope.body) > MAX_BODY:
            raise PayloadTooLarge(
                f"task {envelope.id} has {len(envelope.body):,} bytes, Redis takes {MAX_BODY:,}:"
                " put large data elsewhere and send where it is"
            )
        now = time.time() if now is None else now
        celery = self._keys.celery
        if envelope.wire and celery is not None and envelope.queue not in self._bound:
            # As Celery's producers do, so that its tools know of the queue.
            exchange, permanent, member = celery.binding(envelope.queue)
            self._server.call("SADD", exchange, member)
            self._server.call("SADD", permanent, member)
            self._bound.add(envelope.queue)
        return fields(envelope, now, celery)

    def _send(self, args: Sequence[Any]) -> None:
        server = self._server
        link = server.take()
        try:
            link.run(PUBLISH, self._keys.messages, args)
            if self._replicas:
                # On the same connection: WAIT is about this connection's own writes.
                wait = int(server.address.socket_timeout * 500)
                reached = link.call("WAIT", self._replicas, wait)
                if reached < self._replicas:
                    raise PublishUncertain(
                        f"{reached} of {self._replicas} replicas of {server.address.shown}"
                        f" have confirmed within {wait} ms"
                    )
        finally:
            server.give(link)

    def consume(self, queues: Sequence[str], *, owner: str, lease: float) -> RedisConsumer:
        """Return a consumer."""
        self.open()
        return RedisConsumer(self._server, self._keys, queues, owner=owner, lease=lease)

    def _run(self, script: Any, *args: Any) -> Any:
        return self._server.run(script, self._keys.messages, (self._keys.prefix, *args))

    def withdraw(self, ids: Sequence[str]) -> Sequence[str]:
        """Take messages back."""
        return [envelope.id for envelope in self.take_back(ids)]

    def take_back(self, ids: Sequence[str]) -> Sequence[Envelope]:
        """Take messages back, and return them."""
        found: list[Envelope] = []
        for some in _slices(ids):
            flat = self._run(WITHDRAW, *some)
            found += [unpack(flat[i], flat[i + 1]) for i in range(0, len(flat), 2)]
        return found

    def count(self, queues: Sequence[str]) -> Mapping[str, QueueCount]:
        """Count what the queues hold."""
        names = list(queues)
        if not names:
            names = sorted(
                name.decode() for name in self._server.call("SMEMBERS", self._keys.queues)
            )
        *counts, flat = self._run(COUNT, *names)
        held = {flat[i].decode(): flat[i + 1] for i in range(0, len(flat), 2)}
        now = time.time()
        found = {}
        for i, name in enumerate(names):
            ready, delayed, at = counts[3 * i : 3 * i + 3]
            oldest = max(0.0, now - struct.unpack(">d", at)[0]) if at else 0.0
            found[name] = QueueCount(ready, delayed, held.get(name, 0), oldest)
        if self._keys.celery is not None and names:
            others = celery_lists.count(self._server, self._keys, self._keys.celery, names)
            for name, other in others.items():
                found[name] = _sum(found[name], other)
        return found

    def peek(self, queue: str, *, limit: int, after: str | None = None) -> Sequence[Envelope]:
        """List what waits: suspects, then by priority and arrival, then delayed; then Celery's."""
        flat = self._run(PEEK, queue, limit, after or "")
        found = [unpack(flat[i], flat[i + 1]) for i in range(0, len(flat), 2)]
        if self._keys.celery is not None and len(found) < limit:
            place = (self._server, self._keys, self._keys.celery)
            rest = limit - len(found)
            behind = None if found else after
            found += celery_lists.peek(*place, queue, limit=rest, after=behind)
        return found

    def purge(self, queue: str) -> int:
        """Delete what waits."""
        total: int = 0
        if self._keys.celery is not None:
            total += celery_lists.purge(self._server, self._keys, self._keys.celery, queue)
        while True:
            gone, met = self._run(PURGE, queue, CHUNK)
            total += int(gone)
            if met < CHUNK:
                return total

    def buried(self, *, limit: int, after: str | None = None) -> Sequence[Buried]:
        """List the buried."""
        flat = self._run(BURIED, limit, after or "")
        return [unpack_burial(flat[i], flat[i + 1]) for i in range(0, len(flat), 2)]

    def requeue(self, ids: Sequence[str]) -> Sequence[str]:
        """Put buried messages back."""
        return [one.decode() for some in _slices(ids) for one in self._run(EXHUME, "1", *some)]

    def drop(self, ids: Sequence[str]) -> Sequence[str]:
        """Delete buried messages."""
        return [one.decode() for some in _slices(ids) for one in self._run(EXHUME, "0", *some)]

    def upkeep(self, now: float) -> None:
        """Give back what dead workers had, make due messages ready; by the server's clock."""
        if time.monotonic() < self._others_until:
            return
        if self._run(UPKEEP, TICK_MS, GAP_MS, GRACE_MS, self._own, MOST_NAMES) < 0:
            self._others_until = time.monotonic() + LET_OTHERS
        elif self._keys.celery is not None:
            celery_lists.upkeep(self._server, self._keys, self._keys.celery)


def _sum(one: QueueCount, other: QueueCount) -> QueueCount:
    return QueueCount(
        one.ready + other.ready,
        one.delayed + other.delayed,
        one.held + other.held,
        max(one.oldest, other.oldest),
    )


def _slices(items: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), SLICE):
        yield items[start : start + SLICE]
