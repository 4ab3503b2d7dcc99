"""A redis-server process of a test's own: on a free port, with its data in a folder.

Owns: RedisServer.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import pytest
import redis

from tests.support.project import eventually


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class RedisServer:
    """One server, killed by `close`."""

    def __init__(self, folder: Path, *options: str) -> None:
        program = shutil.which("redis-server")
        if program is None:
            if os.environ.get("CI"):
                raise RuntimeError("redis-server is missing; tools/servers.sh installs it")
            pytest.skip("redis-server is not installed")
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._folder = folder
        self._command = [
            program, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(folder),
            "--save", "", "--appendonly", "yes", *options,
        ]  # fmt: skip
        self.client = redis.Redis(port=self.port)
        self.start()

    def start(self) -> None:
        """Begin, with the data that is there."""
        with (self._folder / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        eventually(self._answers, saying="an answer of redis-server")

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.RedisError:
            return False

    def kill(self) -> None:
        """SIGKILL."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(10)

    def close(self) -> None:
        """End it."""
        self.client.close()
        if self._process.poll() is None:
            self.kill()
