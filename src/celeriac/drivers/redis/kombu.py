"""Task messages as Celery's Redis transport writes them: JSON around a base64 body, in lists.

A queue is four lists, one for each step of priority; the name of the first is the queue's own.
Producers push on the left, consumers take from the right.  A message says its priority with 0 for
the most urgent (on Redis, unlike on AMQP); celeriac says it with 9, so p here is 9 - p there, both
ways.

Owns: Layout, encode, decode.  May import: kernel, ports.
"""

from __future__ import annotations

import base64
import binascii
import json
import uuid
from bisect import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from celeriac.kernel.errors import CeleryError, ImproperlyConfigured, WireError
from celeriac.kernel.message import Envelope
from celeriac.kernel.wire import from_celery, to_celery
from celeriac.ports.registry import find_compression

SEPARATOR = "\x06\x16"
STEPS = (0, 3, 6, 9)
LARGEST_BODY = 500_000_000
"""Bytes of a decompressed body of task protocol 1."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The names of the keys that a fleet of Celery shares.

    :param before: `global_keyprefix`.
    """

    before: str = ""
    separator: str = SEPARATOR
    steps: tuple[int, ...] = STEPS
    unacked: str = "unacked"
    index: str = "unacked_index"
    bindings: str = "_kombu.binding."
    permanent: str = "_kombu.binding_permanent."

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Layout:
        """Return the layout that Celery's `broker_transport_options` describe.

        :raises ImproperlyConfigured: an option cannot be understood.
        """
        before = str(options.get("global_keyprefix") or "")
        steps = options.get("priority_steps") or STEPS
        if not isinstance(steps, Sequence) or not all(isinstance(n, int) for n in steps):
            raise ImproperlyConfigured(f"priority_steps is a list of numbers, not {steps!r:.100}")
        return cls(
            before=before,
            separator=str(options.get("sep") or SEPARATOR),
            steps=tuple(sorted(steps)),
            unacked=before + str(options.get("unacked_key") or "unacked"),
            index=before + str(options.get("unacked_index_key") or "unacked_index"),
            bindings=f"{before}_kombu.binding.",
            permanent=f"{before}_kombu.binding_permanent.",
        )

    def lists(self, queue: str) -> tuple[str, ...]:
        """Return the lists of a queue, the most urgent first."""
        return tuple(self._name(queue, step) for step in self.steps)

    def list_for(self, queue: str, priority: int) -> str:
        """Return the list that a message belongs into.

        :param priority: as Celery says it, 0 the most urgent.
        """
        return self._name(queue, self.steps[bisect(self.steps, priority) - 1])

    def _name(self, queue: str, step: int) -> str:
        return f"{self.before}{queue}{self.separator}{step}" if step else self.before + queue

    def tail(self, queue: str) -> str:
        """Return what stands behind a message among the unacknowledged.

        It says that the message goes straight to the queue, so that no binding is needed where a
        Celery worker puts it back.
        """
        return f', "", {json.dumps(queue)}]'

    def binding(self, queue: str) -> tuple[str, str, str]:
        """Return the set of a queue's binding, the set of those that stay, and the member."""
        member = self.separator.join((queue, "", queue))
        return self.bindings + queue, self.permanent + queue, member


def encode(envelope: Envelope, layout: Layout, *, now: float) -> tuple[str, bytes]:
    """Return the list that an envelope goes into, and the message.

    :param now: unix seconds.
    :raises WireError: the envelope's body is no frame.
    """
    headers, properties, body = to_celery(envelope, now=now)
    queue = envelope.queue
    priority = 9 - max(0, min(9, envelope.priority))
    content_type = properties.pop("content_type")
    encoding = properties.pop("content_encoding")
    properties.update(
        priority=priority,
        delivery_info={"exchange": "", "routing_key": queue},
        body_encoding="base64",
        delivery_tag=str(uuid.uuid4()),
    )
    message = {
        "body": base64.b64encode(body).decode(),
        "content-encoding": encoding,
        "content-type": content_type,
        "headers": headers,
        "properties": properties,
    }
    return layout.list_for(queue, priority), json.dumps(message).encode()


def decode(raw: bytes, *, queue: str, now: float) -> Envelope:
    """Return the envelope of a message that stood in a queue's list.

    :param now: unix seconds.
    :raises WireError: it is none; the message says why.
    """
    message = _object(raw)
    headers, properties = message.get("headers") or {}, message.get("properties") or {}
    if not isinstance(headers, dict) or not isinstance(properties, dict):
        raise WireError("a message whose headers or properties are no object")
    body = _body(message.get("body"), properties.get("body_encoding"))
    properties = {
        **properties,
        "content_type": message.get("content-type"),
        "content_encoding": message.get("content-encoding"),
    }
    info = properties.get("delivery_info")
    if not isinstance(info, dict) or not info.get("exchange"):
        properties["delivery_info"] = {}
    if "task" not in headers and headers.get("compression"):
        # Protocol 1 has everything in its body, also what must be known before it is run.
        try:
            method = find_compression(str(headers["compression"]))
            body = method.decompress(body, limit=LARGEST_BODY)
        except CeleryError as error:
            raise WireError(f"a compressed message cannot be read: {error}") from error
        headers = {name: value for name, value in headers.items() if name != "compression"}
    try:
        envelope = from_celery(headers, properties, body, queue=queue, now=now)
        urgency = int(properties.get("priority") or 0)
    except (TypeError, ValueError, AttributeError) as error:
        raise WireError(f"a message from Celery is wrong: {error}") from error
    if not 0 <= envelope.attempt < 2**32:
        raise WireError(f"a message from Celery says retries={envelope.attempt:.20g}")
    return replace(envelope, priority=9 - max(0, min(9, urgency)), wire="celery")


def _object(raw: bytes) -> dict[str, Any]:
    try:
        try:
            message = msgspec.json.decode(raw)
        except msgspec.MsgspecError:
            message = json.loads(raw)  # it takes NaN, which Python writes
    except (ValueError, RecursionError) as error:
        raise WireError(f"not a message: {error}") from error
    if not isinstance(message, dict):
        raise WireError(f"not a message: {raw[:40]!r}")
    return message


def _body(body: Any, encoding: Any) -> bytes:
    if not isinstance(body, str):
        raise WireError(f"a message whose body is no text: {body!r:.40}")
    if encoding == "base64":
        try:
            return base64.b64decode(body)
        except (binascii.Error, ValueError) as error:
            raise WireError(f"a message whose body is no base64: {error}") from error
    if encoding:
        raise WireError(
            f"a message whose body is encoded as {encoding!r:.40}: only base64 is known"
        )
    return body.encode()
