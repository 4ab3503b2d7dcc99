"""Celery's remote control on the wire: the command that a client fans out, and a worker's reply.

Facts of kombu's `pidbox` as Celery 5 uses it: JSON in base64 within kombu's envelope.

Owns: command, reply, queues_of.  May import: kernel.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from typing import Any

import msgspec

from celeriac.kernel.errors import WireError

EXCHANGE = "celery.pidbox"
"""Where commands are fanned out."""
_BETWEEN = "\x06\x16"
"""Between the three words of a binding: routing key, pattern, queue."""


class _Frame(msgspec.Struct):
    body: str
    headers: dict[str, Any] = {}
    content_type: str = msgspec.field(name="content-type", default="application/json")
    properties: dict[str, Any] = {}


_frames = msgspec.json.Decoder(_Frame)


def command(frame: bytes) -> tuple[bytes, float]:
    """Return a command as JSON, and the unix seconds after which it is void (0: never).

    :raises WireError: the bytes are none, or it is not JSON.
    """
    try:
        found = _frames.decode(frame)
        if found.content_type != "application/json":
            raise WireError(f"a command of Celery's is {found.content_type[:50]}, not JSON")
        coded = found.properties.get("body_encoding") == "base64"
        body = base64.b64decode(found.body, validate=True) if coded else found.body.encode()
        expires = found.headers.get("expires") or 0.0
        return body, float(expires)
    except (msgspec.MsgspecError, binascii.Error, TypeError, ValueError, RecursionError) as error:
        raise WireError(f"a command of Celery's cannot be read: {error}") from error


def reply(value: Any, *, ticket: str | None, exchange: str, routing_key: str, tag: str) -> bytes:
    """Return the frame of a reply.

    :param value: `{node name: what the command said}`.
    :param tag: a new id.
    """
    body = msgspec.json.encode(value, enc_hook=str)
    frame = {
        "body": base64.b64encode(body).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        # A clock of celeriac's own would drive Celery's logical clocks far ahead.
        "headers": {"ticket": ticket, "clock": 1},
        "properties": {
            "delivery_mode": 1,
            "delivery_info": {"exchange": exchange, "routing_key": routing_key},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": tag,
        },
    }
    return msgspec.json.encode(frame)


def queues_of(bindings: Iterable[bytes], routing_key: str) -> list[str]:
    """Return the queues that a routing key leads to, by the members of a binding's set."""
    found = []
    for member in bindings:
        words = member.decode(errors="replace").split(_BETWEEN)
        if len(words) == 3 and words[0] == routing_key and words[2]:
            found.append(words[2])
    return found
