"""The values that cross a port: an envelope, the delivery of it, and all that ends a delivery.

Owns: Envelope, Delivery, Verdict, Record, Part, Group, Ready, Settlement, QueueCount, Buried.
May import: the standard library only.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


@dataclass(slots=True)
class Envelope:
    """A task on the wire.  A broker reads these fields and never looks inside `body`."""

    id: str
    """The task id; the same on every retry."""
    queue: str
    body: bytes
    """Encoded headers and arguments, see `kernel/wire.py`."""
    priority: int = 0
    """0 lowest .. 9 highest, on every broker; RabbitMQ's queues may know more."""
    not_before: float = 0.0
    """Unix seconds; 0 means now."""
    expires_at: float = 0.0
    """Unix seconds; 0 means never."""
    attempt: int = 0
    """How many retries came before (Celery's `retries`)."""
    wire: str = ""
    """"celery": to be published as Celery's own workers read it; "": in celeriac's form."""


@dataclass(slots=True)
class Delivery:
    """An envelope that this worker holds until it settles it or its lease runs out."""

    envelope: Envelope
    receipt: object
    """The driver's proof of ownership: tag, lease token, row version."""
    lease_until: float
    """`time.monotonic()` seconds; infinity where the connection itself is the lease."""
    handed_out: int = 1
    """How often this attempt was handed out, this time included: 1 + the workers it has lost."""


class Verdict(enum.Enum):
    """How a delivery ends."""

    ACK = "ack"
    """Done, for better or worse."""
    RETRY = "retry"
    """Replace it by `Settlement.again`."""
    RELEASE = "release"
    """Not started: give it back unchanged, at the head of its queue."""
    LOST = "lost"
    """Its process died under it: give it back and count that against it."""
    BURY = "bury"
    """Cannot be run: keep it where a person will look, with `Settlement.reason`."""


@dataclass(slots=True)
class Record:
    """A task's state as the result backend keeps it.

    A final record is never overwritten; one that is not is overwritten only by a record whose
    fence is the same or newer.
    """

    id: str
    state: str
    body: bytes | None
    """Celery's result meta (status, result, traceback, children, date_done, ...), encoded."""
    fence: tuple[int, int] = (0, 1)
    """(attempt, handed_out): an older writer never overwrites a newer one."""
    expires_at: float = 0.0
    """Unix seconds after which the store may forget it; 0 means never."""


@dataclass(slots=True)
class Part:
    """One finished member of a group that a chord waits for."""

    group: str
    index: int
    record: Record


@dataclass(frozen=True, slots=True)
class Group:
    """A chord in progress: what to publish once `size` slots are full."""

    id: str
    size: int
    body: Envelope
    """Carries the group's id, not its results: its worker loads those."""
    on_error: Envelope
    """Published instead where a part failed."""
    expires_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Ready:
    """A group whose slots are all full and whose follow-up is not marked sent."""

    group: str
    envelope: Envelope


@dataclass(slots=True)
class Settlement:
    """Everything that ends one delivery.  A driver that can, does all of it in one transaction."""

    delivery: Delivery
    verdict: Verdict
    again: Envelope | None = None
    """With RETRY: what takes the place of the delivered envelope (same id)."""
    record: Record | None = None
    part: Part | None = None
    publish: tuple[Envelope, ...] = ()
    """The chain's next step, callbacks, errbacks."""
    reason: str = ""
    """With BURY: why, in one sentence."""
    runtime: float = 0.0
    """Seconds that the task itself ran; 0 where it did not."""


@dataclass(frozen=True, slots=True)
class QueueCount:
    """What a queue holds."""

    ready: int = 0
    delayed: int = 0
    held: int = 0
    oldest: float = 0.0
    """Age in seconds of the oldest ready envelope; 0 where none is."""


@dataclass(frozen=True, slots=True)
class Buried:
    """An envelope that was taken out of the flow for a person to look at."""

    envelope: Envelope
    reason: str
    at: float
    """Unix seconds of the burial."""
    handed_out: int = 1
