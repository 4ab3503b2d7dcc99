"""Celery's remote control on a Redis server: hears its commands, leaves replies in its lists.

Owns: CeleryMailbox.  Thread rule: any thread; a subscription belongs to one.
May import: kernel, drivers.redis.
"""

from __future__ import annotations

from celeriac.drivers.redis.connection import Server
from celeriac.drivers.redis.subscriber import Subscriber
from celeriac.kernel.celery_pidbox import EXCHANGE, queues_of

LEFT = 60
"""Seconds that replies are left for a caller who may be gone."""
MOST = 1_000
"""Replies that are left for one caller."""


class CeleryMailbox:
    """The place where a Celery client and its workers meet.

    :param before: `global_keyprefix`.
    """

    def __init__(self, server: Server, before: str) -> None:
        self._server, self._before = server, before
        self._channel = f"{before}/{server.address.db}.{EXCHANGE}"
        self._ear: Subscriber | None = None

    def listen(self) -> None:
        """Begin to hear commands."""
        if self._ear is None:
            self._ear = Subscriber(self._server)
        if not self._ear.connected:
            self._ear.subscribe([self._channel])

    def poll(self, wait: float) -> list[bytes]:
        """Return the frames that came, waiting up to `wait` seconds for the first."""
        self.listen()
        assert self._ear is not None
        return [frame for _, frame in self._ear.receive(wait)[0]]

    def answer(self, exchange: str, routing_key: str, frame: bytes) -> None:
        """Leave a reply where its caller looks; nobody's is dropped."""
        bindings = self._server.call("SMEMBERS", f"{self._before}_kombu.binding.{exchange}")
        for queue in queues_of(bindings, routing_key):
            key = self._before + queue
            self._server.call("LPUSH", key, frame)
            self._server.call("LTRIM", key, 0, MOST - 1)
            self._server.call("EXPIRE", key, LEFT)

    def wake(self) -> None:
        """End a waiting `poll`."""
        if self._ear is not None:
            self._ear.wake()

    def close(self) -> None:
        """Hear no more."""
        if self._ear is not None:
            self._ear.close()
            self._ear = None
