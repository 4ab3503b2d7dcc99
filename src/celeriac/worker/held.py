"""The deliveries that this worker holds, and how fast they go.

Owns: Held.  Thread rule: any thread.  May import: kernel.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence

from celeriac.kernel.message import Delivery

AHEAD = 0.05
"""Seconds of work to claim ahead: longer would starve idle workers, shorter costs round trips."""
MOST = 512
"""Deliveries to hold at the most for each slot, however short the tasks are."""
UNKNOWN = 1.0
"""Seconds that a task is taken to need before one has ended: claims one for each slot."""


class Held:
    """What was claimed and is not settled, and how many of it the pool has.

    :param slots: how many tasks can run at the same time.
    :param multiplier: `worker_prefetch_multiplier`; 0 claims as much as starts within `AHEAD`.
    """

    def __init__(self, slots: int, multiplier: int) -> None:
        self.slots = slots
        self.multiplier = multiplier
        self._lock = threading.Condition()
        self._held: dict[int, Delivery] = {}
        self._in_pool = 0
        self._mean = UNKNOWN
        self._last_end = time.monotonic()
        self._waiting_for_room = False
        self.suspects = 0
        """How many of what is held have lost a worker before."""
        self.on_suspect_done: Callable[[], None] = lambda: None
        self.total = 0
        """How many deliveries have ended here."""

    def claimed(self, batch: Iterable[Delivery]) -> None:
        """Note deliveries that were claimed."""
        with self._lock:
            for delivery in batch:
                self._held[id(delivery)] = delivery
                self.suspects += delivery.handed_out > 1

    def submitted(self, count: int) -> None:
        """Note that the pool was given `count` deliveries."""
        with self._lock:
            if self._in_pool == 0:
                self._last_end = time.monotonic()
            self._in_pool += count

    def left_pool(self, count: int, runtime: float | None) -> None:
        """Note that `count` deliveries came out of the pool.

        :param runtime: seconds that they ran in all; None where they did not run.
        """
        with self._lock:
            self._in_pool -= count
            if runtime is not None:
                self.total += count
                self._last_end = time.monotonic()
                mean = runtime / count
                # A longer task than expected counts at once, a shorter one bit by bit: claiming
                # too little costs a round trip, claiming too much makes tasks wait.
                weight = 0.5 if mean > self._mean else 0.2
                self._mean += weight * (mean - self._mean)
            if self._waiting_for_room:
                self._lock.notify_all()

    def settled(self, batch: Iterable[Delivery]) -> None:
        """Forget deliveries that were settled or lost."""
        cleared = False
        with self._lock:
            for delivery in batch:
                if self._held.pop(id(delivery), None) and delivery.handed_out > 1:
                    self.suspects -= 1
                    cleared = True
        if cleared:
            self.on_suspect_done()

    def all(self) -> Sequence[Delivery]:
        """Return what is held."""
        with self._lock:
            return list(self._held.values())

    @property
    def in_pool(self) -> int:
        """How many deliveries the pool has."""
        return self._in_pool

    def target(self) -> int:
        """Return how many deliveries are claimed ahead now."""
        with self._lock:
            return self._target()

    def _target(self) -> int:
        ahead = min(MOST, max(1, int(AHEAD / max(self._mean, 1e-6))))
        if self.multiplier > 0:
            ahead = min(ahead, self.multiplier)
        return self.slots * ahead

    def room(self, wait: float) -> int:
        """Return how many deliveries to claim now, waiting up to `wait` seconds for one.

        Waits for a quarter of the target to come free, so that claims come in batches.
        """
        with self._lock:
            ends = time.monotonic() + wait
            while True:
                target = self._target()
                room = target - self._in_pool
                if room >= max(1, target // 4):
                    return room
                left = ends - time.monotonic()
                if left <= 0:
                    return max(0, room)
                self._waiting_for_room = True
                self._lock.wait(left)
                self._waiting_for_room = False

    def stalled(self, after: float) -> bool:
        """Return whether more is in the pool than can run, and nothing ended for `after` seconds.

        If so, the next claims are for free slots only.
        """
        with self._lock:
            waits = self._in_pool > self.slots
            if waits and time.monotonic() - self._last_end > after:
                self._mean = UNKNOWN
                return True
            return False

    def wake(self) -> None:
        """End a waiting `room`."""
        with self._lock:
            self._lock.notify_all()
