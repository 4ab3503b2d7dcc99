"""The subscriptions of one consuming channel, and how much the server may push through them.

On classic queues one window spans the channel and can be moved at any time.  Quorum queues know only
a window for each subscription, fixed when it begins: there the window grows by more subscriptions.

Owns: Subscriptions.
Thread rule: in the link's thread, but for `wants`, `watch` and what is read.
May import: drivers.amqp.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from typing import Any

from celeriac.drivers.amqp.reader import Message

OnMessages = Callable[[Sequence[Message]], None]


class Subscriptions:
    """Consumes some queues.

    :param on_messages: called with what one read of the socket has brought.
    """

    def __init__(self, queues: Sequence[str], on_messages: OnMessages) -> None:
        self.queues = list(dict.fromkeys(queues))
        self._on_messages = on_messages
        self.shared = True
        """Whether one window is for all queues, else one for each; to be set before `begin`."""
        self._channel: Any = None
        self._on_cancel: Callable[[str], None] = lambda reason: None
        self._tags: dict[str, list[str]] = {}
        self.queue_of: dict[str, str] = {}
        """By consumer tag; of ended subscriptions too, whose messages may still be on their way."""
        self._number = 0
        self.window = 0
        self.ready = 0
        """How much the last probe found in the queues beside what was pushed."""

    def begin(self, channel: Any, on_cancel: Callable[[str], None]) -> None:
        """Use a new channel; nothing is pushed before `widen`."""
        self._channel, self._on_cancel = channel, on_cancel
        self._tags, self.queue_of, self.window = {}, {}, 0
        channel.connection.takers[channel.channel_number] = self._on_messages
        channel.add_on_cancel_callback(
            lambda frame: on_cancel("the server has ended a subscription: its queue is gone")
        )

    def lose(self) -> None:
        """Forget the channel."""
        self._channel, self._tags, self.window = None, {}, 0

    def wants(self, window: int) -> bool:
        """Return whether `widen` would change something."""
        return self._channel is not None and self._target(window) != self.window

    def _target(self, window: int) -> int:
        if self.shared:
            return window
        # It cannot shrink, and grows in few steps.
        return max(self.window, 1 << (max(1, window) - 1).bit_length())

    def widen(self, window: int) -> None:
        """Let the server push up to `window` messages that are not acknowledged."""
        channel, target = self._channel, self._target(window)
        if channel is None or not channel.is_open or target == self.window:
            return
        grows = target - self.window
        first, self.window = self.window == 0, target
        if self.shared:
            channel.basic_qos(prefetch_count=target, global_qos=True)
            if first:
                self.renew()
        else:
            channel.basic_qos(prefetch_count=grows)
            for queue in self.queues:
                self._consume(queue)

    def _consume(self, queue: str) -> None:
        # Without a callback pika does not wait for the answer: faults close the channel, which is
        # noticed there.
        self._number += 1
        tag = f"celeriac-{self._number}"
        self.queue_of[tag] = queue
        self._channel.basic_consume(queue, functools.partial(self._one, tag), consumer_tag=tag)
        self._tags.setdefault(queue, []).append(tag)

    def _one(self, tag: str, _: Any, method: Any, properties: Any, body: bytes) -> None:
        one = Message(
            tag, method.delivery_tag, method.redelivered, method.routing_key, properties, body
        )
        self._on_messages([one])

    def watch(self, queues: Sequence[str]) -> set[str]:
        """Mean these queues from the next `renew` on; return those that are left."""
        dropped = set(self.queues) - set(queues)
        self.queues = list(dict.fromkeys(queues))
        return dropped

    def renew(self) -> None:
        """Begin and end subscriptions so that they fit the queues."""
        channel = self._channel
        if channel is None or not channel.is_open or not self.window:
            return
        for queue in [name for name in self._tags if name not in self.queues]:
            for tag in self._tags.pop(queue):
                channel.basic_cancel(tag)
        for queue in self.queues:
            if queue not in self._tags:
                if not self.shared:
                    channel.basic_qos(prefetch_count=self.window)
                self._consume(queue)

    def part(self) -> None:
        """Have a window for each queue from the next `renew` on; what was pushed stays as it is."""
        self.shared = False
        channel = self._channel
        if channel is None or not channel.is_open or not self.window:
            return
        for tags in self._tags.values():
            for tag in tags:
                channel.basic_cancel(tag)
        self._tags = {}
        channel.basic_qos(prefetch_count=0, global_qos=True)  # quorum queues refuse any other

    def stop(self, done: threading.Event) -> None:
        """Let the server push nothing more; `done` is set when it has said so."""
        channel, left = self._channel, [tag for tags in self._tags.values() for tag in tags]
        self._tags = {}
        if channel is None or not channel.is_open or not left:
            done.set()
            return
        for tag in left[:-1]:
            channel.basic_cancel(tag)
        channel.basic_cancel(left[-1], callback=lambda _: done.set())

    def probe(self, done: threading.Event) -> None:
        """Find out what lies in the queues; `done` is set once all that was pushed has arrived."""
        channel, queues = self._channel, list(self.queues)
        if channel is None or not channel.is_open or not queues:
            done.set()
            return
        found = [0]

        def counted(frame: Any) -> None:
            found[0] += frame.method.message_count

        def fenced(_: Any) -> None:
            self.ready = found[0]
            done.set()

        for queue in queues:
            channel.queue_declare(queue, passive=True, callback=counted)
        # What the queues had sent lies before this answer.
        channel.basic_qos(
            prefetch_count=self.window if self.shared else 0,
            global_qos=self.shared,
            callback=fenced,
        )
