"""The schedules of the Redis driver against their contract, on a server of the test's own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.support import redis as servers
from tests.support.redis import RedisServer

from celeriac.testing.contract.schedules import NOW, SchedulesContract, entry

pytestmark = pytest.mark.service


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def family(server: RedisServer) -> Iterator[Any]:
    server.cli("FLUSHALL")
    with servers.family(server.url()) as family:
        yield family


class TestSchedules(SchedulesContract):
    def test_nothing_is_left_of_what_was_removed(self, family: Any, store: Any) -> None:
        before = set(family.server.call("KEYS", "*"))
        store.put("s", [entry("a"), entry("b", NOW + 1)])
        store.due("s", NOW, limit=1, owner="x", lease=9)
        store.remove("s", ["a", "b"])
        left = set(family.server.call("KEYS", "*")) - before
        assert left <= {b"{celeriac}:ev"}
