"""Events said again in Celery's form, for its monitors: `celery events`, Flower and their like.

Nothing is written while nobody of them listens: a PUBLISH says how many did, and where it was none,
what comes in the next second is not said again.

Owns: CeleryEcho.  Thread rule: any thread.  May import: kernel, drivers.redis.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any

from celeriac.drivers.redis.connection import Server
from celeriac.kernel.celery_events import channel, envelope, pattern, routed
from celeriac.kernel.errors import WireError
from celeriac.kernel.events import read
from celeriac.kernel.ids import uuid

logger = logging.getLogger("celeriac.redis")

DEAF = 1.0
"""Seconds for which it is believed that nobody listens."""


class CeleryEcho:
    """Repeats events where Celery's monitors listen.

    :param before: `global_keyprefix`.
    """

    def __init__(self, server: Server, before: str) -> None:
        self._server, self._before = server, before
        self.pattern = pattern(server.address.db, before)
        """Of the channels on which Celery's own workers are heard."""
        self._quiet_until = 0.0

    def repeat(self, batch: Sequence[bytes]) -> None:
        """Say messages of events again."""
        if time.monotonic() < self._quiet_until:
            return
        events: list[dict[str, Any]] = []
        for message in batch:
            try:
                events += read(message)
            except WireError as error:
                logger.warning("events were not repeated for Celery's monitors: %s", error)
        if not events:
            return
        hostname = str(events[0].get("hostname", ""))
        heard = 0
        for key, body in routed(events):
            message = envelope(key, body, hostname=hostname, tag=uuid())
            to = channel(self._server.address.db, key, self._before)
            heard += self._server.call("PUBLISH", to, message)
        if not heard:
            self._quiet_until = time.monotonic() + DEAF
