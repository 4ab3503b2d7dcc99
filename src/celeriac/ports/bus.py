"""Best-effort fan-out for remote control and events: bounded, lossy, never blocks a task.

Owns: Bus, Subscription.  May import: kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Subscription(Protocol):
    """One listener's view of some topics, from the moment it subscribed."""

    def poll(self, wait: float) -> Sequence[tuple[str, bytes]]:
        """Return (topic, message) pairs, waiting up to `wait` seconds for the first."""
        ...

    def wake(self) -> None:
        """End a waiting `poll` within 50 ms.  May be called from any thread."""
        ...

    def close(self) -> None:
        """Stop listening."""
        ...


class Bus(Protocol):
    """Best-effort fan-out.  What must not be lost is state in the broker's store instead."""

    def send(self, topic: str, batch: Sequence[bytes]) -> None:
        """Hand `batch` to whoever is subscribed to `topic` now."""
        ...

    def heard(self, topic: str) -> bool:
        """Tell whether somebody may be subscribed to `topic` now; true where that is not known."""
        ...

    def subscribe(self, topics: Sequence[str]) -> Subscription:
        """Listen to `topics`."""
        ...
