"""Beat on the ORM: `beat_scheduler = "celeriac.contrib.django.schedulers:DatabaseScheduler"`.

Owns: DatabaseScheduler, DatabaseSchedules.  Thread rule: see `ports.schedules`.
May import: celeriac.beat, celeriac.ports, django.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import time
from collections.abc import Sequence
from typing import Any

from django.db import IntegrityError, connections, transaction
from django.db.models import Case, F, Min, Q, Value, When

from celeriac.beat.entries import Item, decode
from celeriac.contrib.django.orm import Store, slices, stored
from celeriac.kernel.errors import CeleryError
from celeriac.kernel.schedules import clocked, crontab, schedule
from celeriac.kernel.solar import solar
from celeriac.ports.registry import find_codec
from celeriac.ports.schedules import Entry, Tick

logger = logging.getLogger("celeriac.beat")

_KINDS = ("interval", "crontab", "solar", "clocked")
_CLOCKS = {
    "postgresql": "SELECT extract(epoch FROM clock_timestamp())",
    "mysql": "SELECT unix_timestamp(now(6))",
}
"""The time by the one clock that all beats share, where the database has one."""


class DatabaseScheduler:
    """Names the ORM as the store of beat's entries; any number of beats may run."""

    looks_each = 1.0
    """Seconds after which beat looks by itself: for changes that no `save` told it of."""

    @staticmethod
    def store(app: Any) -> DatabaseSchedules:
        """Return the store of an app's entries."""
        return DatabaseSchedules(app)


class DatabaseSchedules:
    """The entries as rows of `PeriodicTask`."""

    publishes = False

    def __init__(self, app: Any) -> None:
        self._app, self._store = app, Store("PeriodicTask")

    def open(self) -> None:
        """Check that the table is there."""
        with self._store.access() as using:
            self._rows(using, "").exists()

    def _rows(self, using: str, scope: str) -> Any:
        return self._store.model.objects.using(using).filter(scope=scope)

    def time(self) -> float:
        """Return the database's time; this machine's where it has none."""
        with self._store.access() as using:
            connection = connections[using]
            sql = _CLOCKS.get(connection.vendor)
            if sql is None:
                return time.time()
            with connection.cursor() as cursor:
                cursor.execute(sql)
                return float(cursor.fetchone()[0])

    def entries(self, scope: str, names: Sequence[str] | None = None) -> Sequence[Entry]:
        """List entries."""
        with self._store.access() as using:
            rows = self._rows(using, scope)
            if names is not None:
                wanted = set(names)
                rows = rows.filter(name__in=names) if len(names) < 500 else rows
                return [_entry(row) for row in rows.order_by("name") if row.name in wanted]
            return sorted((_entry(row) for row in rows), key=lambda entry: entry.name)

    def put(self, scope: str, entries: Sequence[Entry]) -> Sequence[str]:
        """Write entries whose version is the stored one."""
        with self._store.access(atomic=True) as using:
            left = {name for some in slices(entries) for name in self._put(using, scope, some)}
        return [entry.name for entry in entries if entry.name in left]

    def _put(self, using: str, scope: str, entries: Sequence[Entry]) -> Sequence[str]:
        """Write some entries; return the names of those left out."""
        rows = self._rows(using, scope)
        found = rows.filter(name__in=[entry.name for entry in entries])
        stored = {row[0]: row[1:] for row in found.values_list("name", "version", "spec")}
        new, left = [], []
        for entry in entries:
            version, spec = stored.get(entry.name, (0, b""))
            if version != entry.version:
                left.append(entry.name)
            elif not version:
                new.append(entry)
            else:
                columns = _columns(entry)
                if bytes(spec) != entry.spec:
                    columns.update(self._fields(using, entry))
                if not rows.filter(name=entry.name, version=version).update(**columns):
                    left.append(entry.name)
        return [*left, *self._create(using, scope, new)]

    def _create(self, using: str, scope: str, entries: Sequence[Entry]) -> Sequence[str]:
        model = self._store.model
        made = [
            model(scope=scope, name=entry.name, **_columns(entry), **self._fields(using, entry))
            for entry in entries
        ]
        try:
            with transaction.atomic(using):
                # Not `save`, which makes these columns from the fields that people edit.
                model.objects.using(using).bulk_create(made)
        except IntegrityError:  # somebody else was first
            if len(entries) == 1:
                return [entries[0].name]
            return [name for entry in entries for name in self._create(using, scope, [entry])]
        return []

    def _fields(self, using: str, entry: Entry) -> dict[str, Any]:
        """Return what people edit of an entry, as far as they can."""
        try:
            item = decode(entry.name, entry.spec, self._app)
        except CeleryError:
            return {"task": _task_of(entry.spec)}
        options = dict(item.options)
        expires = options.get("expires")
        seconds = int(expires) if isinstance(expires, (int, float)) else None
        return {
            "task": item.task,
            "args": _text(item.args),
            "kwargs": _text(item.kwargs),
            "queue": str(options.get("queue") or ""),
            "exchange": str(options.get("exchange") or ""),
            "routing_key": str(options.get("routing_key") or ""),
            "priority": options.get("priority"),
            "headers": _text(options.get("headers") or {}),
            "expire_seconds": seconds,
            "expires": stored(expires) if isinstance(expires, dt.datetime) else None,
            "misfire": item.misfire,
            **self._schedule_fields(using, item),
        }

    def _schedule_fields(self, using: str, item: Item) -> dict[str, Any]:
        found = item.schedule
        made: dict[str, Any] = dict.fromkeys(_KINDS)
        field: str | None = None
        values: dict[str, Any] = {}
        if type(found) is schedule and not found.relative:
            seconds = found.run_every.total_seconds()
            if seconds.is_integer():
                field, values = "interval", {"every": int(seconds), "period": "seconds"}
        elif type(found) is crontab:
            zone = "" if found.timezone is None else str(found.timezone)
            texts = {
                key: value if isinstance(value, str) else ",".join(map(str, _listed(value)))
                for key, value in found.fields.items()
            }
            field, values = "crontab", {**texts, "timezone": zone}
        elif type(found) is solar:
            where = {"latitude": f"{found.lat:.6f}", "longitude": f"{found.lon:.6f}"}
            field, values = "solar", {"event": found.event, **where}
        elif type(found) is clocked:
            moment = found.next_after(float("-inf"))
            assert moment is not None
            field, values = "clocked", {"clocked_time": stored(_utc(moment))}
        if field is not None:
            kind = self._store.model._meta.get_field(field).related_model
            rows = kind.objects.using(using)
            made[field] = rows.filter(**values).first() or rows.create(**values)
        return made

    def remove(self, scope: str, names: Sequence[str]) -> int:
        """Delete entries."""
        with self._store.access() as using:
            rows = self._rows(using, scope)
            return sum(int(rows.filter(name__in=some).delete()[0]) for some in slices(names))

    def due(
        self, scope: str, now: float, *, limit: int, owner: str = "", lease: float = 0.0
    ) -> Sequence[Entry]:
        """Return what is due, and claim it for an owner."""
        self._describe(scope)
        with self._store.access(atomic=True) as using:
            rows = self._rows(using, scope).filter(enabled=True, next_at__lte=now)
            order = ("next_at", "name")
            if not owner:
                return [_entry(row) for row in rows.order_by(*order)[:limit]]
            clock = time.time()
            free = Q(owner__in=("", owner)) | Q(until__lte=clock)
            keys = list(rows.filter(free).order_by(*order).values_list("pk", flat=True)[:limit])
            if not keys:
                return []
            others = Case(When(owner__in=("", owner), then=Value(0)), default=Value(1))
            rows.filter(free, pk__in=keys).update(
                claims=F("claims") + others, owner=owner, until=clock + lease
            )
            mine = rows.filter(pk__in=keys, owner=owner).order_by(*order)
            return [_entry(row) for row in mine]

    def _describe(self, scope: str) -> None:
        """Bring in what was written past `save`: `update(enabled=True)`, `bulk_create`, fixtures."""
        with self._store.access() as using:
            rows = self._store.model.objects.using(using)
            known = Q(*((f"{kind}__isnull", False) for kind in _KINDS), _connector=Q.OR)
            for row in rows.filter(known, scope__in=("", scope), enabled=True, next_at=None):
                try:
                    row.save(using=using)
                except (CeleryError, ValueError, TypeError, OverflowError) as error:
                    logger.error("the entry %r is disabled: %s", row.name, error)
                    rows.filter(pk=row.pk).update(enabled=False)

    def sent(self, scope: str, ticks: Sequence[Tick]) -> Sequence[str]:
        """Move entries on; one that was to run once is done."""
        moved = []
        with self._store.access(atomic=True) as using:
            once = self._rows(using, scope).filter(Q(one_off=True) | Q(clocked__isnull=False))
            names = [tick.name for tick in ticks if tick.runs > 0]
            ending = {
                name
                for some in slices(names)
                for name in once.filter(name__in=some).values_list("name", flat=True)
            }
            for tick in ticks:
                rows = self._rows(using, scope).filter(name=tick.name, version=tick.version)
                done = tick.runs > 0 and tick.name in ending
                changed = rows.update(
                    next_at=None if done else tick.next_at,
                    last_at=tick.last_at,
                    total_run_count=F("total_run_count") + tick.runs,
                    version=_after(tick.version),
                    claims=0,
                    owner="",
                    until=0.0,
                    **({"enabled": False} if done else {}),
                )
                if changed:
                    moved.append(tick.name)
        return moved

    def next_at(self, scope: str, after: float) -> float | None:
        """Look up the first tick to come."""
        with self._store.access() as using:
            rows = self._rows(using, scope).filter(enabled=True, next_at__gt=after)
            found: float | None = rows.aggregate(first=Min("next_at"))["first"]
            return found


def _columns(entry: Entry) -> dict[str, Any]:
    return {
        "spec": entry.spec,
        "next_at": entry.next_at,
        "from_code": entry.from_code,
        "enabled": not entry.paused,
        "last_at": entry.last_at,
        "total_run_count": entry.runs,
        "version": _after(entry.version),
        "claims": 0,
        "owner": "",
        "until": 0.0,
    }


def _after(version: int) -> int:
    return max(version + 1, time.time_ns() // 1000)


def _entry(row: Any) -> Entry:
    return Entry(
        row.name,
        bytes(row.spec),
        row.next_at,
        row.from_code,
        not row.enabled,
        row.last_at,
        row.total_run_count,
        row.version,
        row.claims,
    )


def _task_of(spec: bytes) -> str:
    try:
        return str(json.loads(spec)["task"])[:200]
    except (ValueError, KeyError, TypeError):
        return ""


def _utc(instant: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(instant, dt.UTC)


def _text(value: Any) -> str:
    return find_codec("json").dumps(value).decode()


def _listed(value: Any) -> list[Any]:
    return [value] if isinstance(value, int) else sorted(value)
