"""Events in Celery's own form on a bus, so that its monitors see celeriac's workers.

Celery publishes an event to the exchange `celeryev` with its type as routing key (`worker.heartbeat`);
events of tasks come together, as a list under `task.multi`.  On Redis a message is kombu's envelope:
a JSON object with the body in base64, published on the channel `/<db>.celeryev/<routing key>`.

What celeriac says in this form bears a mark, so that its own listeners, who heard the original, pass over it.

Owns: EXCHANGE, repeated, routed, envelope, channel, pattern, is_own, read_envelope, rewritten.  May import: kernel, msgspec.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from celeriac.kernel.errors import WireError
from celeriac.kernel.events import read

EXCHANGE = "celeryev"
MULTI = "task.multi"

_OWN = b'{"headers":{"sw_ident":"celeriac"'

_HOSTNAME = re.compile(rb'"hostname":("(?:[^"\\]|\\.)*")')

_encoder = msgspec.json.Encoder()


class _Envelope(msgspec.Struct, rename={"content_type": "content-type"}):
    body: str
    content_type: str = "application/json"
    properties: dict[str, Any] = {}


_OFFSET = re.compile(rb'"utcoffset":-?[\d.]+,')

_decoder = msgspec.json.Decoder(_Envelope)
_events = msgspec.json.Decoder(dict[str, Any] | list[dict[str, Any]])


def repeated(message: bytes) -> tuple[str, list[tuple[str, bytes]]]:
    """Return who says a message of celeriac's bus, and (routing key, body) of those that repeat it.

    They have no `utcoffset`: their times are seconds since 1970, and a monitor of Celery's that finds
    an offset beside one shifts it by the hours between its own zone and the worker's.

    :raises WireError: it is no message of events.
    """
    # Quotes inside of texts are escaped: what is found is a key.  Where all are events of tasks,
    # which is nearly always and may be many thousands a second, the message is Celery's as it is.
    if (count := message.count(b'"type":')) and count == message.count(b'"type":"task-'):
        found = _HOSTNAME.search(message)
        name = msgspec.json.decode(found[1]) if found else ""
        return str(name), [(MULTI, _OFFSET.sub(b"", message))]
    events = read(_OFFSET.sub(b"", message))
    return (str(events[0].get("hostname", "")) if events else ""), routed(events)


def routed(events: Iterable[Mapping[str, Any]]) -> list[tuple[str, bytes]]:
    """Return (routing key, body) of the messages that carry some events."""
    found: list[tuple[str, bytes]] = []
    together: list[Mapping[str, Any]] = []
    for event in events:
        kind = str(event.get("type", ""))
        if kind.startswith("task-"):
            together.append(event)
            continue
        if together:
            found.append((MULTI, _encoder.encode(together)))
            together = []
        found.append((kind.replace("-", "."), _encoder.encode(event)))
    if together:
        found.append((MULTI, _encoder.encode(together)))
    return found


def channel(db: int, routing_key: str, before: str = "") -> str:
    """Return the Redis channel of a routing key.

    :param before: `global_keyprefix`.
    """
    return f"{before}/{db}.{EXCHANGE}/{routing_key}"


def pattern(db: int, before: str = "") -> str:
    """Return the pattern of all channels of events, as Redis matches it."""
    return channel(db, "*", "".join(f"\\{c}" if c in "*?[]\\" else c for c in before))


def is_own(message: bytes) -> bool:
    """Tell whether celeriac said this, repeating what it had said in its own form."""
    return message.startswith(_OWN)


def envelope(routing_key: str, body: bytes, *, hostname: str, tag: str) -> bytes:
    """Return a body in kombu's envelope.

    :param hostname: the node that says it.
    :param tag: tells the message apart.
    """
    return _encoder.encode(
        {
            # First, so that whoever passes over it need not read the rest.
            "headers": {"sw_ident": "celeriac", "hostname": hostname},
            "body": base64.b64encode(body).decode(),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "properties": {
                "delivery_mode": 1,
                "delivery_info": {"exchange": EXCHANGE, "routing_key": routing_key},
                "priority": 0,
                "body_encoding": "base64",
                "delivery_tag": tag,
            },
        }
    )


def read_envelope(message: bytes) -> Sequence[dict[str, Any]]:
    """Return the events of kombu's envelope.

    :raises WireError: it is none, or holds no events in JSON.
    """
    try:
        opened = _decoder.decode(message)
        if opened.content_type != "application/json":
            raise WireError(f"events in {opened.content_type:.100} are not read, only JSON")
        body: bytes = opened.body.encode()
        if opened.properties.get("body_encoding") == "base64":
            body = base64.b64decode(body)
        found = _events.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        if isinstance(error, WireError):
            raise
        raise WireError(f"not a message of Celery's events: {error}") from error
    events = found if isinstance(found, list) else [found]
    return [event for event in events if isinstance(event.get("type"), str)]


def rewritten(message: bytes) -> bytes:
    """Return the events of kombu's envelope as one message of celeriac's bus.

    :raises WireError: it is none.
    """
    return _encoder.encode(read_envelope(message))
