"""A redis-server for the tests of a folder, emptied before each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.support.redis_server import RedisServer


@pytest.fixture(scope="session")
def one_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.close()


@pytest.fixture
def redis_server(one_redis: RedisServer) -> RedisServer:
    one_redis.client.flushall()
    return one_redis
