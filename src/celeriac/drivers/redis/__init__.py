"""The Redis driver: broker, results and bus on one server, for many machines.

Owns: RedisFamily.  May import: kernel, ports, drivers.redis.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from celeriac.kernel.errors import ImproperlyConfigured

try:
    import redis
except ImportError as error:
    raise ImproperlyConfigured(
        "the Redis driver needs the extra `redis`: pip install 'celeriac[redis]'"
    ) from error

from celeriac.drivers.redis.address import parse
from celeriac.drivers.redis.broker import RedisBroker
from celeriac.drivers.redis.bus import RedisBus
from celeriac.drivers.redis.celery_bus import CeleryEcho
from celeriac.drivers.redis.celery_mailbox import CeleryMailbox
from celeriac.drivers.redis.connection import Server
from celeriac.drivers.redis.keys import Keys
from celeriac.drivers.redis.kombu import Layout
from celeriac.drivers.redis.orders import RedisOrders
from celeriac.drivers.redis.results import RedisResults
from celeriac.drivers.redis.schedules import RedisSchedules

del redis


class RedisFamily:
    """Every role of one database.

    :param url: see `address.parse`.
    :param options: Celery's `broker_transport_options` that mean something here
        (`global_keyprefix`, `priority_steps`, `sep`, `unacked_key`, `unacked_index_key`, `master_name`, `sentinel_kwargs`, `socket_timeout`,
        `socket_connect_timeout`, `socket_keepalive`), and `replicas` (how many must have confirmed
        a publish, default 0), `celery_bus` (speak to Celery's monitors, default True) and `allow_eviction` (default False).
    :raises ImproperlyConfigured: the URL or an option is wrong.
    """

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        address = parse(url, options)
        replicas = options.get("replicas", 0)
        if not isinstance(replicas, int) or replicas < 0:
            raise ImproperlyConfigured(f"replicas is a number of servers, not {replicas!r}")
        self.server = Server(address)
        before = str(options.get("global_keyprefix") or "")
        cluster = address.kind == "cluster"
        keys = Keys(before, address.name, cluster=cluster, celery=Layout.of(options))
        evicts = bool(options.get("allow_eviction"))
        self._broker = RedisBroker(self.server, keys, replicas=replicas, evicts=evicts)
        self._results = RedisResults(self.server, keys, self._broker.caps)
        self._orders = RedisOrders(self.server, keys)
        self._before = before
        echo = CeleryEcho(self.server, before) if options.get("celery_bus", True) else None
        self._bus = RedisBus(self.server, keys, echo=echo)
        self._schedules = RedisSchedules(self.server, keys, self._broker)

    def broker(self) -> RedisBroker:
        """Return the broker."""
        return self._broker

    def results(self) -> RedisResults:
        """Return the result store."""
        return self._results

    def bus(self) -> RedisBus:
        """Return the bus."""
        return self._bus

    def orders(self) -> RedisOrders:
        """Return the standing orders."""
        return self._orders

    def celery_mailbox(self) -> CeleryMailbox:
        """Return a new ear for the commands of Celery's own clients."""
        return CeleryMailbox(self.server, self._before)

    def schedules(self) -> RedisSchedules:
        """Return the store of schedules."""
        return self._schedules

    def after_fork(self) -> None:
        """Forget every connection without closing it."""
        self.server.after_fork()

    def close(self) -> None:
        """Close idle connections."""
        self.server.close()
