"""The contract of standing orders: each sentence of `ports.orders` is a test.

Owns: OrdersContract.  May import: kernel, ports; pytest.
"""

from __future__ import annotations

import time

from celeriac.ports.orders import Order, Orders


class OrdersContract:
    """Tests of a store of orders; a subclass defines the fixture `orders`, which is empty."""

    def test_what_was_given_is_there(self, orders: Orders) -> None:
        """Every order is returned once, in order."""
        assert orders.since(0)[1] == () or list(orders.since(0)[1]) == []
        given = [Order("pause", "a"), Order("revoke", "b", expires_at=time.time() + 100)]
        orders.give(given)
        mark, found = orders.since(0)
        assert list(found) == given
        assert list(orders.since(mark)[1]) == []

    def test_only_what_is_new(self, orders: Orders) -> None:
        """A mark leaves out what was returned before."""
        orders.give([Order("pause", "a")])
        mark, _ = orders.since(0)
        orders.give([Order("pause", "b")])
        assert [order.key for order in orders.since(mark)[1]] == ["b"]

    def test_the_last_one_holds(self, orders: Orders) -> None:
        """An order takes the place of an older one of its kind and key, and is new."""
        orders.give([Order("pause", "a"), Order("stamp", "a")])
        mark, _ = orders.since(0)
        orders.give([Order("pause", "a", "")])
        assert list(orders.since(mark)[1]) == [Order("pause", "a", "")]
        assert len(orders.since(0)[1]) == 2

    def test_what_has_expired_is_not_returned(self, orders: Orders) -> None:
        """An order ends at its time."""
        orders.give([Order("revoke", "a", expires_at=time.time() - 1), Order("revoke", "b")])
        assert [order.key for order in orders.since(0)[1]] == ["b"]

    def test_any_text(self, orders: Orders) -> None:
        """Keys and values are any text."""
        order = Order("stamp", 'ü:=\n"x', "ß:\x06")
        orders.give([order])
        assert list(orders.since(0)[1]) == [order]

    def test_bounded(self, orders: Orders) -> None:
        """Those that expire first make room; those that do not expire stay."""
        now = time.time()
        orders.give([Order("pause", "kept")])
        for start in range(0, 52_000, 13_000):
            many = range(start, start + 13_000)
            orders.give([Order("revoke", str(i), expires_at=now + 1000 + i) for i in many])
        found = {order.key for order in orders.since(0)[1]}
        assert len(found) == 50_001
        assert "kept" in found
        assert "51999" in found
        assert "0" not in found
