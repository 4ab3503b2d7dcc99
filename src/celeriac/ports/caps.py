"""What a driver does by itself.  The engine asks once, at start, and never asks a driver's name.

Owns: Capabilities, require.  May import: kernel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from celeriac.kernel.errors import CapabilityMissing


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """One driver's row in the table of what it can do."""

    lease: Literal["timed", "connection"]
    """Who notices a dead worker: the clock, or the broker by its connection."""
    delay: Literal["native", "ladder"]
    """How `not_before` is kept."""
    priorities: int
    """Levels kept apart; 1 means none."""
    counts_deliveries: bool
    """Is `handed_out` exact, or only 1 / 2."""
    dedupes_ids: bool
    """Publishing one id twice leaves one message."""
    withdraws: bool
    """A queued message can be taken back."""
    peeks: bool
    """Queued messages can be listed."""
    settles_with: frozenset[str]
    """Names of the stores that are written in the same transaction as the settlement."""
    joins: bool
    """`publish_in` works inside the user's own transaction."""
    wakes: bool
    """`claim` wakes by itself when work arrives."""
    max_body: int | None
    """Bytes; None means no limit of the driver's own."""
    wires: frozenset[str] = frozenset()
    """Other forms in which it can publish (`Envelope.wire`), beside its own."""
    counts: Literal["all", "ready"] = "all"
    """Whether `count` knows of everything, or only of what is ready and what this process holds."""
    keeps_place: bool = True
    """What is given back comes first again."""
    exchanges: bool = False
    """Routes by topic, fanout and headers, and from one exchange into several queues."""
    counts_groups: bool = True
    """The store counts the parts of chords."""
    holds_for: float | None = None
    """Seconds after which the broker takes back what a live worker still holds; None: never."""


_HINTS = {
    "peeks": "queued messages cannot be listed there: use `count`, or another broker",
    "withdraws": "a queued message cannot be taken back there: a revocation reaches it when it is met",
    "joins": "publish after the commit, or use an SQL broker that shares the application's database",
}


def require(caps: Capabilities, feature: str, *, by: str) -> None:
    """Check at declaration that a driver has `feature`.

    :param feature: the name of a boolean field of `Capabilities`.
    :param by: who needs it, for the message.
    :raises CapabilityMissing: it has not; the message says what to change.
    """
    if not getattr(caps, feature):
        hint = _HINTS.get(feature, "choose a broker that has it")
        raise CapabilityMissing(f"{by} needs a broker that {feature.replace('_', ' ')}: {hint}")
