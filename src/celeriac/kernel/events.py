"""Events: what happened to tasks and workers, as one line of JSON each, with Celery's names and fields.

What runs a task writes what only it knows; `stamped` adds what is the same for all that one
process sends (hostname, pid, utcoffset) and the count that orders them (`clock`).  A message on
the bus is a JSON list of them.

Owns: TOPIC, TASK_FIELDS, WORKER_FIELDS, event, prefix, stamped, together, read.
May import: kernel, msgspec.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from celeriac.kernel.errors import WireError
from celeriac.kernel.redact import bounded_repr

TOPIC = "events"
"""The topic of the bus."""

TASK_FIELDS: Mapping[str, tuple[str, ...]] = {
    "task-sent": tuple(
        "uuid name args kwargs retries eta expires queue exchange routing_key root_id parent_id".split()
    ),
    "task-received": tuple("uuid name args kwargs root_id parent_id retries eta expires".split()),
    "task-started": ("uuid",),
    "task-succeeded": ("uuid", "result", "runtime"),
    "task-failed": ("uuid", "exception", "traceback"),
    "task-rejected": ("uuid", "requeue"),
    "task-revoked": ("uuid", "terminated", "signum", "expired"),
    "task-retried": ("uuid", "exception", "traceback"),
}
"""What each event of a task says."""

_WORKER = tuple("freq active processed loadavg sw_ident sw_ver sw_sys".split())
WORKER_FIELDS: Mapping[str, tuple[str, ...]] = {
    "worker-online": _WORKER,
    "worker-heartbeat": _WORKER,
    "worker-offline": _WORKER,
}
"""What each event of a worker says."""

_encoder = msgspec.json.Encoder(enc_hook=bounded_repr)
_reader = msgspec.json.Decoder(list[dict[str, Any]])


def event(kind: str, at: float, fields: Mapping[str, Any]) -> bytes:
    """Return an event without its stamp; what JSON has no form for becomes its repr.

    :param kind: "task-started" and so on; any name is allowed.
    :param at: unix seconds.
    :raises WireError: a field cannot be written.
    """
    try:
        return _encoder.encode({"type": kind, "timestamp": at, **fields})
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise WireError(f"the event {kind} cannot be written as JSON: {error}") from error


def prefix(hostname: str, pid: int, utcoffset: int) -> bytes:
    """Return what begins every event of one process.

    :param utcoffset: hours west of UTC, as Celery counts.
    """
    said = _encoder.encode({"hostname": hostname, "pid": pid, "utcoffset": utcoffset})
    return said[:-1] + b',"clock":'


def stamped(start: bytes, clock: int, body: bytes) -> bytes:
    """Return an event with the `prefix` of its process and its place in the order."""
    return b"%s%d,%s" % (start, clock, body[1:])


def together(batch: Sequence[bytes]) -> bytes:
    """Return stamped events as one message of the bus."""
    return b"[" + b",".join(batch) + b"]"


def read(message: bytes) -> list[dict[str, Any]]:
    """Return the events of a message.

    :raises WireError: it is none.
    """
    try:
        found = _reader.decode(message)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(f"not a message of events: {error}") from error
    return [event for event in found if isinstance(event.get("type"), str)]
