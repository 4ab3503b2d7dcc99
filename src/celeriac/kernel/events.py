"""Events: what happened to tasks and workers, as JSON with Celery's names and fields.

What runs a task says what only it knows; a `Stamp` adds what is the same for all that one process
sends (hostname, pid, utcoffset) and the count that orders them (`clock`).  A message on the bus is
a JSON list of them, written in one go: three events are made per task.

Owns: TOPIC, TASK_FIELDS, WORKER_FIELDS, Received, Started, Succeeded, Line, Stamp, event, written, read.
May import: kernel, msgspec.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

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


class Received(msgspec.Struct, gc=False):
    """The event of a task that was taken from its queue."""

    timestamp: float
    uuid: str
    name: str
    args: str
    kwargs: str
    root_id: str
    parent_id: str | None
    retries: int
    eta: str | None
    expires: str | None
    type: str = "task-received"
    hostname: str | UnsetType = UNSET
    pid: int | UnsetType = UNSET
    utcoffset: int | UnsetType = UNSET
    clock: int | UnsetType = UNSET


class Started(msgspec.Struct, gc=False):
    """The event of a task that begins."""

    timestamp: float
    uuid: str
    type: str = "task-started"
    hostname: str | UnsetType = UNSET
    pid: int | UnsetType = UNSET
    utcoffset: int | UnsetType = UNSET
    clock: int | UnsetType = UNSET


class Succeeded(msgspec.Struct, gc=False):
    """The event of a task that returned."""

    timestamp: float
    uuid: str
    result: str
    runtime: float
    type: str = "task-succeeded"
    hostname: str | UnsetType = UNSET
    pid: int | UnsetType = UNSET
    utcoffset: int | UnsetType = UNSET
    clock: int | UnsetType = UNSET


Line = bytes | Received | Started | Succeeded
"""An event without its stamp: JSON as `event` makes it, or what will be JSON when it is sent."""


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


def written(batch: Sequence[Line]) -> list[bytes]:
    """Return events as bytes, to be handed to the process that stamps them."""
    return [
        one if isinstance(one, bytes) else _encoder.encode(one)
        for one in batch
        if isinstance(one, bytes) or _is_writable(one)
    ]


class Stamp:
    """What is the same for all events that one process sends, and the count that orders them.

    :param utcoffset: hours west of UTC, as Celery counts.
    """

    def __init__(self, hostname: str, pid: int, utcoffset: int) -> None:
        self._fields = hostname, pid, utcoffset
        said = _encoder.encode({"hostname": hostname, "pid": pid, "utcoffset": utcoffset})
        self._prefix = said[:-1] + b',"clock":'
        self.clock = 0

    def message(self, batch: Sequence[Line]) -> bytes:
        """Return events as one message of the bus; those that cannot be written are left out."""
        hostname, pid, utcoffset = self._fields
        prefix, clock = self._prefix, self.clock
        found: list[Any] = []
        for one in batch:
            clock += 1
            if isinstance(one, bytes):
                found.append(msgspec.Raw(b"%s%d,%s" % (prefix, clock, one[1:])))
            else:
                one.clock = clock
                one.hostname, one.pid, one.utcoffset = hostname, pid, utcoffset
                found.append(one)
        self.clock = clock
        try:
            return _encoder.encode(found)
        except (TypeError, ValueError, msgspec.MsgspecError):  # half a surrogate pair
            return _encoder.encode([one for one in found if _is_writable(one)])


def _is_writable(one: Any) -> bool:
    try:
        _encoder.encode(one)
    except (TypeError, ValueError, msgspec.MsgspecError):
        return False
    return True


def read(message: bytes) -> list[dict[str, Any]]:
    """Return the events of a message.

    :raises WireError: it is none.
    """
    try:
        found = _reader.decode(message)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise WireError(f"not a message of events: {error}") from error
    return [event for event in found if isinstance(event.get("type"), str)]
