"""What a program sent, as its worker will read it.

Owns: Sent, read, wanted, task_name_of.  May import: kernel, ports, client.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from celeriac.client.app import Celeriac
from celeriac.kernel.errors import CeleryError
from celeriac.kernel.message import Envelope
from celeriac.kernel.wire import unpack
from celeriac.ports.registry import find_codec, find_compression


@dataclass(frozen=True, slots=True)
class Sent:
    """A task that was sent, as its worker will read it."""

    task: str
    args: list[Any]
    kwargs: dict[str, Any]
    id: str
    queue: str
    priority: int
    countdown: float
    """Seconds from the sending until it is due; 0 where that was at once."""
    eta: dt.datetime | None
    expires: dt.datetime | None
    headers: dict[str, Any]
    """The caller's own."""
    parent_id: str | None
    """The task that sent it, where one did."""

    def __str__(self) -> str:
        parts = [repr(arg) for arg in self.args]
        parts += [f"{name}={value!r}" for name, value in self.kwargs.items()]
        extra = f" in {self.countdown:g} s" if self.countdown else ""
        return f"{self.task}({', '.join(parts)}) to {self.queue}{extra}"

    def fits(
        self,
        task: Any,
        args: Sequence[Any] | None,
        kwargs: Mapping[str, Any] | None,
        fields: Mapping[str, Any],
    ) -> bool:
        """Return whether it is what a test asks for; None asks for nothing."""
        return (
            task_name_of(task) in (None, self.task)
            and (args is None or self.args == _carried(list(args)))
            and (kwargs is None or self.kwargs == _carried(dict(kwargs)))
            and all(_near(getattr(self, name), value) for name, value in fields.items())
        )


def read(app: Celeriac, envelope: Envelope, at: float) -> Sent:
    """Return what an envelope says.

    :param at: unix seconds at which it was sent.
    """
    head, payload = unpack(envelope.body)
    if head.compression:
        limit = app.conf.task_max_decompressed_size
        payload = find_compression(head.compression).decompress(payload, limit=limit)
    args, kwargs, _ = find_codec(head.content_type).loads(payload)
    return Sent(
        head.task,
        list(args),
        dict(kwargs),
        envelope.id,
        envelope.queue,
        envelope.priority,
        envelope.not_before - at if envelope.not_before else 0.0,
        _moment(envelope.not_before),
        _moment(envelope.expires_at),
        dict(head.extra),
        head.parent_id,
    )


def _moment(seconds: float) -> dt.datetime | None:
    return dt.datetime.fromtimestamp(seconds, dt.UTC) if seconds else None


def task_name_of(task: Any) -> str | None:
    """Return the name of a task or of a name."""
    return task if task is None or isinstance(task, str) else str(task.name)


def _carried(value: Any) -> Any:
    """Return what a value is after the way through JSON: tuples are lists there."""
    codec = find_codec("json")
    try:
        return codec.loads(codec.dumps(value))
    except CeleryError:
        return value


def _near(found: Any, wanted: Any) -> bool:
    if isinstance(found, float) and isinstance(wanted, (int, float)):
        return math.isclose(found, wanted, abs_tol=1e-3)
    if isinstance(found, dict) and isinstance(wanted, Mapping):
        return all(found.get(key) == value for key, value in wanted.items())
    return bool(found == wanted)


def wanted(task: Any, args: Any, kwargs: Any, fields: Mapping[str, Any]) -> str:
    """Return in words what a test asks for."""
    text = task_name_of(task) or "a task"
    if args is not None:
        text += f" with args={list(args)!r}"
    if kwargs is not None:
        text += f" with kwargs={dict(kwargs)!r}"
    for name, value in fields.items():
        text += f" with {name}={value!r}"
    return text
