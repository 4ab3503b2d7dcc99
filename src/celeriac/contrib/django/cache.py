"""Results in one of Django's caches: `result_backend = "django-cache"`.

A cache cannot compare and write in one step, but add: a final record has a key of its own, which is
added and so never overwritten.  What a cache evicts is lost, chords included.

Owns: CacheFamily, CacheResults.  Thread rule: see `ports.results`.
May import: celeriac.kernel, celeriac.ports, django.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec
from django.core.cache import caches

from celeriac.contrib.django.orm import let_go, open_here
from celeriac.contrib.django.results import CAPS, DatabaseFamily
from celeriac.contrib.django.watch import Notice, PollingWatch
from celeriac.kernel.errors import (
    BrokerRejected,
    BrokerUnavailable,
    CeleryError,
    ImproperlyConfigured,
)
from celeriac.kernel.message import Group, Part, Ready, Record
from celeriac.kernel.states import PROPAGATE_STATES, READY_STATES

_USELESS = {
    "DummyCache": "which keeps nothing",
    "LocMemCache": "which other processes, such as workers, do not see",
}
LONGEST = 10 * 365 * 86400
"""Seconds that a cache is asked to keep what never expires."""
LOCKED = 10.0
"""Seconds after which a chord is unlocked whose process ended while it added slots."""
SLICE = 50
"""Slots that are looked at in one call."""
MOST_SCANNED = 10_000
"""Chords whose first empty slot is remembered."""


class CacheFamily(DatabaseFamily):
    """The one role of a cache: results.

    :param url: `django-cache`, or `django-cache://alias`.
    """

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        alias = url.partition("://")[2].strip("/") or "default"
        self._results: Any = CacheResults(alias)


class CacheResults:
    """Task states and chords in a cache.

    :param alias: of the cache in CACHES.
    """

    caps = CAPS

    def __init__(self, alias: str) -> None:
        self._alias = alias
        self.name = f"django-cache:{alias}"
        self._notice = Notice()
        self._scanned: dict[str, int] = {}

    @property
    def _cache(self) -> Any:
        return caches[self._alias]

    def open(self) -> None:
        """Check that the cache is one that workers share.

        :raises ImproperlyConfigured: it is not.
        """
        kind = type(self._cache).__name__
        if kind in _USELESS:
            raise ImproperlyConfigured(
                f"results cannot be in the cache {self._alias!r}, a {kind}, {_USELESS[kind]}: use"
                " Redis, Memcached, the database or files"
            )

    def close(self) -> None:
        """Do nothing: connections are Django's."""

    # -- records --------------------------------------------------------------------------------

    def store(self, batch: Sequence[Record]) -> None:
        """Write records by the rule of `Record`."""
        for record in batch:
            seconds = _seconds(record.expires_at)
            with _errors():
                old = self._read(_key("state", record.id))
                if old is not None and old.fence > record.fence:
                    continue
                if record.state in READY_STATES:
                    self._end(_key("final", record.id), _pack(record), seconds)
                else:
                    self._cache.set(_key("state", record.id), _pack(record), seconds)
        if any(record.state in READY_STATES for record in batch):
            self._notice.tell()

    def _end(self, key: str, packed: str, seconds: float) -> None:
        if not self._cache.add(key, packed, seconds) and self._cache.get(key) is None:
            raise BrokerRejected(
                f"the cache {self._alias!r} does not keep a result of {len(packed)} bytes: Memcached"
                " takes 1 MB where its option -I does not say otherwise"
            )

    def _read(self, key: str) -> Record | None:
        packed = self._cache.get(key)
        return None if packed is None else _live(_unpacked(packed))

    def fetch(self, ids: Sequence[str]) -> Mapping[str, Record]:
        """Read records."""
        keys = [_key(kind, task_id) for kind in ("state", "final") for task_id in ids]
        with _errors():
            packed = self._cache.get_many(keys) if keys else {}
        # In this order: the final one takes the place of the other.
        records = (_live(_unpacked(packed[key])) for key in keys if key in packed)
        return {record.id: record for record in records if record is not None}

    def watch(self) -> PollingWatch:
        """Return a new watch."""
        return PollingWatch(self.fetch, self._notice)

    def forget(self, ids: Sequence[str]) -> None:
        """Delete records."""
        with _errors():
            kinds = ("state", "final")
            self._cache.delete_many([_key(kind, task_id) for kind in kinds for task_id in ids])

    def expire(self, before: float, *, limit: int) -> int:
        """Return 0: a cache lets go of what has expired by itself."""
        return 0

    # -- chords ---------------------------------------------------------------------------------

    def open_group(self, group: Group) -> None:
        """Begin to count."""
        with _errors():
            packed = _pack(_Counted(group))
            self._cache.add(_key("group", group.id), packed, _seconds(group.expires_at))

    def _group(self, group: str) -> Group | None:
        counted = self._counted(group)
        return None if counted is None else counted.group

    def _counted(self, group: str) -> _Counted | None:
        packed = self._cache.get(_key("group", group))
        if packed is None:
            return None
        found = msgspec.msgpack.decode(base64.b64decode(packed), type=_Counted)
        return None if 0 < found.group.expires_at <= time.time() else found

    def grow_group(self, group: str, by: int, *, once: str = "") -> int:
        """Add slots; one process at a time, as far as the cache's `add` is exclusive."""
        with _errors(), self._locked(group):
            found = self._counted(group)
            if found is None or self._cache.get(_key("sent", group)):
                return -1
            size, seconds = found.group.size, _seconds(found.group.expires_at)
            # The last growth is in the group itself, so that both are written in one step; it gets
            # a key of its own before the next one takes its place.
            if found.grown_by:
                self._cache.add(_key("grown", f"{group}:{found.grown_by}"), found.grown_at, seconds)
            if once:
                known = self._cache.get(_key("grown", f"{group}:{once}"))
                if known is not None:
                    return int(known)
            grown = _Counted(replace(found.group, size=size + by), once, size)
            self._cache.set(_key("group", group), _pack(grown), seconds)
            return size

    @contextlib.contextmanager
    def _locked(self, group: str) -> Iterator[None]:
        key, until = _key("lock", group), time.monotonic() + 2 * LOCKED
        while not self._cache.add(key, 1, LOCKED):
            if time.monotonic() > until:
                raise BrokerUnavailable(f"the chord {group} stays locked: try again")
            time.sleep(0.01)
        try:
            yield
        finally:
            self._cache.delete(key)

    def close_parts(self, parts: Sequence[Part]) -> Sequence[Ready]:
        """Fill slots."""
        ready = []
        with _errors():
            for name in dict.fromkeys(part.group for part in parts):
                group = self._group(name)
                if group is None:
                    continue
                for part in parts:
                    if part.group == name and 0 <= part.index < group.size:
                        key = _key("part", f"{name}:{part.index}")
                        self._cache.add(key, _pack(part.record), _seconds(group.expires_at))
                if (found := self._ready(name)) is not None:
                    ready.append(found)
        return ready

    def _ready(self, name: str) -> Ready | None:
        group = self._group(name)
        if group is None or self._cache.get(_key("sent", name)) or not self._is_full(group):
            return None
        records = self._filled(group)
        failed = any(record.state in PROPAGATE_STATES for record in records)
        return Ready(name, group.on_error if failed else group.body)

    def _is_full(self, group: Group) -> bool:
        """Look for the first empty slot, from where the last look ended: a full one stays full."""
        at = self._scanned.get(group.id, 0)
        while at < group.size:
            keys = [_key("part", f"{group.id}:{n}") for n in range(at, min(at + SLICE, group.size))]
            found = self._cache.get_many(keys)
            missing = next((n for n, key in enumerate(keys) if key not in found), None)
            at += len(keys) if missing is None else missing
            if missing is not None:
                break
        if len(self._scanned) > MOST_SCANNED:
            self._scanned.clear()
        self._scanned[group.id] = at
        return at >= group.size

    def _filled(self, group: Group) -> list[Record]:
        keys = [_key("part", f"{group.id}:{index}") for index in range(group.size)]
        found = self._cache.get_many(keys)
        return [_unpacked(found[key]) for key in keys if key in found]

    def parts(self, group: str) -> Sequence[Record]:
        """Read the filled slots."""
        with _errors():
            found = self._group(group)
            return [] if found is None else self._filled(found)

    def mark_sent(self, groups: Sequence[str]) -> None:
        """Note that follow-ups were published."""
        with _errors():
            for name in groups:
                group = self._group(name)
                if group is not None:
                    self._cache.set(_key("sent", name), 1, _seconds(group.expires_at))
                    self._scanned.pop(name, None)


@dataclass(frozen=True, slots=True)
class _Counted:
    """A chord, and the last growth of it that had an id."""

    group: Group
    grown_by: str = ""
    grown_at: int = 0


class _errors:  # noqa: N801 - a with statement reads so
    """Turn what a cache raises into "try again"; keep no connection of a cache that is a table."""

    def __enter__(self) -> None:
        self._were_open = open_here()

    def __exit__(self, kind: Any, error: BaseException | None, tb: Any) -> None:
        let_go(self._were_open)
        if isinstance(error, Exception) and not isinstance(error, CeleryError):
            raise BrokerUnavailable(f"the cache cannot be used: {error}") from error


def _key(kind: str, name: str) -> str:
    # A digest: Memcached takes neither spaces nor more than 250 characters.
    return f"celeriac-{kind}-{hashlib.sha256(name.encode()).hexdigest()[:40]}"


def _pack(what: Record | _Counted) -> str:
    return base64.b64encode(msgspec.msgpack.encode(what)).decode()


def _unpacked(packed: str) -> Record:
    return msgspec.msgpack.decode(base64.b64decode(packed), type=Record)


def _live(record: Record) -> Record | None:
    return None if 0 < record.expires_at <= time.time() else record


def _seconds(expires_at: float) -> float:
    # A second more, since some caches count whole ones: a record knows its own end.
    return max(1.0, expires_at - time.time()) + 1.0 if expires_at else LONGEST
