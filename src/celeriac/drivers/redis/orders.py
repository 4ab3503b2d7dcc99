"""Standing orders on a Redis server.

Owns: RedisOrders.  Thread rule: any thread.  May import: kernel, ports, drivers.redis.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import msgspec

from celeriac.drivers.redis.connection import Server
from celeriac.drivers.redis.keys import Keys
from celeriac.drivers.redis.script import ORDER
from celeriac.ports.orders import KEPT, Order

SLICE = 500
"""Orders in one command."""

_encode = msgspec.json.encode
_decode = msgspec.json.Decoder(tuple[str, str, str, float]).decode


class RedisOrders:
    """The orders of one database."""

    def __init__(self, server: Server, keys: Keys) -> None:
        self._server, self._keys = server, keys

    def give(self, orders: Sequence[Order]) -> None:
        """Write orders."""
        for start in range(0, len(orders), SLICE):
            args: list[str | bytes] = []
            for order in orders[start : start + SLICE]:
                body = _encode((order.kind, order.key, order.value, order.expires_at))
                args += [f"{order.kind}:{order.key}", body, repr(order.expires_at)]
            head = (self._keys.prefix, repr(time.time()), str(KEPT))
            self._server.run(ORDER, self._keys.messages, (*head, *args))

    def since(self, mark: int) -> tuple[int, Sequence[Order]]:
        """Return what was given after `mark`."""
        prefix, found, now = self._keys.prefix, [], time.time()
        flat = self._server.call(
            "ZRANGEBYSCORE", f"{prefix}oz", f"({mark}", "+inf", "WITHSCORES", "LIMIT", 0, 100_000
        )
        fields, scores = flat[::2], flat[1::2]
        for start in range(0, len(fields), SLICE):
            for body in self._server.call("HMGET", f"{prefix}oh", *fields[start : start + SLICE]):
                if body is not None:
                    order = Order(*_decode(body))
                    if not 0 < order.expires_at <= now:
                        found.append(order)
        return (int(float(scores[-1])) if scores else mark), found
