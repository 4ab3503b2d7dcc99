"""Queues in this process's memory.

An entry is in one place at a time: in a line (ready or delayed), held under a lease, or buried.

Owns: MemoryBroker, MemoryConsumer.
Thread rule: everything may be called from any thread.
May import: kernel, ports.
"""

from __future__ import annotations

import heapq
import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from celeriac.drivers.memory.results import MemoryResults
from celeriac.drivers.memory.shared import Shared
from celeriac.kernel.message import (
    Buried,
    Delivery,
    Envelope,
    QueueCount,
    Settlement,
    Verdict,
)

_TOP = 9
"""The most urgent priority; 0 is the least."""


class _Entry:
    """An envelope and where it is."""

    __slots__ = ("consumer", "envelope", "lease_until", "line", "losses", "receipt", "seq", "since")

    def __init__(self, envelope: Envelope, seq: int, since: float) -> None:
        self.envelope = envelope
        self.seq = seq
        """Its place among all arrivals; kept when it is given back, so it comes first again."""
        self.since = since
        """Unix seconds since which it can be claimed."""
        self.losses = 0
        self.line: _Line | None = None
        self.receipt = 0
        self.consumer: MemoryConsumer | None = None
        self.lease_until = 0.0


class _Line:
    """A heap of entries that can also be left from the middle."""

    __slots__ = ("_gone", "_heap")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, _Entry]] = []
        self._gone = 0

    def __len__(self) -> int:
        return len(self._heap) - self._gone

    def __iter__(self) -> Iterator[_Entry]:
        return (item[2] for item in sorted(self._heap) if item[2].line is self)

    def push(self, entry: _Entry, key: float = 0.0) -> None:
        entry.line = self
        heapq.heappush(self._heap, (key, entry.seq, entry))

    def head(self) -> _Entry | None:
        heap = self._heap
        while heap and heap[0][2].line is not self:
            heapq.heappop(heap)
            self._gone -= 1
        return heap[0][2] if heap else None

    def pop(self) -> _Entry:
        """Take the head, which `head` has just shown."""
        entry = heapq.heappop(self._heap)[2]
        entry.line = None
        return entry

    def discard(self, entry: _Entry) -> None:
        entry.line = None
        self._gone += 1
        if self._gone > 64 and 2 * self._gone > len(self._heap):
            # Each item is dropped once per doubling: constant time on average, and no leak.
            self._heap = [item for item in self._heap if item[2].line is self]
            heapq.heapify(self._heap)
            self._gone = 0

    def clear(self) -> list[_Entry]:
        entries = list(self)
        for entry in entries:
            entry.line = None
        self._heap, self._gone = [], 0
        return entries


class _Queue:
    """The lines of one queue."""

    __slots__ = ("delayed", "held", "ready", "suspects")

    def __init__(self) -> None:
        self.ready = [_Line() for _ in range(_TOP + 1)]
        self.suspects = [_Line() for _ in range(_TOP + 1)]
        self.delayed = _Line()
        self.held = 0

    def push(self, entry: _Entry) -> None:
        """Put an entry that is due into its line."""
        lines = self.suspects if entry.losses else self.ready
        lines[min(_TOP, max(0, entry.envelope.priority))].push(entry)

    def promote(self, now: float) -> bool:
        """Move what is due; True where something was."""
        moved = False
        while (head := self.delayed.head()) is not None and head.envelope.not_before <= now:
            self.push(self.delayed.pop())
            moved = True
        return moved

    def lines(self) -> Iterator[_Line]:
        """Yield the lines of what can be claimed."""
        return itertools.chain(self.ready, self.suspects)

    def waiting(self) -> list[_Entry]:
        """List what is ready, by priority and arrival, then what is delayed, by its time."""
        ready: list[_Entry] = []
        for level in range(_TOP, -1, -1):
            ready += heapq.merge(self.ready[level], self.suspects[level], key=lambda e: e.seq)
        return ready + list(self.delayed)

    def count(self, now: float) -> QueueCount:
        heads = (line.head() for line in self.lines())
        since = min((head.since for head in heads if head is not None), default=now)
        return QueueCount(
            ready=sum(map(len, self.lines())),
            delayed=len(self.delayed),
            held=self.held,
            oldest=max(0.0, now - since),
        )


class MemoryBroker:
    """Queues of one world."""

    def __init__(self, shared: Shared, results: MemoryResults) -> None:
        self.caps = results.caps
        self._shared = shared
        self._results = results
        self._queues: dict[str, _Queue] = {}
        self._queued: dict[str, _Entry] = {}
        self._held: dict[str, _Entry] = {}
        self._buried: dict[str, Buried] = {}
        self._seq = itertools.count(1)
        self._receipts = itertools.count(1)
        # No lease ends before this; it saves looking through what is held.
        self._first_end = math.inf

    def open(self) -> None:
        """Do nothing: there is nothing to connect to."""

    def close(self) -> None:
        """Do nothing: the queues last as long as their process."""

    def declare(self, queues: Sequence[str]) -> None:
        with self._shared.lock:
            for name in queues:
                self._queue(name)

    def publish(self, batch: Sequence[Envelope]) -> None:
        with self._shared.lock:
            self._enqueue(batch)

    def consume(self, queues: Sequence[str], *, owner: str, lease: float) -> MemoryConsumer:
        self.declare(queues)
        return MemoryConsumer(self._shared, self, queues, owner, lease)

    def withdraw(self, ids: Sequence[str]) -> Sequence[str]:
        return [envelope.id for envelope in self.take_back(ids)]

    def take_back(self, ids: Sequence[str]) -> Sequence[Envelope]:
        """Take queued envelopes back and return them."""
        with self._shared.lock:
            taken = [entry for one in ids if (entry := self._queued.pop(one, None)) is not None]
            for entry in taken:
                assert entry.line is not None
                entry.line.discard(entry)
            return [entry.envelope for entry in taken]

    def count(self, queues: Sequence[str]) -> Mapping[str, QueueCount]:
        with self._shared.lock:
            now = self._shared.clock.time()
            counts = {}
            for name in queues or list(self._queues):
                queue = self._queues.get(name) or _Queue()
                queue.promote(now)
                counts[name] = queue.count(now)
            return counts

    def peek(self, queue: str, *, limit: int, after: str | None = None) -> Sequence[Envelope]:
        with self._shared.lock:
            if queue not in self._queues:
                return []
            self._queues[queue].promote(self._shared.clock.time())
            entries = self._queues[queue].waiting()
            found = _behind(entries, after, limit, lambda entry: entry.envelope.id)
            return [_copy(entry.envelope) for entry in found]

    def purge(self, queue: str) -> int:
        with self._shared.lock:
            if (lines := self._queues.get(queue)) is None:
                return 0
            gone = [e for line in (*lines.lines(), lines.delayed) for e in line.clear()]
            for entry in gone:
                del self._queued[entry.envelope.id]
            return len(gone)

    def buried(self, *, limit: int, after: str | None = None) -> Sequence[Buried]:
        with self._shared.lock:
            return _behind(self._buried.values(), after, limit, lambda one: one.envelope.id)

    def requeue(self, ids: Sequence[str]) -> Sequence[str]:
        with self._shared.lock:
            back = [one for one in dict.fromkeys(ids) if one in self._buried and not self._has(one)]
            self._enqueue([self._buried.pop(one).envelope for one in back])
            return back

    def drop(self, ids: Sequence[str]) -> Sequence[str]:
        with self._shared.lock:
            return [one for one in ids if self._buried.pop(one, None) is not None]

    def upkeep(self, now: float) -> None:
        """Return expired leases, promote due envelopes.

        :param now: not used: the clock of the world decides, for every worker alike.
        """
        shared = self._shared
        with shared.lock:
            wall, monotonic = shared.clock.time(), shared.clock.monotonic()
            moved = [queue.promote(wall) for queue in self._queues.values()]
            if monotonic >= self._first_end:
                ended = [e for e in self._held.values() if e.lease_until <= monotonic]
                for entry in ended:
                    self.give_back(entry, losses=entry.losses + 1)
                self._first_end = min(
                    (e.lease_until for e in self._held.values()), default=math.inf
                )
            if any(moved):
                shared.work.notify_all()

    # What follows is for the consumer, which holds the lock.

    def _queue(self, name: str) -> _Queue:
        queue = self._queues.get(name)
        if queue is None:
            queue = self._queues[name] = _Queue()
        return queue

    def _has(self, task_id: str) -> bool:
        return task_id in self._queued or task_id in self._held

    def _enqueue(self, batch: Iterable[Envelope]) -> None:
        now = self._shared.clock.time()
        for envelope in batch:
            if not self._has(envelope.id):
                # A copy: what its owner does to it later must not reach the queue.
                self._place(_Entry(_copy(envelope), next(self._seq), now), now)
        self._shared.work.notify_all()

    def _place(self, entry: _Entry, now: float) -> None:
        envelope = entry.envelope
        queue = self._queue(envelope.queue)
        self._queued[envelope.id] = entry
        if envelope.not_before > now:
            entry.since = envelope.not_before
            queue.delayed.push(entry, envelope.not_before)
        else:
            queue.push(entry)

    def take(
        self,
        names: Sequence[str],
        limit: int,
        suspects: int,
        by: MemoryConsumer,
        lease_until: float,
    ) -> list[Delivery]:
        """Lease up to `limit` entries of some queues."""
        now = self._shared.clock.time()
        queues = [self._queue(name) for name in names]
        for queue in queues:
            queue.promote(now)
        taken: list[_Entry] = []
        for level in range(_TOP, -1, -1):
            lines = [queue.ready[level] for queue in queues]
            doubtful = [queue.suspects[level] for queue in queues]
            while len(taken) < limit:
                heads = (line.head() for line in (lines + doubtful if suspects > 0 else lines))
                first = min((h for h in heads if h is not None), key=_arrival, default=None)
                if first is None:
                    break
                assert first.line is not None
                suspects -= first.losses > 0
                taken.append(first.line.pop())
        for entry in taken:
            self._hold(entry, by, lease_until)
        return [
            Delivery(_copy(entry.envelope), entry.receipt, lease_until, entry.losses + 1)
            for entry in taken
        ]

    def next_due(self, names: Sequence[str]) -> float | None:
        """Return when the first delayed entry of some queues can be claimed."""
        heads = (self._queue(name).delayed.head() for name in names)
        return min((head.envelope.not_before for head in heads if head is not None), default=None)

    def _hold(self, entry: _Entry, by: MemoryConsumer, lease_until: float) -> None:
        del self._queued[entry.envelope.id]
        self._held[entry.envelope.id] = entry
        self._queue(entry.envelope.queue).held += 1
        entry.receipt, entry.consumer = next(self._receipts), by
        entry.lease_until = lease_until
        self.lease_ends(lease_until)

    def lease_ends(self, at: float) -> None:
        """Note that a lease ends at `at`, in the clock's monotonic seconds."""
        self._first_end = min(self._first_end, at)

    def held(self, delivery: Delivery) -> _Entry | None:
        """Return the entry under a delivery if that is still its holder's."""
        entry = self._held.get(delivery.envelope.id)
        return entry if entry is not None and entry.receipt == delivery.receipt else None

    def _let_go(self, entry: _Entry) -> None:
        del self._held[entry.envelope.id]
        self._queue(entry.envelope.queue).held -= 1
        entry.consumer = None

    def give_back(self, entry: _Entry, *, losses: int) -> None:
        """Put a held entry back where it was."""
        self._let_go(entry)
        entry.losses = losses
        self._place(entry, self._shared.clock.time())
        self._shared.work.notify_all()

    def give_up(self, consumer: MemoryConsumer) -> None:
        """Take back all that a consumer holds, as lost."""
        for entry in [e for e in self._held.values() if e.consumer is consumer]:
            self.give_back(entry, losses=entry.losses + 1)

    def end(self, entry: _Entry, settlement: Settlement) -> None:
        """Do all that goes with the end of a delivery."""
        verdict = settlement.verdict
        if verdict is Verdict.RELEASE:
            self.give_back(entry, losses=entry.losses)
        elif verdict is Verdict.LOST:
            self.give_back(entry, losses=entry.losses + 1)
        else:
            self._let_go(entry)
            if verdict is Verdict.RETRY:
                assert settlement.again is not None, "RETRY without `again`"
                self._enqueue([settlement.again])
            elif verdict is Verdict.BURY:
                self._bury(entry, settlement.reason)
        if settlement.record is not None:
            self._results.write(settlement.record)
        if settlement.part is not None:
            for ready in self._results.fill(settlement.part):
                self._enqueue([ready.envelope])
                self._results.mark_sent([ready.group])
        self._enqueue(settlement.publish)

    def _bury(self, entry: _Entry, reason: str) -> None:
        envelope, now = entry.envelope, self._shared.clock.time()
        self._buried.pop(envelope.id, None)  # so that the newest is the last
        self._buried[envelope.id] = Buried(envelope, reason, now, entry.losses + 1)


class MemoryConsumer:
    """One worker's hold on some queues of a world."""

    def __init__(
        self,
        shared: Shared,
        broker: MemoryBroker,
        queues: Sequence[str],
        owner: str,
        lease: float,
    ) -> None:
        self.owner = owner
        self._shared = shared
        self._broker = broker
        self._queues = list(dict.fromkeys(queues))
        self._lease = lease
        self._woken = False
        self._closed = False

    def claim(self, limit: int, *, wait: float, suspects: int = 1) -> Sequence[Delivery]:
        shared, broker = self._shared, self._broker
        deadline = time.monotonic() + wait
        with shared.lock:
            while not self._closed:
                lease_until = shared.clock.monotonic() + self._lease
                taken = broker.take(self._queues, limit, suspects, self, lease_until)
                if taken or self._woken:
                    self._woken = False
                    return taken
                if not shared.pause(shared.work, deadline, broker.next_due(self._queues)):
                    break
            return []

    def settle(self, batch: Sequence[Settlement]) -> Sequence[Delivery]:
        stale = []
        with self._shared.lock:
            for settlement in batch:
                entry = self._broker.held(settlement.delivery)
                if entry is None:
                    stale.append(settlement.delivery)
                else:
                    self._broker.end(entry, settlement)
        return stale

    def extend(self, held: Sequence[Delivery], *, lease: float) -> Sequence[Delivery]:
        lost = []
        with self._shared.lock:
            until = self._shared.clock.monotonic() + lease
            for delivery in held:
                entry = self._broker.held(delivery)
                if entry is None:
                    lost.append(delivery)
                else:
                    entry.lease_until = delivery.lease_until = until
            self._broker.lease_ends(until)
        return lost

    def watch(self, queues: Sequence[str]) -> None:
        self._broker.declare(queues)
        with self._shared.lock:
            self._queues = list(dict.fromkeys(queues))
            # A claim that waits begins to look at the new queues.
            self._shared.work.notify_all()

    def wake(self) -> None:
        with self._shared.lock:
            self._woken = True
            self._shared.work.notify_all()

    def close(self) -> None:
        with self._shared.lock:
            self._closed = True
            self._broker.give_up(self)
            self._shared.work.notify_all()


_T = TypeVar("_T")


def _behind(
    items: Iterable[_T],
    after: str | None,
    limit: int,
    id_of: Callable[[_T], str],
) -> list[_T]:
    """Return up to `limit` items behind the one called `after`; none where it is gone."""
    rest = iter(items)
    if after is not None:
        # Consumes up to and with `after`.
        any(id_of(item) == after for item in rest)
    return list(itertools.islice(rest, limit))


def _arrival(entry: _Entry) -> int:
    return entry.seq


def _copy(envelope: Envelope) -> Envelope:
    """Return an envelope that its owner may change."""
    return Envelope(
        envelope.id,
        envelope.queue,
        envelope.body,
        envelope.priority,
        envelope.not_before,
        envelope.expires_at,
        envelope.attempt,
    )
