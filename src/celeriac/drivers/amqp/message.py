"""Envelopes as AMQP messages: Celery's task protocol 2, with what it does not say in headers beside.

An envelope whose body is no task frame crosses as it is, under a content type of its own; a message
that is no task becomes an envelope that the worker refuses and buries.

Owns: Incoming, encode, decode, LOST, REASON, AT.  May import: kernel, drivers.amqp.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import NAMESPACE_OID, uuid5

from celeriac.drivers.amqp.table import Properties
from celeriac.kernel.errors import BrokerRejected, WireError
from celeriac.kernel.message import Envelope
from celeriac.kernel.wire import from_celery, to_celery

OPAQUE = "application/x-celeriac"
LOST = "x-celeriac-lost"
"""How many workers this attempt has lost."""
REASON, AT, QUEUE = "x-celeriac-reason", "x-celeriac-buried-at", "x-celeriac-queue"
"""Why, when and from where a message was buried."""
_PASSED_OVER = frozenset(
    {LOST, REASON, AT, QUEUE, "x-death", "x-delivery-count", "x-acquired-count"}
    | {f"x-{which}-death-{what}" for which in ("first", "last") for what in ("queue", "reason")}
    | {f"x-{which}-death-exchange" for which in ("first", "last")}
)
"""Headers of ours and of the server's, which say nothing of the task."""


@dataclass(slots=True)
class Incoming:
    """A message as it came, before anyone has looked into it."""

    tag: int
    epoch: int
    """Of the connection it came through: its tag means nothing on another."""
    redelivered: bool
    queue: str
    properties: Any
    body: bytes

    @property
    def headers(self) -> Mapping[str, Any]:
        """Its headers; empty where it has none."""
        found: Mapping[str, Any] = self.properties.headers or {}
        return found

    @property
    def task_id(self) -> str:
        """The id of its task, without reading the rest."""
        return str(self.headers.get("id") or self.properties.correlation_id or "")

    @property
    def losses(self) -> int:
        """How many workers it is known to have lost, without its redelivered flag."""
        headers = self.headers
        return _number(headers.get(LOST)) + _number(headers.get("x-delivery-count"))


def _number(value: Any) -> int:
    return value if isinstance(value, int) and value > 0 else 0


def encode(
    envelope: Envelope,
    *,
    lost: int = 0,
    reply_to: str | None = None,
    extra: Mapping[str, Any] | None = None,
    mark: str = "",
) -> tuple[Properties, bytes]:
    """Return the properties and the body of the message that carries an envelope.

    :param lost: workers that this attempt has lost.
    :param reply_to: where results go, unless the envelope says so itself.
    :param extra: more headers.
    :param mark: the message's own id, which no copy of it has.
    :raises BrokerRejected: a name in it is too long for AMQP.
    """
    try:
        headers, known, body = to_celery(envelope)
    except WireError:
        headers, known, body = _opaque(envelope)
    if reply_to and not known.get("reply_to"):
        known["reply_to"] = reply_to
    if mark:
        known["message_id"] = mark
    if lost:
        headers[LOST] = lost
    if extra:
        headers.update(extra)
    try:
        return Properties.of(headers, known), body
    except ValueError as error:
        raise BrokerRejected(f"task {envelope.id} cannot be sent over AMQP: {error}") from error


def _opaque(envelope: Envelope) -> tuple[dict[str, Any], dict[str, Any], bytes]:
    # Times as text: they come back to the last digit.
    headers = {
        "id": envelope.id,
        "eta": repr(envelope.not_before),
        "expires": repr(envelope.expires_at),
        "retries": envelope.attempt,
    }
    known = {"content_type": OPAQUE, "delivery_mode": 2, "priority": envelope.priority}
    return headers, known, envelope.body


def decode(message: Incoming) -> Envelope:
    """Return the envelope of a message; of one that is no task, an envelope that says so by itself."""
    headers, properties = message.headers, message.properties
    if properties.content_type == OPAQUE:
        try:
            return Envelope(
                str(headers["id"]),
                message.queue,
                message.body,
                properties.priority or 0,
                float(headers["eta"]),
                float(headers["expires"]),
                int(headers["retries"]),
            )
        except (KeyError, TypeError, ValueError):
            return _foreign(message)
    if not _PASSED_OVER.isdisjoint(headers):
        headers = {k: v for k, v in headers.items() if k not in _PASSED_OVER}
    try:
        known = vars(properties)
        return from_celery(headers, known, message.body, queue=message.queue, most_urgent=255)
    except WireError:
        return _foreign(message)


def _foreign(message: Incoming) -> Envelope:
    """Return an envelope of a message that cannot be read: its worker says what is wrong, and buries it."""
    name = message.task_id or str(uuid5(NAMESPACE_OID, message.body.hex()[:4096]))
    return Envelope(name, message.queue, message.body)
