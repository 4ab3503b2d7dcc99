"""Celery's monitors and remote control over RabbitMQ: events said again, commands heard, replies sent.

Nothing is said while nobody of them listens: the server hands back what no queue takes, and what comes
in the next second is not said again.

Owns: CeleryEcho, CeleryMailbox.  Thread rule: any thread; a mailbox has a connection of its own.
May import: kernel, drivers.amqp.
"""

from __future__ import annotations

import base64
import logging
import time
from collections.abc import Callable, Generator, Sequence
from typing import Any

import msgspec

from celeriac.drivers.amqp.channel import Outgoing
from celeriac.drivers.amqp.reader import Message
from celeriac.drivers.amqp.server import Server
from celeriac.drivers.amqp.steps import Refused, Step
from celeriac.drivers.amqp.subscription import Subscription
from celeriac.drivers.amqp.table import Properties
from celeriac.kernel.celery_events import EXCHANGE as EVENTS
from celeriac.kernel.celery_events import repeated
from celeriac.kernel.celery_pidbox import EXCHANGE as COMMANDS
from celeriac.kernel.errors import WireError

logger = logging.getLogger("celeriac.amqp")

DEAF = 1.0
"""Seconds for which it is believed that nobody listens."""
_KNOWN = {"content_type": "application/json", "content_encoding": "utf-8", "delivery_mode": 1}


class CeleryEcho:
    """Repeats events where Celery's monitors listen."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._quiet_until = 0.0
        self._epoch = 0

    def repeat(self, batch: Sequence[bytes]) -> None:
        """Say messages of events again."""
        if time.monotonic() < self._quiet_until:
            return
        again: list[tuple[str, list[tuple[str, bytes]]]] = []
        for message in batch:
            try:
                again.append(repeated(message))
            except WireError as error:
                logger.warning("events were not repeated for Celery's monitors: %s", error)
        if not again:
            return
        self._server.link()
        if self._epoch != self._server.epoch:
            self._server.ask(lambda: _declared(EVENTS, "topic", durable=True))
            self._epoch = self._server.epoch
        said = [
            Outgoing(EVENTS, key, Properties.of({"hostname": hostname}, _KNOWN), body)
            for hostname, parts in again
            for key, body in parts
        ]
        ticket = self._server.send(said)
        if ticket.error is not None:
            raise ticket.error
        if all(one.unroutable for one in said):
            self._quiet_until = time.monotonic() + DEAF


class CeleryMailbox(Subscription[bytes]):
    """The place where a Celery client and its workers meet; its messages are kombu's frames."""

    def __init__(self, server: Server) -> None:
        self._server = server
        super().__init__(
            server,
            COMMANDS,
            keys=[""],
            declare=lambda channel, answer: channel.exchange_declare(
                COMMANDS, exchange_type="fanout", durable=False, callback=answer
            ),
            read=_frame,
        )

    def poll(self, wait: float) -> list[bytes]:
        """Return the frames that came, waiting up to `wait` seconds for the first."""
        return list(super().poll(wait))

    def answer(self, exchange: str, routing_key: str, frame: bytes) -> None:
        """Send a reply to its caller; nobody's is dropped."""
        if not self._server.ask(lambda: _is_there(exchange)):
            return
        said = msgspec.json.decode(frame)
        properties = Properties.of(said["headers"], _KNOWN)
        body = base64.b64decode(said["body"])
        self._server.publish([Outgoing(exchange, routing_key, properties, body, mandatory=False)])


def _frame(message: Message) -> bytes:
    """Return a message as kombu writes it where there are no properties beside it."""
    properties = message.properties
    headers = properties.headers or {}
    return msgspec.json.encode(
        {
            "body": base64.b64encode(message.body).decode(),
            "content-type": properties.content_type or "application/json",
            "headers": {"expires": headers.get("expires")},
            "properties": {"body_encoding": "base64"},
        },
        enc_hook=str,
    )


def _declared(name: str, kind: str, *, durable: bool) -> Generator[Step, Any, None]:
    try:
        yield lambda channel, answer: channel.exchange_declare(
            name, exchange_type=kind, durable=durable, callback=answer
        )
    except Refused as refused:
        if refused.code != 406:
            raise
        # It is there in another way: whoever made it knows better.


def _is_there(exchange: str) -> Generator[Step, Any, bool]:
    """Ask on a channel of its own: a message to an exchange that is gone would cost the publishing one."""

    def look(channel: Any, answer: Callable[[Any], None]) -> None:
        channel.exchange_declare(exchange, passive=True, callback=answer)

    try:
        yield look
    except Refused as refused:
        if refused.code != 404:
            raise
        return False
    return True
