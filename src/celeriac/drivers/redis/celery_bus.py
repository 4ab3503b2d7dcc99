"""Events said again in Celery's form, for its monitors: `celery events`, Flower and their like.

Nothing is written while nobody of them listens: a PUBLISH says how many did, and where it was none,
what comes in the next second is not said again.

Owns: CeleryEcho.  Thread rule: any thread.  May import: kernel, drivers.redis.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from celeriac.drivers.redis.connection import Server
from celeriac.kernel.celery_events import MULTI, channel, envelope, pattern, repeated
from celeriac.kernel.errors import WireError
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
        self._quiet_until = {True: 0.0, False: 0.0}
        """Of events of tasks, and of others, which are few and may be all that somebody wants."""

    @property
    def may_be_heard(self) -> bool:
        """Whether it is not known that nobody listens to events of tasks."""
        return time.monotonic() >= self._quiet_until[True]

    def repeat(self, batch: Sequence[bytes]) -> None:
        """Say messages of events again."""
        now = time.monotonic()
        if all(now < until for until in self._quiet_until.values()):
            return
        loud = {kind for kind, until in self._quiet_until.items() if now >= until}
        heard, said_some = set(), set()
        for message in batch:
            try:
                hostname, said = repeated(message)
            except WireError as error:
                logger.warning("events were not repeated for Celery's monitors: %s", error)
                continue
            for key, body in said:
                kind = key == MULTI
                if kind not in loud:
                    continue
                said_some.add(kind)
                framed = envelope(key, body, hostname=hostname, tag=uuid())
                to = channel(self._server.address.db, key, self._before)
                if self._server.call("PUBLISH", to, framed):
                    heard.add(kind)
        for kind in said_some - heard:
            self._quiet_until[kind] = time.monotonic() + DEAF
