"""Settles what has ended, in batches of what is there.

Order of effects where results live elsewhere than the queue, always and only this: results.store,
results.close_parts, broker.publish, results.mark_sent, consumer.settle.  Every step is idempotent
by id and the settlement is last: a crash anywhere repeats, it never loses.

Owns: Settler.  Thread rule: `ended`, `noted` from any thread; it alone calls `Consumer.settle`.
May import: kernel, ports, worker.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from celeriac.kernel.errors import BrokerRejected, BrokerUnavailable
from celeriac.kernel.message import Delivery, Envelope, Record, Settlement, Verdict
from celeriac.kernel.states import FAILURE, READY_STATES
from celeriac.ports.broker import Broker, Consumer
from celeriac.ports.results import ResultBackend
from celeriac.worker.held import Held
from celeriac.worker.service import Service

T = TypeVar("T")

logger = logging.getLogger("celeriac.worker")

BATCH = 256
"""Settlements in one call: a larger batch gains nothing (56,000/s at 100 on SQLite)."""
BACKLOG = 10 * BATCH
"""Settlements that may wait before the fetcher stops claiming."""
REFUSED = "its outcome was refused"
PAUSE = 0.2
"""Seconds between attempts while the broker is away."""


class Settler(Service):
    """Writes outcomes.

    :param results: the result store; None where results are not kept.
    """

    name = "settler"

    def __init__(
        self,
        consumer: Consumer,
        broker: Broker,
        results: ResultBackend | None,
        held: Held,
        *,
        on_death: Callable[[Service, BaseException], None] | None = None,
    ) -> None:
        super().__init__(on_death)
        self._consumer, self._broker, self._results, self._held = consumer, broker, results, held
        self._together = results is None or results.name in broker.caps.settles_with
        self._ended: deque[Settlement] = deque()
        self._notes: deque[Record] = deque()
        self._work = threading.Event()

    def ended(self, batch: Sequence[Settlement]) -> None:
        """Settle these soon."""
        self._ended.extend(batch)
        self._work.set()

    def noted(self, batch: Sequence[Record]) -> None:
        """Store these states soon, in the order given and before what ends later."""
        if self._results is not None:
            self._notes.extend(batch)
            self._work.set()

    @property
    def crowded(self) -> bool:
        """Whether so much waits that no more should be claimed."""
        return len(self._ended) > BACKLOG

    def run(self) -> None:
        """Settle until stopped and nothing is left."""
        while not (self.stopping.is_set() and not self._ended and not self._notes):
            self._work.wait()
            self._work.clear()
            while self._ended or self._notes:
                # Notes first: a STARTED must not come after the end of its task.
                notes = _take(self._notes)
                batch = _take(self._ended)
                if notes:
                    self._store_notes(notes)
                if batch:
                    self._settle(batch)

    def wake(self) -> None:
        """End the wait for work."""
        self._work.set()

    def _store_notes(self, notes: Sequence[Record]) -> None:
        try:
            if self._results is not None:
                self._results.store(notes)
        except (BrokerUnavailable, BrokerRejected) as error:
            logger.warning("%d states of running tasks were not stored: %s", len(notes), error)

    def _settle(self, batch: Sequence[Settlement]) -> None:
        """Settle a batch; while the broker is away, again until the leases have ended."""
        while True:
            try:
                self._write(batch)
                return
            except BrokerUnavailable as error:
                batch = self._still_held(batch)
                if not batch:
                    logger.error("gave up settling: the leases have ended (%s)", error)
                    return
                logger.warning("%d outcomes wait to be settled: %s", len(batch), error)
                self.stopping.wait(PAUSE)
            except BrokerRejected as error:
                if len(batch) == 1:
                    batch = self._refused(batch[0], error)
                    if not batch:
                        return
                    continue
                for settlement in batch:
                    self._settle([settlement])
                return

    def _still_held(self, batch: Sequence[Settlement]) -> Sequence[Settlement]:
        now = time.monotonic()
        gone = [s.delivery for s in batch if s.delivery.lease_until < now]
        if gone:
            self._held.settled(gone)
        return [s for s in batch if s.delivery.lease_until >= now]

    def _refused(self, settlement: Settlement, error: BrokerRejected) -> Sequence[Settlement]:
        """Return what to settle instead of an outcome that the store will not have."""
        envelope = settlement.delivery.envelope
        if settlement.verdict is Verdict.BURY and settlement.reason.startswith(REFUSED):
            logger.error("task %s cannot be settled: %s", envelope.id, error)
            self._held.settled([settlement.delivery])
            return ()
        logger.error("the outcome of task %s was refused, it is buried: %s", envelope.id, error)
        buried = Settlement(settlement.delivery, Verdict.BURY, reason=f"{REFUSED}: {error}")
        if settlement.part is not None:
            # A chord that waits must not wait for ever; without a body this is small enough.
            empty = replace(settlement.part.record, state=FAILURE, body=None)
            buried.part = replace(settlement.part, record=empty)
        return [buried]

    def _write(self, batch: Sequence[Settlement]) -> None:
        if not self._together:
            batch = self._write_apart(batch)
        lost = self._consumer.settle(batch)
        self._held.settled([settlement.delivery for settlement in batch])
        for delivery in lost:
            self._say_lost(delivery)

    def _write_apart(self, batch: Sequence[Settlement]) -> Sequence[Settlement]:
        results = self._results
        assert results is not None
        records = [s.record for s in batch if s.record is not None]
        if records:
            results.store(records)
        parts = [s.part for s in batch if s.part is not None]
        ready = results.close_parts(parts) if parts else ()
        follow_ups = [envelope for s in batch for envelope in s.publish]
        follow_ups += [group.envelope for group in ready]
        if follow_ups and _may_repeat(batch):
            follow_ups = _not_ended(results, follow_ups)
        if follow_ups:
            self._broker.publish(follow_ups)
        if ready:
            results.mark_sent([group.group for group in ready])
        return [replace(s, record=None, part=None, publish=()) for s in batch]

    @staticmethod
    def _say_lost(delivery: Delivery) -> None:
        logger.warning(
            "task %s was no longer ours when it ended: its lease had run out, its outcome is dropped",
            delivery.envelope.id,
        )


def _may_repeat(batch: Sequence[Settlement]) -> bool:
    """Return whether another worker may have come as far as publishing what follows."""
    now = time.monotonic()
    return any(s.delivery.handed_out > 1 or s.delivery.lease_until < now for s in batch)


def _not_ended(results: ResultBackend, envelopes: Sequence[Envelope]) -> list[Envelope]:
    """Return those that have not been run: what still waits, its broker knows by its id."""
    found = results.fetch([envelope.id for envelope in envelopes])
    ended = {name for name, record in found.items() if record.state in READY_STATES}
    return [envelope for envelope in envelopes if envelope.id not in ended]


def _take(queue: deque[T]) -> list[T]:
    return [queue.popleft() for _ in range(min(BATCH, len(queue)))]
