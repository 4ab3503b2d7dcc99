"""The schedules of the Redis driver against their contract, on a server of the test's own."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from celeriac.testing.contract.schedules import NOW, SchedulesContract, entry

pytest.importorskip("redis")
pytestmark = [
    pytest.mark.service,
    pytest.mark.skipif(shutil.which("redis-server") is None, reason="no redis-server"),
]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    port, folder = free_port(), tmp_path_factory.mktemp("redis")
    server = subprocess.Popen(
        ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder],
        stdout=subprocess.DEVNULL,
    )
    try:
        ends = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert time.monotonic() < ends and server.poll() is None
                time.sleep(0.02)
        yield port
    finally:
        server.kill()
        server.wait()


@pytest.fixture
def family(port: int) -> Iterator[Any]:
    from celeriac.drivers.redis import RedisFamily

    family = RedisFamily(f"redis://127.0.0.1:{port}/0", {})
    family.server.call("FLUSHALL")
    yield family
    family.close()


class TestSchedules(SchedulesContract):
    def test_nothing_is_left_of_what_was_removed(self, family: Any, store: Any) -> None:
        before = set(family.server.call("KEYS", "*"))
        store.put("s", [entry("a"), entry("b", NOW + 1)])
        store.due("s", NOW, limit=1, owner="x", lease=9)
        store.remove("s", ["a", "b"])
        left = set(family.server.call("KEYS", "*")) - before
        assert left <= {b"{celeriac}:ev"}
