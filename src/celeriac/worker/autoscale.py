"""Keeps the pool as large as the work needs, between two bounds.

Owns: Autoscaler.  Thread rule: one thread; `update` from any.  May import: kernel, worker.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any

from celeriac.kernel.errors import ImproperlyConfigured
from celeriac.worker.service import Service

if TYPE_CHECKING:
    from celeriac.worker.worker import Worker

logger = logging.getLogger("celeriac.worker")

LOOK = 0.5
"""Seconds between two looks at the work."""
KEEP = 30.0
"""Seconds that a place must have been idle before it goes, as in Celery."""


class Autoscaler(Service):
    """Grows the pool at once when every place is taken, and shrinks it slowly.

    :param most: places at the most.
    :param least: places at the least.
    :param keep: seconds of idleness before the pool shrinks.
    :raises ImproperlyConfigured: the bounds contradict each other, or the pool has one size.
    """

    name = "autoscale"

    def __init__(self, worker: Worker, most: int, least: int, *, keep: float = KEEP) -> None:
        super().__init__()
        _check(most, least)
        if worker.pool.traits.name == "solo":
            raise ImproperlyConfigured("the solo pool runs one task at a time: use -P prefork")
        self._worker, self._keep = worker, keep
        self.most, self.least = most, least
        self._look = threading.Event()

    def run(self) -> None:
        """Scale until stopped."""
        spare_since: float | None = None
        while not self.stopping.is_set():
            size = self._worker.pool.size()
            busy = len(self._worker.pool.running())
            now = time.monotonic()
            wanted = size
            if busy >= size or size < self.least:
                # Twice as many: with one more at a time a burst would be over before.
                wanted = min(self.most, max(self.least, size * 2))
            if size > self.most:
                wanted = self.most
            if busy < size and size > self.least:
                spare_since = spare_since or now
                if now - spare_since >= self._keep:
                    wanted, spare_since = max(self.least, busy, size - max(1, size // 4)), None
            else:
                spare_since = None
            if wanted != size:
                logger.info("autoscale: %d of %d places are busy, now %d", busy, size, wanted)
                try:
                    self._worker.resize(wanted)
                except ImproperlyConfigured as error:
                    self.most = self._worker.pool.size()
                    self.least = min(self.least, self.most)
                    logger.warning("autoscale: %s", error)
            self._look.wait(LOOK)
            self._look.clear()

    def wake(self) -> None:
        """Look at the work now."""
        self._look.set()

    def update(self, most: int | None, least: int | None) -> tuple[int, int]:
        """Change the bounds; return (most, least).

        :raises ImproperlyConfigured: they contradict each other.
        """
        new_most = self.most if most is None else most
        new_least = min(self.least, new_most) if least is None else least
        _check(new_most, new_least)
        self.most, self.least = new_most, new_least
        self.wake()
        return self.most, self.least

    def info(self) -> dict[str, Any]:
        """Return what `stats` shows."""
        return {"max": self.most, "min": self.least, "current": self._worker.pool.size()}


def _check(most: int, least: int) -> None:
    if not 1 <= least <= most:
        raise ImproperlyConfigured(
            f"autoscale takes max,min with 1 <= min <= max, such as 10,3; not {most},{least}"
        )
