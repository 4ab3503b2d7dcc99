"""A Redis server of a test's own: own process, free port, data in the test's folder."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from celeriac.testing.eventually import eventually


def free_port() -> int:
    """Return a port on 127.0.0.1 that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def listens(port: int) -> bool:
    """Return whether somebody answers on a port."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
        return True
    return False


@contextlib.contextmanager
def redis_server(folder: Path) -> Iterator[int]:
    """Run a server inside the block; yields its port."""
    binary = shutil.which("redis-server") or shutil.which("valkey-server")
    if binary is None:
        pytest.skip("no redis-server is installed")
    port = free_port()
    command = [binary, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)]
    process = subprocess.Popen(
        [*command, "--save", "", "--maxmemory-policy", "noeviction"], stdout=subprocess.DEVNULL
    )
    try:
        eventually(lambda: listens(port))
        yield port
    finally:
        process.kill()
        process.wait(10)
