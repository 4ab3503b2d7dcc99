"""Entries of schedules in this process's memory.

Owns: MemorySchedules.  Thread rule: see `ports.schedules`.  May import: kernel, ports.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from celeriac.drivers.memory.shared import Shared
from celeriac.kernel.message import Envelope
from celeriac.ports.schedules import Entry, Tick

Key = tuple[str, str]


class MemorySchedules:
    """The entries of one world."""

    publishes = True

    def __init__(self, shared: Shared, publish: Callable[[Sequence[Envelope]], None]) -> None:
        self._shared, self._publish = shared, publish
        self._entries: dict[Key, Entry] = {}
        self._claims: dict[Key, tuple[str, float]] = {}
        self._version = 0

    def open(self) -> None:
        """Do nothing: it is there."""

    def entries(self, scope: str, names: Sequence[str] | None = None) -> Sequence[Entry]:
        with self._shared.lock:
            found = [
                entry
                for (own, name), entry in self._entries.items()
                if own == scope and (names is None or name in names)
            ]
        return sorted(found, key=lambda entry: entry.name)

    def put(self, scope: str, entries: Sequence[Entry]) -> Sequence[str]:
        refused = []
        with self._shared.lock:
            for entry in entries:
                key = scope, entry.name
                old = self._entries.get(key)
                if (old.version if old else 0) != entry.version:
                    refused.append(entry.name)
                else:
                    self._write(key, entry)
        return refused

    def _write(self, key: Key, entry: Entry) -> None:
        self._version += 1
        self._entries[key] = replace(entry, version=self._version, claimed=0)
        self._claims.pop(key, None)

    def remove(self, scope: str, names: Sequence[str]) -> int:
        with self._shared.lock:
            gone = [self._entries.pop((scope, name), None) for name in names]
            for name in names:
                self._claims.pop((scope, name), None)
        return sum(entry is not None for entry in gone)

    def due(
        self, scope: str, now: float, *, limit: int, owner: str = "", lease: float = 0.0
    ) -> Sequence[Entry]:
        with self._shared.lock:
            clock = self._shared.clock.time()
            found = []
            for key, entry in self._entries.items():
                if key[0] != scope or entry.next_at is None or entry.next_at > now:
                    continue
                holder, until = self._claims.get(key, ("", 0.0))
                if owner and holder not in ("", owner) and until > clock:
                    continue
                found.append(entry)
            found.sort(key=lambda entry: (entry.next_at, entry.name))
            del found[limit:]
            for index, entry in enumerate(found) if owner else ():
                key = scope, entry.name
                if self._claims.get(key, ("", 0.0))[0] not in ("", owner):
                    entry = replace(entry, claimed=entry.claimed + 1)
                    self._entries[key] = found[index] = entry
                self._claims[key] = owner, clock + lease
            return found

    def sent(self, scope: str, ticks: Sequence[Tick]) -> Sequence[str]:
        moved = []
        with self._shared.lock:
            for tick in ticks:
                key = scope, tick.name
                entry = self._entries.get(key)
                if entry is None or entry.version != tick.version:
                    continue
                if tick.envelopes:
                    self._publish(tick.envelopes)
                runs = entry.runs + tick.runs
                self._write(
                    key, replace(entry, next_at=tick.next_at, last_at=tick.last_at, runs=runs)
                )
                moved.append(tick.name)
        return moved

    def next_at(self, scope: str, after: float) -> float | None:
        with self._shared.lock:
            return min(
                (
                    entry.next_at
                    for (own, _), entry in self._entries.items()
                    if own == scope and entry.next_at is not None and entry.next_at > after
                ),
                default=None,
            )
