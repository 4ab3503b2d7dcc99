"""Connections to a Redis server: opened where it is now, mended when they break, told in our errors.

A `Link` is one connection and belongs to one thread at a time.  A `Server` keeps idle links, and
finds the server again when it has moved: after a failover, or in a cluster.

Owns: Link, Server, LoginRefused.  Thread rule: a Server may be used from any thread, a Link from one.
May import: kernel, redis.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import redis.cluster
import redis.connection
import redis.sentinel
from redis import exceptions as redis_errors

from celeriac.drivers.redis.address import Address
from celeriac.drivers.redis.script import Script
from celeriac.kernel.errors import (
    BrokerFull,
    BrokerRejected,
    BrokerUnavailable,
    ImproperlyConfigured,
    PublishUncertain,
)

SLOT_KEY = "{celeriac}"
"""Every key has this hash tag, so one node of a cluster has them all."""
IDLE_LINKS = 16
"""Links kept for the next use."""
FRESH = 1.0
"""Seconds after which an idle link is looked at before its next use: the server may have gone."""

# Typed in some versions of the library and not in others.
_Connection: Any = redis.connection.Connection
_SSLConnection: Any = redis.connection.SSLConnection
_SocketConnection: Any = redis.connection.UnixDomainSocketConnection
_Sentinel: Any = redis.sentinel.Sentinel
_Cluster: Any = redis.cluster.RedisCluster

_MOVED = (
    redis_errors.ReadOnlyError,
    redis_errors.MasterDownError,
    redis_errors.BusyLoadingError,
    redis_errors.ClusterDownError,
    redis_errors.TryAgainError,
    redis_errors.AskError,
    redis_errors.MovedError,
)
_MOVED_WORDS = ("READONLY", "MASTERDOWN", "LOADING", "CLUSTERDOWN", "TRYAGAIN", "MOVED", "ASK ")
_BROKEN = (redis_errors.ConnectionError, redis_errors.TimeoutError, OSError)


class LoginRefused(BrokerRejected):
    """The server refuses the login, or the user this command: a matter of its settings."""


class Link:
    """One connection."""

    def __init__(self, connection: Any, server: Server) -> None:
        self.connection = connection
        self._server = server
        self.idle_since = 0.0

    def call(self, *command: Any) -> Any:
        """Send one command and return its reply.

        :raises BrokerUnavailable: the server is away, or cannot do it now.
        :raises BrokerRejected: the server refuses.
        """
        connection = self.connection
        try:
            connection.send_command(*command, check_health=False)
            return connection.read_response()
        except redis_errors.RedisError as error:
            raise self._told(error) from error
        except OSError as error:
            raise self._told(error) from error
        except BaseException:
            # An exception of another kind, thrown into this thread: the reply is still to come.
            connection.disconnect()
            raise

    def run(self, script: Script, keys: Sequence[str], args: Sequence[Any]) -> Any:
        """Run a script, which is sent to the server only where the server does not know it."""
        connection = self.connection
        modern = self._server.modern
        try:
            try:
                connection.send_command(
                    "EVALSHA", script.sha(modern), len(keys), *keys, *args, check_health=False
                )
                return connection.read_response()
            except redis_errors.NoScriptError:
                connection.send_command(
                    "EVAL", script.text(modern), len(keys), *keys, *args, check_health=False
                )
                return connection.read_response()
        except redis_errors.RedisError as error:
            raise self._told(error) from error
        except OSError as error:
            raise self._told(error) from error
        except BaseException:
            connection.disconnect()
            raise

    def _told(self, error: Exception) -> Exception:
        """Return our error for one of the library's, and let go of a connection that is no more."""
        where = self._server.address.shown
        text = str(error)
        if isinstance(error, redis_errors.AuthenticationError | redis_errors.NoPermissionError):
            self.connection.disconnect()
            return LoginRefused(f"{where} refused the login or the command: {text}")
        if text.startswith("Protocol error"):
            # After this the server hangs up.
            self.connection.disconnect()
            if "unauthenticated" in text:
                return LoginRefused(f"{where} refused the login: check user and password ({text})")
        if isinstance(error, _MOVED) or text.startswith(_MOVED_WORDS):
            self.connection.disconnect()
            self._server.lost_sight()
            return BrokerUnavailable(f"{where} cannot take writes now: {text}")
        if isinstance(error, redis_errors.OutOfMemoryError) or "OOM" in text[:60]:
            return BrokerFull(
                f"{where} has no memory left (maxmemory): take tasks out of it or give it more"
            )
        if isinstance(error, _BROKEN):
            self.connection.disconnect()
            self._server.lost_sight()
            return PublishUncertain(f"the connection to {where} broke: {text}")
        if text.startswith(("NOREPLICAS", "BUSY", "MISCONF", "NOAUTH", "WRONGPASS")):
            return BrokerUnavailable(f"{where} cannot do it now: {text}")
        return BrokerRejected(f"{where} refused: {text}")

    def close(self) -> None:
        """Close the connection."""
        self.connection.disconnect()


def _has_ended(connection: Any) -> bool:
    """Whether something can be read where nothing was asked: the end of the connection."""
    try:
        return bool(connection.can_read(0))
    except (redis_errors.RedisError, OSError):
        return True


class Server:
    """One server, wherever it is now.

    :param address: where to look for it.
    """

    def __init__(self, address: Address) -> None:
        self.address = address
        self.modern = True
        """Whether scripts may have a first line of flags (Redis 7)."""
        self._idle: list[Link] = []
        self._found: tuple[str, int] | None = None
        self._lock = threading.Lock()
        self._generation = 0

    # -- finding --------------------------------------------------------------------------------

    def lost_sight(self) -> None:
        """Look for the server anew before the next connection; the idle ones are no good either."""
        self._found = None
        self.close()

    def _find(self) -> tuple[str, int]:
        found = self._found
        if found is None:
            address = self.address
            if address.kind == "sentinel":
                found = self._ask_sentinels()
            elif address.kind == "cluster":
                found = self._ask_cluster()
            else:
                found = address.hosts[0]
            self._found = found
        return found

    def _ask_sentinels(self) -> tuple[str, int]:
        address = self.address
        settings = {
            "socket_timeout": address.connect_timeout,
            "socket_connect_timeout": address.connect_timeout,
            **address.sentinel,
        }
        sentinels = _Sentinel(list(address.hosts), sentinel_kwargs=settings)
        try:
            host, port = sentinels.discover_master(address.master_name)
        except redis.sentinel.MasterNotFoundError as error:
            raise BrokerUnavailable(
                f"no sentinel of {address.shown} knows a master called {address.master_name!r}"
            ) from error
        finally:
            for one in sentinels.sentinels:
                one.close()
        return str(host), int(port)

    def _ask_cluster(self) -> tuple[str, int]:
        address = self.address
        hosts = list(address.hosts)
        random.shuffle(hosts)
        error: Exception | None = None
        for host, port in hosts:
            try:
                cluster = _Cluster(host=host, port=port, **self._login(), **self._tls())
                try:
                    node = cluster.get_node_from_key(SLOT_KEY)
                finally:
                    cluster.close()
            except redis_errors.AuthenticationError as refused:
                raise LoginRefused(f"{address.shown} refused the login: {refused}") from refused
            except (redis_errors.RedisError, OSError) as away:
                error = away
                continue
            if node is not None:
                return str(node.host), int(node.port)
        raise BrokerUnavailable(f"no node of {address.shown} answers as a cluster: {error}")

    # -- connecting -----------------------------------------------------------------------------

    def _login(self) -> dict[str, Any]:
        address = self.address
        return {
            "username": address.username,
            "password": address.password,
            "socket_timeout": address.socket_timeout,
            "socket_connect_timeout": address.connect_timeout,
        }

    def _tls(self) -> dict[str, Any]:
        tls = self.address.tls
        return {"ssl": True, **tls} if tls is not None else {}

    def _make(self, **more: Any) -> Any:
        address = self.address
        settings = {**self._login(), "db": address.db, "protocol": 2, "retry": None, **more}
        if address.kind == "socket":
            return _SocketConnection(path=address.path, **settings)
        host, port = self._find()
        settings.update(host=host, port=port, socket_keepalive=address.keepalive)
        if address.tls is None:
            return _Connection(**settings)
        return _SSLConnection(**settings, **address.tls)

    def connect(self, **more: Any) -> Link:
        """Return a new link, connected.

        :raises BrokerUnavailable: the server is away.
        :raises BrokerRejected: it refuses the login.
        """
        try:
            link = Link(self._make(**more), self)
        except redis_errors.RedisError as error:
            raise ImproperlyConfigured(f"{self.address.shown}: {error}") from error
        try:
            link.connection.connect()
        except (redis_errors.RedisError, OSError) as error:
            link.connection.disconnect()
            self.lost_sight()
            if isinstance(error, redis_errors.AuthenticationError):
                raise LoginRefused(
                    f"{self.address.shown} refused the login: check user and password ({error})"
                ) from error
            raise BrokerUnavailable(f"cannot reach {self.address.shown}: {error}") from error
        return link

    @contextlib.contextmanager
    def link(self) -> Iterator[Link]:
        """Lend an idle link, or a new one."""
        link = self.take()
        try:
            yield link
        finally:
            self.give(link)

    def take(self) -> Link:
        """Take an idle link, or make one."""
        while True:
            try:
                link = self._idle.pop()
            except IndexError:
                return self.connect()
            if time.monotonic() - link.idle_since < FRESH or not _has_ended(link.connection):
                return link
            link.close()

    def give(self, link: Link) -> None:
        """Give a link back; one that is broken is forgotten."""
        if link.connection._sock is not None and len(self._idle) < IDLE_LINKS:
            link.idle_since = time.monotonic()
            self._idle.append(link)
        else:
            link.close()

    def call(self, *command: Any) -> Any:
        """Send one command on a link of the server's own choice; as `Link.call`."""
        link = self.take()
        try:
            return link.call(*command)
        finally:
            self.give(link)

    def run(self, script: Script, keys: Sequence[str], args: Sequence[Any]) -> Any:
        """Run a script on a link of the server's own choice; as `Link.run`."""
        link = self.take()
        try:
            return link.run(script, keys, args)
        finally:
            self.give(link)

    def after_fork(self) -> None:
        """Forget every link without closing what the parent still uses."""
        for link in self._idle:
            sock, link.connection._sock = link.connection._sock, None
            if sock is not None:
                # Only this process's copy of the descriptor goes; no TLS goodbye is sent.
                with contextlib.suppress(OSError):
                    sock.detach() if hasattr(sock, "_sslobj") else sock.close()
        self._idle = []
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close the idle links."""
        idle, self._idle = self._idle, []
        while idle:
            # Popped: another thread may just be taking one from the same list.
            with contextlib.suppress(IndexError):
                idle.pop().close()
