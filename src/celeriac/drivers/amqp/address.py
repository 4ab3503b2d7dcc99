"""Where RabbitMQ is, and how to log in: what a URL and the transport's options say.

Owns: Address, parse.  May import: kernel.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from celeriac.kernel.errors import ImproperlyConfigured
from celeriac.kernel.redact import redact_url

PORT, TLS_PORT = 5672, 5671
HEARTBEAT = 30
"""Seconds: a server that is silent for longer counts as away.  Never 0: a cut cable would not show."""
CONNECT_TIMEOUT = 4.0
"""Seconds; Celery's `broker_connection_timeout`."""

_CHECKS = {
    "cert_none": ssl.CERT_NONE,
    "none": ssl.CERT_NONE,
    "cert_optional": ssl.CERT_OPTIONAL,
    "optional": ssl.CERT_OPTIONAL,
    "cert_required": ssl.CERT_REQUIRED,
    "required": ssl.CERT_REQUIRED,
}
_TLS = {
    # Celery's name, and the one of Redis' URLs, for the same thing.
    "ca_certs": "ca_certs",
    "ssl_ca_certs": "ca_certs",
    "certfile": "certfile",
    "ssl_certfile": "certfile",
    "keyfile": "keyfile",
    "ssl_keyfile": "keyfile",
    "cert_reqs": "cert_reqs",
    "ssl_cert_reqs": "cert_reqs",
    "server_hostname": "server_hostname",
    "ssl_check_hostname": "check_hostname",
    "check_hostname": "check_hostname",
}


@dataclass(frozen=True, slots=True)
class Address:
    """One server and one login."""

    host: str
    port: int
    vhost: str = "/"
    username: str = "guest"
    password: str = field(default="guest", repr=False)
    tls: Mapping[str, Any] | None = field(default=None, repr=False)
    heartbeat: int = HEARTBEAT
    connect_timeout: float = CONNECT_TIMEOUT

    @property
    def shown(self) -> str:
        """The address for people, without the password."""
        scheme = "amqps" if self.tls is not None else "amqp"
        return f"{scheme}://{self.username}@{self.host}:{self.port}/{self.vhost}"

    def context(self) -> ssl.SSLContext | None:
        """Return the TLS context; None without TLS.

        :raises ImproperlyConfigured: a file of it cannot be read.
        """
        if self.tls is None:
            return None
        options = self.tls
        try:
            context = ssl.create_default_context(cafile=options.get("ca_certs"))
            if options.get("certfile"):
                context.load_cert_chain(options["certfile"], options.get("keyfile"))
        except (OSError, ssl.SSLError) as error:
            raise ImproperlyConfigured(
                f"{self.shown}: the files of broker_use_ssl cannot be read: {error}"
            ) from error
        checks = options.get("cert_reqs", ssl.CERT_REQUIRED)
        if not options.get("check_hostname", True) or checks is not ssl.CERT_REQUIRED:
            context.check_hostname = False
        context.verify_mode = checks
        return context


def parse(url: str, options: Mapping[str, Any]) -> tuple[Address, ...]:
    """Return the addresses that a URL and options name, in the order in which to try them.

    :param url: `amqp://user:password@host:port/vhost?heartbeat=30`, `amqps://` with TLS, or several
        separated by `;`.  What a later one leaves out (login, vhost) is as in the first.
    :param options: `heartbeat`, `socket_connect_timeout`, `ssl` and its files.
    :raises ImproperlyConfigured: the URL or an option cannot be understood; the message says which.
    """
    found: list[Address] = []
    for part in (one.strip() for one in url.split(";")):
        if part:
            try:
                found.append(_parse(part, options, found[0] if found else None))
            except ValueError as error:
                raise ImproperlyConfigured(f"{redact_url(part)}: {error}") from error
    if not found:
        raise ImproperlyConfigured("the broker's URL is empty")
    return tuple(found)


def _parse(url: str, options: Mapping[str, Any], first: Address | None) -> Address:
    if "://" not in url:
        url = f"amqp://{url}"
    parts = urlsplit(url)
    known = {**options, **dict(parse_qsl(parts.query))}
    secure = parts.scheme == "amqps" or str(known.get("ssl", "")).lower() in ("true", "1")
    vhost = unquote(parts.path[1:])
    login = (unquote(parts.username or ""), unquote(parts.password or ""))
    if not parts.username:
        login = (first.username, first.password) if first else ("guest", "guest")
    return Address(
        host=parts.hostname or "127.0.0.1",
        port=parts.port or (TLS_PORT if secure else PORT),
        vhost=vhost or (first.vhost if first else "/"),
        username=login[0],
        password=login[1],
        tls=_tls(known) if secure else None,
        heartbeat=_heartbeat(known.get("heartbeat")),
        connect_timeout=_seconds(known.get("socket_connect_timeout")),
    )


def _heartbeat(value: Any) -> int:
    if value in (None, ""):
        return HEARTBEAT
    seconds = int(float(value))
    return seconds if seconds > 0 else HEARTBEAT


def _seconds(value: Any) -> float:
    if value is None:
        return CONNECT_TIMEOUT
    seconds = float(value)
    if not 0 < seconds < 1e6:
        raise ValueError(f"socket_connect_timeout is a number of seconds above 0, not {value!r}")
    return seconds


def _tls(known: Mapping[str, Any]) -> dict[str, Any]:
    found = {own: known[name] for name, own in _TLS.items() if known.get(name) is not None}
    checks = found.get("cert_reqs", ssl.CERT_REQUIRED)
    if isinstance(checks, str):
        name = checks.lower()
        if name not in _CHECKS:
            raise ValueError(f"cert_reqs is none, optional or required, not {checks!r}")
        checks = _CHECKS[name]
    found["cert_reqs"] = ssl.VerifyMode(checks)
    if str(found.get("check_hostname", "")).lower() in ("false", "0"):
        found["check_hostname"] = False
    return found
