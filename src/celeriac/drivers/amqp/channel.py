"""Publishing with confirms, many in flight: one channel, any number of callers.

Owns: Outgoing, Ticket, Outbox.
Thread rule: `send` from any thread; what is named `on_...` and `_...` runs in the link's thread.
May import: kernel, pika, drivers.amqp.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pika.exceptions import ChannelClosedByBroker

from celeriac.drivers.amqp.frames import write_publishes
from celeriac.drivers.amqp.table import Properties
from celeriac.kernel.errors import BrokerFull, BrokerRejected, BrokerUnavailable, PublishUncertain

WINDOW = 4_000
"""Messages that may be unconfirmed at once."""


@dataclass(slots=True)
class Outgoing:
    """One message to publish."""

    exchange: str
    key: str
    properties: Properties
    body: bytes
    mandatory: bool = True
    queue: str = ""
    """Where it should end up."""
    confirmed: bool = False
    fault: str = ""
    """Why the server did not take it."""
    unroutable: bool = False


class Ticket:
    """A batch on its way."""

    __slots__ = ("dead", "done", "error", "left", "messages", "next")

    def __init__(self, messages: Sequence[Outgoing]) -> None:
        self.messages = messages
        self.next = 0
        self.left = len(messages)
        self.done = threading.Event()
        self.error: Exception | None = None
        self.dead = False
        """Nobody waits for it any more: what is not yet sent is not sent."""

    def settled(self) -> None:
        """Count one message whose fate is known."""
        self.left -= 1
        if not self.left:
            self.done.set()


class Outbox:
    """The confirming channel of one connection, and who waits for it."""

    def __init__(self) -> None:
        self.channel: Any = None
        self._waiting: deque[Ticket] = deque()
        self._flying: dict[int, tuple[Ticket, Outgoing]] = {}
        self._sequence = 0
        self._oldest = 1

    def begin(self, channel: Any) -> None:
        """Use a channel that has just been opened and confirms."""
        self.channel = channel
        self._sequence, self._oldest = 0, 1
        channel.add_on_return_callback(self.on_return)

    def submit(self, ticket: Ticket) -> None:
        """Send a batch as far as the window allows."""
        if self.channel is None or not self.channel.is_open:
            ticket.error = BrokerUnavailable("the connection to the broker was lost")
            ticket.done.set()
            return
        self._waiting.append(ticket)
        self._pump()

    def _pump(self) -> None:
        channel, flying = self.channel, self._flying
        while self._waiting and len(flying) < WINDOW:
            ticket = self._waiting[0]
            messages, first = ticket.messages, ticket.next
            until = min(len(messages), first + WINDOW - len(flying))
            if ticket.dead:
                self._waiting.popleft()
                continue
            batch = messages[first:until]
            for one in batch:
                self._sequence += 1
                flying[self._sequence] = ticket, one
            write_publishes(channel, batch)
            ticket.next = until
            if until == len(messages):
                self._waiting.popleft()

    def on_confirm(self, frame: Any) -> None:
        """Take a confirm: ack or nack, of one or of all up to one."""
        method = frame.method
        tag, refused = method.delivery_tag, method.NAME == "Basic.Nack"
        tags = range(self._oldest, tag + 1) if method.multiple else (tag,)
        for number in tags:
            found = self._flying.pop(number, None)
            if found is None:
                continue
            ticket, one = found
            one.confirmed = not refused and not one.fault
            if refused:
                one.fault = "the queue is full, or the server could not keep the message"
            ticket.settled()
        if method.multiple:
            self._oldest = tag + 1
        if len(self._flying) < WINDOW:
            self._pump()

    def on_return(self, _: Any, method: Any, properties: Any, body: bytes) -> None:
        """Take a message back that no queue takes; its confirm follows."""
        for _, one in self._flying.values():
            if (
                one.key == method.routing_key
                and one.exchange == method.exchange
                and not one.fault
                and one.mandatory
                and one.body == body
            ):
                one.fault, one.unroutable = method.reply_text, True
                return

    def lose(self, error: Exception) -> None:
        """Tell everyone that the channel is gone."""
        self.channel = None
        flying, self._flying = self._flying, {}
        waiting, self._waiting = self._waiting, deque()
        refused = isinstance(error, ChannelClosedByBroker)
        for ticket, one in flying.values():
            if refused and one.exchange and f"'{one.exchange}'" in str(error):
                ticket.error = BrokerRejected(
                    f"exchange {one.exchange!r} takes no messages: {error}"
                )
            elif ticket.error is None:
                ticket.error = PublishUncertain(
                    f"the connection was lost before the broker had confirmed: {error}"
                )
        for ticket in {id(t): t for t, _ in flying.values()}.values():
            ticket.done.set()
        for ticket in waiting:
            if ticket.error is None:
                ticket.error = BrokerUnavailable(f"the connection to the broker was lost: {error}")
                ticket.done.set()


def verdict(ticket: Ticket) -> None:
    """Raise what became of a batch that is done.

    :raises BrokerFull: the server refused a message.
    :raises BrokerUnavailable: the connection was lost.
    """
    if ticket.error is not None:
        raise ticket.error
    for one in ticket.messages:
        if one.unroutable:
            raise BrokerRejected(
                f"no queue takes messages for {one.key!r} of exchange {one.exchange!r}: {one.fault}"
            )
        if one.fault:
            raise BrokerFull(f"queue {one.key!r}: {one.fault}")
