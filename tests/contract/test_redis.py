"""The Redis driver against the contracts: on one server, over TLS and a socket, in a cluster."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("redis")

from tests.support.certificates import certificates
from tests.support.redis import RedisCluster, RedisServer, SentinelPair
from tests.support.redis import family as make_family

from celeriac.testing.contract.broker import BrokerContract
from celeriac.testing.contract.bus import BusContract
from celeriac.testing.contract.results import ResultsContract

pytestmark = pytest.mark.service

_numbers = itertools.count()


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module")
def behind_tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    folder = tmp_path_factory.mktemp("tls")
    tls = certificates(folder / "certificates")
    with RedisServer(folder, password="s3cret/@:", tls=tls) as server:
        yield server


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    cluster = RedisCluster(tmp_path_factory.mktemp("cluster"))
    yield cluster
    cluster.stop()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SentinelPair]:
    pair = SentinelPair(tmp_path_factory.mktemp("sentinel"))
    yield pair
    pair.stop()


@pytest.fixture
def family(plain: RedisServer) -> Iterator[Any]:
    with make_family(plain.url(next(_numbers) % 16)) as made:
        yield made
    plain.cli("FLUSHALL")


class TestBroker(BrokerContract):
    pass


class TestResults(ResultsContract):
    pass


class TestBus(BusContract):
    pass


class OverTLS:
    """With a password, a certificate that is checked, and a prefix before every key."""

    @pytest.fixture
    def family(self, behind_tls: RedisServer) -> Iterator[Any]:
        with make_family(behind_tls.url(), global_keyprefix="app.") as made:
            yield made
        assert all(key.startswith(b"app.") for key in behind_tls.cli("KEYS", "*"))
        behind_tls.cli("FLUSHALL")


class TestBrokerOverTLS(OverTLS, BrokerContract):
    pass


class TestResultsOverTLS(OverTLS, ResultsContract):
    pass


class TestBusOverTLS(OverTLS, BusContract):
    pass


class InCluster:
    """Three masters: what belongs together must be in one slot."""

    @pytest.fixture
    def family(self, cluster: RedisCluster) -> Iterator[Any]:
        with make_family(cluster.url) as made:
            yield made
        cluster.clear()


class TestBrokerInCluster(InCluster, BrokerContract):
    pass


class TestResultsInCluster(InCluster, ResultsContract):
    pass


class TestBusInCluster(InCluster, BusContract):
    pass


class TestBusOverSocket(BusContract):
    @pytest.fixture
    def family(self, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
        # A short path: a socket's name has 107 bytes at the most.
        with (
            RedisServer(tmp_path_factory.mktemp("s"), unix=True) as server,
            make_family(server.url(3)) as made,
        ):
            yield made


class TestResultsBySentinel(ResultsContract):
    @pytest.fixture
    def family(self, pair: SentinelPair) -> Iterator[Any]:
        with make_family(pair.url, **pair.options) as made:
            yield made
        pair.master.cli("FLUSHALL")
