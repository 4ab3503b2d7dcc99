"""Standing orders: what a fleet obeys until it is told otherwise, kept in a store.

Paused queues and revoked tasks.  The bus may lose what is said on it, and a worker that starts later
has not heard it; what is here reaches every worker.  The last order of a kind and key holds.

Owns: Orders, Order, KEPT.  May import: kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

KEPT = 50_000
"""Orders that expire which a store keeps; those that expire first make room."""


@dataclass(frozen=True, slots=True)
class Order:
    """One order.  An empty value takes back what was ordered before."""

    kind: str
    key: str
    value: str = "1"
    expires_at: float = 0.0
    """Unix seconds; 0 means never."""


class Orders(Protocol):
    """A store of orders.  Raises only BrokerUnavailable (try again) and BrokerRejected (do not).

    A driver's family has it as `orders()`; it is optional.
    Thread rule: every method may be called from any thread.
    """

    def give(self, orders: Sequence[Order]) -> None:
        """Write orders, each in the place of an older one of its kind and key."""
        ...

    def since(self, mark: int) -> tuple[int, Sequence[Order]]:
        """Return a new mark, and what was given after `mark` and has not expired, in order.

        :param mark: from the last call; 0 for everything.
        """
        ...
