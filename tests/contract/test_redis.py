"""The Redis driver against the contracts: on one server, over TLS and a socket, in a cluster."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("redis")

from tests.support.redis import (
    RedisServer,
)
from tests.support.redis import (
    family as make_family,
)

from celeriac.testing.contract.broker import BrokerContract
from celeriac.testing.contract.bus import BusContract
from celeriac.testing.contract.results import ResultsContract

pytestmark = pytest.mark.service

_numbers = itertools.count()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def family(server: RedisServer) -> Iterator[Any]:
    db = next(_numbers) % 16
    with make_family(server.url(db)) as made:
        yield made
    server.cli("FLUSHALL")


class TestBroker(BrokerContract):
    pass


class TestResults(ResultsContract):
    pass


class TestBus(BusContract):
    pass
