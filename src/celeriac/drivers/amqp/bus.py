"""Fan-out by a direct exchange: each listener has a queue of its own, which goes with it.

Owns: AMQPBus, AMQPSubscription.
Thread rule: any thread; a subscription has a connection of its own.
May import: kernel, drivers.amqp.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Generator, Sequence
from typing import Any

from celeriac.drivers.amqp.celery_bus import CeleryEcho
from celeriac.drivers.amqp.channel import Outgoing
from celeriac.drivers.amqp.server import Server
from celeriac.drivers.amqp.steps import Step
from celeriac.drivers.amqp.subscription import Subscription
from celeriac.drivers.amqp.table import Properties
from celeriac.kernel.events import TOPIC as EVENTS

EXCHANGE = "celeriac.bus"
KIND = "application/octet-stream"


def _exchange(channel: Any, answer: Callable[[Any], None]) -> None:
    channel.exchange_declare(EXCHANGE, exchange_type="direct", durable=True, callback=answer)


class AMQPBus:
    """Best-effort fan-out over one vhost.

    :param echo: repeats events in Celery's form.
    """

    def __init__(self, server: Server, *, echo: CeleryEcho | None = None) -> None:
        self._server, self._echo = server, echo
        self._epoch = 0
        self._open: weakref.WeakSet[AMQPSubscription] = weakref.WeakSet()

    def send(self, topic: str, batch: Sequence[bytes]) -> None:
        """Hand `batch` to whoever listens."""
        if not batch:
            return
        if self._echo is not None and topic == EVENTS:
            self._echo.repeat(batch)
        self._server.link()
        if self._epoch != self._server.epoch:
            self._server.ask(_declare)
            self._epoch = self._server.epoch
        properties = Properties.of({}, {"content_type": KIND, "delivery_mode": 1})
        self._server.publish(
            [Outgoing(EXCHANGE, topic, properties, body, mandatory=False) for body in batch]
        )

    def heard(self, topic: str) -> bool:
        """Return True: a server does not say who listens."""
        return True

    def subscribe(self, topics: Sequence[str]) -> AMQPSubscription:
        """Listen to `topics`."""
        subscription = AMQPSubscription(self._server, topics)
        self._open.add(subscription)
        return subscription

    def close(self) -> None:
        """Close every subscription."""
        for subscription in list(self._open):
            subscription.close()

    def after_fork(self) -> None:
        """Forget, in a child, what belongs to its parent."""
        self._open = weakref.WeakSet()
        self._epoch = 0


def _declare() -> Generator[Step, Any, None]:
    yield _exchange


class AMQPSubscription(Subscription[tuple[str, bytes]]):
    """One listener: its messages are pairs of topic and body."""

    def __init__(self, server: Server, topics: Sequence[str]) -> None:
        super().__init__(
            server,
            EXCHANGE,
            keys=list(dict.fromkeys(topics)),
            declare=_exchange,
            read=lambda one: (one.key, one.body),
        )
        self.listen()
