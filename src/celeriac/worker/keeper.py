"""Keeps what this worker holds, and what no worker holds any more, in order.

Extends leases, asks the broker for its upkeep, gives back what waits too long in the pool, and
deletes expired results.

Owns: Keeper, Complaint.  Thread rule: one thread; it alone calls `Consumer.extend`.
May import: kernel, ports, worker.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable

from celeriac.kernel.errors import BrokerRejected, BrokerUnavailable
from celeriac.ports.broker import Broker, Consumer
from celeriac.ports.pool import Pool
from celeriac.ports.results import ResultBackend
from celeriac.worker.held import Held
from celeriac.worker.service import Service

logger = logging.getLogger("celeriac.worker")

UPKEEP = 1.0
"""Seconds between two upkeeps, jittered so that workers do not meet."""
STALL = 0.5
"""Seconds without an end after which what waits in the pool is given back."""
COMPLAIN, COMPLAIN_MOST = 10.0, 600.0
"""Seconds between two complaints of what fails: the first two, and at the most."""
EXPIRE = 60.0
"""Seconds between two deletions of expired results."""
EXPIRE_SLICE = 500
"""Records deleted in one go: more would hold the store's lock for too long."""


class Complaint:
    """How often a failure is told that comes each second: at once, then at growing intervals.

    :param now: monotonic seconds.
    """

    def __init__(self, now: float) -> None:
        self.since = self._next = now
        self._pause = COMPLAIN

    def is_due(self, now: float) -> bool:
        """Tell whether to say it again now."""
        if now < self._next:
            return False
        self._next = now + self._pause
        self._pause = min(2 * self._pause, COMPLAIN_MOST)
        return True


class Keeper(Service):
    """Extends leases and keeps house.

    :param lease: seconds that a lease lasts; it is extended every third of that.
    """

    name = "keeper"

    def __init__(
        self,
        consumer: Consumer,
        broker: Broker,
        results: ResultBackend | None,
        pool: Pool,
        held: Held,
        *,
        lease: float,
        on_death: Callable[[Service, BaseException], None] | None = None,
    ) -> None:
        super().__init__(on_death)
        self._consumer, self._broker, self._results = consumer, broker, results
        self._pool, self._held, self._lease = pool, held, lease
        self._wakeup = threading.Event()
        self._complaints: dict[str, Complaint] = {}

    def run(self) -> None:
        """Keep house until stopped."""
        now = time.monotonic()
        extend_at, expire_at, upkeep_at = now + self._lease / 3, now + EXPIRE / 6, now
        while not self.stopping.is_set():
            now = time.monotonic()
            if now >= extend_at:
                extend_at = now + (self._lease / 3 if self._extend() else self._lease / 15)
            if now >= upkeep_at:
                self._quietly("upkeep", lambda: self._broker.upkeep(time.time()))
                upkeep_at = now + UPKEEP * random.uniform(0.8, 1.2)
            if now >= expire_at and self._results is not None:
                self._quietly("expiry", self._expire)
                expire_at = now + EXPIRE * random.uniform(0.8, 1.2)
            if self._held.stalled(STALL):
                self._give_back()
            pause = STALL if self._held.in_pool > self._held.slots else UPKEEP
            self._wakeup.wait(min(pause, max(0.0, extend_at - now), self._lease / 3))

    def wake(self) -> None:
        """End the pause between two rounds."""
        self._wakeup.set()

    def _extend(self) -> bool:
        """Extend every lease; False where the broker was away."""
        held = self._held.all()
        try:
            lost = self._consumer.extend(held, lease=self._lease)
        except (BrokerUnavailable, BrokerRejected) as error:
            self._failed("leases", f"extending the leases of {len(held)} tasks", error)
            return False
        self._succeeded("leases")
        # Those that have ended meanwhile were settled, not lost.
        still = {id(delivery) for delivery in self._held.all()} if lost else ()
        for delivery in lost:
            if id(delivery) not in still:
                continue
            logger.warning("the lease of task %s was lost", delivery.envelope.id)
            self._held.settled([delivery])
            self._pool.cancel(delivery.envelope.id, hard=False)
        return True

    def _give_back(self) -> None:
        for delivery in self._held.all():
            self._pool.cancel(delivery.envelope.id, hard=False)

    def _expire(self) -> None:
        if self._results is not None:
            while (
                self._results.expire(time.time(), limit=EXPIRE_SLICE) == EXPIRE_SLICE
                and not self.stopping.is_set()
            ):
                pass

    def _quietly(self, what: str, work: Callable[[], object]) -> None:
        try:
            work()
        except (BrokerUnavailable, BrokerRejected) as error:
            self._failed(what, what, error)
        else:
            self._succeeded(what)

    def _failed(self, what: str, shown: str, error: Exception) -> None:
        complaint = self._complaints.setdefault(what, Complaint(time.monotonic()))
        if complaint.is_due(time.monotonic()):
            logger.warning("%s failed, trying again: %s", shown, error)

    def _succeeded(self, what: str) -> None:
        complaint = self._complaints.pop(what, None)
        if complaint is not None:
            away = time.monotonic() - complaint.since
            logger.info("%s works again, after %.0f s", what, away)
