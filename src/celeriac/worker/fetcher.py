"""Claims what the pool has room for.

Owns: Fetcher.  Thread rule: one thread; it alone calls `Consumer.claim` and `Pool.submit`.
May import: kernel, ports, client, worker.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence

from celeriac.client.signals import task_received
from celeriac.kernel.errors import BrokerUnavailable, WireError
from celeriac.kernel.message import Delivery, Settlement
from celeriac.kernel.wire import task_name
from celeriac.ports.broker import Consumer
from celeriac.ports.pool import Pool
from celeriac.worker.held import Held
from celeriac.worker.service import Service

logger = logging.getLogger("celeriac.worker")
task_logger = logging.getLogger("celeriac.task")

WAIT = 1.0
"""Seconds of one waiting claim; a safety net, since what arrives ends it."""
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
"""Seconds between attempts while the broker is away."""

Gate = Callable[[Delivery], Settlement | None]
"""Lets a delivery through (None), or says how it ends without being run."""


class Fetcher(Service):
    """Claims, asks the gates, submits.

    :param gates: asked in order for each delivery before the pool is.
    :param ended: takes the settlements of those that a gate stopped.
    :param crowded: true while the settler is too far behind.
    :param received: sends the signal `task_received`; asked where somebody listens.
    """

    name = "fetcher"

    def __init__(
        self,
        consumer: Consumer,
        pool: Pool,
        held: Held,
        *,
        gates: Sequence[Gate],
        ended: Callable[[Sequence[Settlement]], None],
        crowded: Callable[[], bool],
        log_tasks: bool,
        received: Callable[[Delivery], None],
        on_death: Callable[[Service, BaseException], None] | None = None,
    ) -> None:
        super().__init__(on_death)
        self._consumer, self._pool, self._held = consumer, pool, held
        self._gates, self._ended, self._crowded = gates, ended, crowded
        self._log_tasks = log_tasks
        self.consuming = threading.Event()
        """Cleared while no queue is consumed: a claim from none would return at once."""
        self.consuming.set()
        self._received = received
        self._claims = threading.Condition()
        self._begun = self._ended_claims = 0
        self._suspects_alone = not pool.traits.isolates

    def run(self) -> None:
        """Claim until stopped; while the broker is away, try again with growing pauses."""
        pause = 0.0
        while not self.stopping.is_set():
            if not self.consuming.wait(0.1):
                continue
            if self._crowded():
                self.stopping.wait(0.01)
                continue
            room = self._held.room(WAIT)
            if room <= 0 or self.stopping.is_set():
                continue
            try:
                # One suspect at a time: two that are lost together could not be told apart.
                suspects = 0 if self._held.suspects else 1
                batch = self._claim(room, suspects)
            except BrokerUnavailable as error:
                pause = min(LONGEST_PAUSE, pause * 2 or FIRST_PAUSE)
                logger.warning("the broker is away, trying again in %.1f s: %s", pause, error)
                self.stopping.wait(pause * random.uniform(0.5, 1.0))
                continue
            if pause:
                logger.info("the broker is back")
                pause = 0.0
            if batch:
                self._take(batch)

    def _claim(self, room: int, suspects: int) -> Sequence[Delivery]:
        with self._claims:
            self._begun += 1
        try:
            if not self.consuming.is_set():  # cleared since it was looked at
                return ()
            return self._consumer.claim(room, wait=WAIT, suspects=suspects)
        finally:
            with self._claims:
                self._ended_claims = self._begun
                self._claims.notify_all()

    def pass_claim(self, within: float = WAIT) -> None:
        """Wait until the claim that goes on now has ended: what it watches may be the former queues."""
        with self._claims:
            begun = self._begun
            self._claims.wait_for(lambda: self._ended_claims >= begun, within)

    def _take(self, batch: Sequence[Delivery]) -> None:
        self._held.claimed(batch)
        if self._gates:
            batch = self._through_gates(batch)
        if task_received.receivers:
            for delivery in batch:
                self._received(delivery)
        if self._log_tasks and task_logger.isEnabledFor(logging.INFO):
            for delivery in batch:
                task_logger.info("Task %s[%s] received", _name(delivery), delivery.envelope.id)
        clean = [delivery for delivery in batch if delivery.handed_out == 1]
        self._submit(clean)
        for suspect in batch:
            if suspect.handed_out > 1:
                self._submit_suspect(suspect)

    def _through_gates(self, batch: Sequence[Delivery]) -> Sequence[Delivery]:
        through, stopped = [], []
        for delivery in batch:
            for gate in self._gates:
                settlement = gate(delivery)
                if settlement is not None:
                    stopped.append(settlement)
                    break
            else:
                through.append(delivery)
        if stopped:
            self._ended(stopped)
        return through

    def _submit(self, batch: Sequence[Delivery]) -> None:
        if batch:
            self._held.submitted(len(batch))
            self._pool.submit(batch)

    def _submit_suspect(self, suspect: Delivery) -> None:
        """Run what lost a worker before, alone where it could take others down with it.

        A pool that isolates knows which task a dead process was running.  In the others, what runs
        beside it would be lost with it: wait for the pool to be empty, though not for ever.
        """
        if self._suspects_alone:
            self._drain(patience=10.0)
        self._submit([suspect])
        if self._suspects_alone:
            self._drain(patience=10.0)

    def _drain(self, *, patience: float) -> None:
        ends = time.monotonic() + patience
        while self._held.in_pool and time.monotonic() < ends and not self.stopping.is_set():
            self.stopping.wait(0.002)

    def wake(self) -> None:
        """End a waiting claim."""
        self._held.wake()
        self._consumer.wake()


def _name(delivery: Delivery) -> str:
    try:
        return task_name(delivery.envelope.body)
    except WireError:
        return "?"
