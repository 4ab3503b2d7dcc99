"""Task states and chord counts in this process's memory.

Owns: MemoryResults, MemoryWatch.
Thread rule: everything may be called from any thread; `write` and `fill` by the lock's holder.
May import: kernel, ports.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from celeriac.drivers.memory.shared import Shared
from celeriac.kernel.message import Envelope, Group, Part, Ready, Record
from celeriac.kernel.states import PROPAGATE_STATES, READY_STATES
from celeriac.ports.caps import Capabilities


def capabilities(name: str) -> Capabilities:
    """Return what a memory world can do; `name` is that of its result store."""
    return Capabilities(
        lease="timed",
        delay="native",
        priorities=10,
        counts_deliveries=True,
        dedupes_ids=True,
        withdraws=True,
        peeks=True,
        settles_with=frozenset({name}),
        joins=False,
        wakes=True,
        max_body=None,
        wires=frozenset({"celery"}),  # nobody else reads what is here, in whatever form
    )


class _Counted:
    """A group and its filled slots."""

    __slots__ = ("grown", "group", "sent", "slots")

    def __init__(self, group: Group) -> None:
        self.group = group
        self.slots: dict[int, Record] = {}
        self.grown: dict[str, int] = {}
        self.sent = False

    def follow_up(self) -> Envelope | None:
        """Return what is to be published now: nothing while a slot is empty or once it was sent."""
        if self.sent or len(self.slots) < self.group.size:
            return None
        failed = any(record.state in PROPAGATE_STATES for record in self.slots.values())
        return self.group.on_error if failed else self.group.body


class MemoryResults:
    """Task states and chord counts of one world."""

    def __init__(self, shared: Shared, name: str) -> None:
        self.caps = capabilities(name)
        self.name = name
        self._shared = shared
        self._records: dict[str, Record] = {}
        self._groups: dict[str, _Counted] = {}
        # (expires_at, id); an item whose id has been forgotten or has another date by now is void.
        self._expiries: list[tuple[float, str]] = []
        self._group_expiries: list[tuple[float, str]] = []
        self._watches: dict[str, set[MemoryWatch]] = {}

    def open(self) -> None:
        """Do nothing: there is nothing to connect to."""

    def close(self) -> None:
        """Do nothing: the store lasts as long as its process."""

    def store(self, batch: Sequence[Record]) -> None:
        with self._shared.lock:
            for record in batch:
                self.write(record)

    def write(self, record: Record) -> None:
        """Store one record by the rule of `Record`.  The caller holds the lock."""
        old = self.known(record.id)
        if old is not None and (old.state in READY_STATES or old.fence > record.fence):
            return
        kept = self._records[record.id] = _copy(record)
        if kept.expires_at:
            self._note_expiry(kept)
        if kept.state in READY_STATES:
            for watch in self._watches.pop(kept.id, ()):
                watch.settled(kept)

    def fetch(self, ids: Sequence[str]) -> Mapping[str, Record]:
        with self._shared.lock:
            found = ((task_id, self.known(task_id)) for task_id in ids)
            return {task_id: _copy(record) for task_id, record in found if record is not None}

    def known(self, task_id: str) -> Record | None:
        """Return the record of `id` unless it has expired.  The caller holds the lock."""
        record = self._records.get(task_id)
        if record is None or 0 < record.expires_at <= self._shared.clock.time():
            return None
        return record

    def watch(self) -> MemoryWatch:
        return MemoryWatch(self._shared, self, self._watches)

    def forget(self, ids: Sequence[str]) -> None:
        with self._shared.lock:
            for task_id in ids:
                self._records.pop(task_id, None)

    def open_group(self, group: Group) -> None:
        with self._shared.lock:
            if group.id in self._groups:
                return
            self._groups[group.id] = _Counted(group)
            if group.expires_at:
                heapq.heappush(self._group_expiries, (group.expires_at, group.id))

    def grow_group(self, group: str, by: int, *, once: str = "") -> int:
        with self._shared.lock:
            counted = self._groups.get(group)
            if counted is None or counted.sent:
                return -1
            size = counted.group.size
            if once and counted.grown.setdefault(once, size) != size:
                return counted.grown[once]
            counted.group = replace(counted.group, size=size + by)
            return size

    def close_parts(self, parts: Sequence[Part]) -> Sequence[Ready]:
        with self._shared.lock:
            for part in parts:
                self._fill(part)
            groups = dict.fromkeys(part.group for part in parts)
            return [ready for group in groups for ready in self._ready(group)]

    def fill(self, part: Part) -> Sequence[Ready]:
        """Fill one slot; return its group if it is ready.  The caller holds the lock."""
        self._fill(part)
        return self._ready(part.group)

    def _fill(self, part: Part) -> None:
        counted = self._groups.get(part.group)
        if counted is not None and 0 <= part.index < counted.group.size:
            counted.slots.setdefault(part.index, _copy(part.record))

    def _ready(self, group: str) -> Sequence[Ready]:
        counted = self._groups.get(group)
        envelope = counted and counted.follow_up()
        return [Ready(group, envelope)] if envelope else []

    def parts(self, group: str) -> Sequence[Record]:
        with self._shared.lock:
            counted = self._groups.get(group)
            return [_copy(record) for _, record in sorted(counted.slots.items())] if counted else []

    def mark_sent(self, groups: Sequence[str]) -> None:
        with self._shared.lock:
            for group in groups:
                if group in self._groups:
                    self._groups[group].sent = True

    def expire(self, before: float, *, limit: int) -> int:
        deleted = 0
        with self._shared.lock:
            while deleted < limit and self._expiries and self._expiries[0][0] < before:
                at, task_id = heapq.heappop(self._expiries)
                if (record := self._records.get(task_id)) is not None and record.expires_at == at:
                    del self._records[task_id]
                    deleted += 1
            while deleted < limit and self._group_expiries and self._group_expiries[0][0] < before:
                deleted += (
                    self._groups.pop(heapq.heappop(self._group_expiries)[1], None) is not None
                )
        return deleted

    def _note_expiry(self, record: Record) -> None:
        heapq.heappush(self._expiries, (record.expires_at, record.id))
        if len(self._expiries) > 4 * len(self._records) + 1000:
            # Mostly void items: forgotten records must not leave their dates behind.
            self._expiries = [(r.expires_at, r.id) for r in self._records.values() if r.expires_at]
            heapq.heapify(self._expiries)


class MemoryWatch:
    """One waiter; the store tells it what became final, it asks for nothing."""

    def __init__(
        self, shared: Shared, results: MemoryResults, watches: dict[str, set[MemoryWatch]]
    ) -> None:
        self._shared = shared
        self._results = results
        self._watches = watches
        self._ids: set[str] = set()
        self._finals: dict[str, Record] = {}
        self._added = 0
        self._closed = False

    def add(self, ids: Sequence[str]) -> None:
        with self._shared.lock:
            for task_id in ids:
                record = self._results.known(task_id)
                if record is not None and record.state in READY_STATES:
                    self._finals[task_id] = record
                else:
                    self._ids.add(task_id)
                    self._watches.setdefault(task_id, set()).add(self)
            self._added += 1
            self._shared.finals.notify_all()

    def discard(self, ids: Sequence[str]) -> None:
        with self._shared.lock:
            for task_id in ids:
                self._finals.pop(task_id, None)
                self._leave(task_id)

    def settled(self, record: Record) -> None:
        """Hear that a watched id is final.  The caller holds the lock."""
        self._ids.discard(record.id)
        self._finals[record.id] = record
        self._shared.finals.notify_all()

    def poll(self, wait: float) -> Mapping[str, Record]:
        deadline = time.monotonic() + wait
        with self._shared.lock:
            added = self._added
            while not self._finals and added == self._added and not self._closed:
                if not self._shared.pause(self._shared.finals, deadline):
                    break
            found = {task_id: _copy(record) for task_id, record in self._finals.items()}
            self._finals.clear()
            return found

    def close(self) -> None:
        with self._shared.lock:
            self._closed = True
            self._finals.clear()
            for task_id in list(self._ids):
                self._leave(task_id)
            self._shared.finals.notify_all()

    def _leave(self, task_id: str) -> None:
        self._ids.discard(task_id)
        watches = self._watches.get(task_id, set())
        watches.discard(self)
        if not watches:
            self._watches.pop(task_id, None)


def _copy(record: Record) -> Record:
    """Return a record that its owner may change: what is stored is nobody's to change."""
    return Record(record.id, record.state, record.body, record.fence, record.expires_at)
