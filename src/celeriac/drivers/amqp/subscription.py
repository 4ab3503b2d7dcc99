"""A listener's own queue on an exchange, which goes with it.

Owns: Subscription.
Thread rule: any thread; a subscription has a connection of its own.
May import: kernel, drivers.amqp.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from celeriac.drivers.amqp.connection import Link
from celeriac.drivers.amqp.reader import Message
from celeriac.drivers.amqp.server import Server
from celeriac.drivers.amqp.steps import Step

T = TypeVar("T")

MOST = 10_000
"""Messages that wait for one listener; the oldest are dropped for more."""


class Subscription(Generic[T]):
    """One listener's queue.  After a lost connection it begins anew with an empty one.

    :param keys: the routing keys to which it is bound.
    :param declare: makes the exchange.
    :param read: what to return of a message.
    """

    def __init__(
        self,
        server: Server,
        exchange: str,
        *,
        keys: Sequence[str],
        declare: Step,
        read: Callable[[Message], T],
    ) -> None:
        self._exchange, self._keys, self._declare, self._read = exchange, keys, declare, read
        self._cond = threading.Condition()
        self._found: deque[T] = deque(maxlen=MOST)
        self._woken = self._closed = False
        self._deadline = server.deadline
        self._link = Link(
            server.addresses, "listen", began=self._on_began, ended=lambda _: None, keep=True
        )

    def listen(self) -> None:
        """Return once messages are heard.

        :raises BrokerUnavailable: no server answers.
        """
        self._link.up(self._deadline)

    def _on_began(self, connection: Any) -> None:
        connection.channel(on_open_callback=self._on_channel)

    def _on_channel(self, channel: Any) -> None:
        def consumed(_: Any) -> None:
            self._link.ready()

        def one(_: Any, method: Any, properties: Any, body: bytes) -> None:
            self._take([Message("", 0, False, method.routing_key, properties, body)])

        def bound(queue: str) -> None:
            channel.connection.takers[channel.channel_number] = self._take
            channel.basic_consume(queue, one, auto_ack=True, callback=consumed)

        def made(frame: Any) -> None:
            queue, last = frame.method.queue, self._keys[-1]
            for key in self._keys[:-1]:
                channel.queue_bind(queue, self._exchange, routing_key=key)
            channel.queue_bind(
                queue, self._exchange, routing_key=last, callback=lambda _: bound(queue)
            )

        def declared(_: Any) -> None:
            arguments = {"x-max-length": MOST}
            channel.queue_declare("", exclusive=True, arguments=arguments, callback=made)

        channel.add_on_close_callback(self._on_closed)
        self._declare(channel, declared)

    def _on_closed(self, channel: Any, error: Exception) -> None:
        channel.connection.takers.pop(channel.channel_number, None)
        if not self._closed and channel.connection.is_open:
            channel.connection.close()

    def _take(self, batch: Sequence[Message]) -> None:
        found = [self._read(one) for one in batch]
        with self._cond:
            self._found.extend(found)
            self._cond.notify_all()

    def poll(self, wait: float) -> Sequence[T]:
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
