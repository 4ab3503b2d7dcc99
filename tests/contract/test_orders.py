"""Standing orders of every driver against their contract."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from tests.support.redis import RedisServer

from celeriac.drivers.memory import MemoryFamily
from celeriac.drivers.sqlite import SQLiteFamily
from celeriac.ports.orders import Order, Orders
from celeriac.ports.registry import open_family
from celeriac.testing.contract.orders import OrdersContract


class TestMemory(OrdersContract):
    @pytest.fixture
    def orders(self) -> Orders:
        return MemoryFamily("memory://orders", {"private": True}).orders()


class TestSQLite(OrdersContract):
    @pytest.fixture
    def orders(self, tmp_path: Path) -> Iterator[Orders]:
        family = SQLiteFamily(f"sqlite:////{tmp_path}/o.db", {})
        yield family.orders()
        family.close()


@pytest.mark.service
class TestAMQP(OrdersContract):
    @pytest.fixture
    def orders(self, rabbitmq: Any) -> Iterator[Orders]:
        family = open_family(rabbitmq.vhost(uuid4().hex))
        yield family.orders()
        family.close()


@pytest.mark.service
class TestRedis(OrdersContract):
    @pytest.fixture
    def orders(self, tmp_path: Path) -> Iterator[Orders]:
        with RedisServer(tmp_path) as server:
            family = open_family(server.url(1))
            yield family.orders()
            family.close()

    def test_what_is_ordered_after_a_loss_is_heard(self, orders: Any) -> None:
        """A server that comes back without its last writes must not count below a worker's mark."""
        orders.give([Order("pause", str(n)) for n in range(5)])
        mark, _ = orders.since(0)
        orders._server.call("FLUSHALL")
        orders.give([Order("pause", "again")])
        assert [order.key for order in orders.since(mark)[1]] == ["again"]
