"""A RabbitMQ of the tests' own: private ports, node name, data and cookie; gone when they end.

Owns: RabbitMQ, start, need_rabbitmq.
May import: pytest, tests.support.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.certificates import Certificates
from tests.support.ports import free_port

START = 90.0
"""Seconds that a server may take to start on a busy machine."""


def need_rabbitmq() -> None:
    """Skip the test where there is no RabbitMQ; in CI that is a failure."""
    if shutil.which("rabbitmq-server") is None:
        reason = "rabbitmq-server is not installed (tools/servers.sh)"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


class RabbitMQ:
    """One server.

    :param folder: for its data, logs and home; a short path.
    :param config: more lines of rabbitmq.conf.
    :param beside: a server with which it is to make a cluster, by `join`.
    :param tls: listen on `tls_port` as well, for clients with a certificate of the same authority.
    """

    def __init__(
        self,
        folder: Path,
        config: str = "",
        beside: RabbitMQ | None = None,
        tls: Certificates | None = None,
    ) -> None:
        self.folder = folder
        self.tls, self.tls_port = tls, free_port()
        if tls is not None:
            config += (
                f"\nlisteners.ssl.1 = 127.0.0.1:{self.tls_port}\n"
                f"ssl_options.cacertfile = {tls.authority}\n"
                f"ssl_options.certfile = {tls.certificate}\nssl_options.keyfile = {tls.key}\n"
                "ssl_options.verify = verify_peer\nssl_options.fail_if_no_peer_cert = true\n"
            )
        self.port, self.dist_port = free_port(), free_port()
        self.epmd_port = beside.epmd_port if beside is not None else free_port()
        self._has_epmd = beside is None
        self.node = f"t{os.getpid()}-{self.port}@localhost"
        folder.mkdir(parents=True, exist_ok=True)
        cookie = folder / ".erlang.cookie"
        cookie.write_text("celeriactests")
        cookie.chmod(0o400)
        conf = folder / "rabbitmq.conf"
        conf.write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self.port}\nloopback_users = none\n"
            f"log.console = true\nlog.file = false\n{config}\n"
        )
        (folder / "enabled_plugins").write_text("[].\n")
        self.environment = {
            "PATH": os.environ["PATH"] + ":/usr/lib/rabbitmq/bin:/usr/sbin",
            "HOME": str(folder),
            "LANG": "C.UTF-8",
            "RABBITMQ_HOME": "/usr/lib/rabbitmq/lib",
            "RABBITMQ_NODENAME": self.node,
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self.dist_port),
            "RABBITMQ_CONF_ENV_FILE": str(folder / "none"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq"),
            "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(folder / "generated"),
            "ERL_EPMD_PORT": str(self.epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_CRASH_DUMP": "/dev/null",
            # Two schedulers, not one for each core, and none that spins while it is idle.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 2:2 +sbwt none +sbwtdcpu none",
        }
        self._base = next(Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*"), None)
        del self.environment["RABBITMQ_HOME"]
        self._process: subprocess.Popen[bytes] | None = None
        self._epmd: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The URL of its default vhost."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    def program(self, name: str) -> str:
        """Return the path of one of its programs."""
        # Debian's wrappers in /usr/sbin change the user; what they call does not.
        if self._base is not None:
            return str(self._base / "sbin" / name)
        return name

    def start(self) -> None:
        """Start it and wait until it answers.

        :raises RuntimeError: it ended, or did not answer in time; the message has its log.
        """
        if self._epmd is None and self._has_epmd:
            self._epmd = subprocess.Popen(
                ["epmd", "-port", str(self.epmd_port)],
                env=self.environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        log = (self.folder / "server.log").open("ab")
        self._process = subprocess.Popen(
            [self.program("rabbitmq-server")],
            env=self.environment,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        log.close()
        ends = time.monotonic() + START
        while time.monotonic() < ends:
            if self._process.poll() is not None:
                break
            if self._answers():
                return
            time.sleep(0.1)
        raise RuntimeError(f"rabbitmq-server did not start:\n{self.log()[-3000:]}")

    def _answers(self) -> bool:
        """Return whether the server speaks AMQP already: it listens a little before that."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as tried:
                tried.settimeout(2)
                tried.sendall(b"AMQP\x00\x00\x09\x01")
                return tried.recv(1) == b"\x01"
        except OSError:
            return False

    def log(self) -> str:
        """Return what it has written."""
        return (self.folder / "server.log").read_text(errors="replace")

    def kill(self) -> None:
        """End it at once, as a fault would."""
        process, self._process = self._process, None
        if process is not None and process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        if process is not None:
            process.wait(30)

    def restart(self) -> None:
        """Kill it and start it again with the same data."""
        self.kill()
        self.start()

    def stop(self) -> None:
        """End it and what belongs to it."""
        self.kill()
        if self._epmd is not None:
            self._epmd.kill()
            self._epmd.wait(10)
            self._epmd = None

    def ctl(self, *arguments: str) -> str:
        """Run `rabbitmqctl`; return what it says.

        :raises RuntimeError: it failed.
        """
        done = subprocess.run(
            [self.program("rabbitmqctl"), "--quiet", *arguments],
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"rabbitmqctl {arguments[0]}: {done.stdout}{done.stderr}")
        return done.stdout

    def join(self, other: RabbitMQ) -> None:
        """Make one cluster of this, which loses its data, and another."""
        self.ctl("stop_app")
        self.ctl("reset")
        self.ctl("join_cluster", other.node)
        self.ctl("start_app")

    def vhost(self, name: str) -> str:
        """Make a vhost that the user guest may use; return its URL."""
        self.ctl("add_vhost", name)
        self.ctl("set_permissions", "-p", name, "guest", ".*", ".*", ".*")
        return f"amqp://guest:guest@127.0.0.1:{self.port}/{name}"

    def alarm(self, on: bool) -> None:
        """Raise or end a memory alarm: publishing connections are blocked meanwhile."""
        self.ctl("set_vm_memory_high_watermark", "0.00000001" if on else "0.4")


def start(
    folder: Path,
    config: str = "",
    beside: RabbitMQ | None = None,
    tls: Certificates | None = None,
) -> RabbitMQ:
    """Return a running server; the arguments are those of `RabbitMQ`."""
    server = RabbitMQ(folder, config, beside, tls)
    try:
        server.start()
    except BaseException:
        server.stop()
        raise
    return server


if __name__ == "__main__":
    found = start(Path(sys.argv[1]))
    print(found.url, flush=True)
    try:
        signal.pause()
    finally:
        found.stop()
