"""The bus on a Redis server: its publish and subscribe.

Owns: RedisBus, RedisSubscription.  Thread rule: see `ports.bus`.
May import: kernel, drivers.redis.
"""

from __future__ import annotations

from collections.abc import Sequence

from celeriac.drivers.redis.celery_bus import CeleryEcho
from celeriac.drivers.redis.connection import Server
from celeriac.drivers.redis.keys import Keys
from celeriac.drivers.redis.script import TELL
from celeriac.drivers.redis.subscriber import Subscriber
from celeriac.kernel.events import TOPIC as EVENTS

SLICE = 500
"""Messages in one script."""


class RedisBus:
    """Fan-out between all that are connected.

    :param echo: repeats events in Celery's form.
    """

    def __init__(self, server: Server, keys: Keys, *, echo: CeleryEcho | None = None) -> None:
        self._server, self._keys, self._echo = server, keys, echo

    def send(self, topic: str, batch: Sequence[bytes]) -> None:
        """Say something on a topic."""
        if self._echo is not None and topic == EVENTS:
            self._echo.repeat(batch)
        channel = self._keys.topic + topic
        if len(batch) == 1:
            self._server.call("PUBLISH", channel, batch[0])
            return
        for start in range(0, len(batch), SLICE):
            self._server.run(TELL, (), (channel, *batch[start : start + SLICE]))

    def subscribe(self, topics: Sequence[str]) -> RedisSubscription:
        """Listen to topics from now on."""
        return RedisSubscription(self._server, self._keys, topics)


class RedisSubscription:
    """One listener."""

    def __init__(self, server: Server, keys: Keys, topics: Sequence[str]) -> None:
        self._before = len(keys.topic)
        self._channels = [keys.topic + topic for topic in topics]
        self._ear = Subscriber(server)
        self._ear.subscribe(self._channels)

    def poll(self, wait: float) -> Sequence[tuple[str, bytes]]:
        """Return what was said since the last poll."""
        if not self._ear.connected:
            self._ear.subscribe(self._channels)
        heard, _ = self._ear.receive(wait)
        return [(channel[self._before :], message) for channel, message in heard]

    def wake(self) -> None:
        """End a waiting poll."""
        self._ear.wake()

    def close(self) -> None:
        """Stop listening."""
        self._ear.close()
