"""Fan-out by a direct exchange: each listener has a queue of its own, which goes with it.

Owns: AMQPBus, AMQPSubscription.
Thread rule: any thread; a subscription has a connection of its own.
May import: kernel, drivers.amqp.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Generator, Sequence
from typing import Any

from celeriac.drivers.amqp.channel import Outgoing
from celeriac.drivers.amqp.connection import Link
from celeriac.drivers.amqp.server import Server
from celeriac.drivers.amqp.steps import Step
from celeriac.drivers.amqp.table import Properties

EXCHANGE = "celeriac.bus"
MOST = 10_000
"""Messages that wait for one listener; the oldest are dropped for more."""
KIND = "application/octet-stream"


def _exchange(channel: Any, answer: Callable[[Any], None]) -> None:
    channel.exchange_declare(EXCHANGE, exchange_type="direct", durable=True, callback=answer)


class AMQPBus:
    """Best-effort fan-out over one vhost."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._epoch = 0
        self._open: weakref.WeakSet[AMQPSubscription] = weakref.WeakSet()

    def send(self, topic: str, batch: Sequence[bytes]) -> None:
        """Hand `batch` to whoever listens."""
        if not batch:
            return
        self._server.link()
        if self._epoch != self._server.epoch:
            self._server.ask(_declare)
            self._epoch = self._server.epoch
        properties = Properties.of({}, {"content_type": KIND, "delivery_mode": 1})
        self._server.publish(
            [Outgoing(EXCHANGE, topic, properties, body, mandatory=False) for body in batch]
        )

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


class AMQPSubscription:
    """One listener's queue.  After a lost connection it begins anew with an empty one."""

    def __init__(self, server: Server, topics: Sequence[str]) -> None:
        self._topics = list(dict.fromkeys(topics))
        self._cond = threading.Condition()
        self._found: deque[tuple[str, bytes]] = deque(maxlen=MOST)
        self._woken = self._closed = False
        self._link = Link(
            server.addresses, "listen", began=self._on_began, ended=lambda _: None, keep=True
        )
        self._link.up(server.deadline)

    def _on_began(self, connection: Any) -> None:
        connection.channel(on_open_callback=self._on_channel)

    def _on_channel(self, channel: Any) -> None:
        def bound(queue: str) -> None:
            channel.basic_consume(
                queue, self._on_message, auto_ack=True, callback=lambda _: self._link.ready()
            )

        def made(frame: Any) -> None:
            queue = frame.method.queue
            for topic in self._topics[:-1]:
                channel.queue_bind(queue, EXCHANGE, routing_key=topic)
            last = self._topics[-1]
            channel.queue_bind(queue, EXCHANGE, routing_key=last, callback=lambda _: bound(queue))

        def declared(_: Any) -> None:
            arguments = {"x-max-length": MOST}
            channel.queue_declare("", exclusive=True, arguments=arguments, callback=made)

        channel.add_on_close_callback(self._on_closed)
        _exchange(channel, declared)

    def _on_closed(self, channel: Any, error: Exception) -> None:
        if not self._closed and channel.connection.is_open:
            channel.connection.close()

    def _on_message(self, _: Any, method: Any, properties: Any, body: bytes) -> None:
        with self._cond:
            self._found.append((method.routing_key, body))
            self._cond.notify_all()

    def poll(self, wait: float) -> Sequence[tuple[str, bytes]]:
        """Return what has come, waiting up to `wait` seconds for the first."""
        ends = time.monotonic() + wait
        with self._cond:
            while not self._found and not self._woken and not self._closed:
                left = ends - time.monotonic()
                if left <= 0:
                    break
                self._cond.wait(left)
            self._woken = False
            found = list(self._found)
            self._found.clear()
            return found

    def wake(self) -> None:
        """End a waiting poll."""
        with self._cond:
            self._woken = True
            self._cond.notify_all()

    def close(self) -> None:
        """Stop listening."""
        with self._cond:
            self._closed = True
            self._cond.notify_all()
        self._link.close()
