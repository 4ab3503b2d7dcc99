"""Entries of schedules on a Redis server: a tick and its message are one script.

Owns: RedisSchedules.  Thread rule: see `ports.schedules`.  May import: kernel, ports, drivers.redis.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from celeriac.drivers.redis.broker import RedisBroker
from celeriac.drivers.redis.connection import Server
from celeriac.drivers.redis.keys import Keys
from celeriac.drivers.redis.script import (
    SCHEDULE_DUE,
    SCHEDULE_GET,
    SCHEDULE_PUT,
    SCHEDULE_REMOVE,
    SCHEDULE_SENT,
    Script,
)
from celeriac.ports.schedules import Entry, Tick

T = TypeVar("T")

SLICE = 200
"""Entries in one script."""


def _score(instant: float | None) -> str:
    """Return an instant as Redis sorts it, exactly; empty for never."""
    return "" if instant is None else repr(instant)


def _entries(row: Sequence[bytes]) -> Iterator[Entry]:
    for start in range(0, len(row), 9):
        name, spec, at, code, paused, last, runs, version, claims = row[start : start + 9]
        yield Entry(
            name.decode(),
            spec,
            float(at) if at else None,
            code == b"1",
            paused == b"1",
            float(last),
            int(runs),
            int(version),
            int(claims or 0),
        )


class RedisSchedules:
    """The entries of one namespace."""

    def __init__(
        self, server: Server, keys: Keys, broker: RedisBroker, *, publishes: bool = True
    ) -> None:
        self._server, self._keys, self._broker = server, keys, broker
        self.publishes = publishes

    def open(self) -> None:
        """Check the server."""
        self._broker.open()

    def _run(self, script: Script, scope: str, *args: Any) -> Any:
        keys = self._keys
        return self._server.run(script, keys.messages, (keys.prefix, scope, *args))

    def entries(self, scope: str, names: Sequence[str] | None = None) -> Sequence[Entry]:
        """List entries."""
        found: list[Entry] = []
        if names is None:
            found += _entries(self._run(SCHEDULE_GET, scope, "all"))
        for some in _slices(names or ()):
            found += _entries(self._run(SCHEDULE_GET, scope, "named", *some))
        return sorted(found, key=lambda entry: entry.name)

    def put(self, scope: str, entries: Sequence[Entry]) -> Sequence[str]:
        """Write entries whose version is the stored one."""
        refused = []
        for some in _slices(entries):
            args: list[Any] = []
            for e in some:
                args += (e.name, e.version, _score(e.next_at), e.spec, int(e.from_code))
                args += (int(e.paused), repr(e.last_at), e.runs)
            refused += [some[int(n)].name for n in self._run(SCHEDULE_PUT, scope, *args)]
        return refused

    def remove(self, scope: str, names: Sequence[str]) -> int:
        """Delete entries."""
        return sum(int(self._run(SCHEDULE_REMOVE, scope, *some)) for some in _slices(names))

    def due(
        self, scope: str, now: float, *, limit: int, owner: str = "", lease: float = 0.0
    ) -> Sequence[Entry]:
        """List what is due; claim it for an owner."""
        return list(_entries(self._run(SCHEDULE_DUE, scope, repr(now), limit, owner, lease)))

    def sent(self, scope: str, ticks: Sequence[Tick]) -> Sequence[str]:
        """Move entries on, and publish, in one script for each `SLICE` of them."""
        moved = []
        for some in _slices(ticks):
            args: list[Any] = []
            for tick in some:
                args += (tick.name, tick.version, _score(tick.next_at), repr(tick.last_at))
                args += (tick.runs, len(tick.envelopes))
                for envelope in tick.envelopes:
                    args += self._broker.fields(envelope)
            moved += [some[int(n)].name for n in self._run(SCHEDULE_SENT, scope, *args)]
        return moved

    def next_at(self, scope: str, after: float) -> float | None:
        """Look up the first tick to come."""
        found = self._server.call(
            "ZRANGEBYSCORE",
            f"{self._keys.prefix}ed:{scope}",
            f"({after!r}",
            "+inf",
            "WITHSCORES",
            "LIMIT",
            0,
            1,
        )
        return float(found[1]) if found else None


def _slices(items: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), SLICE):
        yield items[start : start + SLICE]
