"""What `celeriac doctor` says of a Redis server: what it may lose, and who may read it.

Owns: servers, check_server.  May import: everything.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from celeriac.cli.doctor import Finding, fail, ok, warn
from celeriac.ports.registry import scheme_of

if TYPE_CHECKING:
    from celeriac.client.app import Celeriac

SKEW = 1.0
"""Seconds that the server's clock may differ from this machine's."""
SCHEMES = ("redis", "rediss", "sentinel", "valkey", "valkeys")


def servers(app: Celeriac) -> list[str]:
    """Return the URLs of the Redis servers that an app uses: the broker's, the store's."""
    urls = dict.fromkeys((app.broker_url, app.backend_url))
    return [url for url in urls if url is not None and scheme_of(url) in SCHEMES]


def check_server(app: Celeriac, url: str) -> Iterator[Finding]:
    """Check durability, eviction, clock, login and encryption of a server."""
    from celeriac.drivers.redis.health import examine

    family: Any = app.family(url)
    server = family.server
    health = examine(server)
    version = ".".join(map(str, health.version))
    role = "broker" if url == app.broker_url else "results"
    yield ok("redis", f"{role}: {server.address.shown} is version {version}")
    if health.appends and health.appendfsync == "always":
        yield ok("redis keeps", health.promise)
    elif health.appends:
        yield warn(
            "redis keeps", health.promise, "appendfsync always, where no task may be lost at all"
        )
    else:
        yield warn("redis keeps", health.promise, "CONFIG SET appendonly yes, and in redis.conf")
    if health.replicas:
        yield warn(
            "redis replicas",
            f"{health.replicas}; a failover may lose what they had not received yet",
            'broker_transport_options = {"replicas": 1} waits for one of them with each publish',
        )
    if health.evicts:
        yield fail(
            "redis memory",
            f"full, it deletes tasks (maxmemory-policy {health.eviction})",
            "CONFIG SET maxmemory-policy noeviction",
        )
    elif health.maxmemory == 0:
        yield ok("redis memory", "unbounded: watch it, the system ends what takes too much")
    else:
        yield ok("redis memory", f"{health.maxmemory / 2**20:,.0f} MiB, full it refuses new tasks")
    here = time.time()
    seconds, micro = server.call("TIME")
    skew = int(seconds) + int(micro) / 1e6 - here
    if abs(skew) > SKEW:
        yield warn(
            "redis clock",
            f"differs by {skew:+.1f} s from this machine's",
            "run NTP on both: eta and expires are compared with it",
        )
    address = server.address
    far = [host for host, _ in address.hosts if host not in ("127.0.0.1", "localhost", "::1")]
    if far and address.tls is None:
        yield warn("redis wire", "not encrypted", "rediss:// where others can listen")
    if address.tls is not None and address.tls.get("ssl_cert_reqs") != "required":
        yield warn("redis wire", "certificates are not checked", "ssl_cert_reqs=required")
    if far and not health.protected:
        yield warn("redis login", "no password is asked for", "requirepass, or a user of its own")
