"""Standing orders in memory.

Owns: MemoryOrders.  Thread rule: any thread.  May import: kernel, ports, drivers.memory.
"""

from __future__ import annotations

from collections.abc import Sequence

from celeriac.drivers.memory.shared import Shared
from celeriac.ports.orders import KEPT, Order


class MemoryOrders:
    """The orders of one world."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._seq = 0
        self._orders: dict[tuple[str, str], tuple[int, Order]] = {}

    def give(self, orders: Sequence[Order]) -> None:
        """Write orders."""
        with self._shared.lock:
            now = self._shared.clock.time()
            for order in orders:
                self._seq += 1
                self._orders.pop((order.kind, order.key), None)
                self._orders[order.kind, order.key] = (self._seq, order)
            expiring = [order for _, order in self._orders.values() if order.expires_at]
            expiring.sort(key=lambda order: order.expires_at)
            for index, order in enumerate(expiring):
                if order.expires_at > now and index >= len(expiring) - KEPT:
                    break
                del self._orders[order.kind, order.key]

    def since(self, mark: int) -> tuple[int, Sequence[Order]]:
        """Return what was given after `mark`."""
        with self._shared.lock:
            if mark == self._seq:
                return mark, ()
            now = self._shared.clock.time()
            found = [
                order
                for seq, order in self._orders.values()
                if seq > mark and not 0 < order.expires_at <= now
            ]
            return self._seq, found
