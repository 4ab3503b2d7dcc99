"""Redis servers of the tests' own, which can be killed, frozen, filled and failed over.

Owns: RedisServer, SentinelPair, RedisCluster, need_redis, listens.
May import: redis, and what tests use.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

import pytest
import redis

from tests.support.certificates import Certificates
from tests.support.ports import free_port
from tests.support.project import eventually

BINARY = shutil.which("redis-server") or shutil.which("valkey-server")


def need_redis() -> None:
    """Skip a test where no server is installed; fail it where CI is set."""
    if BINARY is None:
        if os.environ.get("CI"):
            pytest.fail("redis-server is not installed: tools/servers.sh")
        pytest.skip("redis-server is not installed")


def listens(port: int) -> bool:
    """Return whether somebody answers on a port of 127.0.0.1."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
        return True
    return False


class RedisServer:
    """One server process; it keeps its port and its data over a restart.

    :param folder: where its data and its log lie.
    :param fsync: `always`, `everysec` or `no`: keep an append-only file; empty: keep nothing.
    :param settings: any other lines of its configuration, with `_` for `-`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        fsync: str = "",
        password: str = "",
        tls: Certificates | None = None,
        unix: bool = False,
        is_sentinel: bool = False,
        **settings: object,
    ) -> None:
        need_redis()
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.password, self.tls = folder, password, tls
        self.port = free_port()
        self.socket = folder / "redis.sock" if unix else None
        self._sentinel = is_sentinel
        self._settings: dict[str, object] = {
            "port": 0 if tls else self.port,
            "bind": "127.0.0.1",
            "dir": folder,
            "save": '""',
            "daemonize": "no",
            "logfile": folder / "redis.log",
        }
        if is_sentinel:
            self._settings.pop("save")
        if fsync:
            self._settings |= {"appendonly": "yes", "appendfsync": fsync}
        if password:
            self._settings |= {"requirepass": password, "masterauth": password}
        if tls is not None:
            self._settings |= {
                "tls-port": self.port,
                "tls-ca-cert-file": tls.authority,
                "tls-cert-file": tls.certificate,
                "tls-key-file": tls.key,
                "tls-auth-clients": "no",
            }
        if self.socket is not None:
            self._settings["unixsocket"] = self.socket
        self._settings |= {name.replace("_", "-"): value for name, value in settings.items()}
        self._client: redis.Redis | None = None
        self.popen: subprocess.Popen[bytes] | None = None

    # -- its life -------------------------------------------------------------------------------

    def start(self) -> RedisServer:
        """Start it and wait until it answers."""
        conf = self.folder / "redis.conf"
        if not (self._sentinel and conf.exists()):  # a sentinel keeps what it knows in there
            lines = []
            for name, value in self._settings.items():
                # Some settings stand there several times.
                values = value if isinstance(value, list) else [value]
                lines += [f"{name} {one}" for one in values]
            conf.write_text("\n".join(lines) + "\n")
        command = [str(BINARY), str(conf), *(["--sentinel"] if self._sentinel else [])]
        self.popen = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C in the tests is not for it
        )
        eventually(self.answers, within=20, saying=f"an answer of {self.folder.name}")
        return self

    def answers(self) -> bool:
        """Return whether it takes commands."""
        assert self.popen is not None and self.popen.poll() is None, self.log()
        try:
            if not self.client.ping():
                return False
        except redis.RedisError:
            return False
        # Not another's, which had the port first: ours ends in a moment then.
        return bool(self.client.info("server")["process_id"] == self.popen.pid)

    def log(self) -> str:
        """Return what it has said."""
        path = self.folder / "redis.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def kill(self) -> None:
        """SIGKILL it, as a crash."""
        if self.popen is not None:
            with contextlib.suppress(ProcessLookupError):
                self.popen.kill()
            self.popen.wait(10)

    def restart(self) -> RedisServer:
        """Start it again, with the port and the data that it had."""
        self.kill()
        return self.start()

    def pause(self) -> None:
        """SIGSTOP it: connections stay, and no answer comes."""
        assert self.popen is not None
        self.popen.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT it."""
        assert self.popen is not None
        self.popen.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """End it for good."""
        if self._client is not None:
            self._client.close()
            self._client = None
        self.kill()

    def __enter__(self) -> RedisServer:
        """Start it."""
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End it."""
        self.stop()

    # -- talking to it --------------------------------------------------------------------------

    @property
    def client(self) -> redis.Redis:
        """A client of the tests' own, on database 0."""
        if self._client is None:
            settings: dict[str, Any] = {"socket_timeout": 5, "password": self.password or None}
            if self.tls is not None:
                settings |= {"ssl": True, "ssl_ca_certs": str(self.tls.authority)}
            self._client = redis.Redis("127.0.0.1", self.port, **settings)
        return self._client

    def cli(self, *command: Any) -> Any:
        """Run a command and return its reply."""
        return self.client.execute_command(*command)

    def info(self, section: str) -> dict[str, Any]:
        """Return a section of INFO."""
        return dict(self.client.info(section))

    def keys(self, db: int = 0) -> set[str]:
        """Return the names of all keys of a database."""
        with redis.Redis("127.0.0.1", self.port, db=db, password=self.password or None) as client:
            return {key.decode() for key in client.scan_iter(count=1000)}

    def url(self, db: int = 0, *, port: int | None = None, password: str | None = None) -> str:
        """Return the URL of a database.

        :param port: another door, e.g. of a proxy.
        :param password: another than its own.
        """
        secret = self.password if password is None else password
        login = f":{quote(secret, safe='')}@" if secret else ""
        if self.socket is not None and port is None:
            return f"redis+socket://{self.socket}?virtual_host={db}"
        scheme = "rediss" if self.tls is not None else "redis"
        more = f"?ssl_ca_certs={self.tls.authority}" if self.tls is not None else ""
        return f"{scheme}://{login}127.0.0.1:{port or self.port}/{db}{more}"


class SentinelPair:
    """A master, a replica and sentinels that make the replica master when the master is away.

    :param sentinels: one, or three of which two must agree.
    :param down_after: milliseconds of silence after which the master counts as away.
    """

    name = "mymaster"

    def __init__(self, folder: Path, *, sentinels: int = 1, down_after: int = 500) -> None:
        self.master = RedisServer(folder / "first", fsync="always").start()
        self.replica = RedisServer(
            folder / "second", fsync="always", replicaof=f"127.0.0.1 {self.master.port}"
        ).start()
        quorum = sentinels // 2 + 1
        self.sentinels: list[RedisServer] = []
        for number in range(sentinels):
            watched = [
                f"monitor {self.name} 127.0.0.1 {self.master.port} {quorum}",
                f"down-after-milliseconds {self.name} {down_after}",
                f"failover-timeout {self.name} 3000",
            ]
            folder_of_one = folder / f"sentinel{number}"
            one = RedisServer(folder_of_one, is_sentinel=True, sentinel=watched)
            self.sentinels.append(one.start())
        try:
            eventually(self._settled, within=20, saying="sentinels that know each other")
        except BaseException:
            self.stop()
            raise

    def _settled(self) -> bool:
        linked = self.replica.info("replication").get("master_link_status") == "up"
        for one in self.sentinels:
            known = one.info("sentinel")["master0"]
            if known["slaves"] != 1 or known["sentinels"] != len(self.sentinels):
                return False
        return linked

    @property
    def url(self) -> str:
        """The URL; the option `master_name` goes with it."""
        return ";".join(f"sentinel://127.0.0.1:{one.port}" for one in self.sentinels) + "/0"

    @property
    def options(self) -> dict[str, Any]:
        """The transport's options."""
        return {"master_name": self.name}

    def told_master(self) -> int:
        """Return the port of the server that the sentinels call the master."""
        _, port = self.sentinels[0].cli("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.name)
        return int(port)

    def wait_failover(self, within: float = 30.0) -> RedisServer:
        """Wait until the replica takes writes; return it."""

        def done() -> bool:
            if self.told_master() != self.replica.port:
                return False
            return self.replica.info("replication")["role"] == "master"

        eventually(done, within=within, saying="a failover")
        return self.replica

    def stop(self) -> None:
        """End all."""
        for one in [*self.sentinels, self.replica, self.master]:
            one.stop()


class RedisCluster:
    """Three masters that share the slots."""

    def __init__(self, folder: Path) -> None:
        self.nodes = [
            RedisServer(
                folder / f"node{number}",
                fsync="always",
                cluster_enabled="yes",
                cluster_node_timeout=2000,
            ).start()
            for number in range(3)
        ]
        first = self.nodes[0]
        for node, start in zip(self.nodes, (0, 5461, 10923), strict=True):
            end = {0: 5460, 5461: 10922, 10923: 16383}[start]
            node.cli("CLUSTER", "ADDSLOTSRANGE", start, end)
        for number, node in enumerate(self.nodes):
            node.cli("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            if node is not first:
                node.cli("CLUSTER", "MEET", "127.0.0.1", first.port)
        try:
            eventually(self._settled, within=20, saying="a cluster that is whole")
        except BaseException:
            self.stop()
            raise

    def _settled(self) -> bool:
        for node in self.nodes:
            about = node.cli("CLUSTER", "INFO")
            if not isinstance(about, dict):
                lines = (line.partition(":") for line in about.decode().split())
                about = {name: value for name, _, value in lines}
            said = about
            if said.get("cluster_state") != "ok" or said.get("cluster_known_nodes") != "3":
                return False
        return True

    @property
    def url(self) -> str:
        """The URL, which names every node."""
        return "redis+cluster://" + ";".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    def clear(self) -> None:
        """Delete everything."""
        for node in self.nodes:
            node.cli("FLUSHALL")

    def stop(self) -> None:
        """End all nodes."""
        for node in self.nodes:
            node.stop()


@contextlib.contextmanager
def family(url: str, **options: Any) -> Iterator[Any]:
    """Give a family of the driver, closed at the end."""
    from celeriac.drivers.redis import RedisFamily

    made = RedisFamily(url, options)
    try:
        yield made
    finally:
        made.close()
