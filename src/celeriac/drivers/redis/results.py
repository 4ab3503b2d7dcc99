"""Task states and chord counts on a Redis server, in Celery's own form.

Owns: RedisResults, RedisWatch.  Thread rule: see `ports.results`.
May import: kernel, ports, drivers.redis.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from celeriac.drivers.redis.connection import Server
from celeriac.drivers.redis.health import check
from celeriac.drivers.redis.keys import Keys
from celeriac.drivers.redis.message import pack_follow_up, unpack_follow_up
from celeriac.drivers.redis.records import (
    expiry,
    part_fields,
    read_part,
    read_record,
    record_fields,
)
from celeriac.drivers.redis.script import (
    CLOSE_PARTS,
    FETCH,
    GROW_GROUP,
    MARK_SENT,
    OPEN_GROUP,
    STORE,
)
from celeriac.drivers.redis.subscriber import Subscriber
from celeriac.kernel.message import Group, Part, Ready, Record
from celeriac.kernel.states import READY_STATES
from celeriac.ports.caps import Capabilities

T = TypeVar("T")

SLICE = 500
"""Records in one script."""
LOOK = 5.0
"""Seconds after which a waiter looks by itself: a message may be lost with a connection."""


class RedisResults:
    """The result store of one database."""

    def __init__(self, server: Server, keys: Keys, caps: Capabilities) -> None:
        self._server, self._keys, self.caps = server, keys, caps
        self.name = keys.store

    def open(self) -> None:
        """Connect, and find out how the server's scripts are written."""
        check(self._server, evicts=True)

    def close(self) -> None:
        """Close idle connections."""
        self._server.close()

    def _run(self, script: Any, *args: Any) -> Any:
        return self._server.run(script, self._keys.messages, (self._keys.prefix, *args))

    def store(self, batch: Sequence[Record]) -> None:
        """Write records, and tell those who wait for them."""
        for some in _slices(batch):
            args: list[Any] = []
            for record in some:
                args += record_fields(record, self._keys)
            self._run(STORE, *args)

    def fetch(self, ids: Sequence[str]) -> Mapping[str, Record]:
        """Read records."""
        found: dict[str, Record] = {}
        for some in _slices(list(dict.fromkeys(ids))):
            keys = (*self._keys.messages, *map(self._keys.record, some))
            flat = self._server.run(FETCH, keys, (self._keys.prefix, *some))
            now = time.time()
            for i, task_id in enumerate(some):
                body, note, lives = flat[3 * i : 3 * i + 3]
                if body is not None:
                    found[task_id] = read_record(task_id, body, note, lives, now)
        return found

    def watch(self) -> RedisWatch:
        """Return a new watch."""
        return RedisWatch(self, self._server, self._keys)

    def forget(self, ids: Sequence[str]) -> None:
        """Delete records."""
        for some in _slices(ids):
            names = [self._keys.record(task_id) for task_id in some]
            names += [f"{self._keys.prefix}f:{task_id}" for task_id in some]
            self._server.call("DEL", *names)

    # -- groups ---------------------------------------------------------------------------------

    def open_group(self, group: Group) -> None:
        """Begin to count."""
        now = time.time()
        self._run(
            OPEN_GROUP,
            group.id,
            group.size,
            pack_follow_up(group.body, now),
            pack_follow_up(group.on_error, now),
            expiry(group.expires_at),
        )

    def grow_group(self, group: str, by: int, *, once: str = "") -> int:
        """Add slots."""
        return int(self._run(GROW_GROUP, group, by, once))

    def close_parts(self, parts: Sequence[Part]) -> Sequence[Ready]:
        """Fill slots."""
        found: dict[str, Ready] = {}
        for some in _slices(parts):
            args: list[Any] = []
            for part in some:
                args += part_fields(part)
            flat = self._run(CLOSE_PARTS, *args)
            for i in range(0, len(flat), 2):
                name = flat[i].decode()
                found[name] = Ready(name, unpack_follow_up(flat[i + 1]))
        return list(found.values())

    def parts(self, group: str) -> Iterator[Record]:
        """Read the filled slots, some at a time."""
        key = f"{self._keys.prefix}p:{group}"
        slots = sorted(int(slot) for slot in self._server.call("HKEYS", key))
        for some in _slices(slots):
            for packed in self._server.call("HMGET", key, *some):
                if packed is not None:
                    yield read_part(packed)

    def mark_sent(self, groups: Sequence[str]) -> None:
        """Note that follow-ups were published."""
        if groups:
            self._run(MARK_SENT, *groups)

    def expire(self, before: float, *, limit: int) -> int:
        """Return 0: Redis lets go of what has expired by itself."""
        return 0


def _slices(items: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), SLICE):
        yield items[start : start + SLICE]


class RedisWatch:
    """Waits on the channels that final records are published on, all on one connection."""

    def __init__(self, results: RedisResults, server: Server, keys: Keys) -> None:
        self._results, self._before = results, keys.result
        self._ear = Subscriber(server)
        self._lock = threading.Lock()
        self._ids: dict[str, None] = {}
        self._new: list[str] = []
        self._gone: list[str] = []
        self._look_at = 0.0

    def add(self, ids: Sequence[str]) -> None:
        """Watch these too."""
        with self._lock:
            self._ids.update(dict.fromkeys(ids))
            self._new.extend(ids)
        self._ear.wake()

    def discard(self, ids: Sequence[str]) -> None:
        """Watch these no longer."""
        with self._lock:
            for task_id in ids:
                if task_id in self._ids:
                    del self._ids[task_id]
                    self._gone.append(task_id)

    def poll(self, wait: float) -> Mapping[str, Record]:
        """Wait for final records."""
        ends = time.monotonic() + wait
        found = self._final(self._listen())
        while not found:
            left = ends - time.monotonic()
            heard, woken = self._ear.receive(max(0.0, min(left, self._look_at - time.monotonic())))
            size = len(self._before)
            ids = list(dict.fromkeys(channel[size:] for channel, _ in heard))
            found = self._final(ids)
            if not found and (time.monotonic() >= self._look_at or woken):
                found = self._final(self._listen())
                if woken:
                    break
            if time.monotonic() >= ends:
                break
        return found

    def _listen(self) -> Sequence[str]:
        """Subscribe to what is new; return what has to be looked at."""
        with self._lock:
            new, self._new = self._new, []
            gone, self._gone = self._gone, []
            every = list(self._ids)
        if not self._ear.connected:
            if not every:
                return ()
            self._ear.subscribe([self._before + task_id for task_id in every])
            new = every
        else:
            again = set(new)
            self._ear.unsubscribe([self._before + one for one in gone if one not in again])
            self._ear.subscribe([self._before + task_id for task_id in new])
        now = time.monotonic()
        if now >= self._look_at:
            self._look_at = now + LOOK
            return every
        return new

    def _final(self, ids: Sequence[str]) -> dict[str, Record]:
        if not ids:
            return {}
        found = {
            task_id: record
            for task_id, record in self._results.fetch(ids).items()
            if record.state in READY_STATES
        }
        with self._lock:
            # Discarded meanwhile: nobody waits for it.
            found = {task_id: found[task_id] for task_id in found if task_id in self._ids}
            for task_id in found:
                del self._ids[task_id]
                self._gone.append(task_id)
        return found

    def close(self) -> None:
        """Let go of the connection."""
        self._ear.close()
