"""Results in the ORM: `result_backend = "django-db"`.

Owns: DatabaseFamily, DatabaseResults.  Thread rule: see `ports.results`.
May import: celeriac.kernel, celeriac.ports, django.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from django.db import IntegrityError, transaction
from django.db.models import Count, Q
from django.utils import timezone

from celeriac.contrib.django.orm import OF_DJANGO, Store, slices
from celeriac.contrib.django.watch import Notice, PollingWatch
from celeriac.kernel.errors import BrokerUnavailable, CapabilityMissing
from celeriac.kernel.message import Envelope, Group, Part, Ready, Record
from celeriac.kernel.states import PROPAGATE_STATES, READY_STATES
from celeriac.ports.caps import Capabilities

TRIES = 5
"""How often a batch is written anew when another process inserts the same ids."""


class DatabaseFamily:
    """The one role that the ORM has by itself: results.

    :param url: `django-db`.
    """

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        self._results = DatabaseResults()

    def results(self) -> DatabaseResults:
        """Return the result store."""
        return self._results

    def broker(self) -> Any:
        """Refuse.

        :raises CapabilityMissing: always.
        """
        raise CapabilityMissing("django-db keeps results only: set broker_url to another URL")

    bus = broker

    def schedules(self) -> Any:
        """Refuse.

        :raises CapabilityMissing: always.
        """
        raise CapabilityMissing(
            "django-db is a result store: the schedule is in the ORM by beat_scheduler ="
            " 'celeriac.contrib.django.schedulers:DatabaseScheduler'"
        )

    def after_fork(self) -> None:
        """Do nothing: the fixup forgets Django's connections."""

    def close(self) -> None:
        """Wake whoever waits."""
        self._results.close()


CAPS = Capabilities(
    lease="timed",
    delay="native",
    priorities=1,
    counts_deliveries=False,
    dedupes_ids=True,
    withdraws=False,
    peeks=True,
    settles_with=frozenset(),
    joins=False,
    wakes=False,
    max_body=None,
)


class DatabaseResults:
    """Task states and chords in Django's database."""

    name = "django-db"
    caps = CAPS

    def __init__(self) -> None:
        self._results, self._chords = Store("TaskResult"), Store("Chord")
        self._notice = Notice()

    def open(self) -> None:
        """Check that the tables are there."""
        with self._results.access() as using:
            self._results.model.objects.using(using).values_list("pk")[:1].exists()

    def close(self) -> None:
        """Do nothing: connections are Django's."""

    # -- records --------------------------------------------------------------------------------

    def store(self, batch: Sequence[Record]) -> None:
        """Write records by the rule of `Record`."""
        last = _folded(batch)
        for some in slices(sorted(last.values(), key=lambda record: record.id)):
            self._store(some)
        if any(record.state in READY_STATES for record in batch):
            self._notice.tell()

    def _store(self, batch: Sequence[Record]) -> None:
        for _ in range(TRIES):
            try:
                with self._results.access(atomic=True) as using:
                    self._write(batch, using)
                return
            except _Raced:
                continue
        raise BrokerUnavailable("other processes write the same results: try again")

    def _write(self, batch: Sequence[Record], using: str) -> None:
        rows, now = self._results.model.objects.using(using), time.time()
        known = set(
            rows.filter(task_id__in=[record.id for record in batch]).values_list(
                "task_id", flat=True
            )
        )
        new = [record for record in batch if record.id not in known]
        if new:
            made = [self._results.model(task_id=record.id, **_columns(record)) for record in new]
            try:
                with transaction.atomic(using):
                    rows.bulk_create(made)
            except IntegrityError as error:
                raise _Raced from error
        for record in batch:
            if record.id in known:
                attempt, handed_out = record.fence
                older = Q(attempt__lt=attempt) | Q(attempt=attempt, handed_out__lte=handed_out)
                expired = Q(expires_at__gt=0, expires_at__lte=now)
                changes = {**_columns(record), "date_done": timezone.now()}
                rows.filter(Q(final=False) & older | expired, task_id=record.id).update(**changes)

    def fetch(self, ids: Sequence[str]) -> Mapping[str, Record]:
        """Read records."""
        found: dict[str, Record] = {}
        with self._results.access() as using:
            for some in slices(list(dict.fromkeys(ids))):
                rows = self._results.model.objects.using(using).filter(task_id__in=some)
                live = Q(expires_at=0) | Q(expires_at__gt=time.time())
                for row in rows.filter(live).values_list(*_FIELDS):
                    found[row[0]] = _record(row)
        return found

    def watch(self) -> PollingWatch:
        """Return a new watch."""
        return PollingWatch(self.fetch, self._notice, self._results.rest)

    def forget(self, ids: Sequence[str]) -> None:
        """Delete records."""
        with self._results.access() as using:
            for some in slices(ids):
                self._results.model.objects.using(using).filter(task_id__in=some).delete()

    def expire(self, before: float, *, limit: int) -> int:
        """Delete what has expired."""
        deleted = 0
        for store in (self._results, self._chords):
            with store.access() as using:
                rows = store.model.objects.using(using)
                old = rows.filter(expires_at__gt=0, expires_at__lt=before)
                keys = list(old.values_list("pk", flat=True)[: limit - deleted])
                for some in slices(keys):
                    rows.filter(pk__in=some).delete()
                deleted += len(keys)
        return deleted

    # -- chords ---------------------------------------------------------------------------------

    def open_group(self, group: Group) -> None:
        """Begin to count."""
        with self._chords.access(atomic=True) as using:
            self._chords.model.objects.using(using).get_or_create(
                group_id=group.id,
                defaults={
                    "size": group.size,
                    "follow_ups": msgspec.msgpack.encode((group.body, group.on_error)),
                    "expires_at": group.expires_at,
                },
            )

    def grow_group(self, group: str, by: int, *, once: str = "") -> int:
        """Add slots."""
        for _ in range(TRIES):
            try:
                return self._grow(group, by, once)
            except _Raced:
                continue
        raise BrokerUnavailable("other processes add to the same chord: try again")

    def _grow(self, group: str, by: int, once: str) -> int:
        with self._chords.access(atomic=True) as using:
            rows = self._chords.model.objects.using(using).select_for_update()
            chord = rows.filter(group_id=group, sent=False).first()
            if chord is None:
                return -1
            size = int(chord.size)
            if once:
                kind = chord.growths.model.objects.using(using)
                known = kind.filter(chord=group, once=once).values_list("index", flat=True).first()
                if known is not None:
                    return int(known)
                try:
                    with transaction.atomic(using):
                        kind.create(chord_id=group, once=once, index=size)
                except IntegrityError as error:
                    raise _Raced from error
            # Of the size that was read, for databases that lock no rows.
            if not rows.filter(group_id=group, size=size).update(size=size + by):
                raise _Raced
            return size

    def close_parts(self, parts: Sequence[Part]) -> Sequence[Ready]:
        """Fill slots."""
        if not parts:
            return []
        for some in slices(sorted(parts, key=lambda part: (part.group, part.index))):
            self._fill(some)
        found: list[Ready] = []
        with self._chords.access() as using:
            for ids in slices(sorted({part.group for part in parts})):
                rows = self._chords.model.objects.using(using).filter(group_id__in=ids, sent=False)
                full = (c for c in rows.annotate(filled=Count("parts")) if c.filled >= c.size)
                found += [Ready(chord.group_id, _follow_up(chord)) for chord in full]
        return found

    def _fill(self, parts: Sequence[Part]) -> None:
        for _ in range(TRIES):
            try:
                with self._chords.access(atomic=True) as using:
                    self._insert(parts, using)
                return
            except _Raced:
                continue
        raise BrokerUnavailable("other processes fill the same chord: try again")

    def _insert(self, parts: Sequence[Part], using: str) -> None:
        groups = {part.group for part in parts}
        # Locked where the database can: who counts next sees what was filled here.
        chords = self._chords.model.objects.using(using).select_for_update()
        sizes = dict(chords.filter(group_id__in=groups).values_list("group_id", "size"))
        kind = self._chords.model._meta.get_field("parts").related_model
        rows = kind.objects.using(using)
        filled = set(rows.filter(chord__in=groups).values_list("chord_id", "index"))
        new = {
            (part.group, part.index): part
            for part in reversed(parts)
            if (part.group, part.index) not in filled and 0 <= part.index < sizes.get(part.group, 0)
        }
        made = [
            kind(
                chord_id=part.group,
                index=part.index,
                task_id=part.record.id,
                status=part.record.state,
                body=part.record.body,
                attempt=part.record.fence[0],
                handed_out=part.record.fence[1],
                expires_at=part.record.expires_at,
            )
            for part in new.values()
        ]
        try:
            with transaction.atomic(using):
                rows.bulk_create(made)
        except IntegrityError as error:
            raise _Raced from error

    def parts(self, group: str) -> Sequence[Record]:
        """Read the filled slots."""
        with self._chords.access() as using:
            kind = self._chords.model._meta.get_field("parts").related_model
            rows = kind.objects.using(using).filter(chord=group).order_by("index")
            return [_record(row) for row in rows.values_list(*_FIELDS)]

    def mark_sent(self, groups: Sequence[str]) -> None:
        """Note that follow-ups were published."""
        with self._chords.access() as using:
            for some in slices(groups):
                rows = self._chords.model.objects.using(using).filter(group_id__in=some)
                rows.update(sent=True)


class _Raced(Exception):
    """Another process inserted one of these rows meanwhile."""


_FIELDS = ("task_id", "status", "body", "attempt", "handed_out", "expires_at")


def _record(row: Sequence[Any]) -> Record:
    task_id, state, body, attempt, handed_out, expires_at = row
    fence = (attempt, handed_out)
    return Record(task_id, state, None if body is None else bytes(body), fence, expires_at)


def _follow_up(chord: Any) -> Envelope:
    body, on_error = msgspec.msgpack.decode(bytes(chord.follow_ups), type=tuple[Envelope, Envelope])
    failed = chord.parts.filter(status__in=PROPAGATE_STATES).exists()
    return on_error if failed else body


def _folded(batch: Sequence[Record]) -> dict[str, Record]:
    """Return the record of each id that the rule leaves of a batch."""
    found: dict[str, Record] = {}
    for record in batch:
        old = found.get(record.id)
        if old is None or not (old.state in READY_STATES or old.fence > record.fence):
            found[record.id] = record
    return found


def _columns(record: Record) -> dict[str, Any]:
    return {
        "status": record.state,
        "body": record.body,
        "final": record.state in READY_STATES,
        "attempt": record.fence[0],
        "handed_out": record.fence[1],
        "expires_at": record.expires_at,
        **_shown(record.body),
    }


def _shown(body: bytes | None) -> dict[str, str]:
    """Return what people are shown of a record; nothing where it is not JSON."""
    try:
        meta = json.loads(body or b"")
        meta = meta if isinstance(meta, dict) else {}
    except ValueError:
        meta = {}

    def text(key: str) -> str:
        value = meta.get(key)
        return "" if value is None else _plain(value)

    if meta.get("name") == OF_DJANGO:
        # What people know is the task that it was asked to run.
        match meta.get("args"):
            case [{"task": task, "args": args, "kwargs": kwargs}]:
                meta = {**meta, "name": task, "args": args, "kwargs": kwargs}
    return {
        "task_name": _clean(meta.get("name"))[:255],
        "periodic_task_name": _clean(meta.get("periodic_task_name"))[:255],
        "worker": _clean(meta.get("worker"))[:255],
        "task_args": text("args"),
        "task_kwargs": text("kwargs"),
        "result": _plain(meta["result"]) if "result" in meta else "",
        "traceback": _clean(meta.get("traceback")),
    }


def _plain(value: Any) -> str:
    return _clean(json.dumps(value, ensure_ascii=False)).replace("\\u0000", "")


def _clean(text: Any) -> str:
    # Databases have no form for half a character, and PostgreSQL none for NUL.
    return str(text or "").encode("utf-8", "backslashreplace").decode().replace("\x00", "")
