"""Where a Redis server is, and how to log in: what a URL and the transport's options say.

Owns: Address, parse.  May import: kernel.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

from celeriac.kernel.errors import ImproperlyConfigured
from celeriac.kernel.redact import redact_url

PORT, SENTINEL_PORT = 6379, 26379
SOCKET_TIMEOUT = 5.0
"""Seconds that one command may take: a server that is silent for longer counts as away."""
CONNECT_TIMEOUT = 4.0
"""Seconds; Celery's `broker_connection_timeout`."""

_FLAGS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_CERTIFICATES = {
    "cert_none": "none",
    "none": "none",
    "cert_optional": "optional",
    "optional": "optional",
    "cert_required": "required",
    "required": "required",
}
_TLS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_keyfile_password", "ssl_ca_path")


@dataclass(frozen=True, slots=True)
class Address:
    """A server, or those who know where it is."""

    kind: Literal["server", "socket", "sentinel", "cluster"]
    hosts: tuple[tuple[str, int], ...] = ()
    path: str = ""
    """Of a Unix socket."""
    db: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: Mapping[str, Any] | None = field(default=None, repr=False)
    """Keyword arguments of redis-py's SSL connections; None: no TLS."""
    master_name: str = ""
    sentinel: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Keyword arguments for connections to the sentinels."""
    socket_timeout: float = SOCKET_TIMEOUT
    connect_timeout: float = CONNECT_TIMEOUT
    keepalive: bool = True
    shown: str = ""
    """The URL without its password."""

    @property
    def name(self) -> str:
        """What tells one database from another: the same for two URLs of one server."""
        where = self.path or ",".join(f"{host}:{port}" for host, port in sorted(self.hosts))
        return f"redis:{where}{'/' + self.master_name if self.master_name else ''}/{self.db}"


def parse(url: str, options: Mapping[str, Any]) -> Address:
    """Return the address that a URL and options name.

    Known forms: `redis://user:password@host:port/db`, `rediss://` and `valkeys://` (TLS),
    `redis+socket:///path?virtual_host=db`, `sentinel://host:port;sentinel://host:port/db` with the
    option `master_name`, `redis+cluster://host:port;host:port`.

    :raises ImproperlyConfigured: the URL or an option cannot be understood; the message says which.
    """
    shown = redact_url(url)
    try:
        return _parse(url, options, shown)
    except ValueError as error:
        raise ImproperlyConfigured(f"{shown}: {error}") from error


def _parse(url: str, options: Mapping[str, Any], shown: str) -> Address:
    scheme, _, rest = url.partition("://")
    scheme = scheme.lower()
    first, *others = rest.split(";")
    parts = urlsplit(f"x://{first}")
    query = dict(parse_qsl(parts.query))
    hosts = [] if scheme.endswith("+socket") else [_host(parts.netloc, scheme)]
    tail = parts.path
    for other in others:
        if not other:
            continue
        more = urlsplit(other if "://" in other else f"x://{other}")
        hosts.append(_host(more.netloc, scheme))
        tail = more.path if more.path not in ("", "/") else tail
        query.update(parse_qsl(more.query))
    known = {**options, **query}
    secure = scheme.split("+")[0] in ("rediss", "valkeys") or known.get("ssl") in (True, "true")
    # A publish to a server that says nothing ends in time, with a second attempt.
    half = max(0.5, float(known.get("publish_timeout") or 2 * SOCKET_TIMEOUT) / 2)
    common: dict[str, Any] = {
        "username": unquote(parts.username) if parts.username else known.get("username"),
        "password": unquote(parts.password) if parts.password else known.get("password"),
        "tls": _tls(known) if secure else None,
        "socket_timeout": _number(known, "socket_timeout", min(SOCKET_TIMEOUT, half)),
        "connect_timeout": _number(known, "socket_connect_timeout", min(CONNECT_TIMEOUT, half)),
        "keepalive": _flag(known, "socket_keepalive", True),
        "shown": shown,
    }
    if scheme.endswith("+socket"):
        if parts.netloc:
            raise ValueError("the path of the socket comes after three slashes: redis+socket:///p")
        return Address(
            "socket", path=unquote(tail), db=_db(str(known.get("virtual_host", "0"))), **common
        )
    if scheme == "sentinel":
        name = known.get("master_name")
        if not name:
            raise ValueError(
                "the name of the master is missing:"
                ' broker_transport_options = {"master_name": "mymaster"}'
            )
        return Address(
            "sentinel",
            tuple(hosts),
            db=_db(tail),
            master_name=str(name),
            sentinel=dict(options.get("sentinel_kwargs") or {}),
            **common,
        )
    if scheme.endswith("+cluster"):
        if _db(tail):
            raise ValueError("a Redis Cluster has database 0 only")
        return Address("cluster", tuple(hosts), **common)
    if len(hosts) > 1:
        raise ValueError("several hosts are for sentinel:// and redis+cluster:// URLs")
    return Address("server", tuple(hosts), db=_db(tail), **common)


def _host(netloc: str, scheme: str) -> tuple[str, int]:
    parts = urlsplit(f"x://{netloc}")
    port = parts.port  # raises ValueError where it is no port
    default = SENTINEL_PORT if scheme == "sentinel" else PORT
    return parts.hostname or "127.0.0.1", default if port is None else port


def _db(path: str) -> int:
    text = path.strip("/")
    if not text:
        return 0
    if not text.isdigit():
        raise ValueError(f"the database is a number, not {text!r}")
    return int(text)


def _number(known: Mapping[str, Any], name: str, default: float) -> float:
    value = known.get(name)
    if value is None:
        return default
    number = float(value)
    if not 0 < number < 1e6:
        raise ValueError(f"{name} is a number of seconds above 0, not {value!r}")
    return number


def _flag(known: Mapping[str, Any], name: str, default: bool) -> bool:
    value = known.get(name, default)
    return _FLAGS.get(str(value).lower(), bool(value))


def _tls(known: Mapping[str, Any]) -> dict[str, Any]:
    wanted = known.get("ssl_cert_reqs", "required")
    # Celery takes the constants of the ssl module too, as values or as their names.
    wanted = {0: "none", 1: "optional", 2: "required"}.get(wanted, wanted)
    checks = _CERTIFICATES.get(str(wanted).lower())
    if checks is None:
        raise ValueError(f"ssl_cert_reqs is none, optional or required, not {wanted!r}")
    found = {name: known[name] for name in _TLS if known.get(name)}
    check_name = _flag(known, "ssl_check_hostname", checks == "required")
    return {"ssl_cert_reqs": checks, "ssl_check_hostname": check_name, **found}
