"""The bus on a Redis server: its publish and subscribe.

Who listens to events hears those of Celery's own workers on the same database, too.

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
from celeriac.kernel.celery_events import is_own, rewritten
from celeriac.kernel.errors import WireError
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
        if len(batch) == 1 or topic == EVENTS:  # large ones, which a script would copy
            for message in batch:
                self._server.call("PUBLISH", channel, message)
            return
        for start in range(0, len(batch), SLICE):
            self._server.run(TELL, (), (channel, *batch[start : start + SLICE]))

    def heard(self, topic: str) -> bool:
        """Tell whether somebody listens, or may listen in Celery's way."""
        if topic == EVENTS and self._echo is not None and self._echo.may_be_heard:
            return True
        if self._server.address.kind == "cluster":  # a node knows its own listeners only
            return True
        return bool(self._server.call("PUBSUB", "NUMSUB", self._keys.topic + topic)[1])

    def subscribe(self, topics: Sequence[str]) -> RedisSubscription:
        """Listen to topics from now on."""
        celery = self._echo.pattern if self._echo is not None and EVENTS in topics else None
        return RedisSubscription(self._server, self._keys, topics, celery=celery)


class RedisSubscription:
    """One listener.

    :param celery: the pattern of the channels where Celery's workers say their events.
    """

    def __init__(
        self, server: Server, keys: Keys, topics: Sequence[str], *, celery: str | None = None
    ) -> None:
        self._topic = keys.topic
        self._channels = [keys.topic + topic for topic in topics]
        self._patterns = [celery] if celery is not None else []
        self._ear = Subscriber(server)
        self._ear.subscribe(self._channels, patterns=self._patterns)

    def poll(self, wait: float) -> Sequence[tuple[str, bytes]]:
        """Return what was said since the last poll."""
        if not self._ear.connected:
            self._ear.subscribe(self._channels, patterns=self._patterns)
        heard, _ = self._ear.receive(wait)
        before, found = self._topic, []
        for channel, message in heard:
            if channel.startswith(before):
                found.append((channel[len(before) :], message))
            elif not is_own(message):
                found.append((EVENTS, _translated(message)))
        return found

    def wake(self) -> None:
        """End a waiting poll."""
        self._ear.wake()

    def close(self) -> None:
        """Stop listening."""
        self._ear.close()


def _translated(message: bytes) -> bytes:
    """Return Celery's events in celeriac's form; what is none goes as it is, to be refused."""
    try:
        return rewritten(message)
    except WireError:
        return message
