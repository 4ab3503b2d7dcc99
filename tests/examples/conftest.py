"""What the tests of the examples share: copies of them, and servers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.redis import RedisServer
from tests.support.web import Example, Make


@pytest.fixture(scope="session")
def redis_of_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Start one Redis for all of these tests."""
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def redis_server(redis_of_session: RedisServer) -> RedisServer:
    """Give that Redis, with nothing in it."""
    redis_of_session.client.flushall()
    return redis_of_session


@pytest.fixture
def example(tmp_path: Path) -> Iterator[Make]:
    """Make copies of examples; their processes are killed at the end."""
    made: list[Example] = []

    def make(name: str, **environ: str) -> Example:
        made.append(Example(tmp_path, name, **environ))
        return made[-1]

    yield make
    for one in made:
        one.close()
